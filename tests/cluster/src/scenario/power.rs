//! Row "power": the power of nodes' disks is cut while clients read and write, now one, now all at the same moment. What was not
//! flushed is gone; what was acknowledged must not be.

use std::{path::Path, sync::Arc, time::Duration};

use quorate_tests::cluster::Options;
use tempfile::TempDir;
use tokio::time::sleep;

use super::{Settings, come_to_rest, conclude, progress, sloppiest_level};
use crate::{
    disk::{Disk, cut_power},
    figures::Finding,
    proxied::Proxied,
    random::Random,
    recorder::Recorder,
    workload::{Habits, Workload},
};

/// Keys: few enough that most are written between two cuts.
const KEYS: u64 = 120;

/// Time for an operation: more than a restart takes.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Size of each disk: what the store sets aside, and room for the data many times.
const DISK_MEBIBYTES: u64 = 128;

/// Every so many cuts it is only one node's; else it is all of them, for which no other replica can make up.
const ONE_EVERY: u64 = 3;

/// Cuts the power `cuts` times under load.
pub fn power(settings: &Settings, cuts: u64) -> Finding {
    let folder = TempDir::with_prefix("quorate-power-").expect("a temporary folder");
    let Some(mut disks) = disks(folder.path(), 3) else {
        return Finding::not_run("a loop-mounted ext4 needs root, loop devices, mkfs.ext4 and mount");
    };
    let finding = settings.run(15, under_load(settings, cuts, folder.path(), &mut disks));
    drop(disks);
    finding
}

/// Disks of nodes, with the nodes' directories on them, if this machine allows it.
pub(super) fn disks(folder: &Path, nodes: usize) -> Option<Vec<Disk>> {
    (0..nodes)
        .map(|node| {
            let disk = Disk::mount(&folder.join(format!("disk-{}", node + 1)), DISK_MEBIBYTES)?;
            let data = disk.path().join("data");
            std::fs::create_dir(&data).expect("a folder on a new disk");
            std::os::unix::fs::symlink(data, folder.join(format!("n{}", node + 1))).expect("a link to it");
            Some(disk)
        })
        .collect()
}

async fn under_load(settings: &Settings, cuts: u64, folder: &Path, disks: &mut [Disk]) -> Finding {
    let mut cluster = Proxied::start(Options { directory: Some(folder.to_owned()), ..Options::default() });
    let clients = [cluster.client(TIMEOUT, 3).await, cluster.client(TIMEOUT, 3).await];
    let level = sloppiest_level(&clients[0]).await;
    let habits = Habits { level, keys: KEYS, reads_percent: 30, value_bytes_max: 600, pause: Duration::from_millis(1) };
    let mut random = Random::new(settings.seed);
    let workload = Workload::start(&clients, 0..12, TIMEOUT, habits, Arc::<Recorder>::default(), random.number());
    for cut in 0..cuts {
        if cut % 10 == 0 {
            progress("power", &format!("cut {cut} of {cuts}, {} lines of history", workload.recorder.len()));
        }
        sleep(Duration::from_millis(100 + random.below(250))).await;
        let victims: Vec<usize> = match (cut + 1) % ONE_EVERY {
            0 => vec![random.below(cluster.nodes() as u64) as usize],
            _ => (0..cluster.nodes()).collect(),
        };
        if !cut_power(victims.iter().map(|node| &disks[*node])) {
            workload.finish().await;
            return Finding::not_run("cutting the power of a file system needs python3 and ext4");
        }
        // Meanwhile the nodes run on disks that fail.
        sleep(Duration::from_millis(random.below(60))).await;
        victims.iter().for_each(|node| cluster.kill(*node));
        victims.iter().for_each(|node| disks[*node].remount());
        victims.iter().for_each(|node| cluster.spawn(*node));
        victims.iter().for_each(|node| cluster.wait_until_serving(*node));
    }
    let (recorder, tally) = workload.finish().await;
    let rest = come_to_rest(&clients[0], KEYS).await;
    let layout = clients[0].ring();
    for client in &clients {
        client.close().await;
    }
    let report = conclude("power", settings, &mut cluster, &layout, &recorder, KEYS);
    let is_plenty = report.acknowledged > 20 * cuts;
    let seen = format!("{cuts} cuts at `{level:?}`: {report}; failed: {}; {rest}", tally.failures());
    Finding::new(report.is_clean() && rest.idle_repairs == 0 && is_plenty, seen)
}
