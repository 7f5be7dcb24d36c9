//! The `quorate` command: its subcommands, and nothing of what they do. Each stands in a file of its own below this one and
//! offers `run`, which ends in an exit code; what the codes mean is a contract with scripts.

pub mod arguments;
pub mod bench;

pub mod client;
pub mod completions;
pub mod config;
pub mod dev;
pub mod exit;
pub mod holdings;
pub mod jsonl;
pub mod kv;
pub mod local;
pub mod node;
pub mod notation;
pub mod output;
pub mod progress;
pub mod reap;
pub mod repair;
pub mod ring;
pub mod serve;
pub mod status;
pub mod testkit;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::conclude;

/// A replicated key-value store in the line of Amazon's Dynamo.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, arg_required_else_help = true, propagate_version = true, after_help = exit::help())]
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
    /// Start a cluster of real nodes on this machine and show it working.
    Dev(dev::Dev),
    /// Run a cluster for an application's own tests, and do it harm on request.
    Testkit(testkit::Testkit),
    /// Read and write keys.
    Kv(kv::Kv),
    /// Show who owns what, and change it while the cluster serves.
    Ring(ring::Ring),
    /// Prepare single nodes for a restart.
    Node(node::Node),
    /// Show how every node of the cluster is.
    Status(status::Status),
    /// Show how repairs stand, or begin them at once.
    Repair(repair::Repair),
    /// Remove tombstones and expired values for good, where nothing speaks against it.
    Reap(reap::Reap),
    /// Put a load on a cluster and measure it, with the limits of this machine beside it.
    Bench(bench::Bench),
    /// Print the completion script of a shell.
    Completions(completions::Completions),
}

impl Cli {
    /// Carries out the command.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(serve) => serve.run(),
            Command::Config(config) => config.run(),
            Command::Dev(dev) => conclude(dev.run()),
            Command::Testkit(testkit) => conclude(testkit.run()),
            Command::Kv(kv) => conclude(kv.run()),
            Command::Ring(ring) => conclude(ring.run()),
            Command::Node(node) => conclude(node.run()),
            Command::Status(status) => conclude(status.run()),
            Command::Repair(repair) => conclude(repair.run()),
            Command::Reap(reap) => conclude(reap.run()),
            Command::Bench(bench) => conclude(bench.run()),
            Command::Completions(completions) => conclude(completions.run()),
        }
    }
}
