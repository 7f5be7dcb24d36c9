//! What nodes ask of each other's replicas, and the answers: the schema's `Peer` in the protocol's own types.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::{
    ident::{NodeId, StoreKey},
    layout::View,
    operation::Failure,
};

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
    /// Return what this node keeps of the key for owners that are away, merged over all of them.
    ReadHint,
    /// Keep a whole object for an owner that is away ([`crate::hint`]).
    Hint {
        /// The owner.
        target: NodeId,
        /// The object, as a record.
        record: Bytes,
    },
}

/// A question to the hash tree of one partition of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeQuestion {
    /// The view of the partition under which it was sent.
    pub view: View,
    /// About which keys.
    pub path: TreePath,
    /// What of them.
    pub ask: TreeAsk,
}

/// The keys whose identifiers begin with certain bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreePath {
    /// The first bits of the identifier, from the highest on; all others are zero.
    pub prefix: u64,
    /// How many bits count; at least the partition's.
    pub bits: u8,
}

/// What is asked of a hash tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeAsk {
    /// How many keys there are and the sum of their terms.
    Sum,
    /// The same for each of the 256 ranges with 8 bits more.
    Children,
    /// The keys with their records' digests, at most so many.
    Keys(u32),
}

/// How many keys a range has, and the sum of their terms modulo 2^64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeSum {
    /// How many keys.
    pub count: u64,
    /// Their terms, added.
    pub sum: u64,
}

/// The answer to a [`TreeQuestion`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeAnswer {
    /// To [`TreeAsk::Sum`].
    Sum(TreeSum),
    /// To [`TreeAsk::Children`]: 256 sums in order.
    Children(Vec<TreeSum>),
    /// To [`TreeAsk::Keys`].
    Keys {
        /// Store keys with the checksums of their records, in order.
        keys: Vec<(StoreKey, u128)>,
        /// There are more than were asked for: a longer path is needed.
        more: bool,
    },
    /// The sender's view is old; this is the replica's.
    Stale(View),
    /// It failed.
    Failed(Failure),
}

/// How a replica stands with a partition that may be moving: what its row says, for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which configurations are active, as it durably knows.
    pub view: View,
    /// The newest configuration for which it has merged a majority of every older active one, each read after its fence; 0 for none.
    pub full: u64,
    /// It has handed the partition over and deleted it.
    pub is_moved: bool,
    /// How many records it holds.
    pub records: u64,
    /// How far its first copy has come: the first 64 bits of the identifiers below which everything has been copied; all bits set when
    /// it is complete. A remark, on which nothing rests.
    pub copied: u64,
}

impl Standing {
    /// How a replica stands that holds nothing yet.
    pub fn new(view: View) -> Self {
        Self { view, full: 0, is_moved: false, records: 0, copied: 0 }
    }
}

/// A question about a partition that moves (design, ring, "Moving a partition").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveQuestion {
    /// The partition, and what the sender knows of its view.
    pub view: View,
    /// What is asked.
    pub ask: MoveAsk,
}

/// What is asked about a partition that moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveAsk {
    /// How the replica stands. Answered by `Standing`, or `Unknown` if it never held the partition.
    Standing,
    /// Know durably at least the question's view, `hi` (the fence) and `lo` (what is retired) each for itself. Answered by `Standing`
    /// after the commit. A replica that does not have the layouts of that view yet fetches them first.
    Adopt,
    /// Records in the order of their store keys, for the first copy: no quorum rests on it, so any view will do. Answered by `Range`.
    Range {
        /// Only those after this one.
        after: Option<StoreKey>,
        /// At most so many bytes of records, unless the first alone is longer.
        bytes_max: u32,
    },
}

/// The answer to a [`MoveQuestion`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveAnswer {
    /// How the replica stands.
    Standing(Standing),
    /// It holds no such partition and never did.
    Unknown,
    /// Records with their keys, in order.
    Range {
        /// The records; those that can't be verified are left out, and found by the exchange after the fence.
        records: Vec<(StoreKey, Bytes)>,
        /// There are more.
        more: bool,
    },
    /// It failed, and nothing was done.
    Failed(Failure),
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
