//! The descent through two hash trees: from a range that differs to smaller ones, and at last to keys.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    bug::{Bug, is_on},
    ident::StoreKey,
    layout::View,
    merkle::UNREADABLE,
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
        // Two records that can't be read are not equal.
        let is_equal = |key: &&StoreKey, digest: &u128| *digest != UNREADABLE && others.get(*key) == Some(digest);
        let changed = mine.iter().filter(|(key, digest)| !is_equal(key, digest)).map(|(key, _)| **key);
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

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::{Comparison, KEYS_DEEPEST_MAX, KEYS_FEW, NoComparison, Range, StoreKey};
    use crate::{
        layout::View,
        operation::{ErrorCode, Failure},
        peer::{TreeAnswer, TreeAsk, TreePath, TreeSum},
    };

    const VIEW: View = View { prefix: 0xa, bits: 4, lo: 1, hi: 1 };

    fn compare(
        path: TreePath,
        ask: TreeAsk,
        here: TreeAnswer,
        there: TreeAnswer,
    ) -> Result<(Vec<Range>, Vec<StoreKey>), NoComparison> {
        let (mut ranges, mut differing) = (Vec::new(), Vec::new());
        let mut comparison = Comparison { ranges: &mut ranges, differing: &mut differing };
        comparison.compare(&VIEW, Range { path, ask }, here, there)?;
        Ok((ranges, differing))
    }

    fn whole() -> TreePath {
        Range::whole(&VIEW).path
    }

    fn sum(count: u64, sum: u64) -> TreeSum {
        TreeSum { count, sum }
    }

    fn key(first: u64, last: u8) -> StoreKey {
        let mut key = [last; 32];
        key[..8].copy_from_slice(&first.to_be_bytes());
        StoreKey(key)
    }

    fn keys(keys: &[(StoreKey, u128)], more: bool) -> TreeAnswer {
        TreeAnswer::Keys { keys: keys.to_vec(), more }
    }

    #[test]
    fn a_partition_begins_at_its_prefix_and_one_without_bits_is_everything() {
        assert_eq!(whole(), TreePath { prefix: 0xa << 60, bits: 4 });
        let all = View { prefix: 0, bits: 0, lo: 1, hi: 1 };
        assert_eq!(Range::whole(&all).path, TreePath { prefix: 0, bits: 0 });
    }

    #[test]
    fn equal_sums_end_the_descent_and_few_keys_are_asked_for_at_once() {
        let at = |here, there| compare(whole(), TreeAsk::Sum, TreeAnswer::Sum(here), TreeAnswer::Sum(there)).unwrap();
        assert_eq!(at(sum(5, 7), sum(5, 7)), (vec![], vec![]));
        let few = at(sum(KEYS_FEW, 7), sum(1, 8)).0;
        assert!(matches!(few[..], [Range { ask: TreeAsk::Keys(_), .. }]), "{few:?}");
        let many = at(sum(KEYS_FEW + 1, 7), sum(0, 0)).0;
        assert_eq!(many, [Range { path: whole(), ask: TreeAsk::Children }]);
    }

    #[test]
    fn of_256_ranges_only_those_that_differ_are_looked_into() {
        let mut there = vec![sum(100, 1); 256];
        there[0x5c] = sum(100, 2);
        let here = TreeAnswer::Children(vec![sum(100, 1); 256]);
        let (ranges, _) = compare(whole(), TreeAsk::Children, here, TreeAnswer::Children(there)).unwrap();
        assert_eq!(ranges, [Range { path: TreePath { prefix: 0xa5c << 52, bits: 12 }, ask: TreeAsk::Children }]);
    }

    #[test]
    fn keys_that_differ_or_that_one_side_lacks_are_found_and_foreign_ones_are_not_believed() {
        let first = 0xa << 60;
        let here = keys(&[(key(first, 1), 1), (key(first, 2), 2), (key(first, 3), 3)], false);
        let there = keys(&[(key(first, 2), 9), (key(first, 3), 3), (key(first, 4), 4), (key(1, 1), 1)], false);
        let (_, differing) = compare(whole(), TreeAsk::Keys(64), here, there).unwrap();
        assert_eq!(differing, [key(first, 1), key(first, 2), key(first, 4)]);
    }

    #[test]
    fn a_range_that_has_grown_is_divided_and_at_the_deepest_what_both_have_named_is_compared() {
        let first = 0xa << 60;
        let some = |more| keys(&[(key(first, 1), 1), (key(first, 5), 5)], more);
        let (ranges, differing) = compare(whole(), TreeAsk::Keys(2), some(true), some(false)).unwrap();
        assert_eq!((ranges.len(), differing.len()), (1, 0));
        assert_eq!(ranges[0].ask, TreeAsk::Children);
        let deepest = TreePath { prefix: first, bits: 60 };
        assert_eq!(Range::closer(deepest, 1_000_000).ask, TreeAsk::Keys(KEYS_DEEPEST_MAX));
        let other = keys(&[(key(first, 1), 2), (key(first, 2), 2), (key(first, 9), 9)], false);
        let (ranges, differing) = compare(deepest, TreeAsk::Keys(2), some(true), other).unwrap();
        assert_eq!(ranges, []);
        // Whether 9 stands here too, the first two keys do not say.
        assert_eq!(differing, [key(first, 1), key(first, 5), key(first, 2)]);
    }

    #[test]
    fn an_answer_to_another_question_ends_the_exchange() {
        let children = |count| TreeAnswer::Children(vec![sum(1, 1); count]);
        let failed = || TreeAnswer::Failed(Failure::new(ErrorCode::Overloaded, "later"));
        for (ask, here, there) in [
            (TreeAsk::Children, children(256), children(255)),
            (TreeAsk::Sum, children(256), children(256)),
            (TreeAsk::Children, children(256), TreeAnswer::Sum(sum(1, 1))),
            (TreeAsk::Sum, TreeAnswer::Sum(sum(1, 1)), failed()),
            (TreeAsk::Sum, TreeAnswer::Stale(VIEW), TreeAnswer::Sum(sum(1, 1))),
        ] {
            assert_eq!(compare(whole(), ask, here, there), Err(NoComparison));
        }
    }
}
