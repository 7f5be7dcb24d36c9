//! Reading what is kept of a key: the merge of its hints over all targets. A stand-in has no other object of the key, so this
//! is also what it coordinates on.

use alloc::vec::Vec;

use bytes::Bytes;

use super::HintKey;
use crate::{
    ident::{NodeId, StoreKey},
    layout::View,
    operation::{Address, ErrorCode, Failure},
    peer::PeerResult,
    record::{self, Record, RecordError},
    replica::Standing,
};

/// Answers a peer's `ReadHint` from what one snapshot showed: the hints of the key for all targets. `is_aside` says that one of
/// them could not be verified once and was set aside: what is kept of the key is then not all that was.
pub fn answer_read(
    view: &View,
    store_key: &StoreKey,
    hints: impl IntoIterator<Item = Bytes>,
    is_aside: bool,
) -> PeerResult {
    // The view names the partition and no more: what is kept for others is theirs under whatever view they hold it now.
    if HintKey::new(NodeId(0), view, *store_key).is_none() {
        return PeerResult::Failed(misplaced());
    }
    let standing: Result<Vec<Standing>, RecordError> =
        hints.into_iter().map(|bytes| Standing::read(store_key, bytes)).collect();
    match standing.map(|standing| combine(store_key, standing)) {
        Err(_) => PeerResult::Corrupt,
        Ok(_) if is_aside => PeerResult::Corrupt,
        Ok(Ok(None)) => PeerResult::Absent,
        Ok(Ok(Some(combined))) => PeerResult::Record(combined.bytes),
        Ok(Err(failure)) => PeerResult::Failed(failure),
    }
}

/// Several hints of one key as if they were one.
pub(super) fn combine(store_key: &StoreKey, hints: Vec<Standing>) -> Result<Option<Standing>, Failure> {
    let mut hints = hints.into_iter();
    let Some(mut combined) = hints.next() else {
        return Ok(None);
    };
    let bucket_and_key = (combined.record.bucket.clone(), combined.record.key.clone());
    let address = Address { store_key: *store_key, bucket: bucket_and_key.0, key: bucket_and_key.1 };
    let digest = combined.record.digest;
    for Standing { record: Record { bucket, key, object, digest: other }, .. } in hints {
        if bucket != address.bucket || key != address.key {
            return Err(RecordError::OtherKey.failure());
        }
        if other != digest {
            combined.record.object.merge(&object);
            combined.bytes = Bytes::new();
        }
    }
    if combined.bytes.is_empty() {
        combined.bytes = record::encode(&address, &combined.record.object).into();
        combined.record.digest = record::digest(&combined.bytes);
    }
    Ok(Some(combined))
}

/// The answer to an operation whose view does not name the key's partition.
pub(super) fn misplaced() -> Failure {
    Failure::new(ErrorCode::InvalidRequest, "the view does not belong to the key's partition; nothing was done")
}
