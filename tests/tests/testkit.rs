//! `quorate::testing` as an application's test uses it: a real cluster is killed, restarted, frozen, separated and healed, and
//! the client sees what it would see in production.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use quorate::{
    Client, Error, Level,
    testing::{LocalCluster, LocalClusterError, NodeState, binary},
};

/// How long an operation on the wrong side of a partition tries: long enough for a first attempt to fail.
const TIMEOUT: Duration = Duration::from_millis(800);

/// How long a cluster may take to be whole again, on a machine that may be busy.
const HEAL_PATIENCE: Duration = Duration::from_secs(30);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

async fn put(db: &Client, level: Level) -> Result<(), Error> {
    db.put("key", "value").level(level).timeout(TIMEOUT).await.map(drop)
}

/// Puts until it succeeds: what has come back is noticed by and by.
async fn put_until_it_succeeds(db: &Client, level: Level) {
    let began = Instant::now();
    while let Err(error) = put(db, level).await {
        assert!(began.elapsed() < HEAL_PATIENCE, "still not whole: {error}");
    }
}

#[test]
fn a_killed_node_is_missed_at_all_and_not_at_quorum_and_comes_back_with_its_data() {
    let cluster = LocalCluster::start(3).expect("a cluster");
    block_on(async {
        let db = cluster.client().await.expect("a client");
        put(&db, Level::All).await.expect("everybody is there");
        cluster.kill(&[1]).expect("it is killed");
        assert!(matches!(&cluster.status().unwrap().nodes[1].state, NodeState::Ended(how) if how.contains("SIGKILL")));
        put(&db, Level::Quorum).await.expect("a majority is there");
        let missed = put(&db, Level::All).await.expect_err("one owner is missing");
        assert!(matches!(missed, Error::Unavailable(_) | Error::QuorumTimeout(_) | Error::Timeout(_)), "{missed:?}");
        cluster.restart(&[1]).expect("it starts again");
        put_until_it_succeeds(&db, Level::All).await;
        assert!(cluster.log(1).unwrap().matches("serving").count() >= 2);
    });
}

#[test]
fn the_ring_grows_shrinks_and_replaces_a_lost_node_while_a_client_sees_nothing_of_it() {
    let mut cluster = LocalCluster::start(3).expect("a cluster");
    block_on(async {
        let db = cluster.client().await.expect("a client");
        for at in 0..50 {
            db.put(format!("key {at}"), "value").level(Level::Quorum).await.expect("a majority is there");
        }
        assert_eq!(cluster.add_node(), Ok(3));
        assert_eq!(cluster.name(3), "n4");
        cluster.remove_node(0).expect("it leaves");
        assert!(matches!(cluster.status().unwrap().nodes[0].state, NodeState::Ended(_)));
        assert_eq!(cluster.replace_node(1), Ok(4));
        for at in 0..50 {
            let found = db.get(format!("key {at}")).level(Level::Quorum).await.expect("a majority is there");
            assert_eq!(found.expect("it is there").value().unwrap(), "value");
        }
        put_until_it_succeeds(&db, Level::All).await;
        let began = Instant::now();
        // A client asks for the new ring a moment after a reply has shown it.
        while owners(&db) != ["n3", "n4", "n5"] {
            assert!(began.elapsed() < HEAL_PATIENCE, "those that are gone own nothing, but {:?} do", owners(&db));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

/// The names of all nodes that own anything.
fn owners(db: &Client) -> Vec<String> {
    let ring = db.ring();
    let all = (0..ring.partitions()).flat_map(|partition| ring.owners(partition)).collect::<BTreeSet<_>>();
    all.into_iter().filter_map(|node| ring.member(node)).map(|member| member.name.clone()).collect()
}

#[test]
fn two_frozen_nodes_of_three_take_the_quorum_away_until_they_go_on() {
    let cluster = LocalCluster::start(3).expect("a cluster");
    block_on(async {
        let db = cluster.client().await.expect("a client");
        put(&db, Level::Quorum).await.expect("everybody is there");
        cluster.pause(&[0, 2]).expect("they stand still");
        let began = Instant::now();
        let missed = put(&db, Level::Quorum).await.expect_err("one of three is no majority");
        assert!(missed.retryable(), "{missed:?}");
        assert!(began.elapsed() < TIMEOUT + Duration::from_secs(2), "{:?}", began.elapsed());
        cluster.resume(&[0, 2]).expect("they go on");
        put_until_it_succeeds(&db, Level::Quorum).await;
    });
}

#[test]
fn the_smaller_side_of_a_partition_refuses_at_quorum_and_the_larger_goes_on() {
    let cluster = LocalCluster::start(3).expect("a cluster");
    block_on(async {
        let db = cluster.client().await.expect("a client");
        put(&db, Level::Quorum).await.expect("everybody is there");
        cluster.partition(&[&[0], &[1, 2]], 0).expect("they are separated");
        assert_eq!(cluster.status().unwrap().groups, Some((vec![vec![0], vec![1, 2]], 0)));
        let missed = put(&db, Level::Quorum).await.expect_err("one of three is no majority");
        assert!(matches!(missed, Error::Unavailable(_) | Error::QuorumTimeout(_) | Error::Timeout(_)), "{missed:?}");
        cluster.partition(&[&[0], &[1, 2]], 1).expect("the clients change sides");
        put_until_it_succeeds(&db, Level::Quorum).await;
        cluster.heal().expect("it heals");
        assert_eq!(cluster.status().unwrap().groups, None);
        put_until_it_succeeds(&db, Level::All).await;
    });
}

#[test]
fn what_is_asked_in_vain_is_an_error_that_says_why() {
    let cluster =
        LocalCluster::builder().nodes(2).replicas(2).set("deadlines.default_ms", 500).start().expect("two nodes");
    let why = |result: Result<(), LocalClusterError>| result.expect_err("it can't be").to_string();
    assert!(why(cluster.kill(&[2])).contains("nodes are 0 to 1"));
    assert!(why(cluster.partition(&[&[0], &[0]], 0)).contains("more than once"));
    cluster.kill(&[0]).expect("it runs");
    assert!(why(cluster.pause(&[0])).contains("does not run"));
    let none = LocalCluster::builder().binary("/nowhere/quorate").start().expect_err("there is none");
    assert!(none.to_string().contains("/nowhere/quorate"), "{none}");
    let wrong = LocalCluster::builder().set("no.such.setting", 1).start().expect_err("there is none");
    assert!(wrong.to_string().contains("no.such.setting"), "{wrong}");
}

#[test]
fn nothing_is_left_of_a_cluster_that_is_dropped() {
    let cluster = LocalCluster::start(2).expect("a cluster");
    let (data, status) = (cluster.data(0).to_owned(), cluster.status().expect("a status"));
    assert!(data.is_dir());
    drop(cluster);
    assert!(!data.parent().expect("a folder").exists());
    for node in status.nodes {
        let process = node.process.expect("it ran");
        assert!(!std::path::Path::new(&format!("/proc/{process}")).exists(), "process {process} is still there");
    }
    assert!(binary().expect("it was just used").is_file());
}
