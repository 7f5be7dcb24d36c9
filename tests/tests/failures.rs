//! Real nodes that die, freeze, forget and fill up, under a real client: what was acknowledged is read back, what can't be done fails with the
//! right error, and a node that comes back is brought level (paper, sections 4.5 to 4.8).

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use quorate::{Client, Error, Level};
use quorate_tests::cluster::{Cluster, Options};

/// How long one test may take: a test that hangs must fail.
const TEST_TIMEOUT: Duration = Duration::from_secs(180);

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

fn key(at: usize) -> String {
    format!("key-{at}")
}

/// A value that depends on its key and its round, so that no other value can be taken for it.
fn value(at: usize, round: usize) -> Vec<u8> {
    format!("{at}/{round}/").repeat(1 + at % 40).into_bytes()
}

async fn put_all(db: &Client, keys: impl Iterator<Item = usize>, round: usize) {
    for result in db.put_many(keys.map(|at| (key(at), value(at, round)))).level(Level::Quorum).await {
        let stored = result.expect("a put at quorum is acknowledged while two of three nodes live");
        assert!(stored.receipt.durable >= 2, "acknowledged with {} durable copies", stored.receipt.durable);
    }
}

async fn assert_all(db: &Client, expected: impl Iterator<Item = (usize, usize)>, level: Level) {
    let expected: Vec<(usize, usize)> = expected.collect();
    let results = db.get_many(expected.iter().map(|(at, _)| key(*at))).level(level).await;
    assert_eq!(results.len(), expected.len());
    for ((at, round), result) in expected.into_iter().zip(results) {
        let found = result.expect("a get succeeds").unwrap_or_else(|| panic!("{} is lost", key(at)));
        assert_eq!(found.value().expect("one value").as_ref(), value(at, round), "{}", key(at));
    }
}

/// How many keys show at level `all` that some replica was behind.
async fn count_divergent(db: &Client, keys: usize) -> usize {
    let results = db.get_many((0..keys).map(key)).level(Level::All).await;
    results
        .into_iter()
        .filter(|result| {
            result.as_ref().is_ok_and(|found| found.as_ref().is_some_and(|found| found.receipt().repaired))
        })
        .count()
}

#[test]
fn quorum_goes_on_without_a_killed_node_and_read_repair_brings_it_level() {
    const KEYS: usize = 2000;
    run(async {
        let mut cluster = Cluster::start(3);
        let db = client(&cluster).await;
        put_all(&db, 0..KEYS, 1).await;
        wait_until_level(&db, KEYS).await;
        cluster.kill(0);
        assert_all(&db, (0..KEYS).map(|at| (at, 1)), Level::Quorum).await;
        put_all(&db, 0..KEYS / 2, 2).await;
        put_all(&db, KEYS..KEYS + 500, 1).await;

        let refused = db.put("needs-all", "x").level(Level::All).await.expect_err("one of three nodes is down");
        assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");
        assert!(refused.retryable() && refused.need_and_got() == Some((3, 2)), "{refused:?}");
        let unread = db.get(key(1)).level(Level::All).await.expect_err("one of three nodes is down");
        assert!(matches!(unread, Error::Unavailable(_)) && !unread.maybe_applied(), "{unread:?}");

        cluster.restart(0);
        wait_until_all_serve(&db).await;
        let round = |at: usize| if at < KEYS / 2 { 2 } else { 1 };
        assert_all(&db, (0..KEYS + 500).map(|at| (at, round(at))), Level::Quorum).await;
        wait_until_level(&db, KEYS + 500).await;
        // Level means that the node's own copy is right, also when it is alone with one other.
        cluster.kill(1);
        assert_all(&db, (0..KEYS + 500).map(|at| (at, round(at))), Level::Quorum).await;
        db.close().await;
    });
}

/// Waits until every owner holds the same: what was sent behind the replies is small and soon there. A put without a context replaces what
/// its coordinator holds, so a test that changes coordinators between two puts waits for this, or both values may rightly stand.
async fn wait_until_level(db: &Client, keys: usize) {
    let started = Instant::now();
    while count_divergent(db, keys).await > 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "read repair does not bring the owners level");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn wait_until_all_serve(db: &Client) {
    let started = Instant::now();
    while let Err(error) = db.put("probe", "x").level(Level::All).await {
        assert!(started.elapsed() < Duration::from_secs(20), "level all does not come back: {error:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn what_was_acknowledged_survives_kills_under_load() {
    let rounds = 4 * std::env::var("QUORATE_PROOF").ok().and_then(|times| times.parse().ok()).unwrap_or(1usize);
    run(async {
        let mut cluster = Cluster::start(3);
        let db = client(&cluster).await;
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(BTreeMap::<usize, usize>::new()));
        let writers: Vec<_> = (0..16)
            .map(|writer| {
                let (db, stop, acknowledged) = (db.clone(), Arc::clone(&stop), Arc::clone(&acknowledged));
                tokio::spawn(async move {
                    let mut refused = 0usize;
                    for at in (0..).map(|count| writer + 16 * count) {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        match db.put(key(at), value(at, 7)).level(Level::Quorum).await {
                            Ok(_) => drop(acknowledged.lock().expect("no writer panics").insert(at, 7)),
                            Err(_) => refused += 1,
                        }
                    }
                    refused
                })
            })
            .collect();
        for round in 0..rounds {
            tokio::time::sleep(Duration::from_millis(400)).await;
            cluster.kill(round % 3);
            tokio::time::sleep(Duration::from_millis(400)).await;
            cluster.restart(round % 3);
        }
        stop.store(true, Ordering::Relaxed);
        let mut refused = 0;
        for writer in writers {
            refused += writer.await.expect("a writer does not panic");
        }
        let acknowledged = acknowledged.lock().expect("no writer panics").clone();
        println!("{} puts acknowledged, {refused} refused, {rounds} kills", acknowledged.len());
        assert!(acknowledged.len() > 100, "hardly anything was acknowledged, so this shows nothing");
        wait_until_all_serve(&db).await;
        assert_all(&db, acknowledged.into_iter(), Level::Quorum).await;
        db.close().await;
    });
}

#[test]
fn a_frozen_node_costs_time_but_no_operation() {
    run(async {
        let cluster = Cluster::start(3);
        let db = client(&cluster).await;
        put_all(&db, 0..300, 1).await;
        wait_until_level(&db, 300).await;
        cluster.pause(2);
        put_all(&db, 0..300, 2).await;
        assert_all(&db, (0..300).map(|at| (at, 2)), Level::Quorum).await;
        cluster.resume(2);
        wait_until_all_serve(&db).await;
        assert_all(&db, (0..300).map(|at| (at, 2)), Level::Quorum).await;
        db.close().await;
    });
}

#[test]
fn without_a_majority_everything_fails_with_unavailable_and_in_time() {
    run(async {
        let mut cluster = Cluster::start(3);
        let db = client(&cluster).await;
        put_all(&db, 0..10, 1).await;
        // Until all three have everything, one of them alone may not have it.
        wait_until_all_serve(&db).await;
        assert_all(&db, (0..10).map(|at| (at, 1)), Level::All).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.kill(0);
        cluster.kill(1);
        let started = Instant::now();
        let error = db
            .put(key(0), "x")
            .level(Level::Quorum)
            .timeout(Duration::from_secs(3))
            .await
            .expect_err("one of three lives");
        assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
        assert!(error.retryable(), "{error:?}");
        // The refused put may still have been stored, so another key is read.
        let found =
            db.get(key(1)).level(Level::One).await.expect("one replica is enough for `one`").expect("it was put");
        assert_eq!(found.value().expect("one value").as_ref(), value(1, 1));
        db.close().await;
    });
}

#[test]
fn a_told_stop_drains_and_a_restart_has_everything() {
    run(async {
        let mut cluster = Cluster::start(1);
        let db = client(&cluster).await;
        for result in db.put_many((0..500).map(|at| (key(at), value(at, 1)))).await {
            result.expect("a put is acknowledged");
        }
        let status = cluster.stop(0);
        assert!(status.success(), "a drained node ends with {status}:\n{}", cluster.log(0));
        cluster.restart(0);
        assert_all(&db, (0..500).map(|at| (at, 1)), Level::Quorum).await;
        db.close().await;
    });
}

#[test]
fn an_emptied_directory_does_not_come_back_as_the_old_owner() {
    run(async {
        let mut cluster = Cluster::start(3);
        let db = client(&cluster).await;
        put_all(&db, 0..200, 1).await;
        wait_until_all_serve(&db).await;
        cluster.kill(0);
        fs::remove_dir_all(cluster.data(0)).expect("the directory can be removed");
        cluster.spawn(0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_all(&db, (0..200).map(|at| (at, 1)), Level::Quorum).await;
        let error = db.put("needs-all", "x").level(Level::All).await.expect_err("the stranger counts for nothing");
        assert!(matches!(error, Error::Unavailable(_) | Error::Timeout(_) | Error::QuorumTimeout(_)), "{error:?}");
        let logs: String = (0..3).map(|node| cluster.log(node)).collect();
        assert!(logs.contains("directory"), "no log names the reason:\n{logs}");
        // It does not even answer those who ask a single node: they would be told that nothing is there.
        for at in 0..200 {
            let found = db.get(key(at)).level(Level::One).await.expect("two nodes serve");
            assert!(found.is_some(), "key {at} is missing at one node");
        }
        db.close().await;
    });
}

#[test]
fn a_full_store_refuses_writes_and_goes_on_reading() {
    run(async {
        let lines = "max_bytes = 16777216".to_owned();
        let cluster = Cluster::start_with(&Options { nodes: 1, lines, ..Options::default() });
        let db = client(&cluster).await;
        let block = vec![7u8; 100 << 10];
        let mut stored = 0;
        let error = loop {
            match db.put(key(stored), block.clone()).await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
            assert!(stored < 1000, "100 MB went into 16 MiB");
        };
        assert_eq!(error.code(), "storage_full", "{error:?}");
        assert!(stored > 50, "only {stored} blocks of 100 KiB fitted into 16 MiB");
        for at in 0..stored {
            let found = db.get(key(at)).await.expect("reads go on").expect("it was acknowledged");
            assert_eq!(found.value().expect("one value").as_ref(), block);
        }
        db.delete(key(0)).await.expect("deletes go on");
        assert!(db.get(key(0)).await.expect("reads go on").is_none());
        db.close().await;
    });
}

#[test]
fn a_damaged_header_is_refused_at_start_with_a_reason_and_nothing_is_deleted() {
    let mut cluster = Cluster::start(1);
    assert!(cluster.stop(0).success());
    let file = data_files(cluster.data(0)).into_iter().next().expect("a store has a data file");
    let mut bytes = fs::read(&file).expect("the file reads");
    bytes[..64].fill(0xa5);
    // Both meta pages, or LMDB falls back to the other one.
    bytes[4096..4160].fill(0xa5);
    fs::write(&file, &bytes).expect("the file can be written");
    cluster.spawn(0);
    let status = cluster.wait_for_exit(0);
    assert!(!status.success(), "a node must not serve a damaged store");
    assert!(
        cluster.log(0).contains(&*file.parent().expect("a folder").to_string_lossy()),
        "the log does not name the store:\n{}",
        cluster.log(0)
    );
    assert_eq!(fs::read(&file).expect("the file reads"), bytes, "a refused file stays as it is");
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let cluster = Cluster::start(1);
    let configuration = cluster.data(0).with_extension("toml");
    let output = std::process::Command::new(quorate_tests::cluster::binary())
        .args(["serve", "--config"])
        .arg(&configuration)
        .output()
        .expect("the command runs");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("lock") || text.contains("in use"), "{text}");
}

/// The LMDB files of the shards below a data directory.
fn data_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder lists") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "data.mdb")
                && path.to_string_lossy().contains("shard")
            {
                found.push(path);
            }
        }
    }
    found
}
