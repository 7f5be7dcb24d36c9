//! The replica: owns the truth about partitions on this node (paper, sections 4.3 and 4.4). It checks the view of every
//! write, merges versions, and mints dots; it lives in the writer thread of one store shard and works inside that
//! thread's open transaction ([`Rows`]), so check and write can't be torn apart.
//!
//! It does not commit and does not answer: a [`Batch`] holds its outcomes back until the transaction is known to be
//! committed. What it minted may be shown to peers before that, because a dot never comes again: every process start takes
//! new actors, an aborted batch gives up the ones it minted under, and so does any sign that this replica forgot something.

use alloc::{collections::BTreeMap, vec::Vec};

use bytes::Bytes;

use crate::{
    ident::{OpId, StoreKey},
    layout::View,
    operation::{Address, Failure},
    peer::{PeerResult, Standing as Stands},
    version::{Content, Dot, put::Seen},
};

mod actors;
mod adoption;
mod apply;
mod batch;
mod listing;
mod merge;
mod mint;
mod partition;
mod read;
mod reap;
mod rebuild;
mod standing;
mod steps;

pub use actors::Nonce;
pub use adoption::Adoption;
pub use batch::{Batch, Staged};
pub use listing::{Counted, Listed, Planted};
pub use partition::{PARTITION_ROW_BYTES, PartitionRow, RowError};
pub use read::{answer_read, check_read, find_row};
pub use steps::DELETIONS_MAX;
pub(crate) use {
    actors::Actors,
    merge::{Received, receive},
    mint::{Minting, mint},
    standing::Standing,
};

/// The open write transaction of a shard, as the replica sees it. Writes are seen by later reads of the same transaction.
/// After an error the transaction must be aborted and the batch with it.
pub trait Rows {
    /// What a failed read or write of the store is.
    type Error;
    /// The record under a key, as it is stored.
    fn record(&mut self, key: &StoreKey) -> Result<Option<Bytes>, Self::Error>;
    /// Stores a record under a key.
    fn put_record(&mut self, key: &StoreKey, record: &[u8]) -> Result<(), Self::Error>;
    /// Removes the record under a key for good.
    fn remove_record(&mut self, key: &StoreKey) -> Result<(), Self::Error>;
    /// A record is other than before in this transaction, by the digests of what stood and of what stands: a hash tree is fed with
    /// this, so what it leaves must be durable together with the record.
    fn changed(&mut self, key: &StoreKey, before: Option<u128>, after: Option<u128>) -> Result<(), Self::Error>;
    /// The same when what stood there could not be read, so that its digest is unknown: the sums around it must be made anew.
    fn replaced_unknown(&mut self, key: &StoreKey, after: Option<u128>) -> Result<(), Self::Error>;
    /// The row of a partition.
    fn partition(&mut self, prefix: u32, bits: u8) -> Result<Option<PartitionRow>, Self::Error>;
    /// Stores the row of a partition.
    fn put_partition(&mut self, row: &PartitionRow) -> Result<(), Self::Error>;
    /// The first records from one key to another, at most so many, all verified.
    fn listed(&mut self, first: &StoreKey, last: &StoreKey, most: usize) -> Result<Vec<Listed>, Self::Error>;
    /// A partition comes to be by the split of another: counts its records by their heads, and begins its hash tree with them.
    fn plant(&mut self, prefix: u32, bits: u8) -> Result<Planted, Self::Error>;
    /// Removes the row of a partition and its hash tree. The records are no business of this.
    fn uproot(&mut self, prefix: u32, bits: u8) -> Result<(), Self::Error>;
}

/// A write to one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOperation {
    /// Merge a whole object that another replica sent.
    Merge {
        /// The view under which it was sent.
        view: View,
        /// Which key.
        store_key: StoreKey,
        /// The object, as a record.
        record: Bytes,
    },
    /// Mint a new version: the operation's coordinator is this node.
    Mint {
        /// The view under which the coordinator works.
        view: View,
        /// Which key.
        address: Address,
        /// What to write.
        write: Write,
    },
    /// Put the merge of what enough other owners hold in the place of a record that can't be verified; merged like any other if
    /// the record here has become readable since.
    Rebuild {
        /// The view under which the others answered.
        view: View,
        /// Which key.
        store_key: StoreKey,
        /// The merge, as a record; `None` if all of them hold nothing.
        record: Option<Bytes>,
    },
    /// Remove a record for good, if exactly this one stands here and a reader would be shown nothing of it. An operator's act: nothing
    /// else ever forgets a tombstone or an expired version.
    Reap {
        /// The view under which all owners were asked.
        view: View,
        /// Which key.
        store_key: StoreKey,
        /// The checksum of the record that every owner holds.
        digest: u128,
        /// Versions that have expired by this clock are not live; 0 if all that have not been deleted are.
        clock: u64,
    },
    /// A step of a partition's move: of its row, or of all its records.
    Move(MoveOperation),
}

impl WriteOperation {
    /// Which key it writes; of what concerns a whole partition, its first.
    pub fn store_key(&self) -> StoreKey {
        match self {
            Self::Merge { store_key, .. } | Self::Rebuild { store_key, .. } | Self::Reap { store_key, .. } => {
                *store_key
            }
            Self::Mint { address, .. } => address.store_key,
            Self::Move(operation) => operation.view().first_key(),
        }
    }
}

/// A step of a partition's move (design, ring, "Moving a partition"). Each is durable before it is answered, and says only what stays
/// true: a move that is interrupted anywhere goes on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveOperation {
    /// Know durably at least this view of a partition: its `hi` is the fence, its `lo` says what is retired. The layout of `hi` has
    /// been agreed upon and is known here, and nobody names a `lo` that was not proven: that is the caller's business.
    Adopt {
        /// The partition and what is to be known.
        view: View,
    },
    /// The partition is FULL: a majority of every older active configuration has been merged here, each read after its fence. Done only
    /// if the row's view is still this one.
    Fill {
        /// The partition and the view under which the others were read; its `hi` becomes the row's `full`.
        view: View,
    },
    /// The first copy has come so far. Only a remark for the next process start: nothing rests on it.
    Copied {
        /// The partition.
        view: View,
        /// The first 64 bits of the identifiers below which everything has been copied; all bits set: the copy is complete.
        below: u64,
    },
    /// Delete a partition that this node owns under no active configuration and has handed over, some records at a time. Done only if
    /// the row's view is still this one; the row stays and says that the partition was moved.
    Drop {
        /// The partition and the view under which it was handed over.
        view: View,
        /// At most so many records in one transaction, and never more than [`DELETIONS_MAX`].
        records_max: u32,
    },
}

impl MoveOperation {
    /// The partition, and what the step rests on.
    pub fn view(&self) -> &View {
        match self {
            Self::Adopt { view } | Self::Fill { view } | Self::Copied { view, .. } | Self::Drop { view, .. } => view,
        }
    }
}

/// A version that is to be minted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// What to write. A value's hash has been checked against its bytes already.
    pub content: Content,
    /// What it replaces.
    pub basis: MintBasis,
    /// Names the operation across retries.
    pub op_id: OpId,
    /// The highest clock the client has seen; 0 for none.
    pub seen_clock: u64,
    /// Now, in milliseconds since 1970.
    pub wall_ms: u64,
    /// The clock from which on readers no longer see the version; 0 for never.
    pub expires: u64,
}

/// What a write replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MintBasis {
    /// Whatever this replica holds.
    Local,
    /// Nothing.
    Beside,
    /// Exactly what a read saw: an opened context token.
    Context(Seen),
}

/// How a write ended. Only a committed batch gives it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The merge is durable.
    Stored,
    /// The version is durable here.
    Minted(Minted),
    /// The sender's view is old; this is the replica's. Nothing was done.
    Stale(View),
    /// The replica holds a record under the key that it can't verify. Nothing was done.
    Corrupt,
    /// It was refused and nothing was done.
    Refused(Failure),
    /// The step of a move is durable.
    Moved {
        /// How the partition stands here now.
        standing: Stands,
        /// After [`MoveOperation::Drop`]: there are more records to delete.
        more: bool,
    },
}

/// A minted version, with all that its coordinator needs to replicate it and to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    /// The whole object after the write, as a record for the other owners.
    pub record: Bytes,
    /// The version's dot; `None` if the operation was a retry whose version has been overwritten since.
    pub dot: Option<Dot>,
    /// Whether it was a retry: nothing was minted now, and `record` is what stands here.
    pub retried: bool,
    /// The version's clock; for an overwritten one, the highest clock of the object.
    pub clock: u64,
    /// How many live versions a reader would be shown now.
    pub siblings: u16,
    /// What the reply's context token is sealed from: only if no live version but this one stands.
    pub seen: Option<Seen>,
}

impl Minted {
    /// Whether no live version but this one stands.
    pub fn is_sole(&self) -> bool {
        self.seen.is_some()
    }
}

/// What a replica must know of its node's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest value in bytes.
    pub value_bytes_max: u64,
}

/// Live values of one object together, unless a single value may be longer: a key is a thing to read at once, and every
/// write replicates all of it.
pub const OBJECT_BYTES_MAX: u64 = 4 << 20;

/// Why a replica did not look at an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The operation's view is old; this is the replica's.
    Stale(View),
    /// The replica knows less than the sender; this is its view. Only a read is refused for an older view, because it can't make anything
    /// durable: its driver submits [`MoveOperation::Adopt`] of the operation's view and reads again. Where the view here has *fewer
    /// bits*, the number of partitions was doubled and this node does not know it: whatever the operation, its driver first fetches
    /// the newest layout and has the rows follow it ([`Batch::adopt`]).
    Behind(View),
    /// The replica can't serve it.
    Failed(Failure),
}

impl From<Refusal> for WriteOutcome {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stale(view) => Self::Stale(view),
            Refusal::Behind(_) => Self::Refused(read::behind()),
            Refusal::Failed(failure) => Self::Refused(failure),
        }
    }
}

impl From<Refusal> for PeerResult {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stale(view) => Self::Stale(view),
            Refusal::Behind(_) => Self::Failed(read::behind()),
            Refusal::Failed(failure) => Self::Failed(failure),
        }
    }
}

/// A partition by the number of its prefix bits and the prefix.
pub(crate) type Place = (u8, u32);

/// The replica of one store shard. Its truth is in [`Rows`]; only its current actors live in memory alone.
#[derive(Debug)]
pub struct Replica {
    actors: Actors,
    /// Rows as they are committed, or as the open batch has changed them. The writer thread is the only one that writes
    /// rows, so they need not be read again for every batch.
    partitions: BTreeMap<Place, PartitionRow>,
    limits: Limits,
}

impl Replica {
    /// A replica for one shard of one process. `nonce` is fresh randomness, drawn for this process start and this shard and
    /// used nowhere else: new actors are derived from it.
    pub fn new(nonce: Nonce, limits: Limits) -> Self {
        Self { actors: Actors::new(nonce), partitions: BTreeMap::new(), limits }
    }

    /// Opens a batch in a write transaction that has just begun.
    pub fn begin(&mut self) -> Batch<'_> {
        Batch::new(self)
    }

    /// Makes this node hold a partition whatever any layout says: creates its row, or leaves the one there is. For those who have no ring;
    /// a node's rows follow its layouts by [`Batch::adopt`]. Operations on any other partition are refused.
    pub fn adopt<R: Rows>(rows: &mut R, view: View) -> Result<(), R::Error> {
        if rows.partition(view.prefix, view.bits)?.is_none() {
            rows.put_partition(&PartitionRow { owned: view.hi, ..PartitionRow::new(view) })?;
        }
        Ok(())
    }
}
