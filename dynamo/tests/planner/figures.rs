//! The planner's figures, from 3 to 10,000 nodes: how even the maps are, how little they move, and that neither grows worse
//! with age. Paper, section 6.2. The time planning takes is printed by `examples/planner_figures.rs`, not asserted.

use std::collections::{BTreeMap, BTreeSet};

use super::optimum::fewest_moves;
use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState},
    planner::{Desired, Plan, plan},
    settlement::Proven,
};

/// The most that the fullest node may hold, as a multiple of its share.
const LOAD_MAX: f64 = 1.02;

/// The most that a change may move, as a multiple of the slots that nodes lack.
const MOVED_MAX: f64 = 1.2;

/// The same as a multiple of what the best plan moves, where that is more: when a change brings a zone into nearly every
/// partition, even the best plan moves up to half more than what nodes lack.
const MOVED_MAX_OF_BEST: f64 = 1.05;

const EQUAL: &[u32] = &[1];
const MIXED: &[u32] = &[1, 2, 4];

/// Nodes out of a hundred by zone.
const EVEN: &[usize] = &[20, 20, 20, 20, 20];
const UNEVEN: &[usize] = &[40, 25, 15, 12, 8];
const MANY: &[usize] = &[5; 20];

fn member(number: usize, weights: &[u32], zones: &[usize]) -> Member {
    // The stride has no divisor in common with a hundred, so every run of nodes has every zone.
    let percent = number * 47 % 100;
    let sums = zones.iter().scan(0, |sum, &zone| {
        *sum += zone;
        Some(*sum)
    });
    Member {
        id: NodeId(number as u128 + 1),
        name: format!("n{number}"),
        zone: format!("z{}", sums.take_while(|&sum| sum <= percent).count()),
        weight: weights[number / 3 % weights.len()],
        addresses: Vec::new(),
        state: MemberState::Active,
    }
}

fn planned(old: Option<&Layout>, members: Vec<Member>) -> Plan {
    let desired = Desired {
        cluster: 1,
        members,
        replicas: 3,
        partition_bits: None,
        buckets: BTreeMap::new(),
        replacements: BTreeMap::new(),
        proven: Proven::Everything,
    };
    plan(old, &desired).expect("what is desired keeps every rule")
}

fn after(old: &Layout, change: impl FnOnce(&mut Vec<Member>)) -> Plan {
    let mut members = old.members.clone();
    change(&mut members);
    planned(Some(old), members)
}

/// The slots that moved, counted with sets of identities instead of the planner's own arrays.
fn moved(old: &Layout, new: &Layout) -> u64 {
    let doublings = new.partition_bits - old.partition_bits;
    let owners = |layout: &Layout, partition: u32| -> BTreeSet<NodeId> {
        layout.owners(partition).map(|owner| layout.members[usize::from(owner.0)].id).collect()
    };
    (0..new.partitions())
        .map(|partition| owners(new, partition).difference(&owners(old, partition >> doublings)).count() as u64)
        .sum()
}

/// The largest load as a multiple of a share, counted from the slots, with shares that this test computes itself: by
/// weight, where no zone holds more than one replica of each partition.
fn load_max(layout: &Layout) -> f64 {
    let mut weights = BTreeMap::<&str, f64>::new();
    let active = || layout.members.iter().filter(|member| member.state == MemberState::Active);
    active().for_each(|member| *weights.entry(&member.zone).or_default() += f64::from(member.weight));
    let partitions = f64::from(layout.partitions());
    let mut full = BTreeSet::new();
    let price = loop {
        let rest: f64 = weights.iter().filter(|(zone, _)| !full.contains(*zone)).map(|(_, weight)| weight).sum();
        let price = partitions * (3.0 - full.len() as f64) / rest;
        let more = weights.iter().find(|(zone, weight)| !full.contains(*zone) && **weight * price > partitions);
        match more {
            Some((zone, _)) => full.insert(*zone),
            None => break price,
        };
    };
    let mut loads = vec![0.0; layout.members.len()];
    layout.slots.iter().for_each(|&slot| loads[usize::from(slot)] += 1.0);
    let ratio = |(member, load): (&Member, &f64)| {
        let zone = member.zone.as_str();
        let price = if full.contains(zone) { partitions / weights[zone] } else { price };
        load / (price * f64::from(member.weight))
    };
    layout
        .members
        .iter()
        .zip(&loads)
        .filter(|(member, _)| member.state == MemberState::Active)
        .map(ratio)
        .fold(0.0, f64::max)
}

fn assert_good(what: &str, old: Option<&Layout>, plan: &Plan) {
    let summary = &plan.summary;
    assert_eq!(plan.layout.check(), Ok(()), "{what}");
    let load = load_max(&plan.layout);
    assert!(load <= LOAD_MAX, "{what}: the fullest node holds {load} of its share");
    assert!((load - summary.balance.max).abs() < 1e-9, "{what}: {load}, but the summary says {:?}", summary.balance);
    for slots in plan.layout.slots.chunks_exact(3) {
        let zone = |at: usize| plan.layout.members[usize::from(slots[at])].zone.as_str();
        assert!(zone(0) != zone(1) && zone(0) != zone(2) && zone(1) != zone(2), "{what}: two replicas in one zone");
    }
    if let Some(old) = old {
        assert_eq!(summary.moved, moved(old, &plan.layout), "{what}");
        let moved = summary.moved as f64;
        if moved > MOVED_MAX * summary.moved_lower_bound as f64 {
            let best = fewest_moves(old, &plan.layout, summary.moved) as f64;
            assert!(moved <= MOVED_MAX_OF_BEST * best, "{what}: moved {moved}, the best plan moves {best}");
        }
    }
}

fn assert_good_with_changes(nodes: usize, weights: &[u32], zones: &[usize]) {
    let what = |change: &str| format!("{nodes} nodes, weights {weights:?}, zones {zones:?}, {change}");
    let first = planned(None, (0..nodes).map(|number| member(number, weights, zones)).collect());
    assert_good(&what("first"), None, &first);
    let first = &first.layout;
    let join = after(first, |members| members.push(member(nodes, weights, zones)));
    assert_good(&what("join"), Some(first), &join);
    if nodes > 5 {
        let leave = after(first, |members| members[nodes / 2].state = MemberState::Leaving);
        assert_good(&what("leave"), Some(first), &leave);
    }
    let reweight = after(first, |members| members[nodes / 3].weight *= 2);
    assert_good(&what("reweight"), Some(first), &reweight);
}

#[test]
fn maps_of_3_to_300_nodes_are_even_and_change_cheaply() {
    for nodes in (3..=40).chain([50, 70, 100, 170, 300]) {
        for weights in [EQUAL, MIXED] {
            for zones in [EVEN, UNEVEN, MANY] {
                assert_good_with_changes(nodes, weights, zones);
            }
        }
    }
}

#[test]
fn maps_of_1000_and_3000_nodes_are_even_and_change_cheaply() {
    for (nodes, weights, zones) in [(1000, EQUAL, EVEN), (1000, MIXED, UNEVEN), (3000, MIXED, MANY)] {
        assert_good_with_changes(nodes, weights, zones);
    }
}

#[test]
fn maps_of_10_000_nodes_are_even_and_change_cheaply() {
    assert_good_with_changes(10_000, EQUAL, EVEN);
    assert_good_with_changes(10_000, MIXED, UNEVEN);
}

#[test]
fn a_tenth_more_nodes_move_a_tenth_of_the_data() {
    for (weights, zones) in [(EQUAL, EVEN), (MIXED, UNEVEN)] {
        let first = planned(None, (0..1000).map(|number| member(number, weights, zones)).collect()).layout;
        let plan = after(&first, |members| members.extend((1000..1100).map(|number| member(number, weights, zones))));
        assert_good("a tenth more", Some(&first), &plan);
        assert!(plan.summary.moved * 100 < plan.summary.slots * 10);
    }
}

#[test]
fn six_hundred_changes_do_not_wear_the_map_out() {
    for (weights, zones) in [(EQUAL, EVEN), (MIXED, UNEVEN)] {
        let mut layout = planned(None, (0..9).map(|number| member(number, weights, zones)).collect()).layout;
        let (mut moves, mut bound) = (0, 0);
        let mut dice = 20_261_121_u64;
        let mut roll = |sides: usize| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) as usize % sides
        };
        for number in 9..609 {
            let plan = after(&layout, |members| {
                let is_active = |at: &usize| members[*at].state == MemberState::Active;
                let active: Vec<usize> = (0..members.len()).filter(is_active).collect();
                let chosen = active[roll(active.len())];
                match roll(10) {
                    0..=1 if active.len() > 9 => members[chosen].state = MemberState::Leaving,
                    2 => members[chosen].weight = weights[roll(weights.len())],
                    3 if active.len() > 9 => members[chosen].state = MemberState::Lost,
                    _ => members.push(member(number, weights, zones)),
                }
            });
            assert_eq!(plan.summary.moved, moved(&layout, &plan.layout));
            assert!(load_max(&plan.layout) <= LOAD_MAX, "change {number}: {}", load_max(&plan.layout));
            moves += plan.summary.moved;
            bound += plan.summary.moved_lower_bound;
            layout = plan.layout;
        }
        let active = layout.members.iter().filter(|member| member.state == MemberState::Active).count();
        assert!(active > 150, "{active} nodes");
        assert!(layout.members.len() < active + 10, "{} places for {active} nodes", layout.members.len());
        assert!(moves as f64 <= 1.05 * bound as f64, "{moves} slots moved, {bound} were necessary");
    }
}

#[test]
fn a_node_shares_its_partitions_with_many() {
    let layout = planned(None, (0..1000).map(|number| member(number, EQUAL, EVEN)).collect()).layout;
    let mut peers = vec![BTreeSet::<u16>::new(); 1000];
    for slots in layout.slots.chunks_exact(3) {
        slots.iter().for_each(|&node| peers[usize::from(node)].extend(slots.iter().filter(|&&peer| peer != node)));
    }
    // 197 partitions with two others each: in a map without a pattern, some 310 of the 800 nodes in other zones.
    let fewest = peers.iter().map(BTreeSet::len).min().unwrap();
    assert!(fewest > 250, "some node shares its partitions with {fewest} others only");
}

#[test]
fn coordinators_are_spread_as_evenly_as_the_data() {
    for nodes in [3, 10, 100, 1000] {
        let first = planned(None, (0..nodes).map(|number| member(number, MIXED, UNEVEN)).collect());
        let grown = after(&first.layout, |members| members.push(member(nodes, MIXED, UNEVEN)));
        for plan in [first, grown] {
            for (node, summary) in plan.summary.nodes.iter().enumerate() {
                let share = f64::from(summary.partitions) / 3.0;
                assert!(
                    f64::from(summary.coordinated) <= 1.05 * share + 1.0,
                    "{nodes} nodes, node {node}: {summary:?}"
                );
            }
        }
    }
}
