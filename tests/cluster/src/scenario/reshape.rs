//! Row "reshape": the shape of a ring that serves is changed: twice as many partitions, two owners for each key instead of three and three
//! again, two administrators who commit at the same time, and a node that was away while the ring changed more often than anybody
//! remembers. Clients write at `quorum` all the while; nothing fails, nothing is lost.

use std::{
    fmt,
    time::{Duration, Instant},
};

use quorate::Client;
use quorate_tests::cluster::Options;
use tokio::{task::block_in_place, time::sleep};

use super::{
    Settings, come_to_rest, debian, progress,
    reconfigure::{Concluded, KEYS, LOAD_TIMEOUT, TIMEOUT, conclude, work},
};
use crate::{
    changing::{Changing, Ran},
    figures::Finding,
    random::Random,
};

/// Records besides those that the clients write.
const RECORDS: usize = 10_000;

/// Three attempts, as a client has them that was told nothing: nodes are stopped in order here, never killed.
const ATTEMPTS: u32 = 3;

/// So many nodes: one may be away, and three owners remain for every key.
const NODES: usize = 4;

/// Who is away.
const ABSENT: usize = 3;

/// More than the layouts that nodes keep although nobody needs them.
const CHANGES_MISSED: u64 = 36;

/// How long one that was replaced may take until it knows.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(60);

/// What a node says that was replaced while it was away, and that nobody could tell any more how that came.
const TAKEN_OUT: [&str; 2] = ["has left the ring", "the layouts between are forgotten everywhere"];

/// The exit code of whoever was second.
const EXIT_REFUSED: i32 = 8;

/// What came of two administrators.
#[derive(Clone, Debug, Default)]
struct Contests {
    rounds: u64,
    /// Rounds in which both were told that theirs is decided: that must not be.
    both: u64,
    /// Rounds in which both were told to look at their plans again, because what is staged changed under them.
    neither: u64,
    /// Of those who were told that theirs is not decided: those who learned what was decided instead, and those whose plan was out of date.
    conflicts: u64,
    outdated: u64,
    /// Those who were told nothing of what to do.
    at_a_loss: u64,
}

/// Changes the shape of a ring, and lets so many times two administrators commit at once.
pub fn reshape(settings: &Settings, contests: u64) -> Finding {
    let (index, source) = debian::index(RECORDS);
    settings.run(20, async {
        let mut ring = Changing::start(&Options { nodes: NODES, ..Options::default() });
        let clients = [ring.client(TIMEOUT, ATTEMPTS).await, ring.client(TIMEOUT, ATTEMPTS).await];
        let loader = ring.client(LOAD_TIMEOUT, ATTEMPTS).await;
        debian::load(&loader, &index).await;
        loader.close().await;
        let workload = work(&clients, settings.seed);
        let (mut random, mut steps) = (Random::new(settings.seed), Vec::new());
        let bits = clients[0].ring().partition_bits;
        let doubled = (1_u32 << (bits + 1)).to_string();
        for (name, change) in [
            ("twice as many partitions", ["stage", "partitions", &doubled]),
            ("two owners", ["stage", "replicas", "2"]),
            ("three owners", ["stage", "replicas", "3"]),
        ] {
            steps.push(block_in_place(|| step(&ring, name, &change)));
        }
        let contests = contest_all(&ring, contests, &mut random).await;
        progress("reshape", &contests.to_string());
        let away = be_away(&mut ring).await;
        progress("reshape", &away);
        let replaced = be_replaced(&mut ring).await;
        progress("reshape", &replaced);
        let (recorder, tally) = workload.finish().await;
        let read = debian::read_all(&clients[0], &index).await;
        let rest = come_to_rest(&clients[0], KEYS).await;
        let layout = newest(&clients[0]).await;
        for client in &clients {
            client.close().await;
        }
        let Concluded { report, leftovers, .. } = conclude("reshape", settings, &mut ring, &layout, &recorder);
        let failed = tally.failed_count();
        let is_good = failed == 0
            && report.is_clean()
            && read.right == index.len()
            && leftovers == 0
            && (layout.partition_bits, layout.replicas) == (bits + 1, 3)
            && contests.is_good();
        let seen = format!(
            "{} records of {source}; {}; {contests}; {away}; {replaced}; {report}; failed: {}; {read}; {leftovers} records left at former owners; {rest}",
            index.len(),
            steps.join(", "),
            if failed == 0 { "none".to_owned() } else { tally.failures() },
        );
        Finding::new(is_good, seen)
    })
}

/// One change, until nothing moves any more.
fn step(ring: &Changing, name: &str, change: &[&str]) -> String {
    let started = Instant::now();
    let (answer, is_staged) = ring.ring(change);
    assert!(is_staged, "{name}: {answer}");
    let change = ring.commit_and_wait(1);
    let told =
        format!("{name} (epoch {}, {} copies of partitions, {:.1?})", change.epoch, change.moved, started.elapsed());
    progress("reshape", &told);
    told
}

async fn contest_all(ring: &Changing, rounds: u64, random: &mut Random) -> Contests {
    let mut contests = Contests { rounds, ..Contests::default() };
    for round in 0..rounds {
        let epoch = contests.add(ring, round, random).await;
        block_in_place(|| ring.wait_until_settled(epoch));
    }
    contests
}

impl Contests {
    /// One administrator has looked at a plan; another stages more and looks at his. Both commit, each through another node; whether what
    /// the second staged is taken back in the middle of it is left to chance. The epoch that was decided.
    async fn add(&mut self, ring: &Changing, round: u64, random: &mut Random) -> u64 {
        let endpoints = [0, 1].map(|node| ring.cluster.address(node).to_string());
        let (weight, bucket) = (["110", "100"][(round % 2) as usize], format!("of-round-{round}"));
        ring.ring(&["stage", "reweight", "n1", weight]);
        let first = ring.plan(1);
        ring.ring(&["stage", "bucket", &bucket, "--level", "one"]);
        let second = ring.plan(2);
        let one = ring.begin(&first, &endpoints[0]);
        sleep(Duration::from_millis(random.below(40))).await;
        let other = ring.begin(&second, &endpoints[1]);
        if random.below(2) == 0 {
            ring.ring(&["stage", "undo", "--bucket", &bucket]);
        }
        let ran = [one.end(), other.end()];
        assert!(ran.iter().all(|ran| [0, EXIT_REFUSED].contains(&ran.code)), "{ran:?}");
        let won = ran.iter().filter(|ran| ran.code == 0).count();
        self.both += u64::from(won == 2);
        self.neither += u64::from(won == 0);
        for Ran { err, .. } in ran.iter().filter(|ran| ran.code != 0) {
            self.conflicts += u64::from(err.contains("conflict"));
            self.outdated += u64::from(err.contains("another plan"));
            self.at_a_loss += u64::from(!err.contains("next: quorate ring plan"));
        }
        let epoch = if won == 0 { ring.commit(1).epoch } else { first.epoch };
        ring.ring(&["clear"]);
        epoch
    }

    fn is_good(&self) -> bool {
        let told = self.conflicts + self.outdated;
        (self.both, self.at_a_loss) == (0, 0) && told == self.rounds + self.neither && self.neither < self.rounds
    }
}

impl fmt::Display for Contests {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, both, neither, conflicts, outdated, at_a_loss } = self;
        write!(
            formatter,
            "{rounds} times two administrators at once: {both} times both were decided for, {neither} times neither; {conflicts} were told \
             what was decided instead, {outdated} that their plan is out of date, {at_a_loss} not what to do"
        )
    }
}

/// A node is stopped while the ring changes many times, and follows when it is back.
async fn be_away(ring: &mut Changing) -> String {
    let status = block_in_place(|| ring.cluster.stop(ABSENT));
    assert!(status.success(), "n{} ends when it is told to: {status}", ABSENT + 1);
    let epoch = change_often(ring);
    let started = Instant::now();
    block_in_place(|| ring.cluster.restart(ABSENT));
    block_in_place(|| ring.wait_until_settled(epoch));
    let followed = started.elapsed();
    format!("a node that was away for {CHANGES_MISSED} changes had followed after {followed:.1?}")
}

/// A node is stopped, replaced, and comes back when nobody has the layouts any more that led to that. It must be told, and do no harm.
async fn be_replaced(ring: &mut Changing) -> String {
    let status = block_in_place(|| ring.cluster.stop(ABSENT));
    assert!(status.success(), "n{} ends when it is told to: {status}", ABSENT + 1);
    let (old, zone) = (format!("n{}", ABSENT + 1), format!("zone = \"z{ABSENT}\""));
    let new = format!("n{}", block_in_place(|| ring.cluster.join(0, &zone)) + 1);
    ring.plan(1);
    let (answer, is_staged) = ring.ring(&["stage", "replace", &old, &new]);
    assert!(is_staged, "{new} can't replace {old}: {answer}");
    ring.commit_and_wait(1);
    // All other partitions must have had another owner too, or their layouts are kept for them.
    for count in ["2", "3"] {
        ring.ring(&["stage", "replicas", count]);
        ring.commit_and_wait(1);
    }
    let epoch = change_often(ring);
    let started = Instant::now();
    block_in_place(|| ring.cluster.restart(ABSENT));
    let has_said = |ring: &Changing| TAKEN_OUT.iter().all(|said| ring.cluster.log(ABSENT).contains(said));
    while !has_said(ring) {
        assert!(
            started.elapsed() < FOLLOW_TIMEOUT,
            "{old} is not told that {new} has its place: {}",
            ring.cluster.log(ABSENT)
        );
        sleep(Duration::from_millis(100)).await;
    }
    let told = started.elapsed();
    let status = block_in_place(|| ring.cluster.stop(ABSENT));
    assert!(status.success(), "{old} ends when it is told to: {status}");
    block_in_place(|| ring.wait_until_settled(epoch));
    format!("one that was replaced meanwhile was told so after {told:.1?}")
}

/// Changes the ring more often than layouts are kept, without a partition that moves.
fn change_often(ring: &Changing) -> u64 {
    let mut epoch = 0;
    for round in 0..CHANGES_MISSED {
        let level = ["one", "quorum"][(round % 2) as usize];
        ring.ring(&["stage", "bucket", "changing", "--level", level]);
        epoch = ring.commit(1).epoch;
    }
    epoch
}

/// The newest layout that a client can get to know by asking for something.
async fn newest(client: &Client) -> std::sync::Arc<quorate::Layout> {
    for at in 0..100 {
        // Whatever it answers: it shows the epoch.
        let _ = client.get(format!("whatever {at}")).await;
    }
    client.ring()
}
