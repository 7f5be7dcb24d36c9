//! Row "availability": two clients write at the level of the paper while nodes are killed, frozen and cut off in turn. Every
//! put must be answered by its deadline, none that was acknowledged may be lost, and in the end all replicas are the same
//! and nothing is left to repair.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use quorate_tests::cluster::Options;
use tokio::time::sleep;

use super::{Settings, come_to_rest, conclude, progress, sloppiest_level};
use crate::{
    figures::Finding,
    nemesis::Harm,
    proxied::Proxied,
    random::Random,
    recorder::Recorder,
    workload::{Habits, Workload},
};

/// Keys: enough that hints are many, few enough that each is written often.
const KEYS: u64 = 300;

/// Time for an operation: what a person waits for.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Sendings of an operation: the first and one retry.
const ATTEMPTS: u32 = 2;

/// What is done to a node, in turn.
const HARMS: [Harm; 3] = [Harm::Kill, Harm::Pause, Harm::CutOff];

/// How late an answer may be: the client's timers and this machine's scheduling.
const LATE_MAX: Duration = Duration::from_millis(500);

/// Lets two clients write for a while.
pub fn availability(settings: &Settings) -> Finding {
    settings.run(5 + settings.seconds / 60, async {
        let mut cluster = Proxied::start(Options::default());
        let clients = [cluster.client(TIMEOUT, ATTEMPTS).await, cluster.client(TIMEOUT, ATTEMPTS).await];
        let level = sloppiest_level(&clients[0]).await;
        let habits =
            Habits { level, keys: KEYS, reads_percent: 25, value_bytes_max: 400, pause: Duration::from_millis(4) };
        let mut random = Random::new(settings.seed);
        let workload = Workload::start(&clients, 4, TIMEOUT, habits, Arc::<Recorder>::default(), random.number());
        let (started, mut turns) = (Instant::now(), 0);
        while started.elapsed() < Duration::from_secs(settings.seconds) {
            sleep(Duration::from_millis(500 + random.below(500))).await;
            let (harm, node) = (HARMS[turns % HARMS.len()], (turns / HARMS.len() + turns) % cluster.nodes());
            progress(
                "availability",
                &format!(
                    "after {:.0} s: {harm:?} of n{}, {} operations succeeded, {} failed",
                    started.elapsed().as_secs_f64(),
                    node + 1,
                    workload.tally.succeeded.load(Ordering::Relaxed),
                    workload.tally.failed_count()
                ),
            );
            harm.begin(&mut cluster, node);
            sleep(Duration::from_millis(1_500 + random.below(2_000))).await;
            harm.end(&mut cluster, node);
            turns += 1;
        }
        let (recorder, tally) = workload.finish().await;
        let rest = come_to_rest(&clients[0], KEYS).await;
        for client in &clients {
            client.close().await;
        }
        let report = conclude("availability", settings, &mut cluster, &recorder, KEYS);
        let (succeeded, failed) = (tally.succeeded.load(Ordering::Relaxed), tally.failed_count());
        let share = 100.0 * succeeded as f64 / (succeeded + failed).max(1) as f64;
        let late = Duration::from_micros(tally.late_us.load(Ordering::Relaxed));
        let is_good = report.is_clean() && late <= LATE_MAX && report.acknowledged > 20 * settings.seconds;
        let seen = format!(
            "{turns} failures in {} s at `{level:?}`: {report}; {share:.4} % of {} operations within one retry, failed: {}; \
             {} acknowledged with stand-ins; none later than its deadline by more than {late:?}; level after {rest:.1?}",
            settings.seconds,
            succeeded + failed,
            tally.failures(),
            tally.with_stand_ins.load(Ordering::Relaxed),
        );
        Finding::new(is_good, seen)
    })
}
