//! Why a data directory can't be opened, and why an open store refuses. Each says what happened, whether anything was
//! changed, and what to do. None of them is ever answered by starting empty.

use std::{io, path::PathBuf};

use dynamo::operation::{ErrorCode, Failure};

/// Why a data directory can't be opened. Nothing in it was changed, and nothing may be deleted to make the error go away
/// without knowing what that loses.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    #[error(
        "{path}: the data directory is in use by process {owner}. Two nodes on one directory would destroy it: stop that \
         process, or give this node a directory of its own"
    )]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The process that holds the lock, as its lock file says.
        owner: String,
    },
    /// There is something there that is not ours.
    #[error(
        "{path}: not a quorate data directory, and not empty either (it holds {found:?}). Give an empty or absent directory \
         to found a store in, or the right one"
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// What it holds, for instance.
        found: String,
    },
    /// There is nothing to open and founding was not allowed.
    #[error("{path}: there is no store here and none may be founded. Is the disk mounted?")]
    Absent {
        /// The directory.
        path: PathBuf,
    },
    /// Written by another version of the software.
    #[error(
        "{path}: format {found} where this version knows {known}. Use the version that wrote it; nothing was changed"
    )]
    OtherFormat {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What we can read.
        known: String,
    },
    /// The directory belongs to another node, cluster or shard.
    #[error("{path}: belongs to {what} {found}, but {expected} was expected. Point the node at its own directory")]
    OtherOwner {
        /// The directory.
        path: PathBuf,
        /// Cluster, node, or shard.
        what: &'static str,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// A part of the store is gone.
    #[error(
        "{path}: missing. The store has lost data that this node acknowledged: bring the file back from a backup of this \
         very directory, or let the node enter the cluster again as a replacement with an empty directory"
    )]
    Missing {
        /// What is missing.
        path: PathBuf,
    },
    /// A part of the store can't be believed.
    #[error(
        "{path}: damaged ({detail}). Nothing was changed. Keep a copy, check the disk, and let the node enter the cluster \
         again as a replacement with an empty directory; its data is at the other owners"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A file system on which LMDB's locks and memory map are not to be trusted.
    #[error(
        "{path}: the file system is {kind}, on which a memory-mapped store may be damaged without notice. Use a local disk, \
         or force it at your own risk"
    )]
    UnsafeFilesystem {
        /// The directory.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The operating system refused.
    #[error("{path}: {action}: {source}. Nothing was changed; check owner, permissions and space")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// LMDB refused.
    #[error("{path}: LMDB could not {action}: {source}. Nothing acknowledged was changed")]
    Engine {
        /// The environment.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What it said.
        source: heed::Error,
    },
    /// The configuration can't be followed.
    #[error("store configuration: {0}")]
    Configuration(String),
}

impl OpenError {
    /// A mapping for errors of the operating system.
    pub(super) fn io(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, action, source }
    }

    /// A mapping for errors of LMDB: those that mean damage become [`OpenError::Damaged`].
    pub(super) fn engine(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(heed::Error) -> Self {
        let path = path.into();
        move |source| match Trouble::of(&source) {
            Trouble::Damage => Self::Damaged { path, detail: format!("LMDB could not {action}: {source}") },
            Trouble::Full | Trouble::Other => Self::Engine { path, action, source },
        }
    }
}

/// What an error of LMDB means for a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No space: the transaction must be aborted, the environment goes on.
    Full,
    /// The file holds what LMDB never wrote.
    Damage,
    /// Anything else.
    Other,
}

impl Trouble {
    /// The meaning of an error outside of a commit.
    pub(super) fn of(error: &heed::Error) -> Self {
        match error {
            heed::Error::Mdb(heed::MdbError::MapFull) => Self::Full,
            heed::Error::Mdb(
                heed::MdbError::Corrupted
                | heed::MdbError::PageNotFound
                | heed::MdbError::Invalid
                | heed::MdbError::VersionMismatch
                | heed::MdbError::Incompatible
                | heed::MdbError::BadTxn
                | heed::MdbError::BadValSize
                | heed::MdbError::CursorFull
                | heed::MdbError::PageFull
                | heed::MdbError::Problem,
            ) => Self::Damage,
            _ => Self::Other,
        }
    }
}

/// Nothing was done: no space.
pub(super) fn full() -> Failure {
    let mut failure = Failure::new(
        ErrorCode::StorageFull,
        "this node's storage is full; nothing was done. Reads and deletes go on: delete, add space, or add nodes",
    );
    failure.retry_after_ms = FULL_RETRY_MS;
    failure
}

/// There was no space when the transaction was committed, after what it minted had been shown to other nodes: nothing is stored here, but
/// what is shown may hold any write of the transaction.
pub(super) fn full_after_showing() -> Failure {
    let mut failure = Failure {
        message: "this node's storage is full; nothing is stored here, but other nodes may have stored it already. Reads and \
                  deletes go on: delete, add space, or add nodes"
            .into(),
        ..full()
    };
    failure.maybe_applied = true;
    failure
}

/// A page can't be read.
pub(super) fn unreadable(what: &str) -> Failure {
    let message = format!("this node's store could not be read ({what}); other owners hold the records");
    Failure::with_message(ErrorCode::Corrupt, message)
}

/// Nothing was done: too much is waiting.
pub(super) fn overloaded() -> Failure {
    let mut failure = Failure::new(
        ErrorCode::Overloaded,
        "more writes are waiting for this node's disk than it can finish in time; nothing was done, try again later",
    );
    failure.retry_after_ms = OVERLOADED_RETRY_MS;
    failure
}

/// Nothing was done: the writer has stopped, or stopped before this could be tried.
pub(super) fn stopped(why: &str) -> Failure {
    Failure::with_message(
        ErrorCode::Unavailable,
        format!("this node's store accepts no writes ({why}); nothing was done here, other replicas may accept it"),
    )
}

/// Nothing was done: the store is being closed.
pub(super) fn closing() -> Failure {
    Failure::new(ErrorCode::ShuttingDown, "this node is shutting down; nothing was done, ask another node")
}

/// The commit failed: nobody knows.
pub(super) fn unknown(why: &str) -> Failure {
    let mut failure = Failure::with_message(
        ErrorCode::Unavailable,
        format!("this node's store failed while the write was being committed ({why}); it may or may not be stored"),
    );
    failure.maybe_applied = true;
    failure
}

/// A full disk is not emptied within milliseconds.
const FULL_RETRY_MS: u32 = 1_000;

/// About the time one large group needs to commit.
const OVERLOADED_RETRY_MS: u32 = 50;
