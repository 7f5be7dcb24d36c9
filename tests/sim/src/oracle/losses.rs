//! Nodes that were given up for lost, and what that takes away. An operator says that a node's copies count no more; from the layout that
//! says so on, nobody who knows it waits for the node, asks it, or counts it.
//!
//! What stays promised is this. A configuration whose owners were partly given up is asked by those who know in such numbers that two
//! quorums of those who are left have one of them in common, and that each meets what is left of every majority there was before
//! ([`majority`]). So, as long as a majority of a configuration is left, nothing is taken away at all, and no rule below excuses anything.
//! Once no majority is left of it, its quorum is all who are left, and four things are true:
//!
//! * What was acknowledged and is held by none of those who are left in the configuration that *carries* the key is **forsaken**: reads
//!   are not held to it any more. The carrier is the oldest configuration that no row calls retired. All views name it, and newer
//!   configurations have what it has once they are FULL, so what it still has is found whatever became of those. If one of those who
//!   are left holds the write, all of them are asked, and reads are held to it as before.
//! * A write may still be acknowledged, or a read answered, by nodes that were given up and by none that is left, while their coordinator
//!   does not know it. Such a write is forsaken, and such a read is held to nothing but what its own nodes acknowledged. One that
//!   counted a single owner who is left is held to everything: those who know ask all of them.
//! * A configuration may be retired by somebody who does not know yet that the owners of the next one were given up. What those who are left
//!   in that one do not hold is forsaken like what they do not hold when it is decided.
//! * A write of which no copy is left on any disk but those given up, be it a record or a hint there, is **abandoned**: the owners need
//!   not have it at the end. So is one whose last other copy was handed to a node that had been given up by one who did not know.
//!   Every other acknowledged write must be at all owners at the end, whoever acknowledged it.
//!
//! A copy that is destroyed besides, by bit rot or with its directory, is destroyed only if one who was not given up holds all of it.

use std::collections::BTreeSet;

use super::{
    Dots, KeyNumber, Oracle,
    rings::{Configuration, Names, Ownership},
};

/// The nodes that were given up.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses {
    /// Each with the epoch of the layout that says so, in the order of epochs.
    nodes: Vec<(u64, usize)>,
}

/// How many of those that are left of a configuration make a quorum: any two quorums meet, and each meets whatever is left of a majority
/// of all, if anything is.
pub(super) fn majority(all: usize, left: usize) -> usize {
    let lost = all - left;
    // The fewest that can be left of a majority of all.
    let fewest = (all / 2 + 1).saturating_sub(lost).max(1);
    let meets = |count: &usize| 2 * count > left && count + fewest > left;
    (1..=left).find(meets).unwrap_or(left)
}

impl Losses {
    fn note(&mut self, epoch: u64, node: usize) -> bool {
        let is_new = self.nodes.iter().all(|(_, known)| *known != node);
        if is_new {
            self.nodes.push((epoch, node));
        }
        is_new
    }

    /// Those that somebody knows of who knows the layouts up to this one.
    pub(super) fn known_at(&self, epoch: u64) -> BTreeSet<usize> {
        self.nodes.iter().filter(|(since, _)| *since <= epoch).map(|(_, node)| *node).collect()
    }

    /// The same for everything it may have believed until it knew that layout, the latest first.
    pub(super) fn known_until(&self, epoch: u64) -> Vec<BTreeSet<usize>> {
        let mut epochs: Vec<u64> = self.nodes.iter().map(|(since, _)| *since).filter(|since| *since <= epoch).collect();
        epochs.push(0);
        epochs.sort_unstable_by(|one, other| other.cmp(one));
        epochs.dedup();
        epochs.into_iter().map(|epoch| self.known_at(epoch)).collect()
    }

    /// All of them.
    pub(super) fn all(&self) -> BTreeSet<usize> {
        self.known_at(u64::MAX)
    }
}

impl Configuration {
    /// The owners that were not given up.
    pub(super) fn left<'c>(&'c self, lost: &'c BTreeSet<usize>) -> impl Iterator<Item = usize> + 'c {
        self.owners.iter().copied().filter(|owner| !lost.contains(owner))
    }

    /// Whether some were given up, and the others are no majority of all.
    fn is_bereft(&self, lost: &BTreeSet<usize>) -> bool {
        let left = self.left(lost).count();
        left < self.owners.len() && 2 * left <= self.owners.len()
    }
}

impl Ownership {
    /// The oldest configuration that no row calls retired; or the newest of those in a view, if the view is older.
    fn carrier(&self, view: Names) -> Option<&Configuration> {
        let named = self.between(view);
        named.iter().find(|one| one.epoch >= self.retired).or(named.last())
    }

    /// Whether nobody who is left in the configuration that carries a key under a view is among these, and too few are left.
    pub(super) fn forsakes(&self, view: Names, lost: &BTreeSet<usize>, nodes: &BTreeSet<usize>) -> bool {
        self.carrier(view).is_some_and(|one| one.is_bereft(lost) && !one.left(lost).any(|owner| nodes.contains(&owner)))
    }
}

impl Oracle {
    /// Whether a node was given up.
    pub fn is_given_up(&self, node: usize) -> bool {
        self.losses.nodes.iter().any(|(_, known)| *known == node)
    }

    /// Whether any was.
    pub fn has_losses(&self) -> bool {
        !self.losses.nodes.is_empty()
    }

    /// A layout that was decided gives these up; the new ones among them. What is acknowledged already and has no copy where it would be
    /// looked for is forsaken.
    pub(super) fn give_up(&mut self, epoch: u64, nodes: impl Iterator<Item = usize>) -> Vec<usize> {
        let new: Vec<usize> = nodes.filter(|node| self.losses.note(epoch, *node)).collect();
        if new.is_empty() {
            return new;
        }
        let bereft = (0..self.keys.len()).map(|key| self.forsake(key)).filter(|is_bereft| *is_bereft).count();
        self.seen.bereft += u64::from(bereft > 0);
        new
    }

    /// What is acknowledged of a key, and is not held by those who are left of its carrier, is forsaken if they are too few; whether they are.
    fn forsake(&mut self, key: KeyNumber) -> bool {
        let (lost, truth) = (self.losses.all(), &mut self.keys[key]);
        let view = (truth.ownership.retired, u64::MAX);
        let Some(carrier) = truth.ownership.carrier(view).filter(|one| one.is_bereft(&lost)) else { return false };
        truth.was_bereft = true;
        let left: Vec<usize> = carrier.left(&lost).collect();
        for known in truth.acknowledgements.iter_mut().filter(|known| !known.is_forsaken) {
            known.is_forsaken = !left.iter().any(|owner| truth.held[*owner].meets(&self.ops[known.op].dots));
            self.seen.forsaken += u64::from(known.is_forsaken);
        }
        true
    }

    /// A node that knows the layouts up to `epoch` has retired what is before a key's carrier. Who does not know of all losses counts owners
    /// that count no more.
    pub(super) fn retired(&mut self, key: KeyNumber, epoch: u64) {
        let (known, all) = (self.losses.known_at(epoch), self.losses.all());
        let ownership = &self.keys[key].ownership;
        let carrier = ownership.carrier((ownership.retired, u64::MAX));
        if carrier.is_some_and(|one| one.left(&known).count() > one.left(&all).count()) {
            self.forsake(key);
        }
    }

    /// Copies of a key are gone, or count no more: what stands on no other disk than those given up is abandoned. `hinted` is what each
    /// node keeps for others; `epoch` is the newest layout that whoever parted with a copy knew, and a node that was given up by then is
    /// no excuse.
    pub fn part(&mut self, key: KeyNumber, hinted: &[Dots], epoch: u64) {
        let truth = &mut self.keys[key];
        for op in &truth.writes {
            let dots = &self.ops[*op].dots;
            if dots.is_empty() || truth.abandoned.meets(dots) {
                continue;
            }
            let holds = |node: usize| truth.held[node].meets(dots) || hinted[node].meets(dots);
            let is_left = |node: usize| self.losses.nodes.iter().all(|(_, lost)| *lost != node);
            let has_copy = (0..truth.held.len()).any(|node| is_left(node) && holds(node));
            if !has_copy && self.losses.nodes.iter().any(|(since, node)| *since > epoch && holds(*node)) {
                truth.abandoned.unite(dots);
                self.seen.abandoned += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::majority;

    #[test]
    fn a_quorum_of_those_who_are_left_is_what_the_nodes_count_too() {
        for all in 1..=7 {
            for left in 0..=all {
                assert_eq!(majority(all, left), dynamo::quorum::majority(left, all - left), "{left} of {all} are left");
            }
        }
    }
}
