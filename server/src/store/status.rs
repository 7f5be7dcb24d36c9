//! What the store tells about itself: for `quorate status`, metrics and tests.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Health, Pressure, Store, filesystem, shard::Shard};

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its shards, in order.
    pub shards: Vec<ShardStatus>,
    /// Snapshots that are open.
    pub snapshots: usize,
    /// How long the oldest of them has been; a long one makes the files grow.
    pub oldest_snapshot: Duration,
}

/// How a shard is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardStatus {
    /// Whether it can be trusted.
    pub health: Health,
    /// How full it is.
    pub pressure: Pressure,
    /// Records in it, tombstones included; `None` if it can't be read.
    pub records: Option<u64>,
    /// Partitions it holds.
    pub partitions: usize,
    /// Bytes of pages in use when it was last written.
    pub live_bytes: u64,
    /// Bytes it may use, as of then.
    pub capacity_bytes: u64,
    /// Bytes its file takes on disk, free pages and room taken in advance included.
    pub disk_bytes: u64,
    /// Writes waiting.
    pub waiting_writes: usize,
    /// Bytes waiting.
    pub waiting_bytes: usize,
    /// Commits since the store was opened.
    pub commits: u64,
    /// Writes since then.
    pub writes: u64,
    /// Time spent in commits since then.
    pub commit_time: Duration,
}

impl Status {
    /// Records in all shards, if all can be read.
    pub fn records(&self) -> Option<u64> {
        self.shards.iter().map(|shard| shard.records).sum()
    }

    /// Whether every shard is sound.
    pub fn is_sound(&self) -> bool {
        self.shards.iter().all(|shard| shard.health == Health::Sound)
    }

    pub(super) fn of(store: &Store) -> Self {
        let (snapshots, oldest_snapshot) = store.oldest_reader();
        Self { shards: store.shards().map(ShardStatus::of).collect(), snapshots, oldest_snapshot }
    }
}

impl ShardStatus {
    fn of(shard: &Shard) -> Self {
        let gauges = &shard.gauges;
        let (waiting_writes, waiting_bytes) = shard.queue.waiting();
        Self {
            health: shard.health.read(),
            pressure: gauges.pressure(),
            records: records(shard),
            partitions: shard.views().len(),
            live_bytes: gauges.live_bytes.load(Ordering::Relaxed),
            capacity_bytes: gauges.capacity_bytes.load(Ordering::Relaxed),
            disk_bytes: filesystem::occupied_bytes(&shard.tables.file),
            waiting_writes,
            waiting_bytes,
            commits: gauges.commits.load(Ordering::Relaxed),
            writes: gauges.writes.load(Ordering::Relaxed),
            commit_time: Duration::from_micros(gauges.commit_us.load(Ordering::Relaxed)),
        }
    }
}

/// How many records a shard has; `None` if it can't be read.
fn records(shard: &Shard) -> Option<u64> {
    let transaction = shard.tables.env.read_txn().ok()?;
    shard.tables.records.len(&transaction).ok()
}
