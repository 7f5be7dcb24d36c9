//! What the planner and the map cost from 10 to 10,000 nodes of mixed weights in five zones of unlike size.

use std::time::Instant;

use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState, delta::Delta},
    planner::{Desired, Plan, plan},
    settlement::Proven,
};

/// Nodes out of a hundred by zone.
const ZONES: [usize; 5] = [40, 25, 15, 12, 8];

/// The figures of one size.
pub(crate) struct Row {
    pub(crate) nodes: usize,
    pub(crate) full_ms: f64,
    pub(crate) one_ms: f64,
    pub(crate) map_bytes: usize,
    pub(crate) one_bytes: usize,
    pub(crate) tenth_bytes: usize,
    pub(crate) memory_bytes: usize,
}

pub(crate) fn measure(nodes: usize) -> Row {
    let start = Instant::now();
    let first = planned(None, (0..nodes).map(member).collect());
    let full_ms = start.elapsed().as_secs_f64() * 1e3;
    let more = |count: usize| {
        let mut members = first.layout.members.clone();
        members.extend((nodes..nodes + count).map(member));
        planned(Some(&first.layout), members)
    };
    let start = Instant::now();
    let one = more(1);
    let one_ms = start.elapsed().as_secs_f64() * 1e3;
    let tenth = more(nodes / 10);
    // Where the number of partitions doubles there is no difference to tell, and the whole map travels.
    let told =
        |next: &Layout| Delta::between(&first.layout, next).map_or_else(|| next.encode().len(), |delta| delta.bytes());
    let row = Row {
        nodes,
        full_ms,
        one_ms,
        map_bytes: first.layout.encode().len(),
        one_bytes: told(&one.layout),
        tenth_bytes: told(&tenth.layout),
        memory_bytes: memory_bytes(&first.layout),
    };
    println!(
        "{:>6} 2^{:<2} {:>9.3} {:>9.1} {:>9.1} {:>10} {:>9} {:>9} {:>10} {:>7.4} {:>7.2} {:>7.2}",
        nodes,
        first.layout.partition_bits,
        first.summary.balance.max,
        row.full_ms,
        row.one_ms,
        row.map_bytes,
        row.one_bytes,
        row.tenth_bytes,
        row.memory_bytes,
        100.0 * one.summary.moved as f64 / one.summary.slots as f64,
        one.summary.moved as f64 / one.summary.moved_lower_bound.max(1) as f64,
        tenth.summary.moved as f64 / tenth.summary.moved_lower_bound.max(1) as f64,
    );
    row
}

pub(crate) fn head() {
    println!(
        "{:>6} {:<4} {:>9} {:>9} {:>9} {:>10} {:>9} {:>9} {:>10} {:>7} {:>7} {:>7}",
        "nodes",
        "Q",
        "max load",
        "plan ms",
        "+1 ms",
        "map B",
        "+1 B",
        "+10% B",
        "client B",
        "+1 %",
        "+1 xLB",
        "+10%xLB"
    );
}

/// What a client keeps: slots, members, their texts, and the runs of spans.
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
    // The stride has no divisor in common with a hundred, so every run of nodes has every zone.
    let percent = number * 47 % 100;
    let sums = ZONES.iter().scan(0, |sum, zone| {
        *sum += zone;
        Some(*sum)
    });
    Member {
        id: NodeId(number as u128 + 1),
        name: format!("node-{number}"),
        zone: format!("zone-{}", sums.take_while(|&sum| sum <= percent).count()),
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
