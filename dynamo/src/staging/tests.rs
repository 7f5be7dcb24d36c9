//! Staged changes: joins in any order agree, the last word counts, and any bytes are read or refused.

use std::{format, string::String, vec, vec::Vec};

use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{Change, Staged, StagedDecodeError, StagingError, Stamp, Subject, WORDS_MAX};
use crate::{
    ident::NodeId,
    layout::{BucketProperties, Layout, Level, Member, MemberState},
    planner::{Desired, plan},
    settlement::Proven,
};

fn node(number: u8) -> NodeId {
    NodeId(u128::from(number) + 1)
}

fn member(number: u8) -> Member {
    Member {
        id: node(number),
        name: format!("n{number}"),
        zone: format!("z{number}"),
        weight: 1,
        addresses: vec![format!("127.0.0.1:{}", 7000 + u16::from(number))],
        state: MemberState::Active,
    }
}

/// Three nodes, numbers 0 to 2.
fn ring_of_three() -> Layout {
    let desired = Desired {
        cluster: 1,
        members: (0..3).map(member).collect(),
        replacements: Default::default(),
        replicas: 3,
        partition_bits: None,
        buckets: Default::default(),
        proven: Proven::Everything,
    };
    plan(None, &desired).expect("three nodes make a ring").layout
}

fn stamp(clock: u64) -> Stamp {
    Stamp { clock, node: node(0) }
}

fn staged(changes: impl IntoIterator<Item = Change>) -> Staged {
    let mut staged = Staged::default();
    for (change, clock) in changes.into_iter().zip(1..) {
        staged.stage(change, stamp(clock)).expect("it could be part of a layout");
    }
    staged
}

fn any_subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        4 => (0..6_u8).prop_map(|number| Subject::Node(node(number))),
        1 => "[ab]".prop_map(Subject::Bucket),
        1 => Just(Subject::Replicas),
        1 => Just(Subject::PartitionBits),
    ]
}

fn any_change() -> impl Strategy<Value = Change> {
    let number = || 0..6_u8;
    prop_oneof![
        (number(), 0..4_u32).prop_map(|(number, weight)| Change::Join(Member { weight, ..member(number) })),
        number().prop_map(|number| Change::Leave(node(number))),
        (number(), number()).prop_map(|(old, new)| Change::Replace { old: node(old), new: node(new) }),
        number().prop_map(|number| Change::Lost(node(number))),
        (number(), 1..9_u32).prop_map(|(number, weight)| Change::Reweight { node: node(number), weight }),
        (number(), 0..3_u8).prop_map(|(number, zone)| Change::Zone { node: node(number), zone: format!("z{zone}") }),
        (number(), 0..3_u16).prop_map(|(number, host)| Change::Addresses {
            node: node(number),
            addresses: (0..host).map(|port| format!("h:{port}")).collect()
        }),
        ("[ab]", 0..3_u8)
            .prop_map(|(name, r)| Change::Bucket { name, properties: BucketProperties { r, ..Default::default() } }),
        (1..=7_u8).prop_map(Change::Replicas),
        (0..=20_u8).prop_map(Change::PartitionBits),
        any_subject().prop_map(Change::Undo),
    ]
}

/// What one node was told: changes with its own stamps, and perhaps that all before was cleared.
fn any_staged() -> impl Strategy<Value = Staged> {
    let change = (any_change(), 0..40_u64, 0..3_u8);
    let clear = prop_oneof![3 => Just(None), 1 => (0..40_u64).prop_map(Some)];
    (proptest::collection::vec(change, 0..12), clear).prop_map(|(changes, clear)| {
        let mut staged = Staged::default();
        for (change, clock, by) in changes {
            staged.stage(change, Stamp { clock, node: node(by) }).expect("it could be part of a layout");
        }
        if let Some(clock) = clear {
            staged.clear(stamp(clock));
        }
        staged
    })
}

fn joined(one: &Staged, other: &Staged) -> Staged {
    let mut both = one.clone();
    both.join(other);
    both
}

proptest! {
    #[test]
    fn joins_are_commutative_associative_and_idempotent(a in any_staged(), b in any_staged(), c in any_staged()) {
        prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
        prop_assert_eq!(joined(&a, &a), a.clone());
        let mut again = joined(&a, &b);
        prop_assert!(!again.join(&b), "what is known already is nothing new");
    }

    #[test]
    fn staged_changes_survive_their_bytes(staged in any_staged()) {
        prop_assert_eq!(Staged::decode(&staged.encode()), Ok(staged));
    }

    #[test]
    fn any_bytes_are_changes_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Staged::decode(&bytes);
    }

    #[test]
    fn damaged_bytes_are_changes_or_an_error(staged in any_staged(), at in any::<usize>(), bit in 0..8_u8, cut in any::<usize>()) {
        let mut bytes = staged.encode();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(read) = Staged::decode(&bytes) {
            prop_assert_eq!(Staged::decode(&read.encode()), Ok(read));
        }
        bytes.truncate(cut % bytes.len());
        let _ = Staged::decode(&bytes);
    }

    #[test]
    fn a_stamp_that_a_node_takes_is_above_all_it_has_seen(staged in any_staged(), wall_ms in 0..2_u64, by in 0..3_u8) {
        let next = staged.next_stamp(wall_ms, node(by));
        let mut after = staged.clone();
        after.stage(Change::Replicas(5), next).expect("five replicas can be");
        prop_assert!(after.pending(&ring_of_three()).contains(&Change::Replicas(5)));
        after.clear(after.next_stamp(wall_ms, node(by)));
        prop_assert!(after.is_empty());
    }

    #[test]
    fn undoing_a_node_leaves_nothing_to_do_about_it(staged in any_staged(), number in 0..6_u8) {
        let mut undone = staged;
        undone.stage(Change::Undo(Subject::Node(node(number))), stamp(1000)).expect("undoing can be");
        let about = |change: &Change| match change {
            Change::Join(member) => member.id,
            Change::Leave(node) | Change::Lost(node) | Change::Replace { new: node, .. } => *node,
            Change::Reweight { node, .. } | Change::Zone { node, .. } | Change::Addresses { node, .. } => *node,
            Change::Bucket { .. } | Change::Replicas(_) | Change::PartitionBits(_) | Change::Undo(_) => NodeId(0),
        };
        prop_assert!(undone.pending(&ring_of_three()).iter().all(|change| about(change) != node(number)));
    }
}

#[test]
fn the_later_word_counts_in_whatever_order_they_come() {
    let (early, late) = (Change::Replicas(5), Change::Replicas(2));
    for order in [[(&early, 1), (&late, 2)], [(&late, 2), (&early, 1)]] {
        let mut staged = Staged::default();
        for (change, clock) in order {
            staged.stage(change.clone(), stamp(clock)).unwrap();
        }
        assert_eq!(staged.pending(&ring_of_three()), std::slice::from_ref(&late));
    }
}

#[test]
fn what_is_cleared_does_not_come_back_from_others() {
    let other = staged([Change::Leave(node(1)), Change::Replicas(5)]);
    let mut here = other.clone();
    here.clear(here.next_stamp(0, node(2)));
    assert!(!here.join(&other) && here.is_empty());
    assert!(joined(&other, &here).is_empty());
}

#[test]
fn what_the_layout_has_is_not_pending() {
    let layout = ring_of_three();
    let done = [
        Change::Join(member(1)),
        Change::Leave(node(5)),
        Change::Reweight { node: node(1), weight: 1 },
        Change::Zone { node: node(2), zone: "z2".into() },
        Change::Addresses { node: node(0), addresses: vec!["127.0.0.1:7000".into()] },
        Change::Bucket { name: "carts".into(), properties: BucketProperties::default() },
        Change::Replicas(3),
        Change::PartitionBits(8),
        Change::Reweight { node: node(9), weight: 3 },
    ];
    assert_eq!(staged(done).pending(&layout), []);
    let carts = BucketProperties { level: Level::Quorum, ..Default::default() };
    let open = [
        Change::Join(member(5)),
        Change::Reweight { node: node(5), weight: 7 },
        Change::Leave(node(0)),
        Change::Lost(node(1)),
        Change::Bucket { name: "carts".into(), properties: carts },
        Change::PartitionBits(9),
    ];
    assert_eq!(staged(open.clone()).pending(&layout), open);
}

#[test]
fn undoing_a_replacement_lets_the_old_node_stay() {
    let replace = [Change::Join(member(5)), Change::Replace { old: node(1), new: node(5) }];
    assert_eq!(staged(replace.clone()).pending(&ring_of_three()), replace);
    let undone = staged(replace.into_iter().chain([Change::Undo(Subject::Node(node(5)))]));
    assert_eq!(undone.pending(&ring_of_three()), []);
}

#[test]
fn a_change_that_could_be_in_no_layout_is_refused() {
    let refused = [
        Change::Join(Member { name: String::new(), ..member(5) }),
        Change::Reweight { node: node(1), weight: 0 },
        Change::Zone { node: node(1), zone: "two words".into() },
        Change::Addresses { node: node(1), addresses: vec!["nowhere".into()] },
        Change::Bucket { name: "a/b".into(), properties: BucketProperties::default() },
        Change::Replicas(0),
        Change::Replicas(8),
        Change::PartitionBits(21),
    ];
    for change in refused {
        let mut staged = Staged::default();
        assert!(matches!(staged.stage(change.clone(), stamp(1)), Err(StagingError::Unsound(_))), "{change:?}");
        assert!(staged.is_empty());
    }
}

#[test]
fn the_map_is_bounded_and_room_is_made_of_what_is_done() {
    let bucket = |number: usize| Change::Bucket { name: format!("b{number}"), properties: BucketProperties::default() };
    let mut full = staged((0..WORDS_MAX + 10).map(bucket));
    full.stage(Change::Replicas(5), stamp(1 << 40)).unwrap();
    assert_eq!(full.words.len(), WORDS_MAX);
    let mut many = Vec::from([1, 0, 0, 0, 0x10, 0x01]);
    many.resize(1 << 20, 0);
    assert_eq!(Staged::decode(&many), Err(StagedDecodeError::TooMany(WORDS_MAX + 1)));
    full.make_room(&ring_of_three());
    assert_eq!(full.pending(&ring_of_three()), [Change::Replicas(5)]);
    assert_eq!(full.words.len(), 1);
}
