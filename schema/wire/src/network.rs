//! The two halves of a connection as `capnp-rpc` wants them, and how to serve and to connect with them.

use std::{any::Any, cell::RefCell, io, panic::AssertUnwindSafe, rc::Rc, time::Instant};

use capnp::{
    capability::{Client, FromClientHook, Promise},
    message::{Builder, HeapAllocator, Reader},
};
use capnp_rpc::{RpcSystem, rpc_capnp::message, rpc_twoparty_capnp::Side};
use futures_util::FutureExt;
use tokio::{
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use crate::{
    Budget, ConnectionHandle, Limits, Reason,
    budget::Permit,
    connection::Shared,
    frame::{Body, Header, Segments},
    limits::FREE_BYTES,
};

/// Bytes read from a socket at once, into memory that all connections of a thread share: an idle connection holds no buffer.
const READ_BYTES: usize = 64 << 10;

/// Buffers above this are given back when they are empty.
const KEEP_BYTES: usize = 64 << 10;

/// Words of the first segment of a message, if nobody hints otherwise: a small reply fits, and zeroing it costs nothing.
const FIRST_SEGMENT_WORDS: u32 = 128;

/// The most words of a first segment that a hint may ask for.
const FIRST_SEGMENT_WORDS_MAX: u32 = 1 << 17;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Serves `bootstrap` on an accepted socket, as a local task, until the connection ends. A panic in a handler ends this connection only.
pub fn serve(stream: TcpStream, limits: Limits, budget: Budget, bootstrap: Client) -> ConnectionHandle {
    let hello_timeout = limits.hello_timeout;
    let (network, connection) = Network::new(stream, Side::Server, limits, budget);
    let system = RpcSystem::new(Box::new(network), Some(bootstrap));
    tokio::task::spawn_local(run(system, connection.clone()));
    if let Some(hello_timeout) = hello_timeout {
        let shared = Rc::clone(&connection.shared);
        tokio::task::spawn_local(async move {
            if timeout(hello_timeout, shared.ended()).await.is_err() && !shared.is_admitted() {
                shared.end(Reason::HelloTimeout);
            }
        });
    }
    connection
}

/// The other side's bootstrap capability over a socket that this side opened. The connection runs as a local task until it ends.
pub fn connect<C: FromClientHook>(stream: TcpStream, limits: Limits, budget: Budget) -> (C, ConnectionHandle) {
    let (network, connection) = Network::new(stream, Side::Client, limits, budget);
    let mut system = RpcSystem::new(Box::new(network), None);
    let client = system.bootstrap(Side::Server);
    tokio::task::spawn_local(run(system, connection.clone()));
    (client, connection)
}

/// Runs the RPC system until the connection has ended. Its own result says less than the connection's reason.
async fn run(system: RpcSystem<Side>, connection: ConnectionHandle) {
    let ended = AssertUnwindSafe(system).catch_unwind().await;
    connection.shared.end(match ended {
        Ok(_) => Reason::PeerClosed,
        Err(panic) => Reason::Panicked { detail: message_of(&*panic) },
    });
}

/// What a panic said, as far as it was text.
fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// The network of one connection.
struct Network {
    side: Side,
    shared: Rc<Shared>,
    /// Taken by the RPC system: at once by the side that accepts, with `bootstrap` by the side that connects.
    reader: Option<Incoming>,
    writer: Option<OwnedWriteHalf>,
}

impl Network {
    fn new(stream: TcpStream, side: Side, limits: Limits, budget: Budget) -> (Self, ConnectionHandle) {
        let connection = ConnectionHandle::new(limits, budget);
        let shared = Rc::clone(&connection.shared);
        let (read, write) = stream.into_split();
        let reader = Incoming { half: read, pending: Vec::new(), at: 0, shared: Rc::clone(&shared) };
        (Self { side, shared, reader: Some(reader), writer: Some(write) }, connection)
    }

    fn take_connection(&mut self) -> Option<Box<dyn capnp_rpc::Connection<Side>>> {
        let reader = self.reader.take()?;
        let shared = Rc::clone(&self.shared);
        Some(Box::new(Halves { side: self.side, shared, reader: Rc::new(RefCell::new(Some(reader))) }))
    }
}

impl capnp_rpc::VatNetwork<Side> for Network {
    fn connect(&mut self, host: Side) -> Option<Box<dyn capnp_rpc::Connection<Side>>> {
        if host == self.side { None } else { self.take_connection() }
    }

    fn accept(&mut self) -> Promise<Box<dyn capnp_rpc::Connection<Side>>, capnp::Error> {
        let taken = if self.side == Side::Server { self.take_connection() } else { None };
        match taken {
            Some(connection) => Promise::ok(connection),
            None => Promise::from_future(std::future::pending()),
        }
    }

    fn drive_until_shutdown(&mut self) -> Promise<(), capnp::Error> {
        let shared = Rc::clone(&self.shared);
        match self.writer.take() {
            Some(half) => Promise::from_future(write(half, shared).map(Ok)),
            None => Promise::ok(()),
        }
    }
}

/// What the RPC system holds of the connection.
struct Halves {
    side: Side,
    shared: Rc<Shared>,
    reader: Rc<RefCell<Option<Incoming>>>,
}

impl capnp_rpc::Connection<Side> for Halves {
    fn get_peer_vat_id(&self) -> Side {
        self.side
    }

    fn new_outgoing_message(&mut self, first_segment_words: u32) -> Box<dyn capnp_rpc::OutgoingMessage> {
        let words = if first_segment_words == 0 { FIRST_SEGMENT_WORDS } else { first_segment_words };
        let allocator = HeapAllocator::new().first_segment_words(words.min(FIRST_SEGMENT_WORDS_MAX));
        Box::new(Outgoing { message: Builder::new(allocator), shared: Rc::clone(&self.shared) })
    }

    fn receive_incoming_message(&mut self) -> Promise<Option<Box<dyn capnp_rpc::IncomingMessage>>, capnp::Error> {
        let place = Rc::clone(&self.reader);
        Promise::from_future(async move {
            let Some(mut reader) = place.borrow_mut().take() else { return Ok(None) };
            let received = reader.receive().await;
            *place.borrow_mut() = Some(reader);
            Ok(received.map(|message| Box::new(message) as Box<dyn capnp_rpc::IncomingMessage>))
        })
    }

    fn shutdown(&mut self, _result: capnp::Result<()>) -> Promise<(), capnp::Error> {
        self.shared.shut_down();
        Promise::ok(())
    }
}

/// A message to be sent.
struct Outgoing {
    message: Builder<HeapAllocator>,
    shared: Rc<Shared>,
}

impl capnp_rpc::OutgoingMessage for Outgoing {
    fn get_body(&mut self) -> capnp::Result<capnp::any_pointer::Builder<'_>> {
        self.message.get_root()
    }

    fn get_body_as_reader(&self) -> capnp::Result<capnp::any_pointer::Reader<'_>> {
        self.message.get_root_as_reader()
    }

    fn send(self: Box<Self>) -> (Promise<(), capnp::Error>, Rc<Builder<HeapAllocator>>) {
        let kind = self.message.get_root_as_reader::<message::Reader<'_>>().and_then(|root| Ok(root.which()?));
        if matches!(kind, Ok(message::Return(_))) {
            self.shared.answered();
        }
        self.shared.queue(&self.message.get_segments_for_output());
        (Promise::ok(()), Rc::new(self.message))
    }

    fn take(self: Box<Self>) -> Builder<HeapAllocator> {
        self.message
    }

    fn size_in_words(&self) -> usize {
        self.message.size_in_words()
    }
}

/// A message that was received, with its part of the budget.
struct Received {
    message: Reader<Segments>,
    _permit: Option<Permit>,
}

impl capnp_rpc::IncomingMessage for Received {
    fn get_body(&self) -> capnp::Result<capnp::any_pointer::Reader<'_>> {
        self.message.get_root()
    }
}

/// The reading half.
struct Incoming {
    half: OwnedReadHalf,
    /// Bytes that were read and belong to the frames to come, from `at` on.
    pending: Vec<u8>,
    at: usize,
    shared: Rc<Shared>,
}

impl Incoming {
    /// The next message, or `None` when the connection has ended; why stands in the shared state, since the RPC system would
    /// print an error to standard output.
    async fn receive(&mut self) -> Option<Received> {
        let shared = Rc::clone(&self.shared);
        tokio::select! {
            biased;
            received = self.receive_frame() => match received {
                Ok(received) => Some(received),
                Err(reason) => {
                    shared.end(reason);
                    None
                }
            },
            _ = shared.ended() => None,
        }
    }

    async fn receive_frame(&mut self) -> Result<Received, Reason> {
        if let Some(reason) = self.shared.reason() {
            return Err(reason);
        }
        self.shared.may_read().await;
        let mut started = None;
        let header = loop {
            let header = Header::parse(&self.pending[self.at..], &self.shared.limits, self.shared.frame_bytes())?;
            if let Some(header) = header {
                break header;
            }
            self.fill(&mut started).await?;
        };
        self.at += header.table_bytes;
        let permit = match header.body_bytes {
            bytes if bytes <= FREE_BYTES => None,
            bytes => Some(self.shared.budget().acquire(bytes).await),
        };
        // Time spent waiting for the budget is not the other side's fault.
        let mut started = started.map(|_| Instant::now());
        let mut body = Body::new(header);
        loop {
            self.at += body.take_from(&self.pending[self.at..]);
            if body.is_whole() {
                break;
            }
            self.fill(&mut started).await?;
        }
        let received = Received { message: body.into_reader(), _permit: permit };
        self.count(&received)?;
        Ok(received)
    }

    /// Reads what the socket has behind what is pending. `started` is when the frame began, as far as it has.
    async fn fill(&mut self, started: &mut Option<Instant>) -> Result<(), Reason> {
        self.pending.drain(..self.at);
        self.at = 0;
        loop {
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let read = self.half.try_read(scratch);
                read.inspect(|&count| self.pending.extend_from_slice(&scratch[..count]))
            });
            match read {
                Ok(0) if started.is_none() && self.pending.is_empty() => return Err(Reason::PeerClosed),
                Ok(0) => return Err(Reason::Broken),
                Ok(count) => {
                    self.shared.received.set(self.shared.received.get() + count as u64);
                    self.shared.heard.set(Instant::now());
                    started.get_or_insert_with(Instant::now);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable(*started).await?,
                Err(_) => return Err(Reason::Broken),
            }
        }
    }

    /// Waits for bytes: as long as it takes between frames, and no longer than a frame may take inside one.
    async fn readable(&mut self, started: Option<Instant>) -> Result<(), Reason> {
        if self.pending.is_empty() && self.pending.capacity() > 0 {
            self.pending = Vec::new();
        }
        let readable = match started {
            None => self.half.readable().await,
            Some(started) => {
                let left = self.shared.limits.frame_timeout.saturating_sub(started.elapsed());
                timeout(left, self.half.readable()).await.map_err(|_| Reason::FrameTimeout)?
            }
        };
        readable.map_err(|_| Reason::Broken)
    }

    /// Keeps count of the other side's calls.
    fn count(&self, received: &Received) -> Result<(), Reason> {
        let root = received.message.get_root::<message::Reader<'_>>().map_err(|_| Reason::Malformed)?;
        match root.which() {
            Ok(message::Call(_) | message::Bootstrap(_)) => self.shared.called(),
            Ok(message::Finish(_)) => self.shared.finished(),
            Ok(_) => {}
            Err(_) => return Err(Reason::Malformed),
        }
        self.shared.reason().map_or(Ok(()), Err)
    }
}

/// The writing half: waits until something is queued, lets everyone else who is ready queue theirs, and writes it all at once.
async fn write(mut half: OwnedWriteHalf, shared: Rc<Shared>) {
    let mut buffer = Vec::new();
    loop {
        shared.swap_outgoing(&mut buffer);
        if buffer.is_empty() {
            if shared.is_shutting_down() || shared.reason().is_some() {
                break;
            }
            if buffer.capacity() > KEEP_BYTES {
                buffer = Vec::new();
            }
            shared.queued.notified().await;
            tokio::task::yield_now().await;
            continue;
        }
        if let Err(reason) = write_all(&mut half, &buffer, &shared).await {
            shared.end(reason);
            break;
        }
        buffer.clear();
    }
    // The reading half sees the end and disconnects the RPC system, which fails what was waiting; only then may this future end,
    // since its end stops the system.
    while !shared.is_shutting_down() {
        shared.queued.notified().await;
    }
}

async fn write_all(half: &mut OwnedWriteHalf, buffer: &[u8], shared: &Shared) -> Result<(), Reason> {
    let mut written = 0;
    while written < buffer.len() {
        match half.try_write(&buffer[written..]) {
            Ok(count) => {
                written += count;
                shared.wrote(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let writable = timeout(shared.limits.outgoing_stall, half.writable());
                tokio::select! {
                    ready = writable => ready.map_err(|_| Reason::Stalled)?.map_err(|_| Reason::Broken)?,
                    reason = shared.ended() => return Err(reason),
                }
            }
            Err(_) => return Err(Reason::Broken),
        }
    }
    Ok(())
}
