//! How a cluster comes to rest once everything is healed.

use std::time::{Duration, Instant};

use quorate::{Client, Level};

/// How long a cluster may take until all owners are level.
const REST_TIMEOUT: Duration = Duration::from_secs(90);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits until every owner of every key answers and none is behind. Returns how long that took.
///
/// # Panics
/// When it takes too long.
pub async fn come_to_rest(client: &Client, keys: u64) -> Duration {
    let started = Instant::now();
    loop {
        let mut open = 0;
        for key in 0..keys {
            let answer = client.get(format!("k{key}")).level(Level::All).lookup().await;
            open += u64::from(answer.map_or(true, |lookup| lookup.receipt().repaired));
        }
        if open == 0 {
            return started.elapsed();
        }
        assert!(started.elapsed() < REST_TIMEOUT, "{open} of {keys} keys are not level after {REST_TIMEOUT:?}");
        tokio::time::sleep(PAUSE).await;
    }
}
