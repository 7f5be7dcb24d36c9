//! Whether partitions keep a majority on the way to the next layout while nodes are silent: by hand, and against counting owner by owner.

use std::collections::BTreeSet;

use dynamo::{
    ident::NodeId,
    layout::Layout,
    planner::{Unavailable, plan_change, unavailable},
    ring::Ring,
    settlement::Proven,
    staging::Change,
};
use proptest::prelude::*;

use crate::changes::{first, id, member, ring, staged};

fn count(past: &Ring, proven: &Proven, next: &Layout, silent: &[u16]) -> Unavailable {
    let silent: BTreeSet<NodeId> = silent.iter().map(|number| id(*number)).collect();
    unavailable(past, proven, next, |member| silent.contains(&member.id))
}

fn next(past: &Ring, changes: impl IntoIterator<Item = Change>) -> Layout {
    plan_change(past, &staged(changes), &Proven::Everything).expect("it can be planned").layout
}

fn owners(layout: &Layout, partition: u32) -> BTreeSet<NodeId> {
    layout.owners(partition).map(|owner| layout.member(owner).expect("an owner is a member").id).collect()
}

/// Of 2^`bits` partitions, those of which some of these layouts has no majority of owners that are not silent.
fn lacking(layouts: &[&Layout], bits: u8, silent: &[u16]) -> u32 {
    let silent: BTreeSet<NodeId> = silent.iter().map(|number| id(*number)).collect();
    let lacks = |owners: BTreeSet<NodeId>| owners.difference(&silent).count() * 2 <= owners.len();
    let in_layout =
        |layout: &Layout, partition: u32| lacks(owners(layout, partition >> (bits - layout.partition_bits)));
    let in_any = |partition: &u32| layouts.iter().any(|layout| in_layout(layout, *partition));
    (0..1 << bits).filter(in_any).count() as u32
}

fn six() -> Layout {
    first((0..6).map(|number| member(number, 0, 1)).collect(), 3)
}

#[test]
fn nobody_silent_or_one_of_three_leaves_every_majority() {
    let before = six();
    let past = ring(&[&before]);
    let after = next(&past, [Change::Join(member(10, 0, 1)), Change::Replace { old: id(0), new: id(10) }]);
    for silent in [&[][..], &[1], &[10], &[0]] {
        assert_eq!(count(&past, &Proven::Everything, &after, silent), Unavailable::default(), "{silent:?}");
    }
}

#[test]
fn a_newcomer_and_a_former_owner_that_are_silent_together_are_seen_only_on_the_way() {
    let before = six();
    let past = ring(&[&before]);
    let after = next(&past, [Change::Join(member(10, 0, 1)), Change::Replace { old: id(0), new: id(10) }]);
    let seen = count(&past, &Proven::Everything, &after, &[1, 10]);
    assert_eq!(seen, Unavailable { now: 0, on_the_way: lacking(&[&before, &after], 8, &[1, 10]) });
    assert!(seen.on_the_way > 0);
    // Two former owners are missed already, and no less so when one of them is replaced.
    let seen = count(&past, &Proven::Everything, &after, &[0, 1]);
    assert_eq!(seen.now, lacking(&[&before], 8, &[0, 1]));
    assert!(seen.now > 0 && seen.on_the_way >= seen.now);
}

#[test]
fn silent_nodes_that_are_given_up_are_missed_no_more() {
    let before = six();
    let past = ring(&[&before]);
    let after = next(&past, [Change::Lost(id(1)), Change::Lost(id(2))]);
    let seen = count(&past, &Proven::Everything, &after, &[1, 2]);
    assert_eq!(seen, Unavailable { now: lacking(&[&before], 8, &[1, 2]), on_the_way: 0 });
    assert!(seen.now > 0);
}

#[test]
fn owners_that_a_partition_is_only_leaving_are_missed_until_it_has_left_them() {
    let before = first((0..3).map(|number| member(number, 0, 1)).collect(), 3);
    let swap = (0..3)
        .flat_map(|old| [Change::Join(member(10 + old, 0, 1)), Change::Replace { old: id(old), new: id(10 + old) }]);
    let after = next(&ring(&[&before]), swap);
    let past = ring(&[&before, &after]);
    let more =
        plan_change(&past, &staged([Change::Join(member(20, 0, 1))]), &Proven::Nothing).expect("a fourth").layout;
    let all = more.partitions();
    assert_eq!(count(&past, &Proven::Nothing, &more, &[0, 1]), Unavailable { now: all, on_the_way: all });
    assert_eq!(count(&past, &Proven::Everything, &more, &[0, 1]), Unavailable::default());
}

#[test]
fn a_partition_that_is_divided_is_counted_in_its_parts() {
    let before = six();
    let past = ring(&[&before]);
    let after = next(&past, [Change::PartitionBits(before.partition_bits + 2)]);
    let seen = count(&past, &Proven::Everything, &after, &[3, 4]);
    let parts = lacking(&[&before], after.partition_bits, &[3, 4]);
    assert_eq!(seen, Unavailable { now: parts, on_the_way: parts });
    assert!(parts > 0);
}

proptest! {
    #[test]
    fn it_is_what_counting_owner_by_owner_gives(
        nodes in 3u16..9,
        joins in 0u16..3,
        leaver in 0u16..9,
        silent in proptest::collection::btree_set(0u16..12, 0..5),
    ) {
        let before = first((0..nodes).map(|number| member(number, 0, 1)).collect(), 3);
        let past = ring(&[&before]);
        let leaver = (joins > 0 && leaver < nodes).then(|| Change::Leave(id(leaver)));
        let joining = (0..joins).map(|number| Change::Join(member(9 + number, 0, 1)));
        let changes: Vec<Change> = joining.chain(leaver).chain([Change::Reweight { node: id(1), weight: 3 }]).collect();
        let after = next(&past, changes);
        let silent: Vec<u16> = silent.into_iter().collect();
        let seen = count(&past, &Proven::Everything, &after, &silent);
        prop_assert_eq!(seen.now, lacking(&[&before], after.partition_bits, &silent));
        prop_assert_eq!(seen.on_the_way, lacking(&[&before, &after], after.partition_bits, &silent));
    }
}
