//! Figure 8 of the paper again: how evenly its three strategies spread load over 30 nodes with three copies of everything, for
//! as much as a node has to remember of the ring, and this planner's map beside them. Efficiency is the mean load of the nodes
//! over the largest. Load is requests: keys are hashed to their places as the server hashes them, and some are asked for far more often
//! than others.

use bytes::Bytes;
use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState},
    operation::Address,
    planner::{Desired, plan},
    settlement::Proven,
};

use crate::{chart::Line, dice::Dice};

const NODES: usize = 30;
const COPIES: usize = 3;

/// Random placements that are averaged.
const TRIALS: u64 = 20;

/// Partitions of strategy 2 for each token: the paper asks for many more partitions than tokens.
const PARTITIONS_PER_TOKEN: usize = 4;

/// Bytes of a token (its place and its node) and of a partition's entry (its node, once for each copy).
const TOKEN_BYTES: usize = 10;
const SLOT_BYTES: usize = 2;

/// Keys that are asked for.
const KEYS: usize = 500_000;

/// Draws of which keys are popular, over which is averaged.
const DRAWS: u64 = 5;

/// How popular keys are: by a Pareto distribution of this shape, as by Zipf's law with exponent 2/3. The most popular of the keys takes
/// about one request in two hundred, two thousand times its share. With a single key much hotter than that, its owners would be the hottest
/// nodes by whatever strategy; that there are enough keys at the popular end is what the paper assumes (section 6.2).
const PARETO_SHAPE: f64 = 1.5;

/// How requests are spread over places on the ring.
#[derive(Clone, Debug)]
pub enum Requests {
    /// Evenly: as many keys as one likes, all of them as popular.
    Even,
    /// By the popularity of keys: their places in order, and the sum of popularity up to each.
    Skewed(Vec<(u64, f64)>),
}

impl Requests {
    /// Requests for keys of which some are far more popular than others, in several draws of which these are.
    pub fn skewed() -> Vec<Self> {
        (0..DRAWS).map(Self::draw).collect()
    }

    /// Requests for all keys alike.
    pub fn even() -> Vec<Self> {
        vec![Self::Even]
    }

    fn draw(seed: u64) -> Self {
        let (bucket, mut dice) = (Bytes::from_static(b"default"), Dice(seed));
        let mut keys: Vec<(u64, f64)> = (0..KEYS)
            .map(|key| {
                let address = Address::new(bucket.clone(), Bytes::from(format!("key-{key}")));
                let place = address.store_key.0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
                (place, dice.part().powf(-1.0 / PARETO_SHAPE))
            })
            .collect();
        keys.sort_unstable_by_key(|(place, _)| *place);
        let mut sum = 0.0;
        for (_, popularity) in &mut keys {
            sum += *popularity;
            *popularity = sum;
        }
        Self::Skewed(keys)
    }

    /// The load of the places after one and up to another, around the end of the ring if need be.
    fn between(&self, after: u64, last: u64) -> f64 {
        match self {
            Self::Even => last.wrapping_sub(after) as f64,
            Self::Skewed(keys) => {
                let up_to = |place: u64| {
                    let count = keys.partition_point(|(key, _)| *key <= place);
                    count.checked_sub(1).map_or(0.0, |at| keys[at].1)
                };
                let all = if after >= last { up_to(u64::MAX) } else { 0.0 };
                all + up_to(last) - up_to(after)
            }
        }
    }

    /// The load of one of so many partitions of one size.
    fn partition(&self, partition: usize, partitions: usize) -> f64 {
        self.between(last_place(partition + partitions - 1, partitions), last_place(partition, partitions))
    }
}

/// The last place of one of so many partitions of one size; they go around.
fn last_place(partition: usize, partitions: usize) -> u64 {
    let end = ((partition % partitions) as u128 + 1) << 64;
    (end / partitions as u128 - 1) as u64
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
fn random_ranges(each: usize, requests: &Requests, dice: &mut Dice) -> f64 {
    let tokens = tokens(each, dice);
    let mut loads = vec![0.0; NODES];
    for (at, (place, _)) in tokens.iter().enumerate() {
        let before = tokens[(at + tokens.len() - 1) % tokens.len()].0;
        let share = requests.between(before, *place);
        walk(&tokens, at).into_iter().for_each(|node| loads[node] += share);
    }
    efficiency(&loads)
}

/// Strategy 2: random tokens, and partitions of one size, each owned by the nodes whose tokens follow its end.
fn random_tokens(each: usize, requests: &Requests, dice: &mut Dice) -> f64 {
    let tokens = tokens(each, dice);
    let partitions = NODES * each * PARTITIONS_PER_TOKEN;
    let mut loads = vec![0.0; NODES];
    for partition in 0..partitions {
        let end = last_place(partition, partitions);
        let from = tokens.partition_point(|(place, _)| *place < end);
        let load = requests.partition(partition, partitions);
        walk(&tokens, from % tokens.len()).into_iter().for_each(|node| loads[node] += load);
    }
    efficiency(&loads)
}

/// Strategy 3: partitions of one size, as many tokens for each node, dealt at random.
fn dealt_partitions(each: usize, requests: &Requests, dice: &mut Dice) -> f64 {
    let mut deal: Vec<usize> = (0..NODES * each).map(|number| number % NODES).collect();
    for last in (1..deal.len()).rev() {
        deal.swap(last, dice.roll() as usize % (last + 1));
    }
    let tokens: Vec<(u64, usize)> = deal.into_iter().enumerate().map(|(at, node)| (at as u64, node)).collect();
    let mut loads = vec![0.0; NODES];
    for at in 0..tokens.len() {
        let load = requests.partition(at, tokens.len());
        walk(&tokens, at).into_iter().for_each(|node| loads[node] += load);
    }
    efficiency(&loads)
}

/// This planner's map, counted from its slots.
fn planned(bits: u8, requests: &Requests) -> f64 {
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
    for (partition, owners) in layout.slots.chunks(COPIES).enumerate() {
        let load = requests.partition(partition, 1 << bits);
        owners.iter().for_each(|owner| loads[usize::from(*owner)] += load);
    }
    efficiency(&loads)
}

/// The lines of the figure: bytes that a node remembers, and efficiency, averaged over the draws of requests.
pub fn figure(draws: &[Requests]) -> Vec<Line> {
    let mean = |strategy: Strategy, each: usize| {
        let trials = draws.iter().cycle().zip(0..TRIALS);
        trials.map(|(requests, seed)| strategy(each, requests, &mut Dice(seed))).sum::<f64>() / TRIALS as f64
    };
    let planned = |bits: u8| draws.iter().map(|requests| planned(bits, requests)).sum::<f64>() / draws.len() as f64;
    let line = |name: &str, points: Vec<(f64, f64)>| Line { name: name.to_owned(), points };
    let strategy = |name: &str, strategy: Strategy, bytes: fn(usize) -> usize| {
        let points = [3, 10, 30, 100, 300].map(|each| (bytes(each) as f64, mean(strategy, each)));
        line(name, points.to_vec())
    };
    let map_bytes = |bits: u8| ((COPIES * SLOT_BYTES) << bits) as f64;
    vec![
        strategy("strategy 1", random_ranges, |each| NODES * each * TOKEN_BYTES),
        strategy("strategy 2", random_tokens, |each| NODES * each * TOKEN_BYTES),
        strategy("strategy 3", dealt_partitions, |each| NODES * each * SLOT_BYTES),
        line("this planner", [6, 8, 10, 12, 14].map(|bits| (map_bytes(bits), planned(bits))).to_vec()),
    ]
}

/// Efficiency of a strategy with so many tokens for each node.
type Strategy = fn(usize, &Requests, &mut Dice) -> f64;

/// A line of the table.
pub fn row(line: &Line) -> String {
    let points: Vec<String> = line.points.iter().map(|(bytes, part)| format!("{bytes:>7.0} B {part:.3}")).collect();
    format!("{:<14} {}", line.name, points.join("  "))
}
