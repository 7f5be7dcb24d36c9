//! Everything the writer of the hints and their readers share.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicU64},
};

use dynamo::{
    hint::{HintBounds, HintOperation, HintUsage},
    ident::{NodeId, StoreKey},
};

use super::opening::{HintTables, Opened};
use crate::store::{CompletionQueue, health::Watch, queue::Queue};

/// What the hints are called in the log.
pub(super) const NAME: &str = "hints";

/// The environment of the hints while it is open.
pub(super) struct Shared {
    pub(super) tables: HintTables,
    pub(super) queue: Queue<HintOperation>,
    pub(super) health: Watch,
    pub(super) bounds: HintBounds,
    pub(super) gauges: Gauges,
    /// Where the answers to this room's own operations go: nobody waits for them.
    pub(super) nobody: Arc<CompletionQueue>,
    committed: RwLock<Committed>,
}

/// What is known in memory. The writer changes it before it acknowledges a commit, so that whoever was told that a hint is
/// kept finds its target here.
struct Committed {
    backlog: Vec<(NodeId, HintUsage)>,
    /// The keys of which a hint stands aside.
    aside: BTreeSet<StoreKey>,
    /// How many hints those are.
    aside_count: u64,
}

/// What the writer tells about itself.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) kept: AtomicU64,
    /// By target: whoever looks at one that is away wants to know whether it will miss something.
    pub(super) refused: Mutex<BTreeMap<NodeId, u64>>,
    pub(super) delivered: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) commit_us: AtomicU64,
}

impl Shared {
    pub(super) fn new(opened: Opened, bounds: HintBounds) -> Self {
        let Opened { tables, health, backlog, aside } = opened;
        let aside_count = aside.len() as u64;
        let aside = aside.into_iter().map(|key| key.store_key).collect();
        Self {
            tables,
            queue: Queue::default(),
            health,
            bounds,
            gauges: Gauges::default(),
            nobody: CompletionQueue::new(),
            committed: RwLock::new(Committed { backlog, aside, aside_count }),
        }
    }

    /// How many hints were refused, for each target for which any was.
    pub(super) fn refused(&self) -> BTreeMap<NodeId, u64> {
        self.gauges.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A hint for a target was refused.
    pub(super) fn note_refused(&self, target: NodeId) {
        *self.gauges.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(target).or_insert(0) += 1;
    }

    /// What is kept for each target.
    pub(super) fn backlog(&self) -> Vec<(NodeId, HintUsage)> {
        self.committed.read().unwrap_or_else(PoisonError::into_inner).backlog.clone()
    }

    /// Whether a hint of the key stands aside.
    pub(super) fn is_aside(&self, store_key: &StoreKey) -> bool {
        self.committed.read().unwrap_or_else(PoisonError::into_inner).aside.contains(store_key)
    }

    /// How many hints stand aside.
    pub(super) fn aside_count(&self) -> u64 {
        self.committed.read().unwrap_or_else(PoisonError::into_inner).aside_count
    }

    /// Shows readers what is about to be set aside: before the commit, so that nobody finds it neither here nor there. If the
    /// commit fails, the keys still can't be verified.
    pub(super) fn announce(&self, aside: &[StoreKey]) {
        if !aside.is_empty() {
            self.committed.write().unwrap_or_else(PoisonError::into_inner).aside.extend(aside);
        }
    }

    /// Shows readers what a commit has changed: what is kept now, and how many hints it set aside.
    pub(super) fn publish(&self, backlog: Vec<(NodeId, HintUsage)>, aside: &[StoreKey]) {
        let mut committed = self.committed.write().unwrap_or_else(PoisonError::into_inner);
        committed.backlog = backlog;
        committed.aside_count += aside.len() as u64;
    }

    /// Notes damage, and hands back what it is.
    pub(super) fn damaged(&self, what: impl Into<String>) -> String {
        let what = what.into();
        self.health.damaged(NAME, &*what);
        what
    }
}
