//! One operation of a bulk command, repeated until it is decided: a load of an hour shall survive a node that restarts.
//!
//! The client has its own retries, within one operation's time. These here begin when that was not enough, and go on for
//! as long as the person at the terminal said.

use std::time::{Duration, Instant};

use super::pipeline::{Stop, Verdict};
use crate::cli::{
    client::Failure,
    exit::{CommandError, Exit},
};

/// The first pause; doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(50);

/// The longest pause: soon after a node is back, the load goes on.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long a bulk command tries again before it gives up, and how often it has.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
    pause: Duration,
}

impl Patience {
    pub(super) fn new(patience: Duration) -> Self {
        Self { until: Instant::now() + patience, pause: PAUSE_FIRST }
    }

    /// What to do after a failure: `Ok` to try again now, otherwise the record's end.
    pub(super) async fn after(&mut self, failure: Failure, stop: &Stop) -> Result<(), Verdict> {
        if !failure.retryable {
            return Err(Verdict::Refused(failure.to_string()));
        }
        if Instant::now() + self.pause >= self.until {
            return Err(Verdict::Stop(failure.into()));
        }
        let pause = self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        if stop.sleep(pause).await {
            Ok(())
        } else {
            Err(Verdict::Stop(CommandError::new(Exit::Interrupted, "interrupted")))
        }
    }
}
