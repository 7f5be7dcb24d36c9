//! One level of placement: which bin holds each slot. The planner runs it twice, first with zones as the bins, then with
//! nodes as the bins inside the zone that each slot was given.
//!
//! Every bin has a target. Empty slots are *filled* from the bins below their targets; then slots are *shifted* from bins
//! above to bins below; and where no single shift fits, because the partition holds the receiver already, slots are passed
//! along the shortest *chain* of bins that does fit. A slot that is not touched does not move: that keeps plans cheap.

use alloc::{collections::BinaryHeap, vec, vec::Vec};

use super::random::Random;

/// No bin: the slot is empty.
pub(super) const NONE: u16 = u16::MAX;

/// Chains laid before the planner is content with what it has. Clusters of any likely shape need fewer than ten; the bound
/// keeps a contrived one from costing more than seconds.
const CHAINS_MAX: usize = 256;

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

    fn is_below(&self, bin: u16) -> bool {
        self.held[usize::from(bin)] < self.target[usize::from(bin)]
    }

    fn count(&self) -> u16 {
        self.target.len() as u16
    }

    /// What the bin lacks in proportion to its target, as a fraction of 2^32.
    fn lack(&self, bin: u16) -> u32 {
        let (held, target) = (u64::from(self.held[usize::from(bin)]), u64::from(self.target[usize::from(bin)]));
        (((target - held) << 32) / target).min(u64::from(u32::MAX)) as u32
    }
}

/// The nodes in the slots while the zones of the slots are being decided: whoever loses its zone loses its slot, and
/// nodes that hold too much anyway should be the ones to lose.
pub(super) struct Tenants<'a> {
    /// The node of each slot, or [`NONE`].
    pub slots: &'a mut [u16],
    /// The nodes as bins.
    pub bins: &'a mut Bins,
}

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
    /// Who loses when a slot changes its bin.
    pub tenants: Option<Tenants<'a>>,
    /// Breaks ties.
    pub random: &'a mut Random,
}

/// Which slots may be taken from the bin they are in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Take {
    /// Those that cost nothing: nobody is in them, or a node which must give up slots anyway.
    Free,
    /// All.
    Any,
}

impl Level<'_> {
    /// Brings every bin to its target, as far as partitions allow.
    pub(super) fn settle(mut self) {
        let mut open = Open::new(&*self.bins, self.random);
        self.fill(&mut open);
        for take in [Take::Free, Take::Any] {
            self.shift(&mut open, take);
            self.chain(take);
            open = Open::new(&*self.bins, self.random);
        }
    }

    /// Gives every empty slot a bin: one below its target, or where none fits the one least above, which the next steps
    /// relieve again.
    fn fill(&mut self, open: &mut Open) {
        for &partition in self.order {
            for slot in self.slots_of(partition) {
                if self.slots[slot] == NONE {
                    let group = self.group(slot);
                    let bin = self.pick(open, group, partition).or_else(|| self.least_full(group, partition));
                    if let Some(bin) = bin {
                        self.put(open, slot, bin);
                    }
                }
            }
        }
    }

    /// Moves slots from bins above their targets to bins below, one by one.
    fn shift(&mut self, open: &mut Open, take: Take) {
        for &partition in self.order {
            if open.bins == 0 {
                return;
            }
            for slot in self.slots_of(partition) {
                let bin = self.slots[slot];
                if bin != NONE
                    && self.bins.is_above(bin)
                    && self.may_take(slot, take)
                    && let Some(receiver) = self.pick(open, self.group(slot), partition)
                {
                    self.put(open, slot, receiver);
                }
            }
        }
    }

    /// Passes slots along chains of bins, from one above its target to one below.
    fn chain(&mut self, take: Take) {
        for _ in 0..CHAINS_MAX {
            let Some(path) = self.shortest_path(take) else { return };
            if self.pass_along(&path, take) == 0 {
                return;
            }
        }
    }

    /// The bins of a shortest chain: each but the last holds a slot, in a partition with room for the next. Breadth first
    /// from all bins above their targets at once.
    fn shortest_path(&self, take: Take) -> Option<Vec<u16>> {
        let bins = self.bins.count();
        let mut from = vec![NONE; usize::from(bins)];
        let mut frontier: Vec<bool> = (0..bins).map(|bin| self.bins.is_above(bin)).collect();
        if !frontier.contains(&true) {
            return None;
        }
        let groups =
            self.bins.group.iter().filter(|&&group| group != NONE).max().map_or(0, |&last| usize::from(last) + 1);
        let mut unreached = vec![Vec::new(); groups];
        for bin in (0..bins).filter(|&bin| !frontier[usize::from(bin)]) {
            if self.bins.group[usize::from(bin)] != NONE {
                unreached[usize::from(self.bins.group[usize::from(bin)])].push(bin);
            }
        }
        while frontier.contains(&true) {
            let mut reached = vec![false; usize::from(bins)];
            for (slot, &bin) in self.slots.iter().enumerate() {
                if bin == NONE || !frontier[usize::from(bin)] || !self.may_take(slot, take) {
                    continue;
                }
                let partition = (slot / self.owners) as u32;
                let candidates = &mut unreached[usize::from(self.group(slot))];
                while let Some(at) = candidates.iter().position(|&next| self.has_room(partition, next)) {
                    let next = candidates.swap_remove(at);
                    from[usize::from(next)] = bin;
                    reached[usize::from(next)] = true;
                    if self.bins.is_below(next) {
                        return Some(backtrack(&from, next));
                    }
                }
            }
            frontier = reached;
        }
        None
    }

    /// Passes as many slots along `path` as its ends want and its links carry; says how many.
    ///
    /// Two links never meet in one partition: the path would have a shortcut there and not be a shortest one. So all slots
    /// can be found first and moved afterwards.
    fn pass_along(&mut self, path: &[u16], take: Take) -> usize {
        let mut links: Vec<Vec<usize>> = vec![Vec::new(); path.len() - 1];
        for (slot, bin) in self.slots.iter().enumerate() {
            let Some(at) = path[..path.len() - 1].iter().position(|member| member == bin) else { continue };
            let partition = slot / self.owners;
            let fresh = links[at].last().is_none_or(|&last| last / self.owners != partition);
            if fresh && self.has_room(partition as u32, path[at + 1]) && self.may_take(slot, take) {
                links[at].push(slot);
            }
        }
        let (first, last) = (usize::from(path[0]), usize::from(path[path.len() - 1]));
        let wanted = (self.bins.held[first] - self.bins.target[first])
            .min(self.bins.target[last] - self.bins.held[last]) as usize;
        let carried = links.iter().map(Vec::len).min().unwrap_or(0).min(wanted);
        let mut passed = 0;
        for unit in 0..carried {
            // What was free to take when it was found may no longer be: the node has given enough by now.
            if links.iter().all(|slots| self.may_take(slots[unit], take)) {
                for (at, slots) in links.iter().enumerate() {
                    self.assign(slots[unit], path[at + 1]);
                }
                passed += 1;
            }
        }
        passed
    }

    /// The bin of the group that lacks most and has room in the partition. Bins the partition does not hold at all come
    /// first, so that replicas spread as wide as they can.
    fn pick(&self, open: &mut Open, group: u16, partition: u32) -> Option<u16> {
        let heap = open.heaps.get_mut(usize::from(group))?;
        let mut found = None;
        for widest in [true, false] {
            while let Some((lack, bin)) = heap.pop() {
                let held = self.held_in(partition, bin);
                if held == 0 || (!widest && held < usize::from(self.bins.limit[usize::from(bin)])) {
                    found = Some(bin);
                    break;
                }
                open.aside.push((lack, bin));
            }
            heap.extend(open.aside.drain(..));
            if found.is_some() {
                break;
            }
        }
        open.bins -= usize::from(found.is_some());
        found
    }

    /// The bin of the group that is least above its target and has room in the partition.
    fn least_full(&self, group: u16, partition: u32) -> Option<u16> {
        (0..self.bins.count())
            .filter(|&bin| self.bins.group[usize::from(bin)] == group && self.has_room(partition, bin))
            .min_by_key(|&bin| {
                let (held, target) = (self.bins.held[usize::from(bin)], self.bins.target[usize::from(bin)]);
                ((u64::from(held) + 1) << 32) / u64::from(target.max(1))
            })
    }

    /// Puts a slot into a bin taken from `open`, which stays open while it is below its target.
    fn put(&mut self, open: &mut Open, slot: usize, bin: u16) {
        self.assign(slot, bin);
        open.offer(self.bins, bin, self.random);
    }

    fn assign(&mut self, slot: usize, bin: u16) {
        let before = core::mem::replace(&mut self.slots[slot], bin);
        self.bins.held[usize::from(bin)] += 1;
        if before == NONE {
            return;
        }
        self.bins.held[usize::from(before)] -= 1;
        if let Some(tenants) = &mut self.tenants {
            let node = core::mem::replace(&mut tenants.slots[slot], NONE);
            if node != NONE {
                tenants.bins.held[usize::from(node)] -= 1;
            }
        }
    }

    fn may_take(&self, slot: usize, take: Take) -> bool {
        take == Take::Any
            || self.tenants.as_ref().is_none_or(|tenants| {
                let node = tenants.slots[slot];
                node == NONE || tenants.bins.is_above(node)
            })
    }

    fn slots_of(&self, partition: u32) -> core::ops::Range<usize> {
        let first = partition as usize * self.owners;
        first..first + self.owners
    }

    fn group(&self, slot: usize) -> u16 {
        self.groups.get(slot).copied().unwrap_or(0)
    }

    fn held_in(&self, partition: u32, bin: u16) -> usize {
        self.slots[self.slots_of(partition)].iter().filter(|&&held| held == bin).count()
    }

    fn has_room(&self, partition: u32, bin: u16) -> bool {
        self.held_in(partition, bin) < usize::from(self.bins.limit[usize::from(bin)])
    }
}

/// The bins below their targets, by group, the one that lacks most first; equals in arbitrary order, so that the bins which
/// meet in a partition are not always the same ones.
struct Open {
    heaps: Vec<BinaryHeap<(u64, u16)>>,
    /// How many bins are in the heaps.
    bins: usize,
    /// Bins that did not fit, until the search is over. Kept here to be allocated once.
    aside: Vec<(u64, u16)>,
}

impl Open {
    fn new(bins: &Bins, random: &mut Random) -> Self {
        let groups = bins.group.iter().filter(|&&group| group != NONE).max().map_or(0, |&last| usize::from(last) + 1);
        let mut open = Self { heaps: vec![BinaryHeap::new(); groups], bins: 0, aside: Vec::new() };
        for bin in 0..bins.count() {
            open.offer(bins, bin, random);
        }
        open
    }

    fn offer(&mut self, bins: &Bins, bin: u16, random: &mut Random) {
        if bins.is_below(bin) {
            let lack = u64::from(bins.lack(bin)) << 32 | u64::from(random.next_u32());
            self.heaps[usize::from(bins.group[usize::from(bin)])].push((lack, bin));
            self.bins += 1;
        }
    }
}

/// The path that `from` leads back along, first bin first.
fn backtrack(from: &[u16], last: u16) -> Vec<u16> {
    let mut path = vec![last];
    while let Some(&bin) = path.last().filter(|&&bin| from[usize::from(bin)] != NONE) {
        path.push(from[usize::from(bin)]);
    }
    path.reverse();
    path
}
