//! Reading at a replica, and the comparison of views that reads and writes share (design, ring, "Moving a partition").

use bytes::Bytes;

use super::{PartitionRow, Refusal};
use crate::{
    bug::{self, Bug},
    ident::StoreKey,
    layout::View,
    operation::{ErrorCode, Failure},
    peer::{PeerAction, PeerOperation, PeerResult},
    record,
};

/// Answers a peer's read from what a snapshot showed: `record` was fetched first and `row` after it, from the newest
/// committed state. Fetched the other way round, the view could be fenced between the two, and an answer given under it
/// that misses a write of its successors.
pub fn answer_read(operation: &PeerOperation, record: Option<&Bytes>, row: Option<&PartitionRow>) -> PeerResult {
    if let Err(refusal) = check_read(row, &operation.store_key, &operation.view) {
        return refusal.into();
    }
    let Some(record) = record else {
        return PeerResult::Absent;
    };
    let Ok(digest) = record::verify(&operation.store_key, record) else {
        return if bug::is_on(Bug::CorruptReadAsAbsent) { PeerResult::Absent } else { PeerResult::Corrupt };
    };
    match operation.action {
        PeerAction::Read => PeerResult::Record(record.clone()),
        PeerAction::Digest => PeerResult::Digest(digest),
        PeerAction::Merge(_) | PeerAction::ReadHint | PeerAction::Hint { .. } => {
            let message = "a write or a hint was handed to a reader of records; nothing was done";
            PeerResult::Failed(Failure::new(ErrorCode::Internal, message))
        }
    }
}

/// Whether data that was fetched *before* this row may be given out under `view`.
pub fn check_read(row: Option<&PartitionRow>, store_key: &StoreKey, view: &View) -> Result<(), Refusal> {
    check_view(row, store_key, view)
}

/// Compares an operation's view with the replica's: acting under an older one than the replica's is refused, in both ends.
/// With the newer end alone a reader could count a replica that has handed its data over since.
pub(super) fn check_view(row: Option<&PartitionRow>, store_key: &StoreKey, view: &View) -> Result<(), Refusal> {
    let failed = |code, message: &'static str| Err(Refusal::Failed(Failure::new(code, message)));
    if view.bits > 32 || view.lo > view.hi || store_key.id().prefix(view.bits) != view.prefix {
        return failed(ErrorCode::InvalidRequest, "the view does not belong to the key's partition; nothing was done");
    }
    let Some(PartitionRow { view: mine, .. }) = row else {
        return failed(
            ErrorCode::StaleView,
            "this node holds no such partition; nothing was done, fetch the ring and ask an owner",
        );
    };
    if bug::is_on(Bug::AcceptOldView) {
        return Ok(());
    }
    if mine.hi > view.hi || mine.lo > view.lo {
        return Err(Refusal::Stale(*mine));
    }
    if mine.hi < view.hi || mine.lo < view.lo {
        // The ring can't change while it serves yet, so a newer view comes from another cluster's layout or from a bug.
        return failed(
            ErrorCode::StaleView,
            "the operation was sent under a newer layout than this node has; nothing was done, ask it again later",
        );
    }
    Ok(())
}
