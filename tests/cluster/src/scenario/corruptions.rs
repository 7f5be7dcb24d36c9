//! Row "corruptions": records are damaged where they lie on one node's disk. Every one of them must be read right all the same,
//! and in the end the damaged node must hold them again, byte for byte as the others do.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use dynamo::ident::StoreKey;
use quorate::{Client, Level};
use quorate_history::{Basis, Kind, Stage};
use quorate_tests::cluster::Options;

use super::{Settings, come_to_rest, conclude, progress, rest::ask_to_repair};
use crate::{
    damage, figures::Finding, proxied::Proxied, random::Random, recorder::Recorder, replicas, values, workload::BUCKET,
};

/// Keys: more than are damaged, so that each round harms others.
const KEYS: u64 = 1_000;

/// Records damaged before a node is started again.
const PER_ROUND: u64 = 20;

/// What was damaged so many rounds ago is whole again; before, it may still wait for its rebuild, and could not be found to be damaged
/// once more. So many rounds take a quarter of the keys.
const RECENT_ROUNDS: usize = 12;

/// Time for an operation.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Damages `count` records, some on each node.
pub fn corruptions(settings: &Settings, count: u64) -> Finding {
    settings.run(10, async {
        let mut cluster = Proxied::start(Options::default());
        let client = cluster.client(TIMEOUT, 3).await;
        let recorder = Arc::<Recorder>::default();
        let mut random = Random::new(settings.seed);
        for key in 0..KEYS {
            put(&client, &recorder, &format!("k{key}"), &mut random).await;
        }
        come_to_rest(&client, KEYS).await;
        let (mut damaged, mut unread) = (BTreeSet::new(), 0);
        let mut round = 0;
        while (damaged.len() as u64) < count {
            let node = round % cluster.nodes();
            round += 1;
            progress("corruptions", &format!("{} of {count} records damaged", damaged.len()));
            let per_round = PER_ROUND.min(count - damaged.len() as u64);
            let recent = damaged.iter().filter(|(then, _)| then + RECENT_ROUNDS > round).map(|(_, key)| *key).collect();
            let keys = others(&mut random, per_round, &recent);
            harm(&mut cluster, node, &keys, &mut random);
            damaged.extend(keys.iter().map(|key| (round, *key)));
            for key in &keys {
                // At the level of the design, and at the one that asks a single node, from which wrong bytes would pass on.
                for level in [Level::Quorum, Level::One] {
                    unread += u64::from(!read(&client, &recorder, &format!("k{key}"), level).await);
                }
            }
        }
        // What no read has met, one scrub finds.
        ask_to_repair(&client, true).await;
        let rest = come_to_rest(&client, KEYS).await;
        let layout = client.ring();
        client.close().await;
        let report = conclude("corruptions", settings, &mut cluster, &layout, &recorder, KEYS);
        let seen =
            format!("{} records damaged in {round} rounds: {unread} reads failed; {report}; {rest}", damaged.len());
        Finding::new(report.is_clean() && unread == 0, seen)
    })
}

/// So many keys that are not among those that were damaged lately.
fn others(random: &mut Random, count: u64, recent: &BTreeSet<u64>) -> BTreeSet<u64> {
    let mut keys = BTreeSet::new();
    while (keys.len() as u64) < count {
        let key = random.below(KEYS);
        if !recent.contains(&key) {
            keys.insert(key);
        }
    }
    keys
}

/// Stops a node, damages its records of some keys, and starts it again.
fn harm(cluster: &mut Proxied, node: usize, keys: &BTreeSet<u64>, random: &mut Random) {
    let status = cluster.stop(node);
    assert!(status.success(), "node {node} ended with {status}");
    let held = replicas::read(cluster.data(node), node).expect("a stopped node's directory can be read");
    let store_key = |key: &u64| StoreKey::of(BUCKET.as_bytes(), format!("k{key}").as_bytes());
    let store_keys: Vec<StoreKey> = keys.iter().map(store_key).collect();
    let harmed = damage::records(cluster.data(node), &held.records, &store_keys, random).expect("files can be changed");
    assert_eq!(harmed.len(), keys.len(), "not every record was found on the disk of node {node}");
    cluster.restart(node);
}

async fn put(client: &Client, recorder: &Recorder, key: &str, random: &mut Random) {
    let id = recorder.id();
    let value = values::encode(id, random.below(3_000) as usize);
    let begun = recorder.write(0, Kind::Put, key, true, id, Basis::Beside);
    client.put(key, value).beside().level(Level::Quorum).await.expect("all nodes are well");
    recorder.end(begun, Stage::Ok, Vec::new(), None);
}

/// Reads a key and writes down what came; whether anything did.
async fn read(client: &Client, recorder: &Recorder, key: &str, level: Level) -> bool {
    // A single replica that has everything is as good as a quorum here, since nothing is written meanwhile.
    let begun = recorder.read(0, key, true);
    match client.get(key).level(level).lookup().await {
        Ok(lookup) => {
            let ids = lookup.siblings().iter().map(|sibling| values::decode(&sibling.value)).collect();
            recorder.end(begun, Stage::Ok, ids, None);
            true
        }
        Err(error) => {
            progress("corruptions", &format!("{key} at {level:?}: {error}"));
            recorder.end(begun, Stage::Fail, Vec::new(), None);
            false
        }
    }
}
