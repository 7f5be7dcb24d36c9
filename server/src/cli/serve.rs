//! `quorate serve`: one node, until it is told to stop.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

/// Run one node until it is told to stop (SIGTERM or Ctrl-C).
#[derive(Debug, Args)]
pub struct Serve {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", env = "QUORATE_CONFIG")]
    pub config: Option<PathBuf>,
}

impl Serve {
    /// Runs the node.
    pub fn run(self) -> ExitCode {
        eprintln!("quorate: this build can't serve yet");
        ExitCode::FAILURE
    }
}
