//! What waits to be sent to one peer. Operations gather here while calls are in flight and leave together, so that a batch
//! that arrived together travels together and a busy link carries few, large calls. Bounded by count and by bytes.

use std::collections::VecDeque;

use dynamo::tick::Tick;
use schema::convert::{BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX};

/// Calls of one kind in flight to one peer from one worker: enough to keep the peer busy while an answer travels, few enough
/// that operations gather into large batches behind them.
const CALLS_IN_FLIGHT_MAX: usize = 4;

/// Most operations that wait for one peer: with four calls of 1,024 ahead of them, what a peer does in about half a second.
pub(crate) const WAITING_MAX: usize = 16_384;

/// Most bytes that wait for one peer, unless a single operation is larger.
pub(crate) const WAITING_BYTES_MAX: usize = 32 << 20;

/// Repairs may fill only this share of it: nobody waits for them, and a later read finds the difference again.
const REPAIRS_SHARE: usize = 4;

/// Whether somebody waits for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// A client's operation depends on it.
    Awaited,
    /// Best effort.
    Repair,
}

/// Operations of one kind for one peer.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    waiting: VecDeque<Waiting<T>>,
    bytes: usize,
    in_flight: usize,
}

/// An operation that waits.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    /// What.
    pub(crate) item: T,
    /// What it counts towards the bounds of a call.
    pub(crate) bytes: usize,
    /// After this nobody wants it any more.
    pub(crate) deadline: Tick,
}

/// What leaves in one call, and what expired while it waited.
#[derive(Debug)]
pub(crate) struct Departure<T> {
    /// The call's operations, at least one.
    pub(crate) items: Vec<T>,
    /// When the last of them ends.
    pub(crate) deadline: Tick,
}

impl<T> Outbox<T> {
    pub(crate) fn new() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, in_flight: 0 }
    }

    /// Lets an operation wait, or gives it back because there is no room.
    pub(crate) fn push(&mut self, waiting: Waiting<T>, urgency: Urgency) -> Result<(), T> {
        let share = match urgency {
            Urgency::Awaited => 1,
            Urgency::Repair => REPAIRS_SHARE,
        };
        let is_full = self.waiting.len() >= WAITING_MAX / share
            || (self.bytes + waiting.bytes > WAITING_BYTES_MAX / share && !self.waiting.is_empty());
        if is_full {
            return Err(waiting.item);
        }
        self.bytes += waiting.bytes;
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// The next call, if there is one to make and room in flight. What expired while it waited goes to `expired`. To be
    /// followed by [`Outbox::arrived`] when the call has ended, however it did.
    pub(crate) fn depart(&mut self, now: Tick, expired: &mut Vec<T>) -> Option<Departure<T>> {
        if self.in_flight >= CALLS_IN_FLIGHT_MAX {
            return None;
        }
        let mut departure = Departure { items: Vec::new(), deadline: now };
        let mut bytes = 0;
        while let Some(first) = self.waiting.front() {
            let is_full = departure.items.len() >= BATCH_OPERATIONS_MAX
                || (bytes + first.bytes > BATCH_BYTES_MAX && !departure.items.is_empty());
            if is_full {
                break;
            }
            let Some(Waiting { item, bytes: cost, deadline }) = self.waiting.pop_front() else { break };
            self.bytes -= cost;
            if deadline <= now {
                expired.push(item);
                continue;
            }
            bytes += cost;
            departure.deadline = departure.deadline.max(deadline);
            departure.items.push(item);
        }
        if departure.items.is_empty() {
            return None;
        }
        self.in_flight += 1;
        Some(departure)
    }

    /// A call has ended.
    pub(crate) fn arrived(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Takes out everything that waits: the peer can't be reached, and none of it was sent.
    pub(crate) fn give_up(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting).into_iter().map(|waiting| waiting.item)
    }
}

#[cfg(test)]
mod tests {
    use dynamo::tick::Tick;

    use super::{Outbox, Urgency, WAITING_MAX, Waiting};

    fn waiting(item: u32, bytes: usize, deadline: u64) -> Waiting<u32> {
        Waiting { item, bytes, deadline: Tick(deadline) }
    }

    #[test]
    fn the_first_leaves_at_once_and_the_rest_gathers_behind_four_calls() {
        let mut outbox = Outbox::new();
        let mut expired = Vec::new();
        for item in 0..4 {
            outbox.push(waiting(item, 10, 100), Urgency::Awaited).unwrap();
            assert_eq!(outbox.depart(Tick(1), &mut expired).unwrap().items, [item]);
        }
        for item in 4..1_100 {
            outbox.push(waiting(item, 10, 100 + u64::from(item)), Urgency::Awaited).unwrap();
        }
        assert!(outbox.depart(Tick(1), &mut expired).is_none(), "four are in flight");
        outbox.arrived();
        let departure = outbox.depart(Tick(1), &mut expired).unwrap();
        assert_eq!((departure.items.len(), departure.deadline), (1_024, Tick(100 + 1_027)));
        assert!(expired.is_empty());
    }

    #[test]
    fn a_call_is_bounded_in_bytes_but_one_large_operation_travels_alone() {
        let mut outbox = Outbox::new();
        let mut expired = Vec::new();
        for (item, bytes) in [(1, 9 << 20), (2, 3 << 20), (3, 1 << 20), (4, 1)] {
            outbox.push(waiting(item, bytes, 100), Urgency::Awaited).unwrap();
        }
        let mut next = || outbox.depart(Tick(1), &mut expired).map(|departure| departure.items);
        assert_eq!([next(), next(), next()], [Some(vec![1]), Some(vec![2, 3]), Some(vec![4])]);
    }

    #[test]
    fn what_expired_is_not_sent() {
        let mut outbox = Outbox::new();
        let mut expired = Vec::new();
        outbox.push(waiting(1, 1, 5), Urgency::Awaited).unwrap();
        outbox.push(waiting(2, 1, 50), Urgency::Awaited).unwrap();
        assert_eq!(outbox.depart(Tick(10), &mut expired).unwrap().items, [2]);
        assert_eq!(expired, [1]);
    }

    #[test]
    fn repairs_give_way_when_it_fills_up() {
        let mut outbox = Outbox::new();
        for item in 0..WAITING_MAX as u32 / 4 {
            outbox.push(waiting(item, 1, 5), Urgency::Repair).unwrap();
        }
        assert_eq!(outbox.push(waiting(7, 1, 5), Urgency::Repair), Err(7));
        outbox.push(waiting(8, 1, 5), Urgency::Awaited).unwrap();
        assert_eq!(outbox.give_up().count(), WAITING_MAX / 4 + 1);
    }
}
