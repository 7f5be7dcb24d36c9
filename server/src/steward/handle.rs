//! What the rest of the node tells the steward and asks of it, from any thread and without waiting. What is told repeatedly
//! is kept once, so nothing here grows with how often a damaged key is read.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use dynamo::{
    ident::StoreKey,
    layout::NodeIndex,
    steward::{Status, Transfer, TransferTotals, UNREADABLE_MAX},
};
use schema::convert::RepairRun;
use tokio::sync::Notify;

use super::scrub::ScrubProgress;

/// The way to the steward.
#[derive(Debug, Default)]
pub(crate) struct Handle {
    inbox: Mutex<Inbox>,
    wake: Notify,
    seen: Mutex<Seen>,
    /// The partitions of which something may be held that was read and is not written yet.
    at_work: Mutex<BTreeSet<u32>>,
    /// The partitions that move to or from this node.
    transfers: Mutex<(TransferTotals, Vec<Transfer>)>,
}

/// What was told and not taken in yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Records found unreadable.
    pub(super) corrupt: BTreeSet<StoreKey>,
    /// Nodes that somebody heard of.
    pub(super) heard: BTreeSet<NodeIndex>,
    /// What is to be done at once.
    pub(super) run: RepairRun,
}

/// How everything stood when the steward last said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) status: Status,
    pub(super) scrub: ScrubProgress,
    pub(super) traffic: Traffic,
}

/// What the steward's own connections have carried since the start, both ways.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    /// Calls to hash trees.
    pub(crate) tree_calls: u64,
    /// Their bytes.
    pub(crate) tree_bytes: u64,
    /// Calls that moved objects or looked at single ones.
    pub(crate) object_calls: u64,
    /// Their bytes.
    pub(crate) object_bytes: u64,
}

impl Handle {
    /// A record of this node can't be verified: it is to be rebuilt from the other owners'.
    pub(crate) fn corrupt(&self, store_key: StoreKey) {
        let is_new = {
            let mut inbox = self.inbox();
            // A scrub finds again what is not remembered.
            inbox.corrupt.len() < UNREADABLE_MAX && inbox.corrupt.insert(store_key)
        };
        if is_new {
            self.wake.notify_one();
        }
    }

    /// A node is alive, as somebody heard: it is connected to at once if it is not.
    pub(crate) fn heard(&self, node: NodeIndex) {
        if self.inbox().heard.insert(node) {
            self.wake.notify_one();
        }
    }

    /// Begins at once what would be done some time.
    pub(crate) fn run(&self, run: RepairRun) {
        {
            let wanted = &mut self.inbox().run;
            wanted.exchange |= run.exchange;
            wanted.hints |= run.hints;
            wanted.scrub |= run.scrub;
        }
        self.wake.notify_one();
    }

    /// What the steward's connections have carried.
    pub(crate) fn traffic(&self) -> Traffic {
        self.seen().traffic
    }

    /// Whether a comparison or a rebuild of this partition is under way.
    pub(crate) fn works_on(&self, partition: u32) -> bool {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner).contains(&partition)
    }

    /// Says of which partitions a comparison or a rebuild is under way.
    pub(super) fn set_at_work(&self, partitions: BTreeSet<u32>) {
        *self.at_work.lock().unwrap_or_else(PoisonError::into_inner) = partitions;
    }

    /// The partitions that move to or from this node, all together and those at work.
    pub(crate) fn transfers(&self) -> (TransferTotals, Vec<Transfer>) {
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says which partitions move.
    pub(super) fn set_transfers(&self, totals: TransferTotals, transfers: Vec<Transfer>) {
        *self.transfers.lock().unwrap_or_else(PoisonError::into_inner) = (totals, transfers);
    }

    /// Waits until something was told.
    pub(super) async fn told(&self) {
        self.wake.notified().await;
    }

    /// Takes in what was told.
    pub(super) fn take(&self) -> Inbox {
        mem::take(&mut *self.inbox())
    }

    /// What the steward last said of itself.
    pub(super) fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The steward says how things stand.
    pub(super) fn show(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // What a panic left behind is still a list of wishes.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use dynamo::ident::StoreKey;
    use schema::convert::RepairRun;

    use super::Handle;

    #[test]
    fn what_is_told_a_thousand_times_is_kept_once_and_taken_once() {
        let handle = Handle::default();
        for _ in 0..1_000 {
            handle.corrupt(StoreKey([7; 32]));
        }
        handle.run(RepairRun { scrub: true, ..RepairRun::default() });
        handle.run(RepairRun { hints: true, ..RepairRun::default() });
        let inbox = handle.take();
        assert_eq!(inbox.corrupt.len(), 1);
        assert_eq!(inbox.run, RepairRun { exchange: false, hints: true, scrub: true });
        assert!(handle.take().corrupt.is_empty());
    }
}
