//! What a plan keeps and what it says: positions, electors, coordinators, empty slots, divided partitions, and the rules for
//! any set of nodes whatever. Paper, sections 4.2, 4.8 and 6.2.

use std::collections::{BTreeMap, BTreeSet};

use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState, NodeIndex, check::LayoutError},
    planner::{Desired, Plan, PlanError, plan},
    settlement::Proven,
};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};

fn member(number: u16, zone: u16, weight: u32) -> Member {
    Member {
        id: NodeId(u128::from(number) + 1),
        name: format!("n{number}"),
        zone: format!("z{zone}"),
        weight,
        addresses: vec![format!("127.0.0.1:{}", 7000 + number)],
        state: MemberState::Active,
    }
}

/// `nodes` nodes of equal weight, each in its own zone.
fn apart(nodes: u16) -> Vec<Member> {
    (0..nodes).map(|number| member(number, number, 1)).collect()
}

fn desired(members: Vec<Member>) -> Desired {
    Desired {
        cluster: 7,
        members,
        replicas: 3,
        partition_bits: None,
        buckets: BTreeMap::new(),
        replacements: BTreeMap::new(),
        proven: Proven::Everything,
    }
}

fn planned(old: Option<&Layout>, members: Vec<Member>) -> Plan {
    plan(old, &desired(members)).expect("what is desired keeps every rule")
}

fn names(layout: &Layout) -> Vec<&str> {
    layout.members.iter().map(|member| member.name.as_str()).collect()
}

#[test]
fn the_first_plan_of_three_nodes_gives_everything_to_everyone() {
    let Plan { layout, summary } = planned(None, apart(3));
    assert_eq!((layout.epoch, layout.parent_hash, layout.partition_bits), (1, [0; 16], 8));
    assert_eq!(layout.electors, [NodeIndex(0), NodeIndex(1), NodeIndex(2)]);
    assert_eq!((summary.slots, summary.moved, summary.moved_lower_bound), (768, 768, 768));
    assert_eq!((summary.balance_before, summary.balance.max, summary.balance.min), (None, 1.0, 1.0));
    assert!(summary.nodes.iter().all(|node| node.partitions == 256 && (84..=87).contains(&node.coordinated)));
}

#[test]
fn a_plan_without_a_change_moves_nothing() {
    for nodes in [1, 2, 3, 7, 40] {
        let first = planned(None, apart(nodes)).layout;
        let Plan { layout, summary } = planned(Some(&first), first.members.clone());
        assert_eq!((layout.epoch, layout.parent_hash), (2, first.hash()));
        assert_eq!((layout.slots, summary.moved, summary.moved_lower_bound), (first.slots, 0, 0));
        assert_eq!((layout.electors, summary.balance_before), (first.electors, Some(summary.balance)));
    }
}

#[test]
fn the_same_input_gives_the_same_plan() {
    let members: Vec<Member> = (0..50).map(|number| member(number, number % 4, u32::from(number % 3) + 1)).collect();
    assert_eq!(planned(None, members.clone()), planned(None, members));
}

#[test]
fn fewer_nodes_than_replicas_leave_slots_empty_until_more_join() {
    let one = planned(None, apart(1)).layout;
    assert!((0..256).all(|partition| one.owners(partition).eq([NodeIndex(0)])));
    let two = planned(Some(&one), apart(2));
    assert_eq!((two.summary.slots, two.summary.moved), (512, 256));
    let three = planned(Some(&two.layout), apart(3));
    assert_eq!((three.summary.slots, three.summary.moved), (768, 256));
    let back = planned(Some(&three.layout), apart(2));
    assert_eq!((back.summary.slots, back.summary.moved, back.summary.below_quorum), (512, 0, 0));
}

#[test]
fn dividing_partitions_moves_nothing_and_joining_them_is_refused() {
    let first = planned(None, apart(4)).layout;
    let finer = Desired { partition_bits: Some(11), ..desired(apart(4)) };
    let Plan { layout, summary } = plan(Some(&first), &finer).unwrap();
    assert_eq!((layout.partitions(), summary.slots, summary.moved), (2048, 6144, 0));
    assert!((0..2048).all(|partition| layout.owners(partition).eq(first.owners(partition >> 3))));
    let coarser = Desired { partition_bits: Some(8), ..desired(apart(4)) };
    assert_eq!(plan(Some(&layout), &coarser), Err(PlanError::PartitionBits { old: 11, desired: 8 }));
    assert_eq!(planned(Some(&layout), apart(4)).layout.partition_bits, 11, "the number of nodes asks for no more");
}

#[test]
fn the_number_of_partitions_grows_with_the_cluster() {
    let bits = |nodes| planned(None, apart(nodes)).layout.partition_bits;
    assert_eq!([1, 3, 5, 10, 100, 1000].map(bits), [8, 8, 8, 10, 12, 16]);
    let five = planned(None, apart(5)).layout;
    assert_eq!(planned(Some(&five), apart(60)).layout.partition_bits, 12);
}

#[test]
fn a_node_keeps_its_position_while_it_is_a_member() {
    use MemberState::{Active, Gone, Leaving};
    let first = planned(None, apart(5)).layout;
    let mut members = first.members.clone();
    members.reverse();
    members[1].state = Leaving;
    let leaving = planned(Some(&first), members).layout;
    assert_eq!(names(&leaving), ["n0", "n1", "n2", "n3", "n4"]);
    assert!(!leaving.slots.contains(&3) && leaving.members[3].state == Leaving);
    // A member that is not desired any more leaves too. Its place stays until nothing asks for it.
    let mut members = leaving.members.clone();
    members.retain(|member| member.name != "n4");
    let states = |layout: &Layout| -> Vec<MemberState> { layout.members.iter().map(|member| member.state).collect() };
    let gone = planned(Some(&leaving), members.clone()).layout;
    assert_eq!(states(&gone), [Active, Active, Active, Gone, Leaving]);
    let waiting = plan(Some(&leaving), &Desired { proven: Proven::Nothing, ..desired(members) }).unwrap().layout;
    assert_eq!(states(&waiting), [Active, Active, Active, Leaving, Leaving]);
    // Newcomers take places that were gone before, no others; what is gone at the end is cut off.
    let mut members = gone.members.clone();
    members.extend([member(8, 8, 1), member(9, 9, 1)]);
    let grown = planned(Some(&gone), members.clone()).layout;
    assert_eq!(names(&grown), ["n0", "n1", "n2", "n8", "n4", "n9"]);
    assert_eq!(states(&grown), [Active, Active, Active, Active, Gone, Active]);
    let without = |layout: &Layout, name: &str| {
        let mut members = layout.members.clone();
        members.retain(|member| member.name != name);
        planned(Some(layout), members).layout
    };
    let cut = without(&without(&without(&grown, "n9"), "n9"), "n8");
    assert_eq!((names(&cut), states(&cut)), (vec!["n0", "n1", "n2", "n8"], vec![Active, Active, Active, Leaving]));
}

#[test]
fn a_node_that_leaves_hands_over_only_what_it_held() {
    let first = planned(None, apart(12));
    let mut members = first.layout.members.clone();
    members[4].state = MemberState::Leaving;
    let Plan { layout, summary } = planned(Some(&first.layout), members);
    let held = u64::from(first.summary.nodes[4].partitions);
    assert_eq!((summary.nodes[4].before, summary.nodes[4].partitions), (held as u32, 0));
    assert!(summary.moved <= held + held / 20, "{held} held, {} moved", summary.moved);
    assert_eq!(summary.below_quorum, 0);
    let stay = layout.slots.iter().zip(&first.layout.slots).filter(|(after, before)| after == before).count() as u64;
    assert!(stay > summary.slots * 3 / 4);
}

#[test]
fn the_summary_warns_of_partitions_that_lose_their_quorum_or_their_data() {
    let first = planned(None, apart(6)).layout;
    let with = |state: MemberState, gone: &[u16]| {
        let mut members = first.members.clone();
        gone.iter().for_each(|&at| members[usize::from(at)].state = state);
        planned(Some(&first), members).summary
    };
    let without = |gone: &[u16]| with(MemberState::Lost, gone);
    let lost = |gone: &[u16], most: usize| {
        let owners = |partition| first.owners(partition).filter(|owner| gone.contains(&owner.0)).count();
        (0..first.partitions()).filter(|&partition| owners(partition) >= most).count() as u32
    };
    assert_eq!((without(&[1]).below_quorum, without(&[1]).orphaned), (0, 0));
    assert_eq!((without(&[1, 2]).below_quorum, without(&[1, 2]).orphaned), (lost(&[1, 2], 2), 0));
    let three = without(&[1, 2, 5]);
    assert_eq!((three.below_quorum, three.orphaned), (lost(&[1, 2, 5], 2), lost(&[1, 2, 5], 3)));
    assert!(three.below_quorum > 0 && three.orphaned > 0);
    let leaving = with(MemberState::Leaving, &[1, 2, 5]);
    assert_eq!((leaving.below_quorum, leaving.orphaned), (0, 0), "who leaves hands over first");
}

#[test]
fn the_summary_says_what_unequal_zones_cost() {
    // Zones with 5, 3 and 2 of ten nodes: with N = 3 each zone holds everything, whatever its size.
    let members =
        (0..10).map(|number| member(number, [0, 0, 0, 0, 0, 1, 1, 1, 2, 2][usize::from(number)], 1)).collect();
    let summary = planned(None, members).summary;
    assert!(summary.balance.max < 1.01 && summary.balance.min > 0.99, "{:?}", summary.balance);
    let costs = summary.balance_by_weight;
    assert!((costs.max - 5.0 / 3.0).abs() < 0.01 && (costs.min - 2.0 / 3.0).abs() < 0.01, "{costs:?}");
}

#[test]
fn electors_stand_apart_and_stay() {
    // Twelve nodes in four zones, three in each.
    let first = planned(None, (0..12).map(|number| member(number, number / 3, 1)).collect()).layout;
    let zones = |layout: &Layout| -> BTreeSet<String> {
        layout.electors.iter().map(|elector| layout.members[usize::from(elector.0)].zone.clone()).collect()
    };
    assert_eq!((first.electors.len(), zones(&first).len()), (5, 4));
    let mut members = first.members.clone();
    members.remove(usize::from(first.electors[1].0));
    members.push(member(99, 9, 1));
    let next = planned(Some(&first), members).layout;
    let ids = |layout: &Layout| -> BTreeSet<NodeId> {
        layout.electors.iter().map(|elector| layout.members[usize::from(elector.0)].id).collect()
    };
    // The newcomer brings a zone of its own, which is worth more than an old elector in a zone that has two.
    assert_eq!(zones(&next).len(), 5);
    assert!(ids(&first).intersection(&ids(&next)).count() >= 3);
    assert_eq!(planned(None, (0..1000).map(|number| member(number, number % 3, 1)).collect()).layout.electors.len(), 7);
}

#[test]
fn a_newcomer_in_an_old_place_is_no_old_member() {
    let first = planned(None, (0..7).map(|number| member(number, 0, 1)).collect()).layout;
    let without_first =
        |layout: &Layout| planned(Some(layout), layout.members.iter().skip(1).cloned().collect()).layout;
    let gone = without_first(&without_first(&first));
    assert_eq!((gone.epoch, gone.members[0].state), (3, MemberState::Gone));
    let next = planned(Some(&gone), gone.members.iter().cloned().chain([member(99, 0, 1)]).collect()).layout;
    assert_eq!(next.members[0].name, "n99");
    assert_eq!(next.electors, [1, 2, 3, 4, 5].map(NodeIndex));
}

#[test]
fn what_can_not_be_planned_is_refused_with_the_reason() {
    let first = planned(None, apart(3)).layout;
    let refused = |old: Option<&Layout>, desired: &Desired| {
        let error = plan(old, desired).expect_err("it can't be planned");
        assert!(error.to_string().starts_with("nothing was planned: "));
        error
    };
    assert_eq!(refused(None, &desired(Vec::new())), PlanError::Desired(LayoutError::NoActiveNode));
    let twins = vec![member(1, 1, 1), member(1, 2, 1)];
    assert_eq!(refused(None, &desired(twins)), PlanError::Desired(LayoutError::DuplicateName("n1".into())));
    let weightless = PlanError::Desired(LayoutError::WeightZero("n1".into()));
    assert_eq!(refused(Some(&first), &desired(vec![member(1, 1, 0)])), weightless);
    let eight = Desired { replicas: 8, ..desired(apart(9)) };
    assert_eq!(refused(None, &eight), PlanError::Desired(LayoutError::Replicas(8)));
    let fine = Desired { partition_bits: Some(21), ..desired(apart(3)) };
    assert_eq!(refused(None, &fine), PlanError::Desired(LayoutError::PartitionBits(21)));
    let foreign = Desired { cluster: 8, ..desired(apart(3)) };
    assert_eq!(refused(Some(&first), &foreign), PlanError::OtherCluster { old: 7, desired: 8 });
    let last = Layout { epoch: u64::MAX, ..first.clone() };
    assert_eq!(refused(Some(&last), &desired(apart(3))), PlanError::LastEpoch);
    let broken = Layout { slots: Vec::new(), ..first };
    let slots = LayoutError::SlotCount { expected: 768, found: 0 };
    assert_eq!(refused(Some(&broken), &desired(apart(3))), PlanError::OldLayout(slots));
}

/// Any nodes: of one to a thousand in weight, in a zone of their own, in one giant zone, or in one of a few.
fn any_members() -> impl Strategy<Value = Vec<Member>> {
    let zone = (any::<bool>(), 0..4_u16, 1..1000_u16);
    let weight = (any::<bool>(), 1..=1000_u32, 1..=3_u32);
    let node = (0..60_u16, zone, weight, 0..8_u8);
    (0..3_u8, proptest::collection::vec(node, 1..40)).prop_map(|(kind, nodes)| {
        let mut members = BTreeMap::new();
        for (number, (few, zone, own), (extreme, any_weight, weight), leaving) in nodes {
            let zone = match kind {
                0 => 0,
                1 => zone,
                _ => {
                    if few {
                        zone
                    } else {
                        own
                    }
                }
            };
            let mut node = member(number, zone, if extreme { any_weight } else { weight });
            if leaving == 0 {
                node.state = MemberState::Leaving;
            }
            members.insert(number, node);
        }
        let mut members: Vec<Member> = members.into_values().collect();
        members[0].state = MemberState::Active;
        members
    })
}

/// D'Hondt's rule, seen from outside: inside a zone with one replica of each partition, no slot could go from the fuller of
/// two nodes to the emptier and leave both less full than the fuller one is now.
fn fuller_nodes_can_not_be_relieved(layout: &Layout, plan: &Plan) -> bool {
    let loads: Vec<u64> = plan.summary.nodes.iter().map(|node| u64::from(node.partitions)).collect();
    let active = |node: &usize| layout.members[*node].state == MemberState::Active;
    let pairs = (0..loads.len()).flat_map(|a| (0..loads.len()).map(move |b| (a, b)));
    pairs.filter(|(a, b)| active(a) && active(b) && layout.members[*a].zone == layout.members[*b].zone).all(|(a, b)| {
        let weight = |node: usize| u64::from(layout.members[node].weight);
        a == b || loads[a] * weight(b) <= (loads[b] + 1) * weight(a)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_nodes_get_a_plan_that_keeps_the_rules(
        first in any_members(), then in any_members(), replicas in 1..=5_u8, fewer in 0..3_u8, bits in 0..10_u8,
    ) {
        let given = Desired { cluster: 1, members: first, replicas, partition_bits: Some(bits), buckets: BTreeMap::new(), replacements: BTreeMap::new(), proven: Proven::Everything };
        let start = plan(None, &given).unwrap();
        prop_assert_eq!(start.layout.check(), Ok(()));
        prop_assert_eq!(start.summary.moved, start.summary.slots);
        let wanted = Desired { members: then, replicas: replicas.saturating_sub(fewer).max(1), partition_bits: None, ..given };
        let next = plan(Some(&start.layout), &wanted).unwrap();
        prop_assert_eq!(next.layout.check(), Ok(()));
        prop_assert!(next.summary.moved >= next.summary.moved_lower_bound);
        let held: u32 = next.summary.nodes.iter().map(|node| node.partitions).sum();
        prop_assert_eq!(u64::from(held), next.summary.slots);
        let coordinated: u32 = next.summary.nodes.iter().map(|node| node.coordinated).sum();
        prop_assert_eq!(coordinated, next.layout.partitions());
        for Plan { layout, .. } in [&start, &next] {
            prop_assert_eq!(&Layout::decode(&layout.encode()).unwrap(), layout);
        }
    }

    #[test]
    fn where_zones_suffice_every_node_gets_its_exact_number(members in any_members(), then in any_members()) {
        let zones = |members: &[Member]| {
            let active = members.iter().filter(|member| member.state == MemberState::Active);
            active.map(|member| member.zone.clone()).collect::<BTreeSet<_>>().len()
        };
        let mut old = None;
        for members in [members, then] {
            let apart = zones(&members) >= 3;
            let plan = planned(old.as_ref(), members);
            prop_assert!(!apart || fuller_nodes_can_not_be_relieved(&plan.layout, &plan));
            old = Some(plan.layout);
        }
    }
}
