//! Row "reconfigure": a ring of three grows by two, loses one of the first, has one replaced whose disk is gone and another given more to
//! carry, all with real data in it and clients that write at `quorum`. They may send each operation twice; none fails, no read is stale,
//! no acknowledged write is lost, the load is as even as the weights say, and no more has moved than had to.

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use dynamo::layout::{Layout, MemberState, NodeIndex};
use quorate::{Client, Level};
use quorate_history::{Report, Rules, check, print};
use quorate_tests::cluster::Options;
use tokio::task::block_in_place;

use super::{Settings, come_to_rest, debian, progress};
use crate::{
    changing::{Change, Changing},
    figures::Finding,
    recorder::Recorder,
    replicas::{self, Replica},
    workload::{BUCKET, Habits, Workload},
};

/// Keys of the clients whose history is checked.
pub(super) const KEYS: u64 = 200;

/// Time for an operation.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// An operation and one retry.
const ATTEMPTS: u32 = 2;

/// How far a node may be from its share by weight.
const BALANCE_MAX: f64 = 1.02;

/// What may move, as a multiple of what must.
const MOVED_MAX: f64 = 1.2;

/// The weight that one node has in the end, where all others have 100. With four nodes and N = 3 none can carry more than a third.
const WEIGHT: &str = "130";

/// Changes a ring of up to `records` records in all the ways there are.
pub fn reconfigure(settings: &Settings, records: u64) -> Finding {
    let (index, source) = debian::index(records as usize);
    settings.run(20, async {
        let mut ring = Changing::start(&Options::default());
        let loader = ring.client(Duration::from_secs(10), 3).await;
        debian::load(&loader, &index).await;
        progress("reconfigure", &format!("{} records put", index.len()));
        let clients = [ring.client(TIMEOUT, ATTEMPTS).await, ring.client(TIMEOUT, ATTEMPTS).await];
        let workload = work(&clients, settings.seed);
        let mut changes = Vec::new();
        let mut change = |name: &'static str, change: Change, started: Instant| {
            progress("reconfigure", &format!("{name}: {change:?} took {:.1?}", started.elapsed()));
            changes.push((name, change, started.elapsed()));
        };

        let started = Instant::now();
        block_in_place(|| [1, 2].map(|zone| ring.cluster.join(0, &format!("zone = \"z{}\"", zone + 2))));
        change("two join", ring.commit_and_wait(2), started);

        let started = Instant::now();
        ring.ring(&["stage", "leave", "n1"]);
        change("one leaves", ring.commit_and_wait(1), started);
        let ended = block_in_place(|| ring.cluster.stop(0));
        assert!(ended.success(), "n1 has left and ends well: {ended}");

        let started = Instant::now();
        ring.cluster.kill(1);
        fs::remove_dir_all(ring.cluster.data(1)).expect("the directory of a node that is dead can be removed");
        block_in_place(|| ring.cluster.join(2, "replaces = \"n2\""));
        change("one is replaced", ring.commit_and_wait(1), started);

        let started = Instant::now();
        ring.ring(&["stage", "reweight", "n3", WEIGHT]);
        change("one gets more", ring.commit_and_wait(1), started);

        let (recorder, tally) = workload.finish().await;
        let read = debian::read_all(&clients[0], &index).await;
        let rest = come_to_rest(&clients[0], KEYS).await;
        let layout = clients[0].ring();
        let epochs: Vec<u64> = clients.iter().map(|client| client.ring().epoch).collect();
        for client in clients.iter().chain([&loader]) {
            client.close().await;
        }
        let (report, leftovers) = conclude("reconfigure", settings, &mut ring, &layout, &recorder);
        let balance = balance(&layout);
        let (moved, bound) = changes.iter().fold((0, 0), |(moved, bound), (_, change, _)| {
            (moved + change.moved, bound + change.moved_bound)
        });
        let ratio = moved as f64 / bound.max(1) as f64;
        let failed = tally.failed_count();
        let is_good = failed == 0
            && report.is_clean()
            && read.right == index.len()
            && balance <= BALANCE_MAX
            && ratio <= MOVED_MAX
            && leftovers == 0
            && epochs.iter().all(|epoch| *epoch == layout.epoch);
        let told = changes.iter().map(|(name, change, took)| {
            format!("{name} (epoch {}, {} copies of partitions, {took:.1?})", change.epoch, change.moved)
        });
        let seen = format!(
            "{} records of {source}; {}; {report}; failed: {}; {read}; fullest node {balance:.3} of its share by weight; moved {ratio:.3} of \
             the bound; {leftovers} records left at former owners; {rest}",
            index.len(),
            told.collect::<Vec<_>>().join(", "),
            if failed == 0 { "none".to_owned() } else { tally.failures() },
        );
        Finding::new(is_good, seen)
    })
}

/// Clients that read and write at `quorum`.
pub(super) fn work(clients: &[Client], seed: u64) -> Workload {
    let (level, pause) = (Level::Quorum, Duration::from_millis(1));
    let habits = Habits { level, keys: KEYS, reads_percent: 40, value_bytes_max: 600, pause };
    Workload::start(clients, 0..12, TIMEOUT, habits, Arc::<Recorder>::default(), seed)
}

/// Ends all nodes, reads the disks of those that own something, and checks the history with that; and how many records lie where nobody
/// owns them any more. What is wrong is kept.
pub(super) fn conclude(
    name: &str,
    settings: &Settings,
    ring: &mut Changing,
    layout: &Layout,
    recorder: &Recorder,
) -> (Report, usize) {
    let count = ring.cluster.nodes();
    for node in (0..count).filter(|node| layout_place(layout, *node).is_some()) {
        let status = block_in_place(|| ring.cluster.stop(node));
        assert!(status.success(), "n{} ended with {status}:\n{}", node + 1, ring.cluster.log(node));
    }
    let held: Vec<Replica> = (0..count)
        .map(|node| match layout_place(layout, node).and_then(|place| layout.member(place)) {
            Some(member) => replicas::read_of(ring.cluster.data(node), member.id).expect("a stopped node can be read"),
            None => Replica::default(),
        })
        .collect();
    let leftovers = held.iter().enumerate().map(|(node, replica)| leftovers(layout, node, replica)).sum();
    let names: Vec<String> = (0..KEYS).map(|key| format!("k{key}")).collect();
    recorder.add(replicas::finals(&held, layout, names.iter().map(String::as_str), BUCKET, recorder.now()));
    let history = recorder.history();
    let report = check(&history, &Rules { replicas: usize::from(layout.replicas), bytes_equal: true });
    if !report.is_clean() || leftovers > 0 {
        let folder = settings.keep.join(format!("{name}-{}", settings.seed));
        let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("history.jsonl"), print(&history)));
        kept.expect("the history can be kept");
        for node in 0..count {
            fs::write(folder.join(format!("n{}.log", node + 1)), ring.cluster.log(node)).expect("a log can be kept");
        }
    }
    (report, leftovers)
}

/// The place of the test's node of this number, if it is an active member.
fn layout_place(layout: &Layout, node: usize) -> Option<NodeIndex> {
    let name = format!("n{}", node + 1);
    let found = (0..).zip(&layout.members).find(|(_, member)| member.name == name)?;
    (found.1.state == MemberState::Active).then_some(NodeIndex(found.0))
}

/// Records that a node holds of partitions that are others'.
fn leftovers(layout: &Layout, node: usize, replica: &Replica) -> usize {
    let Some(place) = layout_place(layout, node) else { return 0 };
    let is_owned = |partition: u32| layout.owners(partition).any(|owner| owner == place);
    replica.records.keys().filter(|key| !is_owned(layout.partition(&key.id()))).count()
}

/// How full the fullest node is, or how empty the emptiest, as a ratio of its share by weight that is at least 1.
fn balance(layout: &Layout) -> f64 {
    let mut owned: BTreeMap<NodeIndex, u32> = BTreeMap::new();
    for owner in (0..layout.partitions()).flat_map(|partition| layout.owners(partition)) {
        *owned.entry(owner).or_default() += 1;
    }
    let active = layout.members.iter().filter(|member| member.state == MemberState::Active);
    let weights: u32 = active.map(|member| member.weight).sum();
    let slots: u32 = owned.values().sum();
    let ratios = owned.iter().filter_map(|(node, count)| {
        let share = f64::from(slots) * f64::from(layout.member(*node)?.weight) / f64::from(weights);
        Some((f64::from(*count) / share).max(share / f64::from(*count)))
    });
    ratios.fold(1.0, f64::max)
}
