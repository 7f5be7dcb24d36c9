//! Running one connection, from a connected socket to the [`Reason`] of its end, and the handle by which its
//! owner looks at it and steers it.

use std::any::Any;
use std::fmt;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Instant;

use capnp::capability::{Client, FromClientHook};
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{Disconnector, RpcSystem};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::sleep;

use crate::budget::Budget;
use crate::limits::Limits;
use crate::link::Link;
use crate::network::Network;
use crate::reason::Reason;
use crate::writer;

/// A view of one connection for its owner. Clones stand for the same connection; dropping them all does not close it.
#[derive(Clone)]
pub struct ConnectionHandle {
    link: Rc<Link>,
}

impl ConnectionHandle {
    /// The peer has authenticated: from now on frames may be as large as [`Limits::frame_bytes`], they are charged to
    /// `budget`, and the time for the hello has not run out.
    pub fn admit(&self, budget: Budget) {
        self.link.admit(budget);
    }

    /// Ends the connection. Answers that are already queued are still offered to the peer for a second; calls that are
    /// being carried out are dropped, and own calls without an answer fail as disconnected.
    pub fn close(&self) {
        self.link.end(Reason::Closed);
    }

    /// Waits until the connection can no longer be used, and says why.
    pub async fn closed(&self) -> Reason {
        self.link.closed().await
    }

    /// Why the connection ended, or `None` while it can be used.
    pub fn reason(&self) -> Option<Reason> {
        self.link.reason().cloned()
    }

    /// Calls of the peer that are being carried out.
    pub fn calls_in_flight(&self) -> usize {
        self.link.running_calls()
    }

    /// Calls of this side that have not been answered.
    pub fn own_calls_in_flight(&self) -> usize {
        self.link.own_calls()
    }

    /// Bytes received since the start.
    pub fn bytes_received(&self) -> u64 {
        self.link.traffic.received_bytes.get()
    }

    /// Bytes that the operating system has taken over for sending since the start.
    pub fn bytes_sent(&self) -> u64 {
        self.link.traffic.sent_bytes.get()
    }

    /// Bytes that wait to be sent.
    pub fn bytes_queued(&self) -> usize {
        self.link.outgoing.borrow().queued_bytes()
    }

    /// Waits until no more than [`Limits::outgoing_pause_bytes`] wait to be sent, or the connection has ended. A handler
    /// that is about to build a large answer should wait for it, or many such answers at once exceed
    /// [`Limits::outgoing_bytes`] and end the connection although its peer reads.
    pub async fn outgoing_room(&self) {
        self.link.outgoing_room().await;
    }

    /// When the last byte arrived from the peer, or when the connection began.
    pub fn last_heard(&self) -> Instant {
        self.link.traffic.last_received.get().into_std()
    }
}

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ConnectionHandle").field("reason", &self.link.reason()).finish_non_exhaustive()
    }
}

/// Serves `bootstrap`, the object that the peer gets first, on an accepted socket that was set up with [`crate::tune`]. The
/// work is done by a task spawned with [`spawn_local`], until the connection ends.
///
/// Until [`ConnectionHandle::admit`], frames are small ([`Limits::frame_bytes_before_hello`]), charged to `budget`, and
/// the time until then is limited ([`Limits::hello_timeout`]).
///
/// A panic in a handler ends this connection with [`Reason::Panicked`] and nothing else.
pub fn serve(stream: TcpStream, limits: Limits, budget: Budget, bootstrap: Client) -> ConnectionHandle {
    let (reader, writer) = stream.into_split();
    serve_over(reader, writer, limits, budget, bootstrap)
}

/// The same as [`serve`] over any pair of byte streams.
pub fn serve_over<R, W>(reader: R, writer: W, limits: Limits, budget: Budget, bootstrap: Client) -> ConnectionHandle
where
    R: AsyncRead + Unpin + 'static,
    W: AsyncWrite + Unpin + 'static,
{
    let handle = ConnectionHandle { link: Link::new(limits, budget) };
    let network = Network::new(Side::Server, reader, Rc::clone(&handle.link));
    let rpc = RpcSystem::new(Box::new(network), Some(bootstrap));
    spawn_local(run(rpc, writer, Rc::clone(&handle.link)));
    handle
}

/// The bootstrap object of the peer, over a socket that this side opened and set up with [`crate::tune`]. The work is
/// done by a task spawned with [`spawn_local`], until [`ConnectionHandle::close`] or the other end.
///
/// Received messages, which are answers in the main, are charged to `budget`.
pub fn connect<C: FromClientHook>(stream: TcpStream, limits: Limits, budget: Budget) -> (C, ConnectionHandle) {
    let (reader, writer) = stream.into_split();
    connect_over(reader, writer, limits, budget)
}

/// The same as [`connect`] over any pair of byte streams.
pub fn connect_over<C, R, W>(reader: R, writer: W, limits: Limits, budget: Budget) -> (C, ConnectionHandle)
where
    C: FromClientHook,
    R: AsyncRead + Unpin + 'static,
    W: AsyncWrite + Unpin + 'static,
{
    let handle = ConnectionHandle { link: Link::new(limits, budget) };
    let network = Network::new(Side::Client, reader, Rc::clone(&handle.link));
    let mut rpc = RpcSystem::new(Box::new(network), None);
    let client = rpc.bootstrap(Side::Server);
    spawn_local(run(rpc, writer, Rc::clone(&handle.link)));
    (client, handle)
}

/// Runs both halves until the connection has ended and what could be sent was sent.
async fn run<W: AsyncWrite + Unpin + 'static>(rpc: RpcSystem<Side>, writer: W, link: Rc<Link>) {
    // The writer is a task of its own, since its turn comes when the RPC layer has nothing more to do.
    let _writer = AbortOnDrop(spawn_local(writer::run(writer, Rc::clone(&link))).abort_handle());
    let disconnector = rpc.get_disconnector();
    let mut rpc = Box::pin(rpc);
    let outcome = tokio::select! {
        outcome = AssertUnwindSafe(&mut rpc).catch_unwind() => outcome,
        () = expect_hello(&link) => unreachable!("it waits for ever after the hello"),
    };
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => link.end(Reason::Protocol { detail: error.to_string() }),
        Err(panic) => {
            link.end(Reason::Panicked { detail: panic_text(panic.as_ref()) });
            disconnect_after_panic(disconnector);
        }
    }
    // What the RPC layer held was interrupted in the middle; it may not even be fit to be dropped.
    if catch_unwind(AssertUnwindSafe(|| drop(rpc))).is_err() {
        link.end(Reason::Panicked { detail: "while dropping the connection".to_owned() });
    }
    link.end(Reason::PeerClosed);
    link.shut_down();
    link.written_out().await;
}

/// Ends the connection when the peer is not admitted in time. Never returns.
async fn expect_hello(link: &Link) {
    if let Some(limit) = link.limits.hello_timeout {
        sleep(limit).await;
        if !link.is_admitted() {
            link.end(Reason::HelloTimeout { limit });
        }
    }
    pending().await
}

/// Calls that wait for an answer hold themselves alive, and would wait for ever if nobody told them.
fn disconnect_after_panic(disconnector: Disconnector<Side>) {
    let _ = catch_unwind(AssertUnwindSafe(|| disconnector.now_or_never()));
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

/// Dropping a connection must take its writer along.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
