//! The store of one node: records and partition rows in LMDB, through heed (paper, section 4.3's local persistence).
//!
//! Writes go through one writer thread per shard that commits them in groups; an answer means that the disk has it. Reads
//! take snapshots on the calling thread. What a write *means* is the replica's business ([`dynamo::replica`]), which runs
//! inside the writer's transaction; this room knows transactions, files and space.
//!
//! The rules it keeps, and where: one process per directory (`lock`), a directory is founded or recognised and never
//! half of either (`directory`), damage is noticed and never read as absence (`header`, `bounds`, `shard`, `verify`), a
//! full disk refuses and loses nothing (`space`), and after a failed commit nothing is committed again (`writer`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use dynamo::{
    ident::{NodeId, StoreKey},
    operation::Failure,
    replica::{Limits, Nonce, Replica, WriteOperation, WriteOutcome},
};

mod aborted;
mod adoption;
mod agreed;
mod answers;
mod bounds;
mod completion;
mod directory;
mod error;
mod feed;
mod filesystem;
mod forest;
mod header;
mod health;
mod hints;
mod listing;
mod lock;
mod log;
mod moving;
mod pages;
mod queue;
mod raw;
mod readers;
mod recount;
mod replay;
mod rows;
mod sampling;
mod scan;
mod scrub;
mod shard;
mod snapshot;
mod space;
mod status;
mod tables;
mod tree;
mod upkeep;
mod verify;
mod writer;

pub use completion::{Completion, CompletionQueue, Progress};
pub use error::OpenError;
pub use feed::ViewFeed;
pub use health::Health;
pub use hints::{HintReport, HintStatus, HintSubmission, Hints};
pub use queue::{QUEUE_BYTES_MAX, QUEUE_WRITES_MAX};
pub use raw::RawEngine;
pub use scan::{Chunk, SCAN_BYTES_MAX, SCAN_RECORDS_MAX, SCAN_TIME_MAX, ScanError};
pub use scrub::ScrubStep;
pub use snapshot::Snapshot;
pub use space::Pressure;
pub use status::{ShardStatus, Status};
pub use verify::Report;
pub use writer::{GROUP_BYTES_MAX, GROUP_WRITES_MAX};

use directory::{BALLAST_FILE, Directory, SHARDS_MAX};
use feed::Feeds;
use readers::Readers;
use shard::{Shard, shard_of};
use space::{Ballast, Space};
use tables::MAP_BYTES;
use writer::Writer;

/// Shards of a new directory on a machine with more than two cores, at most. More writers than this share the disk's
/// flushes instead of sharing a flush.
const SHARDS_DEFAULT_MAX: usize = 4;

/// A budget below this leaves no room for copy-on-write beside the data.
const BUDGET_BYTES_MIN: u64 = 2 << 20;

/// Where a store is and what it may use.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The data directory. It belongs to the store alone.
    pub directory: PathBuf,
    /// The cluster the node belongs to; a directory of another is refused.
    pub cluster: u128,
    /// Who the node is; a directory of another is refused.
    pub node: NodeId,
    /// The encoded layout to found a new store with. `None` refuses to found one: a directory that should hold data and
    /// does not, because its disk is not mounted say, must not become an empty store.
    pub founding: Option<Vec<u8>>,
    /// How many shards a new directory gets: a power of two up to 16, fixed for its life. `None`: by the number of cores, up
    /// to 4. With two cores or less it is 1, because one writer's larger groups are worth more than two writers' flushes.
    pub shards: Option<u8>,
    /// Bytes the records may use on disk, beside which hints may use a tenth as many; `None`: as many as there are.
    pub max_bytes: Option<u64>,
    /// The longest value it accepts.
    pub value_bytes_max: u64,
    /// Accept a file system on which LMDB is not safe.
    pub is_filesystem_forced: bool,
}

/// Whose a data directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: u128,
    /// The node.
    pub node: NodeId,
    /// Random, drawn when the directory was founded: tells it from any other one the node may have had.
    pub directory: [u8; 16],
    /// Its number of shards.
    pub shards: u8,
}

/// A write on its way to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission<O = WriteOperation> {
    /// What the worker calls it; `None` if nobody waits for the answer.
    pub token: Option<u64>,
    /// What to do.
    pub operation: O,
}

/// Why writes were not taken in. Nothing was done with any of them.
#[derive(Debug)]
pub struct Rejected<O = WriteOperation> {
    /// What to tell whoever asked for them.
    pub failure: Failure,
    /// The writes, handed back.
    pub submissions: Vec<Submission<O>>,
}

/// An open store.
pub struct Store {
    shards: Vec<Arc<Shard>>,
    readers: Readers,
    writers: Vec<JoinHandle<()>>,
    hints: Hints,
    feeds: Arc<Feeds>,
    /// Last, so that the lock outlives everything that works in the directory.
    directory: Directory,
}

impl Store {
    /// Opens the store of a directory, or founds one there if `config.founding` allows. Blocks while it reads the rows of
    /// all partitions.
    pub fn open(config: &StoreConfig) -> Result<Self, OpenError> {
        Self::open_feeding(config, true)
    }

    /// Opens a store whose hash trees are not fed. Only to measure what feeding them costs: nothing in such a store can be compared,
    /// and nobody may write to it in earnest.
    #[doc(hidden)]
    pub fn open_without_trees(config: &StoreConfig) -> Result<Self, OpenError> {
        Self::open_feeding(config, false)
    }

    fn open_feeding(config: &StoreConfig, is_fed: bool) -> Result<Self, OpenError> {
        config.check()?;
        let directory = Directory::open(config)?;
        let count = directory.identity.shards;
        let ballast = Arc::new(Ballast::take(directory.root.join(BALLAST_FILE)));
        let hints = Hints::open(config, &directory, Arc::clone(&ballast))?;
        let feeds = Arc::new(Feeds::default());
        let (shards, readers, writers) = (Vec::new(), Readers::default(), Vec::new());
        let mut store = Self { shards, readers, writers, hints, feeds, directory };
        for number in 0..count {
            let tables = store.directory.open_shard(number, config.map_bytes(count))?;
            store.shards.push(Arc::new(Shard::new(
                number,
                tables,
                store.directory.is_format_1,
                Arc::clone(&store.feeds),
            )?));
        }
        if store.directory.is_format_1 {
            store.shards().try_for_each(Shard::store_trees)?;
            store.directory.finish_format()?;
        }
        for shard in &store.shards {
            let writer = start((config, is_fed), count, Arc::clone(shard), Arc::clone(&ballast))?;
            store.writers.push(writer);
        }
        Ok(store)
    }

    /// Whose the store in a directory is, without opening it; `None` if none was ever founded there.
    pub fn recognise(directory: &Path) -> Result<Option<Identity>, OpenError> {
        Directory::recognise(directory)
    }

    /// Whose directory it is.
    pub fn identity(&self) -> &Identity {
        &self.directory.identity
    }

    /// What the node remembers of other nodes, as it was stored last; empty at first.
    pub fn acquaintances(&self) -> Result<Vec<u8>, OpenError> {
        self.directory.acquaintances()
    }

    /// Stores durably what the node remembers of other nodes.
    pub fn put_acquaintances(&self, acquaintances: &[u8]) -> Result<(), OpenError> {
        self.directory.put_acquaintances(acquaintances)
    }

    /// The shard that a key's writes are to be submitted to.
    pub fn shard_of(&self, store_key: &StoreKey) -> usize {
        shard_of(store_key, self.identity().shards)
    }

    /// Hands writes of one shard to its writer, or hands all of them back. Their answers arrive in `completions`, in the
    /// order in which they were submitted, except that what was minted is shown before. Does not block.
    pub fn submit(
        &self,
        shard: usize,
        completions: &Arc<CompletionQueue>,
        submissions: Vec<Submission>,
    ) -> Result<(), Rejected> {
        debug_assert!(submissions.iter().all(|submission| self.shard_of(&submission.operation.store_key()) == shard));
        self.shards[shard].queue.submit(completions, submissions)
    }

    /// Carries out one write and waits until it is durable: for what is done now and then, alone.
    pub async fn write(&self, operation: WriteOperation) -> Result<WriteOutcome, Failure> {
        let completions = CompletionQueue::new();
        let shard = self.shard_of(&operation.store_key());
        let submission = Submission { token: Some(0), operation };
        self.submit(shard, &completions, vec![submission]).map_err(|rejected| rejected.failure)?;
        let mut arrived = Vec::new();
        loop {
            completions.arrived().await;
            completions.drain(&mut arrived);
            for Completion { progress, .. } in arrived.drain(..) {
                if let Progress::Finished(outcome) = progress {
                    return Ok(outcome);
                }
            }
        }
    }

    /// A snapshot for one batch of reads.
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot::new(self)
    }

    /// What this node keeps for others.
    pub fn hints(&self) -> &Hints {
        &self.hints
    }

    /// How the store is.
    pub fn status(&self) -> Status {
        Status::of(self)
    }

    /// Lets no more writes in, finishes those that wait, and closes the directory. Dropping the store does the same.
    pub fn close(self) {
        drop(self);
    }

    fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().map(|shard| &**shard)
    }

    fn shard(&self, number: usize) -> &Shard {
        &self.shards[number]
    }

    fn oldest_reader(&self) -> (usize, Duration) {
        self.readers.oldest(Instant::now())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shards.iter().for_each(|shard| shard.queue.close());
        for writer in self.writers.drain(..) {
            if writer.join().is_err() {
                tracing::error!("a store's writer ended in a panic");
            }
        }
    }
}

fn start(
    (config, is_fed): (&StoreConfig, bool),
    count: u8,
    shard: Arc<Shard>,
    ballast: Arc<Ballast>,
) -> Result<JoinHandle<()>, OpenError> {
    let path = shard.tables.env.path().to_owned();
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| OpenError::Configuration(format!("no randomness: {error}")))?;
    let replica = Replica::new(Nonce(nonce), Limits { value_bytes_max: config.value_bytes_max });
    let space = Space::new(Arc::clone(&shard.tables.file), config.budget_bytes(count), count);
    let name = format!("store-{}", shard.number);
    let (unsure, blocked) = (BTreeMap::new(), BTreeMap::new());
    let writer = Writer { shard, replica, space, ballast, unsure, blocked, recount: None, is_fed };
    let run = move || writer.run_guarded();
    thread::Builder::new().name(name).spawn(run).map_err(OpenError::io(path, "could not start the writer"))
}

impl StoreConfig {
    /// A store without a budget of its own, for values up to 1 MiB, that is not to be founded.
    pub fn new(directory: impl Into<PathBuf>, cluster: u128, node: NodeId) -> Self {
        Self {
            directory: directory.into(),
            cluster,
            node,
            founding: None,
            shards: None,
            max_bytes: None,
            value_bytes_max: 1 << 20,
            is_filesystem_forced: false,
        }
    }

    fn check(&self) -> Result<(), OpenError> {
        if let Some(shards) = self.shards
            && (!shards.is_power_of_two() || shards > SHARDS_MAX)
        {
            let message = format!("{shards} shards: give a power of two up to {SHARDS_MAX}, or nothing");
            return Err(OpenError::Configuration(message));
        }
        let shards = u64::from(self.shards.unwrap_or(1));
        if let Some(max_bytes) = self.max_bytes
            && max_bytes / shards < BUDGET_BYTES_MIN
        {
            let message = format!("a budget of {max_bytes} bytes: give at least {BUDGET_BYTES_MIN} for each shard");
            return Err(OpenError::Configuration(message));
        }
        Ok(())
    }

    /// The number of shards of a new directory.
    fn shards_or_default(&self) -> Result<u8, OpenError> {
        self.check()?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let by_cores = if cores <= 2 { 1 } else { cores.next_power_of_two().min(SHARDS_DEFAULT_MAX) };
        Ok(self.shards.unwrap_or(u8::try_from(by_cores).unwrap_or(1)))
    }

    /// A shard's share of the budget, in whole pages of any size.
    fn budget_bytes(&self, shards: u8) -> Option<u64> {
        const PAGE_BYTES_MAX: u64 = 64 << 10;
        self.max_bytes.map(|bytes| (bytes / u64::from(shards)).next_multiple_of(PAGE_BYTES_MAX))
    }

    fn map_bytes(&self, shards: u8) -> u64 {
        self.budget_bytes(shards).unwrap_or(MAP_BYTES).min(MAP_BYTES)
    }
}

#[cfg(test)]
mod tests;
