//! Three nodes in one process, over their ports: quorums, forwarding, repair, and what is said when nodes are away.
#![allow(missing_docs)]

#[path = "support/cluster.rs"]
#[allow(dead_code, unreachable_pub)]
mod cluster;

use std::{
    fs,
    time::{Duration, Instant},
};

use cluster::{Client, Cluster, Options, at, code, context, delete, get, is_stored, local, put, until, values};
use dynamo::{
    layout::Level,
    operation::{Basis, Consistency, ErrorCode, Operation, Outcome},
};

async fn clients(cluster: &Cluster) -> Vec<Client> {
    let mut clients = Vec::new();
    for node in 0..cluster.addresses.len() {
        cluster.settle(node).await;
        clients.push(cluster.client(node).await);
    }
    clients
}

#[test]
fn any_node_takes_a_write_and_any_other_reads_it() {
    let cluster = Cluster::start(3);
    local(async {
        let clients = clients(&cluster).await;
        for (at, writer) in clients.iter().enumerate() {
            let puts: Vec<Operation> =
                (0..300).map(|key| put(&format!("{at}-{key}"), b"value", Basis::Local)).collect();
            for stored in writer.execute(&puts).await {
                assert!(is_stored(&stored), "{stored:?}");
                assert!(stored.receipt.durable >= 2, "{stored:?}");
                assert_eq!((stored.receipt.need, stored.receipt.replicas), (2, 3));
            }
            for reader in &clients {
                let gets: Vec<Operation> = (0..300).map(|key| get(&format!("{at}-{key}"))).collect();
                for found in reader.execute(&gets).await {
                    assert_eq!(values(&found), [b"value"]);
                    assert_eq!(found.receipt.answered.len(), 2);
                }
            }
        }
        let batches = clients[0].counter("peer_batches_out").await;
        let operations = clients[0].counter("peer_operations_out").await;
        assert!(operations >= 100 * batches, "{operations} operations travelled in {batches} calls");
    });
}

#[test]
fn a_node_that_owns_nothing_of_a_key_forwards_receipts_and_errors() {
    let cluster = Cluster::start_with(Options { nodes: 3, replicas: 1, settings: Vec::new() });
    local(async {
        let clients = clients(&cluster).await;
        let keys: Vec<String> = (0..100).map(|key| format!("k{key}")).collect();
        let puts: Vec<Operation> = keys.iter().map(|key| put(key, key.as_bytes(), Basis::Local)).collect();
        let stored = clients[0].execute(&puts).await;
        let mut coordinators: Vec<u16> = stored.iter().map(|stored| stored.receipt.answered[0].0).collect();
        coordinators.sort_unstable();
        coordinators.dedup();
        assert_eq!(coordinators, [0, 1, 2], "every node stored some");
        let gets: Vec<Operation> = keys.iter().map(|key| get(key)).collect();
        for client in &clients {
            for (key, found) in keys.iter().zip(client.execute(&gets).await) {
                assert_eq!(values(&found), [key.as_bytes()]);
            }
        }
        assert!(clients[0].counter("forwards").await > 100);
        assert!(clients[1].counter("forwarded_here").await > 0);
        let foreign: Vec<Operation> =
            keys.iter().map(|key| put(key, b"x", Basis::Context(vec![1, 2, 3].into()))).collect();
        for refused in clients[1].execute(&foreign).await {
            assert_eq!(code(&refused), Some(ErrorCode::InvalidRequest), "{refused:?}");
        }
    });
}

#[test]
fn concurrent_writes_at_different_nodes_become_siblings_and_a_later_write_resolves_them() {
    let cluster = Cluster::start(3);
    local(async {
        let clients = clients(&cluster).await;
        assert!(is_stored(&clients[0].one(at(Level::All, put("k", b"base", Basis::Local))).await));
        let base = context(&clients[1].one(get("k")).await);
        let left = clients[0].one(at(Level::All, put("k", b"left", Basis::Context(base.clone())))).await;
        let right = clients[2].one(at(Level::All, put("k", b"right", Basis::Context(base)))).await;
        assert!(is_stored(&left) && is_stored(&right));
        let both = clients[1].one(get("k")).await;
        assert_eq!(values(&both), [b"left".to_vec(), b"right".to_vec()]);
        assert!(is_stored(&clients[1].one(delete("k", Basis::Context(context(&both)))).await));
        for client in &clients {
            assert!(values(&client.one(get("k")).await).is_empty());
        }
    });
}

#[test]
fn a_node_that_was_away_is_repaired_by_reads() {
    let mut cluster = Cluster::start(3);
    let keys: Vec<String> = (0..50).map(|key| format!("k{key}")).collect();
    local(async {
        let clients = clients(&cluster).await;
        let puts: Vec<Operation> = keys.iter().map(|key| at(Level::All, put(key, b"old", Basis::Local))).collect();
        assert!(clients[0].execute(&puts).await.iter().all(is_stored));
    });
    cluster.end_node(2);
    local(async {
        let client = cluster.client(0).await;
        until(async || client.status().await.peers.iter().any(|peer| peer.state == "down")).await;
        let puts: Vec<Operation> = keys.iter().map(|key| put(key, b"new", Basis::Local)).collect();
        for stored in client.execute(&puts).await {
            assert!(is_stored(&stored), "{stored:?}");
        }
    });
    cluster.start_node(2);
    local(async {
        let clients = clients(&cluster).await;
        let gets: Vec<Operation> = keys.iter().map(|key| get(key)).collect();
        for found in clients[0].execute(&gets).await {
            assert_eq!(values(&found), [b"new"]);
        }
        // What node 2 holds itself, asked for without any other node's help.
        let alone: Vec<Operation> = keys
            .iter()
            .map(|key| Operation { consistency: Consistency { r: 1, ..Default::default() }, ..get(key) })
            .collect();
        until(async || clients[2].execute(&alone).await.iter().all(|found| values(found) == [b"new"])).await;
        assert!(clients[0].counter("repairs").await >= 50);
    });
}

#[test]
fn with_one_node_away_quorums_hold_and_all_fails_saying_so() {
    let mut cluster = Cluster::start(3);
    local(async { drop(clients(&cluster).await) });
    cluster.end_node(1);
    local(async {
        let client = cluster.client(0).await;
        until(async || client.status().await.peers.iter().any(|peer| peer.state == "down")).await;
        assert!(is_stored(&client.one(put("k", b"v", Basis::Local)).await));
        assert_eq!(values(&client.one(get("k")).await), [b"v"]);
        for operation in [put("k", b"w", Basis::Local), get("k")] {
            let reply = client.one(at(Level::All, operation)).await;
            let Outcome::Failed(failure) = &reply.outcome else { panic!("{reply:?}") };
            assert_eq!((failure.code, failure.need), (ErrorCode::Unavailable, 3), "{failure:?}");
            assert!(failure.retryable && !failure.maybe_applied, "{failure:?}");
        }
        assert!(client.status().await.warnings.iter().any(|warning| warning.contains("n1 is down")));
    });
}

#[test]
fn with_two_nodes_away_quorums_fail_fast_and_level_one_serves() {
    let mut cluster = Cluster::start(3);
    local(async { drop(clients(&cluster).await) });
    cluster.end_node(1);
    cluster.end_node(2);
    local(async {
        let client = cluster.client(0).await;
        until(async || client.status().await.peers.iter().all(|peer| peer.state == "down")).await;
        let began = Instant::now();
        let reply = client.one(put("k", b"v", Basis::Local)).await;
        let Outcome::Failed(failure) = &reply.outcome else { panic!("{reply:?}") };
        assert_eq!((failure.code, failure.need, failure.maybe_applied), (ErrorCode::Unavailable, 2, false));
        assert_eq!(code(&client.one(get("k")).await), Some(ErrorCode::Unavailable));
        assert!(is_stored(&client.one(at(Level::One, put("k", b"v", Basis::Local))).await));
        assert_eq!(values(&client.one(at(Level::One, get("k"))).await), [b"v"]);
        assert!(began.elapsed() < Duration::from_secs(1), "nothing waited for a timeout");
    });
}

#[test]
fn a_node_that_restarted_is_used_again_within_about_a_second() {
    let mut cluster = Cluster::start(3);
    local(async { drop(clients(&cluster).await) });
    cluster.end_node(1);
    local(async {
        let client = cluster.client(0).await;
        until(async || client.status().await.peers.iter().any(|peer| peer.state == "down")).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    });
    cluster.start_node(1);
    let began = Instant::now();
    local(async {
        let client = cluster.client(0).await;
        until(async || is_stored(&client.one(at(Level::All, put("k", b"v", Basis::Local))).await)).await;
        assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    });
}

#[test]
fn a_node_whose_directory_was_emptied_does_not_come_back_as_the_old_owner() {
    let mut cluster = Cluster::start(3);
    local(async {
        let clients = clients(&cluster).await;
        assert!(is_stored(&clients[0].one(at(Level::All, put("k", b"v", Basis::Local))).await));
    });
    cluster.end_node(2);
    fs::remove_dir_all(cluster.directory.path().join("n2")).unwrap();
    cluster.start_node(2);
    local(async {
        let client = cluster.client(0).await;
        until(async || client.counter("hellos_refused").await > 0).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let status = client.status().await;
        assert!(status.peers.iter().any(|peer| peer.node.0 == 2 && peer.state == "down"), "{:?}", status.peers);
        assert_eq!(code(&client.one(at(Level::All, get("k"))).await), Some(ErrorCode::Unavailable));
        assert_eq!(values(&client.one(get("k")).await), [b"v"]);
    });
}

#[test]
fn a_batch_that_finds_more_than_one_reply_can_carry_is_bounded_and_says_so() {
    let cluster = Cluster::start(3);
    local(async {
        let clients = clients(&cluster).await;
        let keys: Vec<String> = (0..40).map(|key| format!("k{key}")).collect();
        let value = vec![7; 500_000];
        for key in &keys {
            assert!(is_stored(&clients[0].one(put(key, &value, Basis::Local)).await));
        }
        let gets: Vec<Operation> = keys.iter().map(|key| get(key)).collect();
        let replies = clients[1].execute(&gets).await;
        let found = replies.iter().filter(|reply| code(reply).is_none()).count();
        assert!((4..20).contains(&found), "{found}");
        for reply in &replies {
            let Outcome::Failed(failure) = &reply.outcome else { continue };
            assert_eq!((failure.code, failure.retryable), (ErrorCode::TooLarge, true), "{failure:?}");
        }
        for key in &keys {
            assert_eq!(values(&clients[1].one(get(key)).await), [&value[..]], "alone, each is found");
        }
    });
}

#[test]
fn a_budget_is_kept_when_an_owner_hangs() {
    let mut cluster = Cluster::start(3);
    local(async { drop(clients(&cluster).await) });
    let address = cluster.addresses[1];
    cluster.end_node(1);
    // Somebody listens there and never answers.
    let silent = std::net::TcpListener::bind(address).unwrap();
    local(async {
        let client = cluster.client(0).await;
        let began = Instant::now();
        let replies = client.try_execute(&[at(Level::All, get("k"))], 300).await.unwrap();
        assert!(matches!(code(&replies[0]), Some(ErrorCode::Unavailable | ErrorCode::QuorumTimeout)), "{replies:?}");
        assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
        assert!(is_stored(&client.one(put("k", b"v", Basis::Local)).await));
    });
    drop(silent);
}
