//! When a slow node is not waited for any longer (paper, section 6.1, is about the 99.9th percentile for this reason): the
//! times at which an operation looks around for someone else to ask, and how many reads may do so.
//!
//! A hedge is one request more than the operation would have cost. When everything is slow, because everything is
//! overloaded, hedges would make it slower still; so reads earn them, one for every twenty.

/// Reads that earn one hedge: extra requests are at most 5 % in the long run.
const READS_PER_HEDGE: u32 = 20;

/// Hedges that may be saved up: what two full batches need when a node stops and no breaker knows it yet.
const SAVED_MAX: u32 = 512;

/// What reads have earned and not spent.
#[derive(Clone, Copy, Debug)]
pub(super) struct HedgeBudget {
    /// In reads, of which [`READS_PER_HEDGE`] make a hedge.
    saved: u32,
}

impl HedgeBudget {
    /// Nothing has been spent.
    pub(super) fn new() -> Self {
        Self { saved: SAVED_MAX * READS_PER_HEDGE }
    }

    /// A read begins.
    pub(super) fn earn(&mut self) {
        self.saved = (self.saved + 1).min(SAVED_MAX * READS_PER_HEDGE);
    }

    /// Whether one more request may be made; it is taken as made.
    pub(super) fn spend(&mut self) -> bool {
        let left = self.saved.checked_sub(READS_PER_HEDGE);
        self.saved = left.unwrap_or(self.saved);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::{HedgeBudget, READS_PER_HEDGE, SAVED_MAX};

    #[test]
    fn hedges_are_five_percent_of_the_reads_and_what_was_saved_up() {
        let mut budget = HedgeBudget::new();
        let mut hedges = 0;
        for _ in 0..100_000 {
            budget.earn();
            hedges += u32::from(budget.spend());
        }
        let earned = 100_000 / READS_PER_HEDGE;
        assert!((earned..=earned + SAVED_MAX).contains(&hedges), "{hedges}");
    }
}
