//! Row "harms": every kind of harm to one node after the other under load: death, standstill, cut and deaf and slow and breaking
//! links, a full disk.

use std::{path::Path, sync::Arc, time::Duration};

use quorate_tests::cluster::Options;
use tempfile::TempDir;
use tokio::time::sleep;

use super::{Settings, come_to_rest, conclude, power::disks, progress, sloppiest_level};
use crate::{
    disk::{Disk, Hog},
    figures::Finding,
    nemesis::Harm,
    proxied::Proxied,
    random::Random,
    recorder::Recorder,
    workload::{Habits, Workload},
};

/// Keys of the workload.
const KEYS: u64 = 150;

/// Time for an operation.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Does `turns` harms in turn.
pub fn harms(settings: &Settings, turns: u64) -> Finding {
    let folder = TempDir::with_prefix("quorate-harms-").expect("a temporary folder");
    let disks = disks(folder.path(), 3);
    if disks.is_none() {
        quorate_tests::not_run("tests/proof, row harms: no full disk, which needs root, loop devices and mkfs.ext4");
    }
    let finding = settings.run(10, in_turn(settings, turns, folder.path(), disks.as_deref()));
    drop(disks);
    finding
}

async fn in_turn(settings: &Settings, turns: u64, folder: &Path, disks: Option<&[Disk]>) -> Finding {
    let mut cluster = Proxied::start(Options { directory: Some(folder.to_owned()), ..Options::default() });
    let clients = [cluster.client(TIMEOUT, 3).await, cluster.client(TIMEOUT, 3).await];
    let level = sloppiest_level(&clients[0]).await;
    let habits = Habits { level, keys: KEYS, reads_percent: 40, value_bytes_max: 800, pause: Duration::from_millis(2) };
    let mut random = Random::new(settings.seed);
    let workload = Workload::start(&clients, 0..10, TIMEOUT, habits, Arc::<Recorder>::default(), random.number());
    let mut full = 0;
    for turn in 0..turns {
        sleep(Duration::from_millis(200 + random.below(300))).await;
        let node = random.below(cluster.nodes() as u64) as usize;
        let length = Duration::from_millis(800 + random.below(900));
        let kind = turn as usize % (Harm::ALL.len() + 1);
        match (Harm::ALL.get(kind), disks) {
            (Some(harm), _) => {
                progress("harms", &format!("turn {turn} of {turns}: {harm:?} of n{}", node + 1));
                harm.begin(&mut cluster, node);
                sleep(length).await;
                harm.end(&mut cluster, node);
            }
            (None, Some(disks)) => {
                progress("harms", &format!("turn {turn} of {turns}: the disk of n{} is full", node + 1));
                let hog = Hog::fill(&disks[node]);
                sleep(length).await;
                drop(hog);
                full += 1;
            }
            (None, None) => {}
        }
    }
    let (recorder, tally) = workload.finish().await;
    let rest = come_to_rest(&clients[0], KEYS).await;
    let layout = clients[0].ring();
    for client in &clients {
        client.close().await;
    }
    let report = conclude("harms", settings, &mut cluster, &layout, &recorder, KEYS);
    let seen = format!(
        "{turns} harms, {full} of them a full disk, at `{level:?}`: {report}; failed: {}; {rest}",
        tally.failures()
    );
    Finding::new(report.is_clean() && rest.idle_repairs == 0 && report.acknowledged > 50 * turns, seen)
}
