//! The queue before a writer, of a shard or of the hints. Bounded by count and by bytes; whoever comes when it is full is refused at once,
//! because waiting longer than a deadline helps nobody.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use bytes::Bytes;
use dynamo::{
    hint::HintOperation,
    layout::View,
    operation::{Address, Failure},
    replica::{Adoption, Write, WriteOperation},
};

use super::{CompletionQueue, Rejected, Submission, error};

/// Writes waiting for one shard: at the 20,000 a second that a shard does at its slowest (10 M keys, measured), the last of
/// them waits 0.8 s, which is less than a client's usual deadline.
pub const QUEUE_WRITES_MAX: usize = 16_384;

/// Bytes waiting for one shard: what a slow disk (100 MB/s) writes in that time, and bounded memory for large values.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// What a writer can be asked to do.
pub(super) trait Payload {
    /// Bytes it brings: what it holds in memory, and about what it writes.
    fn payload_bytes(&self) -> usize;
}

/// What an operation takes besides: itself, and a record's head around a value.
const AROUND_BYTES: usize = 256;

/// What is waiting.
enum Job<O> {
    /// Writes of one worker.
    Writes(Batch<O>),
    /// Rows to be created or changed.
    Adopt(Wanted),
}

/// Which rows there shall be, and who waits for them.
pub(super) struct Wanted {
    pub(super) rows: WantedRows,
    pub(super) answer: mpsc::SyncSender<Result<(), Failure>>,
}

/// Which rows there shall be.
pub(super) enum WantedRows {
    /// Those that a ring wants.
    Following(Adoption),
    /// Those of certain partitions, whatever any ring says.
    Held(Vec<View>),
}

/// Writes that one worker handed in together.
pub(super) struct Batch<O> {
    pub(super) completions: Arc<CompletionQueue>,
    pub(super) submissions: Vec<Submission<O>>,
    pub(super) bytes: usize,
}

/// The queue of a writer.
pub(super) struct Queue<O> {
    state: Mutex<State<O>>,
    changed: Condvar,
}

struct State<O> {
    jobs: VecDeque<Job<O>>,
    writes: usize,
    bytes: usize,
    is_closed: bool,
}

/// What the writer takes at once.
pub(super) struct Group<O> {
    pub(super) batches: Vec<Batch<O>>,
    pub(super) adoptions: Vec<Wanted>,
    pub(super) writes: usize,
    pub(super) bytes: usize,
}

impl<O> Default for Queue<O> {
    fn default() -> Self {
        let state = State { jobs: VecDeque::new(), writes: 0, bytes: 0, is_closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<O: Payload> Queue<O> {
    /// Takes in a batch, or gives it back if there is no room. A single batch may be larger than the bound in bytes, when
    /// nothing else waits: refusing it would refuse it for ever.
    pub(super) fn submit(
        &self,
        completions: &Arc<CompletionQueue>,
        submissions: Vec<Submission<O>>,
    ) -> Result<(), Rejected<O>> {
        let bytes = submissions.iter().map(|submission| AROUND_BYTES + submission.operation.payload_bytes()).sum();
        let mut state = self.lock();
        let refuse = |failure, submissions| Err(Rejected { failure, submissions });
        if state.is_closed {
            return refuse(error::closing(), submissions);
        }
        let is_over = state.writes + submissions.len() > QUEUE_WRITES_MAX || state.bytes + bytes > QUEUE_BYTES_MAX;
        if is_over && state.writes > 0 {
            return refuse(error::overloaded(), submissions);
        }
        state.writes += submissions.len();
        state.bytes += bytes;
        state.jobs.push_back(Job::Writes(Batch { completions: Arc::clone(completions), submissions, bytes }));
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes in partitions to adopt.
    pub(super) fn adopt(&self, adoption: Wanted) -> Result<(), Failure> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(error::closing());
        }
        state.jobs.push_back(Job::Adopt(adoption));
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for work and takes whole batches until the group has `writes_max` writes or `bytes_max` bytes. `None` when the
    /// queue is closed and empty; an empty group when nothing came in time.
    pub(super) fn take(&self, writes_max: usize, bytes_max: usize, patience: Duration) -> Option<Group<O>> {
        let mut state = self.lock();
        if state.jobs.is_empty() && !state.is_closed {
            let waited =
                self.changed.wait_timeout_while(state, patience, |state| state.jobs.is_empty() && !state.is_closed);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.jobs.is_empty() && state.is_closed {
            return None;
        }
        let mut group = Group { batches: Vec::new(), adoptions: Vec::new(), writes: 0, bytes: 0 };
        while let Some(job) = state.jobs.pop_front() {
            match job {
                Job::Adopt(adoption) => group.adoptions.push(adoption),
                Job::Writes(batch) => {
                    let (writes, bytes) = (group.writes + batch.submissions.len(), group.bytes + batch.bytes);
                    if group.writes > 0 && (writes > writes_max || bytes > bytes_max) {
                        state.jobs.push_front(Job::Writes(batch));
                        break;
                    }
                    state.writes -= batch.submissions.len();
                    state.bytes -= batch.bytes;
                    group.writes = writes;
                    group.bytes = bytes;
                    group.batches.push(batch);
                }
            }
        }
        Some(group)
    }

    /// Lets nothing in any more. What waits is still taken.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Writes and bytes that wait.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.writes, state.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State<O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Payload for WriteOperation {
    fn payload_bytes(&self) -> usize {
        match self {
            Self::Merge { record, .. } => record.len(),
            Self::Rebuild { record, .. } => record.as_ref().map_or(0, Bytes::len),
            Self::Reap { .. } | Self::Move(_) => 0,
            Self::Mint { address, write, .. } => minted_bytes(address, write),
        }
    }
}

impl Payload for HintOperation {
    fn payload_bytes(&self) -> usize {
        match self {
            Self::Keep { record, .. } => record.len(),
            Self::Mint { address, write, .. } => minted_bytes(address, write),
            Self::Drop { .. } => 0,
        }
    }
}

fn minted_bytes(address: &Address, write: &Write) -> usize {
    address.key.len() + write.content.bytes().map_or(0, Bytes::len)
}
