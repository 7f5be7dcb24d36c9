//! `quorate node`: what is done to single nodes.

mod drain;

use clap::{Args, Subcommand};

use super::exit::{CommandError, Exit};

/// Prepare single nodes for a restart.
#[derive(Debug, Args)]
pub struct Node {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    Drain(drain::Drain),
}

impl Node {
    /// Carries out the command.
    pub fn run(self) -> Result<Exit, CommandError> {
        match self.command {
            NodeCommand::Drain(command) => command.run(),
        }
    }
}
