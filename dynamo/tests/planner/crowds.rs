//! Changes decided before the ones before them are done: what the planner does where a partition has nearly as many configurations as
//! it may have, and the way out where it has as many.

use dynamo::{
    layout::{Layout, MemberState, NodeIndex, spans::Span},
    planner::{PlanError, plan_change, plan_hash},
    ring::Ring,
    settlement::{Heard, Proven, Testimony},
    staging::{Change, Staged},
};

use crate::changes::{first, id, member, owners, ring, staged};

fn replace(old: u16, new: u16) -> [Change; 2] {
    [Change::Join(member(new, 0, 1)), Change::Replace { old: id(old), new: id(new) }]
}

/// A ring of four nodes, of which one place was filled so often, the newcomers in it having numbers from 10 on.
fn crowded(changes: u16) -> Ring {
    let mut layouts = vec![first((0..4).map(|number| member(number, 0, 1)).collect(), 3)];
    for number in 0..changes {
        let old = if number == 0 { 0 } else { 9 + number };
        let all: Vec<&Layout> = layouts.iter().collect();
        let plan = plan_change(&ring(&all), &staged(replace(old, 10 + number)), &Proven::Nothing);
        layouts.push(plan.expect("so many may be active").layout);
    }
    ring(&layouts.iter().collect::<Vec<_>>())
}

fn next(ring: &Ring, changes: impl IntoIterator<Item = Change>, proven: &Proven) -> Result<Layout, PlanError> {
    let planned = plan_change(ring, &staged(changes), proven).map(|plan| plan.layout);
    if let Ok(layout) = &planned {
        assert_eq!((layout.check(), layout.check_after(ring.newest())), (Ok(()), Ok(())));
    }
    planned
}

#[test]
fn what_nobody_must_do_leaves_a_partition_alone_that_has_one_configuration_to_go() {
    let ring = crowded(2);
    let old = ring.newest();
    let next = next(&ring, [Change::Join(member(20, 0, 1))], &Proven::Nothing).unwrap();
    let is_crowded = |partition: &u32| old.spans.of(*partition) == Span { since: 3, oldest: 1 };
    let (before, after) = (owners(old), owners(&next));
    let crowded: Vec<u32> = (0..old.partitions()).filter(is_crowded).collect();
    assert!(!crowded.is_empty() && crowded.iter().all(|at| before[*at as usize] == after[*at as usize]));
    assert!(after.iter().any(|owners| owners.contains(&next.index_of(id(20)).unwrap())), "others move");
    // One that leaves of its own accord can wait; one that does not answer can't.
    let leave = || [Change::Leave(id(11))];
    assert!(matches!(plan_change(&ring, &staged(leave()), &Proven::Nothing), Err(PlanError::StillMoving { .. })));
    assert!(plan_change(&ring, &staged(leave()), &Proven::Heard(Heard::new(old))).is_ok());
}

#[test]
fn giving_a_node_up_is_never_refused_and_lets_the_rest_come_to_rest() {
    let ring = crowded(3);
    let newest = ring.newest();
    let refused = plan_change(&ring, &staged(replace(12, 13)), &Proven::Nothing).expect_err("there would be five");
    assert!(matches!(refused, PlanError::StillMoving { .. }) && refused.to_string().contains("ring stage lost"));
    let lost = next(&ring, [Change::Lost(id(12))], &Proven::Nothing).expect("the way out");
    let at = lost.index_of(id(12)).unwrap();
    assert_eq!(lost.members[usize::from(at.0)].state, MemberState::Lost);
    assert_eq!(
        (lost.spans.clone(), owners(&lost)),
        (newest.spans.clone(), owners(newest)),
        "no configuration is added"
    );
    // While nothing is proven it stays so; once the others have come to rest, the next plan needs no change to move it.
    let mut ring = ring;
    ring.push(lost.clone().into()).unwrap();
    let moved = plan_change(&ring, &Staged::default(), &Proven::Everything).expect("something is to be done").layout;
    assert_eq!((moved.check(), moved.check_after(&lost)), (Ok(()), Ok(())));
    assert!(owners(&moved).iter().all(|owners| !owners.contains(&at) && owners.len() == 3));
    assert!(owners(&lost).iter().any(|owners| owners.contains(&at)));
}

#[test]
fn one_partition_that_can_not_come_to_rest_does_not_hold_up_the_others() {
    let ring = crowded(1);
    let old = ring.newest();
    let moving: Vec<u32> = (0..old.partitions()).filter(|partition| !old.spans.of(*partition).is_settled()).collect();
    let mut heard = Heard::new(old);
    let stuck = moving[0];
    for owner in 1..4 {
        let unsettled = vec![dynamo::settlement::Run { first: stuck, count: 1 }];
        let testimony = Testimony { epoch: old.epoch, below: old.partitions(), unsettled, leftovers: 0 };
        heard.hear(old, NodeIndex(owner), &testimony);
    }
    let next = next(&ring, replace(10, 11), &Proven::Heard(heard.clone())).unwrap();
    for partition in moving {
        let oldest = if partition == stuck { 1 } else { 2 };
        assert_eq!(next.spans.of(partition), Span { since: 3, oldest });
    }
    // The first one that was replaced may still be asked for the partition that is stuck.
    assert_eq!(next.members[0].state, MemberState::Leaving);
    // What has come to rest between a look at the plan and its commit is no part of its name.
    let later = plan_change(&ring, &staged(replace(10, 11)), &Proven::Nothing).unwrap().layout;
    assert_ne!(later.hash(), next.hash());
    assert_eq!(plan_hash(old, &later), plan_hash(old, &next));
}

#[test]
fn a_node_is_gone_when_nothing_names_it_and_it_has_said_that_it_has_nothing_left() {
    let ring = crowded(1);
    let old = ring.newest();
    let proven = |leftovers| {
        let mut heard = Heard::new(old);
        for (node, leftovers) in [(1, 0), (2, 0), (3, 0), (4, 0), (0, leftovers)] {
            let testimony = Testimony { epoch: old.epoch, below: old.partitions(), leftovers, ..Testimony::default() };
            heard.hear(old, NodeIndex(node), &testimony);
        }
        Proven::Heard(heard)
    };
    let state =
        |proven: &Proven| next(&ring, [Change::Reweight { node: id(1), weight: 2 }], proven).unwrap().members[0].state;
    assert_eq!(state(&proven(0)), MemberState::Gone);
    assert_eq!(state(&proven(1)), MemberState::Leaving, "it would lose its place before it has handed over");
    let mut silent = Heard::new(old);
    let testimony = Testimony { epoch: old.epoch, below: old.partitions(), ..Testimony::default() };
    (1..5).for_each(|node| silent.hear(old, NodeIndex(node), &testimony));
    assert_eq!(state(&Proven::Heard(silent)), MemberState::Leaving, "nobody knows what it has");
}

#[test]
fn the_plan_warns_of_what_is_lost_with_owners_that_a_partition_is_only_leaving() {
    // Three nodes give way to three others, which have copied nothing yet; then two of the first three are lost.
    let before = first((0..3).map(|number| member(number, 0, 1)).collect(), 3);
    let swap = (0..3).flat_map(|old| replace(old, 10 + old));
    let after = plan_change(&before, &staged(swap), &Proven::Nothing).expect("it can be planned").layout;
    let (past, lost) = (ring(&[&before, &after]), || staged([Change::Lost(id(0)), Change::Lost(id(1))]));
    let summary = |proven: &Proven| plan_change(&past, &lost(), proven).expect("never refused").summary;
    assert_eq!((summary(&Proven::Nothing).below_quorum, summary(&Proven::Nothing).orphaned), (256, 0));
    assert_eq!(summary(&Proven::Everything).below_quorum, 0, "the newcomers have it all");
    // What was given up was agreed to; another plan does not ask for it again.
    let given_up = plan_change(&past, &lost(), &Proven::Nothing).expect("never refused").layout;
    let more = plan_change(&ring(&[&before, &after, &given_up]), &staged([Change::Replicas(2)]), &Proven::Nothing);
    assert_eq!(more.map(|plan| plan.summary.below_quorum), Ok(0));
}
