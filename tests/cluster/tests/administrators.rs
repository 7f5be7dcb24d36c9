//! Two administrators have different plans decided at the same time, on real processes: the proposal of one stands still in the middle
//! while the other's is brought before the same electors. One layout is decided, and whoever wanted another is told which.

use std::time::{Duration, Instant};

use dynamo::{
    layout::{BucketProperties, Level, NodeIndex},
    staging::Change,
};
use quorate::{Client, operators::HistoryEntry};
use quorate_cluster::{
    changing::{Ran, Running, start},
    proxied::Proxied,
};
use quorate_tests::cluster::Options;
use serde_json::Value;
use server::cli::local::links::End;
use tokio::time::sleep;

/// The node through which the first administrator works, and the one through which the second does.
const FIRST: usize = 0;
const SECOND: usize = 1;

/// How late everything arrives that the first node and the others send each other. A vote takes two journeys there and back, which
/// gives time to stop it in the middle.
const DELAY: Duration = Duration::from_millis(100);

/// A node that stands still is waited for by whoever gathers what is staged, which the second administrator has done twice; a proposal
/// has five seconds. On a machine so busy that they pass, nothing is decided for the first, and they meet again.
const MEETINGS_MAX: usize = 4;

/// How long anything may take: a test that hangs must fail.
const PATIENCE: Duration = Duration::from_secs(30);

/// The exit code of a command that the cluster refused.
const EXIT_REFUSED: i32 = 8;

/// A node says this before it asks the electors.
const ASKING: &str = "asking the electors";

/// A ring in which the first administrator's node is far from the others.
struct Ring {
    nodes: Proxied,
    client: Client,
    epoch: u64,
}

/// What came of two proposals for one epoch.
struct Met {
    /// What the commands of the first and of the second administrator said.
    ran: [Ran; 2],
    /// What is decided.
    decided: HistoryEntry,
}

impl Ring {
    async fn start() -> Self {
        let nodes = Proxied::start(Options::default());
        let client = nodes.client(PATIENCE, 1).await;
        for other in [SECOND, 2] {
            for (from, to) in [(FIRST, other), (other, FIRST)] {
                nodes.links().change(End::Node(from), End::Node(to), |weather| weather.delay = DELAY);
            }
        }
        Self { nodes, client, epoch: 1 }
    }

    fn node(&self, node: usize) -> quorate::Node {
        self.client.node(NodeIndex(node as u16)).timeout(PATIENCE)
    }

    /// Stages a bucket at a node, and begins to have it decided through that node, unless the ring has gone on meanwhile.
    async fn begin(&self, node: usize, bucket: &str) -> Option<Running> {
        let properties = BucketProperties { level: Level::One, ..BucketProperties::default() };
        let staging = self.node(node).stage(vec![Change::Bucket { name: bucket.to_owned(), properties }]).await;
        let plan = staging.expect("what is staged is known").plan.expect("it makes a plan");
        let hash = format!("{:032x}", u128::from_be_bytes(plan.hash));
        let commit = ["ring", "commit", "--epoch", &plan.epoch.to_string(), "--plan", &hash];
        let address = self.nodes.links().advertised()[node].to_string();
        (plan.epoch == self.epoch + 1).then(|| start(&address, &commit))
    }

    async fn decided(&self, node: usize) -> Option<HistoryEntry> {
        let history = self.node(node).history().await.expect("a node tells what was decided");
        history.into_iter().find(|entry| entry.epoch == self.epoch + 1)
    }

    /// The first administrator's proposal stands still so long after it began, and goes on when something is decided. Nothing if that
    /// was so before the second one began.
    async fn meet(&mut self, pause_after: Duration) -> Option<Met> {
        let proposals = |ring: &Self| ring.nodes.log(FIRST).matches(ASKING).count();
        let before = proposals(self);
        let one = self.begin(FIRST, &format!("first-{}", self.epoch)).await.expect("nobody else changes anything");
        let started = Instant::now();
        while proposals(self) == before {
            assert!(
                started.elapsed() < PATIENCE,
                "the first administrator's node does not ask the electors:\n{}\n{:?}",
                self.nodes.log(FIRST),
                one.end()
            );
            sleep(Duration::from_millis(1)).await;
        }
        sleep(pause_after).await;
        self.nodes.pause(FIRST);
        let other = self.begin(SECOND, &format!("second-{}", self.epoch)).await;
        if other.is_some() {
            self.wait_for_decision(&[SECOND]).await;
        }
        self.nodes.resume(FIRST);
        let one = one.end();
        let decided = self.wait_for_decision(&[FIRST, SECOND, 2]).await;
        self.epoch += 1;
        let met = other.map(|other| Met { ran: [one, other.end()], decided });
        self.node(SECOND).clear().await.expect("what is staged is forgotten");
        met
    }

    /// Waits until these nodes know what is decided, and all know the same.
    async fn wait_for_decision(&self, nodes: &[usize]) -> HistoryEntry {
        let started = Instant::now();
        loop {
            let mut known = Vec::new();
            for node in nodes {
                known.extend(self.decided(*node).await);
            }
            if known.len() == nodes.len() {
                assert!(known.iter().all(|entry| entry.hash == known[0].hash), "two layouts of one epoch: {known:?}");
                return known.remove(0);
            }
            assert!(started.elapsed() < PATIENCE, "nothing is decided, or not all learn of it: {known:?}");
            sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Met {
    /// Whose plan was decided, 0 or 1, when the other was told so; nothing when the machine was too slow and somebody gave up.
    fn winner(&self) -> Option<usize> {
        let Self { ran, decided } = self;
        let hash = format!("{:032x}", u128::from_be_bytes(decided.hash));
        let is_of = |at: usize| decided.changes.iter().any(|change| change.contains(["first-", "second-"][at]));
        assert!(ran.iter().any(|ran| ran.code != 0), "two plans, and both are told that theirs is decided: {ran:?}");
        let winner = ran.iter().position(|ran| ran.code == 0)?;
        assert!(is_of(winner) && ran[winner].json()["hash"] == *hash, "{ran:?}, and decided is {decided:?}");
        let loser = &ran[1 - winner];
        if loser.code != EXIT_REFUSED {
            return None;
        }
        let told = loser.json();
        assert_eq!((&told["conflict"], &told["hash"]), (&Value::from(true), &Value::from(hash)), "{ran:?}");
        assert!(loser.err.contains("next: quorate ring plan"), "{ran:?}");
        Some(winner)
    }
}

/// Who gets his plan decided when the first one's proposal stands still so long after it began.
async fn winner_when_paused_after(pause_after: Duration) -> usize {
    let mut ring = Ring::start().await;
    for _ in 0..MEETINGS_MAX {
        if let Some(winner) = ring.meet(pause_after).await.and_then(|met| met.winner()) {
            ring.client.close().await;
            return winner;
        }
    }
    panic!("the two never had a proposal at the same time in {MEETINGS_MAX} meetings");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_that_stood_still_before_anybody_accepted_it_learns_what_was_decided_instead() {
    assert_eq!(winner_when_paused_after(Duration::ZERO).await, SECOND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_that_electors_accepted_is_finished_by_the_second_administrator_who_is_told() {
    // The promises are back after two delays, and the votes on their way when the first node stands still.
    assert_eq!(winner_when_paused_after(DELAY * 5 / 2).await, FIRST);
}
