//! What a change of the ring costs a node's store: how long the writers of its shards are busy with bringing its rows in line with the new
//! layout, for so long all writes wait. The change is one more node; looked at are a node that nothing of it concerns, and one that loses
//! partitions to the newcomer, and the newcomer itself.
//!
//! `cargo run --release -p quorate-server --example adoption_costs -- [DIRECTORY]`: the directory must be on the disk that is to be
//! measured and is used up; the default is a temporary one.

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use dynamo::{
    ident::NodeId,
    layout::{BucketProperties, Layout, Member, MemberState, NodeIndex},
    planner::{Desired, plan},
    ring::Ring,
    settlement::Proven,
};
use server::store::{Store, StoreConfig};

/// Nodes and bits of the number of partitions.
const SIZES: [(u16, u8); 4] = [(10, 16), (100, 16), (1_000, 16), (10_000, 18)];

/// Layouts that a node knows: the fewest, and those that it keeps for others that were away.
const KNOWN: [usize; 2] = [2, 33];

/// Of so many runs the middle one counts.
const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let directory = env::args_os().nth(1).map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    println!(
        "{:>6} {:>10} {:>8} {:>22} {:>22} {:>22}",
        "nodes", "partitions", "layouts", "bystander", "giver", "newcomer"
    );
    for (nodes, bits) in SIZES {
        for known in KNOWN {
            let (before, after) = rings(nodes, bits, known);
            let (old, new) = (before.newest(), after.newest());
            let loses = |me: &NodeIndex| (0..old.partitions()).any(|at| owns(old, at, *me) && !owns(new, at, *me));
            let keeps = |me: &NodeIndex| !loses(me);
            let everybody = || (0..nodes).map(NodeIndex);
            let mut line = format!("{nodes:>6} {:>10} {known:>8}", old.partitions());
            let who = [everybody().find(keeps), everybody().find(loses), Some(NodeIndex(nodes))];
            for (number, me) in who.into_iter().enumerate() {
                let Some(me) = me else {
                    line.push_str(&format!(" {:>22}", "nobody"));
                    continue;
                };
                let mut times = Vec::new();
                for run in 0..RUNS {
                    let path = directory.join(format!("{nodes}-{known}-{number}-{run}"));
                    times.push(adopted(&path, &before, &after, me)?);
                }
                times.sort_unstable();
                let rows = (0..new.partitions()).filter(|at| owns(new, *at, me)).count();
                let time = format!("{:.2} ms", times[RUNS / 2].as_secs_f64() * 1e3);
                line.push_str(&format!(" {:>22}", format!("{rows} rows: {time}")));
            }
            println!("{line}");
        }
    }
    Ok(())
}

/// How long a store that has followed one ring needs to follow the next.
fn adopted(path: &Path, before: &Ring, after: &Ring, me: NodeIndex) -> Result<Duration, Box<dyn Error>> {
    let founding = Some(Vec::new());
    let config =
        StoreConfig { founding, shards: Some(2), is_filesystem_forced: true, ..StoreConfig::new(path, 1, NodeId(1)) };
    let store = Store::open(&config)?;
    store.adopt(before, me).map_err(|failure| failure.message)?;
    let began = Instant::now();
    store.adopt(after, me).map_err(|failure| failure.message)?;
    let took = began.elapsed();
    drop(store);
    std::fs::remove_dir_all(path)?;
    Ok(took)
}

fn owns(layout: &Layout, partition: u32, node: NodeIndex) -> bool {
    layout.owners(partition).any(|owner| owner == node)
}

/// A ring of so many nodes, and the same after one has come; the latter has so many layouts. Those before only made buckets known.
fn rings(nodes: u16, bits: u8, known: usize) -> (Ring, Ring) {
    let first = planned(None, nodes, bits);
    let mut before = Ring::new(Arc::new(first));
    for number in 2..known {
        let newest = before.newest();
        let mut buckets = newest.buckets.clone();
        buckets.insert(format!("bucket-{number}"), BucketProperties::default());
        let (epoch, parent_hash) = (newest.epoch + 1, newest.hash());
        let next = Layout { epoch, parent_hash, buckets, ..Layout::clone(newest) };
        before.push(Arc::new(next)).expect("it follows");
    }
    let mut after = before.clone();
    after.push(Arc::new(planned(Some(before.newest()), nodes + 1, bits))).expect("it follows");
    (before, after)
}

fn planned(old: Option<&Layout>, nodes: u16, bits: u8) -> Layout {
    let desired = Desired {
        cluster: 1,
        members: (0..nodes).map(member).collect(),
        replicas: 3,
        partition_bits: Some(bits),
        buckets: old.map(|old| old.buckets.clone()).unwrap_or_default(),
        replacements: Default::default(),
        proven: Proven::Everything,
    };
    plan(old, &desired).expect("all of them are active").layout
}

fn member(number: u16) -> Member {
    Member {
        id: NodeId(u128::from(number) + 1),
        name: format!("node-{number}"),
        zone: format!("zone-{}", number % 5),
        weight: 1,
        addresses: vec![format!("10.0.{}.{}:7000", number >> 8, number & 255)],
        state: MemberState::Active,
    }
}
