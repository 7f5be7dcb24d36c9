//! Prints how even the planner's maps are, how little they move, and how long planning takes: the table of the design's
//! ring page, measured again. `cargo run --release -p quorate-dynamo --example planner_figures`

use std::{collections::BTreeMap, time::Instant};

use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState},
    planner::{Desired, Plan, plan},
    settlement::Proven,
};

/// One row of the table: how many nodes, their weights in turn, and how many of every hundred nodes stand in each zone.
struct Row {
    nodes: u16,
    weights: &'static [u32],
    zones: &'static [u16],
}

const EQUAL: &[u32] = &[1];
const MIXED: &[u32] = &[1, 2, 4];
const EVEN: &[u16] = &[20, 20, 20, 20, 20];
const UNEVEN: &[u16] = &[40, 25, 15, 12, 8];

fn main() {
    println!("N = 3; loads as multiples of a node's share; moved as a multiple of the lower bound; times in ms");
    println!(
        "{:>6} {:>8} {:>14} {:>4} {:>9} {:>6} {:>6} {:>10} {:>16} {:>16} {:>16} {:>8} {:>8}",
        "nodes",
        "weights",
        "zones %",
        "Q",
        "per node",
        "max",
        "min",
        "coord max",
        "+1 moved",
        "-1 moved",
        "+10% moved",
        "plan ms",
        "+1 ms"
    );
    for nodes in [3, 4, 5, 7, 10, 30, 100, 300, 1000, 3000, 10_000, 50_000] {
        for (weights, zones) in [(EQUAL, EVEN), (MIXED, EVEN), (EQUAL, UNEVEN), (MIXED, UNEVEN)] {
            print_row(&Row { nodes, weights, zones });
        }
    }
    print_drift();
}

fn print_row(row: &Row) {
    let start = Instant::now();
    let first = planned(None, (0..row.nodes).map(|number| member(row, number)).collect());
    let plan_ms = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    let grown = after(&first.layout, |members| members.push(member(row, row.nodes)));
    let join_ms = start.elapsed().as_secs_f64() * 1e3;
    let shrunk = after(&first.layout, |members| members[usize::from(row.nodes / 2)].state = MemberState::Leaving);
    let tenth = after(&first.layout, |members| {
        members.extend((0..row.nodes / 10).map(|number| member(row, row.nodes + number)));
    });
    let coordinators = first.summary.nodes.iter().map(|node| {
        f64::from(node.coordinated) * first.summary.slots as f64
            / (f64::from(node.partitions) * f64::from(first.layout.partitions()))
    });
    println!(
        "{:>6} {:>8} {:>14} 2^{:<2} {:>9.0} {:>6.3} {:>6.3} {:>10.3} {:>16} {:>16} {:>16} {:>8.1} {:>8.1}",
        row.nodes,
        row.weights.iter().map(u32::to_string).collect::<Vec<_>>().join("/"),
        row.zones.iter().map(u16::to_string).collect::<Vec<_>>().join("/"),
        first.layout.partition_bits,
        first.summary.slots as f64 / f64::from(row.nodes),
        first.summary.balance.max,
        first.summary.balance.min,
        coordinators.fold(0.0, f64::max),
        moved(&grown),
        moved(&shrunk),
        moved(&tenth),
        plan_ms,
        join_ms,
    );
}

/// Share of the slots that moved, times the lower bound, and the balance afterwards.
fn moved(plan: &Plan) -> String {
    let summary = &plan.summary;
    format!(
        "{:.2}% x{:.2} {:.3}",
        100.0 * summary.moved as f64 / summary.slots as f64,
        summary.moved as f64 / summary.moved_lower_bound.max(1) as f64,
        summary.balance.max
    )
}

/// 600 changes one after the other: does the map grow worse with age?
fn print_drift() {
    let row = Row { nodes: 9, weights: MIXED, zones: UNEVEN };
    let mut layout = planned(None, (0..9).map(|number| member(&row, number)).collect()).layout;
    let (mut moved, mut bound, mut worst, mut worst_ratio) = (0, 0, 0.0_f64, 0.0_f64);
    let mut dice = 1_u64;
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
                0..=2 if active.len() > 9 => members[chosen].state = MemberState::Leaving,
                3..=4 => members[chosen].weight = [1, 2, 4][roll(3)],
                _ => members.push(member(&row, number)),
            }
        });
        moved += plan.summary.moved;
        bound += plan.summary.moved_lower_bound;
        worst = worst.max(plan.summary.balance.max);
        worst_ratio = worst_ratio.max(plan.summary.moved as f64 / plan.summary.moved_lower_bound.max(1) as f64);
        layout = plan.layout;
    }
    println!(
        "600 joins, leaves, reweights, 9 -> {} nodes, 2^{} partitions: moved / bound = {:.3} (worst single change {worst_ratio:.3}), worst max load {worst:.4}",
        layout.members.len(),
        layout.partition_bits,
        moved as f64 / bound as f64,
    );
}

fn member(row: &Row, number: u16) -> Member {
    // Spread over a hundred by a stride without a common divisor, so that every run of nodes has every zone.
    let percent = number % 100 * 47 % 100;
    let zone = row.zones.iter().scan(0, |sum, &zone| {
        *sum += zone;
        Some(*sum)
    });
    Member {
        id: NodeId(u128::from(number) + 1),
        name: format!("n{number}"),
        zone: format!("z{}", zone.take_while(|&sum| sum <= percent).count()),
        weight: row.weights[usize::from(number) / 3 % row.weights.len()],
        addresses: Vec::new(),
        state: MemberState::Active,
    }
}

fn after(old: &Layout, change: impl FnOnce(&mut Vec<Member>)) -> Plan {
    let mut members = old.members.clone();
    change(&mut members);
    planned(Some(old), members)
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
