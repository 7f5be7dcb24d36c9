//! What a plan goes by: the newest layout, and where partitions still move the layouts before it.

use alloc::sync::Arc;

use crate::{
    ident::NodeId,
    layout::{Layout, MemberState, spans::CONFIGURATIONS_MAX},
    ring::Ring,
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

    /// How many configurations of a partition of the newest layout may be active; where layouts are missing to tell, the most that
    /// it can be.
    pub(super) fn configurations(&self, partition: u32) -> u64 {
        let span = self.newest.spans.of(partition);
        let (mut found, mut epoch) = (1, span.since);
        while epoch > span.oldest && found <= CONFIGURATIONS_MAX as u64 {
            let Some(before) = self.ring.and_then(|ring| ring.layout(epoch - 1)) else {
                return found + (epoch - span.oldest);
            };
            epoch = before.spans.of(partition >> (self.newest.partition_bits - before.partition_bits)).since;
            found += 1;
        }
        found
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
