//! Row "debian": real data, the package index of Debian. A part of one node's records is damaged where it lies, and every record
//! must be read right all the same; one scrub must find all of them and they must be repaired; the same with another node
//! away; and a node whose directory was emptied must not come back as the owner it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::ident::StoreKey;
use quorate::{Client, Error, Level};
use quorate_tests::{cluster::Options, repository};
use tokio::time::sleep;

use super::{
    Settings, progress,
    rest::{ask_to_repair, place},
};
use crate::{damage, figures::Finding, proxied::Proxied, random::Random, replicas, workload::BUCKET};

/// Time for an operation.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Records that are written and read together.
const BATCH: usize = 1_000;

/// How long a scrub and what it finds may take.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(120);

/// How long nodes that have just started may take until all know each other, on a machine that may be busy.
const MEETING_TIMEOUT: Duration = Duration::from_secs(20);

/// So many records have every node among their coordinators.
const MEETING: usize = 64;

/// One record of so many is damaged.
const DAMAGED_ONE_IN: usize = 100;

/// What was put under each key.
pub(super) type Index = BTreeMap<String, Bytes>;

/// What reading everything showed.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) right: usize,
    /// A typed error.
    failed: usize,
    /// The first of them.
    first_error: Option<String>,
    /// Other bytes than were put, or none.
    wrong: Vec<String>,
}

/// Puts up to `most` records and does harm to them.
pub fn debian(settings: &Settings, most: u64) -> Finding {
    let (index, source) = index(most as usize);
    settings.run(12, async {
        let mut cluster = Proxied::start(Options::default());
        let client = cluster.client(TIMEOUT, 3).await;
        let started = Instant::now();
        load(&client, &index).await;
        progress("debian", &format!("{} records put after {:.1?}", index.len(), started.elapsed()));
        let mut steps = Vec::new();
        let is_good = damage_one(settings, &mut cluster, &client, &index, &mut steps).await
            && damage_with_another_away(settings, &mut cluster, &client, &index, &mut steps).await
            && empty_one(&mut cluster, &client, &index, &mut steps).await;
        client.close().await;
        Finding::new(is_good, format!("{} records of {source}: {}", index.len(), steps.join("; ")))
    })
}

/// One node's records are damaged; all nodes are there.
async fn damage_one(
    settings: &Settings,
    cluster: &mut Proxied,
    client: &Client,
    index: &Index,
    steps: &mut Vec<String>,
) -> bool {
    let damaged = harm(cluster, 0, index, settings.seed);
    let read = read_all(client, index).await;
    steps.push(format!("{} damaged on n1: {read}", damaged.len()));
    let is_right = read.right == index.len();
    is_right && scrub_and_wait(cluster, client, 0, &damaged, steps).await
}

/// One node's records are damaged while another one is away.
async fn damage_with_another_away(
    settings: &Settings,
    cluster: &mut Proxied,
    client: &Client,
    index: &Index,
    steps: &mut Vec<String>,
) -> bool {
    let damaged = harm(cluster, 1, index, settings.seed + 1);
    assert!(cluster.stop(2).success(), "n3 ends when it is told to");
    let read = read_all(client, index).await;
    steps.push(format!("{} damaged on n2 while n3 is away: {read}", damaged.len()));
    cluster.restart(2);
    let is_right = read.wrong.is_empty() && scrub_and_wait(cluster, client, 1, &damaged, steps).await;
    let again = read_all(client, index).await;
    steps.push(format!("with all back: {again}"));
    is_right && again.right == index.len()
}

/// One node loses its directory.
async fn empty_one(cluster: &mut Proxied, client: &Client, index: &Index, steps: &mut Vec<String>) -> bool {
    cluster.kill(2);
    fs::remove_dir_all(cluster.data(2)).expect("the directory of a node that is dead can be removed");
    cluster.spawn(2);
    sleep(Duration::from_secs(2)).await;
    let read = read_all(client, index).await;
    let at_quorum = client.put("after the loss", "x").level(Level::Quorum).await.is_ok();
    let at_all = client.put("after the loss", "y").level(Level::All).await.is_ok();
    steps.push(format!(
        "n3's directory emptied: {read}, a put at quorum {}, one at all {}",
        if at_quorum { "succeeds" } else { "FAILS" },
        if at_all { "SUCCEEDS" } else { "fails" }
    ));
    read.right == index.len() && at_quorum && !at_all
}

/// Damages one record in a hundred of a node; which.
fn harm(cluster: &mut Proxied, node: usize, index: &Index, seed: u64) -> BTreeSet<StoreKey> {
    assert!(cluster.stop(node).success(), "a node ends when it is told to");
    let held = replicas::read(cluster.data(node), node).expect("a stopped node's directory can be read");
    let mut random = Random::new(seed);
    let count = (index.len() / DAMAGED_ONE_IN).max(1);
    let keys: Vec<&String> = index.keys().collect();
    let chosen: BTreeSet<StoreKey> =
        (0..count).map(|_| StoreKey::of(BUCKET.as_bytes(), random.choose(&keys).as_bytes())).collect();
    let chosen: Vec<StoreKey> = chosen.into_iter().filter(|key| held.records.contains_key(key)).collect();
    let harmed =
        damage::records(cluster.data(node), &held.records, &chosen, &mut random).expect("files can be changed");
    assert_eq!(harmed.len(), chosen.len(), "not every record was found on the disk");
    cluster.restart(node);
    harmed.into_iter().collect()
}

/// Has every node verify its records once, and waits until all that was damaged is sound on its disk again.
async fn scrub_and_wait(
    cluster: &mut Proxied,
    client: &Client,
    node: usize,
    damaged: &BTreeSet<StoreKey>,
    steps: &mut Vec<String>,
) -> bool {
    let started = Instant::now();
    if !ask_to_repair(client, true).await {
        steps.push("the nodes can't scrub and repair yet".to_owned());
        return false;
    }
    let mut seen = "no answer".to_owned();
    loop {
        if let Ok(status) = client.node(place(client, node)).repair_status().await {
            let rebuilt = status.tasks.iter().find(|task| task.name == "rebuild").map_or(0, |task| task.repaired);
            seen = format!("{rebuilt} rebuilt, {} unreadable", status.unreadable);
            let scrub = status.tasks.iter().find(|task| task.name == "scrub");
            let has_ended = scrub.is_some_and(|task| {
                let ago = task.last_milliseconds_ago.map(Duration::from_millis);
                task.state == "idle" && ago.is_some_and(|ago| ago < started.elapsed())
            });
            if status.unreadable == 0 && has_ended {
                break;
            }
        }
        if started.elapsed() > REPAIR_TIMEOUT {
            steps.push(format!("not repaired after {REPAIR_TIMEOUT:?}: {seen}"));
            return false;
        }
        sleep(Duration::from_millis(200)).await;
    }
    let took = started.elapsed();
    assert!(cluster.stop(node).success(), "a node ends when it is told to");
    let held = replicas::read(cluster.data(node), node).expect("a stopped node's directory can be read");
    cluster.restart(node);
    let missing = damaged.iter().filter(|key| !held.records.contains_key(key)).count();
    steps.push(format!("one scrub: {seen}, {missing} damaged records left on disk, after {took:.1?}"));
    missing == 0 && held.unreadable.is_empty()
}

pub(super) async fn load(client: &Client, index: &Index) {
    let entries: Vec<(&String, &Bytes)> = index.iter().collect();
    // Nodes whose first connections broke when the proxies learned who is who dial again after a pause.
    let started = Instant::now();
    while let Err(error) = put_all(client, &entries[..entries.len().min(MEETING)]).await {
        assert!(started.elapsed() < MEETING_TIMEOUT, "the nodes do not meet: {error}");
        sleep(Duration::from_millis(50)).await;
    }
    for batch in entries.chunks(BATCH) {
        put_all(client, batch).await.expect("all nodes are well");
    }
}

async fn put_all(client: &Client, entries: &[(&String, &Bytes)]) -> Result<(), Error> {
    let entries = entries.iter().map(|(key, value)| (key.as_bytes().to_vec(), (*value).clone()));
    client.put_many(entries).level(Level::All).await.into_iter().try_for_each(|stored| stored.map(drop))
}

pub(super) async fn read_all(client: &Client, index: &Index) -> Read {
    let entries: Vec<(&String, &Bytes)> = index.iter().collect();
    let mut read = Read::default();
    for batch in entries.chunks(BATCH) {
        let found = client.get_many(batch.iter().map(|(key, _)| key.as_bytes().to_vec())).level(Level::Quorum).await;
        for ((key, value), found) in batch.iter().zip(found) {
            match found {
                Ok(Some(found)) if found.value().is_ok_and(|got| got == *value) => read.right += 1,
                Ok(_) => read.wrong.push((*key).clone()),
                Err(error) => {
                    read.failed += 1;
                    read.first_error.get_or_insert_with(|| error.to_string());
                }
            }
        }
    }
    read
}

/// The records of the index: of a file that is there, of this machine's package lists, or made up in the same shape.
pub(super) fn index(most: usize) -> (Index, &'static str) {
    let given = std::env::var("QUORATE_DEBIAN").ok().and_then(|path| fs::read_to_string(Path::new(&path)).ok());
    let of_lists = || {
        let made = std::process::Command::new(repository::root().join("bench/debian-index")).output().ok()?;
        (made.status.success() && !made.stdout.is_empty()).then(|| String::from_utf8(made.stdout).ok())?
    };
    let parse = |text: String| {
        let line = |line: &str| -> Option<(String, Bytes)> {
            let entry: serde_json::Value = serde_json::from_str(line).ok()?;
            Some((entry["key"].as_str()?.to_owned(), Bytes::from(entry["value"].as_str()?.to_owned())))
        };
        let index: Index = text.lines().filter_map(line).collect();
        // Spread over the whole, if not all are taken.
        let step = (index.len() / most.max(1)).max(1);
        index.into_iter().step_by(step).take(most).collect::<Index>()
    };
    match given.or_else(of_lists).map(parse).filter(|index| !index.is_empty()) {
        Some(index) => (index, "the Debian package index"),
        None => ((0..most).map(made_up).collect(), "a made-up package index (no package lists here)"),
    }
}

fn made_up(number: usize) -> (String, Bytes) {
    let mut random = Random::new(number as u64);
    let mut text = format!("Package: package-{number}\nVersion: {}.{}\nDepends:", random.below(9), random.below(99));
    for _ in 0..random.below(60) {
        text += &format!(" library-{} (>= {}),", random.below(5_000), random.below(40));
    }
    (format!("package-{number}/1.0/amd64"), Bytes::from(text))
}

impl std::fmt::Display for Read {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { right, failed, first_error, wrong } = self;
        write!(formatter, "{right} read right, {failed} typed errors, {} wrong or missing", wrong.len())?;
        wrong.first().map_or(Ok(()), |key| write!(formatter, " such as {key}"))?;
        first_error.as_ref().map_or(Ok(()), |error| write!(formatter, " (the first error: {error})"))
    }
}
