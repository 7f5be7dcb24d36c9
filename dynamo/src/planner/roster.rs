//! Who is in the next layout and at which position, and what of the old slots carries over to it.
//!
//! A node keeps its position for as long as it is a member, also while it is leaving. When nodes are removed, newcomers take
//! their places; places that nobody takes are closed by moving nodes from the end into them, so that positions stay dense
//! and as few nodes as possible get another one. Positions name nodes within one epoch only: whoever compares two layouts
//! compares identities.

use alloc::{collections::BTreeMap, vec, vec::Vec};

use super::bins::NONE;
use crate::{
    ident::NodeId,
    layout::{Layout, Member},
};

/// The members of the next layout in their positions. `desired` has no identity twice.
pub(super) fn arrange(old: Option<&Layout>, desired: &[Member]) -> Vec<Member> {
    let mut wanted: BTreeMap<NodeId, &Member> = desired.iter().map(|member| (member.id, member)).collect();
    let mut places: Vec<Option<&Member>> =
        old.map_or(&[][..], |old| &old.members).iter().map(|member| wanted.remove(&member.id)).collect();
    places.extend(desired.iter().filter(|member| wanted.contains_key(&member.id)).map(Some));
    // The last place moves into each empty one: a newcomer's, while there are any.
    let mut at = 0;
    while at < places.len() {
        if places[at].is_some() {
            at += 1;
        } else {
            places.swap_remove(at);
        }
    }
    places.into_iter().flatten().cloned().collect()
}

/// The slots of the old layout in the terms of the new one.
pub(super) struct Inherited<'a> {
    old: Option<&'a Layout>,
    /// By old position: the new one, or [`NONE`] for a node that was removed.
    positions: Vec<u16>,
    /// How often the number of partitions doubled.
    doublings: u8,
}

impl<'a> Inherited<'a> {
    pub(super) fn new(old: Option<&'a Layout>, new: &Layout) -> Self {
        let numbers: BTreeMap<NodeId, u16> = new.members.iter().map(|member| member.id).zip(0..).collect();
        let position = |member: &Member| numbers.get(&member.id).copied().unwrap_or(NONE);
        Self {
            old,
            positions: old.map_or_else(Vec::new, |old| old.members.iter().map(position).collect()),
            doublings: old.map_or(0, |old| new.partition_bits - old.partition_bits),
        }
    }

    /// The new position of the node at an old one, [`NONE`] if it was removed.
    pub(super) fn position(&self, old: u16) -> u16 {
        self.positions[usize::from(old)]
    }

    /// The owners that a partition of the new layout had so far, [`NONE`] for each that was removed; partitions are
    /// prefixes of identifiers, so halves of a divided one have its owners.
    pub(super) fn owners(&self, partition: u32) -> impl Iterator<Item = u16> + Clone + '_ {
        let owners = self.old.map(|old| old.owners(partition >> self.doublings));
        owners.into_iter().flatten().map(|owner| self.position(owner.0))
    }

    /// How many slots each member of the new layout holds before anything moves.
    pub(super) fn held(&self, members: usize) -> Vec<u32> {
        let mut held = vec![0; members];
        for partition in 0..self.old.map_or(0, Layout::partitions) {
            for node in self.owners(partition << self.doublings).filter(|&node| node != NONE) {
                held[usize::from(node)] += 1 << self.doublings;
            }
        }
        held
    }
}
