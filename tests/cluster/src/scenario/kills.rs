//! Row "kills": nodes are killed with SIGKILL and started again while clients read and write, now one, now all of them at once.

use std::{sync::Arc, time::Duration};

use quorate_tests::cluster::Options;
use tokio::time::sleep;

use super::{Settings, come_to_rest, conclude, progress, sloppiest_level};
use crate::{
    figures::Finding,
    proxied::Proxied,
    random::Random,
    recorder::Recorder,
    workload::{Habits, Workload},
};

/// Keys: few enough that most are written in every cycle.
const KEYS: u64 = 120;

/// Time for an operation: more than a restart takes.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Every so many cycles all nodes are killed at once.
const ALL_EVERY: u64 = 5;

/// Kills nodes `cycles` times under load.
pub fn kills(settings: &Settings, cycles: u64) -> Finding {
    settings.run(10, async {
        let mut cluster = Proxied::start(Options::default());
        let clients = [cluster.client(TIMEOUT, 3).await, cluster.client(TIMEOUT, 3).await];
        let level = sloppiest_level(&clients[0]).await;
        let habits =
            Habits { level, keys: KEYS, reads_percent: 35, value_bytes_max: 600, pause: Duration::from_millis(1) };
        let mut random = Random::new(settings.seed);
        let recorder = Arc::<Recorder>::default();
        let workload = Workload::start(&clients, 0..12, TIMEOUT, habits, recorder, random.number());
        for cycle in 0..cycles {
            if cycle % 10 == 0 {
                progress("kills", &format!("cycle {cycle} of {cycles}, {} lines of history", workload.recorder.len()));
            }
            sleep(Duration::from_millis(150 + random.below(250))).await;
            let victims: Vec<usize> = match (cycle + 1) % ALL_EVERY {
                0 => (0..cluster.nodes()).collect(),
                _ => vec![random.below(cluster.nodes() as u64) as usize],
            };
            victims.iter().for_each(|node| cluster.kill(*node));
            sleep(Duration::from_millis(50 + random.below(250))).await;
            victims.iter().for_each(|node| cluster.spawn(*node));
            victims.iter().for_each(|node| cluster.wait_until_serving(*node));
        }
        let (recorder, tally) = workload.finish().await;
        let rest = come_to_rest(&clients[0], KEYS).await;
        let layout = clients[0].ring();
        for client in &clients {
            client.close().await;
        }
        let report = conclude("kills", settings, &mut cluster, &layout, &recorder, KEYS);
        let is_plenty = report.acknowledged > 20 * cycles;
        let seen = format!("{cycles} cycles at `{level:?}`: {report}; failed: {}; {rest}", tally.failures());
        Finding::new(report.is_clean() && rest.idle_repairs == 0 && is_plenty, seen)
    })
}
