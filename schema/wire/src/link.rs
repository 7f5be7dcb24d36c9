//! The state that all parts of one connection share: reader, writer, the RPC layer's messages and the owner's handle.
//!
//! Everything here is single-threaded and short: no borrow lives across a call into another part, and no method waits
//! except [`Link::closed`] and [`Link::written_out`].

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use capnp::message::{Builder, HeapAllocator};
use capnp_rpc::rpc_capnp::{cap_descriptor, message};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::budget::Budget;
use crate::calls::{Calls, Kind, classify, payload_of};
use crate::limits::Limits;
use crate::outgoing::Outgoing;
use crate::reason::Reason;

/// One connection, seen from inside.
pub(crate) struct Link {
    pub(crate) limits: Limits,
    pub(crate) outgoing: RefCell<Outgoing>,
    pub(crate) traffic: Traffic,
    frame_limit_bytes: Cell<usize>,
    budget: RefCell<Budget>,
    is_admitted: Cell<bool>,
    calls: RefCell<Calls>,
    reason: OnceCell<Reason>,
    has_shut_down: Cell<bool>,
    is_written_out: Cell<bool>,
    is_reader_paused: Cell<bool>,
    reader: WakerSlot,
    writer: WakerSlot,
    changed: Notify,
}

/// What went over the wire so far.
pub(crate) struct Traffic {
    pub(crate) received_bytes: Cell<u64>,
    pub(crate) sent_bytes: Cell<u64>,
    pub(crate) last_received: Cell<Instant>,
}

/// A task that waits for something. Keeps the waker as long as it is the same task, which spares most clones.
#[derive(Default)]
struct WakerSlot(RefCell<Option<Waker>>);

impl Link {
    pub(crate) fn new(limits: Limits, budget: Budget) -> Rc<Self> {
        Rc::new(Self {
            outgoing: RefCell::default(),
            traffic: Traffic {
                received_bytes: Cell::new(0),
                sent_bytes: Cell::new(0),
                last_received: Cell::new(Instant::now()),
            },
            frame_limit_bytes: Cell::new(limits.frame_bytes_before_hello.min(limits.frame_bytes)),
            budget: RefCell::new(budget),
            is_admitted: Cell::new(limits.hello_timeout.is_none()),
            calls: RefCell::default(),
            reason: OnceCell::new(),
            has_shut_down: Cell::new(false),
            is_written_out: Cell::new(false),
            is_reader_paused: Cell::new(false),
            reader: WakerSlot::default(),
            writer: WakerSlot::default(),
            changed: Notify::new(),
            limits,
        })
    }

    pub(crate) fn frame_limit_bytes(&self) -> usize {
        self.frame_limit_bytes.get()
    }

    pub(crate) fn budget(&self) -> Budget {
        self.budget.borrow().clone()
    }

    pub(crate) fn is_admitted(&self) -> bool {
        self.is_admitted.get()
    }

    /// The peer is known now: full frames, charged to `budget`.
    pub(crate) fn admit(&self, budget: Budget) {
        self.is_admitted.set(true);
        self.frame_limit_bytes.set(self.limits.frame_bytes);
        self.budget.replace(budget);
        self.reader.wake();
    }

    pub(crate) fn running_calls(&self) -> usize {
        self.calls.borrow().running()
    }

    pub(crate) fn own_calls(&self) -> usize {
        self.calls.borrow().own()
    }

    /// Whether another call of the peer may be taken in now. Otherwise the reader pauses, and is woken when it may.
    pub(crate) fn try_take_call(&self) -> bool {
        let has_room = self.has_room_for_call();
        self.is_reader_paused.set(!has_room);
        has_room
    }

    fn resume_reader(&self) {
        if self.is_reader_paused.get() && self.has_room_for_call() {
            self.is_reader_paused.set(false);
            self.reader.wake();
        }
    }

    fn has_room_for_call(&self) -> bool {
        let calls = self.calls.borrow();
        // With own calls outstanding the answer to one of them may stand behind the call that would have to wait, and
        // the handlers that keep this connection at its limit may be waiting for that answer.
        calls.own() > 0
            || (calls.running() < self.limits.calls_in_flight
                && self.outgoing.borrow().queued_bytes() <= self.limits.outgoing_pause_bytes)
    }

    /// Follows a message from the peer that is about to be handed to the RPC layer.
    pub(crate) fn on_received(&self, kind: Kind) -> Result<(), Reason> {
        let mut calls = self.calls.borrow_mut();
        calls.on_received(kind);
        let limit = self.limits.answers_unfinished;
        if calls.unfinished() > limit {
            return Err(Reason::TooManyAnswers { answers: calls.unfinished(), limit });
        }
        Ok(())
    }

    /// Queues a message of the RPC layer. It never waits: a peer that lets too much pile up is dropped.
    pub(crate) fn send(&self, message: &Rc<Builder<HeapAllocator>>) {
        if self.reason.get().is_some_and(|reason| !reason.lets_queue_drain()) {
            return;
        }
        if let Err(reason) = self.follow_sent(message) {
            self.end(reason);
            return;
        }
        let queued_bytes = {
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing.push(message);
            outgoing.queued_bytes()
        };
        let limit_bytes = self.limits.outgoing_bytes;
        if queued_bytes > limit_bytes {
            self.end(Reason::OutgoingOverflow { queued_bytes, limit_bytes });
        } else {
            self.writer.wake();
        }
    }

    fn follow_sent(&self, message: &Builder<HeapAllocator>) -> Result<(), Reason> {
        let root = message.get_root_as_reader::<message::Reader<'_>>()?;
        let (kind, capabilities) = classify(root)?;
        if capabilities > 0 {
            self.check_exports(root)?;
        }
        self.calls.borrow_mut().on_sent(kind);
        self.resume_reader();
        Ok(())
    }

    /// The RPC layer gives a new export the lowest free number, so a number beyond the limit means that many exports.
    fn check_exports(&self, root: message::Reader<'_>) -> Result<(), Reason> {
        let Some(payload) = payload_of(root)? else {
            return Ok(());
        };
        for descriptor in payload.get_cap_table()? {
            let export = match descriptor.which() {
                Ok(cap_descriptor::SenderHosted(export) | cap_descriptor::SenderPromise(export)) => export as usize,
                Ok(_) | Err(capnp::NotInSchema(_)) => continue,
            };
            if export >= self.limits.capabilities {
                return Err(Reason::TooManyCapabilities { count: export + 1, limit: self.limits.capabilities });
            }
        }
        Ok(())
    }

    /// The writer got rid of `bytes`.
    pub(crate) fn on_written(&self, bytes: usize) {
        let traffic = &self.traffic.sent_bytes;
        traffic.set(traffic.get() + bytes as u64);
        let left_bytes = self.outgoing.borrow().queued_bytes();
        let was_paused = left_bytes + bytes > self.limits.outgoing_pause_bytes;
        if was_paused && left_bytes <= self.limits.outgoing_pause_bytes {
            self.resume_reader();
            self.changed.notify_waiters();
        }
    }

    /// Ends the connection. Only the first reason counts.
    pub(crate) fn end(&self, reason: Reason) {
        let lets_queue_drain = reason.lets_queue_drain();
        if self.reason.set(reason).is_err() {
            return;
        }
        if !lets_queue_drain {
            self.outgoing.borrow_mut().clear();
        }
        self.reader.wake();
        self.writer.wake();
        self.changed.notify_waiters();
    }

    /// Why the connection ended, if it has.
    pub(crate) fn reason(&self) -> Option<&Reason> {
        self.reason.get()
    }

    /// Waits for the end of the connection.
    pub(crate) async fn closed(&self) -> Reason {
        loop {
            if let Some(reason) = self.reason.get() {
                return reason.clone();
            }
            self.changed.notified().await;
        }
    }

    /// Waits until so little is queued that further answers are welcome, or the connection has ended.
    pub(crate) async fn outgoing_room(&self) {
        while self.reason.get().is_none() && self.outgoing.borrow().queued_bytes() > self.limits.outgoing_pause_bytes {
            self.changed.notified().await;
        }
    }

    /// Nothing more will be sent: the writer may stop when the queue is empty.
    pub(crate) fn shut_down(&self) {
        self.has_shut_down.set(true);
        self.writer.wake();
    }

    pub(crate) fn has_shut_down(&self) -> bool {
        self.has_shut_down.get()
    }

    /// The writer has stopped.
    pub(crate) fn set_written_out(&self) {
        self.is_written_out.set(true);
        self.changed.notify_waiters();
    }

    /// Waits until the writer has stopped.
    pub(crate) async fn written_out(&self) {
        while !self.is_written_out.get() {
            self.changed.notified().await;
        }
    }

    /// Wakes the task of `waker` when the connection ends, a call may be taken in, or the peer is admitted.
    pub(crate) fn park_reader(&self, waker: &Waker) {
        self.reader.park(waker);
    }

    /// Wakes the task of `waker` when there is something to write or the connection ends.
    pub(crate) fn park_writer(&self, waker: &Waker) {
        self.writer.park(waker);
    }
}

impl WakerSlot {
    fn park(&self, waker: &Waker) {
        let mut slot = self.0.borrow_mut();
        match slot.as_mut() {
            Some(parked) => parked.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    fn wake(&self) {
        // Taken, so that a second reason to wake costs nothing; the task parks again when it has to wait again.
        let parked = self.0.borrow_mut().take();
        if let Some(waker) = parked {
            waker.wake();
        }
    }
}
