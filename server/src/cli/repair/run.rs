//! `quorate repair run`: begins repairs at once, on all nodes or on some, and waits for their end if that is wanted.

use std::time::Duration;

use clap::Args;
use dynamo::layout::NodeIndex;

use super::status::{self, no_node};
use crate::cli::{
    arguments::{self, Cluster},
    client::{self, Answer, RepairRun, RepairStatus, RepairTask, Session, sleep},
    exit::{CommandError, Exit},
};

/// How often a command that waits looks again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Looks in a row at which nothing may run, for all of it to have ended.
const QUIET_LOOKS: u32 = 3;

/// How often it says how far things are.
const LOOKS_PER_LINE: u32 = 10;

/// Begin repairs at once instead of at their time: comparing replicas, delivering hints, verifying records.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --exchange, --hints or --scrub, all three begin. Repairs stand behind clients' work and may take their time on a busy
cluster. With --wait: exit code 0 when all of it has ended; 5 when a node still has unreadable records, or keeps hints for a node
that does not answer; 6 when a node does not answer.

Examples:
  quorate repair run --wait
  quorate repair run --scrub --node node-2 --wait
  quorate repair run --hints"
)]
pub(super) struct Run {
    /// Compare every partition with every other owner, and bring both level.
    #[arg(long)]
    exchange: bool,

    /// Deliver what is kept for nodes that were away.
    #[arg(long)]
    hints: bool,

    /// Verify every record on disk, and rebuild those that can't be.
    #[arg(long)]
    scrub: bool,

    /// Only on this node; may be given several times.
    #[arg(long, value_name = "NAME")]
    node: Vec<String>,

    /// Wait until it is done.
    #[arg(long)]
    wait: bool,

    /// With --wait: give up after so long.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = arguments::duration)]
    patience: Duration,

    #[command(flatten)]
    cluster: Cluster,
}

impl Run {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        client::block_on(async {
            let session = Session::connect(&self.cluster).await?;
            let nodes = session.nodes(&self.node).map_err(|name| no_node(&name))?;
            let mut answers = session.repair(&nodes, self.wanted()).await;
            let is_over = if self.wait { self.wait(&session, &nodes, &mut answers).await } else { true };
            status::print(self.cluster.form.output, &session.layout(), &answers)?;
            session.close().await;
            Ok(self.exit(&answers, is_over))
        })
    }

    fn wanted(&self) -> RepairRun {
        let all = !(self.exchange || self.hints || self.scrub);
        RepairRun { exchange: all || self.exchange, hints: all || self.hints, scrub: all || self.scrub }
    }

    /// Waits until nothing runs any more, as long as there is patience for.
    async fn wait(&self, session: &Session, nodes: &[NodeIndex], answers: &mut Vec<Answer<RepairStatus>>) -> bool {
        let mut quiet = 0;
        let looks = u32::try_from(self.patience.as_millis() / LOOK_EVERY.as_millis()).unwrap_or(u32::MAX);
        for look in 0..looks {
            sleep(LOOK_EVERY).await;
            *answers = session.repair_status(nodes).await;
            let running = self.running(answers);
            // Between two steps a node may look idle, also before it has begun.
            quiet = if running.is_empty() { quiet + 1 } else { 0 };
            if quiet == QUIET_LOOKS {
                return true;
            }
            if look % LOOKS_PER_LINE == LOOKS_PER_LINE - 1 {
                eprintln!("quorate: {}", running.join(", "));
            }
        }
        false
    }

    /// What still runs, as people read it. A rebuild belongs to the scrub that found what is to be rebuilt.
    fn running(&self, answers: &[Answer<RepairStatus>]) -> Vec<String> {
        let wanted = self.wanted();
        let is_wanted = |task: &RepairTask| match &*task.name {
            "exchange" => wanted.exchange,
            "hints" => wanted.hints,
            "scrub" | "rebuild" => wanted.scrub,
            _ => false,
        };
        let of_node = |answer: &Answer<RepairStatus>| {
            let name = answer.name.clone();
            let tasks = answer.answer.iter().flat_map(|status| &status.tasks);
            let running = tasks.filter(|task| task.state == "running" && is_wanted(task));
            running.map(|task| format!("{name} {} {}/{}", task.name, task.done, task.total)).collect::<Vec<_>>()
        };
        answers.iter().flat_map(of_node).collect()
    }

    fn exit(&self, answers: &[Answer<RepairStatus>], is_over: bool) -> Exit {
        let is_left = |status: &RepairStatus| {
            status.unreadable > 0 || (self.wanted().hints && status.hints.iter().any(|hint| hint.objects > 0))
        };
        if answers.iter().any(|answer| answer.answer.is_err()) || !is_over {
            Exit::Unavailable
        } else if self.wait && answers.iter().flat_map(|answer| &answer.answer).any(is_left) {
            Exit::Different
        } else {
            Exit::Done
        }
    }
}
