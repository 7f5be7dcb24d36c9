//! The descent through two hash trees: from a range that differs to smaller ones, and at last to keys.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    bug::{Bug, is_on},
    ident::StoreKey,
    layout::View,
    peer::{TreeAnswer, TreeAsk, TreePath, TreeSum},
};

/// A range with at most so many keys on either side is compared key by key. A key takes 64 bytes in a message and the sums of
/// 256 ranges 4 KiB, so below that one more level of sums would cost more than it could spare.
const KEYS_FEW: u64 = 64;

/// Keys asked for where there should be few: there may be more by now.
const KEYS_MAX: u32 = 128;

/// Keys asked for where sums can't be taken any finer. So many identifiers with 64 bits in common are made on purpose.
const KEYS_DEEPEST_MAX: u32 = 1024;

/// How many bits of an identifier a path can have.
const PATH_BITS_MAX: u8 = 64;

/// How many bits each level of a tree adds.
const LEVEL_BITS: u8 = 8;

/// A range of identifiers and what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) path: TreePath,
    pub(super) ask: TreeAsk,
}

/// Where a comparison puts what it finds.
pub(super) struct Comparison<'e> {
    /// Smaller ranges that are to be compared.
    pub(super) ranges: &'e mut Vec<Range>,
    /// Keys that differ.
    pub(super) differing: &'e mut Vec<StoreKey>,
}

/// An answer that is none, or to another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoComparison;

impl Range {
    /// A whole partition.
    pub(super) fn whole(view: &View) -> Self {
        let prefix = u64::from(view.prefix).checked_shl(64 - u32::from(view.bits)).unwrap_or(0);
        Self { path: TreePath { prefix, bits: view.bits }, ask: TreeAsk::Sum }
    }

    /// How to look closer into a range with so many keys.
    fn closer(path: TreePath, count: u64) -> Self {
        let ask = if path.bits + LEVEL_BITS > PATH_BITS_MAX {
            TreeAsk::Keys(KEYS_DEEPEST_MAX)
        } else if count <= KEYS_FEW {
            TreeAsk::Keys(KEYS_MAX)
        } else {
            TreeAsk::Children
        };
        Self { path, ask }
    }
}

impl Comparison<'_> {
    /// Compares what both sides answered about a range.
    pub(super) fn compare(
        &mut self,
        view: &View,
        range: Range,
        here: TreeAnswer,
        there: TreeAnswer,
    ) -> Result<(), NoComparison> {
        match (here, there) {
            (TreeAnswer::Sum(here), TreeAnswer::Sum(there)) if range.ask == TreeAsk::Sum => {
                if differ(here, there) {
                    self.ranges.push(Range::closer(range.path, here.count.max(there.count)));
                }
                Ok(())
            }
            (TreeAnswer::Children(here), TreeAnswer::Children(there))
                if range.ask == TreeAsk::Children && here.len() == 256 && there.len() == 256 =>
            {
                for (index, (here, there)) in (0..=u8::MAX).zip(here.into_iter().zip(there)) {
                    let path = child(range.path, index);
                    if differ(here, there) && !is_skipped(view, path.prefix) {
                        self.ranges.push(Range::closer(path, here.count.max(there.count)));
                    }
                }
                Ok(())
            }
            (TreeAnswer::Keys { keys: here, more }, TreeAnswer::Keys { keys: there, more: more_there }) => {
                self.keys(view, range, &here, &there, more || more_there);
                Ok(())
            }
            (
                TreeAnswer::Sum(_)
                | TreeAnswer::Children(_)
                | TreeAnswer::Keys { .. }
                | TreeAnswer::Stale(_)
                | TreeAnswer::Failed(_),
                _,
            ) => Err(NoComparison),
        }
    }

    fn keys(&mut self, view: &View, range: Range, here: &[(StoreKey, u128)], there: &[(StoreKey, u128)], more: bool) {
        if more && range.path.bits + LEVEL_BITS <= PATH_BITS_MAX {
            self.ranges.push(Range { path: range.path, ask: TreeAsk::Children });
            return;
        }
        // Beyond the last key of a side that has more, nothing is known of it: only what both have named is compared.
        let known = |keys: &[(StoreKey, u128)]| if more { keys.last().map(|(key, _)| *key) } else { None };
        let end = match (known(here), known(there)) {
            (Some(here), Some(there)) => Some(here.min(there)),
            (end, None) | (None, end) => end,
        };
        let of_range = |key: &StoreKey| is_within(key, range.path) && end.is_none_or(|end| *key <= end);
        let others: BTreeMap<&StoreKey, u128> = there.iter().map(|(key, digest)| (key, *digest)).collect();
        let mine: BTreeMap<&StoreKey, u128> = here.iter().map(|(key, digest)| (key, *digest)).collect();
        let changed = mine.iter().filter(|(key, digest)| others.get(*key) != Some(*digest)).map(|(key, _)| **key);
        let unknown = others.keys().filter(|key| !mine.contains_key(*key)).map(|key| **key);
        let differing = changed.chain(unknown).filter(|key| of_range(key) && !is_skipped(view, first_bits(key)));
        self.differing.extend(differing);
    }
}

fn differ(here: TreeSum, there: TreeSum) -> bool {
    if is_on(Bug::CompareCounts) {
        return here.count != there.count;
    }
    here != there
}

fn child(path: TreePath, index: u8) -> TreePath {
    let bits = path.bits + LEVEL_BITS;
    TreePath { prefix: path.prefix | u64::from(index) << (PATH_BITS_MAX - bits), bits }
}

fn first_bits(key: &StoreKey) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&key.0[..8]);
    u64::from_be_bytes(first)
}

/// Whether a key belongs to a range: a peer may name any.
fn is_within(key: &StoreKey, path: TreePath) -> bool {
    let beyond = u32::from(PATH_BITS_MAX.saturating_sub(path.bits));
    (first_bits(key) ^ path.prefix).checked_shr(beyond).unwrap_or(0) == 0
}

/// The bug bank's bucket that is never compared: one sixteenth of each partition.
fn is_skipped(view: &View, prefix: u64) -> bool {
    is_on(Bug::SkipTreeBucket) && prefix << view.bits >> 60 == 0xa
}
