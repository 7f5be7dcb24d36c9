//! The traits of `capnp-rpc`, implemented over a [`Link`]: what the RPC layer sees of a connection.
//!
//! It never sees an error that it would print: whatever went wrong is kept in the link, and the RPC layer learns that
//! the peer is gone.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};

use capnp::capability::Promise;
use capnp::message::{Builder, HeapAllocator};
use capnp::{Error, ErrorKind};
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{Connection, IncomingMessage, OutgoingMessage, VatNetwork};
use futures_util::future::pending;
use tokio::io::AsyncRead;

use crate::link::Link;
use crate::reader::{FrameReader, Incoming};
use crate::reason::Reason;

/// The first segment of a message is at least this large: a small call or answer, envelope included.
const FIRST_SEGMENT_LEAST_WORDS: u32 = 32;

/// And at most this large: an answer that is begun early holds it while its call is carried out. Larger messages go
/// on in further segments.
const FIRST_SEGMENT_MOST_WORDS: u32 = 1024;

/// What `capnp-rpc` asks for when it begins a call, whatever its size; for answers it always asks for 100.
const CALL_HINT_WORDS: u32 = 1024;

/// One connection with a peer on the other side: the whole world of the RPC layer.
pub(crate) struct Network<R> {
    side: Side,
    link: Rc<Link>,
    /// Handed out when the RPC layer accepts, which it does once.
    ends: Option<Rc<Ends<R>>>,
    /// For connecting, which clients do before the first message is read.
    weak_ends: Weak<Ends<R>>,
}

/// What connections handed to the RPC layer have in common; they all stand for the same socket.
struct Ends<R> {
    link: Rc<Link>,
    reader: RefCell<FrameReader<R>>,
    call_words: Rc<SizeGuess>,
    answer_words: Rc<SizeGuess>,
}

impl<R: AsyncRead + Unpin + 'static> Network<R> {
    pub(crate) fn new(side: Side, stream: R, link: Rc<Link>) -> Self {
        let ends = Rc::new(Ends {
            link: Rc::clone(&link),
            reader: RefCell::new(FrameReader::new(stream, Rc::clone(&link))),
            call_words: Rc::default(),
            answer_words: Rc::default(),
        });
        Self { side, link, weak_ends: Rc::downgrade(&ends), ends: Some(ends) }
    }
}

impl<R: AsyncRead + Unpin + 'static> VatNetwork<Side> for Network<R> {
    fn connect(&mut self, host: Side) -> Option<Box<dyn Connection<Side>>> {
        if host == self.side {
            return None;
        }
        let ends = self.weak_ends.upgrade()?;
        Some(Box::new(Wire { side: self.side, ends }))
    }

    fn accept(&mut self) -> Promise<Box<dyn Connection<Side>>, Error> {
        match self.ends.take() {
            Some(ends) => Promise::ok(Box::new(Wire { side: self.side, ends })),
            None => Promise::from_future(pending()),
        }
    }

    fn drive_until_shutdown(&mut self) -> Promise<(), Error> {
        let link = Rc::clone(&self.link);
        Promise::from_future(async move {
            link.written_out().await;
            Ok(())
        })
    }
}

/// A connection in the eyes of the RPC layer.
struct Wire<R> {
    side: Side,
    ends: Rc<Ends<R>>,
}

impl<R: AsyncRead + Unpin + 'static> Connection<Side> for Wire<R> {
    fn get_peer_vat_id(&self) -> Side {
        match self.side {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }

    fn new_outgoing_message(&mut self, first_segment_word_size: u32) -> Box<dyn OutgoingMessage> {
        let guess =
            if first_segment_word_size == CALL_HINT_WORDS { &self.ends.call_words } else { &self.ends.answer_words };
        let allocator = HeapAllocator::new().first_segment_words(guess.words());
        Box::new(Outgoing {
            message: Builder::new(allocator),
            guess: Rc::clone(guess),
            link: Rc::clone(&self.ends.link),
        })
    }

    fn receive_incoming_message(&mut self) -> Promise<Option<Box<dyn IncomingMessage>>, Error> {
        let ends = Rc::clone(&self.ends);
        Promise::from_future(poll_fn(move |context| {
            let received = ends.reader.borrow_mut().poll_message(context);
            received.map(|received| match received {
                Ok(Some(message)) => Ok(Some(Box::new(message) as Box<dyn IncomingMessage>)),
                Ok(None) => {
                    ends.link.end(Reason::PeerClosed);
                    Ok(None)
                }
                Err(reason) => {
                    let error = reason.to_rpc_error();
                    ends.link.end(reason);
                    Err(error)
                }
            })
        }))
    }

    fn shutdown(&mut self, result: capnp::Result<()>) -> Promise<(), Error> {
        let link = Rc::clone(&self.ends.link);
        link.end(match result {
            Ok(()) => Reason::Closed,
            Err(error) if error.kind == ErrorKind::Disconnected => Reason::PeerClosed,
            Err(error) => Reason::Protocol { detail: error.to_string() },
        });
        link.shut_down();
        Promise::from_future(async move {
            link.written_out().await;
            Ok(())
        })
    }
}

impl IncomingMessage for Incoming {
    fn get_body(&self) -> capnp::Result<capnp::any_pointer::Reader<'_>> {
        self.root()
    }
}

/// A message under construction.
struct Outgoing {
    message: Builder<HeapAllocator>,
    guess: Rc<SizeGuess>,
    link: Rc<Link>,
}

impl OutgoingMessage for Outgoing {
    fn get_body(&mut self) -> capnp::Result<capnp::any_pointer::Builder<'_>> {
        self.message.get_root()
    }

    fn get_body_as_reader(&self) -> capnp::Result<capnp::any_pointer::Reader<'_>> {
        self.message.get_root_as_reader()
    }

    fn send(self: Box<Self>) -> (Promise<(), Error>, Rc<Builder<HeapAllocator>>) {
        let Self { message, guess, link } = *self;
        guess.learn(message.size_in_words());
        let message = Rc::new(message);
        link.send(&message);
        // The RPC layer does not look at it: a failure to send reaches it as the end of the connection.
        (Promise::ok(()), message)
    }

    fn take(self: Box<Self>) -> Builder<HeapAllocator> {
        self.message
    }

    fn size_in_words(&self) -> usize {
        self.message.size_in_words()
    }
}

/// How large the next message will be, judged by those before: room that is reserved must be cleared first, and room
/// that is missing costs another segment.
struct SizeGuess(Cell<u32>);

impl Default for SizeGuess {
    fn default() -> Self {
        Self(Cell::new(FIRST_SEGMENT_LEAST_WORDS))
    }
}

impl SizeGuess {
    fn words(&self) -> u32 {
        self.0.get()
    }

    /// Follows a larger message at once and smaller ones slowly, so that mixed sizes get the room of the larger.
    fn learn(&self, words: usize) {
        let words = u32::try_from(words).unwrap_or(u32::MAX).clamp(FIRST_SEGMENT_LEAST_WORDS, FIRST_SEGMENT_MOST_WORDS);
        let guess = self.0.get();
        self.0.set(if words >= guess { words } else { guess - (guess - words).div_ceil(16) });
    }
}
