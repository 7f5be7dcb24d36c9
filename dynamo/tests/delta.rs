//! Differences of layouts: whatever an administrator changes, what a delta leads to is the layout itself; and no delta leads anywhere else.

use std::collections::BTreeMap;

use dynamo::{
    ident::NodeId,
    layout::{
        BucketProperties, Layout, Member, MemberState, NodeIndex,
        delta::{Delta, DeltaError, layout_bytes, span_kinds},
        spans::{Span, SpanRun, Spans},
    },
    planner::{Desired, plan},
    settlement::Proven,
};
use proptest::{collection::vec, prelude::*};

fn member(number: u16) -> Member {
    Member {
        id: NodeId(1000 + u128::from(number)),
        name: format!("n{number}"),
        zone: format!("z{}", number % 3),
        weight: 1,
        addresses: vec![format!("10.0.0.{number}:7400")],
        state: MemberState::Active,
    }
}

fn desired(members: Vec<Member>, bits: u8) -> Desired {
    let (replicas, partition_bits, buckets) = (3, Some(bits), BTreeMap::new());
    Desired {
        cluster: 7,
        members,
        replicas,
        partition_bits,
        buckets,
        replacements: Default::default(),
        proven: Proven::Nothing,
    }
}

/// What an administrator may change.
#[derive(Clone, Debug)]
enum Change {
    Join,
    Leave(u16),
    Weight(u16, u32),
    Address(u16),
    Bucket(u8),
}

fn changes() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let change = prop_oneof![
        Just(Change::Join),
        any::<u16>().prop_map(Change::Leave),
        (any::<u16>(), 1..5u32).prop_map(|(at, weight)| Change::Weight(at, weight)),
        any::<u16>().prop_map(Change::Address),
        any::<u8>().prop_map(Change::Bucket),
    ];
    vec(vec(change, 0..4), 1..6)
}

impl Change {
    fn apply(&self, desired: &mut Desired) {
        let count = desired.members.len();
        let at = |number: u16| usize::from(number) % count;
        match *self {
            Self::Join => desired.members.push(member(count as u16)),
            Self::Leave(number) if desired.members.iter().filter(|it| it.state == MemberState::Active).count() > 1 => {
                desired.members[at(number)].state = MemberState::Leaving;
            }
            Self::Leave(_) => {}
            Self::Weight(number, weight) => desired.members[at(number)].weight = weight,
            Self::Address(number) => desired.members[at(number)].addresses = vec![format!("10.1.1.{number}:1")],
            Self::Bucket(number) => {
                desired.buckets.insert(format!("b{number}"), BucketProperties::default());
            }
        }
    }
}

/// One reweighting in a ring of thirty nodes.
fn pair() -> (Layout, Layout) {
    let mut desired = desired((0..30).map(member).collect(), 12);
    let old = plan(None, &desired).unwrap().layout;
    desired.members[4].weight = 2;
    let new = plan(Some(&old), &desired).unwrap().layout;
    (old, new)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn a_delta_leads_to_the_layout_that_it_was_made_of(epochs in changes()) {
        let mut desired = desired((0..5).map(member).collect(), 6);
        let mut known = vec![plan(None, &desired).unwrap().layout];
        for changes in epochs {
            changes.iter().for_each(|change| change.apply(&mut desired));
            // Where partitions would have too many owners to ask, those before are done with first.
            let planned = plan(known.last(), &desired).or_else(|_| plan(known.last(), &Desired { proven: Proven::Everything, ..desired.clone() }));
            let next = planned.unwrap().layout;
            for old in &known {
                let delta = Delta::between(old, &next).unwrap();
                prop_assert!(delta.apply(old) == Ok(next.clone()));
                prop_assert!(delta.partitions.windows(2).all(|pair| pair[0] < pair[1]));
            }
            known.push(next);
        }
    }

    #[test]
    fn a_damaged_delta_leads_nowhere(kind in 0..9u8, at in any::<prop::sample::Index>(), value in any::<u16>()) {
        let (old, new) = pair();
        let mut delta = Delta::between(&old, &new).unwrap();
        let before = delta.clone();
        let slot = at.index(delta.slots.len());
        let partition = at.index(delta.partitions.len());
        match kind {
            0 => delta.slots[slot] = value,
            1 => delta.partitions[partition] = value.into(),
            2 => delta.epoch += u64::from(value),
            3 => delta.member_count = value.into(),
            4 => delta.members.push((NodeIndex(value), member(value))),
            5 => delta.electors.rotate_left(1 + usize::from(value) % 4),
            6 => delta.spans = Spans::from_runs([SpanRun { first: 0, span: Span { since: value.into(), oldest: 1 } }]),
            7 => _ = delta.slots.pop(),
            _ => delta.parent_hash[0] ^= value as u8,
        }
        if delta != before {
            prop_assert!(delta.apply(&old).is_err());
        }
    }
}

#[test]
fn a_delta_starts_from_one_layout_only() {
    let (old, new) = pair();
    let delta = Delta::between(&old, &new).unwrap();
    assert_eq!(delta.apply(&new), Err(DeltaError::From { epoch: 1 }));
    let other = Layout { generation: 1, ..old.clone() };
    assert_eq!(delta.apply(&other), Err(DeltaError::From { epoch: 1 }));
    assert_eq!(Delta::between(&other, &new), None);
    let wrong = Delta { hash: [1; 16], ..delta };
    assert_eq!(wrong.apply(&old), Err(DeltaError::Hash));
}

#[test]
fn a_small_change_of_a_large_ring_is_worth_a_delta_and_a_doubled_ring_has_none() {
    let (old, new) = pair();
    let delta = Delta::between(&old, &new).unwrap();
    assert!(delta.is_worth_it(&new), "{} of {} bytes", delta.bytes(), layout_bytes(&new));
    assert!(!delta.partitions.is_empty() && delta.members.len() == 1);
    let doubled = plan(Some(&old), &desired((0..30).map(member).collect(), 13)).unwrap().layout;
    assert_eq!(Delta::between(&old, &doubled), None);
    let few = desired((0..3).map(member).collect(), 6);
    let small = plan(None, &few).unwrap().layout;
    let grown = plan(Some(&small), &desired((0..6).map(member).collect(), 6)).unwrap().layout;
    assert!(!Delta::between(&small, &grown).unwrap().is_worth_it(&grown), "nearly everything changes");
}

#[test]
fn runs_of_spans_share_their_kinds() {
    let (old, new) = (Span::settled(1), Span { since: 2, oldest: 1 });
    let spans = Spans::from_partitions([old, new, new, old, new]);
    let (kinds, runs) = span_kinds(&spans);
    assert_eq!(kinds, [old, new]);
    assert_eq!(runs, [(0, 0), (1, 1), (3, 0), (4, 1)]);
}
