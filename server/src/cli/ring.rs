//! `quorate ring`: who owns what, and changing that: stage, plan, commit, and watch the data move.

mod abort;
mod commit;
mod history;
mod members;
mod names;
mod owners;
mod plan;
mod proposal;
mod show;
mod stage;
mod transfers;

use clap::{Args, Subcommand};

use super::exit::{CommandError, Exit};

pub(super) use commit::decide;
pub(super) use names::Names;
pub(super) use proposal::{commit_line, print as print_proposal};
pub(super) use show::table;

/// The name of a cluster that is only planned.
const CLUSTER_IMAGINED: &str = "plan";

/// Show who owns what, and change it while the cluster serves.
#[derive(Debug, Args)]
#[command(after_help = "A change goes: stage, plan, commit, transfers.

  quorate ring stage leave node-2
  quorate ring plan
  quorate ring commit --epoch 2 --plan HASH --wait")]
pub struct Ring {
    #[command(subcommand)]
    command: RingCommand,
}

#[derive(Debug, Subcommand)]
enum RingCommand {
    Show(show::Show),
    Owners(owners::Owners),
    Stage(stage::Stage),
    Plan(plan::PlanCommand),
    Commit(commit::CommitCommand),
    Clear(commit::Clear),
    Abort(abort::Abort),
    Transfers(transfers::TransfersCommand),
    History(history::History),
}

impl Ring {
    /// Carries out the command.
    pub fn run(self) -> Result<Exit, CommandError> {
        match self.command {
            RingCommand::Show(command) => command.run(),
            RingCommand::Owners(command) => command.run(),
            RingCommand::Stage(command) => command.run(),
            RingCommand::Plan(command) => command.run(),
            RingCommand::Commit(command) => command.run(),
            RingCommand::Clear(command) => command.run(),
            RingCommand::Abort(command) => command.run(),
            RingCommand::Transfers(command) => command.run(),
            RingCommand::History(command) => command.run(),
        }
    }
}
