//! Cap'n Proto RPC over TCP with the limits that a server on an open port needs, and with a writer that sends together what was
//! written together. Servers, clients and peers use it alike.
//!
//! The stock two-party network of `capnp-rpc` trusts the other side: eight bytes make it reserve 64 MiB, its outgoing queue has no
//! end, it takes any number of calls, and it flushes after every message. This crate implements the same public traits with a
//! bound for everything the other side decides ([`Limits`], [`Budget`]). It knows neither the schema nor the protocol; TLS is not here yet.

mod budget;
mod connection;
mod frame;
mod limits;
mod network;
mod reason;
mod tcp;

pub use budget::Budget;
pub use connection::ConnectionHandle;
pub use limits::Limits;
pub use network::{connect, serve};
pub use reason::Reason;
pub use tcp::{listen_reuseport, tune};
