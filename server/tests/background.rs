//! Background repair between real nodes, over their ports and on their disks: what a node missed comes back to it without any
//! read, damage is found and rebuilt, and when there is nothing to do nothing is done.
#![allow(missing_docs)]

#[path = "support/cluster.rs"]
#[allow(dead_code, unreachable_pub)]
mod cluster;

use std::{fs, path::Path};

use cluster::{Client, Cluster, Options, at, delete, is_stored, local, put, until};
use dynamo::{
    layout::Level,
    operation::{Basis, Operation},
};
use schema::convert::{Held, RepairRun, RepairTask};

async fn clients(cluster: &Cluster) -> Vec<Client> {
    let mut clients = Vec::new();
    for node in 0..cluster.addresses.len() {
        cluster.settle(node).await;
        clients.push(cluster.client(node).await);
    }
    clients
}

fn keys(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|key| format!("k{key}")).collect()
}

async fn store(client: &Client, level: Level, keys: &[String], value: &[u8]) {
    for keys in keys.chunks(200) {
        let puts: Vec<Operation> = keys.iter().map(|key| at(level, put(key, value, Basis::Local))).collect();
        for stored in client.execute(&puts).await {
            assert!(is_stored(&stored), "{stored:?}");
        }
    }
}

/// How many of the keys not all nodes hold alike, byte by byte. Asking changes nothing: no read repair follows.
async fn differences(clients: &[Client], keys: &[String]) -> usize {
    let mut differences = 0;
    for key in keys {
        let first = clients[0].held(key).await;
        let mut is_alike = matches!(first, Held::Record(_));
        for other in &clients[1..] {
            is_alike &= other.held(key).await == first;
        }
        differences += usize::from(!is_alike);
    }
    differences
}

async fn task(client: &Client, name: &str) -> RepairTask {
    client.repairs().await.tasks.into_iter().find(|task| task.name == name).unwrap()
}

/// Compares everything with everyone, and waits until that is done.
async fn exchange_everything(clients: &[Client]) {
    for client in clients {
        client.repair(RepairRun { exchange: true, ..RepairRun::default() }).await;
    }
    for client in clients {
        until(async || {
            let task = task(client, "exchange").await;
            task.state == "idle" && task.done == task.total && task.total > 0
        })
        .await;
    }
}

async fn repaired(clients: &[Client]) -> u64 {
    let mut repaired = 0;
    for client in clients {
        repaired += task(client, "exchange").await.repaired;
    }
    repaired
}

/// Turns a bit wherever these bytes stand in a file of a store.
fn damage(directory: &Path, bytes: &[u8]) -> usize {
    let mut turned = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            turned += damage(&path, bytes);
        } else if path.file_name().is_some_and(|name| name == "data.mdb") {
            let mut file = fs::read(&path).unwrap();
            let found: Vec<usize> =
                (0..file.len() - bytes.len()).filter(|&at| file[at..at + bytes.len()] == *bytes).collect();
            for at in &found {
                file[*at] ^= 1;
            }
            fs::write(&path, file).unwrap();
            turned += found.len();
        }
    }
    turned
}

#[test]
fn a_node_that_ended_while_writes_went_on_becomes_identical_without_any_read_and_then_nothing_is_repaired() {
    let mut cluster = Cluster::start(3);
    local(async {
        let clients = clients(&cluster).await;
        store(&clients[0], Level::All, &keys(0, 600), b"old").await;
    });
    cluster.end_node(2);
    local(async {
        let client = cluster.client(0).await;
        until(async || client.status().await.peers.iter().any(|peer| peer.state == "down")).await;
        store(&client, Level::Quorum, &keys(0, 100), b"new").await;
        store(&client, Level::Quorum, &keys(600, 700), b"first").await;
        let deletes: Vec<Operation> =
            keys(100, 150).iter().map(|key| at(Level::Quorum, delete(key, Basis::Local))).collect();
        assert!(client.execute(&deletes).await.iter().all(is_stored));
    });
    cluster.start_node(2);
    local(async {
        let (clients, keys) = (clients(&cluster).await, keys(0, 700));
        until(async || differences(&clients, &keys).await == 0).await;
        exchange_everything(&clients).await;
        let before = repaired(&clients).await;
        assert!(before >= 250, "{before}");
        for _ in 0..2 {
            exchange_everything(&clients).await;
        }
        assert_eq!(repaired(&clients).await, before, "when idle, nothing is repaired");
    });
}

#[test]
fn a_damaged_record_is_found_by_a_scrub_rebuilt_from_the_others_and_never_served() {
    let mut cluster = Cluster::start(3);
    let unusual = b"a value that stands nowhere else";
    local(async {
        let clients = clients(&cluster).await;
        store(&clients[0], Level::All, &keys(0, 200), b"usual").await;
        store(&clients[0], Level::All, &keys(200, 201), unusual).await;
    });
    cluster.end_node(1);
    assert!(damage(&cluster.directory.path().join("n1"), unusual) > 0);
    cluster.start_node(1);
    local(async {
        let clients = clients(&cluster).await;
        clients[1].repair(RepairRun { scrub: true, ..RepairRun::default() }).await;
        until(async || task(&clients[1], "rebuild").await.repaired == 1).await;
        assert_eq!(differences(&clients, &keys(0, 201)).await, 0);
        let status = clients[1].repairs().await;
        assert_eq!(status.unreadable, 0);
        until(async || task(&clients[1], "scrub").await.last_milliseconds_ago.is_some()).await;
        let scrub = task(&clients[1], "scrub").await;
        assert_eq!((scrub.done, scrub.failed), (scrub.total, 0), "{scrub:?}");
    });
}

#[test]
fn a_lone_node_has_nobody_to_repair_with_and_says_so() {
    let cluster = Cluster::start_with(Options { nodes: 1, replicas: 1, settings: Vec::new() });
    local(async {
        let client = cluster.client(0).await;
        store(&client, Level::Quorum, &keys(0, 50), b"value").await;
        client.repair(RepairRun { exchange: true, hints: true, scrub: true }).await;
        until(async || task(&client, "scrub").await.last_milliseconds_ago.is_some()).await;
        let status = client.repairs().await;
        assert!(status.tasks.iter().all(|task| task.state == "idle" || task.name == "scrub"), "{status:?}");
        assert_eq!((status.unreadable, status.hints.len()), (0, 0));
        assert!((0.02..=1.0).contains(&status.throttle));
    });
}

#[test]
fn hints_are_delivered_when_their_owner_returns_and_gone_once_it_has_them_on_disk() {
    let mut cluster = Cluster::start(5);
    let everything = keys(0, 400);
    local(async { drop(clients(&cluster).await) });
    cluster.end_node(4);
    local(async {
        let client = cluster.client(0).await;
        until(async || client.status().await.peers.iter().any(|peer| peer.state == "down")).await;
        store(&client, Level::Available, &everything, b"while n4 was away").await;
        let mut kept = 0;
        for node in 0..4 {
            kept += cluster.client(node).await.repairs().await.hints.iter().map(|hint| hint.objects).sum::<u64>();
        }
        // Three of five nodes own each key, so the one that is away owns three fifths of them.
        assert!((180..=300).contains(&kept), "{kept}");
    });
    cluster.start_node(4);
    local(async {
        let clients = clients(&cluster).await;
        until(async || {
            let mut kept = 0;
            for client in &clients {
                kept += client.repairs().await.hints.iter().map(|hint| hint.objects).sum::<u64>();
            }
            kept == 0
        })
        .await;
        let mut delivered = 0;
        for client in &clients {
            delivered += task(client, "hints").await.repaired;
        }
        assert!(delivered >= 180, "{delivered}");
        for key in &everything {
            let mut held = Vec::new();
            for client in &clients {
                held.push(client.held(key).await);
            }
            held.retain(|held| *held != Held::Absent);
            assert_eq!(held.len(), 3, "all owners have {key}, and nobody else");
            assert!(held.iter().all(|one| *one == held[0]), "{key} is the same at all of them");
        }
    });
}
