//! The planner's own source of arbitrary order: SplitMix64 from a seed that is part of the input, so that the same input
//! gives the same plan on every machine. It only breaks ties and mixes who shares partitions with whom; nothing secret
//! comes from it.

use alloc::vec::Vec;

/// A sequence of numbers without a pattern the plan could fall into.
pub(super) struct Random(u64);

impl Random {
    /// The sequence for the `epoch` of a cluster: another one each time, or the same partitions would always move first.
    pub(super) fn new(cluster: u128, epoch: u64) -> Self {
        Self(cluster as u64 ^ (cluster >> 64) as u64 ^ epoch.rotate_left(32))
    }

    pub(super) fn next_u32(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 32) as u32
    }

    /// The numbers below `count` in arbitrary order.
    pub(super) fn shuffled(&mut self, count: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..count).collect();
        for last in (1..order.len()).rev() {
            let chosen = (u64::from(self.next_u32()) * (last as u64 + 1)) >> 32;
            order.swap(last, chosen as usize);
        }
        order
    }
}
