//! Under what a hint is kept: for whom, in which partition, which key. In this order, so that what one node is to be given
//! lies together, and of that what belongs to one partition.

use crate::{
    ident::{NodeId, StoreKey},
    layout::{PARTITION_BITS_MAX, View},
};

/// Length of an encoded key.
pub const HINT_KEY_BYTES: usize = 16 + 1 + 4 + 32;

/// The name of a hint. Ordered as its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HintKey {
    /// Whom it is for.
    pub target: NodeId,
    /// How many bits the partition's prefix has.
    pub bits: u8,
    /// The partition.
    pub prefix: u32,
    /// Which key.
    pub store_key: StoreKey,
}

impl HintKey {
    /// The name of the hint of a key, kept for `target` under a view; `None` if the key is not in the view's partition.
    pub fn new(target: NodeId, view: &View, store_key: StoreKey) -> Option<Self> {
        let is_sound = view.bits <= 32 && view.lo <= view.hi && store_key.id().prefix(view.bits) == view.prefix;
        is_sound.then_some(Self { target, bits: view.bits, prefix: view.prefix, store_key })
    }

    /// The names that hints of a key for a target may have, in order. Hints keep the partition under which they came when partitions are
    /// divided, so there may be several.
    pub fn names(target: NodeId, store_key: StoreKey) -> impl Iterator<Item = Self> {
        (0..=PARTITION_BITS_MAX).map(move |bits| Self { target, bits, prefix: store_key.id().prefix(bits), store_key })
    }

    /// The lowest name there can be for a target, to start a walk through its hints.
    pub fn first_of(target: NodeId) -> Self {
        Self { target, bits: 0, prefix: 0, store_key: StoreKey([0; 32]) }
    }

    /// Its bytes: numbers big end first, so that they sort as the name does.
    pub fn encode(&self) -> [u8; HINT_KEY_BYTES] {
        let mut bytes = [0; HINT_KEY_BYTES];
        bytes[..16].copy_from_slice(&self.target.0.to_be_bytes());
        bytes[16] = self.bits;
        bytes[17..21].copy_from_slice(&self.prefix.to_be_bytes());
        bytes[21..].copy_from_slice(&self.store_key.0);
        bytes
    }

    /// Reads a name from its bytes; `None` if they are no name that was ever written.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (target, rest) = bytes.split_first_chunk()?;
        let (&[bits], rest) = rest.split_first_chunk()?;
        let (prefix, rest) = rest.split_first_chunk()?;
        let (target, prefix) = (NodeId(u128::from_be_bytes(*target)), u32::from_be_bytes(*prefix));
        let store_key = StoreKey(rest.try_into().ok()?);
        let is_sound = bits <= 32 && store_key.id().prefix(bits) == prefix;
        is_sound.then_some(Self { target, bits, prefix, store_key })
    }
}
