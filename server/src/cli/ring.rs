//! `quorate ring`: who owns what, and what another list of nodes would make of it.

mod members;
mod owners;
mod plan;
mod show;

use clap::{Args, Subcommand};

use super::exit::{CommandError, Exit};

pub(super) use show::table;

/// The name of a cluster that is only planned.
const CLUSTER_IMAGINED: &str = "plan";

/// Show who owns what, and plan changes.
#[derive(Debug, Args)]
pub struct Ring {
    #[command(subcommand)]
    command: RingCommand,
}

#[derive(Debug, Subcommand)]
enum RingCommand {
    Show(show::Show),
    Owners(owners::Owners),
    Plan(plan::PlanCommand),
}

impl Ring {
    /// Carries out the command.
    pub fn run(self) -> Result<Exit, CommandError> {
        match self.command {
            RingCommand::Show(command) => command.run(),
            RingCommand::Owners(command) => command.run(),
            RingCommand::Plan(command) => command.run(),
        }
    }
}
