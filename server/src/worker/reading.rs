//! Reading a batch from the store with a bound: a thousand keys may hold a thousand times the longest value, and one batch
//! must not take a node's memory. What would pass the bound is left behind, with an answer that asks for a smaller batch.

use dynamo::{
    operation::{ErrorCode, Failure},
    peer::{PeerOperation, PeerResult},
};
use schema::convert::BATCH_BYTES_MAX;

use crate::node::Node;

/// Bytes of records that one batch may read, unless its first record alone is longer: what a reply may carry, and a little
/// for what stands around the values.
const RECORD_BYTES_MAX: usize = BATCH_BYTES_MAX + BATCH_BYTES_MAX / 4;

/// Operations that are read before anybody looks at how much came: so many of the longest values are still bearable.
const FIRST_PIECE: usize = 8;

/// Bytes a piece should have, so that the bound is passed by little.
const PIECE_BYTES: usize = 512 << 10;

/// Answers reads, in their order, at the end of `results`, all from one snapshot. Records that can't be verified are made known
/// to the steward, which has them rebuilt.
pub(crate) fn read_all(node: &Node, operations: &[PeerOperation], results: &mut Vec<PeerResult>) {
    let mut snapshot = node.store.snapshot();
    let (mut rest, mut piece, mut bytes) = (operations, FIRST_PIECE, 0);
    while !rest.is_empty() {
        if bytes >= RECORD_BYTES_MAX {
            results.extend(rest.iter().map(|_| PeerResult::Failed(left_behind())));
            return;
        }
        let (now, later) = rest.split_at(piece.min(rest.len()));
        let first = results.len();
        snapshot.read_all(now, results);
        for (operation, result) in now.iter().zip(&results[first..]) {
            // Where a whole shard is damaged, nothing can be rebuilt, and what was never there counts as unreadable too.
            if *result == PeerResult::Corrupt && node.store.is_sound(&operation.store_key) {
                node.steward.corrupt(operation.store_key);
            }
        }
        let read: usize = results[first..].iter().map(record_bytes).sum();
        bytes += read;
        // As many as would have the wanted size if they are like these, but no more than twice as many.
        piece = (piece * PIECE_BYTES / read.max(1)).clamp(1, piece * 2);
        rest = later;
    }
}

fn record_bytes(result: &PeerResult) -> usize {
    match result {
        PeerResult::Record(record) => record.len(),
        PeerResult::Digest(_)
        | PeerResult::Absent
        | PeerResult::Stored
        | PeerResult::Stale(_)
        | PeerResult::Corrupt
        | PeerResult::Failed(_) => 0,
    }
}

fn left_behind() -> Failure {
    let message = "the records of this batch do not fit into one answer; ask for this one in a smaller batch";
    Failure { retryable: true, ..Failure::new(ErrorCode::TooLarge, message) }
}
