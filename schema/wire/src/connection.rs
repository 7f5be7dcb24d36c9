//! One connection: what is queued, what is in flight, why it ended. The handle [`ConnectionHandle`] is what the rest of the program holds; the
//! two halves that move bytes share its state.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Instant,
};

use tokio::sync::Notify;

use crate::{Budget, Limits, Reason};

/// A handle on one connection. Clones share it; it stays valid after the connection has ended.
#[derive(Clone, Debug)]
pub struct ConnectionHandle {
    pub(crate) shared: Rc<Shared>,
}

/// What the handle, the reading half and the writing half share; all of them live on one thread.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    frame_bytes: Cell<usize>,
    /// Where large messages take their bytes from.
    budget: RefCell<Budget>,
    admitted: Cell<bool>,
    /// Serialised frames that wait for the writer.
    outgoing: RefCell<Vec<u8>>,
    /// Bytes handed to the writer and not yet taken by the socket.
    writing: Cell<usize>,
    /// Wakes the writer.
    pub(crate) queued: Notify,
    /// Wakes the reader when calls were answered, and everyone when the connection ends.
    pub(crate) changed: Notify,
    /// Calls of the other side that have no answer yet.
    unanswered: Cell<usize>,
    /// Calls of the other side that it has not finished.
    unfinished: Cell<usize>,
    reason: RefCell<Option<Reason>>,
    /// The RPC system wants no more to be sent than what is queued.
    shutting_down: Cell<bool>,
    pub(crate) received: Cell<u64>,
    pub(crate) sent: Cell<u64>,
    pub(crate) heard: Cell<Instant>,
}

impl ConnectionHandle {
    pub(crate) fn new(limits: Limits, budget: Budget) -> Self {
        let frame_bytes = Cell::new(limits.frame_bytes_before_hello.min(limits.frame_bytes));
        Self {
            shared: Rc::new(Shared {
                limits,
                frame_bytes,
                budget: RefCell::new(budget),
                admitted: Cell::new(false),
                outgoing: RefCell::default(),
                writing: Cell::new(0),
                queued: Notify::new(),
                changed: Notify::new(),
                unanswered: Cell::new(0),
                unfinished: Cell::new(0),
                reason: RefCell::new(None),
                shutting_down: Cell::new(false),
                received: Cell::new(0),
                sent: Cell::new(0),
                heard: Cell::new(Instant::now()),
            }),
        }
    }

    /// Takes the other side for known: its frames may have their full size from now on, and use this budget.
    pub fn admit(&self, budget: Budget) {
        self.shared.frame_bytes.set(self.shared.limits.frame_bytes);
        self.shared.budget.replace(budget);
        self.shared.admitted.set(true);
    }

    /// Ends the connection; what is queued may be lost.
    pub fn close(&self) {
        self.shared.end(Reason::Closed);
    }

    /// Why the connection ended, once it has.
    pub fn reason(&self) -> Option<Reason> {
        self.shared.reason()
    }

    /// Waits until the connection has ended, and says why.
    pub async fn closed(&self) -> Reason {
        self.shared.ended().await
    }

    /// Calls of the other side that have no answer yet.
    pub fn calls_in_flight(&self) -> usize {
        self.shared.unanswered.get()
    }

    /// Bytes received so far.
    pub fn bytes_received(&self) -> u64 {
        self.shared.received.get()
    }

    /// Bytes sent so far.
    pub fn bytes_sent(&self) -> u64 {
        self.shared.sent.get()
    }

    /// When the last bytes arrived, or when the connection was made.
    pub fn last_heard(&self) -> Instant {
        self.shared.heard.get()
    }
}

impl Shared {
    /// The largest frame that is accepted now.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.frame_bytes.get()
    }

    pub(crate) fn budget(&self) -> Budget {
        self.budget.borrow().clone()
    }

    pub(crate) fn is_admitted(&self) -> bool {
        self.admitted.get()
    }

    /// Ends the connection; the first reason stands.
    pub(crate) fn end(&self, reason: Reason) {
        self.reason.borrow_mut().get_or_insert(reason);
        self.queued.notify_one();
        self.changed.notify_waiters();
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        self.reason.borrow().clone()
    }

    fn has_ended(&self) -> bool {
        self.reason.borrow().is_some()
    }

    pub(crate) async fn ended(&self) -> Reason {
        loop {
            let changed = self.changed.notified();
            if let Some(reason) = self.reason() {
                return reason;
            }
            changed.await;
        }
    }

    /// Puts a frame behind what is queued. A side that does not read has its connection ended here, not its queue grown.
    pub(crate) fn queue(&self, segments: &[&[u8]]) {
        if self.has_ended() {
            return;
        }
        let mut outgoing = self.outgoing.borrow_mut();
        let was_empty = outgoing.is_empty();
        let body: usize = segments.iter().map(|segment| segment.len()).sum();
        if outgoing.len() + self.writing.get() + body > self.limits.outgoing_bytes {
            drop(outgoing);
            self.end(Reason::Stalled);
            return;
        }
        outgoing.extend_from_slice(&(segments.len() as u32 - 1).to_le_bytes());
        for segment in segments {
            outgoing.extend_from_slice(&((segment.len() / 8) as u32).to_le_bytes());
        }
        if segments.len().is_multiple_of(2) {
            outgoing.extend_from_slice(&[0; 4]);
        }
        for segment in segments {
            outgoing.extend_from_slice(segment);
        }
        if was_empty {
            self.queued.notify_one();
        }
    }

    /// Hands everything queued to the writer, which gives its empty buffer for the next frames.
    pub(crate) fn swap_outgoing(&self, buffer: &mut Vec<u8>) {
        debug_assert!(buffer.is_empty());
        std::mem::swap(buffer, &mut self.outgoing.borrow_mut());
        self.writing.set(buffer.len());
    }

    pub(crate) fn wrote(&self, bytes: usize) {
        self.writing.set(self.writing.get() - bytes);
        self.sent.set(self.sent.get() + bytes as u64);
    }

    pub(crate) fn shut_down(&self) {
        self.shutting_down.set(true);
        self.queued.notify_one();
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutting_down.get()
    }

    /// A call of the other side arrived.
    pub(crate) fn called(&self) {
        self.unanswered.set(self.unanswered.get() + 1);
        self.unfinished.set(self.unfinished.get() + 1);
        if self.unfinished.get() > self.limits.answers_unfinished {
            self.end(Reason::TooManyAnswers);
        }
    }

    /// This side answered a call.
    pub(crate) fn answered(&self) {
        let unanswered = self.unanswered.get();
        self.unanswered.set(unanswered.saturating_sub(1));
        if unanswered == self.limits.calls_in_flight {
            self.changed.notify_waiters();
        }
    }

    /// The other side finished a call.
    pub(crate) fn finished(&self) {
        self.unfinished.set(self.unfinished.get().saturating_sub(1));
    }

    /// Waits until another call may be read. Answers do not depend on what is still unread, so waiting here always ends: a connection
    /// on which *both* sides call each other would need the other side's answers to be read meanwhile, and none of ours is used so.
    pub(crate) async fn may_read(&self) {
        loop {
            let changed = self.changed.notified();
            if self.unanswered.get() < self.limits.calls_in_flight || self.has_ended() {
                return;
            }
            changed.await;
        }
    }
}
