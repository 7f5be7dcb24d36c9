//! Cap'n Proto RPC over one connected byte stream, with the limits that an open port needs: the two-party transport of
//! every incoming and outgoing connection of a node, and of every connection of a client.
//!
//! It implements the public traits of `capnp-rpc` ([`capnp_rpc::VatNetwork`] and friends), because the network that
//! comes with that crate trusts its peer: there, eight bytes make it reserve 64 MiB, replies to a peer that does not
//! read pile up without bound, and calls run without limit. Here every byte and every call is counted
//! (see [`Limits`] and [`Budget`]), the reason why a connection ended is a value ([`Reason`]), and messages that are
//! sent close together leave in one system call.
//!
//! It is not a pool, does not reconnect, does not retry and knows nothing about Quorate's own schema: it carries any
//! Cap'n Proto interface. It does not authenticate either, but lets the bootstrap object say when it has
//! ([`ConnectionHandle::admit`]), and is strict until then.
//!
//! # Calls go one way
//!
//! At the limit of calls in flight a connection stops reading until a call has been answered. Whatever the peer sent
//! behind the call that has to wait is not seen meanwhile. That is free of deadlock as long as no answer needs
//! something from that very connection, so use each connection for calls in one direction: clients call and never
//! serve, and two nodes that call each other do so over two connections. To be safe with other uses, a connection that
//! has own calls outstanding does not stop at the limit, since their answers could stand behind the waiting call; only
//! [`Limits::answers_unfinished`] bounds it then.
//!
//! # Where it runs
//!
//! `capnp-rpc` is single-threaded: call [`serve`] and [`connect`] inside a [`tokio::task::LocalSet`] or a
//! [`tokio::runtime::LocalRuntime`]. A connection never changes its thread. A [`Budget`] may be shared between threads.

mod budget;
mod calls;
mod connection;
mod frame;
mod limits;
mod link;
mod network;
mod outgoing;
mod pool;
mod reader;
mod reason;
mod socket;
mod writer;

pub use budget::Budget;
pub use connection::{ConnectionHandle, connect, connect_over, serve, serve_over};
pub use limits::Limits;
pub use reason::Reason;
pub use socket::{listen_reuseport, tune};
