//! What nodes ask of each other's replicas, and the answers: the schema's `Peer` in the protocol's own types.

use bytes::Bytes;

use crate::{ident::StoreKey, layout::View, operation::Failure};

/// An operation on one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerOperation {
    /// The view of the partition under which it was sent.
    pub view: View,
    /// Which record.
    pub store_key: StoreKey,
    /// What to do.
    pub action: PeerAction,
}

/// What an operation on a replica does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAction {
    /// Return the record.
    Read,
    /// Return only the record's checksum.
    Digest,
    /// Merge a whole object, given as a record, with what the replica holds.
    Merge(Bytes),
}

/// A replica's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerResult {
    /// The record as stored, checksum verified.
    Record(Bytes),
    /// The record's checksum.
    Digest(u128),
    /// The replica holds nothing under this key.
    Absent,
    /// The merge is durable.
    Stored,
    /// The sender's view is old; this is the replica's.
    Stale(View),
    /// The replica has a record and can't verify it.
    Corrupt,
    /// It failed; nothing was stored unless `maybe_applied` says so.
    Failed(Failure),
}
