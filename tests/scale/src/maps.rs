//! What the planner and the map cost from 10 to 10,000 nodes of mixed weights in five zones of unlike size.

use std::time::Instant;

use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState, delta::Delta, spans::CONFIGURATIONS_MAX},
    planner::{Desired, Plan, plan},
    settlement::Proven,
};

use crate::zone;

/// Layouts of a ring in which as many configurations of a partition are active as may be.
const LAYOUTS: usize = CONFIGURATIONS_MAX;

/// The figures of one size.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Nodes.
    pub nodes: usize,
    /// 2 to the power of this are the partitions.
    pub partition_bits: u8,
    /// Load of the fullest node by its weight; 1 is ideal.
    pub fullest: f64,
    /// Time of the first plan, the best of three.
    pub full_ms: f64,
    /// Time of the plan for one more node, the best of three.
    pub one_ms: f64,
    /// The canonical bytes of the layout.
    pub map_bytes: usize,
    /// What travels to somebody who has the layout before, for one more node.
    pub one_bytes: usize,
    /// The same for a tenth more nodes.
    pub tenth_bytes: usize,
    /// What a client keeps in memory.
    pub client_bytes: usize,
    /// What a node keeps while as many configurations are active as may be.
    pub node_bytes: usize,
    /// The part of all copies that move to one more node.
    pub one_moves: f64,
    /// Moved copies over the least that any plan of the same loads would move, for one more node.
    pub one_excess: f64,
    /// The same for a tenth more nodes.
    pub tenth_excess: f64,
}

/// Plans for so many nodes.
pub fn measure(nodes: usize) -> Row {
    let (first, full_ms) = best_of_three(|| planned(None, (0..nodes).map(member).collect()));
    let more = |before: &Layout, count: usize| {
        let mut members = before.members.clone();
        members.extend((members.len()..members.len() + count).map(member));
        planned(Some(before), members)
    };
    let (one, one_ms) = best_of_three(|| more(&first.layout, 1));
    let tenth = more(&first.layout, nodes / 10);
    // Where the number of partitions doubles there is no difference to tell, and the whole map travels.
    let told =
        |next: &Layout| Delta::between(&first.layout, next).map_or_else(|| next.encode().len(), |delta| delta.bytes());
    let excess = |plan: &Plan| plan.summary.moved as f64 / plan.summary.moved_lower_bound.max(1) as f64;
    let mut layouts = vec![first.layout.clone(), one.layout.clone()];
    while layouts.len() < LAYOUTS {
        let next = more(&layouts[layouts.len() - 1], 1).layout;
        layouts.push(next);
    }
    Row {
        nodes,
        partition_bits: first.layout.partition_bits,
        fullest: first.summary.balance.max,
        full_ms,
        one_ms,
        map_bytes: first.layout.encode().len(),
        one_bytes: told(&one.layout),
        tenth_bytes: told(&tenth.layout),
        client_bytes: memory_bytes(&first.layout),
        node_bytes: layouts.iter().map(memory_bytes).sum(),
        one_moves: one.summary.moved as f64 / one.summary.slots as f64,
        one_excess: excess(&one),
        tenth_excess: excess(&tenth),
    }
}

/// The head of the table.
pub fn head() -> String {
    let [nodes, partitions, fullest, full, one, map] = ["nodes", "Q", "max load", "plan ms", "+1 ms", "map B"];
    let [one_bytes, tenth, client, node] = ["+1 B", "+10% B", "client B", "node B"];
    let [moves, one_excess, tenth_excess] = ["+1 %", "+1 xLB", "+10%xLB"];
    format!(
        "{nodes:>6} {partitions:<4} {fullest:>9} {full:>9} {one:>9} {map:>10} {one_bytes:>9} {tenth:>9} {client:>10} {node:>10} {moves:>7} {one_excess:>7} {tenth_excess:>7}"
    )
}

impl Row {
    /// Its line in the table.
    pub fn line(&self) -> String {
        format!(
            "{:>6} 2^{:<2} {:>9.3} {:>9.1} {:>9.1} {:>10} {:>9} {:>9} {:>10} {:>10} {:>7.4} {:>7.2} {:>7.2}",
            self.nodes,
            self.partition_bits,
            self.fullest,
            self.full_ms,
            self.one_ms,
            self.map_bytes,
            self.one_bytes,
            self.tenth_bytes,
            self.client_bytes,
            self.node_bytes,
            100.0 * self.one_moves,
            self.one_excess,
            self.tenth_excess,
        )
    }
}

/// A result, and the shortest time in milliseconds in which it was reached: whatever else runs on the machine can only take longer.
fn best_of_three<T>(work: impl Fn() -> T) -> (T, f64) {
    let timed = || {
        let start = Instant::now();
        let result = work();
        (result, start.elapsed().as_secs_f64() * 1e3)
    };
    let (result, first) = timed();
    (result, first.min(timed().1).min(timed().1))
}

/// What a layout takes in memory: slots, members, their texts, and the runs of spans.
fn memory_bytes(layout: &Layout) -> usize {
    let texts = |member: &Member| {
        let addresses: usize = member.addresses.iter().map(|address| size_of::<String>() + address.len()).sum();
        size_of::<Member>() + member.name.len() + member.zone.len() + addresses
    };
    size_of::<Layout>()
        + size_of_val(layout.slots.as_slice())
        + layout.members.iter().map(texts).sum::<usize>()
        + size_of_val(layout.spans.runs())
}

fn member(number: usize) -> Member {
    Member {
        id: NodeId(number as u128 + 1),
        name: format!("node-{number}"),
        zone: format!("zone-{}", zone(number)),
        weight: [1, 2, 4][number / 3 % 3],
        addresses: vec![format!("10.{}.{}.{}:7000", number >> 16, number >> 8 & 255, number & 255)],
        state: MemberState::Active,
    }
}

fn planned(old: Option<&Layout>, members: Vec<Member>) -> Plan {
    let desired = Desired {
        cluster: 1,
        members,
        replacements: Default::default(),
        replicas: 3,
        partition_bits: None,
        buckets: Default::default(),
        proven: Proven::Everything,
    };
    plan(old, &desired).expect("the nodes keep every rule")
}
