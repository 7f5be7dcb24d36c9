//! How well this node itself is: the local health multiplier of Lifeguard (arXiv 1707.00788). A node that is slow misses
//! acknowledgements that did arrive, and would accuse those that sent them. So what speaks against itself stretches its
//! patience, and each probe that goes well shortens it again.

use std::time::Duration;

/// The worst score. Its patience is then nine times the usual, as in the paper.
const SCORE_MAX: u32 = 8;

/// How late the node's own thread may wake before that counts: more than a scheduler needs on a machine that is well.
pub(super) const LAG_MAX: Duration = Duration::from_millis(100);

/// What is known of the node's own health.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    score: u32,
}

impl Health {
    /// By how much to stretch what it waits for; 1 when all is well.
    pub(super) fn multiplier(self) -> u32 {
        1 + self.score
    }

    /// Its thread woke so much later than it wanted to, in units of a probe's patience.
    pub(super) fn lagged(&mut self, lag: Duration, patience: Duration) {
        let periods = lag.as_millis() / patience.as_millis().max(1);
        self.worse(1 + u32::try_from(periods).unwrap_or(SCORE_MAX));
    }

    /// A probe got no answer, and nothing else came from anybody either: it may well be deaf.
    pub(super) fn deaf(&mut self) {
        self.worse(1);
    }

    /// Somebody says that it is suspect or down: its answers came late.
    pub(super) fn accused(&mut self) {
        self.worse(1);
    }

    /// A probe was answered.
    pub(super) fn well(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    fn worse(&mut self, by: u32) {
        self.score = self.score.saturating_add(by).min(SCORE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Health;

    #[test]
    fn what_speaks_against_itself_makes_it_patient_and_answers_make_it_quick_again() {
        let mut health = Health::default();
        let patience = Duration::from_millis(500);
        assert_eq!(health.multiplier(), 1);
        health.deaf();
        health.accused();
        health.lagged(Duration::from_millis(200), patience);
        assert_eq!(health.multiplier(), 4);
        health.lagged(Duration::from_secs(3_600), patience);
        assert_eq!(health.multiplier(), 9, "bounded");
        (0..20).for_each(|_| health.well());
        assert_eq!(health.multiplier(), 1);
    }
}
