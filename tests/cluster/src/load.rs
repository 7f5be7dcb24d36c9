//! What a client is asked to do while somebody else watches: the nodes' counters, which node dies, or its own memory. The same three
//! tasks exist in Python (`tests/sdk/load.py`) and in Node (`tests/sdk/load.mjs`), with the same words and the same answers, so that one
//! row of the table of figures speaks of all of them. Here they are in Rust; [`crate::scenario`] starts the programs and judges.

mod kinds;
mod memory;
mod strict;

use clap::{Parser, ValueEnum};
use quorate::{Client, Error};
use serde_json::Value;

/// What is to be done.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Task {
    /// Operations of every kind, each answer compared with what was written.
    Kinds,
    /// Writes and reads at `quorum`, sent twice at most, until standard input ends.
    Strict,
    /// Calls without end, and what memory they leave.
    Memory,
}

/// The command line of a load program, in every language.
#[derive(Clone, Debug, Parser)]
pub struct Arguments {
    /// What is to be done.
    #[arg(value_enum)]
    pub task: Task,
    /// Where the nodes are, separated by commas.
    #[arg(long)]
    pub endpoints: String,
    /// How many operations; `strict` goes on until standard input ends.
    #[arg(long, default_value_t = 1000)]
    pub operations: u64,
}

/// Does what the arguments say. The answer is one JSON object; an error ends everything.
pub async fn run(arguments: &Arguments) -> Result<Value, Error> {
    match arguments.task {
        Task::Kinds => kinds::run(&Client::connect(&arguments.endpoints).await?, arguments.operations).await,
        Task::Strict => strict::run(&arguments.endpoints).await,
        Task::Memory => memory::run(&Client::connect(&arguments.endpoints).await?, arguments.operations).await,
    }
}
