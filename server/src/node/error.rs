//! Why a node can't start, or stopped. Each says what happened and what to do; the command gives each kind its exit code.

use std::{io, path::PathBuf};

use dynamo::{operation::Failure, planner::PlanError};

use crate::store::OpenError;

/// Why a node can't start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The cluster in the configuration can't be.
    #[error("cluster: {0}")]
    Plan(#[from] PlanError),
    /// The node shall enter a ring and can't.
    #[error("can't enter the ring: {0}")]
    Join(String),
    /// The data directory can't be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The layout in the data directory can't be read.
    #[error(
        "{path}: the stored layout can't be used ({detail}); the node should enter the cluster again as a replacement"
    )]
    Layout {
        /// The data directory.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The configuration says something else than the data directory.
    #[error(
        "the configuration contradicts what {path} holds:\n  {}\nPut the configuration back, or choose another directory",
        contradictions.join("\n  ")
    )]
    Contradiction {
        /// The data directory.
        path: PathBuf,
        /// Each difference as a sentence.
        contradictions: Vec<String>,
    },
    /// The store would not take the node's partitions.
    #[error("the store can't take the node's partitions: {}", .0.message)]
    Adopt(Failure),
    /// The address can't be listened on.
    #[error("can't listen: {0}. Is another process using the address? `listen` chooses it")]
    Listen(io::Error),
    /// The operating system refused something else.
    #[error("the operating system refused: {0}")]
    System(io::Error),
    /// Another node has proof that this one runs on another data directory than it had or on an old copy of it, or that it is not the
    /// only process to run on it.
    #[error("this node stopped because another one refused it: {0}")]
    OldCopy(String),
    /// A worker ended in a panic.
    #[error(
        "a worker ended in a panic, so the node stopped; nothing acknowledged is lost. Please report this with the log"
    )]
    Worker,
}
