//! The circuit breaker of one peer: a purely local notion of failure (paper, section 4.8.3), made of this worker's own
//! traffic. It says when to send nothing more for a while and when to try again; who keeps the connection, and what waits
//! meanwhile, is the link's business.
//!
//! It opens for two reasons. *Slow*: three calls in a row are overdue, or half of at least ten in ten seconds; the peer rests,
//! then gets one trial. *Silent*: a call and a ping that was sent because of it have no answer, and nothing else came either;
//! that takes a fraction of a second whatever the disk does, because a ping needs no disk, and the first sign of life closes
//! it again. The connection stands in both cases, so late answers still count; it is given up only after
//! [`SILENCE_MAX`], for then the way back may be broken and a new connection finds a better one.
//!
//! While there is no connection, one attempt at a time (connect and introduce) probes the peer, ever more rarely and with
//! jitter, so that a peer that comes back is not met by everyone in the same instant.

use std::time::Duration;

use dynamo::tick::Tick;

use super::patience::Patience;

/// Overdue calls after which nothing more is sent: one may be a hiccup, three are a pattern.
const TIMEOUTS_IN_A_ROW: u32 = 3;

/// Fewest calls of a window that say anything about a share.
const CALLS_MIN: u32 = 10;

/// How long calls count towards the share of those overdue.
const WINDOW_MS: u64 = 10_000;

/// How long an overdue call makes a peer suspect when no other call tells more.
const SUSPICION_MS: u64 = 3_000;

/// How long a silent peer keeps its connection: several retransmissions of a lossy network.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How long a slow peer rests before it is tried again: as long as a long flush of a disk.
const REST_MIN_MS: u64 = 500;

/// The longest rest: the trial costs one client at most a hedge.
const REST_MAX_MS: u64 = 4_000;

/// The first wait before an attempt to connect: longer than a process takes to restart its listener, short against a client's
/// budget.
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

/// Whether operations may be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// They may.
    #[default]
    Closed,
    /// Not before it has rested: it answers, but too late too often.
    Slow {
        /// When it gets its trial.
        until: Tick,
    },
    /// Not before it is heard again.
    Silent,
}

/// What is known of one peer's health.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: State,
    timeouts_in_a_row: u32,
    window_began: Tick,
    calls: u32,
    timeouts: u32,
    rests: u32,
    failed_attempts: u32,
    last_heard: Tick,
    last_overdue: Tick,
    round_trips: Patience,
    pings: Patience,
}

impl Breaker {
    /// What it says now.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// How long a call may take before it counts as overdue.
    pub(crate) fn call_patience(&self) -> Duration {
        self.round_trips.for_call()
    }

    /// How long a ping may take, and how long a call may take before a ping asks whether anybody is there.
    pub(crate) fn ping_patience(&self) -> Duration {
        self.pings.for_ping()
    }

    /// Whether nothing has come from the peer since `began`.
    pub(crate) fn is_quiet_since(&self, began: Tick) -> bool {
        self.last_heard <= began
    }

    /// Not given up, but watched.
    pub(crate) fn is_suspect(&self, now: Tick) -> bool {
        let is_recent = now.since(self.last_overdue) <= SUSPICION_MS;
        (self.timeouts_in_a_row > 0 && is_recent) || self.state != State::Closed
    }

    /// A call was answered, in time or late.
    pub(crate) fn answered(&mut self, now: Tick, round_trip: Duration, is_late: bool) {
        self.heard(now);
        self.round_trips.observe(round_trip);
        // A late one was counted when it was overdue.
        if !is_late {
            self.count(now);
            self.timeouts_in_a_row = 0;
            self.rests = 0;
        }
    }

    /// A ping was answered: somebody is there, which says nothing about the disk.
    pub(crate) fn ponged(&mut self, now: Tick, round_trip: Duration) {
        self.heard(now);
        self.pings.observe(round_trip);
    }

    /// Something came from the peer.
    pub(crate) fn heard(&mut self, now: Tick) {
        self.last_heard = self.last_heard.max(now);
        if self.state == State::Silent {
            // It was not slow, it was not there: what was overdue says nothing about how it answers now.
            self.state = State::Closed;
            self.timeouts_in_a_row = 0;
            (self.window_began, self.calls, self.timeouts) = (now, 0, 0);
        }
    }

    /// A call was not answered in time.
    pub(crate) fn overdue(&mut self, now: Tick) {
        self.count(now);
        self.last_overdue = now;
        self.timeouts += 1;
        self.timeouts_in_a_row += 1;
        let is_half = self.calls >= CALLS_MIN && self.timeouts * 2 >= self.calls;
        if self.state == State::Closed && (self.timeouts_in_a_row >= TIMEOUTS_IN_A_ROW || is_half) {
            let rest_ms = (REST_MIN_MS << self.rests.min(6)).min(REST_MAX_MS);
            self.rests += 1;
            self.state = State::Slow { until: now.after(rest_ms) };
        }
    }

    /// Neither a call nor a ping was answered, and nothing else came.
    pub(crate) fn silent(&mut self) {
        self.state = State::Silent;
    }

    /// The rest of a slow peer is over: one more overdue call, and it rests again, longer.
    pub(crate) fn rested(&mut self, now: Tick) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.timeouts_in_a_row = TIMEOUTS_IN_A_ROW - 1;
            (self.window_began, self.calls, self.timeouts) = (now, 0, 0);
        }
    }

    /// The peer introduced itself: it closes.
    pub(crate) fn connected(&mut self, now: Tick) {
        // What its answers took on the last connection is the best guess for this one.
        let (round_trips, pings) = (self.round_trips, self.pings);
        *self = Self { window_began: now, last_heard: now, round_trips, pings, ..Self::default() };
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
    use std::time::Duration;

    use dynamo::tick::Tick;

    use super::{Breaker, State, Trouble};

    const QUICK: Duration = Duration::from_millis(1);

    fn is_open(breaker: &Breaker) -> bool {
        breaker.state() != State::Closed
    }

    #[test]
    fn three_overdue_calls_in_a_row_open_it_and_an_answer_between_starts_over() {
        let mut breaker = Breaker::default();
        breaker.overdue(Tick(1));
        breaker.overdue(Tick(2));
        assert!(breaker.is_suspect(Tick(3)) && !breaker.is_suspect(Tick(9_000)) && !is_open(&breaker));
        breaker.answered(Tick(3), QUICK, false);
        assert!(!breaker.is_suspect(Tick(3)));
        breaker.overdue(Tick(4));
        breaker.overdue(Tick(5));
        assert!(!is_open(&breaker));
        breaker.overdue(Tick(6));
        assert_eq!(breaker.state(), State::Slow { until: Tick(506) });
    }

    #[test]
    fn half_of_ten_calls_open_it_but_not_those_of_an_older_window() {
        let half = |last: u64| {
            let mut breaker = Breaker::default();
            for at in 0..4 {
                breaker.answered(Tick(at), QUICK, false);
                breaker.overdue(Tick(at));
            }
            breaker.answered(Tick(last - 1), QUICK, false);
            breaker.overdue(Tick(last));
            is_open(&breaker)
        };
        assert!(half(10), "5 of 10");
        assert!(!half(20_001), "1 of 2 in this window");
    }

    #[test]
    fn a_slow_peer_rests_and_has_one_trial_which_late_answers_and_pings_do_not_replace() {
        let mut breaker = Breaker::default();
        (0..3).for_each(|_| breaker.overdue(Tick(1_000)));
        breaker.answered(Tick(1_100), Duration::from_secs(1), true);
        breaker.ponged(Tick(1_100), QUICK);
        assert_eq!(breaker.state(), State::Slow { until: Tick(1_500) });
        breaker.rested(Tick(1_500));
        assert!(!is_open(&breaker));
        breaker.overdue(Tick(2_000));
        assert_eq!(breaker.state(), State::Slow { until: Tick(3_000) }, "twice as long");
        breaker.rested(Tick(3_000));
        breaker.answered(Tick(3_001), QUICK, false);
        (0..3).for_each(|_| breaker.overdue(Tick(4_000)));
        assert_eq!(breaker.state(), State::Slow { until: Tick(4_500) }, "an answer in time forgives");
    }

    #[test]
    fn any_sign_of_life_closes_it_for_a_peer_that_was_silent() {
        for sign in [
            |breaker: &mut Breaker| breaker.ponged(Tick(9), QUICK),
            |breaker: &mut Breaker| {
                breaker.answered(Tick(9), QUICK, true);
            },
        ] {
            let mut breaker = Breaker::default();
            assert!(breaker.is_quiet_since(Tick(5)));
            breaker.overdue(Tick(6));
            breaker.silent();
            assert!(is_open(&breaker) && breaker.is_suspect(Tick(8)));
            sign(&mut breaker);
            assert!(!is_open(&breaker) && !breaker.is_suspect(Tick(9)) && !breaker.is_quiet_since(Tick(5)));
        }
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
