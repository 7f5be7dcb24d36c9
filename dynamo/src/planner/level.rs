//! One level of placement: which bin holds each slot. The planner runs it twice, first with zones as the bins, then with
//! nodes as the bins inside the zone that each slot was given.
//!
//! Every bin has a target. Empty slots are *filled* from the bins below their targets; then slots are *shifted* from bins
//! above to bins below; and where no such shift fits, because the partition holds the receiver already, slots are passed
//! along a *chain* of bins that does fit (in [`super::chain`]). A slot that is not touched does not move: that keeps plans
//! cheap.

use core::ops::Range;

use super::{
    bins::{Bins, NONE, Open},
    random::Random,
    tenants::Tenants,
};

/// One level of placement at work.
pub(super) struct Level<'a> {
    /// Slots of a partition.
    pub owners: usize,
    /// The order in which partitions are looked at.
    pub order: &'a [u32],
    /// The group of each slot; empty when all are of group 0.
    pub groups: &'a [u16],
    /// The bin of each slot, or [`NONE`].
    pub slots: &'a mut [u16],
    /// The bins.
    pub bins: &'a mut Bins,
    /// Who is in the slots, where bins are not nodes themselves.
    pub tenants: Option<Tenants<'a>>,
    /// Breaks ties.
    pub random: &'a mut Random,
}

/// Which bins may be given one more slot of a partition, from the best to the least good.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Give {
    /// Those that have none of its slots yet: replicas spread as wide as they can.
    Apart,
    /// Also those with room in which a node waits that is not yet an owner. Without one, a node would have to make place.
    Awaited,
    /// All that have room.
    Room,
}

impl Level<'_> {
    /// Brings every bin to its target, as far as partitions allow; the cheapest ways first.
    pub(super) fn settle(mut self) {
        self.fill();
        self.shift();
        self.chain();
    }

    /// Gives every empty slot a bin: one below its target, or where none fits the one least above, which the next steps
    /// relieve again.
    fn fill(&mut self) {
        let mut open = Open::new(self.bins, self.random);
        for &partition in self.order {
            for slot in self.slots_of(partition) {
                if self.slots[slot] != NONE {
                    continue;
                }
                let group = self.group(slot);
                let receiver = self.receiver(&mut open, group, partition, Give::Room);
                if let Some(bin) = receiver.or_else(|| self.least_full(group, partition)) {
                    let is_shared = self.held_in(partition, bin) > 0;
                    self.assign(slot, bin);
                    open.offer(self.bins, bin, self.random);
                    if is_shared {
                        self.seat(slot, bin, partition);
                    }
                }
            }
        }
    }

    /// Moves slots from bins above their targets to bins below, one by one, where that causes no other moves: nobody is in
    /// the slot or a node that must give it up anyway, and the receiver is new to the partition or has a node waiting.
    fn shift(&mut self) {
        let mut open = Open::new(self.bins, self.random);
        for &partition in self.order {
            if open.is_empty() {
                return;
            }
            for slot in self.slots_of(partition) {
                let bin = self.slots[slot];
                if bin == NONE || !self.bins.is_above(bin) || !self.is_free(slot) {
                    continue;
                }
                let group = self.group(slot);
                if let Some(receiver) = self.receiver(&mut open, group, partition, Give::Awaited) {
                    self.assign(slot, receiver);
                    open.offer(self.bins, receiver, self.random);
                    self.seat(slot, receiver, partition);
                }
            }
        }
    }

    /// Takes from `open` the emptiest bin of the group that may be given a slot of the partition, in the best way there is
    /// up to `worst`.
    fn receiver(&self, open: &mut Open, group: u16, partition: u32, worst: Give) -> Option<u16> {
        let ways = [Give::Apart, Give::Awaited, Give::Room].into_iter().filter(|&way| way <= worst);
        ways.filter(|&way| way == Give::Apart || self.tenants.is_some())
            .find_map(|way| open.take(group, |bin| self.may_give(bin, partition, way)))
    }

    /// The bin of the group that is least above its target and has room in the partition.
    fn least_full(&self, group: u16, partition: u32) -> Option<u16> {
        let of_group = |&bin: &u16| self.bins.group[usize::from(bin)] == group;
        let with_room = self.bins.numbers().filter(of_group).filter(|&bin| self.has_room(partition, bin));
        with_room.min_by_key(|&bin| self.bins.fullness(bin, 1))
    }

    fn seat(&mut self, slot: usize, bin: u16, partition: u32) {
        let owners = self.slots_of(partition);
        if let Some(tenants) = &mut self.tenants {
            tenants.seat(slot, bin, owners, self.random);
        }
    }

    pub(super) fn assign(&mut self, slot: usize, bin: u16) {
        let before = core::mem::replace(&mut self.slots[slot], bin);
        self.bins.held[usize::from(bin)] += 1;
        if before == NONE {
            return;
        }
        self.bins.held[usize::from(before)] -= 1;
        if let Some(tenants) = &mut self.tenants {
            tenants.evict(slot);
        }
    }

    fn is_free(&self, slot: usize) -> bool {
        self.tenants.as_ref().is_none_or(|tenants| tenants.is_free(slot))
    }

    fn may_give(&self, bin: u16, partition: u32, give: Give) -> bool {
        let is_awaited = |tenants: &Tenants<'_>| tenants.is_awaited(bin, self.slots_of(partition));
        match give {
            Give::Apart => self.held_in(partition, bin) == 0,
            Give::Awaited => self.has_room(partition, bin) && self.tenants.as_ref().is_some_and(is_awaited),
            Give::Room => self.has_room(partition, bin),
        }
    }

    pub(super) fn has_room(&self, partition: u32, bin: u16) -> bool {
        self.held_in(partition, bin) < usize::from(self.bins.limit[usize::from(bin)])
    }

    fn held_in(&self, partition: u32, bin: u16) -> usize {
        self.slots[self.slots_of(partition)].iter().filter(|&&held| held == bin).count()
    }

    fn slots_of(&self, partition: u32) -> Range<usize> {
        let first = partition as usize * self.owners;
        first..first + self.owners
    }

    pub(super) fn group(&self, slot: usize) -> u16 {
        self.groups.get(slot).copied().unwrap_or(0)
    }
}
