//! Five nodes with three replicas, over their ports: level `available` while nodes are away.
#![allow(missing_docs)]

#[path = "support/cluster.rs"]
#[allow(dead_code, unreachable_pub)]
mod cluster;

use cluster::{Client, Cluster, Options, at, code, delete, get, is_stored, local, put, until, values};
use dynamo::{
    layout::Level,
    operation::{Basis, ErrorCode, Operation},
};

fn start() -> Cluster {
    Cluster::start_with(Options { nodes: 5, replicas: 3, settings: Vec::new() })
}

/// A client of a node that knows that these others are down.
async fn client_without(cluster: &Cluster, node: usize, down: usize) -> Client {
    let client = cluster.client(node).await;
    until(async || client.status().await.peers.iter().filter(|peer| peer.state == "down").count() == down).await;
    client
}

fn puts(keys: &[String], value: &'static [u8], level: Level) -> Vec<Operation> {
    keys.iter().map(|key| at(level, put(key, value, Basis::Local))).collect()
}

fn gets(keys: &[String], level: Level) -> Vec<Operation> {
    keys.iter().map(|key| at(level, get(key))).collect()
}

fn keys() -> Vec<String> {
    (0..200).map(|key| format!("k{key}")).collect()
}

#[test]
fn while_any_two_nodes_can_be_reached_every_put_is_accepted_and_read_back() {
    let mut cluster = start();
    local(async {
        for node in 0..5 {
            cluster.settle(node).await;
        }
        let client = cluster.client(0).await;
        for stored in client.execute(&puts(&keys(), b"whole", Level::Available)).await {
            assert!(is_stored(&stored), "{stored:?}");
            assert_eq!((stored.receipt.need, stored.receipt.replicas), (2, 3));
        }
    });
    for (down, gone) in [(1, 4), (2, 3), (3, 2)] {
        cluster.end_node(gone);
        local(async {
            let first = client_without(&cluster, 0, down).await;
            let second = client_without(&cluster, 1, down).await;
            let stored = first.execute(&puts(&keys(), b"later", Level::Available)).await;
            for stored in &stored {
                assert!(is_stored(stored), "{down} down: {stored:?}");
                assert!(stored.receipt.durable >= 2 && stored.receipt.answered.len() >= 2, "{stored:?}");
            }
            let receipts = || stored.iter().map(|stored| &stored.receipt);
            assert!(down == 1 || receipts().any(|receipt| receipt.stand_ins > 0), "{down} down");
            // A slow machine may take a node for gone; only the other way round is certain.
            let by_stand_ins_alone = receipts().any(|receipt| usize::from(receipt.stand_ins) == receipt.answered.len());
            assert!(down < 3 || by_stand_ins_alone, "some keys have lost all their owners");
            if down == 3 {
                // Both nodes that are left are met. What they kept of the same key in turn may stand side by side.
                for client in [&first, &second] {
                    for found in client.execute(&gets(&keys(), Level::Available)).await {
                        let values = values(&found);
                        assert!(!values.is_empty() && values.iter().all(|value| value == b"later"), "{found:?}");
                    }
                }
                assert!(first.counter("stood_in").await + second.counter("stood_in").await > 0);
                assert!(first.counter("hints_sent").await > 0);
            }
        });
    }
}

#[test]
fn strict_levels_do_without_stand_ins_and_say_what_is_missing() {
    let mut cluster = start();
    cluster.end_node(3);
    cluster.end_node(4);
    local(async {
        let client = client_without(&cluster, 0, 2).await;
        let replies = client.execute(&puts(&keys(), b"strict", Level::Quorum)).await;
        for reply in &replies {
            assert_eq!(reply.receipt.stand_ins, 0, "{reply:?}");
            assert!(is_stored(reply) || code(reply) == Some(ErrorCode::Unavailable), "{reply:?}");
        }
        assert!(replies.iter().any(is_stored) && !replies.iter().all(is_stored));
        let deletes: Vec<Operation> =
            keys().iter().map(|key| at(Level::Available, delete(key, Basis::Local))).collect();
        for deleted in client.execute(&deletes).await {
            assert!(is_stored(&deleted), "{deleted:?}");
        }
    });
}
