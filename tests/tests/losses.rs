//! More is lost than a quorum can spare: two of three owners are destroyed, disks and all. Nothing is given up without consent
//! (`--accept-loss`), and then the ring goes on with what the third one has.

use std::{
    fs,
    process::{Command, Output},
    time::{Duration, Instant},
};

use quorate::{Client, Level};
use quorate_tests::cluster::{Cluster, binary};
use serde_json::Value;

/// How long anything may take: a test that hangs must fail.
const PATIENCE: Duration = Duration::from_secs(120);

/// The exit code of a change that was refused.
const EXIT_REFUSED: i32 = 8;

const KEYS: usize = 300;

fn ring(cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("ring").args(arguments).args(["--endpoints", &cluster.running()]).output().expect("the binary runs")
}

/// Runs a command until it succeeds and says something.
fn wait_for(cluster: &Cluster, arguments: &[&str], what: &str) -> String {
    let started = Instant::now();
    loop {
        let output = ring(cluster, arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && said.contains(what) {
            return said;
        }
        assert!(started.elapsed() < PATIENCE, "{arguments:?} never says {what:?}: {output:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What is staged, as a plan.
fn planned(cluster: &Cluster) -> Value {
    let said = wait_for(cluster, &["plan", "--output", "json"], "\"hash\"");
    let staging: Value = serde_json::from_str(&said).expect("a plan is JSON");
    staging["plan"].clone()
}

async fn client(cluster: &Cluster) -> Client {
    let builder = Client::builder().endpoints(&cluster.running()).timeout(Duration::from_secs(10));
    builder.connect().await.expect("the client connects")
}

#[test]
fn two_of_three_owners_are_destroyed_and_what_the_third_has_is_kept() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(destroy_two());
}

async fn destroy_two() {
    let mut cluster = Cluster::start(5);
    let db = client(&cluster).await;
    let started = Instant::now();
    for at in 0..KEYS {
        while let Err(error) = db.put(format!("key-{at}"), format!("value {at}")).level(Level::All).await {
            assert!(started.elapsed() < PATIENCE, "{error}");
        }
    }
    db.close().await;
    for node in [3, 4] {
        cluster.kill(node);
        fs::remove_dir_all(cluster.data(node)).expect("a dead node's directory can be removed");
    }
    let mut newcomers = Vec::new();
    for (old, zone) in [("n4", "zone = \"z3\""), ("n5", "zone = \"z4\"")] {
        let new = format!("n{}", cluster.join(0, zone) + 1);
        wait_for(&cluster, &["plan"], &format!("{new} joins"));
        newcomers.push((old, new));
    }
    // Beside the dead nodes the newcomers would be of no use to operations at `quorum`, and the plan says so.
    let joining = planned(&cluster);
    let missing = |plan: &Value, when: &str| plan[format!("partitions_unavailable_{when}")].as_u64().expect("a number");
    assert!(missing(&joining, "on_the_way") >= missing(&joining, "now") && missing(&joining, "now") > 0, "{joining}");
    for (old, new) in newcomers {
        let staged = ring(&cluster, &["stage", "replace", old, &new, "--accept-loss"]);
        assert!(staged.status.success(), "{staged:?}");
    }
    let plan = planned(&cluster);
    assert!(plan["partitions_below_quorum"].as_u64() > Some(0) && plan["partitions_orphaned"] == 0, "{plan}");
    assert!(missing(&plan, "now") > 0 && missing(&plan, "on_the_way") == 0, "nobody waits for who is given up: {plan}");
    let (epoch, hash) = (plan["epoch"].to_string(), plan["hash"].as_str().expect("a plan has a hash"));

    let commit = ["commit", "--epoch", &epoch, "--plan", hash];
    let refused = ring(&cluster, &commit);
    assert_eq!(refused.status.code(), Some(EXIT_REFUSED), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--accept-loss"), "{refused:?}");
    let wait = ["--accept-loss", "--wait", "--patience", "100s"];
    let done = ring(&cluster, &[&commit[..], &wait].concat());
    assert!(done.status.success(), "{done:?}");

    let db = client(&cluster).await;
    for at in 0..KEYS {
        let found = db.get(format!("key-{at}")).level(Level::Quorum).await.expect("two of three owners answer");
        let found = found.unwrap_or_else(|| panic!("key-{at} is lost"));
        assert_eq!(found.value().expect("it has one value"), format!("value {at}").as_bytes());
        db.put(format!("key-{at}"), "again")
            .context(found.context())
            .level(Level::All)
            .await
            .expect("all three answer");
    }
    db.close().await;
}
