//! Merging: what two replicas know of one key becomes what both know.
//!
//! Two operations, because they obey different laws. [`Object::join`] is the least upper bound in a lattice: commutative,
//! associative, idempotent, whatever the objects are. [`Object::settle`] lets the memory of overwritten operations act: it
//! drops the versions whose operation is spent. That memory is bounded, so whether a twin meets it can depend on the
//! order of meetings; [`Object::merge`], which does both, is therefore associative only as long as no memory was evicted.
//! Beyond that two orders may differ in a twin, never in anything else, and merging their results with each other makes
//! them equal again: dropped means "known and absent", which wins. A memory of bounded size that drops nothing by mistake
//! can't do better: whoever forgot that an operation was spent can't tell its twin from a new write.

use alloc::vec::Vec;
use core::{cmp::Ordering, mem};

use super::{Object, SPENT_MAX, SPENT_RECENT_MAX, SPENT_RECENT_MS, Spent, Version};
use crate::{
    bug::{self, Bug},
    hlc,
};

impl Object {
    /// Takes in what `other` knows and drops versions whose operation either side knows to be spent.
    pub fn merge(&mut self, other: &Self) {
        self.unite(other);
        self.settle();
        self.make_mistakes();
        self.forget_spent();
    }

    /// The least upper bound: the versions in both, and those of either side that the other has never known.
    pub fn join(&mut self, other: &Self) {
        self.unite(other);
        self.forget_spent();
    }

    /// The join before its memory is cut to size.
    fn unite(&mut self, other: &Self) {
        let mut ours = mem::take(&mut self.versions).into_iter().peekable();
        let mut theirs = other.versions.iter().peekable();
        let mut joined = Vec::with_capacity(ours.len().max(theirs.len()));
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (Some(our), Some(their)) => our.dot.cmp(&their.dot),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            match order {
                Ordering::Less => joined.extend(ours.next().filter(|version| !other.context.covers(version.dot))),
                Ordering::Greater => {
                    joined.extend(theirs.next().filter(|version| !self.context.covers(version.dot)).cloned());
                }
                Ordering::Equal => {
                    joined.extend(ours.next().zip(theirs.next()).map(|(our, their)| same_dot(our, their)))
                }
            }
        }
        self.versions = joined;
        if !bug::is_on(Bug::MergeForgetsContext) {
            self.context.join(&other.context);
        }
        self.recall(&other.spent);
    }

    /// Drops the versions whose operation is spent. Their dots stay covered, so they are dropped wherever this arrives.
    pub fn settle(&mut self) {
        if self.spent.is_empty() {
            return;
        }
        let spent = &self.spent;
        self.versions
            .retain(|version| version.fingerprint().is_none_or(|hash| spent.iter().all(|known| known.hash != hash)));
    }

    /// What merging must never do, where the bug bank says so.
    fn make_mistakes(&mut self) {
        if bug::is_on(Bug::MergeKeepsLargestDot) {
            let largest = self.versions.last().map(|version| version.dot);
            self.versions.retain(|version| Some(version.dot) == largest);
        }
        if bug::is_on(Bug::MergeDropsLosers) {
            let winner =
                self.versions.iter().max_by_key(|version| (version.clock, version.dot)).map(|version| version.dot);
            self.versions.retain(|version| Some(version.dot) == winner);
        }
        if bug::is_on(Bug::ExpiryInMerge) {
            let now = self.versions.iter().map(|version| version.clock).max().unwrap_or(0);
            self.versions.retain(|version| !version.is_expired(now));
        }
    }

    /// Whether the operation with this fingerprint is known to be overwritten.
    pub fn is_spent(&self, fingerprint: u64) -> bool {
        self.spent.iter().any(|known| known.hash == fingerprint)
    }

    /// Adds to the memory of overwritten operations: the latest clock for each, in order. The caller has it cut to size.
    pub(super) fn recall(&mut self, spent: &[Spent]) {
        if spent.is_empty() {
            return;
        }
        for entry in spent {
            match self.spent.iter_mut().find(|known| known.hash == entry.hash) {
                Some(known) => known.clock = known.clock.max(entry.clock),
                None => self.spent.push(*entry),
            }
        }
        self.spent.sort_unstable_by(|left, right| right.cmp(left));
    }

    /// Cuts the memory of overwritten operations to size: the latest [`SPENT_MAX`], and of those within [`SPENT_RECENT_MS`] of the latest
    /// as many as there is room for. Keeping the greatest of a union by a total order is itself a join, and so is keeping what is near
    /// its greatest; so it does not matter in which order memories meet.
    pub(super) fn forget_spent(&mut self) {
        let Some(latest) = self.spent.first() else { return };
        let since = hlc::wall_ms_of(latest.clock).saturating_sub(SPENT_RECENT_MS);
        let recent = self.spent.iter().take(SPENT_RECENT_MAX).take_while(|spent| hlc::wall_ms_of(spent.clock) >= since);
        let kept = recent.count().max(SPENT_MAX);
        self.spent.truncate(kept);
    }
}

/// Two versions of one dot are the same write. Should an actor ever have broken that promise, the choice must at least
/// not depend on who asks.
fn same_dot(ours: Version, theirs: &Version) -> Version {
    let rank = |version: &Version| (version.clock, version.op_id, version.expires, version.content.digest());
    if rank(&ours) >= rank(theirs) { ours } else { theirs.clone() }
}
