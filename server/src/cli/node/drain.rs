//! `quorate node drain`: sends a node's clients elsewhere, so that its process can be stopped without a failed request.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::cli::{
    arguments::{self, Cluster},
    client::{self, Session, sleep},
    exit::{CommandError, Exit},
    output::{self, Output},
    repair::no_node,
};

/// How often the node is asked again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Have a node refuse new operations, so that its clients go elsewhere at once, and end those in flight.
#[derive(Debug, Args)]
#[command(
    after_help = "The node goes on keeping what other nodes send it and answering their reads, until its process is stopped; started again, it takes
operations again. It keeps its place in the ring: quorate ring stage leave is for nodes that go for good. Exit code 0 when nothing
is in flight there any more, 5 while something is.

Examples:
  quorate node drain node-2 --wait
  quorate node drain node-2 --undo"
)]
pub(super) struct Drain {
    /// Which node.
    #[arg(value_name = "NODE")]
    name: String,

    /// Take operations again.
    #[arg(long, conflicts_with = "wait")]
    undo: bool,

    /// Wait until nothing is in flight there any more.
    #[arg(long)]
    wait: bool,

    /// With --wait: give up after so long.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = arguments::duration)]
    patience: Duration,

    #[command(flatten)]
    cluster: Cluster,
}

impl Drain {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        let in_flight = client::block_on(async {
            let session = Session::connect(&self.cluster).await?;
            let nodes = session.nodes(std::slice::from_ref(&self.name)).map_err(|name| no_node(&name))?;
            let [node] = nodes[..] else { return Err(no_node(&self.name)) };
            let until = Instant::now() + self.patience;
            let mut in_flight = session.drain(node, self.undo).await?;
            while self.wait && in_flight > 0 && Instant::now() < until {
                sleep(LOOK_EVERY).await;
                in_flight = session.drain(node, false).await?;
            }
            session.close().await;
            Ok(in_flight)
        })?;
        match self.cluster.form.output {
            Output::Json => {
                output::print_json(&json!({"node": self.name, "draining": !self.undo, "in_flight": in_flight}))?;
            }
            Output::Table if self.undo => output::print_line(format_args!("{} takes operations again", self.name))?,
            Output::Table => self.print(in_flight)?,
        }
        Ok(if self.undo || in_flight == 0 { Exit::Done } else { Exit::Different })
    }

    fn print(&self, in_flight: u64) -> Result<(), CommandError> {
        output::print_line(format_args!(
            "{} takes no new operations; {} in flight there",
            self.name,
            output::grouped(in_flight)
        ))?;
        match in_flight {
            0 => output::print_line("next: stop its process; once started again it takes operations again")?,
            _ => output::print_line(format_args!("next: quorate node drain {} --wait", self.name))?,
        }
        Ok(())
    }
}
