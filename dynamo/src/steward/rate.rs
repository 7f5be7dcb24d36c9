//! How much has come, and how fast lately.

use crate::tick::Tick;

/// So many seconds count as lately: long enough to be steady, short enough to show that something has stopped.
const SECONDS: usize = 8;

/// Bytes by the second.
#[derive(Clone, Debug, Default)]
pub(super) struct Rate {
    total: u64,
    /// Seconds and what came in each, by the second modulo their number.
    seconds: [(u64, u64); SECONDS],
}

impl Rate {
    /// So many more.
    pub(super) fn add(&mut self, now: Tick, bytes: u64) {
        let second = now.0 / 1_000;
        self.total += bytes;
        let slot = &mut self.seconds[(second % SECONDS as u64) as usize];
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 += bytes;
    }

    /// All that came.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// What came in a second lately, the present one left out, for it is not over.
    pub(super) fn per_second(&self, now: Tick) -> u64 {
        let second = now.0 / 1_000;
        let first = second.saturating_sub(SECONDS as u64 - 1);
        let lately = self.seconds.iter().filter(|(at, bytes)| (first..second).contains(at) && *bytes > 0);
        let (oldest, bytes) = lately.fold((second, 0), |(oldest, sum), (at, bytes)| (oldest.min(*at), sum + bytes));
        bytes / (second - oldest).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::Rate;
    use crate::tick::Tick;

    #[test]
    fn what_came_lately_is_counted_by_the_second_and_forgotten_when_nothing_comes() {
        let mut rate = Rate::default();
        for now in (0..3_000).step_by(100) {
            rate.add(Tick(now), 50);
        }
        assert_eq!(rate.per_second(Tick(3_000)), 500);
        assert_eq!(rate.per_second(Tick(60_000)), 0);
        assert_eq!(rate.total(), 1_500);
    }
}
