//! Following the layout: learnt from any node, renewed when a node shows a newer epoch, once for all, and never backwards.

use std::time::{Duration, Instant};

use dynamo::layout::Layout;
use futures_util::future::join_all;
use quorate::Client;

use crate::support::{Cluster, layout, run};

fn ring_calls(cluster: &Cluster) -> usize {
    cluster.nodes.iter().map(|node| *node.control.ring_calls.lock().unwrap()).sum()
}

async fn wait_for_epoch(db: &Client, epoch: u64) {
    let began = Instant::now();
    while db.ring().epoch != epoch {
        assert!(began.elapsed() < Duration::from_secs(5), "the client stays at epoch {}", db.ring().epoch);
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_newer_epoch_is_fetched_once_however_many_replies_show_it() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.builder().io_threads(2).connect().await.unwrap();
        join_all((0..50).map(|at| db.get(format!("key-{at}")))).await;
        let before = ring_calls(&cluster);
        let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.address.clone()).collect();
        cluster.publish(&layout(&addresses, 2));
        let results = join_all((0..500).map(|at| db.get(format!("key-{at}")))).await;
        assert!(results.iter().all(Result::is_ok));
        wait_for_epoch(&db, 2).await;
        join_all((0..500).map(|at| db.get(format!("key-{at}")))).await;
        assert_eq!(ring_calls(&cluster) - before, 1);
    });
}

#[test]
fn an_older_layout_or_one_of_another_cluster_is_not_followed() {
    let cluster = Cluster::start(1);
    run(async {
        let addresses = [cluster.node(0).address.clone()];
        cluster.publish(&layout(&addresses, 5));
        let interval = Duration::from_millis(20);
        let db = cluster.builder().refresh_interval(interval).connect().await.unwrap();
        db.put("k", "v").await.unwrap();
        cluster.publish(&layout(&addresses, 4));
        let asked = ring_calls(&cluster);
        while ring_calls(&cluster) < asked + 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(db.ring().epoch, 5);
        cluster.publish(&Layout { cluster: 78, ..layout(&addresses, 6) });
        let asked = ring_calls(&cluster);
        while ring_calls(&cluster) < asked + 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!((db.ring().epoch, db.ring().cluster), (5, 77));
        cluster.publish(&layout(&addresses, 6));
        wait_for_epoch(&db, 6).await;
    });
}

#[test]
fn a_node_that_the_layout_gained_is_used() {
    let cluster = Cluster::start(4);
    run(async {
        let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.address.clone()).collect();
        cluster.publish(&layout(&addresses[..3], 1));
        let db = cluster.client().await;
        let keys: Vec<String> = (0..200).map(|at| format!("key-{at}")).collect();
        assert!(db.get_many(&keys).await.iter().all(Result::is_ok));
        assert!(cluster.node(3).seen().is_empty());
        cluster.publish(&layout(&addresses, 2));
        db.get("k").await.unwrap();
        wait_for_epoch(&db, 2).await;
        assert!(db.get_many(&keys).await.iter().all(Result::is_ok));
        assert!(!cluster.node(3).seen().is_empty());
    });
}

#[test]
fn a_node_that_is_not_who_the_layout_says_is_not_used() {
    let cluster = Cluster::start(2);
    run(async {
        let db = cluster.client().await;
        // Both ports are served by the same node now.
        let mut swapped = cluster.node(0).control.layout.lock().unwrap().clone();
        swapped.members[1].addresses = swapped.members[0].addresses.clone();
        swapped.epoch = 2;
        cluster.publish(&swapped);
        db.get("k").await.unwrap();
        wait_for_epoch(&db, 2).await;
        cluster.node(1).kill();
        let keys: Vec<String> = (0..50).map(|at| format!("key-{at}")).collect();
        assert!(db.get_many(&keys).await.iter().all(Result::is_ok));
        let stats = db.stats().await.unwrap();
        assert!(stats.nodes[0].connected && !stats.nodes[1].connected);
    });
}
