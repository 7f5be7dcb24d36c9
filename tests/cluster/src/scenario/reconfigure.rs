//! Row "reconfigure": a ring of three grows by two, loses one of the first, has one replaced whose disk is gone and another given more to
//! carry, all with real data in it and clients that write at `quorum`. They may send each operation twice; none fails, no read is stale,
//! no acknowledged write is lost, the load is as even as the weights say, and no more has moved than had to: neither by the plans nor by
//! the bytes that nodes have counted.

use std::{
    collections::BTreeMap,
    fmt, fs,
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
    changing::{Change, Changing, Received},
    figures::Finding,
    recorder::Recorder,
    replicas::{self, Replica},
    workload::{BUCKET, Habits, Workload},
};

/// Keys of the clients whose history is checked.
pub(super) const KEYS: u64 = 200;

/// Time for an operation.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Time for one of a thousand records that are put together before it begins.
pub(super) const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// An operation and one retry.
const ATTEMPTS: u32 = 2;

/// How far a node may be from its share by weight.
const BALANCE_MAX: f64 = 1.02;

/// What may move, as a multiple of what must.
const MOVED_MAX: f64 = 1.2;

/// The weight that one node has in the end, where all others have 100. With four nodes and N = 3 none can carry more than a third.
const WEIGHT: &str = "130";

/// The node that leaves: one of the first.
const LEAVER: usize = 0;

/// A change that is over.
struct Done {
    name: &'static str,
    change: Change,
    /// Bytes of records that nodes received for it.
    received: u64,
    took: Duration,
}

/// What the disks say in the end.
pub(super) struct Concluded {
    /// What the checker says of the history.
    pub(super) report: Report,
    /// Records where nobody owns them any more.
    pub(super) leftovers: usize,
    /// Bytes of records in one copy of a partition, on the average.
    pub(super) copy_bytes: f64,
}

/// Changes a ring of up to `records` records in all the ways there are.
pub fn reconfigure(settings: &Settings, records: u64) -> Finding {
    let (index, source) = debian::index(records as usize);
    settings.run(20, async {
        let mut ring = Changing::start(&Options::default());
        let loader = ring.client(LOAD_TIMEOUT, 3).await;
        debian::load(&loader, &index).await;
        progress("reconfigure", &format!("{} records put", index.len()));
        let clients = [ring.client(TIMEOUT, ATTEMPTS).await, ring.client(TIMEOUT, ATTEMPTS).await];
        let workload = work(&clients, settings.seed);
        let changes = block_in_place(|| change_all(&mut ring));

        let (recorder, tally) = workload.finish().await;
        let read = debian::read_all(&clients[0], &index).await;
        let rest = come_to_rest(&clients[0], KEYS).await;
        let layout = clients[0].ring();
        let epochs: Vec<u64> = clients.iter().map(|client| client.ring().epoch).collect();
        for client in clients.iter().chain([&loader]) {
            client.close().await;
        }
        let Concluded { report, leftovers, copy_bytes } =
            conclude("reconfigure", settings, &mut ring, &layout, &recorder);
        let leftovers = leftovers + left_by(&ring, &layout, LEAVER);
        let balance = balance(&layout);
        let sum = |count: fn(&Done) -> u64| changes.iter().map(count).sum::<u64>() as f64;
        let bound = sum(|done| done.change.moved_bound).max(1.0);
        let ratio = sum(|done| done.change.moved) / bound;
        let received = sum(|done| done.received);
        let bytes_ratio = received / (bound * copy_bytes);
        let failed = tally.failed_count();
        let is_good = failed == 0
            && report.is_clean()
            && read.right == index.len()
            && balance <= BALANCE_MAX
            && ratio <= MOVED_MAX
            && bytes_ratio <= MOVED_MAX
            && leftovers == 0
            && epochs.iter().all(|epoch| *epoch == layout.epoch);
        let told: Vec<String> = changes.iter().map(Done::to_string).collect();
        let seen = format!(
            "{} records of {source}; {}; {report}; failed: {}; {read}; fullest node {balance:.3} of its share by weight; moved {ratio:.3} of \
             the bound, by bytes received {bytes_ratio:.3} ({:.1} MB); {leftovers} records left at former owners; {rest}",
            index.len(),
            told.join(", "),
            if failed == 0 { "none".to_owned() } else { tally.failures() },
            received / 1e6,
        );
        Finding::new(is_good, seen)
    })
}

/// Changes the ring in all the ways there are, one after the other.
fn change_all(ring: &mut Changing) -> Vec<Done> {
    let mut changes = Vec::new();
    let mut settle = |ring: &Changing, name: &'static str, staged: usize, started: Instant| {
        let mut received = Received::default();
        received.look(&ring.standing());
        let before = received.total();
        let change = ring.commit_and_wait(staged);
        received.look(&ring.standing());
        let done = Done { name, change, received: received.total() - before, took: started.elapsed() };
        progress("reconfigure", &done.to_string());
        changes.push(done);
    };

    let started = Instant::now();
    for zone in ["zone = \"z3\"", "zone = \"z4\""] {
        ring.cluster.join(0, zone);
    }
    settle(ring, "two join", 2, started);

    let started = Instant::now();
    ring.ring(&["stage", "leave", &format!("n{}", LEAVER + 1)]);
    settle(ring, "one leaves", 1, started);
    let ended = ring.cluster.stop(LEAVER);
    assert!(ended.success(), "n1 has left and ends well: {ended}");

    // Its disk is gone: another one comes on an empty directory, under an identity of its own, and is given the dead one's place.
    let started = Instant::now();
    ring.cluster.kill(1);
    fs::remove_dir_all(ring.cluster.data(1)).expect("the directory of a node that is dead can be removed");
    let newcomer = format!("n{}", ring.cluster.join(2, "zone = \"z1\"") + 1);
    ring.plan(1);
    let (answer, is_staged) = ring.ring(&["stage", "replace", "n2", &newcomer]);
    assert!(is_staged, "{newcomer} can't replace n2: {answer}");
    settle(ring, "one is replaced", 1, started);

    let started = Instant::now();
    ring.ring(&["stage", "reweight", "n3", WEIGHT]);
    settle(ring, "one gets more", 1, started);
    changes
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
) -> Concluded {
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
    let bytes: usize = held.iter().flat_map(|replica| replica.records.values()).map(bytes::Bytes::len).sum();
    let copies = f64::from(layout.partitions()) * f64::from(layout.replicas);
    Concluded { report, leftovers, copy_bytes: bytes as f64 / copies }
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, change, received, took } = self;
        let (epoch, moved, megabytes) = (change.epoch, change.moved, *received as f64 / 1e6);
        write!(formatter, "{name} (epoch {epoch}, {moved} copies of partitions, {megabytes:.1} MB, {took:.1?})")
    }
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

/// Records on the disk of a node that has left and has ended.
fn left_by(ring: &Changing, layout: &Layout, node: usize) -> usize {
    let name = format!("n{}", node + 1);
    let member = layout.members.iter().find(|member| member.name == name).expect("its place is not given away yet");
    assert!(member.state != MemberState::Active, "{name} has left");
    replicas::read_of(ring.cluster.data(node), member.id).expect("a stopped node can be read").records.len()
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
