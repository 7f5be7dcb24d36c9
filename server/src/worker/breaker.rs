//! The circuit breaker of one peer: a purely local notion of failure (paper, section 4.8.3), made of this worker's own
//! traffic. It says when to stop trusting a connection; who reconnects, and what waits meanwhile, is the link's business.
//!
//! It opens after three timeouts in a row, or when half of at least ten calls in ten seconds timed out. A broken or refused
//! connection opens it at once. While it is open, one attempt at a time (connect and introduce) probes the peer, ever more
//! rarely and with jitter, so that a peer that comes back is not met by everyone in the same instant.

use std::time::Duration;

use dynamo::tick::Tick;

/// Timeouts in a row after which nothing more is sent: one may be a hiccup, three are a pattern.
const TIMEOUTS_IN_A_ROW: u32 = 3;

/// Fewest calls of a window that say anything about a share.
const CALLS_MIN: u32 = 10;

/// How long calls count towards the share of timeouts.
const WINDOW_MS: u64 = 10_000;

/// The first wait before a probe: longer than a process takes to restart its listener, short against a client's budget.
const WAIT_MIN_MS: u64 = 200;

/// The longest wait when connections are refused: asking costs one packet, and the peer may be back any moment.
const WAIT_REFUSED_MAX_MS: u64 = 800;

/// The longest wait when the peer does not answer at all: each probe occupies a connection until it times out.
const WAIT_SILENT_MAX_MS: u64 = 5_000;

/// Why the last connection or attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nobody listened, or the connection was closed or reset: there is a host, and it answers.
    Refused,
    /// No answer came.
    Silent,
}

/// What is known of one peer's health.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    timeouts_in_a_row: u32,
    window_began: Tick,
    calls: u32,
    timeouts: u32,
    failed_attempts: u32,
}

impl Breaker {
    /// A call was answered.
    pub(crate) fn answered(&mut self, now: Tick) {
        self.count(now);
        self.timeouts_in_a_row = 0;
    }

    /// A call was not answered in time. Returns whether the connection is to be given up.
    pub(crate) fn timed_out(&mut self, now: Tick) -> bool {
        self.count(now);
        self.timeouts += 1;
        self.timeouts_in_a_row += 1;
        self.timeouts_in_a_row >= TIMEOUTS_IN_A_ROW || (self.calls >= CALLS_MIN && self.timeouts * 2 >= self.calls)
    }

    /// Whether the last call of several timed out: not given up, but watched.
    pub(crate) fn is_suspect(&self) -> bool {
        self.timeouts_in_a_row > 0
    }

    /// The peer introduced itself: it closes.
    pub(crate) fn connected(&mut self, now: Tick) {
        *self = Self { window_began: now, ..Self::default() };
    }

    /// An attempt failed or a connection ended. How long to wait before the next attempt; `jitter` is any random number.
    pub(crate) fn wait(&mut self, trouble: Trouble, jitter: u64) -> Duration {
        let longest = match trouble {
            Trouble::Refused => WAIT_REFUSED_MAX_MS,
            Trouble::Silent => WAIT_SILENT_MAX_MS,
        };
        let wait_ms = (WAIT_MIN_MS << self.failed_attempts.min(6)).min(longest);
        self.failed_attempts += 1;
        // Between half and all of it: spread out, yet never at once.
        Duration::from_millis(wait_ms / 2 + jitter % (wait_ms / 2 + 1))
    }

    fn count(&mut self, now: Tick) {
        if now.since(self.window_began) > WINDOW_MS {
            (self.window_began, self.calls, self.timeouts) = (now, 0, 0);
        }
        self.calls += 1;
    }
}

#[cfg(test)]
mod tests {
    use dynamo::tick::Tick;

    use super::{Breaker, Trouble};

    #[test]
    fn three_timeouts_in_a_row_open_it_and_an_answer_between_starts_over() {
        let mut breaker = Breaker::default();
        assert!(!breaker.timed_out(Tick(1)));
        assert!(!breaker.timed_out(Tick(2)));
        assert!(breaker.is_suspect());
        breaker.answered(Tick(3));
        assert!(!breaker.is_suspect());
        assert!(!breaker.timed_out(Tick(4)));
        assert!(!breaker.timed_out(Tick(5)));
        assert!(breaker.timed_out(Tick(6)));
    }

    #[test]
    fn half_of_ten_calls_open_it_but_not_those_of_an_older_window() {
        let mut breaker = Breaker::default();
        for at in 0..4 {
            breaker.answered(Tick(at));
            assert!(!breaker.timed_out(Tick(at)));
        }
        breaker.answered(Tick(9));
        assert!(breaker.timed_out(Tick(10)), "5 of 10");
        let mut breaker = Breaker::default();
        for at in 0..4 {
            breaker.answered(Tick(at));
            assert!(!breaker.timed_out(Tick(at)));
        }
        breaker.answered(Tick(20_000));
        assert!(!breaker.timed_out(Tick(20_001)), "1 of 2 in this window");
    }

    #[test]
    fn a_refused_peer_is_tried_again_within_a_second_and_a_silent_one_within_five() {
        for (trouble, longest) in [(Trouble::Refused, 800), (Trouble::Silent, 5_000)] {
            let mut breaker = Breaker::default();
            let waits: Vec<_> = (0..20_u64).map(|at| breaker.wait(trouble, at * 7_919).as_millis()).collect();
            assert!(waits[0] >= 100 && waits[0] <= 200, "{waits:?}");
            assert!(waits.iter().all(|&wait| wait <= longest), "{waits:?}");
            assert!(waits[10..].iter().all(|&wait| wait >= longest / 2), "{waits:?}");
            breaker.connected(Tick(0));
            assert!(breaker.wait(trouble, 0).as_millis() <= 200, "a success forgets the failures");
        }
    }
}
