//! How the writers' answers reach a worker: a list under a lock and one wake for a whole group. A worker is a
//! single-threaded runtime; waking it once per write would cost more than the write.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dynamo::replica::{Minted, WriteOutcome};
use tokio::sync::Notify;

/// What a worker learns of one of its writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The version is minted and may be sent to peers while it is being committed here. Nothing is durable yet. Comes at
    /// most once, before [`Progress::Finished`], and only for operations that mint. Should the commit fail, the write ends
    /// otherwise, and what was sent to peers in the meantime may stay there.
    Minted(Minted),
    /// How it ended. What was stored is durable.
    Finished(WriteOutcome),
}

/// An answer to a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What the worker called the write.
    pub token: u64,
    /// What it learns.
    pub progress: Progress,
}

/// Where one worker's answers arrive. Bounded by what the worker has in flight: every write is answered at most twice.
#[derive(Debug, Default)]
pub struct CompletionQueue {
    arrived: Mutex<Vec<Completion>>,
    wake: Notify,
}

impl CompletionQueue {
    /// An empty queue for one worker.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Waits until something may have arrived. To be followed by [`CompletionQueue::drain`]; only one task may wait.
    pub async fn arrived(&self) {
        self.wake.notified().await;
    }

    /// Moves what has arrived to the end of `into`, oldest first.
    pub fn drain(&self, into: &mut Vec<Completion>) {
        into.append(&mut self.lock());
    }

    /// Adds answers and wakes the worker once.
    pub(super) fn deliver(&self, completions: impl Iterator<Item = Completion>) {
        self.lock().extend(completions);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Completion>> {
        // A list that a panic left behind is still a list.
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
