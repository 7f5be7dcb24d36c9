//! `quorate repair`: how the work stands that brings replicas level, and beginning it at once.

mod run;
mod status;

use clap::{Args, Subcommand};

use super::exit::{CommandError, Exit};

pub(super) use status::no_node;

/// Show how repairs stand, or begin them at once.
#[derive(Debug, Args)]
pub struct Repair {
    #[command(subcommand)]
    command: RepairCommand,
}

#[derive(Debug, Subcommand)]
enum RepairCommand {
    Status(status::Status),
    Run(run::Run),
}

impl Repair {
    /// Carries out the command.
    pub fn run(self) -> Result<Exit, CommandError> {
        match self.command {
            RepairCommand::Status(command) => command.run(),
            RepairCommand::Run(command) => command.run(),
        }
    }
}
