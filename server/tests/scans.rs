//! Scans through the client when owners are gone or hold records that they can't verify: every key is listed, or an error says
//! why not.
#![allow(missing_docs)]

#[path = "support/cluster.rs"]
#[allow(dead_code, unreachable_pub)]
mod cluster;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use cluster::{Cluster, local};
use futures_util::TryStreamExt;
use quorate::{Client, Error, Level};

/// About eight in every partition.
const KEYS: usize = 2_000;

async fn client(cluster: &Cluster) -> Client {
    let endpoints: Vec<_> = cluster.addresses.iter().map(ToString::to_string).collect();
    Client::builder().endpoints(&endpoints.join(",")).timeout(Duration::from_secs(5)).connect().await.unwrap()
}

fn key(at: usize) -> String {
    format!("key-{at:04}")
}

async fn fill(db: &Client) {
    let entries = (0..KEYS).map(|at| (key(at), format!("the value of number {at:04}")));
    for stored in db.put_many(entries).level(Level::All).await {
        stored.unwrap();
    }
}

async fn keys(db: &Client, level: Level) -> Result<BTreeSet<String>, Error> {
    let scanned: Vec<_> = db.scan().level(level).try_collect().await?;
    let count = scanned.len();
    let keys: BTreeSet<String> =
        scanned.into_iter().map(|scanned| String::from_utf8(scanned.key.to_vec()).unwrap()).collect();
    assert_eq!(keys.len(), count, "a key was listed twice");
    Ok(keys)
}

fn all_keys() -> BTreeSet<String> {
    (0..KEYS).map(key).collect()
}

/// Damages the values of these keys in a node's files; the node must not be running.
fn damage(cluster: &Cluster, node: usize, damaged: impl Iterator<Item = usize>) {
    const NEEDLE: &[u8] = b"the value of number ";
    let mut missing: BTreeSet<usize> = damaged.collect();
    let wanted = missing.clone();
    for path in data_files(&cluster.directory.path().join(format!("n{node}"))) {
        let mut bytes = fs::read(&path).unwrap();
        let places: Vec<usize> =
            bytes.windows(NEEDLE.len()).enumerate().filter(|(_, it)| *it == NEEDLE).map(|(at, _)| at).collect();
        for at in places {
            let digits = &bytes[at + NEEDLE.len()..at + NEEDLE.len() + 4];
            let number: Option<usize> = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            if let Some(number) = number.filter(|number| wanted.contains(number)) {
                missing.remove(&number);
                bytes[at + 4] ^= 0x10;
            }
        }
        fs::write(path, bytes).unwrap();
    }
    assert!(missing.is_empty(), "{} values were not found in the node's files", missing.len());
}

fn data_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let data = files.into_iter().filter(|path| path.file_name().is_some_and(|name| name == "data.mdb"));
    data.chain(directories.iter().flat_map(|directory| data_files(directory))).collect()
}

#[test]
fn what_one_owner_cannot_verify_is_told_by_another() {
    local(async {
        let mut cluster = Cluster::start(3);
        let db = client(&cluster).await;
        fill(&db).await;
        cluster.end_node(1);
        damage(&cluster, 1, (0..KEYS).step_by(10));
        cluster.start_node(1);
        cluster.settle(0).await;
        // First: what is read is rebuilt, and then there is nothing to complain about.
        let Err(error) = keys(&db, Level::All).await else { panic!("damage went unnoticed") };
        assert!(matches!(error, Error::Corrupt(_)), "{error}");
        assert!(error.message().contains("n1") && error.message().contains("repair"), "{error}");
        for level in [Level::One, Level::Available, Level::Quorum] {
            assert!(keys(&db, level).await.unwrap() == all_keys(), "keys are missing at {level:?}");
        }
    });
}

#[test]
fn where_too_few_owners_can_verify_their_records_a_scan_ends_with_an_error() {
    local(async {
        let mut cluster = Cluster::start(3);
        let db = client(&cluster).await;
        fill(&db).await;
        cluster.end_node(1);
        damage(&cluster, 1, (0..KEYS).step_by(10));
        cluster.start_node(1);
        cluster.end_node(2);
        cluster.end_node(0);
        cluster.start_node(0);
        // One owner is whole: enough at `one`, too few for the keys that the other can't verify where two must answer.
        assert!(keys(&db, Level::One).await.unwrap() == all_keys());
        for level in [Level::Available, Level::Quorum] {
            let error = keys(&db, level).await.unwrap_err();
            assert!(matches!(error, Error::Corrupt(_)), "{error}");
        }
    });
}

#[test]
fn owners_whose_damage_lies_elsewhere_make_a_whole_together() {
    local(async {
        let mut cluster = Cluster::start(3);
        let db = client(&cluster).await;
        fill(&db).await;
        for node in 0..3 {
            cluster.end_node(node);
            damage(&cluster, node, (node..KEYS).step_by(9));
            cluster.start_node(node);
            cluster.settle(node).await;
        }
        assert!(keys(&db, Level::One).await.unwrap() == all_keys());
    });
}

#[test]
fn a_scan_needs_as_many_owners_as_its_level_says_on_empty_buckets_too() {
    local(async {
        let mut cluster = Cluster::start(3);
        let db = client(&cluster).await;
        let empty = BTreeSet::new();
        assert!(keys(&db, Level::All).await.unwrap() == empty);
        cluster.end_node(2);
        assert!(keys(&db, Level::Quorum).await.unwrap() == empty);
        assert!(keys(&db, Level::All).await.is_err());
        cluster.end_node(1);
        assert!(keys(&db, Level::Available).await.unwrap() == empty);
        assert!(keys(&db, Level::One).await.unwrap() == empty);
        assert!(keys(&db, Level::Quorum).await.is_err());
    });
}
