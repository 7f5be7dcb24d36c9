//! Reading at a replica, and the comparison of views that reads and writes share (design, ring, "Moving a partition").

use bytes::Bytes;

use super::{PartitionRow, Refusal};
use crate::{
    bug::{self, Bug},
    ident::StoreKey,
    layout::{PARTITION_BITS_MAX, View},
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

/// The row that a key's records are counted in, whatever the number of its bits: a node that has not learned of a doubling still has the
/// parent's, one that has learned of it has the child's. `bits` is where to look first; `lookup` finds a row by bits and prefix.
pub fn find_row<T>(store_key: &StoreKey, bits: u8, mut lookup: impl FnMut(u8, u32) -> Option<T>) -> Option<T> {
    let id = store_key.id();
    other_bits(bits).find_map(|bits| lookup(bits, id.prefix(bits)))
}

/// The numbers of bits that a key's row may have, the likely one first.
pub(super) fn other_bits(likely: u8) -> impl Iterator<Item = u8> {
    let likely = likely.min(PARTITION_BITS_MAX);
    core::iter::once(likely).chain((0..=PARTITION_BITS_MAX).filter(move |bits| *bits != likely))
}

/// Whether data that was fetched *before* this row may be given out under `view`. The row is the key's, by whatever number of bits
/// ([`find_row`]).
pub fn check_read(row: Option<&PartitionRow>, store_key: &StoreKey, view: &View) -> Result<(), Refusal> {
    check_place(store_key, view)?;
    check_view(row.ok_or_else(|| Refusal::Failed(unknown()))?, view)
}

/// Whether a view is one of a key's partition at all.
pub(super) fn check_place(store_key: &StoreKey, view: &View) -> Result<(), Refusal> {
    if view.bits > PARTITION_BITS_MAX || view.lo > view.hi || store_key.id().prefix(view.bits) != view.prefix {
        let message = "the view does not belong to the key's partition; nothing was done";
        return Err(Refusal::Failed(Failure::new(ErrorCode::InvalidRequest, message)));
    }
    Ok(())
}

/// Compares an operation's view with the replica's: acting under an older one than the replica's is refused, in both ends.
/// With the newer end alone a reader could count a replica that has handed its data over since.
pub(super) fn check_view(row: &PartitionRow, view: &View) -> Result<(), Refusal> {
    let mine = row.view;
    check_bits(&mine, view)?;
    let is_any_accepted = bug::is_on(Bug::AcceptOldView);
    let is_old_hi = mine.hi > view.hi && !is_any_accepted;
    let is_old_lo = mine.lo > view.lo && !is_any_accepted && !bug::is_on(Bug::AcceptOldLo);
    // Who does not look at the older end serves what it has handed over as well.
    let is_gone = row.is_moved && !(bug::is_on(Bug::AcceptOldLo) && mine.hi == view.hi);
    if is_old_hi || is_old_lo || is_gone {
        return Err(Refusal::Stale(mine));
    }
    if is_behind(&mine, view) && !is_any_accepted {
        return Err(Refusal::Behind(mine));
    }
    Ok(())
}

/// Whether both views are of partitions of one size. A parent's view says nothing about a child: they may have different owners since.
pub(super) fn check_bits(mine: &View, view: &View) -> Result<(), Refusal> {
    match mine.bits.cmp(&view.bits) {
        _ if bug::is_on(Bug::ViewWithoutBits) => Ok(()),
        core::cmp::Ordering::Greater => Err(Refusal::Stale(*mine)),
        core::cmp::Ordering::Less => Err(Refusal::Behind(*mine)),
        core::cmp::Ordering::Equal => Ok(()),
    }
}

/// Whether an operation's sender knows something that the replica does not.
pub(super) fn is_behind(mine: &View, view: &View) -> bool {
    mine.hi < view.hi || mine.lo < view.lo
}

/// What a peer is told whose layout is newer than this node's.
pub(super) fn behind() -> Failure {
    Failure::new(
        ErrorCode::StaleView,
        "the operation was sent under a newer layout than this node has; nothing was done, ask it again later",
    )
}

/// What is said of a partition that was never here.
pub(super) fn unknown() -> Failure {
    Failure::new(
        ErrorCode::StaleView,
        "this node holds no such partition; nothing was done, fetch the ring and ask an owner",
    )
}
