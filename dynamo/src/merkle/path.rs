//! Ranges of identifiers, named by the bits they have in common.

use crate::{ident::StoreKey, peer::TreePath};

/// How many bits one step down adds.
const STEP_BITS: u8 = 8;

/// Bits that a path can name.
const BITS_MAX: u8 = 64;

/// The first 64 bits of a key's identifier.
pub(super) fn position(store_key: &StoreKey) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&store_key.0[..8]);
    u64::from_be_bytes(bytes)
}

impl TreePath {
    /// The range of a partition, given by its prefix of `bits` bits.
    pub fn of_partition(prefix: u32, bits: u8) -> Self {
        let prefix = u64::from(prefix).checked_shl(u32::from(BITS_MAX - bits.min(BITS_MAX))).unwrap_or(0);
        Self { prefix, bits }
    }

    /// The range of those keys whose first `bits` bits are this key's.
    pub fn around(store_key: &StoreKey, bits: u8) -> Self {
        Self { prefix: position(store_key) & !below(bits), bits }
    }

    /// One of its 256 parts; `None` if the path can't get any longer.
    pub fn child(&self, part: u8) -> Option<Self> {
        let bits = self.bits + STEP_BITS;
        (bits <= BITS_MAX).then(|| Self { prefix: self.prefix | u64::from(part) << (BITS_MAX - bits), bits })
    }

    /// The range that this is a part of, and which.
    pub fn parent(&self) -> Option<(Self, u8)> {
        let bits = self.bits.checked_sub(STEP_BITS)?;
        let parent = Self { prefix: self.prefix & !below(bits), bits };
        Some((parent, parent.part_of(self.prefix)))
    }

    /// Whether it is well-formed: no bits are set behind those that count.
    pub fn is_sound(&self) -> bool {
        self.bits <= BITS_MAX && self.prefix & below(self.bits) == 0
    }

    /// Whether a range lies within this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.bits <= other.bits && other.prefix & !below(self.bits) == self.prefix
    }

    /// Whether a key lies in it.
    pub fn contains(&self, store_key: &StoreKey) -> bool {
        position(store_key) & !below(self.bits) == self.prefix
    }

    /// The lowest key it can have.
    pub fn first_key(&self) -> StoreKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.prefix.to_be_bytes());
        StoreKey(key)
    }

    /// The highest key it can have.
    pub fn last_key(&self) -> StoreKey {
        let mut key = [0xff; 32];
        key[..8].copy_from_slice(&(self.prefix | below(self.bits)).to_be_bytes());
        StoreKey(key)
    }

    /// The first 64 bits of the identifiers right behind it; `None` at the end of the ring.
    pub fn behind(&self) -> Option<u64> {
        (self.prefix | below(self.bits)).checked_add(1)
    }

    /// Which of its parts an identifier that begins with these bits lies in. At its end, where there are no parts, the first.
    pub(super) fn part_of(&self, at: u64) -> u8 {
        match u32::from(BITS_MAX).checked_sub(u32::from(self.bits) + u32::from(STEP_BITS)) {
            Some(shift) => (at >> shift & 0xff) as u8,
            None => 0,
        }
    }
}

/// The bits behind the first `bits`.
fn below(bits: u8) -> u64 {
    u64::MAX.checked_shr(u32::from(bits)).unwrap_or(0)
}
