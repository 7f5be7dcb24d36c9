//! The nodes in the slots while the zones of the slots are being decided. Whoever loses its zone loses its slot, so the
//! first level asks here whom that would hurt, and who would like to come.

use alloc::{vec, vec::Vec};

use super::{
    bins::{Bins, NONE},
    random::Random,
};

/// How many waiting nodes are compared when one is to be seated: all in a small zone, and in a large one enough to find an
/// empty one, without looking at thousands for every slot.
const SEAT_CHOICES: usize = 8;

/// The nodes in the slots, and those that wait for slots.
pub(super) struct Tenants<'a> {
    slots: &'a mut [u16],
    nodes: &'a mut Bins,
    /// By zone: the nodes below their targets.
    waiting: Vec<Vec<u16>>,
}

impl<'a> Tenants<'a> {
    /// The nodes of `slots`, each slot's or [`NONE`].
    pub(super) fn new(slots: &'a mut [u16], nodes: &'a mut Bins) -> Self {
        let mut waiting = vec![Vec::new(); nodes.groups()];
        for node in nodes.numbers().filter(|&node| nodes.is_below(node)) {
            waiting[usize::from(nodes.group[usize::from(node)])].push(node);
        }
        Self { slots, nodes, waiting }
    }

    /// Whether taking the slot from its zone costs no move: nobody is in it, or a node that must give up slots anyway.
    pub(super) fn is_free(&self, slot: usize) -> bool {
        let node = self.slots[slot];
        node == NONE || self.nodes.is_above(node)
    }

    /// Whether a node of the zone waits that has no slot among `owners`, the slots of a partition.
    pub(super) fn is_awaited(&self, zone: u16, owners: core::ops::Range<usize>) -> bool {
        let owners = &self.slots[owners];
        self.waiting[usize::from(zone)].iter().any(|node| !owners.contains(node))
    }

    /// Puts a waiting node of the zone into the slot, if one has no slot yet among `owners`.
    pub(super) fn seat(&mut self, slot: usize, zone: u16, owners: core::ops::Range<usize>, random: &mut Random) {
        let waiting = &mut self.waiting[usize::from(zone)];
        let owners = &self.slots[owners];
        let start = random.next_u32() as usize % waiting.len().max(1);
        let around = (start..waiting.len()).chain(0..start).filter(|&at| !owners.contains(&waiting[at]));
        let Some(at) = around.take(SEAT_CHOICES).min_by_key(|&at| self.nodes.fullness(waiting[at], 0)) else { return };
        let node = waiting[at];
        self.slots[slot] = node;
        self.nodes.held[usize::from(node)] += 1;
        if !self.nodes.is_below(node) {
            waiting.swap_remove(at);
        }
    }

    /// Takes the slot from whoever is in it.
    pub(super) fn evict(&mut self, slot: usize) {
        let node = core::mem::replace(&mut self.slots[slot], NONE);
        if node != NONE {
            self.nodes.held[usize::from(node)] -= 1;
        }
    }
}
