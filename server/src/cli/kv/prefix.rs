//! The contiguous prefix of things that are done, while many are under way and end in any order.
//!
//! A load may only resume from a place before which *everything* is done. Work is numbered as it starts; the prefix moves
//! when the oldest ends. The window between the oldest unfinished and the newest is bounded by its user, who asks
//! [`Prefix::is_full`] before starting more.

use std::collections::VecDeque;

/// Most pieces of work between the oldest unfinished one and the newest: one slow record shall not stop the others, and
/// what a kill repeats shall stay small (each costs a few dozen bytes here).
const WINDOW_MAX: usize = 65_536;

/// Which pieces of work are done.
#[derive(Debug)]
pub(super) struct Prefix<P> {
    /// The number of the first entry of `window`.
    first: u64,
    /// Where each piece ends, and whether it is done; never begins with a done one.
    window: VecDeque<(P, bool)>,
    done: P,
}

impl<P: Copy> Prefix<P> {
    /// Everything before `start` is done.
    pub(super) fn new(start: P) -> Self {
        Self { first: 0, window: VecDeque::new(), done: start }
    }

    /// A piece of work starts that ends at `end`, the next in order. Returns its number.
    pub(super) fn start(&mut self, end: P) -> u64 {
        self.window.push_back((end, false));
        self.first + self.window.len() as u64 - 1
    }

    /// A piece of work is done.
    pub(super) fn finish(&mut self, number: u64) {
        let at = usize::try_from(number - self.first).expect("the window is bounded");
        self.window[at].1 = true;
        while let Some((end, true)) = self.window.front() {
            self.done = *end;
            self.window.pop_front();
            self.first += 1;
        }
    }

    /// The end of the last piece before which, and including which, all are done.
    pub(super) fn done(&self) -> P {
        self.done
    }

    /// Whether nothing more may start until the oldest is done.
    pub(super) fn is_full(&self) -> bool {
        self.window.len() >= WINDOW_MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::any, prop_assert_eq, proptest};

    use super::{Prefix, WINDOW_MAX};

    #[test]
    fn the_prefix_waits_for_the_oldest() {
        let mut prefix = Prefix::new(0);
        let numbers = [10, 20, 30].map(|end| prefix.start(end));
        prefix.finish(numbers[1]);
        prefix.finish(numbers[2]);
        assert_eq!(prefix.done(), 0);
        prefix.finish(numbers[0]);
        assert_eq!(prefix.done(), 30);
    }

    #[test]
    fn the_window_is_bounded() {
        let mut prefix = Prefix::new(0);
        let oldest = prefix.start(0);
        for end in 1..WINDOW_MAX {
            let number = prefix.start(end);
            prefix.finish(number);
        }
        assert!(prefix.is_full());
        prefix.finish(oldest);
        assert!(!prefix.is_full());
    }

    proptest! {
        #[test]
        fn the_prefix_is_what_a_set_of_finished_numbers_says(choices in vec(any::<(bool, usize)>(), 0..200)) {
            let mut prefix = Prefix::new(0);
            let mut running = Vec::new();
            let mut started = 0;
            for (start, which) in choices {
                if start || running.is_empty() {
                    started += 1;
                    running.push((prefix.start(started), started));
                } else {
                    let (number, _) = running.swap_remove(which % running.len());
                    prefix.finish(number);
                }
                let oldest = running.iter().map(|(_, end)| *end).min().unwrap_or(started + 1);
                prop_assert_eq!(prefix.done(), oldest - 1);
            }
        }
    }
}
