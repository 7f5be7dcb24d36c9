//! Figure 8 of the paper again: how evenly its three strategies spread load over 30 nodes with three copies of everything, for
//! as much as a node has to remember of the ring, and this planner's map beside them. Efficiency is the mean load of the nodes
//! over the largest. Load is the share of the key space; keys are hashed, so that is where data and requests go.

use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState},
    planner::{Desired, plan},
    settlement::Proven,
};

use super::chart::Line;

const NODES: usize = 30;
const COPIES: usize = 3;

/// Random placements that are averaged.
const TRIALS: u64 = 20;

/// Partitions of strategy 2 for each token: the paper asks for many more partitions than tokens.
const PARTITIONS_PER_TOKEN: usize = 4;

/// Bytes of a token (its place and its node) and of a partition's entry (its node, once for each copy).
const TOKEN_BYTES: usize = 10;
const SLOT_BYTES: usize = 2;

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn efficiency(loads: &[f64]) -> f64 {
    let largest = loads.iter().copied().fold(0.0, f64::max);
    loads.iter().sum::<f64>() / loads.len() as f64 / largest
}

/// Random tokens on the ring, in order.
fn tokens(each: usize, dice: &mut Dice) -> Vec<(u64, usize)> {
    let mut tokens: Vec<(u64, usize)> = (0..NODES * each).map(|number| (dice.roll(), number % NODES)).collect();
    tokens.sort_unstable();
    tokens
}

/// The first nodes found walking the ring from a token on.
fn walk(tokens: &[(u64, usize)], from: usize) -> Vec<usize> {
    let mut found = Vec::with_capacity(COPIES);
    for (_, node) in tokens.iter().cycle().skip(from).take(tokens.len()) {
        if !found.contains(node) {
            found.push(*node);
            if found.len() == COPIES {
                break;
            }
        }
    }
    found
}

/// Strategy 1: a node owns what lies before its random tokens.
fn random_ranges(each: usize, dice: &mut Dice) -> f64 {
    let tokens = tokens(each, dice);
    let mut loads = vec![0.0; NODES];
    for (at, (place, _)) in tokens.iter().enumerate() {
        let before = tokens[(at + tokens.len() - 1) % tokens.len()].0;
        let share = place.wrapping_sub(before) as f64;
        walk(&tokens, at).into_iter().for_each(|node| loads[node] += share);
    }
    efficiency(&loads)
}

/// Strategy 2: random tokens, and partitions of one size, each owned by the nodes whose tokens follow its end.
fn random_tokens(each: usize, dice: &mut Dice) -> f64 {
    let tokens = tokens(each, dice);
    let partitions = NODES * each * PARTITIONS_PER_TOKEN;
    let mut loads = vec![0.0; NODES];
    for partition in 0..partitions {
        let end = ((partition as u128 + 1) << 64) / partitions as u128 - 1;
        let from = tokens.partition_point(|(place, _)| u128::from(*place) < end);
        walk(&tokens, from % tokens.len()).into_iter().for_each(|node| loads[node] += 1.0);
    }
    efficiency(&loads)
}

/// Strategy 3: partitions of one size, as many tokens for each node, dealt at random.
fn dealt_partitions(each: usize, dice: &mut Dice) -> f64 {
    let mut deal: Vec<usize> = (0..NODES * each).map(|number| number % NODES).collect();
    for last in (1..deal.len()).rev() {
        deal.swap(last, dice.roll() as usize % (last + 1));
    }
    let tokens: Vec<(u64, usize)> = deal.into_iter().enumerate().map(|(at, node)| (at as u64, node)).collect();
    let mut loads = vec![0.0; NODES];
    (0..tokens.len()).for_each(|at| walk(&tokens, at).into_iter().for_each(|node| loads[node] += 1.0));
    efficiency(&loads)
}

/// This planner's map, counted from its slots.
fn planned(bits: u8) -> f64 {
    let member = |number: usize| Member {
        id: NodeId(number as u128 + 1),
        name: format!("n{number}"),
        zone: format!("z{}", number % 3),
        weight: 1,
        addresses: Vec::new(),
        state: MemberState::Active,
    };
    let desired = Desired {
        cluster: 1,
        members: (0..NODES).map(member).collect(),
        replacements: Default::default(),
        replicas: COPIES as u8,
        partition_bits: Some(bits),
        buckets: Default::default(),
        proven: Proven::Everything,
    };
    let layout: Layout = plan(None, &desired).expect("30 nodes keep every rule").layout;
    let mut loads = vec![0.0; NODES];
    layout.slots.iter().for_each(|slot| loads[usize::from(*slot)] += 1.0);
    efficiency(&loads)
}

/// Prints the table and returns the lines: bytes that a node remembers, and efficiency.
pub(crate) fn figure() -> Vec<Line> {
    let mean = |strategy: fn(usize, &mut Dice) -> f64, each: usize| {
        (0..TRIALS).map(|seed| strategy(each, &mut Dice(seed))).sum::<f64>() / TRIALS as f64
    };
    let line = |name: &str, points: Vec<(f64, f64)>| Line { name: name.to_owned(), points };
    let strategy = |name: &str, strategy: fn(usize, &mut Dice) -> f64, bytes: fn(usize) -> usize| {
        let points = [3, 10, 30, 100, 300].map(|each| (bytes(each) as f64, mean(strategy, each)));
        line(name, points.to_vec())
    };
    let lines = vec![
        strategy("strategy 1", random_ranges, |each| NODES * each * TOKEN_BYTES),
        strategy("strategy 2", random_tokens, |each| NODES * each * TOKEN_BYTES),
        strategy("strategy 3", dealt_partitions, |each| NODES * each * SLOT_BYTES),
        line(
            "this planner",
            [6, 8, 10, 12, 14].map(|bits| (((COPIES * SLOT_BYTES) << bits) as f64, planned(bits))).to_vec(),
        ),
    ];
    for line in &lines {
        let points: Vec<String> = line.points.iter().map(|(bytes, part)| format!("{bytes:>7.0} B {part:.3}")).collect();
        println!("{:<14} {}", line.name, points.join("  "));
    }
    lines
}
