//! Hints (paper, section 4.6): objects that a stand-in keeps for an owner that is away, until the owner has them on its own disk.
//!
//! A hint is the object itself, kept under (target, partition, store key) and merged with the hint that stands there already, so
//! hints are bounded by distinct keys and a stand-in can also serve and coordinate the key.

use bytes::Bytes;

use crate::{
    ident::{NodeId, StoreKey},
    layout::View,
    operation::Address,
    replica::Write,
};

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
    /// The target has this object on its disk: delete the hint if it is still exactly this one. `Stored` either way.
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
