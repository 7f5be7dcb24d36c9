//! What background repair costs and how fast it is, measured on three real nodes in this process:
//! `cargo run --release -p quorate-server --example repair_costs -- 1000000 1` (keys, and the percentage of them that one node
//! misses). It prints what an exchange costs when nothing differs, how long it takes until the node that was away holds the
//! same bytes as the others, what a difference costs, and what clients have left of their throughput meanwhile.
#![allow(missing_docs)]

#[path = "../tests/support/cluster.rs"]
#[allow(dead_code, unreachable_pub)]
mod cluster;

use std::{
    env,
    time::{Duration, Instant},
};

use cluster::{Client, Cluster, at, get, is_stored, put};
use dynamo::{
    layout::Level,
    operation::{Basis, Operation},
};
use schema::convert::RepairRun;

/// Operations of one call.
const BATCH: usize = 256;

/// Bytes of a value.
const VALUE_BYTES: usize = 100;

/// How long clients are measured, each time.
const MEASURE: Duration = Duration::from_secs(5);

/// Calls in flight of the measured client.
const CALLS: usize = 8;

fn main() {
    let mut arguments = env::args().skip(1).map(|argument| argument.parse::<usize>().expect("write whole numbers"));
    let keys = arguments.next().unwrap_or(20_000);
    let percent = arguments.next().unwrap_or(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    let mut cluster = Cluster::start(3);
    runtime.block_on(async {
        let clients = clients(&cluster).await;
        let began = Instant::now();
        store(&clients[0], Level::All, 0..keys, "first").await;
        println!("{keys} keys stored at all of three nodes in {:.1} s", began.elapsed().as_secs_f64());
        idle(&clients).await;
        throughput(&clients, keys).await;
    });
    cluster.end_node(2);
    let missed = keys * percent / 100;
    runtime.block_on(async {
        let client = cluster.client(0).await;
        while !client.status().await.peers.iter().any(|peer| peer.state == "down") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Spread over all of them.
        for part in (0..missed).collect::<Vec<_>>().chunks(BATCH) {
            let puts: Vec<Operation> = part.iter().map(|at| write(at * 100 / percent.max(1), "second")).collect();
            assert!(client.execute(&puts).await.iter().all(is_stored));
        }
    });
    cluster.start_node(2);
    let began = Instant::now();
    runtime.block_on(async {
        let clients = clients(&cluster).await;
        let before = traffic(&clients).await;
        for part in (0..missed).collect::<Vec<_>>().chunks(BATCH) {
            for at in part {
                let name = name(at * 100 / percent.max(1));
                while clients[2].held(&name).await != clients[0].held(&name).await {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        println!(
            "{missed} of {keys} keys missed: level {:.1} s after the node came back",
            began.elapsed().as_secs_f64()
        );
        exchange_everything(&clients).await;
        let after = traffic(&clients).await;
        let each = |now: u64, then: u64| (now - then) as f64 / missed.max(1) as f64;
        println!(
            "each difference cost {:.0} bytes of trees and {:.0} of objects, looked at from both sides",
            each(after.0, before.0),
            each(after.1, before.1)
        );
    });
}

fn name(key: usize) -> String {
    format!("key {key:08}")
}

fn write(key: usize, word: &str) -> Operation {
    let value = format!("{word} {key} {}", "x".repeat(VALUE_BYTES));
    at(Level::Quorum, put(&name(key), &value.as_bytes()[..VALUE_BYTES], Basis::Local))
}

async fn clients(cluster: &Cluster) -> Vec<Client> {
    let mut clients = Vec::new();
    for node in 0..cluster.addresses.len() {
        cluster.settle(node).await;
        clients.push(cluster.client(node).await);
    }
    clients
}

async fn store(client: &Client, level: Level, keys: std::ops::Range<usize>, word: &str) {
    for part in keys.collect::<Vec<_>>().chunks(4 * BATCH) {
        let calls = part.chunks(BATCH).map(|keys| async {
            let puts: Vec<Operation> = keys.iter().map(|key| at(level, write(*key, word))).collect();
            assert!(client.execute(&puts).await.iter().all(is_stored));
        });
        futures_util::future::join_all(calls).await;
    }
}

/// Compares everything with everyone, and waits until that is done.
async fn exchange_everything(clients: &[Client]) {
    for client in clients {
        client.repair(RepairRun { exchange: true, ..RepairRun::default() }).await;
    }
    for client in clients {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let tasks = client.repairs().await.tasks;
            if tasks.iter().any(|task| task.name == "exchange" && task.state == "idle" && task.done == task.total) {
                break;
            }
        }
    }
}

/// Bytes of trees and of objects that all stewards have carried.
async fn traffic(clients: &[Client]) -> (u64, u64) {
    let mut sums = (0, 0);
    for client in clients {
        sums.0 += client.counter("background_tree_bytes").await;
        sums.1 += client.counter("background_object_bytes").await;
    }
    sums
}

/// What it costs to find out that nothing differs.
async fn idle(clients: &[Client]) {
    exchange_everything(clients).await;
    let before = traffic(clients).await;
    let began = Instant::now();
    exchange_everything(clients).await;
    let took = began.elapsed();
    let after = traffic(clients).await;
    let mut exchanges = 0;
    for client in clients {
        exchanges +=
            client.repairs().await.tasks.iter().find(|task| task.name == "exchange").map_or(0, |task| task.total);
    }
    println!(
        "nothing differs: {exchanges} exchanges took {:.2} s and {:.0} bytes each of trees, {} of objects altogether",
        took.as_secs_f64(),
        (after.0 - before.0) as f64 / exchanges as f64,
        after.1 - before.1
    );
}

/// What clients have of their throughput while everything is compared over and over.
async fn throughput(clients: &[Client], keys: usize) {
    let alone = measure(clients, keys).await;
    let comparing = async {
        loop {
            exchange_everything(clients).await;
        }
    };
    let meanwhile = tokio::select! {
        meanwhile = measure(clients, keys) => meanwhile,
        () = comparing => 0.0,
    };
    exchange_everything(clients).await;
    println!(
        "clients: {alone:.0} operations a second alone, {meanwhile:.0} while all partitions are compared over and over \
         ({:.1} %)",
        100.0 * meanwhile / alone
    );
}

/// Operations a second: as many puts as gets, at level quorum.
async fn measure(clients: &[Client], keys: usize) -> f64 {
    let began = Instant::now();
    let loops = (0..CALLS).map(|number| async move {
        let (mut done, mut key) = (0, number * 7_919);
        while began.elapsed() < MEASURE {
            let operations: Vec<Operation> = (0..64)
                .map(|at| {
                    key = (key + 104_729) % keys.max(1);
                    if at % 2 == 0 { write(key, "load") } else { get(&name(key)) }
                })
                .collect();
            done += clients[number % clients.len()].execute(&operations).await.len();
        }
        done
    });
    let done: usize = futures_util::future::join_all(loops).await.into_iter().sum();
    done as f64 / began.elapsed().as_secs_f64()
}
