//! What this node keeps for owners that are away (paper, section 4.6), in an LMDB environment of its own with its own writer.
//!
//! What a hint *means* is the book's business ([`dynamo::hint`]), which runs inside the writer's transaction. The rules of the
//! store hold here too: an answer means that the disk has it; damage is noticed and never read as absence; a full store refuses
//! and loses nothing; after a failed commit nothing is committed again. Hints never expire, and nothing but a delivery that was
//! acknowledged deletes one. Who delivers them is not decided here.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use dynamo::{
    hint::{Book, HintBounds, HintOperation, HintUsage},
    ident::NodeId,
    replica::{Limits, Nonce},
};

use super::{
    CompletionQueue, Health, Identity, Rejected, StoreConfig, Submission,
    directory::Directory,
    error::OpenError,
    filesystem,
    space::{Ballast, Space},
    tables::MAP_BYTES,
};

mod opening;
mod reading;
mod rows;
mod scrub;
mod shared;
mod writer;

pub use scrub::HintReport;

pub(super) use opening::STAMP as STAMP_HINTS;

use shared::Shared;
use writer::HintWriter;

/// An operation on hints on its way to their writer.
pub type HintSubmission = Submission<HintOperation>;

/// The least room the environment of the hints is given, whatever its share of the disk: below this copy-on-write alone would
/// leave none for a single hint.
const FILE_BYTES_MIN: u64 = 4 << 20;

/// The hints of an open store.
pub struct Hints {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

/// How the hints are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HintStatus {
    /// Whether they can be trusted.
    pub health: Health,
    /// How much may be kept.
    pub bounds: HintBounds,
    /// What is kept for each node that anything is kept for.
    pub backlog: Vec<(NodeId, HintUsage)>,
    /// Hints that could not be verified and stand aside, since the directory was made.
    pub aside: u64,
    /// Hints that were kept since the store was opened, those minted here and those that brought nothing new among them.
    pub kept: u64,
    /// Hints that were refused since then. Their targets have missed writes that nobody keeps here.
    pub refused: u64,
    /// Hints that were deleted since then, because their targets have them.
    pub delivered: u64,
    /// Operations waiting.
    pub waiting: usize,
    /// Bytes the file takes on disk, free pages and room taken in advance included.
    pub disk_bytes: u64,
    /// Commits since the store was opened.
    pub commits: u64,
    /// Time spent in commits since then.
    pub commit_time: Duration,
}

impl Hints {
    /// Opens the hints of a directory, or makes room for them in one that has none yet.
    pub(super) fn open(config: &StoreConfig, directory: &Directory, ballast: Arc<Ballast>) -> Result<Self, OpenError> {
        let Room { bounds, file_bytes } = Room::of(config, &directory.root)?;
        let opened = opening::open(directory, file_bytes)?;
        let path = opened.tables.env.path().to_owned();
        let space = Space::new(Arc::clone(&opened.tables.file), Some(file_bytes), 1);
        let shared = Arc::new(Shared::new(opened, bounds));
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|error| OpenError::Configuration(format!("no randomness: {error}")))?;
        let book = Book::new(Nonce(nonce), Limits { value_bytes_max: config.value_bytes_max }, bounds);
        let writer = HintWriter { shared: Arc::clone(&shared), book, space, ballast };
        let run = move || writer.run_guarded();
        let started = thread::Builder::new().name("store-hints".to_owned()).spawn(run);
        let writer = started.map_err(OpenError::io(path, "could not start the writer of the hints"))?;
        Ok(Self { shared, writer: Some(writer) })
    }

    /// Hands operations to the writer, or hands all of them back. Their answers arrive in `completions`, in the order in which
    /// they were submitted, except that what was minted is shown before. Does not block.
    pub fn submit(
        &self,
        completions: &Arc<CompletionQueue>,
        submissions: Vec<HintSubmission>,
    ) -> Result<(), Rejected<HintOperation>> {
        self.shared.queue.submit(completions, submissions)
    }

    /// What is kept for each node that anything is kept for, as of the last commit. From memory: cheap enough to be asked often.
    pub fn backlog(&self) -> Vec<(NodeId, HintUsage)> {
        self.shared.backlog()
    }

    /// How many hints were refused since the store was opened: their targets need anti-entropy when they are back.
    pub fn refused(&self) -> u64 {
        self.shared.refused().values().sum()
    }

    /// The same for one target.
    pub fn refused_for(&self, target: NodeId) -> u64 {
        self.shared.refused().get(&target).copied().unwrap_or_default()
    }

    /// How the hints are.
    pub fn status(&self) -> HintStatus {
        let shared = &*self.shared;
        let read = |gauge: &std::sync::atomic::AtomicU64| gauge.load(Ordering::Relaxed);
        HintStatus {
            health: shared.health.read(),
            bounds: shared.bounds,
            backlog: shared.backlog(),
            aside: shared.aside_count(),
            kept: read(&shared.gauges.kept),
            refused: self.refused(),
            delivered: read(&shared.gauges.delivered),
            waiting: shared.queue.waiting().0,
            disk_bytes: filesystem::occupied_bytes(&shared.tables.file),
            commits: read(&shared.gauges.commits),
            commit_time: Duration::from_micros(read(&shared.gauges.commit_us)),
        }
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.shared.queue.close();
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer of the hints ended in a panic");
        }
    }
}

/// Makes the environment of the hints in a store that is being founded, before anybody says that there is one.
pub(super) fn found(config: &StoreConfig, root: &Path, data: &Path, identity: &Identity) -> Result<(), OpenError> {
    opening::make(identity, data, Room::of(config, root)?.file_bytes)
}

/// The room that hints may take.
struct Room {
    bounds: HintBounds,
    file_bytes: u64,
}

impl Room {
    /// A part of what the configuration gives the store, or else of the whole file system, as large as it is now.
    fn of(config: &StoreConfig, root: &Path) -> Result<Self, OpenError> {
        let disk = config.max_bytes.map_or_else(|| filesystem::total_bytes(root), Ok)?;
        let bounds = HintBounds::of_disk(disk);
        // Whole pages of any size, and room to work in.
        let file_bytes = bounds.total_bytes_max.max(FILE_BYTES_MIN).next_multiple_of(64 << 10).min(MAP_BYTES);
        Ok(Self { bounds, file_bytes })
    }
}
