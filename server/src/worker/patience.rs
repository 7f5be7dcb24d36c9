//! How long to wait for a peer: a smoothed round trip and its usual deviation, as TCP estimates its retransmission timeout
//! (RFC 6298), between bounds. And the waiting itself, which does not blame the peer for this thread's own pauses.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::time::{Instant, timeout_at};

/// Shortest and longest wait for the answer to a call. A replica's answer waits for a flush of its disk, which takes
/// milliseconds as a rule and now and then most of a second under load; a client has two seconds by default.
const CALL_MIN: Duration = Duration::from_millis(1_000);
const CALL_MAX: Duration = Duration::from_millis(2_000);

/// Shortest and longest wait for the answer to a ping, which needs no disk, only a thread that runs: longer than a scheduler
/// on a busy machine lets it wait, and a peer across an ocean is allowed its way.
const PING_MIN: Duration = Duration::from_millis(150);
const PING_MAX: Duration = Duration::from_millis(1_000);

/// Deviations above the mean that are still usual.
const DEVIATIONS: u32 = 4;

/// How late this thread may wake before a missing answer says more about itself than about the peer.
const LAG_MAX: Duration = Duration::from_millis(40);

/// The round trips of one kind to one peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    smoothed: Duration,
    deviation: Duration,
}

impl Patience {
    /// Notes a round trip.
    pub(crate) fn observe(&mut self, round_trip: Duration) {
        if self.smoothed.is_zero() {
            (self.smoothed, self.deviation) = (round_trip, round_trip / 2);
            return;
        }
        let difference = self.smoothed.abs_diff(round_trip);
        self.deviation = self.deviation - self.deviation / 4 + difference / 4;
        self.smoothed = self.smoothed - self.smoothed / 8 + round_trip / 8;
    }

    /// How long a call may take.
    pub(crate) fn for_call(&self) -> Duration {
        self.usual().clamp(CALL_MIN, CALL_MAX)
    }

    /// How long a ping may take.
    pub(crate) fn for_ping(&self) -> Duration {
        self.usual().clamp(PING_MIN, PING_MAX)
    }

    fn usual(&self) -> Duration {
        self.smoothed + self.deviation * DEVIATIONS
    }
}

/// Waits for an answer. When this thread itself was held up meanwhile, the answer may lie unread in its socket: it waits once
/// more before it says that there is none.
pub(crate) async fn answer_within<F: Future>(patience: Duration, mut answer: Pin<&mut F>) -> Option<F::Output> {
    for _ in 0..2 {
        let due = Instant::now() + patience;
        if let Ok(answer) = timeout_at(due, answer.as_mut()).await {
            return Some(answer);
        }
        if due.elapsed() < LAG_MAX {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use tokio::time::sleep;

    use super::{Patience, answer_within};

    #[test]
    fn it_follows_the_round_trips_between_its_bounds() {
        let mut patience = Patience::default();
        assert_eq!((patience.for_call().as_millis(), patience.for_ping().as_millis()), (1_000, 150));
        (0..100).for_each(|_| patience.observe(Duration::from_millis(1)));
        assert_eq!((patience.for_call().as_millis(), patience.for_ping().as_millis()), (1_000, 150));
        (0..100).for_each(|_| patience.observe(Duration::from_millis(300)));
        let ping = patience.for_ping().as_millis();
        assert!((300..400).contains(&ping), "an ocean is between them: {ping}");
        patience.observe(Duration::from_millis(900));
        assert!(patience.for_ping() > Duration::from_millis(800), "one surprise makes it careful");
        (0..100).for_each(|_| patience.observe(Duration::from_secs(9)));
        assert_eq!((patience.for_call().as_millis(), patience.for_ping().as_millis()), (2_000, 1_000));
    }

    #[test]
    fn a_thread_that_was_held_up_waits_once_more() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let held_up = async {
                sleep(Duration::from_millis(10)).await;
                std::thread::sleep(Duration::from_millis(200));
                sleep(Duration::from_millis(10)).await;
            };
            let mut held_up = pin!(held_up);
            assert!(answer_within(Duration::from_millis(100), held_up.as_mut()).await.is_some());
            let mut never = pin!(std::future::pending::<()>());
            assert!(answer_within(Duration::from_millis(20), never.as_mut()).await.is_none());
        });
    }
}
