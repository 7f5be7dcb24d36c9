//! Single changes of a ring, from what is staged to the layout: replacements, aborts, growth from one node, doubled partitions,
//! and changes on top of changes. Paper, sections 4.8 and 4.9.

use std::{collections::BTreeSet, sync::Arc};

use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState, NodeIndex, spans::Span},
    planner::{Desired, Plan, PlanError, plan, plan_change},
    ring::Ring,
    settlement::Proven,
    staging::{Change, Staged, StagingError, Stamp, changes_back},
};

pub(crate) fn member(number: u16, zone: u16, weight: u32) -> Member {
    Member {
        id: NodeId(u128::from(number) + 1),
        name: format!("n{number}"),
        zone: format!("z{zone}"),
        weight,
        addresses: vec![format!("127.0.0.1:{}", 7000 + number)],
        state: MemberState::Active,
    }
}

pub(crate) fn first(members: Vec<Member>, replicas: u8) -> Layout {
    let desired = Desired {
        cluster: 7,
        members,
        replacements: Default::default(),
        replicas,
        partition_bits: None,
        buckets: Default::default(),
        proven: Proven::Everything,
    };
    plan(None, &desired).expect("a first layout").layout
}

/// Changes staged one after the other.
pub(crate) fn staged(changes: impl IntoIterator<Item = Change>) -> Staged {
    let mut staged = Staged::default();
    for change in changes {
        let stamp: Stamp = staged.next_stamp(0, NodeId(1));
        staged.stage(change, stamp).expect("it could be part of a layout");
    }
    staged
}

pub(crate) fn id(number: u16) -> NodeId {
    member(number, 0, 1).id
}

fn changed(old: &Layout, changes: impl IntoIterator<Item = Change>) -> Plan {
    let plan = plan_change(old, &staged(changes), &Proven::Everything).expect("it can be planned");
    assert_eq!(plan.layout.check_after(old), Ok(()));
    plan
}

pub(crate) fn ring(layouts: &[&Layout]) -> Ring {
    let mut ring = Ring::new(Arc::new(layouts[0].clone()));
    layouts[1..].iter().for_each(|layout| ring.push(Arc::new((*layout).clone())).expect("each follows the one before"));
    ring
}

pub(crate) fn owners(layout: &Layout) -> Vec<BTreeSet<NodeIndex>> {
    (0..layout.partitions()).map(|partition| layout.owners(partition).collect()).collect()
}

/// Rings of all kinds: one zone and many, equal and mixed weights, few nodes and many.
fn rings() -> impl Iterator<Item = Layout> {
    let shapes = [(1, 1), (2, 1), (3, 1), (3, 4), (5, 1), (5, 4), (60, 2)];
    shapes.into_iter().flat_map(|(zones, weights)| {
        [3, 4, 5, 7, 12, 40].map(|nodes: u16| {
            let node = |number| member(number, number % zones, u32::from(number * 7 % weights) + 1);
            first((0..nodes).map(node).collect(), 3)
        })
    })
}

#[test]
fn a_replacement_gets_exactly_the_partitions_of_the_old_node_and_nothing_else_moves() {
    for old in rings() {
        for number in [0, old.members.len() as u16 / 2] {
            let at = NodeIndex(number);
            let joining = Member { zone: String::new(), weight: 0, ..member(99, 0, 1) };
            let replace = [Change::Join(joining), Change::Replace { old: id(number), new: id(99) }];
            let Plan { layout, summary } = changed(&old, replace);
            let new = layout.index_of(id(99)).unwrap();
            let heir = |owner: NodeIndex| if owner == at { new } else { owner };
            let expected: Vec<BTreeSet<_>> =
                owners(&old).into_iter().map(|owners| owners.into_iter().map(heir).collect()).collect();
            assert_eq!(owners(&layout), expected, "{} nodes", old.members.len());
            let share = old.slots.iter().filter(|&&slot| slot == number).count() as u64;
            assert_eq!((summary.moved, summary.moved_lower_bound), (share, share));
            let (before, after) = (&old.members[usize::from(number)], &layout.members[usize::from(new.0)]);
            assert_eq!((&before.zone, before.weight), (&after.zone, after.weight));
            assert_eq!(layout.members[usize::from(number)].state, MemberState::Leaving);
        }
    }
}

#[test]
fn a_replacement_takes_over_in_the_same_step_as_other_changes() {
    let old = first((0..9).map(|number| member(number, number % 3, 1)).collect(), 3);
    let replace = [
        Change::Join(Member { weight: 0, zone: String::new(), ..member(50, 0, 1) }),
        Change::Replace { old: id(4), new: id(50) },
        Change::Lost(id(4)),
        Change::Join(member(51, 0, 1)),
        Change::Reweight { node: id(51), weight: 2 },
    ];
    let Plan { layout, summary } = changed(&old, replace);
    let new = layout.index_of(id(50)).unwrap();
    let doublings = layout.partition_bits - old.partition_bits;
    let kept = (0..layout.partitions()).filter(|&partition| {
        let before = old.owners(partition >> doublings).any(|owner| owner == NodeIndex(4));
        before && layout.owners(partition).any(|owner| owner == new)
    });
    let share = summary.nodes[4].before as usize;
    assert!(kept.count() * 10 > share * 7, "of {share} partitions most go to the replacement");
    assert_eq!(layout.members[4].state, MemberState::Lost);
    assert_eq!(layout.member(layout.index_of(id(51)).unwrap()).unwrap().weight, 2);
    assert!(summary.moved as f64 <= 1.2 * summary.moved_lower_bound as f64);
}

#[test]
fn an_abort_takes_every_partition_back_to_the_owners_it_comes_from() {
    for before in rings() {
        let spread = before.members.len() as u16;
        let changes: [Vec<Change>; 5] = [
            vec![Change::Join(member(90, 1, 1)), Change::Join(member(91, 2, 3))],
            vec![Change::Leave(id(spread / 2)), Change::Replicas(2)],
            vec![Change::Reweight { node: id(1), weight: 9 }, Change::Zone { node: id(0), zone: "z7".into() }],
            vec![
                Change::Join(Member { zone: String::new(), weight: 0, ..member(90, 0, 1) }),
                Change::Replace { old: id(0), new: id(90) },
            ],
            vec![Change::PartitionBits(before.partition_bits + 1), Change::Join(member(90, 1, 2)), Change::Replicas(5)],
        ];
        for changes in changes {
            let after = changed(&before, changes.clone()).layout;
            let back = staged(changes_back(&before, &after));
            let ring = ring(&[&before, &after]);
            let aborted = match plan_change(&ring, &back, &Proven::Nothing) {
                Ok(plan) => plan.layout,
                Err(error) => panic!("{changes:?}: {error}"),
            };
            assert_eq!(aborted.check_after(&after), Ok(()));
            let doublings = aborted.partition_bits - before.partition_bits;
            for partition in 0..aborted.partitions() {
                let parent = partition >> doublings;
                let origin: BTreeSet<NodeIndex> = before.owners(parent).collect();
                assert_eq!(aborted.owners(partition).collect::<BTreeSet<_>>(), origin, "{changes:?}");
                let same = after.owners(partition).collect::<BTreeSet<_>>() == origin;
                let expected = if same { Span::settled(1) } else { Span { since: 3, oldest: 1 } };
                assert_eq!(aborted.spans.of(partition), expected);
            }
        }
    }
}

#[test]
fn what_an_abort_can_not_take_back_it_leaves() {
    let before = first((0..5).map(|number| member(number, 0, 1)).collect(), 3);
    let moved = vec!["10.0.0.1:1".into()];
    let changes = [
        Change::Lost(id(1)),
        Change::PartitionBits(9),
        Change::Addresses { node: id(2), addresses: moved.clone() },
        Change::Leave(id(2)),
    ];
    let after = changed(&before, changes).layout;
    let stay = Change::Join(Member { addresses: moved, ..member(2, 0, 1) });
    assert_eq!(changes_back(&before, &after), [stay]);
}

#[test]
fn a_ring_grows_from_one_node_and_shrinks_to_one() {
    let mut layout = first(vec![member(0, 0, 1)], 3);
    for number in 1..5 {
        let Plan { layout: grown, summary } = changed(&layout, [Change::Join(member(number, number, 1))]);
        let copies = usize::from(number + 1).min(3);
        assert!((0..grown.partitions()).all(|partition| grown.owners(partition).count() == copies));
        assert!(summary.balance.max <= 1.02, "{:?}", summary.balance);
        layout = grown;
    }
    for number in 0..4 {
        let Plan { layout: shrunk, .. } = changed(&layout, [Change::Leave(id(number))]);
        assert!(!shrunk.electors.contains(&NodeIndex(number)));
        layout = shrunk;
    }
    assert!((0..layout.partitions()).all(|partition| layout.owners(partition).eq([NodeIndex(4)])));
}

#[test]
fn zones_count_as_soon_as_there_are_enough_of_them() {
    let one_zone = first((0..4).map(|number| member(number, 0, 1)).collect(), 3);
    let two = changed(&one_zone, [Change::Join(member(4, 1, 1))]).layout;
    let apart = |layout: &Layout| {
        let zones = |partition| -> BTreeSet<&str> {
            layout.owners(partition).map(|owner| layout.members[usize::from(owner.0)].zone.as_str()).collect()
        };
        (0..layout.partitions()).map(|partition| zones(partition).len()).min()
    };
    let three = changed(&two, [Change::Join(member(5, 2, 1))]).layout;
    assert_eq!([apart(&one_zone), apart(&two), apart(&three)], [Some(1), Some(2), Some(3)]);
    let moved = changed(&three, [Change::Zone { node: id(5), zone: "z1".into() }]).layout;
    assert_eq!(apart(&moved), Some(2));
}

#[test]
fn dividing_partitions_moves_nothing_alone_and_no_more_than_needed_beside_other_changes() {
    for old in rings() {
        let bits = old.partition_bits + 2;
        let Plan { layout, summary } = changed(&old, [Change::PartitionBits(bits)]);
        assert_eq!((summary.moved, layout.partition_bits, layout.spans.are_settled()), (0, bits, true));
        let parents = owners(&old);
        assert!((0..).zip(owners(&layout)).all(|(partition, owners)| owners == parents[partition >> 2]));
        let both = changed(&old, [Change::PartitionBits(bits), Change::Join(member(90, 1, 1))]);
        let join = changed(&layout, [Change::Join(member(90, 1, 1))]);
        assert_eq!(both.layout.partition_bits, bits);
        assert!(both.summary.moved as f64 <= 1.1 * join.summary.moved as f64 + 8.0, "{} nodes", old.members.len());
    }
}

#[test]
fn a_partition_that_was_moved_too_often_is_not_moved_again_before_it_is_settled() {
    let mut layouts = vec![first((0..3).map(|number| member(number, 0, 1)).collect(), 3)];
    let replace = |layouts: &[Layout], proven: &Proven| {
        let number = layouts.len() as u16 - 1;
        let changes =
            [Change::Join(member(number + 3, 0, 1)), Change::Replace { old: id(number), new: id(number + 3) }];
        let all: Vec<&Layout> = layouts.iter().collect();
        plan_change(&ring(&all), &staged(changes), proven).map(|plan| plan.layout)
    };
    for _ in 0..3 {
        layouts.push(replace(&layouts, &Proven::Nothing).expect("four configurations are allowed"));
    }
    assert_eq!(layouts[3].spans.of(0), Span { since: 4, oldest: 1 });
    let refused = replace(&layouts, &Proven::Nothing).expect_err("five are not");
    assert_eq!(refused, PlanError::StillMoving { partition: 0, partitions: 256 });
    assert!(refused.to_string().contains("quorate ring transfers"));
    // What moves nothing is allowed all the same, and once everything is settled everything is.
    let all: Vec<&Layout> = layouts.iter().collect();
    let doubled = plan_change(&ring(&all), &staged([Change::PartitionBits(9)]), &Proven::Nothing).unwrap().layout;
    assert_eq!(doubled.spans.of(511), Span { since: 4, oldest: 1 });
    let settled = replace(&layouts, &Proven::Everything).unwrap();
    assert_eq!(settled.spans.of(0), Span { since: 5, oldest: 4 });
    // Without the layouts in between it is not known that some of them left the partition alone.
    let newest = layouts.last().unwrap();
    let error =
        plan_change(newest, &staged([Change::Leave(id(3))]), &Proven::Nothing).expect_err("it may be too often");
    assert!(matches!(error, PlanError::StillMoving { .. }));
}

#[test]
fn what_is_staged_in_contradiction_is_refused_with_what_to_do() {
    let old = first((0..4).map(|number| member(number, 0, 1)).collect(), 3);
    let refused =
        |layout: &Layout, changes: Vec<Change>| match plan_change(layout, &staged(changes), &Proven::Everything) {
            Err(PlanError::Staging(error)) => error,
            other => panic!("{other:?}"),
        };
    let replace = |old: u16, new: u16| Change::Replace { old: id(old), new: id(new) };
    let two = vec![Change::Join(member(5, 0, 1)), Change::Join(member(6, 0, 1)), replace(0, 5), replace(0, 6)];
    assert_eq!(refused(&old, two), StagingError::TwoReplacements { old: id(0) });
    assert_eq!(refused(&old, vec![replace(0, 5)]), StagingError::ReplacementMissing { old: id(0), new: id(5) });
    let stranger = vec![Change::Join(member(5, 0, 1)), replace(77, 5)];
    assert_eq!(refused(&old, stranger), StagingError::NothingToReplace { old: id(77) });
    let lost = changed(&old, [Change::Lost(id(0))]).layout;
    assert_eq!(refused(&lost, vec![Change::Join(member(0, 0, 1))]), StagingError::Departed(id(0)));
    let gone = changed(&lost, [Change::Join(member(8, 0, 1))]).layout;
    assert_eq!(gone.members[0].state, MemberState::Gone);
    assert_eq!(refused(&gone, vec![Change::Join(member(0, 0, 1))]), StagingError::Departed(id(0)));
    assert_eq!(plan_change(&old, &Staged::default(), &Proven::Everything), Err(PlanError::NothingStaged));
    assert_eq!(
        plan_change(&old, &staged([Change::Join(member(0, 0, 1))]), &Proven::Everything),
        Err(PlanError::NothingStaged)
    );
}

#[test]
fn staged_changes_stay_in_the_map_after_they_are_done_and_are_not_done_again() {
    let old = first((0..4).map(|number| member(number, 0, 1)).collect(), 3);
    let mut all =
        staged([Change::Join(member(4, 0, 2)), Change::Leave(id(1)), Change::Reweight { node: id(2), weight: 3 }]);
    let next = plan_change(&old, &all, &Proven::Everything).unwrap().layout;
    assert_eq!(all.pending(&next), []);
    // The newcomer leaves, another takes its place, and the first word about it does not bring it back.
    let stamp = all.next_stamp(0, NodeId(9));
    all.stage(Change::Join(Member { weight: 0, zone: String::new(), ..member(5, 0, 1) }), stamp).unwrap();
    let stamp = all.next_stamp(0, NodeId(9));
    all.stage(Change::Replace { old: id(4), new: id(5) }, stamp).unwrap();
    let last = plan_change(&next, &all, &Proven::Everything).unwrap().layout;
    assert_eq!(all.pending(&last), []);
    assert_eq!(last.member(last.index_of(id(5)).unwrap()).unwrap().weight, 2);
}
