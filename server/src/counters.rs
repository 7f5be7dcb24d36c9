//! What a node counts. Each worker has its own set, so counting never makes two cores share a cache line; `status` adds them
//! up. Numbers only grow, except the few that say how much there is now.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread changes and any may read.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub(crate) fn one(&self) {
        self.add(1);
    }

    /// Adds `number`.
    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// Takes `number` away, for what says how much there is now.
    pub(crate) fn subtract(&self, number: u64) {
        self.0.fetch_sub(number, Ordering::Relaxed);
    }

    /// Replaces the number by one that was counted elsewhere.
    pub(crate) fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    /// The number.
    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($name:ident: $help:literal,)+) => {
        /// One worker's counters. Aligned so that two workers' sets share no cache line.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct Counters {
            $(#[doc = $help] pub(crate) $name: Count,)+
        }

        impl Counters {
            /// Name, number and meaning of each, added up over all workers.
            pub(crate) fn sum(all: &[impl AsRef<Self>]) -> Vec<(&'static str, u64, &'static str)> {
                vec![$((stringify!($name), all.iter().map(|counters| counters.as_ref().$name.read()).sum(), $help),)+]
            }
        }
    };
}

counters! {
    gets_found: "gets that found at least one value",
    gets_not_found: "gets that found no value",
    gets_failed: "gets that ended in an error",
    puts_stored: "puts that reached their quorum",
    puts_failed: "puts that ended in an error, whether or not they may have been applied",
    deletes_stored: "deletes that reached their quorum",
    deletes_failed: "deletes that ended in an error, whether or not they may have been applied",
    operations_invalid: "operations that broke the contract and were refused undone",
    layouts_asked_for: "times that the layout was asked for",
    layouts_told: "answers to that with a layout or a part of one; the others were told that theirs is the newest",
    layouts_told_as_deltas: "of these, answers that told only what has changed",
    layouts_told_bytes: "bytes of all answers about the layout",
    batches: "client calls that carried operations",
    batch_operations: "operations of those calls; divide by batches for the mean batch size",
    forwards: "operations handed to a node that owns their key",
    forwarded_here: "operations that another node handed over",
    peer_batches_in: "calls of other nodes",
    peer_operations_in: "operations of those calls",
    peer_batches_out: "calls to other nodes",
    peer_operations_out: "operations of those calls; divide for the mean batch size",
    peer_calls_timed_out: "calls to other nodes that were not answered in time",
    peer_calls_lost: "calls to other nodes whose connection broke before the answer",
    peer_operations_unsent: "operations for other nodes that were not sent: the node was down or its queue full",
    repairs: "merged objects sent to owners that were behind",
    repairs_dropped: "repairs not sent because there was no room; a later read tries again",
    read_fetches: "records fetched after the reply because only their digest was known",
    read_hedges: "nodes asked for a record because others were slow",
    read_hedges_withheld: "times that nobody was asked although others were slow, because too many had been",
    hints_sent: "objects sent to stand-ins, to be kept for owners that failed",
    hints_lost: "hints that a stand-in refused, or whose answer never came",
    hint_reads: "times that a stand-in, this node included, was asked what it keeps of a key",
    stood_in: "operations coordinated here in the owners' place, because none of them could be reached",
    lingers_cut_short: "operations that did not wait for late answers because too many did",
    quorum_timeouts: "operations that ended at their deadline",
    overloads: "operations refused because too much was in flight",
    expired: "operations dropped because their deadline had passed before any work was done",
    stale_views: "operations of other nodes refused because their view of the partition was old",
    corrupt_records: "records that could not be verified, here or at another node; none was served",
    connections_accepted: "connections accepted",
    connections_refused: "connections closed at once because too many were open",
    connections_failed: "connections ended by a broken frame, a limit or a timeout",
    panics: "connections ended by a bug; please report it with the log",
    hellos_refused: "introductions refused: wrong version, cluster, or proof",
    clients: "client connections open now",
    peers: "connections of other nodes open now",
    strangers: "connections open now that have not introduced themselves",
    operations_in_flight: "operations in flight now, of clients and of other nodes",
    bytes_in_flight: "bytes of requests in flight now, of clients and of other nodes",
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Counters;

    #[test]
    fn the_counters_of_all_workers_are_added_up_by_name() {
        let workers = [Arc::new(Counters::default()), Arc::new(Counters::default())];
        workers[0].batches.add(2);
        workers[1].batches.one();
        let sum = Counters::sum(&workers);
        assert_eq!(sum.iter().find(|(name, ..)| *name == "batches").map(|(_, number, _)| *number), Some(3));
    }
}
