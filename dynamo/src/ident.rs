//! Identifiers: how a bucket and a key become a place on the ring (paper, section 4.2) and a key of the store.
//!
//! The identifier is the MD5 digest, as in the paper, and a partition is a prefix of it, so a partition is one contiguous
//! range of the store. MD5 collisions can be made on purpose; therefore the store key carries a second, unrelated hash,
//! and whoever reads a record compares the full bucket and key written inside it.

use core::fmt;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Longest key in bytes. A longer "key" is data and belongs in the value.
pub const KEY_BYTES_MAX: usize = 1024;

/// Longest bucket name in bytes: enough for a dotted path of names, short enough to sit in every record.
pub const BUCKET_BYTES_MAX: usize = 64;

/// The bucket used when an application names none.
pub const BUCKET_DEFAULT: &str = "default";

/// MD5(bucket ‖ 0x00 ‖ key): the position on the ring, most significant byte first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 16]);

impl Id {
    /// The identifier of `key` in `bucket`.
    pub fn of(bucket: &[u8], key: &[u8]) -> Self {
        let mut digest = md5::Context::new();
        digest.consume(bucket);
        digest.consume([0]);
        digest.consume(key);
        Self(digest.finalize().0)
    }

    /// The leading `bits` (0 to 32) bits: the number of the partition when the map has 2^`bits` of them.
    pub fn prefix(&self, bits: u8) -> u32 {
        debug_assert!(bits <= 32);
        let leading = u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]]);
        if bits == 0 { 0 } else { leading >> (32 - u32::from(bits)) }
    }
}

/// The key under which a record stands in a store: the identifier followed by XXH3-128 of the same bytes. Its length does
/// not depend on the length of the application's key, and its order is the order of partitions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreKey(pub [u8; 32]);

impl StoreKey {
    /// The store key of `key` in `bucket`.
    pub fn of(bucket: &[u8], key: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&Id::of(bucket, key).0);
        bytes[16..].copy_from_slice(&second_hash(bucket, key).to_be_bytes());
        Self(bytes)
    }

    /// The identifier it begins with.
    pub fn id(&self) -> Id {
        let mut id = [0; 16];
        id.copy_from_slice(&self.0[..16]);
        Id(id)
    }

    /// A 64-bit number that seeds checksums with this key, so that a record copied to another key does not verify there.
    pub fn seed(&self) -> u64 {
        let mut seed = [0; 8];
        seed.copy_from_slice(&self.0[16..24]);
        u64::from_be_bytes(seed)
    }
}

/// Who a node is, for ever: not its address, not its name, and not its data directory once that was lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u128);

/// Names an operation of a client across its retries: the client instance's random number and its own counter.
/// [`OpId::NONE`] asks for no recognition.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    /// 64 random bits drawn when the client started; never configured, or two clients would swallow each other's writes.
    pub client: u64,
    /// Counts the client's operations.
    pub sequence: u64,
}

impl OpId {
    /// The absence of an operation id.
    pub const NONE: Self = Self { client: 0, sequence: 0 };

    /// Whether this is [`OpId::NONE`].
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

/// Whether `name` may name a bucket: 1 to 64 bytes of `[A-Za-z0-9._-]`.
pub fn is_bucket_name(name: &[u8]) -> bool {
    (1..=BUCKET_BYTES_MAX).contains(&name.len()) && name.iter().all(|&byte| BUCKET_BYTES[usize::from(byte)])
}

/// By byte: whether it may stand in a bucket's name. Looked up, for every operation asks.
static BUCKET_BYTES: [bool; 256] = {
    let mut may_stand = [false; 256];
    let mut byte = 0;
    while byte < may_stand.len() {
        may_stand[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'.' | b'_' | b'-');
        byte += 1;
    }
    may_stand
};

/// XXH3-128(bucket ‖ 0x00 ‖ key). Most names are short, and one short run of bytes is hashed in a fraction of the time that
/// three pieces take.
fn second_hash(bucket: &[u8], key: &[u8]) -> u128 {
    let mut short = [0; 256];
    if let Some(joined) = short.get_mut(..bucket.len() + 1 + key.len()) {
        joined[..bucket.len()].copy_from_slice(bucket);
        joined[bucket.len() + 1..].copy_from_slice(key);
        return xxh3_128(joined);
    }
    let mut hash = Xxh3::new();
    hash.update(bucket);
    hash.update(&[0]);
    hash.update(key);
    hash.digest128()
}

fn hex(formatter: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
}

impl fmt::Debug for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(formatter, &self.0)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(formatter, &self.0)
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(formatter, &self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Debug for OpId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}-{}", self.client, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use std::{format, vec, vec::Vec};

    use xxhash_rust::xxh3::xxh3_128;

    use super::{Id, KEY_BYTES_MAX, StoreKey, is_bucket_name};

    #[test]
    fn the_identifier_is_md5_of_bucket_zero_key() {
        // printf 'default\0hello' | md5sum
        assert_eq!(format!("{}", Id::of(b"default", b"hello")), "22517ac7d8e1f8b52590947cac022917");
    }

    #[test]
    fn a_partition_is_a_prefix_of_the_identifier() {
        let id = Id([0xab, 0xcd, 0xef, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(id.prefix(0), 0);
        assert_eq!(id.prefix(8), 0xab);
        assert_eq!(id.prefix(12), 0xabc);
        assert_eq!(id.prefix(32), 0xabcd_ef01);
    }

    #[test]
    fn the_second_half_of_a_store_key_is_xxh3_of_bucket_zero_key_whatever_their_length() {
        let (bucket, key) = (vec![b'b'; 64], vec![7; KEY_BYTES_MAX]);
        for (bucket_bytes, key_bytes) in [(1, 1), (7, 16), (64, 190), (64, 191), (64, 192), (64, KEY_BYTES_MAX)] {
            let (bucket, key) = (&bucket[..bucket_bytes], &key[..key_bytes]);
            let joined: Vec<u8> = [bucket, &[0], key].concat();
            assert_eq!(StoreKey::of(bucket, key).0[16..], xxh3_128(&joined).to_be_bytes());
        }
    }

    #[test]
    fn the_boundary_between_bucket_and_key_matters() {
        assert_ne!(StoreKey::of(b"a", b"bc"), StoreKey::of(b"ab", b"c"));
    }

    #[test]
    fn bucket_names_are_short_and_plain() {
        assert!(is_bucket_name(b"carts.eu-1_A"));
        assert!(!is_bucket_name(b""));
        assert!(!is_bucket_name(b"a/b"));
        assert!(!is_bucket_name(&[b'a'; 65]));
    }
}
