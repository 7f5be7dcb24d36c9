//! Trees against a map from which everything is computed anew.

use alloc::{collections::BTreeMap, vec::Vec};
use std::vec;

use proptest::{collection::vec, prelude::*};

use super::{Change, FANOUT, KEYS_MAX, LEAF_KEYS_MAX, Listing, Lost, NodeError, Notice, Tree, answer_of, check, term};
use crate::{
    ident::StoreKey,
    layout::View,
    operation::ErrorCode,
    peer::{TreeAnswer, TreeAsk, TreePath, TreeQuestion, TreeSum},
    replica::{PartitionRow, Refusal},
};

const BITS: u8 = 4;
const PREFIX: u32 = 9;

/// A partition by map and by tree, kept as a store keeps them.
struct Twins {
    map: BTreeMap<StoreKey, u128>,
    tree: Tree,
    log: Vec<Change>,
    /// Copies of nodes as they were stored.
    stored: BTreeMap<(u8, u64), Vec<u8>>,
}

impl Twins {
    fn new() -> Self {
        Self { map: BTreeMap::new(), tree: Tree::new(PREFIX, BITS), log: vec![], stored: BTreeMap::new() }
    }

    fn set(&mut self, key: StoreKey, digest: Option<u128>, is_known: bool) {
        let before = match digest {
            Some(digest) => self.map.insert(key, digest),
            None => self.map.remove(&key),
        };
        // What can't be read stood there all the same.
        let is_known = is_known || before.is_none();
        let change = if is_known { Change::of(&key, before, digest) } else { Change::of_unknown(&key, digest) };
        self.log.push(change);
        let notices = apply(&mut self.tree, &change, self.log.len() as u64);
        self.recount(notices);
    }

    fn recount(&mut self, mut ranges: Vec<TreePath>) {
        while let Some(range) = ranges.pop() {
            let keys: Vec<_> = self.listed(&range).into_iter().map(|(key, digest)| (key, Some(digest))).collect();
            let notice = &mut |notice| ranges.extend(range_of(notice));
            self.tree.recount(&range, &keys, self.log.len() as u64, notice).unwrap();
        }
    }

    fn store(&mut self, range: &TreePath) {
        if let Some(bytes) = self.tree.encode(range, self.log.len() as u64) {
            self.stored.insert((range.bits, range.prefix), bytes);
            self.tree.stored(range);
        }
    }

    /// The process ends; another one begins with the stored copies and the log.
    fn restart(&mut self) {
        let mut tree = Tree::new(PREFIX, BITS);
        for ((bits, prefix), bytes) in &self.stored {
            // A copy of a range whose parent was never stored stands for nothing.
            let _ = tree.restore(&TreePath { bits: *bits, prefix: *prefix }, bytes);
        }
        let mut ranges = vec![];
        for (change, position) in self.log.iter().zip(1..) {
            ranges.extend(apply(&mut tree, change, position));
        }
        tree.prune(&mut |notice| ranges.extend(range_of(notice)));
        ranges.extend(tree.crowded());
        self.tree = tree;
        self.recount(ranges);
    }

    fn listed(&self, range: &TreePath) -> Vec<(StoreKey, u128)> {
        let keys = self.map.range(range.first_key()..=range.last_key());
        keys.map(|(key, digest)| (*key, *digest)).collect()
    }

    fn ask(&self, path: &TreePath, ask: TreeAsk) -> TreeAnswer {
        self.tree
            .answer(path, ask)
            .unwrap_or_else(|| answer_of(path, ask, Listing { keys: self.listed(path), more: false }))
    }

    fn expected(&self, path: &TreePath) -> TreeSum {
        let keys = self.listed(path);
        let sum = keys.iter().fold(0, |sum: u64, (key, digest)| sum.wrapping_add(term(key, *digest)));
        TreeSum { count: keys.len() as u64, sum }
    }

    fn check(&self, path: &TreePath) {
        assert_eq!(self.ask(path, TreeAsk::Sum), TreeAnswer::Sum(self.expected(path)), "{path:?}");
        let children: Vec<TreeSum> =
            (0..=u8::MAX).filter_map(|part| path.child(part)).map(|child| self.expected(&child)).collect();
        if !children.is_empty() {
            assert_eq!(self.ask(path, TreeAsk::Children), TreeAnswer::Children(children), "{path:?}");
        }
    }
}

fn range_of(notice: Notice) -> Option<TreePath> {
    match notice {
        Notice::Stale(_) => None,
        Notice::Crowded(range) | Notice::Unknown(range) => Some(range),
    }
}

fn apply(tree: &mut Tree, change: &Change, position: u64) -> Vec<TreePath> {
    let mut ranges = vec![];
    tree.apply(change, position, &mut |notice| ranges.extend(range_of(notice)));
    ranges
}

/// A key of the partition; the lower `spread`, the more of them share their first bits.
fn key(number: u32, spread: u32) -> StoreKey {
    let mixed = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let at = TreePath::of_partition(PREFIX, BITS).prefix | mixed >> (u32::from(BITS) + spread);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&at.to_be_bytes());
    bytes[8..12].copy_from_slice(&number.to_be_bytes());
    StoreKey(bytes)
}

#[derive(Clone, Debug)]
enum Step {
    /// Many keys at once, so that ranges become crowded.
    Fill {
        first: u32,
        count: u32,
        spread: u32,
    },
    Set {
        number: u32,
        spread: u32,
        digest: Option<u128>,
        is_known: bool,
    },
    Store {
        depth: u8,
        number: u32,
        spread: u32,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let spread = prop_oneof![Just(0_u32), Just(8), Just(30)];
    prop_oneof![
        1 => (0..4_000_u32, 0..1_500_u32, spread.clone())
            .prop_map(|(first, count, spread)| Step::Fill { first, count, spread }),
        8 => (0..4_000_u32, spread.clone(), any::<Option<u128>>(), any::<bool>())
            .prop_map(|(number, spread, digest, is_known)| Step::Set { number, spread, digest, is_known }),
        6 => (0..4_u8, 0..4_000_u32, spread).prop_map(|(depth, number, spread)| Step::Store { depth, number, spread }),
        2 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_tree_answers_at_every_depth_what_the_keys_say(steps in vec(step(), 1..60), probes in vec((0..4_000_u32, 0..60_u8), 12)) {
        let mut twins = Twins::new();
        for step in steps {
            match step {
                Step::Fill { first, count, spread } => {
                    for number in first..first + count {
                        // Not 0, which stands for a record that can't be read.
                        twins.set(key(number, spread), Some(u128::from(number) + 1), true);
                    }
                }
                Step::Set { number, spread, digest, is_known } => twins.set(key(number, spread), digest, is_known),
                Step::Store { depth, number, spread } => {
                    let range = TreePath::around(&key(number, spread), BITS + 8 * depth);
                    twins.store(&range);
                }
                Step::Restart => twins.restart(),
            }
            prop_assert_eq!(twins.tree.total(), twins.expected(&twins.tree.path()));
        }
        twins.check(&twins.tree.path());
        for (number, bits) in probes {
            for spread in [0, 8, 30] {
                twins.check(&TreePath::around(&key(number, spread), BITS + bits));
                let (leaf, sum) = twins.tree.leaf(TreePath::around(&key(number, spread), 64).prefix);
                prop_assert_eq!(sum, twins.expected(&leaf));
                prop_assert!(sum.count <= u64::from(LEAF_KEYS_MAX));
            }
        }
        prop_assert_eq!(twins.tree.crowded(), vec![]);
    }
}

#[test]
fn leaves_in_their_order_hold_everything_once() {
    let mut twins = Twins::new();
    (0..5_000).for_each(|number| twins.set(key(number, [0, 30][number as usize % 2]), Some(1), true));
    let (mut at, mut total, mut leaves) = (twins.tree.path().prefix, TreeSum::default(), 0);
    loop {
        let (leaf, sum) = twins.tree.leaf(at);
        assert_eq!((leaf.prefix, sum), (at, twins.expected(&leaf)));
        total = TreeSum { count: total.count + sum.count, sum: total.sum.wrapping_add(sum.sum) };
        leaves += 1;
        match leaf.behind() {
            Some(next) if twins.tree.path().covers(&TreePath { prefix: next, bits: 64 }) => at = next,
            Some(_) | None => break,
        }
    }
    assert_eq!(total, twins.tree.total());
    assert!(leaves > FANOUT, "{leaves} leaves: no range was crowded");
}

#[test]
fn a_lost_key_is_noticed_when_its_range_is_counted() {
    let mut twins = Twins::new();
    (0..100).for_each(|number| twins.set(key(number, 0), Some(1), true));
    let (leaf, sum) = twins.tree.leaf(u64::from_be_bytes(key(3, 0).0[..8].try_into().unwrap()));
    let mut keys: Vec<_> = twins.listed(&leaf).into_iter().map(|(key, digest)| (key, Some(digest))).collect();
    keys.pop().expect("there are keys in every part");
    let lost = Lost { counted: sum.count, found: sum.count - 1 };
    assert_eq!(twins.tree.recount(&leaf, &keys, 100, &mut |_| {}), Err(lost));
    assert_eq!(twins.tree.leaf(leaf.prefix).1, sum, "and nothing was changed");
}

#[test]
fn listings_are_cut_and_incomplete_sums_refused() {
    let mut twins = Twins::new();
    (0..1_200).for_each(|number| twins.set(key(number, 0), Some(1), true));
    let path = twins.tree.path();
    let listing = |count: usize, more| Listing { keys: twins.listed(&path).into_iter().take(count).collect(), more };
    for (most, listed, more, length, has_more) in [
        (10, 11, false, 10, true),
        (10, 10, true, 10, true),
        (10, 10, false, 10, false),
        (u32::MAX, 1_200, false, KEYS_MAX as usize, true),
    ] {
        match answer_of(&path, TreeAsk::Keys(most), listing(listed, more)) {
            TreeAnswer::Keys { keys, more } => assert_eq!((keys.len(), more), (length, has_more)),
            other => panic!("{other:?}"),
        }
    }
    for ask in [TreeAsk::Sum, TreeAsk::Children] {
        match answer_of(&path, ask, listing(10, true)) {
            TreeAnswer::Failed(failure) => assert_eq!(failure.code, ErrorCode::Overloaded),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_stored_node_survives_its_encoding_and_no_flipped_bit_does() {
    let mut twins = Twins::new();
    (0..100).for_each(|number| twins.set(key(number, 0), Some(1), true));
    let path = twins.tree.path();
    let bytes = twins.tree.encode(&path, 7).unwrap();
    let mut tree = Tree::new(PREFIX, BITS);
    assert_eq!(tree.restore(&path, &bytes), Ok(()));
    assert_eq!(tree.total(), twins.tree.total());
    for bit in (0..8 * bytes.len()).step_by(11) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(tree.restore(&path, &flipped).is_err());
    }
    let elsewhere = TreePath::of_partition(PREFIX + 1, BITS);
    assert_eq!(Tree::new(PREFIX + 1, BITS).restore(&elsewhere, &bytes), Err(NodeError::Damaged));
    assert_eq!(tree.restore(&path, &[]), Err(NodeError::Damaged));
    assert_eq!(tree.restore(&path, &[2]), Err(NodeError::UnknownFormat(2)));
}

#[test]
fn only_questions_into_the_partition_under_its_view_are_answered() {
    let view = View { prefix: PREFIX, bits: BITS, lo: 3, hi: 3 };
    let row = PartitionRow::new(view);
    let path = TreePath::of_partition(PREFIX, BITS);
    let ask = |view, path, ask| check(Some(&row), &TreeQuestion { view, path, ask });
    assert_eq!(ask(view, path, TreeAsk::Sum), Ok(()));
    assert_eq!(ask(view, path.child(255).unwrap(), TreeAsk::Children), Ok(()));
    let old = View { lo: 2, hi: 2, ..view };
    assert_eq!(ask(old, path, TreeAsk::Sum), Err(Refusal::Stale(view)));
    let end = TreePath { bits: 64, ..path };
    assert_eq!(ask(view, end, TreeAsk::Sum), Ok(()));
    let hostile = [
        (view, TreePath { bits: 3, ..path }, TreeAsk::Sum),
        (view, TreePath { prefix: path.prefix | 1, ..path }, TreeAsk::Sum),
        (view, TreePath { bits: 65, ..path }, TreeAsk::Sum),
        (view, TreePath { bits: 255, prefix: u64::MAX }, TreeAsk::Sum),
        (view, TreePath::of_partition(PREFIX + 1, BITS), TreeAsk::Sum),
        (view, end, TreeAsk::Children),
        (View { bits: 200, ..view }, path, TreeAsk::Sum),
        (View { prefix: 1 << 20, ..view }, path, TreeAsk::Sum),
    ];
    for (view, path, asked) in hostile {
        match ask(view, path, asked) {
            Err(Refusal::Failed(failure)) => assert_eq!(failure.code, ErrorCode::InvalidRequest),
            other => panic!("{view:?} {path:?} {asked:?}: {other:?}"),
        }
    }
}
