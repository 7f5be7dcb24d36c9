//! Five nodes in one process, one key range owned by three of them: what the others keep when owners are away (paper,
//! section 4.6).
#![allow(missing_docs)]

#[path = "support/cluster.rs"]
#[allow(dead_code, unreachable_pub)]
mod cluster;

use cluster::{Cluster, Options, at, get, is_stored, local, put, until, values};
use dynamo::{
    layout::Level,
    operation::{Basis, Operation},
};

const KEYS: usize = 300;

fn puts(value: &str) -> Vec<Operation> {
    let put = |key| at(Level::Available, put(&format!("k{key}"), value.as_bytes(), Basis::Local));
    (0..KEYS).map(put).collect()
}

#[test]
fn stand_ins_keep_what_owners_that_are_down_miss_across_a_restart_and_hand_it_over() {
    let mut cluster = Cluster::start_with(Options { nodes: 5, replicas: 3, settings: Vec::new() });
    local(async {
        for node in 0..5 {
            cluster.settle(node).await;
        }
    });
    cluster.stop_node(3);
    cluster.stop_node(4);
    let mut before = 0;
    local(async {
        let client = cluster.client(0).await;
        for value in ["first", "second"] {
            for stored in client.execute(&puts(value)).await {
                assert!(is_stored(&stored), "{stored:?}");
                assert!(stored.receipt.durable >= 2, "{stored:?}");
            }
        }
        // Hints for owners beyond the two that are needed may come after the reply.
        until(async || kept(&cluster).await.0 > KEYS as u64 / 3).await;
        assert!(client.counter("hints_sent").await > 0);
        let (records, bytes) = kept(&cluster).await;
        assert!(bytes > 100 * records, "{records} hints of {bytes} bytes");
        before = records;
    });
    for node in 0..3 {
        cluster.stop_node(node);
        cluster.start_node(node);
    }
    local(async {
        let (records, _) = kept(&cluster).await;
        // A key has one hint for each owner that is away, however often it was written.
        assert!((before..=2 * KEYS as u64).contains(&records), "{records} hints after a restart, {before} before");
        let client = cluster.client(0).await;
        let gets: Vec<Operation> = (0..KEYS).map(|key| at(Level::Available, get(&format!("k{key}")))).collect();
        until(async || client.execute(&gets).await.iter().all(|found| values(found) == [b"second"])).await;
    });
    cluster.start_node(3);
    cluster.start_node(4);
    local(async {
        until(async || kept(&cluster).await == (0, 0)).await;
        let mut delivered = 0;
        for node in 0..3 {
            delivered += cluster.client(node).await.counter("hints_delivered").await;
        }
        assert!(delivered >= before, "{delivered} of {before} hints were deleted because they were delivered");
    });
}

/// What the nodes that are up keep for those that are down: how many hints, and their bytes. On a busy machine a node that is
/// up may be slow enough to have some kept for it too.
async fn kept(cluster: &Cluster) -> (u64, u64) {
    let (mut records, mut bytes) = (0, 0);
    for node in 0..3 {
        for peer in cluster.client(node).await.status().await.peers.iter().filter(|peer| peer.node.0 >= 3) {
            assert_eq!(peer.hints == 0, peer.hint_bytes == 0, "{peer:?}");
            records += peer.hints;
            bytes += peer.hint_bytes;
        }
    }
    (records, bytes)
}
