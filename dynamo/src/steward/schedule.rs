//! Which partition is compared with which owner next: wishes first, then every partition in its turn.

use alloc::collections::BTreeSet;

use super::{StewardConfig, neighbours::Neighbours};
use crate::{holdings::Holdings, layout::NodeIndex, tick::Tick};

/// The turns of all partitions.
#[derive(Debug)]
pub(super) struct Schedule {
    every_ms: u64,
    retry_ms: u64,
    due: BTreeSet<(Tick, u32)>,
    random: Random,
}

impl Schedule {
    /// A schedule of this node's partitions.
    pub(super) fn new(config: &StewardConfig, holdings: &Holdings, now: Tick) -> Self {
        let (every_ms, retry_ms, random) = (config.exchange_every_ms, config.retry_max_ms, Random(config.seed));
        let mut schedule = Self { every_ms, retry_ms, due: BTreeSet::new(), random };
        schedule.follow(holdings, now);
        schedule
    }

    /// Follows a change of the ring. The first turns of partitions that are new here are spread evenly over one period.
    pub(super) fn follow(&mut self, holdings: &Holdings, now: Tick) {
        if self.every_ms == 0 {
            return;
        }
        self.due.retain(|(_, partition)| holdings.holds(*partition));
        let known: BTreeSet<u32> = self.due.iter().map(|(_, partition)| *partition).collect();
        let new = holdings.rows().filter(|(partition, row)| !row.is_moved && !known.contains(partition));
        for (partition, _) in new {
            self.due.insert((now.after(self.random.next() % self.every_ms), partition));
        }
    }

    /// When the next exchange can begin, as far as it depends on time.
    pub(super) fn next_due(&self, neighbours: &Neighbours) -> Option<Tick> {
        let turn = self.due.first().map(|(due, _)| *due);
        [turn, neighbours.next_wish()].into_iter().flatten().min()
    }

    /// The exchange to begin now, if there is one: the partition, the other owner, and whether nobody had wished it.
    pub(super) fn take(&mut self, now: Tick, neighbours: &mut Neighbours) -> Option<(u32, NodeIndex, bool)> {
        if let Some((partition, peer)) = neighbours.take_wish(now) {
            return Some((partition, peer, false));
        }
        while let Some(&(due, partition)) = self.due.first()
            && due <= now
        {
            self.due.remove(&(due, partition));
            let any = self.random.next();
            if let Some((peer, is_new)) = neighbours.take_owner(now, partition, any) {
                self.due.insert((now.after(self.every_ms), partition));
                return Some((partition, peer, is_new));
            }
            // Nobody to compare with: soon again.
            self.due.insert((now.after(self.retry_ms.clamp(1, self.every_ms)), partition));
        }
        None
    }
}

/// SplitMix64: numbers without a pattern that two nodes could fall into together.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
