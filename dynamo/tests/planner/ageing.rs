//! A ring through long random histories of changes: balance and moves do not wear out, places stay, and spans say what a plain
//! record of every partition's owners says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState, delta::Delta, spans::Span},
    planner::{PlanError, plan_change},
    ring::Ring,
    settlement::Proven,
    staging::Change,
};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::changes::{first, member, staged};

/// A change by dice: who it concerns is a number to be divided by how many there are.
#[derive(Clone, Debug)]
enum Event {
    Join { zone: u16, weight: u32 },
    Leave(usize),
    Replace(usize),
    Reweight(usize, u32),
    Rezone(usize, u16),
    Lose(usize),
    Replicas(u8),
    Double,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..5_u16, 1..=4_u32).prop_map(|(zone, weight)| Event::Join { zone, weight }),
        2 => any::<usize>().prop_map(Event::Leave),
        2 => any::<usize>().prop_map(Event::Replace),
        2 => (any::<usize>(), 1..=4_u32).prop_map(|(at, weight)| Event::Reweight(at, weight)),
        1 => (any::<usize>(), 0..5_u16).prop_map(|(at, zone)| Event::Rezone(at, zone)),
        1 => any::<usize>().prop_map(Event::Lose),
        1 => (2..=4_u8).prop_map(Event::Replicas),
        1 => proptest::strategy::Just(Event::Double),
    ]
}

fn changes(event: &Event, layout: &Layout, number: u16) -> Vec<Change> {
    let active: Vec<&Member> = layout.members.iter().filter(|member| member.state == MemberState::Active).collect();
    let chosen = |at: usize| active[at % active.len()].id;
    let newcomer = |zone, weight| Change::Join(member(number, zone, weight));
    match *event {
        Event::Leave(at) if active.len() > 3 => vec![Change::Leave(chosen(at))],
        Event::Lose(at) if active.len() > 5 => vec![Change::Lost(chosen(at))],
        Event::Replace(at) => {
            let joining = Member { zone: String::new(), weight: 0, ..member(number, 0, 1) };
            let new = joining.id;
            vec![Change::Join(joining), Change::Replace { old: chosen(at), new }]
        }
        Event::Reweight(at, weight) => vec![Change::Reweight { node: chosen(at), weight }],
        Event::Rezone(at, zone) => vec![Change::Zone { node: chosen(at), zone: format!("z{zone}") }],
        Event::Replicas(replicas) => vec![Change::Replicas(replicas)],
        Event::Double if layout.partition_bits < 11 => vec![Change::PartitionBits(layout.partition_bits + 1)],
        Event::Join { zone, weight } => vec![newcomer(zone, weight)],
        Event::Leave(_) | Event::Lose(_) | Event::Double => vec![newcomer(number % 5, 1)],
    }
}

/// The owners of one partition by every layout, and which of them may be active, written down without any thought of spans.
#[derive(Clone)]
struct Record {
    owners: Vec<(u64, BTreeSet<NodeId>)>,
    oldest: u64,
}

fn owners(layout: &Layout, partition: u32) -> BTreeSet<NodeId> {
    layout.owners(partition).map(|owner| layout.members[usize::from(owner.0)].id).collect()
}

impl Record {
    fn span(&self) -> Span {
        let last = &self.owners[self.owners.len() - 1].1;
        let mut since = 0;
        for (epoch, owners) in self.owners.iter().rev().take_while(|(_, owners)| owners == last) {
            let _ = owners;
            since = *epoch;
        }
        Span { since, oldest: self.oldest }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn spans_places_and_differences_are_right_through_any_history(
        nodes in 1..7_u16,
        history in proptest::collection::vec((any_event(), any::<bool>()), 1..14),
    ) {
        let mut layout = first((0..nodes).map(|number| member(number, number % 3, 1)).collect(), 3);
        let mut ring = Ring::new(Arc::new(layout.clone()));
        let mut records: Vec<Record> = (0..layout.partitions())
            .map(|partition| Record { owners: vec![(1, owners(&layout, partition))], oldest: 1 })
            .collect();
        // Whose place somebody may still look for: by position, the identity that has been there since it was last free.
        let mut places: BTreeMap<usize, NodeId> = BTreeMap::new();
        for ((event, is_settled), number) in history.iter().zip(100..) {
            let proven = if *is_settled { &Proven::Everything } else { &Proven::Nothing };
            let next = match plan_change(&ring, &staged(changes(event, &layout, number)), proven) {
                Ok(plan) => plan.layout,
                Err(PlanError::NothingStaged | PlanError::StillMoving { .. }) => continue,
                Err(error) => return Err(proptest::test_runner::TestCaseError::fail(error.to_string())),
            };
            prop_assert_eq!(next.check(), Ok(()));
            prop_assert_eq!(next.check_after(&layout), Ok(()));
            if next.partition_bits != layout.partition_bits {
                let copies = 1 << (next.partition_bits - layout.partition_bits);
                records = records.into_iter().flat_map(|record| std::iter::repeat_n(record, copies)).collect();
            }
            for (partition, record) in (0..).zip(&mut records) {
                if *is_settled {
                    record.oldest = record.span().since;
                }
                record.owners.push((next.epoch, owners(&next, partition)));
                prop_assert_eq!(next.spans.of(partition), record.span());
            }
            for (at, member) in layout.members.iter().enumerate() {
                if member.state == MemberState::Gone {
                    places.remove(&at);
                } else {
                    places.insert(at, member.id);
                }
            }
            for (at, id) in &places {
                prop_assert_eq!(next.members[*at].id, *id);
            }
            if let Some(delta) = Delta::between(&layout, &next) {
                prop_assert_eq!(delta.apply(&layout), Ok(next.clone()));
            } else {
                prop_assert!(layout.partition_bits != next.partition_bits || layout.replicas != next.replicas);
            }
            ring.push(Arc::new(next.clone())).expect("it follows");
            layout = next;
        }
    }
}

#[test]
fn balance_and_moves_do_not_wear_out_over_hundreds_of_changes() {
    for (seed, zones) in [(1, 3), (2, 5), (3, 1)] {
        let mut dice: u64 = seed;
        let mut roll = |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % sides
        };
        let mut layout = first((0..9).map(|number| member(number, number % zones, 1)).collect(), 3);
        let (mut moved, mut bound) = (0, 0);
        for number in 100..400_u16 {
            let at = roll(1 << 20) as usize;
            let event = match roll(8) {
                0..=2 => Event::Join { zone: number % zones, weight: roll(3) as u32 + 1 },
                3..=4 if layout.members.len() > 12 => Event::Leave(at),
                5 => Event::Reweight(at, roll(3) as u32 + 1),
                6 => Event::Join { zone: number % zones, weight: 2 },
                _ => Event::Replace(at),
            };
            let plan = match plan_change(&layout, &staged(changes(&event, &layout, number)), &Proven::Everything) {
                Ok(plan) => plan,
                Err(PlanError::NothingStaged) => continue,
                Err(error) => panic!("{error}"),
            };
            let max = plan.summary.balance.max;
            assert!(
                max <= 1.02,
                "{zones} zones, change {number}, {event:?}: the fullest node holds {max} of its share"
            );
            moved += plan.summary.moved;
            bound += plan.summary.moved_lower_bound;
            layout = plan.layout;
        }
        assert!(moved as f64 <= 1.2 * bound as f64, "{zones} zones: {moved} slots moved, {bound} were necessary");
        println!("{zones} zones, {} places: moved {moved}, bound {bound}", layout.members.len());
    }
}
