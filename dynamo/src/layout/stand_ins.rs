//! Who stands in for an owner that is away (paper, section 4.6): the nodes that would come next on the ring.
//!
//! Nobody keeps state about it. From its own partition everyone walks the map in the same strides, which differ from
//! partition to partition so that the work of one dead node falls on many, and takes the owners it meets. An owner is
//! replaced from its own zone first, because the others may hold a replica already.

use alloc::vec::Vec;

use super::{Layout, NodeIndex, REPLICAS_MAX};

/// Partitions looked at in search of one stand-in. In a map of that many partitions or fewer, everybody is met; in a larger
/// one a zone with one node in a hundred is found all but surely, and a smaller one is not worth a longer walk.
pub const STAND_IN_STEPS_MAX: u32 = 1024;

/// Stand-ins named for one partition: two for each replica it can have. If so many refuse, the cluster has lost more than
/// other nodes can make good, and the walks would only cost time.
pub const STAND_INS_MAX: usize = 2 * REPLICAS_MAX as usize;

/// The stand-ins of one partition; see [`Layout::stand_ins`].
pub struct StandIns<'a, F> {
    layout: &'a Layout,
    partition: u32,
    stride: u32,
    alive: F,
    /// Owners that are away and have not been replaced from their own zone yet, the most preferred last.
    away: Vec<NodeIndex>,
    /// Owners and stand-ins already named.
    taken: Vec<NodeIndex>,
    /// How many stand-ins may still be named.
    left: usize,
}

impl Layout {
    /// The stand-ins of a partition, most preferred first: nodes that are `alive` and are not owners, none of them twice. The
    /// first replaces the first owner that is away, from the same zone where there is one, and so on; after that they come
    /// from any zone. Bounded by [`STAND_INS_MAX`], each walk by [`STAND_IN_STEPS_MAX`]; no work is done before it is asked for.
    pub fn stand_ins<F: Fn(NodeIndex) -> bool>(&self, partition: u32, alive: F) -> StandIns<'_, F> {
        let taken: Vec<NodeIndex> = self.owners(partition).collect();
        let away = taken.iter().rev().copied().filter(|&owner| !alive(owner)).collect();
        StandIns { layout: self, partition, stride: stride(partition), alive, away, taken, left: STAND_INS_MAX }
    }
}

impl<F: Fn(NodeIndex) -> bool> StandIns<'_, F> {
    /// The first node on the walk that may stand in and satisfies `fits`.
    fn walk(&self, fits: impl Fn(NodeIndex) -> bool) -> Option<NodeIndex> {
        let partitions = self.layout.partitions();
        (1..partitions.min(STAND_IN_STEPS_MAX + 1))
            .map(|step| self.partition.wrapping_add(step.wrapping_mul(self.stride)) % partitions)
            .flat_map(|partition| self.layout.owners(partition))
            .find(|&node| fits(node) && !self.taken.contains(&node) && (self.alive)(node))
    }

    fn zone(&self, node: NodeIndex) -> Option<&str> {
        self.layout.member(node).map(|member| member.zone.as_str())
    }
}

impl<F: Fn(NodeIndex) -> bool> Iterator for StandIns<'_, F> {
    type Item = NodeIndex;

    fn next(&mut self) -> Option<NodeIndex> {
        self.left = self.left.checked_sub(1)?;
        let away = self.away.pop();
        let near = away.and_then(|owner| self.walk(|node| self.zone(node) == self.zone(owner)));
        let found = near.or_else(|| self.walk(|_| true))?;
        self.taken.push(found);
        Some(found)
    }
}

/// The stride of the walk from `partition`: odd, so that it meets every partition of a map of 2^n; scattered by the
/// finaliser of MurmurHash3, which clients in any language can repeat.
fn stride(partition: u32) -> u32 {
    let mut hash = partition.wrapping_add(1);
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    (hash ^ (hash >> 16)) | 1
}
