//! The `quorate` command: its subcommands, and nothing of what they do. Each stands in a file of its own below this one and
//! offers `run`, which ends in an exit code; what the codes mean is a contract with scripts.

pub mod config;
pub mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A replicated key-value store in the line of Amazon's Dynamo.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, about, arg_required_else_help = true, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one node until it is told to stop.
    Serve(serve::Serve),
    /// Print the default configuration, or check a file.
    Config(config::Config),
}

impl Cli {
    /// Carries out the command.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(serve) => serve.run(),
            Command::Config(config) => config.run(),
        }
    }
}
