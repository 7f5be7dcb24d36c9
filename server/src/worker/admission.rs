//! Admission (design, quorum, "Overload"): how much of clients' and of other nodes' work is let in. Counted in operations and
//! bytes, for the node and for each connection; what goes beyond is refused before anything is done.
//!
//! Clients and peers have separate counts: a node that is full of its clients' requests must still answer the other nodes'
//! or all of them would wait for each other.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dynamo::operation::{ErrorCode, Failure};

use crate::counters::Counters;

/// How long a refused caller should stay away: a few batches' time, so that there is room when it comes back.
const RETRY_AFTER_MS: u32 = 20;

/// What one class of callers may have in flight on this node; shared by all workers, touched once per call.
#[derive(Debug)]
pub(crate) struct Room {
    operations: AtomicUsize,
    bytes: AtomicUsize,
    operations_max: usize,
    bytes_max: usize,
}

/// What one connection has in flight.
#[derive(Debug)]
pub(crate) struct Share {
    room: Arc<Room>,
    counters: Arc<Counters>,
    operations: std::cell::Cell<usize>,
    bytes: std::cell::Cell<usize>,
    operations_max: usize,
    bytes_max: usize,
}

/// Work that was let in; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    share: Rc<Share>,
    operations: usize,
    bytes: usize,
}

impl Room {
    pub(crate) fn new(operations_max: usize, bytes_max: usize) -> Self {
        Self { operations: AtomicUsize::new(0), bytes: AtomicUsize::new(0), operations_max, bytes_max }
    }

    /// How full it is: 0 empty, 255 about to refuse.
    pub(crate) fn load(&self) -> u8 {
        let share = |now: &AtomicUsize, max: usize| now.load(Ordering::Relaxed).saturating_mul(255) / max.max(1);
        let load = share(&self.operations, self.operations_max).max(share(&self.bytes, self.bytes_max));
        u8::try_from(load).unwrap_or(u8::MAX)
    }
}

impl Share {
    /// A connection's share of `room`, itself bounded.
    pub(crate) fn new(room: Arc<Room>, counters: Arc<Counters>, operations_max: usize, bytes_max: usize) -> Rc<Self> {
        let (operations, bytes) = Default::default();
        Rc::new(Self { room, counters, operations, bytes, operations_max, bytes_max })
    }

    /// The room it is a share of.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// Lets in a call of so many operations, before it is decoded. Bytes count against what is there already: how many the
    /// call has is known once it is decoded ([`Admitted::grow`]), so the bound is passed by one batch at most.
    pub(crate) fn admit(self: &Rc<Self>, operations: usize) -> Result<Admitted, Failure> {
        let room = &self.room;
        let taken = room.operations.fetch_add(operations, Ordering::Relaxed) + operations;
        let is_over = taken > room.operations_max
            || self.operations.get() + operations > self.operations_max
            || room.bytes.load(Ordering::Relaxed) >= room.bytes_max
            || self.bytes.get() >= self.bytes_max;
        if is_over {
            room.operations.fetch_sub(operations, Ordering::Relaxed);
            self.counters.overloads.add(operations as u64);
            return Err(overloaded());
        }
        self.operations.set(self.operations.get() + operations);
        self.counters.operations_in_flight.add(operations as u64);
        Ok(Admitted { share: Rc::clone(self), operations, bytes: 0 })
    }
}

impl Admitted {
    /// Counts the bytes of the decoded call.
    pub(crate) fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.share.bytes.set(self.share.bytes.get() + bytes);
        self.share.room.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.share.counters.bytes_in_flight.add(bytes as u64);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let Share { room, counters, operations, bytes, .. } = &*self.share;
        operations.set(operations.get() - self.operations);
        bytes.set(bytes.get() - self.bytes);
        room.operations.fetch_sub(self.operations, Ordering::Relaxed);
        room.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        counters.operations_in_flight.subtract(self.operations as u64);
        counters.bytes_in_flight.subtract(self.bytes as u64);
    }
}

fn overloaded() -> Failure {
    Failure {
        retry_after_ms: RETRY_AFTER_MS,
        ..Failure::new(
            ErrorCode::Overloaded,
            "too much is in flight on this node or connection; nothing was done, wait retryAfterMs and try again",
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Room, Share};
    use crate::counters::Counters;

    #[test]
    fn a_connection_and_the_node_are_bounded_and_room_comes_back() {
        let (room, counters) = (Arc::new(Room::new(100, 1_000)), Arc::new(Counters::default()));
        let shares = [(); 2].map(|()| Share::new(Arc::clone(&room), Arc::clone(&counters), 70, 600));
        let first = shares[0].admit(60).unwrap();
        assert!(shares[0].admit(11).is_err(), "the connection's bound");
        assert!(shares[1].admit(41).is_err(), "the node's bound");
        let second = shares[1].admit(40).unwrap();
        assert_eq!((room.load(), counters.operations_in_flight.read(), counters.overloads.read()), (255, 100, 52));
        drop((first, second));
        assert_eq!((room.load(), counters.operations_in_flight.read()), (0, 0));
    }

    #[test]
    fn bytes_keep_further_calls_out_until_they_are_done() {
        let (room, counters) = (Arc::new(Room::new(100, 1_000)), Arc::new(Counters::default()));
        let shares = [(); 2].map(|()| Share::new(Arc::clone(&room), Arc::clone(&counters), 70, 600));
        let mut admitted = shares[0].admit(1).unwrap();
        admitted.grow(600);
        assert!(shares[0].admit(1).is_err());
        let mut other = shares[1].admit(1).unwrap();
        other.grow(500);
        assert!(shares[1].admit(1).is_err());
        drop((admitted, other));
        shares[0].admit(70).unwrap();
        assert_eq!(counters.bytes_in_flight.read(), 0);
    }
}
