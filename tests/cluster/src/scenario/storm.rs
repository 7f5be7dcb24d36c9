//! Row "refresh-storm": a thousand clients, each with connections of its own, and two changes of the ring while they work: one that
//! touches no partition and one that moves most of them. Every client must learn of both, with one question each, and no node may feel
//! it as a storm.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use quorate::{Client, Level, NodeIndex};
use quorate_tests::cluster::Options;
use tokio::{
    sync::watch,
    task::{JoinHandle, block_in_place},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{Settings, progress};
use crate::{changing::Changing, figures::Finding, random::Random};

/// How often each client asks for something: a few thousand operations a second in all.
const THINK: Duration = Duration::from_millis(400);

/// How often the nodes' counters are read.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long all clients may take to learn of a change.
const LEARN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client waits at least between two questions of its own accord.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// Clients that connect at the same time.
const CONNECTING: usize = 50;

/// Keys.
const KEYS: u64 = 1_000;

/// Layouts told for each client and change, at most: one, and some that were asked for when two changes came close together.
const TOLD_MAX: f64 = 1.1;

/// What nodes have counted, and when.
#[derive(Clone, Copy, Debug)]
struct Count {
    at: Instant,
    asked: u64,
    told: u64,
    deltas: u64,
    bytes: u64,
}

/// What a client saw.
#[derive(Debug, Default)]
struct Seen {
    operations: u64,
    failed: u64,
    slowest: Duration,
}

/// Changes the ring under so many clients.
pub fn refresh_storm(settings: &Settings, clients: u64) -> Finding {
    settings.run(10, async {
        let mut ring = Changing::start(&Options::default());
        let watcher = ring.client(Duration::from_secs(10), 3).await;
        let all = connect(&ring, clients as usize).await;
        progress("refresh-storm", &format!("{clients} clients"));
        let (stop, stopped) = watch::channel(false);
        let work = |(at, client): (usize, &Client)| tokio::spawn(work(client.clone(), at as u64, stopped.clone()));
        let working: Vec<JoinHandle<Seen>> = all.iter().enumerate().map(work).collect();
        sleep(Duration::from_secs(3)).await;

        ring.ring(&["stage", "bucket", "carts", "--level", "quorum"]);
        let (bucket, bucket_is_good) = change(&ring, &watcher, &all, "a bucket changes").await;
        block_in_place(|| ring.cluster.join(0, "zone = \"z3\""));
        let (join, join_is_good) = change(&ring, &watcher, &all, "a node joins").await;
        block_in_place(|| ring.wait_until_settled(3));

        stop.send_replace(true);
        let (mut operations, mut failed, mut slowest) = (0, 0, Duration::ZERO);
        for client in working {
            let seen = client.await.expect("a client does not panic");
            operations += seen.operations;
            failed += seen.failed;
            slowest = slowest.max(seen.slowest);
        }
        join_all(all.iter().map(Client::close)).await;
        watcher.close().await;
        let seen =
            format!("{bucket}; {join}; {operations} operations, {failed} failed, the slowest took {slowest:.1?}");
        Finding::new(bucket_is_good && join_is_good && failed == 0, seen)
    })
}

/// Has what is staged decided, and counts until every client has the new layout.
async fn change(ring: &Changing, watcher: &Client, clients: &[Client], name: &str) -> (String, bool) {
    let before = count(watcher).await;
    let epoch = ring.commit(1).epoch;
    let decided = Instant::now();
    let mut counts = vec![before];
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while clients.iter().any(|client| client.ring().epoch < epoch) && decided.elapsed() < LEARN_TIMEOUT {
        ticks.tick().await;
        counts.push(count(watcher).await);
    }
    let learned = decided.elapsed();
    let ignorant = clients.iter().filter(|client| client.ring().epoch < epoch).count();
    let after = count(watcher).await;
    counts.push(after);
    let rate = |pair: &[Count]| {
        let seconds = pair[1].at.duration_since(pair[0].at).as_secs_f64().max(LOOK_EVERY.as_secs_f64());
        (pair[1].asked - pair[0].asked) as f64 / seconds
    };
    let peak = counts.windows(2).map(rate).fold(0.0, f64::max);
    let each = |count: u64| count as f64 / clients.len() as f64;
    let (asked, told) = (each(after.asked - before.asked), each(after.told - before.told));
    let seen = format!(
        "{name}: all but {ignorant} of {} clients knew after {learned:.1?}, {asked:.2} questions and {told:.2} layouts for each ({:.0} % as \
         deltas), {:.0} bytes for each, {peak:.0} questions a second at the peak of three nodes",
        clients.len(),
        100.0 * (after.deltas - before.deltas) as f64 / (after.told - before.told).max(1) as f64,
        each(after.bytes - before.bytes),
    );
    progress("refresh-storm", &seen);
    // Besides those that had a reason, every client asks of its own accord now and then.
    let by_itself = 1.5 * after.at.duration_since(before.at).as_secs_f64() / REFRESH_INTERVAL.as_secs_f64();
    (seen, ignorant == 0 && told <= TOLD_MAX && asked <= told + by_itself + 0.1)
}

async fn connect(ring: &Changing, count: usize) -> Vec<Client> {
    let mut all = Vec::new();
    while all.len() < count {
        let more = (0..CONNECTING.min(count - all.len())).map(|_| async {
            let builder = Client::builder().endpoints(&ring.cluster.running()).io_threads(1).attempts(2);
            builder.timeout(Duration::from_secs(5)).connect().await.expect("the nodes serve")
        });
        all.extend(join_all(more).await);
    }
    all
}

async fn work(client: Client, seed: u64, stopped: watch::Receiver<bool>) -> Seen {
    let (mut seen, mut random) = (Seen::default(), Random::new(seed));
    while !*stopped.borrow() {
        sleep(Duration::from_millis(random.below(2 * THINK.as_millis() as u64))).await;
        let (key, started) = (format!("k{}", random.below(KEYS)), Instant::now());
        let failed = match random.below(4) {
            0 => client.put(&key, "value").level(Level::Quorum).await.is_err(),
            _ => client.get(&key).lookup().await.is_err(),
        };
        seen.operations += 1;
        seen.failed += u64::from(failed);
        seen.slowest = seen.slowest.max(started.elapsed());
    }
    seen
}

/// What the first three nodes have counted together.
async fn count(watcher: &Client) -> Count {
    let mut count = Count { at: Instant::now(), asked: 0, told: 0, deltas: 0, bytes: 0 };
    for status in join_all((0..3).map(|node| watcher.status(NodeIndex(node)))).await {
        for counter in status.expect("a node tells its status").counters {
            match counter.name.as_str() {
                "layouts_asked_for" => count.asked += counter.value,
                "layouts_told" => count.told += counter.value,
                "layouts_told_as_deltas" => count.deltas += counter.value,
                "layouts_told_bytes" => count.bytes += counter.value,
                _ => {}
            }
        }
    }
    count
}
