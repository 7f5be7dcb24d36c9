//! Chains of moves, for slots that no cheap move brings to where they are wanted: a bin above its target gives to one that
//! is content, which gives another slot on, until a bin below its target has one more. Needed where few zones leave little
//! choice.

use alloc::{vec, vec::Vec};

use super::{bins::NONE, level::Level};

/// Chains laid before the planner is content with what it has. Clusters of any likely shape need fewer than ten; the bound
/// keeps a contrived one from costing more than seconds.
const CHAINS_MAX: usize = 256;

impl Level<'_> {
    /// Passes slots along chains from bins above their targets to bins below, until none is left or none fits.
    pub(super) fn chain(&mut self) {
        for _ in 0..CHAINS_MAX {
            let Some(path) = self.shortest_path() else { return };
            self.pass_along(&path);
        }
    }

    /// The bins of a shortest chain: each but the last holds a slot in a partition with room for the next. Breadth first,
    /// from all bins above their targets at once.
    fn shortest_path(&self) -> Option<Vec<u16>> {
        let mut frontier: Vec<bool> = self.bins.numbers().map(|bin| self.bins.is_above(bin)).collect();
        let mut unreached = vec![Vec::new(); self.bins.groups()];
        for bin in self.bins.numbers().filter(|&bin| !frontier[usize::from(bin)]) {
            if self.bins.group[usize::from(bin)] != NONE {
                unreached[usize::from(self.bins.group[usize::from(bin)])].push(bin);
            }
        }
        let mut from = vec![NONE; frontier.len()];
        while frontier.contains(&true) {
            let mut reached = vec![false; frontier.len()];
            for (slot, &bin) in self.slots.iter().enumerate() {
                if bin == NONE || !frontier[usize::from(bin)] {
                    continue;
                }
                let partition = (slot / self.owners) as u32;
                let candidates: &mut Vec<u16> = &mut unreached[usize::from(self.group(slot))];
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

    /// Passes as many slots along `path` as its ends want and its links carry, at least one.
    ///
    /// Two links never meet in one partition: the path would have a shortcut there and not be a shortest one. So all slots
    /// can be found first and moved afterwards.
    fn pass_along(&mut self, path: &[u16]) {
        let (givers, receivers) = (&path[..path.len() - 1], &path[1..]);
        let mut links: Vec<Vec<usize>> = vec![Vec::new(); givers.len()];
        for (slot, bin) in self.slots.iter().enumerate() {
            let Some(at) = givers.iter().position(|giver| giver == bin) else { continue };
            let partition = slot / self.owners;
            let is_first_there = links[at].last().is_none_or(|&last| last / self.owners != partition);
            if is_first_there && self.has_room(partition as u32, receivers[at]) {
                links[at].push(slot);
            }
        }
        let (first, last) = (usize::from(givers[0]), usize::from(receivers[receivers.len() - 1]));
        let surplus = self.bins.held[first] - self.bins.target[first];
        let lack = self.bins.target[last] - self.bins.held[last];
        let carried = links.iter().map(Vec::len).min().unwrap_or(0);
        for unit in 0..carried.min(surplus.min(lack) as usize) {
            for (slots, &receiver) in links.iter().zip(receivers) {
                self.assign(slots[unit], receiver);
            }
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
