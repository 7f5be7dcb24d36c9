//! `quorate config`: print the default configuration with an explanation of every key, or check a file.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};

use crate::config::{Source, default_file};

/// The exit code of a configuration or command line that is wrong; nothing was attempted.
pub(super) const EXIT_CONFIGURATION: u8 = 2;

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
            ConfigCommand::Default => {
                print!("{}", default_file());
                ExitCode::SUCCESS
            }
            // The environment stays out: the question is whether the file is right.
            ConfigCommand::Check { file } => match Source::defaults().file(&file).load() {
                Ok(config) => {
                    println!("{}: right; node {} of {}", file.display(), config.name, config.members().len());
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    eprintln!("quorate: {error}");
                    ExitCode::from(EXIT_CONFIGURATION)
                }
            },
        }
    }
}
