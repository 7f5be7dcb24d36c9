//! How fast real nodes notice that another one hangs, and that it is back (paper, section 4.8.3: "a purely local notion of failure"). A
//! frozen process is the hard case: its host still accepts connections and acknowledges packets.

use std::time::{Duration, Instant};

use quorate::{Client, Level, NodeIndex};
use quorate_tests::cluster::{Cluster, Options};

/// How long one test may take: a test that hangs must fail.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

/// How often a test looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a test machine that is busy with other things may add to every figure.
const BUSY: Duration = Duration::from_millis(1_500);

fn run<T>(scenario: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(TEST_TIMEOUT, scenario).await.expect("the test ends in time") })
}

async fn client(cluster: &Cluster) -> Client {
    Client::builder()
        .endpoints(&cluster.endpoints())
        .timeout(Duration::from_secs(10))
        .connect()
        .await
        .expect("the client connects")
}

/// What the members say of node `of`, as node `from` has heard.
async fn said(db: &Client, from: u16, of: u16) -> String {
    let status = db.status(NodeIndex(from)).await.expect("the node says how it is");
    status.peers.into_iter().find(|peer| peer.node == NodeIndex(of)).expect("it knows the other one").gossip
}

/// Waits until both other nodes have heard this of node 2, and says how long that took.
async fn wait_until_said(db: &Client, expected: &str) -> Duration {
    let began = Instant::now();
    for from in [0, 1] {
        loop {
            let gossip = said(db, from, 2).await;
            if gossip == expected {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "node {from} heard {gossip:?}, not {expected:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    began.elapsed()
}

async fn counted(db: &Client, node: u16, name: &str) -> u64 {
    let status = db.status(NodeIndex(node)).await.expect("the node says how it is");
    status.counters.iter().find(|counter| counter.name == name).expect("it is counted").value
}

#[test]
fn the_members_tell_each_other_of_a_death_and_of_the_return() {
    run(async {
        let options = Options { lines: "workers = 1".into(), ..Options::default() };
        let mut cluster = Cluster::start_with(&options);
        let db = client(&cluster).await;
        let met = wait_until_said(&db, "alive").await;
        let before = counted(&db, 0, "gossip_bytes_out").await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let bytes = counted(&db, 0, "gossip_bytes_out").await - before;
        assert!((1..20_000).contains(&bytes), "{bytes} bytes in ten idle seconds");
        cluster.kill(2);
        let dead = wait_until_said(&db, "down").await;
        cluster.restart(2);
        let back = wait_until_said(&db, "alive").await;
        println!("met after {met:?}, {} bytes/s when idle, dead after {dead:?}, back after {back:?}", bytes / 10);
        db.close().await;
    });
}

/// How node `of` looks from node `from`.
async fn seen(db: &Client, from: u16, of: u16) -> String {
    let status = db.status(NodeIndex(from)).await.expect("the node says how it is");
    status.peers.into_iter().find(|peer| peer.node == NodeIndex(of)).expect("it knows the other one").state
}

/// Waits until node `of` looks like one of `states` from node `from`, and says how long that took.
async fn wait_until_seen(db: &Client, from: u16, of: u16, states: &[&str], most: Duration) -> Duration {
    let began = Instant::now();
    loop {
        let state = seen(db, from, of).await;
        if states.contains(&state.as_str()) {
            return began.elapsed();
        }
        assert!(began.elapsed() < most, "after {most:?} node {of} is {state} for node {from}, not one of {states:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The slowest of a few writes that need two of three owners, one of which may hang. Which owner coordinates depends on the key, so each
/// node that lives has some.
async fn slowest_write(db: &Client, count: usize) -> Duration {
    let mut slowest = Duration::ZERO;
    for at in 0..count {
        let began = Instant::now();
        db.put(format!("key-{at}"), "z").level(Level::Quorum).await.expect("two of three owners answer");
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

#[test]
fn a_frozen_node_is_noticed_within_a_fraction_of_a_second_and_welcomed_as_fast() {
    run(async {
        let options = Options { lines: "workers = 1".into(), ..Options::default() };
        let cluster = Cluster::start_with(&options);
        let db = client(&cluster).await;
        for at in 0..100 {
            db.put(format!("key-{at}"), "x").level(Level::All).await.expect("all three nodes live");
        }
        cluster.pause(2);
        // Only a call makes a node look; it is not told by anyone.
        let slowest = slowest_write(&db, 60).await;
        let noticed = wait_until_seen(&db, 0, 2, &["suspect", "down"], BUSY).await;
        wait_until_seen(&db, 1, 2, &["suspect", "down"], BUSY).await;
        let after = slowest_write(&db, 100).await;
        println!(
            "frozen: slowest of the first writes {slowest:?}, then noticed after {noticed:?}, slowest write after that {after:?}"
        );
        assert!(slowest < BUSY, "{slowest:?}");
        assert!(after < slowest.max(Duration::from_millis(100)), "it still costs {after:?}");

        cluster.resume(2);
        let welcomed = wait_until_seen(&db, 0, 2, &["up"], Duration::from_secs(6)).await;
        wait_until_seen(&db, 1, 2, &["up"], Duration::from_secs(6)).await;
        println!("resumed: up again after {welcomed:?}");
        db.put("key-0", "y").level(Level::All).await.expect("all three nodes live again");
        db.close().await;
    });
}

#[test]
fn a_node_that_hangs_for_a_moment_keeps_its_connections() {
    run(async {
        let options = Options { lines: "workers = 1".into(), ..Options::default() };
        let cluster = Cluster::start_with(&options);
        let db = client(&cluster).await;
        db.put("key-0", "x").level(Level::All).await.expect("all three nodes live");
        let lost_before = cluster.log(0).matches("disconnected").count();
        for _ in 0..3 {
            cluster.pause(2);
            let pending = tokio::spawn(db.put("key-1", "y").level(Level::All).into_future());
            tokio::time::sleep(Duration::from_millis(600)).await;
            cluster.resume(2);
            // The acknowledgement of the node that hung is late and counts.
            pending.await.expect("no panic").expect("all three nodes live");
        }
        assert_eq!(cluster.log(0).matches("disconnected").count(), lost_before, "{}", cluster.log(0));
        db.close().await;
    });
}
