//! What a plan goes by: the newest layout, and where partitions still move the layouts before it.

use alloc::{collections::BTreeSet, sync::Arc, vec::Vec};

use crate::{
    ident::NodeId,
    layout::{Layout, MemberState, NodeIndex},
    ring::Ring,
    settlement::Proven,
};

/// The past as far as it is known: a ring, or its newest layout alone.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    newest: &'a Layout,
    ring: Option<&'a Ring>,
}

impl<'a> Past<'a> {
    pub(super) fn newest(&self) -> &'a Layout {
        self.newest
    }

    /// A layout before the newest that has the nodes, weights and zones of the next one, and as many copies: going back to it
    /// takes every partition back to the owners that it comes from. Only while partitions still move; later, what
    /// they had before is worth nothing.
    pub(super) fn returns_to(&self, next: &Layout) -> Option<&'a Layout> {
        if self.newest.spans.are_settled() {
            return None;
        }
        let is_like = |layout: &&Layout| {
            layout.replicas == next.replicas
                && layout.partition_bits <= next.partition_bits
                && active(layout).eq(active(next))
        };
        let latest = self.ring?.layouts().rev().map(Arc::as_ref).find(is_like);
        // The newest itself needs no way back.
        latest.filter(|layout| layout.epoch < self.newest.epoch)
    }

    /// The owners of the configurations of a partition of the newest layout that may be active, the newest first, when all before
    /// `oldest` are retired. Where layouts are missing to tell, the last is the most that there may be more.
    pub(super) fn configurations(
        &self,
        partition: u32,
        oldest: u64,
    ) -> impl Iterator<Item = Result<Vec<NodeIndex>, u64>> {
        let owners = self.newest.owners(partition).collect();
        let mut next = Some((self.newest.spans.of(partition).since, Ok(owners)));
        core::iter::from_fn(move || {
            let (epoch, owners) = next.take()?;
            if epoch > oldest && owners.is_ok() {
                let before = self.ring.and_then(|ring| ring.layout(epoch - 1));
                next = Some(before.map_or((epoch, Err(epoch - oldest)), |before| {
                    let partition = partition >> (self.newest.partition_bits - before.partition_bits);
                    (before.spans.of(partition).since, Ok(before.owners(partition).collect()))
                }));
            }
            Some(owners)
        })
    }

    /// The oldest configuration of a partition of the newest layout that may be active, given what is proven.
    pub(super) fn oldest(&self, partition: u32, proven: &Proven) -> u64 {
        let span = self.newest.spans.of(partition);
        if proven.is_settled(partition) { span.since } else { span.oldest }
    }

    /// The members that own a partition by a configuration that may be active; `None` where layouts are missing to tell.
    pub(super) fn owners(&self, proven: &Proven) -> Option<BTreeSet<NodeIndex>> {
        let mut owners: BTreeSet<NodeIndex> = self.newest.slots.iter().map(|slot| NodeIndex(*slot)).collect();
        let partitions = 0..self.newest.partitions();
        for partition in partitions.filter(|partition| !self.newest.spans.of(*partition).is_settled()) {
            for configuration in self.configurations(partition, self.oldest(partition, proven)) {
                owners.extend(configuration.ok()?);
            }
        }
        Some(owners)
    }
}

/// What decides who owns what: the active nodes in their places, their weights and zones.
fn active(layout: &Layout) -> impl Iterator<Item = (usize, NodeId, u32, &str)> {
    let active = layout.members.iter().enumerate().filter(|(_, member)| member.state == MemberState::Active);
    active.map(|(at, member)| (at, member.id, member.weight, member.zone.as_str()))
}

impl<'a> From<&'a Layout> for Past<'a> {
    fn from(newest: &'a Layout) -> Self {
        Self { newest, ring: None }
    }
}

impl<'a> From<&'a Arc<Layout>> for Past<'a> {
    fn from(newest: &'a Arc<Layout>) -> Self {
        Self { newest, ring: None }
    }
}

impl<'a> From<&'a Ring> for Past<'a> {
    fn from(ring: &'a Ring) -> Self {
        Self { newest: ring.newest(), ring: Some(ring) }
    }
}

impl<'a> From<&'a Arc<Ring>> for Past<'a> {
    fn from(ring: &'a Arc<Ring>) -> Self {
        Self::from(ring.as_ref())
    }
}
