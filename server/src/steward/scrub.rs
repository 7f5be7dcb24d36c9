//! The scrub: every record is verified once in a while, because what is read by nobody is damaged in silence (paper, section
//! 4.7, knows only of replicas that differ). What can't be verified is rebuilt; where records are missing, the store has
//! taken their part of it out of service, and the others go on.
//!
//! Of its own accord it goes just as fast as its period asks, a step now and then; on request as fast as its share allows.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use dynamo::{ident::StoreKey, steward::Input, tick::Tick};
use tokio::time::sleep;

use super::Driver;

/// The longest a single step waits: a node with few records still looks at them within its period.
const PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// The longest a step of a requested scrub waits for its share.
const PAUSE_URGENT_MAX: Duration = Duration::from_millis(500);

/// How often to look whether unreadable records have been rebuilt.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How far the scrub is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ScrubProgress {
    /// Whether one runs that was asked for.
    pub(super) is_running: bool,
    /// Partitions of this run, or of the last one, that were verified.
    pub(super) done: u64,
    /// Partitions there are.
    pub(super) total: u64,
    /// Partitions since the start that could not be read to their end.
    pub(super) failed: u64,
    /// When the last run ended.
    pub(super) ended_at: Option<Tick>,
}

/// How fast a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speed {
    /// So that it takes about so long.
    Within(Duration),
    /// As fast as its share allows.
    Full,
}

/// Scrubs in turn and on request, for ever.
pub(super) async fn keep(driver: Rc<Driver>) {
    let hours = u64::from(driver.node.config.background.scrub_every_hours);
    let period = (hours > 0).then(|| Duration::from_secs(3_600 * hours));
    let (mut is_wanted, mut forgotten) = (false, 0);
    loop {
        let speed = match (is_wanted, period) {
            (true, _) => Speed::Full,
            (false, Some(period)) => Speed::Within(period),
            (false, None) => {
                driver.scrub_wanted.notified().await;
                Speed::Full
            }
        };
        // A request during a slow run begins a fast one, from the beginning: whoever asked wants to know of all records.
        is_wanted = !run(&driver, speed).await;
        let now_forgotten = driver.node.steward.seen().status.unreadable_forgotten;
        if now_forgotten > forgotten {
            // More was found unreadable than is remembered: the rest is found again when there is room.
            forgotten = now_forgotten;
            while driver.node.steward.seen().status.unreadable > 0 {
                sleep(LOOK_EVERY).await;
            }
            is_wanted = true;
        }
    }
}

/// Verifies every record; `false` if another run was asked for meanwhile.
async fn run(driver: &Rc<Driver>, speed: Speed) -> bool {
    let node = &driver.node;
    let partitions: Vec<u32> = node.known().owned_partitions().collect();
    let total = partitions.len() as u64;
    let show = |change: &dyn Fn(&mut ScrubProgress)| node.steward.show(|seen| change(&mut seen.scrub));
    // One that takes a week is no news: it is shown when it has ended.
    let is_shown = speed == Speed::Full;
    if is_shown {
        show(&|scrub| (scrub.is_running, scrub.done, scrub.total) = (true, 0, total));
    }
    let mut is_undisturbed = true;
    for partition in partitions {
        is_undisturbed &= verify(driver, partition, speed).await;
        if !is_undisturbed && speed != Speed::Full {
            return false;
        }
        if is_shown {
            show(&|scrub| scrub.done += 1);
        }
    }
    if let Speed::Within(period) = speed
        && node.store.status().records().unwrap_or_default() == 0
    {
        // Nothing took any time.
        is_undisturbed &= !pause(driver, period.min(PAUSE_MAX)).await;
    }
    verify_hints(driver).await;
    let now = node.now();
    show(&|scrub| *scrub = ScrubProgress { is_running: false, done: total, total, ended_at: Some(now), ..*scrub });
    is_undisturbed
}

/// Verifies what is kept for others, on a thread that may wait for the disk. There is something only while nodes are away, and
/// what can't be verified is set aside by it; the targets' other owners make it good when they exchange.
async fn verify_hints(driver: &Rc<Driver>) {
    let node = Arc::clone(&driver.node);
    match tokio::task::spawn_blocking(move || node.store.hints().verify()).await {
        Ok(report) if report.is_sound() => {}
        Ok(report) => {
            tracing::warn!(?report, "hints can't be verified, or are missing");
            driver.node.steward.show(|seen| seen.scrub.failed += 1);
        }
        Err(error) => tracing::error!(%error, "verifying hints ended in a panic"),
    }
}

/// Verifies the records of one partition; `false` if another run was asked for meanwhile.
async fn verify(driver: &Rc<Driver>, partition: u32, speed: Speed) -> bool {
    let node = &driver.node;
    let bits = node.layout().partition_bits;
    let mut cursor: Option<StoreKey> = None;
    let mut is_undisturbed = true;
    loop {
        let began = Instant::now();
        let step = match node.store.scrub_partition(partition, bits, cursor) {
            Ok(step) => step,
            Err(error) => {
                tracing::warn!(partition, %error, "a partition could not be verified to its end");
                node.steward.show(|seen| seen.scrub.failed += 1);
                driver.tell([Input::Missing { partition }]);
                return is_undisturbed;
            }
        };
        let took = began.elapsed();
        if !step.unreadable.is_empty() {
            tracing::warn!(partition, records = step.unreadable.len(), "records can't be verified; they are rebuilt");
        }
        let mut inputs: Vec<Input> =
            step.unreadable.iter().map(|store_key| Input::Corrupt { store_key: *store_key }).collect();
        if step.is_missing {
            tracing::warn!(
                partition,
                "records are missing: this part of the store is read-only from now on, and the node should be replaced"
            );
            inputs.push(Input::Missing { partition });
        }
        driver.tell(inputs);
        let looked_at = step.verified + step.unreadable.len() as u64;
        is_undisturbed &= !pause(driver, rest(driver, speed, took, looked_at)).await;
        if !is_undisturbed && speed != Speed::Full {
            return false;
        }
        match step.next {
            Some(next) => cursor = Some(next),
            None => return is_undisturbed,
        }
    }
}

/// How long to rest after a step.
fn rest(driver: &Driver, speed: Speed, took: Duration, records: u64) -> Duration {
    // A share of a tenth of full speed is to rest nine times as long as one works.
    let of_share = took * (1_000 / driver.share.get().max(1)).saturating_sub(1);
    match speed {
        Speed::Full => of_share.min(PAUSE_URGENT_MAX),
        Speed::Within(period) => {
            let all = driver.node.store.status().records().unwrap_or_default().max(records).max(1);
            let even = period.mul_f64(records as f64 / all as f64);
            even.max(of_share).min(PAUSE_MAX)
        }
    }
}

/// Rests; `true` if a scrub was asked for meanwhile, which ends the rest.
async fn pause(driver: &Driver, duration: Duration) -> bool {
    if duration.is_zero() {
        tokio::task::yield_now().await;
        return false;
    }
    tokio::select! {
        () = sleep(duration) => false,
        () = driver.scrub_wanted.notified() => true,
    }
}
