//! Whatever the layout and whoever is away: the nodes of a route are different nodes, and who stands in is the same from
//! everywhere.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::any, prop_assert, prop_assert_eq, proptest, sample::Index};

use super::{
    super::{
        demand::{Demand, Wanted},
        flight::Shared,
        route::Route,
    },
    *,
};
use crate::{ident::StoreKey, quorum::PLACES_MAX};

const BITS: u8 = 5;

const ONE: Wanted = Wanted::Number(1);

/// The way under the view that the newest layout says.
fn way(shared: &Shared, store_key: &StoreKey, demand: &Demand) -> Route {
    let layout = shared.layout();
    Route::new(shared, store_key, demand, layout.view(layout.partition(&store_key.id()))).unwrap()
}

/// A layout whose slots are drawn from these numbers: no owner of a partition twice, else in any order.
fn any_layout(nodes: u16, replicas: u8, draws: &[Index]) -> Layout {
    let mut draws = draws.iter().cycle();
    let mut slots = Vec::new();
    for _ in 0..1 << BITS {
        let mut owners: Vec<u16> = Vec::new();
        for _ in 0..replicas {
            let left: Vec<u16> = (0..nodes).filter(|node| !owners.contains(node)).collect();
            owners.push(
                left.get(draws.next().map_or(0, |draw| draw.index(left.len().max(1)))).copied().unwrap_or(u16::MAX),
            );
        }
        slots.extend(owners);
    }
    let mut layout = Layout { partition_bits: BITS, slots, ..layout(nodes, replicas) };
    for (at, member) in layout.members.iter_mut().enumerate() {
        member.zone = format!("z{}", at % 3);
    }
    layout
}

fn shared_of(layout: &Layout, me: u16, away: &BTreeSet<u16>) -> Shared {
    let mut shared = Shared::new(CoordinatorConfig::new(Some(NodeIndex(me)), ring_of(layout.clone()), TOKEN_KEY));
    away.iter().filter(|&&node| node != me).for_each(|&node| shared.set_reachable(NodeIndex(node), false));
    shared
}

fn recruits(route: &mut Route, shared: &mut Shared) -> Vec<NodeIndex> {
    core::iter::from_fn(|| route.recruit(shared).map(|place| route.node(place))).collect()
}

proptest! {
    #[test]
    fn nobody_stands_twice_no_owner_stands_in_and_everyone_finds_the_same(
        (nodes, replicas, in_use) in (1..14_u16, 1..6_u8, 1..6_usize),
        draws in vec(any::<Index>(), 1..200),
        away in vec(0..14_u16, 0..8),
        key in any::<u16>(),
    ) {
        let layout = any_layout(nodes, replicas, &draws);
        let away: BTreeSet<u16> = away.into_iter().filter(|&node| node < nodes).collect();
        let store_key = StoreKey::of(b"carts", &key.to_le_bytes());
        let owners: Vec<NodeIndex> = layout.owners(layout.partition(&store_key.id())).collect();
        let in_use = in_use.min(owners.len());
        let demand = Demand { owners: in_use, read: ONE, write: ONE, is_sloppy: true };
        let found_by = |me: u16| {
            let mut shared = shared_of(&layout, me, &away);
            let mut route = way(&shared, &store_key, &demand);
            (recruits(&mut route, &mut shared), route)
        };
        let mut orders = BTreeSet::new();
        for me in (0..nodes).filter(|me| !away.contains(me)) {
            let (stand_ins, route) = found_by(me);
            let all: BTreeSet<NodeIndex> = route.nodes(route.places()).into_iter().collect();
            prop_assert_eq!(all.len(), usize::from(route.places().len()), "nobody stands twice");
            prop_assert_eq!(route.nodes(route.owners()).into_iter().collect::<BTreeSet<_>>(), owners[..in_use].iter().copied().collect());
            prop_assert!(stand_ins.iter().all(|node| !owners.contains(node) && !away.contains(&node.0)));
            let has_a_share = |node: &u16| layout.slots.contains(node) && !owners.contains(&NodeIndex(*node));
            let able = (0..nodes).filter(|node| !away.contains(node) && has_a_share(node)).count();
            prop_assert_eq!(stand_ins.len(), able.min(PLACES_MAX - in_use), "everyone who can stand in is found");
            orders.insert(stand_ins);
        }
        prop_assert!(orders.len() <= 1, "{orders:?}");
    }

    #[test]
    fn who_coordinates_in_the_owners_place_stands_first_and_once(
        draws in vec(any::<Index>(), 1..200),
        me in 0..9_u16,
        key in any::<u16>(),
    ) {
        let layout = any_layout(9, 3, &draws);
        let store_key = StoreKey::of(b"carts", &key.to_le_bytes());
        let owners: Vec<NodeIndex> = layout.owners(layout.partition(&store_key.id())).collect();
        let demand = Demand { owners: 3, read: Wanted::Majority, write: Wanted::Majority, is_sloppy: true };
        if !owners.contains(&NodeIndex(me)) {
            let mut shared = shared_of(&layout, me, &owners.iter().map(|owner| owner.0).collect());
            let mut route = way(&shared, &store_key, &demand);
            recruits(&mut route, &mut shared);
            let mut route = route.standing_in(NodeIndex(me));
            prop_assert_eq!(route.nodes(route.places()), [&[NodeIndex(me)], &owners[..]].concat());
            prop_assert_eq!(route.nodes(route.owners()), owners);
            prop_assert!(route.is_mine() && route.is_standing_in());
            let quorums = route.write_quorums(&demand).unwrap();
            prop_assert_eq!(quorums.stand_ins(), route.stand_ins());
            prop_assert!(!recruits(&mut route, &mut shared).contains(&NodeIndex(me)));
            route.dismiss();
            prop_assert_eq!(route.places().len(), 4);
        }
    }
}
