//! What slots are placed in: zones on the first level of planning, nodes on the second. Counts and targets only; which slot
//! is where is the level's to know.

use alloc::{collections::BinaryHeap, vec, vec::Vec};

use super::random::Random;

/// No bin: the slot is empty. As a group: the bin takes no part.
pub(super) const NONE: u16 = u16::MAX;

/// The bins of a level, by number.
pub(super) struct Bins {
    /// Only slots of this group may go into the bin.
    pub group: Vec<u16>,
    /// The most slots of one partition that the bin may hold.
    pub limit: Vec<u8>,
    /// How many slots it shall hold.
    pub target: Vec<u32>,
    /// How many it holds.
    pub held: Vec<u32>,
}

impl Bins {
    pub(super) fn is_above(&self, bin: u16) -> bool {
        self.held[usize::from(bin)] > self.target[usize::from(bin)]
    }

    pub(super) fn is_below(&self, bin: u16) -> bool {
        self.held[usize::from(bin)] < self.target[usize::from(bin)]
    }

    pub(super) fn numbers(&self) -> core::ops::Range<u16> {
        0..self.target.len() as u16
    }

    /// The number of bins that take part, group by group.
    pub(super) fn groups(&self) -> usize {
        let taking_part = self.group.iter().filter(|&&group| group != NONE);
        taking_part.max().map_or(0, |&last| usize::from(last) + 1)
    }

    /// How full the bin would be with `more` slots, in proportion to its target: 2^32 is just full.
    pub(super) fn fullness(&self, bin: u16, more: u32) -> u64 {
        let (held, target) = (self.held[usize::from(bin)], self.target[usize::from(bin)]);
        (u64::from(held + more) << 32) / u64::from(target.max(1))
    }
}

/// The bins below their targets, by group, the emptiest in proportion first, give or take a slot: with such dice in it, it
/// is not always the same bins that meet in a partition.
pub(super) struct Open {
    heaps: Vec<BinaryHeap<(u64, u16)>>,
    bins: usize,
    /// Bins that did not fit, until a search is over. Kept here to be allocated once.
    aside: Vec<(u64, u16)>,
}

impl Open {
    pub(super) fn new(bins: &Bins, random: &mut Random) -> Self {
        let mut open = Self { heaps: vec![BinaryHeap::new(); bins.groups()], bins: 0, aside: Vec::new() };
        for bin in bins.numbers() {
            open.offer(bins, bin, random);
        }
        open
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bins == 0
    }

    /// Lets the bin be taken if it is below its target.
    pub(super) fn offer(&mut self, bins: &Bins, bin: u16, random: &mut Random) {
        if bins.is_below(bin) {
            let (held, target) = (bins.held[usize::from(bin)], bins.target[usize::from(bin)]);
            let lack = (u64::from(target - held) << 32) - u64::from(random.next_u32());
            self.heaps[usize::from(bins.group[usize::from(bin)])].push((lack / u64::from(target), bin));
            self.bins += 1;
        }
    }

    /// Takes the emptiest bin of the group that `fits`. A partition holds few bins, so few are tried in vain.
    pub(super) fn take(&mut self, group: u16, fits: impl Fn(u16) -> bool) -> Option<u16> {
        let heap = self.heaps.get_mut(usize::from(group))?;
        let mut found = None;
        while let Some((lack, bin)) = heap.pop() {
            if fits(bin) {
                found = Some(bin);
                break;
            }
            self.aside.push((lack, bin));
        }
        heap.extend(self.aside.drain(..));
        self.bins -= usize::from(found.is_some());
        found
    }
}
