//! Takes frames off a byte stream: many small ones per system call, large ones straight into their own memory, which
//! grows only as their bytes arrive.
//!
//! At any moment a connection holds at most one incomplete frame and one message that waits for room. Everything that
//! makes it wait (the budget, the limit of calls in flight) leaves the rest in the kernel, so that TCP slows the peer.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use capnp::Word;
use capnp::message::{Reader as Message, ReaderOptions};
use capnp_rpc::rpc_capnp::message;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::budget::Permit;
use crate::calls::{Kind, classify};
use crate::frame::{Segments, Table, WORD_BYTES, parse_table};
use crate::link::Link;
use crate::pool::{BUFFER_BYTES, Pool, READING};
use crate::reason::Reason;

/// So much of a large frame must be here before its announced length is claimed from the budget: a header costs its
/// sender nothing, and must not take away what others need.
const EVIDENCE_BYTES: usize = 32 * 1024;

/// A large body starts with this much memory and doubles when it is full.
const BODY_START_WORDS: usize = 16 * 1024;

/// A partial frame up to this size is moved to memory of its own, so that waiting for the rest does not hold a buffer.
const PARKED_BYTES: usize = 4 * 1024;

/// How often a decoder may visit the words of a message, on average; more means pointers that share their target.
const TRAVERSALS: usize = 4;

/// A short message may be visited this much in any case: looking at its envelope several times is normal.
const TRAVERSAL_FLOOR_WORDS: usize = 8 * 1024;

/// A received message, and its part of the budget.
pub(crate) struct Incoming {
    message: Message<Segments>,
    _permit: Option<Permit>,
}

impl Incoming {
    pub(crate) fn root(&self) -> capnp::Result<capnp::any_pointer::Reader<'_>> {
        self.message.get_root()
    }
}

/// The receiving half of a connection.
pub(crate) struct FrameReader<R> {
    stream: R,
    link: Rc<Link>,
    /// Received bytes from `start` on belong to frames that were not delivered yet.
    buffer: Vec<u8>,
    start: usize,
    body: Option<Body>,
    claim: Option<Claim>,
    waiting: Option<(Incoming, Kind)>,
    clock: FrameClock,
}

/// A frame that is too large for the buffer.
struct Body {
    table: Table,
    words: Vec<Word>,
    filled_bytes: usize,
    permit: Option<Permit>,
}

/// The place of this connection in the line for the budget.
type Claim = Pin<Box<dyn Future<Output = Option<Permit>>>>;

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(stream: R, link: Rc<Link>) -> Self {
        Self {
            stream,
            link,
            buffer: Vec::new(),
            start: 0,
            body: None,
            claim: None,
            waiting: None,
            clock: FrameClock::default(),
        }
    }

    /// The next message for the RPC layer; `None` at the end of the stream.
    pub(crate) fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Incoming>, Reason>> {
        if let Some(reason) = self.link.reason() {
            let reason = reason.clone();
            self.give_up();
            return Poll::Ready(Err(reason));
        }
        let (message, kind) = match self.waiting.take() {
            Some(waiting) => waiting,
            None => match self.poll_frame(context) {
                Poll::Ready(Ok(Some(message))) => message,
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Err(reason)) => {
                    self.give_up();
                    return Poll::Ready(Err(reason));
                }
                Poll::Pending => {
                    self.link.park_reader(context.waker());
                    return Poll::Pending;
                }
            },
        };
        if matches!(kind, Kind::Ask(_)) && !self.link.try_take_call() {
            self.waiting = Some((message, kind));
            self.link.park_reader(context.waker());
            return Poll::Pending;
        }
        self.link.on_received(kind)?;
        Poll::Ready(Ok(Some(message)))
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<(Incoming, Kind)>, Reason>> {
        loop {
            if self.body.is_some() {
                let (segments, permit) = ready!(self.poll_body(context))?;
                return Poll::Ready(self.deliver(segments, permit).map(Some));
            }
            let available_bytes = self.buffer.len() - self.start;
            match parse_table(&self.buffer[self.start..], &self.link.limits, self.link.frame_limit_bytes())? {
                Some(table) if table.frame_bytes() <= available_bytes => {
                    let frame_bytes = table.frame_bytes();
                    let permit = ready!(self.poll_claim(frame_bytes, context));
                    let body = self.start + table.header_bytes..self.start + frame_bytes;
                    let segments = Segments::copied(table, &self.buffer[body]);
                    self.start += frame_bytes;
                    return Poll::Ready(self.deliver(segments, permit).map(Some));
                }
                Some(table) if table.frame_bytes() > BUFFER_BYTES && available_bytes >= EVIDENCE_BYTES => {
                    let permit = ready!(self.poll_claim(table.frame_bytes(), context));
                    self.start_body(table, permit);
                }
                Some(_) | None => match ready!(self.poll_fill_buffer(context))? {
                    0 if self.buffer.is_empty() => return Poll::Ready(Ok(None)),
                    0 => return Poll::Ready(Err(Reason::PeerClosedInFrame)),
                    _ => {}
                },
            }
        }
    }

    /// Nothing more will be read. Handlers may keep the connection for a while, but not its memory.
    fn give_up(&mut self) {
        self.body = None;
        self.claim = None;
        self.drop_buffer();
    }

    /// Looks at what kind of message it is, and refuses what the RPC layer should not see.
    fn deliver(&mut self, segments: Segments, permit: Option<Permit>) -> Result<(Incoming, Kind), Reason> {
        self.clock.frame_is_complete();
        let limits = &self.link.limits;
        let options = ReaderOptions {
            traversal_limit_in_words: Some((TRAVERSALS * segments.words()).max(TRAVERSAL_FLOOR_WORDS)),
            nesting_limit: limits.nesting,
        };
        let message = Message::new(segments, options);
        let (kind, capabilities) = classify(message.get_root::<message::Reader<'_>>()?)?;
        // The list is walked and remembered by the RPC layer, and can be much longer than the frame it came in.
        if capabilities as usize > limits.capabilities {
            return Err(Reason::TooManyCapabilities { count: capabilities as usize, limit: limits.capabilities });
        }
        Ok((Incoming { message, _permit: permit }, kind))
    }

    fn poll_claim(&mut self, bytes: usize, context: &mut Context<'_>) -> Poll<Option<Permit>> {
        let permit = match &mut self.claim {
            Some(claim) => ready!(claim.as_mut().poll(context)),
            None => {
                let budget = self.link.budget();
                if let Some(permit) = budget.try_claim(bytes) {
                    return Poll::Ready(permit);
                }
                let mut claim: Claim = Box::pin(budget.claim(bytes));
                match claim.as_mut().poll(context) {
                    Poll::Ready(permit) => permit,
                    Poll::Pending => {
                        self.claim = Some(claim);
                        return Poll::Pending;
                    }
                }
            }
        };
        self.claim = None;
        // Waiting in line was not the peer's fault.
        self.clock.restart();
        Poll::Ready(permit)
    }

    /// Moves what is here of a large frame to memory of its own.
    fn start_body(&mut self, table: Table, permit: Option<Permit>) {
        let received = &self.buffer[self.start + table.header_bytes..];
        let mut words = Word::allocate_zeroed_vec(BODY_START_WORDS.min(table.body_words));
        Word::words_to_bytes_mut(&mut words)[..received.len()].copy_from_slice(received);
        self.body = Some(Body { filled_bytes: received.len(), table, words, permit });
        self.drop_buffer();
    }

    /// Reads the rest of a large frame.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<(Segments, Option<Permit>), Reason>> {
        let Some(mut body) = self.body.take() else {
            unreachable!("only called with a body");
        };
        while body.filled_bytes < body.table.body_words * WORD_BYTES {
            let mut room = ReadBuf::new(body.room());
            match Pin::new(&mut self.stream).poll_read(context, &mut room) {
                Poll::Ready(Ok(())) if room.filled().is_empty() => return Poll::Ready(Err(Reason::PeerClosedInFrame)),
                Poll::Ready(Ok(())) => {
                    let bytes = room.filled().len();
                    body.filled_bytes += bytes;
                    self.count(bytes);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    self.body = Some(body);
                    return self.clock.poll_overdue(&self.link, context).map(Err);
                }
            }
        }
        Poll::Ready(Ok((Segments::new(body.table, body.words), body.permit)))
    }

    /// Reads once behind what the buffer holds, and returns the number of bytes; 0 is the end of the stream.
    fn poll_fill_buffer(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, Reason>> {
        self.make_room();
        let read = pin!(self.stream.read_buf(&mut self.buffer)).poll(context);
        match read {
            Poll::Ready(Ok(bytes)) => {
                self.count(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending if self.buffer.is_empty() => {
                self.drop_buffer();
                self.clock.stream_is_idle();
                Poll::Pending
            }
            Poll::Pending => {
                if self.buffer.len() <= PARKED_BYTES {
                    let parked = self.buffer.as_slice().to_vec();
                    self.drop_buffer();
                    self.buffer = parked;
                }
                self.clock.poll_overdue(&self.link, context).map(Err)
            }
        }
    }

    /// Moves an incomplete frame to the front of a full-size buffer.
    fn make_room(&mut self) {
        if self.buffer.capacity() < BUFFER_BYTES {
            let mut buffer = READING.with(Pool::take).unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES));
            buffer.extend_from_slice(&self.buffer[self.start..]);
            self.buffer = buffer;
        } else {
            self.buffer.drain(..self.start);
        }
        self.start = 0;
    }

    /// Leaves the buffer, with whatever is in it, to other connections.
    fn drop_buffer(&mut self) {
        self.start = 0;
        let buffer = std::mem::take(&mut self.buffer);
        READING.with(|pool| pool.give_back(buffer));
    }

    fn count(&self, bytes: usize) {
        let traffic = &self.link.traffic;
        traffic.received_bytes.set(traffic.received_bytes.get() + bytes as u64);
        traffic.last_received.set(Instant::now());
    }
}

impl Body {
    /// Memory for the bytes that come next: never much more than what has arrived already.
    fn room(&mut self) -> &mut [u8] {
        if self.filled_bytes == self.words.len() * WORD_BYTES {
            let grown = (2 * self.words.len()).min(self.table.body_words);
            self.words.reserve_exact(grown - self.words.len());
            self.words.resize(grown, capnp::word(0, 0, 0, 0, 0, 0, 0, 0));
        }
        &mut Word::words_to_bytes_mut(&mut self.words)[self.filled_bytes..]
    }
}

/// The time that an incomplete frame has been waiting for its rest.
#[derive(Default)]
struct FrameClock {
    started: Option<Instant>,
    /// Left armed when a frame completes, since the next one will need it; then it ends early, and is armed again.
    timer: Option<Pin<Box<Sleep>>>,
}

impl FrameClock {
    fn frame_is_complete(&mut self) {
        self.started = None;
    }

    fn restart(&mut self) {
        self.started = None;
    }

    /// Drops a timer that has ended. It woke the connection when it did, so an idle connection soon holds none.
    fn stream_is_idle(&mut self) {
        if self.timer.as_ref().is_some_and(|timer| timer.is_elapsed()) {
            self.timer = None;
        }
    }

    /// Called whenever the rest of a frame is not here yet. Ready when it should have been.
    fn poll_overdue(&mut self, link: &Link, context: &mut Context<'_>) -> Poll<Reason> {
        let limit = link.limits.frame_timeout;
        let deadline = *self.started.get_or_insert_with(Instant::now) + limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(Reason::FrameTimeout { limit });
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
