//! Nodes that forget what they acknowledged, as real processes: an old copy of a data directory put back, a copy that runs beside the
//! original. Whoever remembers better refuses them, they stop with a code and a message of their own, and the others go on. A normal
//! restart, also one after kill -9, is never taken for that. The emptied directory stands in `failures.rs`; what forgetting would do to
//! versions, in `dynamo/tests/answers.rs`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use quorate::{Client, Level};
use quorate_tests::cluster::{Cluster, Options, binary};

/// How long one test may take: a test that hangs must fail.
const TEST_TIMEOUT: Duration = Duration::from_secs(180);

/// The exit code of a node that was refused because it has forgotten.
const EXIT_OLD_COPY: i32 = 11;

/// By then the others have made durable what they heard.
const REMEMBERED: Duration = Duration::from_millis(2_500);

fn run<T>(scenario: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(TEST_TIMEOUT, scenario).await.expect("the test ends in time") })
}

fn cluster() -> Cluster {
    Cluster::start_with(&Options { lines: "workers = 1".into(), ..Options::default() })
}

async fn client(cluster: &Cluster) -> Client {
    Client::builder()
        .endpoints(&cluster.endpoints())
        .timeout(Duration::from_secs(10))
        .connect()
        .await
        .expect("the client connects")
}

/// Writes keys at a level until it works; a node that was just started may need a moment.
async fn put_all(db: &Client, keys: std::ops::Range<usize>, level: Level) {
    let started = Instant::now();
    for at in keys {
        while let Err(error) = db.put(format!("key-{at}"), format!("value {at}")).level(level).await {
            assert!(started.elapsed() < Duration::from_secs(30), "{error:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn assert_all(db: &Client, keys: std::ops::Range<usize>) {
    for at in keys {
        let found = db.get(format!("key-{at}")).level(Level::Quorum).await.expect("two of three owners answer");
        let found = found.unwrap_or_else(|| panic!("key-{at} is lost"));
        assert!(
            found.siblings().iter().any(|sibling| sibling.value.as_ref() == format!("value {at}").as_bytes()),
            "key-{at}"
        );
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a folder can be listed") {
        let entry = entry.expect("an entry can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("an entry has a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}

/// Puts an old copy in the place of a node's directory, and keeps what stood there.
fn put_back(cluster: &Cluster, node: usize, copied: &Path) -> PathBuf {
    let kept = cluster.data(node).with_extension("later");
    fs::rename(cluster.data(node), &kept).expect("a folder can be moved");
    copy(copied, cluster.data(node));
    kept
}

fn assert_message(log: &str, expected: &[&str]) {
    for expected in ["node n3 is refused", "old copy", "empty directory", "replacement"].iter().chain(expected) {
        assert!(log.contains(expected), "{expected:?} is missing:\n{log}");
    }
}

#[test]
fn an_old_copy_of_a_directory_is_refused_and_the_others_go_on() {
    run(async {
        let mut cluster = cluster();
        let db = client(&cluster).await;
        put_all(&db, 0..100, Level::All).await;
        assert!(cluster.stop(2).success());
        let copied = cluster.data(2).with_extension("copy");
        copy(cluster.data(2), &copied);
        cluster.restart(2);
        put_all(&db, 100..200, Level::All).await;
        tokio::time::sleep(REMEMBERED).await;
        assert!(cluster.stop(2).success());

        let later = put_back(&cluster, 2, &copied);
        cluster.spawn(2);
        let status = cluster.wait_for_exit(2);
        assert_eq!(status.code(), Some(EXIT_OLD_COPY), "{}", cluster.log(2));
        assert_message(&cluster.log(2), &[]);
        put_all(&db, 200..250, Level::Quorum).await;
        assert_all(&db, 0..250).await;

        // The directory that remembers everything is welcome again.
        fs::remove_dir_all(cluster.data(2)).expect("a folder can be removed");
        fs::rename(later, cluster.data(2)).expect("a folder can be moved");
        cluster.restart(2);
        put_all(&db, 250..260, Level::All).await;
        assert_all(&db, 0..260).await;
        db.close().await;
    });
}

/// Its starts are counted in the directory, so an old copy that was started often enough looks like a restart by them. Its positions tell.
#[test]
fn an_old_copy_that_was_started_often_is_refused_by_its_positions() {
    run(async {
        let mut cluster = cluster();
        let db = client(&cluster).await;
        put_all(&db, 0..50, Level::All).await;
        assert!(cluster.stop(2).success());
        let copied = cluster.data(2).with_extension("copy");
        copy(cluster.data(2), &copied);
        cluster.restart(2);
        put_all(&db, 50..150, Level::All).await;
        tokio::time::sleep(REMEMBERED).await;
        db.close().await;
        (0..3).for_each(|node| assert!(cluster.stop(node).success()));

        put_back(&cluster, 2, &copied);
        // While nobody is there who remembers, it can't know.
        for _ in 0..3 {
            cluster.restart(2);
            assert!(cluster.stop(2).success());
        }
        (0..2).for_each(|node| cluster.restart(node));
        cluster.spawn(2);
        let status = cluster.wait_for_exit(2);
        assert_eq!(status.code(), Some(EXIT_OLD_COPY), "{}", cluster.log(2));
        assert_message(&cluster.log(2), &["changes durable, and this copy has only"]);
        let db = client(&cluster).await;
        assert_all(&db, 0..150).await;
        db.close().await;
    });
}

#[test]
fn a_copy_that_runs_beside_the_original_is_refused_and_the_original_goes_on() {
    run(async {
        let mut cluster = cluster();
        let db = client(&cluster).await;
        put_all(&db, 0..50, Level::All).await;
        assert!(cluster.stop(2).success());
        let copied = cluster.data(2).with_extension("copy");
        copy(cluster.data(2), &copied);
        cluster.restart(2);
        put_all(&db, 50..60, Level::All).await;

        let output = Command::new(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(cluster.data(2).with_extension("toml"))
            .arg("--data")
            .arg(&copied)
            .stdin(Stdio::null())
            .output()
            .expect("the quorate binary starts");
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(EXIT_OLD_COPY), "{log}");
        assert_message(&log, &["two processes run on copies of it"]);
        put_all(&db, 60..70, Level::All).await;
        assert_all(&db, 0..70).await;
        db.close().await;
    });
}

#[test]
fn a_restart_after_kill_9_is_never_refused() {
    run(async {
        let mut cluster = cluster();
        let db = client(&cluster).await;
        put_all(&db, 0..20, Level::All).await;
        for round in 0..6 {
            let node = round % 3;
            let writer = {
                let db = db.clone();
                tokio::spawn(async move {
                    put_all(&db, 1_000 * (round + 1)..1_000 * (round + 1) + 200, Level::Quorum).await
                })
            };
            tokio::time::sleep(Duration::from_millis(40 * round as u64)).await;
            cluster.kill(node);
            cluster.restart(node);
            writer.await.expect("writes go on");
        }
        put_all(&db, 20..40, Level::All).await;
        for node in 0..3 {
            assert!(!cluster.log(node).contains("refused:"), "{}", cluster.log(node));
        }
        db.close().await;
    });
}
