//! Hints (paper, section 4.6): objects that a stand-in keeps for an owner that is away, until the owner has them on its own disk.
//!
//! A hint is the object itself, kept under (target, partition, store key) and merged with the hint that stands there already, so
//! hints are bounded by distinct keys and a stand-in can also serve and coordinate the key. They never expire: they may be the
//! only copies. The [`Book`] lives in the one thread that writes hints and works inside that thread's open transaction
//! ([`HintRows`]), as the replica does; who delivers them, and when, is the steward's business.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::{
    ident::{NodeId, StoreKey},
    layout::View,
    operation::Address,
    replica::Write,
};

mod batch;
mod book;
mod bounds;
mod key;
mod read;
mod usage;

pub use batch::{Batch, Staged};
pub use book::Book;
pub use bounds::{DISK_PERCENT_MAX, HintBounds, TARGET_BYTES_MAX};
pub use key::{HINT_KEY_BYTES, HintKey};
pub use read::answer_read;
pub use usage::{HintUsage, USAGE_ROW_BYTES, UsageError};

/// The open write transaction of the hints, as the book sees it. Writes are seen by later reads of the same transaction. After
/// an error the transaction must be aborted and the batch with it.
pub trait HintRows {
    /// What a failed read or write is.
    type Error;
    /// The hint under a name, as it is stored.
    fn hint(&mut self, key: &HintKey) -> Result<Option<Bytes>, Self::Error>;
    /// Stores a hint.
    fn put_hint(&mut self, key: &HintKey, record: &[u8]) -> Result<(), Self::Error>;
    /// Deletes a hint.
    fn delete_hint(&mut self, key: &HintKey) -> Result<(), Self::Error>;
    /// Moves a hint that can't be verified to where nothing is served or overwritten; in the place of another one of this name.
    fn set_aside(&mut self, key: &HintKey) -> Result<(), Self::Error>;
    /// What is kept for each target that anything is kept for.
    fn usages(&mut self) -> Result<Vec<(NodeId, HintUsage)>, Self::Error>;
    /// Stores what is kept for a target; an empty row goes.
    fn put_usage(&mut self, target: NodeId, usage: &HintUsage) -> Result<(), Self::Error>;
}

/// What is done with a node's hints. The outcomes are the replica's ([`crate::replica::WriteOutcome`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HintOperation {
    /// Keep an object for an owner, merged with what is kept for it; `Stored` once durable, `Refused` when there is no room.
    Keep {
        /// The view under which it was sent.
        view: View,
        /// Whom it is for.
        target: NodeId,
        /// Which key.
        store_key: StoreKey,
        /// The object, as a record.
        record: Bytes,
    },
    /// Mint a version on what is kept for any owner, and keep it for `target`: no owner of the key can be reached, and this
    /// node coordinates in their place.
    Mint {
        /// The view under which the coordinator works.
        view: View,
        /// Whom the new version is kept for here.
        target: NodeId,
        /// Which key.
        address: Address,
        /// What to write.
        write: Write,
    },
    /// The target has this object on its disk: delete the hint if it is still exactly this one. `Stored` either way, `Corrupt` if
    /// it can't be verified: it is then set aside, whatever the digest.
    Drop {
        /// Whom it was for.
        target: NodeId,
        /// The partition as it is kept.
        view: View,
        /// Which key.
        store_key: StoreKey,
        /// The checksum of the record that was delivered.
        digest: u128,
    },
}

impl HintOperation {
    /// Which key it is about.
    pub fn store_key(&self) -> &StoreKey {
        match self {
            Self::Keep { store_key, .. } | Self::Drop { store_key, .. } => store_key,
            Self::Mint { address, .. } => &address.store_key,
        }
    }
}
