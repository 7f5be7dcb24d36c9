//! `quorate serve`: one node, until it is told to stop.

mod open_files;

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::config::EXIT_CONFIGURATION;
use crate::{ServeError, config::Source, log};

/// The exit code when the node had to stop or could not start for a reason none of the others names.
const EXIT_FAILED: u8 = 1;

/// The exit code when the data directory can't be used: starting again will not help, somebody has to look.
const EXIT_DATA: u8 = 9;

/// The exit code when another node has proof that this one runs on an old copy of its data directory, or is not the only process
/// that does: starting again will not help, and nothing may be deleted.
const EXIT_OLD_COPY: u8 = 11;

/// The exit code when the address can't be listened on.
const EXIT_ADDRESS: u8 = 10;

/// Run one node until it is told to stop (SIGTERM or Ctrl-C).
///
/// Settings come from the file, then QUORATE_* variables, then the options here; later ones win. `quorate config default`
/// prints every setting with its meaning.
#[derive(Debug, Args)]
#[command(after_help = "Alone it founds a ring of one node; with --join it enters one that is there:
  quorate serve --name n1 --listen 10.0.0.1:7601 --data /var/lib/quorate
  quorate serve --name n2 --listen 10.0.0.2:7601 --data /var/lib/quorate --join 10.0.0.1:7601
  quorate ring plan

Exit codes: 0 stopped as told, 1 failed, 2 wrong configuration, 9 the data directory can't be used, \
                        10 the address can't be listened on, \
                        11 the data directory is an old copy, or another process runs on one.")]
pub struct Serve {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", env = "QUORATE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The node's name among the cluster's members.
    #[arg(long)]
    pub name: Option<String>,
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The data directory.
    #[arg(long, value_name = "DIRECTORY")]
    pub data: Option<String>,
    /// Enter the ring that these nodes are in; it waits until `quorate ring commit` lets it.
    #[arg(long, value_name = "HOST:PORT,…")]
    pub join: Option<String>,
    /// With --join: take the place of this node, which does not come back.
    #[arg(long, value_name = "NODE", requires = "join")]
    pub replace: Option<String>,
    /// The failure domain it stands in when it enters the ring: a rack, a room.
    #[arg(long)]
    pub zone: Option<String>,
    /// Its share of the data relative to the others when it enters the ring; the usual one is 100.
    #[arg(long)]
    pub weight: Option<u32>,
    /// Where others reach it, if that is not the address it listens on.
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// Consent to plain TCP on an address that other hosts reach.
    #[arg(long)]
    pub insecure: bool,
    /// Any setting by its key, written as in the file: --set deadlines.default_ms=500
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Drain and end when standard input closes, for a node that shall not outlive the process that started it.
    #[arg(long)]
    pub until_stdin_closes: bool,
}

impl Serve {
    /// Runs the node.
    pub fn run(self) -> ExitCode {
        let until_stdin_closes = self.until_stdin_closes;
        let source = self.source();
        let misspelt = source.misspelt_variables();
        let config = match source.load() {
            Ok(config) => config,
            Err(error) => {
                misspelt.iter().for_each(|warning| eprintln!("quorate: warning: {warning}"));
                eprintln!("quorate: {error}");
                return ExitCode::from(EXIT_CONFIGURATION);
            }
        };
        log::start(&config.log);
        misspelt.iter().for_each(|warning| tracing::warn!("{warning}"));
        open_files::raise(config.admission.connections_max);
        if until_stdin_closes && let Err(error) = super::local::end_when_stdin_closes() {
            tracing::error!("can't watch standard input: {error}");
            return ExitCode::from(EXIT_FAILED);
        }
        match crate::run(config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::from(exit_code(&error))
            }
        }
    }

    fn source(self) -> Source {
        let mut source = Source::defaults().environment(variables());
        if let Some(file) = self.config {
            source = source.file(file);
        }
        let flags = [
            ("name", self.name),
            ("listen", self.listen),
            ("data", self.data),
            ("join.through", self.join),
            ("join.replaces", self.replace),
            ("join.zone", self.zone),
            ("join.weight", self.weight.map(|weight| weight.to_string())),
            ("join.address", self.address),
        ];
        for (key, value) in flags {
            if let Some(value) = value {
                source = source.set(key, value);
            }
        }
        if self.insecure {
            source = source.set("insecure", "true");
        }
        for setting in self.set {
            let (key, value) = setting.split_once('=').unwrap_or((&setting, ""));
            source = source.set(key.trim(), value.trim());
        }
        source
    }
}

fn exit_code(error: &ServeError) -> u8 {
    match error {
        ServeError::Plan(_) | ServeError::Contradiction { .. } => EXIT_CONFIGURATION,
        ServeError::Store(_) | ServeError::Layout { .. } | ServeError::Adopt(_) => EXIT_DATA,
        ServeError::Listen(_) => EXIT_ADDRESS,
        ServeError::OldCopy(_) => EXIT_OLD_COPY,
        ServeError::System(_) | ServeError::Worker | ServeError::Join(_) => EXIT_FAILED,
    }
}

/// The environment, without what is not text: no setting of ours is.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
