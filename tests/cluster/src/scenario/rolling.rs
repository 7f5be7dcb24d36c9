//! Row "rolling-restart": every node is drained (`quorate node drain --wait`), ended and started again in turn, as for an upgrade, while
//! the clients of every language read and write at `quorum`. None of them may see it: no operation fails, and no read misses a write.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quorate::Level;
use quorate_tests::cluster::Options;
use tokio::{task::block_in_place, time::sleep};

use super::{Settings, come_to_rest, conclude, progress};
use crate::{
    changing::quorate,
    figures::Finding,
    programs::programs,
    proxied::Proxied,
    recorder::Recorder,
    workload::{Habits, Workload},
};

/// Keys of the clients whose history is checked.
const KEYS: u64 = 120;

/// Time for an operation.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Attempts of the clients whose history is checked: an operation and one retry.
const ATTEMPTS: u32 = 2;

/// How long a node that is back has before the next one goes: its peers know it again, as whoever restarts nodes one by one waits for.
const BACK: Duration = Duration::from_millis(1500);

/// How long a program may take to end.
const LIMIT: Duration = Duration::from_secs(60);

/// Restarts all nodes so many times.
pub fn rolling_restart(settings: &Settings, rounds: u64) -> Finding {
    settings.run(10, async {
        let mut cluster = Proxied::start(Options::default());
        let clients = [cluster.client(TIMEOUT, ATTEMPTS).await, cluster.client(TIMEOUT, ATTEMPTS).await];
        sleep(BACK).await;
        let level = Level::Quorum;
        let habits =
            Habits { level, keys: KEYS, reads_percent: 50, value_bytes_max: 600, pause: Duration::from_millis(1) };
        let workload = Workload::start(&clients, 0..12, TIMEOUT, habits, Arc::<Recorder>::default(), settings.seed);
        let running: Vec<_> = programs()
            .into_iter()
            .map(|program| (program.name, program.start("strict", &cluster.endpoints(), 0)))
            .collect();
        sleep(BACK).await;
        let mut longest = Duration::ZERO;
        for node in (0..rounds).flat_map(|_| 0..3) {
            let (name, started) = (format!("n{}", node + 1), Instant::now());
            let drained = quorate(&cluster.endpoints(), &["node", "drain", &name, "--wait"]);
            assert_eq!(drained.code, 0, "{name} did not drain: {drained:?}");
            longest = longest.max(started.elapsed());
            let status = block_in_place(|| cluster.stop(node));
            assert!(status.success(), "{name} did not end well: {status}");
            block_in_place(|| cluster.restart(node));
            sleep(BACK).await;
        }
        let mut findings = Vec::new();
        for (name, running) in running {
            let answer = block_in_place(|| running.finish(LIMIT));
            let errors: u64 =
                answer["errors"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
            let told = if errors > 0 { format!(" ({})", answer["errors"]) } else { String::new() };
            let operations = answer["operations"].as_u64().unwrap_or(0);
            let what = format!("{name}: {operations} operations, {errors} failed{told}, {} wrong", answer["wrong"]);
            progress("rolling-restart", &what);
            findings.push((errors == 0 && answer["wrong"] == 0 && operations > 50 * rounds, what));
        }
        let (recorder, tally) = workload.finish().await;
        let failed = tally.failed_count();
        let rest = come_to_rest(&clients[0], KEYS).await;
        let layout = clients[0].ring();
        for client in &clients {
            client.close().await;
        }
        let report = conclude("rolling-restart", settings, &mut cluster, &layout, &recorder, KEYS);
        let is_good = findings.iter().all(|(is_right, _)| *is_right) && failed == 0 && report.is_clean();
        let seen: Vec<String> = findings.into_iter().map(|(_, what)| what).collect();
        Finding::new(
            is_good,
            format!(
                "{} restarts, the longest drain {longest:.1?}: {}; with a history: {report}; failed: {}; {rest}",
                3 * rounds,
                seen.join("; "),
                if failed == 0 { "none".to_owned() } else { tally.failures() },
            ),
        )
    })
}
