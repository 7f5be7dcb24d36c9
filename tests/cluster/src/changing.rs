//! A cluster whose ring is changed as an administrator changes it, by the command line: stage, look at the plan, commit it, wait until
//! nothing moves any more.

mod commands;
mod received;

use std::time::{Duration, Instant};

use quorate::Client;
use quorate_tests::cluster::{Cluster, Options};
use serde_json::Value;

pub use commands::{Ran, Running, quorate, start};
pub use received::Received;

/// How long a change may take until every partition is where it belongs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long a node that asks to be let in has until everybody knows of it.
const STAGING_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a client tries to reach nodes that have just started.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// A cluster of processes, to be grown and shrunk.
pub struct Changing {
    /// The processes.
    pub cluster: Cluster,
}

/// What the planner said of a change, and what it was measured to take.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The epoch it made.
    pub epoch: u64,
    /// Copies of partitions that moved, and the fewest that any plan could have moved.
    pub moved: u64,
    /// See `moved`.
    pub moved_bound: u64,
    /// Bytes of them, as the plan foresaw.
    pub moved_bytes: u64,
    /// The plan's hash.
    hash: String,
}

impl Changing {
    /// Starts the first nodes.
    ///
    /// # Panics
    /// When one does not come up.
    pub fn start(options: &Options) -> Self {
        Self { cluster: Cluster::start_with(options) }
    }

    /// A client whose operations have `timeout` and are sent at most `attempts` times. An attempt has a third of that time: how often an
    /// operation must be sent is looked at, not how soon two busy processors answer six processes.
    ///
    /// # Panics
    /// When no node can be reached.
    pub async fn client(&self, timeout: Duration, attempts: u32) -> Client {
        let builder = Client::builder().endpoints(&self.cluster.running()).timeout(timeout).attempts(attempts);
        let builder = builder.attempt_timeout(timeout / 3);
        let started = Instant::now();
        loop {
            match builder.clone().connect().await {
                Ok(client) => return client,
                Err(error) => assert!(started.elapsed() < CONNECT_TIMEOUT, "no node can be reached: {error}"),
            }
        }
    }

    /// Runs `quorate ring ...` and returns what it prints, and whether its exit code was 0.
    ///
    /// # Panics
    /// When it prints no JSON.
    pub fn ring(&self, arguments: &[&str]) -> (Value, bool) {
        let ran = quorate(&self.cluster.running(), &[&["ring"], arguments].concat());
        (ran.json(), ran.code == 0)
    }

    /// Waits until so many changes are staged, looks at what they would do, and has it decided.
    ///
    /// # Panics
    /// When there is no plan, or it is not decided.
    pub fn commit(&self, staged: usize) -> Change {
        let plan = self.plan(staged);
        let ran = self.begin(&plan, &self.cluster.running()).end();
        let decision = ran.json();
        assert!(ran.code == 0 && decision["epoch"].as_u64() == Some(plan.epoch), "not decided: {ran:?}");
        plan
    }

    /// Begins to have a plan decided by the first of these nodes that answers.
    pub fn begin(&self, plan: &Change, endpoints: &str) -> Running {
        start(endpoints, &["ring", "commit", "--epoch", &plan.epoch.to_string(), "--plan", &plan.hash])
    }

    /// The numbers of the nodes that decide about the next change.
    pub fn electors(&self, client: &Client) -> Vec<usize> {
        let layout = client.ring();
        let members = layout.electors.iter().filter_map(|elector| layout.member(*elector));
        members.filter_map(|member| number(&member.name)).collect()
    }

    /// The same, and waits until nothing moves any more.
    ///
    /// # Panics
    /// As [`Changing::commit`], and when it takes too long.
    pub fn commit_and_wait(&self, staged: usize) -> Change {
        let change = self.commit(staged);
        self.wait_until_settled(change.epoch);
        change
    }

    /// Waits until nothing moves any more.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn wait_until_settled(&self, epoch: u64) {
        let (started, mut quiet) = (Instant::now(), 0);
        while quiet < 3 {
            let standing = self.standing();
            let is_quiet = standing.is_complete && standing.open() == 0 && standing.epoch >= epoch;
            quiet = if is_quiet { quiet + 1 } else { 0 };
            assert!(started.elapsed() < PATIENCE, "the change is not over after {PATIENCE:?}: {standing:?}");
            std::thread::sleep(Duration::from_millis(150));
        }
    }

    /// How far the moves are.
    pub fn standing(&self) -> Standing {
        let (answers, _) = self.ring(&["transfers"]);
        let mut standing = Standing { is_complete: true, epoch: u64::MAX, ..Standing::default() };
        for answer in answers.as_array().into_iter().flatten() {
            let number = |name: &str| answer[name].as_u64().unwrap_or(0);
            let name = answer["node"].as_str().unwrap_or_default().to_owned();
            if answer.get("error").is_some() {
                // One that is gone for good, or has just been killed, has nothing to say.
                standing.is_complete &= !self.is_running(&name);
                continue;
            }
            standing.epoch = standing.epoch.min(number("epoch"));
            standing.coming += number("coming");
            standing.going += number("going");
            standing.unsettled += number("unsettled");
            standing.bytes_in += number("bytes_in");
            standing.by_node.push((name, number("coming"), number("bytes_in")));
        }
        standing
    }

    fn is_running(&self, name: &str) -> bool {
        number(name).is_some_and(|number| self.cluster.process_id(number).is_some())
    }

    /// Waits until so many changes are staged, and looks at what they would do.
    ///
    /// # Panics
    /// When there is no plan.
    pub fn plan(&self, staged: usize) -> Change {
        let started = Instant::now();
        loop {
            let (answer, _) = self.ring(&["plan"]);
            let plan = &answer["plan"];
            if answer["staged"].as_array().map_or(0, Vec::len) >= staged && plan.is_object() {
                let number = |name: &str| plan[name].as_u64().unwrap_or(0);
                return Change {
                    epoch: number("epoch"),
                    moved: number("moved"),
                    moved_bound: number("moved_lower_bound"),
                    moved_bytes: number("moved_bytes"),
                    hash: plan["hash"].as_str().unwrap_or_default().to_owned(),
                };
            }
            assert!(started.elapsed() < STAGING_TIMEOUT, "no plan of {staged} changes: {answer}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// How far the moves of all nodes are.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Whether every node answered.
    pub is_complete: bool,
    /// The oldest epoch that a node follows.
    pub epoch: u64,
    /// Partitions that nodes must still get or fill up.
    pub coming: u64,
    /// Partitions that nodes must still hand over and delete.
    pub going: u64,
    /// Copies of partitions of which more than one configuration may be active.
    pub unsettled: u64,
    /// Bytes that nodes have received for moves since they started.
    pub bytes_in: u64,
    /// For each node its name, what is coming, and the bytes it has received.
    pub by_node: Vec<(String, u64, u64)>,
}

/// The number of the test's node of this name.
fn number(name: &str) -> Option<usize> {
    name.strip_prefix('n')?.parse::<usize>().ok()?.checked_sub(1)
}

impl Standing {
    /// Everything that is not over.
    pub fn open(&self) -> u64 {
        self.coming + self.going + self.unsettled
    }

    /// What is still coming to a node, and the bytes it has received.
    pub fn of(&self, node: usize) -> Option<(u64, u64)> {
        let name = format!("n{}", node + 1);
        self.by_node.iter().find(|(other, ..)| *other == name).map(|(_, coming, bytes)| (*coming, *bytes))
    }
}
