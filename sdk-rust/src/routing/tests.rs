//! Routing, rule by rule, and against a statement of the rules.

use dynamo::{
    ident::{Id, NodeId},
    layout::{Layout, Member, MemberState, NodeIndex},
};
use proptest::prelude::*;

use super::{Health, Kind, Route, coordinator};
use crate::random::Random;

const HEALTHY: Health = Health { usable: true, near: false, in_flight: 0, latency_micros: 100.0, load: 0 };
const DOWN: Health = Health { usable: false, ..HEALTHY };

/// Five nodes; partition p belongs to the nodes p, p + 1, p + 2 of them, in turn.
fn layout() -> Layout {
    let member = |at: u16| Member {
        id: NodeId(at.into()),
        name: format!("n{at}"),
        zone: "z".to_owned(),
        weight: 1,
        addresses: Vec::new(),
        state: MemberState::Active,
    };
    Layout {
        cluster: 1,
        generation: 0,
        epoch: 1,
        parent_hash: [0; 16],
        electors: vec![NodeIndex(0)],
        members: (0..5).map(member).collect(),
        partition_bits: 4,
        replicas: 3,
        slots: (0..48).map(|at| (at / 3 + at % 3) % 5).collect(),
        buckets: Default::default(),
        spans: dynamo::layout::spans::Spans::settled(1),
    }
}

/// An identifier in partition 1, whose owners are the nodes 1, 2 and 3.
fn id() -> Id {
    let mut bytes = [0; 16];
    bytes[0] = 0x10;
    Id(bytes)
}

fn choose(health: &[Health], kind: Kind, tried: &[u16], seed: u64) -> Option<u16> {
    let tried: Vec<NodeIndex> = tried.iter().copied().map(NodeIndex).collect();
    let route = Route { id: &id(), kind, owners_used: 0, stand_ins: false, tried: &tried };
    coordinator(&layout(), health, route, &mut Random::new(seed)).map(|node| node.0)
}

/// How often each node is chosen by a thousand reads.
fn shares(health: &[Health]) -> [usize; 5] {
    let mut shares = [0; 5];
    let mut random = Random::new(7);
    for _ in 0..1000 {
        let route = Route { id: &id(), kind: Kind::Read, owners_used: 0, stand_ins: false, tried: &[] };
        let node = coordinator(&layout(), health, route, &mut random).unwrap();
        shares[usize::from(node.0)] += 1;
    }
    shares
}

#[test]
fn writes_stick_to_the_first_healthy_owner() {
    let mut health = [HEALTHY; 5];
    assert!((0..100).all(|seed| choose(&health, Kind::Write, &[], seed) == Some(1)));
    health[1] = DOWN;
    assert!((0..100).all(|seed| choose(&health, Kind::Write, &[], seed) == Some(2)));
    assert!((0..100).all(|seed| choose(&health, Kind::Write, &[2], seed) == Some(3)));
}

#[test]
fn equal_owners_share_the_reads() {
    let shares = shares(&[HEALTHY; 5]);
    assert_eq!((shares[0], shares[4]), (0, 0));
    assert!(shares[1..4].iter().all(|share| (250..420).contains(share)), "{shares:?}");
}

#[test]
fn reads_leave_the_worst_of_three_alone() {
    for worse in [
        Health { latency_micros: 500.0, ..HEALTHY },
        Health { in_flight: 40, ..HEALTHY },
        Health { load: 250, ..HEALTHY },
    ] {
        let mut health = [HEALTHY; 5];
        health[2] = worse;
        let shares = shares(&health);
        assert_eq!(shares[2], 0, "{worse:?}: {shares:?}");
    }
}

#[test]
fn two_owners_share_by_cost() {
    let mut health = [HEALTHY; 5];
    health[3] = DOWN;
    health[2].latency_micros = 101.0;
    assert_eq!(shares(&health)[1], 1000);
}

#[test]
fn reads_stay_in_their_zone_while_an_owner_there_is_healthy() {
    let mut health = [HEALTHY; 5];
    health[3] = Health { near: true, latency_micros: 10_000.0, ..HEALTHY };
    assert_eq!(shares(&health)[3], 1000);
    health[3].usable = false;
    assert_eq!(shares(&health)[3], 0);
}

#[test]
fn when_no_owner_is_healthy_another_node_forwards() {
    let mut health = [DOWN; 5];
    health[4] = HEALTHY;
    assert_eq!(choose(&health, Kind::Write, &[], 1), Some(4));
    assert_eq!(choose(&health, Kind::Read, &[], 1), Some(4));
}

#[test]
fn nobody_asks_a_member_that_has_left_and_one_that_leaves_only_as_the_last() {
    let mut layout = layout();
    (layout.members[0].state, layout.members[4].state) = (MemberState::Gone, MemberState::Leaving);
    let choose = |layout: &Layout, health: &[Health], tried: &[NodeIndex], seed| {
        let route = Route { id: &id(), kind: Kind::Write, owners_used: 0, stand_ins: false, tried };
        coordinator(layout, health, route, &mut Random::new(seed)).map(|node| node.0)
    };
    let owners_down = [HEALTHY, DOWN, DOWN, DOWN, HEALTHY];
    assert!((0..50).all(|seed| choose(&layout, &owners_down, &[], seed) == Some(4)));
    layout.members[0].state = MemberState::Active;
    assert!((0..50).all(|seed| choose(&layout, &owners_down, &[], seed) == Some(0)));
    for state in [MemberState::Gone, MemberState::Lost] {
        layout.members[0].state = state;
        let tried = [1, 2, 3, 4].map(NodeIndex);
        assert_eq!(choose(&layout, &owners_down, &tried, 1), None);
    }
}

#[test]
fn where_stand_ins_may_coordinate_all_clients_choose_the_same_one() {
    let layout = layout();
    let partition = layout.partition(&id());
    let owners: Vec<_> = layout.owners(partition).map(|owner| owner.0).collect();
    let mut health = [HEALTHY; 5];
    owners.iter().for_each(|owner| health[usize::from(*owner)] = DOWN);
    let is_alive = |node: NodeIndex| !owners.contains(&node.0);
    let first = layout.stand_ins(partition, is_alive).next().unwrap();
    for seed in 0..20 {
        for kind in [Kind::Read, Kind::Write] {
            let route = Route { id: &id(), kind, owners_used: 0, stand_ins: true, tried: &[] };
            assert_eq!(coordinator(&layout, &health, route, &mut Random::new(seed)), Some(first));
        }
    }
    // One that has failed is not asked again, and an owner that is back is always better.
    let route = Route { id: &id(), kind: Kind::Write, owners_used: 0, stand_ins: true, tried: &[first] };
    assert_ne!(coordinator(&layout, &health, route, &mut Random::new(1)), Some(first));
    health[usize::from(owners[2])] = HEALTHY;
    let route = Route { tried: &[], ..route };
    assert_eq!(coordinator(&layout, &health, route, &mut Random::new(1)).unwrap().0, owners[2]);
}

#[test]
fn when_nobody_is_healthy_an_owner_is_tried_anyway() {
    let health = [DOWN; 5];
    assert_eq!(choose(&health, Kind::Write, &[], 1), Some(1));
    assert_eq!(choose(&health, Kind::Read, &[1], 1), Some(2));
    let last = choose(&health, Kind::Read, &[1, 2, 3, 0], 1);
    assert_eq!(last, Some(4));
    assert_eq!(choose(&health, Kind::Write, &[0, 1, 2, 3, 4], 1), None);
}

#[test]
fn only_the_owners_that_the_operation_uses_coordinate_it() {
    let mut health = [HEALTHY; 5];
    let mut random = Random::new(3);
    for _ in 0..100 {
        let route = Route { id: &id(), kind: Kind::Read, owners_used: 2, stand_ins: false, tried: &[] };
        let node = coordinator(&layout(), &health, route, &mut random).unwrap().0;
        assert!(node == 1 || node == 2);
    }
    health[1] = DOWN;
    let route = Route { id: &id(), kind: Kind::Write, owners_used: 1, stand_ins: false, tried: &[] };
    let node = coordinator(&layout(), &health, route, &mut random).unwrap();
    assert_ne!(node.0, 1, "a healthy node forwards to the only owner that counts");
}

proptest! {
    #[test]
    fn the_choice_is_never_worse_than_the_rules_allow(
        usable in proptest::array::uniform5(any::<bool>()),
        near in proptest::array::uniform5(any::<bool>()),
        in_flight in proptest::array::uniform5(0u32..50),
        tried in proptest::collection::vec(0u16..5, 0..5),
        write in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let health: Vec<Health> = (0..5).map(|at| Health { usable: usable[at], near: near[at], in_flight: in_flight[at], ..HEALTHY }).collect();
        let kind = if write { Kind::Write } else { Kind::Read };
        let free = |node: &u16| !tried.contains(node);
        let good = |node: &u16| free(node) && usable[usize::from(*node)];
        let Some(chosen) = choose(&health, kind, &tried, seed) else {
            prop_assert!(!(0..5).any(|node| free(&node)));
            return Ok(());
        };
        prop_assert!(free(&chosen));
        let owners = [1, 2, 3];
        if owners.iter().any(good) {
            prop_assert!(owners.contains(&chosen) && good(&chosen));
            if kind == Kind::Write {
                prop_assert_eq!(Some(&chosen), owners.iter().find(|node| good(node)));
            }
            if kind == Kind::Read && owners.iter().any(|node| good(node) && near[usize::from(*node)]) {
                prop_assert!(near[usize::from(chosen)]);
            }
        } else if (0..5).any(|node| good(&node)) {
            prop_assert!(good(&chosen));
        } else if owners.iter().any(free) {
            prop_assert_eq!(Some(&chosen), owners.iter().find(|node| free(node)));
        }
    }
}
