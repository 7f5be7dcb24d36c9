//! When the coordinator wants to be woken: a heap of ticks whose entries are not taken out when their operation ends.
//! Nearly all operations have the same budget, so an entry is pushed at the bottom and stays there (no sifting), and ends
//! long before its tick; what is dead is swept out when it outnumbers what is alive, so memory follows the operations in
//! flight and not the rate times the budget.

use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

use super::call::Calls;
use crate::tick::Tick;

/// So many dead entries are not worth a sweep: a page of memory or two.
const DEAD_MIN: usize = 256;

/// Ticks, and whom to look after then.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(Tick, Calls)>>,
}

impl Deadlines {
    /// Wakes for `calls` at `due`. An operation may have several; `alive` says which still exist and `living` how many
    /// entries they can have together.
    pub(super) fn push(&mut self, due: Tick, calls: Calls, living: usize, alive: impl Fn(Calls) -> bool) {
        if self.heap.len() > 2 * living + DEAD_MIN {
            self.heap.retain(|Reverse((_, calls))| alive(*calls));
        }
        self.heap.push(Reverse((due, calls)));
    }

    /// The next tick to wake at; perhaps for an operation that has ended, which costs a look and nothing else.
    pub(super) fn next(&self) -> Option<Tick> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    /// Takes one entry whose tick has come.
    pub(super) fn pop_due(&mut self, now: Tick) -> Option<Calls> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, calls))| calls)
    }
}

#[cfg(test)]
mod tests {
    use super::{Calls, DEAD_MIN, Deadlines};
    use crate::tick::Tick;

    #[test]
    fn entries_come_in_the_order_of_their_ticks_and_not_before() {
        let mut deadlines = Deadlines::default();
        for due in [30, 10, 20] {
            deadlines.push(Tick(due), Calls::new(due, 0), 3, |_| true);
        }
        assert_eq!(deadlines.next(), Some(Tick(10)));
        assert_eq!(deadlines.pop_due(Tick(9)), None);
        assert_eq!(deadlines.pop_due(Tick(25)), Some(Calls::new(10, 0)));
        assert_eq!(deadlines.pop_due(Tick(25)), Some(Calls::new(20, 0)));
        assert_eq!(deadlines.pop_due(Tick(25)), None);
    }

    #[test]
    fn operations_that_ended_early_do_not_pile_up_until_their_deadlines() {
        let mut deadlines = Deadlines::default();
        for serial in 0..1_000_000 {
            deadlines.push(Tick(5_000 + serial), Calls::new(serial, 0), 2, |calls| calls == Calls::new(3, 0));
        }
        assert!(deadlines.heap.len() <= 2 * 2 + DEAD_MIN + 1);
        assert_eq!(deadlines.pop_due(Tick(u64::MAX)), Some(Calls::new(3, 0)), "the living entry is kept");
    }
}
