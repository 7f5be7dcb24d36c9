//! The planner's moves against the true optimum: the same loads reached with the fewest moves that the rules allow, found
//! by cancelling negative cycles in a flow network. The oracle is slow and knows nothing of how the planner works.

use std::collections::BTreeMap;

use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState},
    planner::{Desired, Plan, plan},
    settlement::Proven,
};

/// The fewest slots that must move from `old` to reach the loads of `new`, for a plan that moved `moved`.
pub(crate) fn fewest_moves(old: &Layout, new: &Layout, moved: u64) -> u64 {
    moved - u64::from(Network::of(old, new, zone_limit(new)).savings())
}

/// A network whose flow is the plan: partition -> zone within the partition -> node. An arc into a node costs one unless
/// the node owned the partition before.
struct Network {
    /// By vertex: indices into `arcs`.
    leaving: Vec<Vec<usize>>,
    /// Residual arcs in pairs: the arc and its reverse.
    arcs: Vec<Arc>,
}

struct Arc {
    to: usize,
    free: i32,
    cost: i32,
}

impl Network {
    fn of(old: &Layout, new: &Layout, zone_limit: i32) -> Self {
        let members = &new.members;
        let mut zones: Vec<&str> = members.iter().map(|member| member.zone.as_str()).collect();
        zones.sort_unstable();
        zones.dedup();
        let partitions = new.partitions() as usize;
        let vertices = partitions * (1 + zones.len()) + members.len();
        let mut network = Self { leaving: vec![Vec::new(); vertices], arcs: Vec::new() };
        for partition in 0..partitions {
            let doublings = new.partition_bits - old.partition_bits;
            let before: Vec<NodeId> =
                old.owners((partition >> doublings) as u32).map(|owner| old.members[usize::from(owner.0)].id).collect();
            let after: Vec<usize> = new.owners(partition as u32).map(|owner| usize::from(owner.0)).collect();
            for (number, zone) in zones.iter().enumerate() {
                let vertex = partitions + partition * zones.len() + number;
                let used = after.iter().filter(|&&node| members[node].zone == *zone).count() as i32;
                network.add(partition, vertex, used, zone_limit, 0);
                for (node, member) in members.iter().enumerate() {
                    if member.zone == *zone && member.state == MemberState::Active {
                        let cost = i32::from(!before.contains(&member.id));
                        let used = i32::from(after.contains(&node));
                        network.add(vertex, vertices - members.len() + node, used, 1, cost);
                    }
                }
            }
        }
        network
    }

    fn add(&mut self, from: usize, to: usize, flow: i32, capacity: i32, cost: i32) {
        self.leaving[from].push(self.arcs.len());
        self.arcs.push(Arc { to, free: capacity - flow, cost });
        self.leaving[to].push(self.arcs.len());
        self.arcs.push(Arc { to: from, free: flow, cost: -cost });
    }

    /// How many moves can be saved.
    fn savings(&mut self) -> u32 {
        let mut saved = 0;
        while let Some(cycle) = self.negative_cycle() {
            for arc in cycle {
                saved -= self.arcs[arc].cost;
                self.arcs[arc].free -= 1;
                self.arcs[arc ^ 1].free += 1;
            }
        }
        saved.try_into().expect("cancelling negative cycles saves moves")
    }

    /// Bellman and Ford, from everywhere at once.
    fn negative_cycle(&self) -> Option<Vec<usize>> {
        let mut distance = vec![0; self.leaving.len()];
        let mut parent = vec![usize::MAX; self.leaving.len()];
        let mut last = None;
        for _ in 0..self.leaving.len() {
            last = None;
            for (vertex, arcs) in self.leaving.iter().enumerate() {
                for &arc in arcs {
                    let Arc { to, free, cost } = self.arcs[arc];
                    if free > 0 && distance[vertex] + cost < distance[to] {
                        distance[to] = distance[vertex] + cost;
                        parent[to] = arc;
                        last = Some(to);
                    }
                }
            }
            last?;
            if let Some(cycle) = self.cycle_in(&parent) {
                return Some(cycle);
            }
        }
        last.and_then(|_| self.cycle_in(&parent))
    }

    /// A cycle among the parents, if there is one.
    fn cycle_in(&self, parent: &[usize]) -> Option<Vec<usize>> {
        let mut seen = vec![0; parent.len()];
        for start in 0..parent.len() {
            let mut vertex = start;
            while seen[vertex] == 0 && parent[vertex] != usize::MAX {
                seen[vertex] = start + 1;
                vertex = self.arcs[parent[vertex] ^ 1].to;
            }
            if parent[vertex] != usize::MAX && seen[vertex] == start + 1 {
                let (mut cycle, first) = (Vec::new(), vertex);
                loop {
                    cycle.push(parent[vertex]);
                    vertex = self.arcs[parent[vertex] ^ 1].to;
                    if vertex == first {
                        return Some(cycle);
                    }
                }
            }
        }
        None
    }
}

fn member(number: usize, weights: &[u32], zones: usize) -> Member {
    Member {
        id: NodeId(number as u128 + 1),
        name: format!("n{number}"),
        zone: format!("z{}", number * number % 13 % zones),
        weight: weights[number % weights.len()],
        addresses: Vec::new(),
        state: MemberState::Active,
    }
}

fn planned(old: Option<&Layout>, members: Vec<Member>) -> Plan {
    plan(
        old,
        &Desired {
            cluster: 1,
            members,
            replicas: 3,
            partition_bits: Some(8),
            buckets: BTreeMap::new(),
            replacements: BTreeMap::new(),
            proven: Proven::Everything,
        },
    )
    .expect("what is desired keeps every rule")
}

/// The fewest owners of a partition that have to share a zone.
fn zone_limit(layout: &Layout) -> i32 {
    let mut active = BTreeMap::<&str, i32>::new();
    for member in layout.members.iter().filter(|member| member.state == MemberState::Active) {
        *active.entry(&member.zone).or_default() += 1;
    }
    (1..=3).find(|&limit| active.values().map(|&nodes| nodes.min(limit)).sum::<i32>() >= 3).expect("three nodes")
}

/// A change to a cluster: two leaves, a join, a reweight.
fn change(number: usize, first: &Layout, newcomer: Member) -> Plan {
    let mut members = first.members.clone();
    let nodes = members.len();
    match number {
        0 => members.push(newcomer),
        1 => members[nodes / 2].state = MemberState::Leaving,
        2 => members[nodes - 1].state = MemberState::Leaving,
        _ => members[nodes / 3].weight *= 2,
    }
    planned(Some(first), members)
}

#[test]
fn moves_are_close_to_the_fewest_that_the_rules_allow() {
    let (mut all_moved, mut all_best) = (0, 0);
    for (weights, zones) in [
        (&[1][..], 9),
        (&[1], 5),
        (&[1, 2, 4], 5),
        (&[1], 4),
        (&[1, 2, 4], 4),
        (&[1, 3], 3),
        (&[1, 2], 2),
        (&[1, 2], 1),
    ] {
        for nodes in (4..=12).chain([16, 20]) {
            let first = planned(None, (0..nodes).map(|number| member(number, weights, zones)).collect()).layout;
            for number in 0..4 {
                let Plan { layout, summary } = change(number, &first, member(nodes, weights, zones));
                let moved = summary.moved;
                let best = fewest_moves(&first, &layout, moved);
                assert!(best >= summary.moved_lower_bound, "the lower bound is one");
                let what = format!("weights {weights:?}, {zones} zones, {nodes} nodes, change {number}");
                assert!(moved * 5 <= best * 6, "{what}: moved {moved}, the best plan moves {best}");
                all_moved += moved;
                all_best += best;
            }
        }
    }
    assert!(all_moved * 100 <= all_best * 101, "{all_moved} moved, the best plans move {all_best}");
}
