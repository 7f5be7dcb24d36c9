//! Records: an object with its bucket and key as bytes, the same on disk, between nodes and in repairs.
//!
//! A record is canonical: equal objects under one key have equal bytes, so equal checksums mean equal objects, and the
//! checksum serves as the object's digest. It is verified on every read. A record that fails is *unreadable*: not absent,
//! not empty, never merged. What to do then is the caller's business ([`crate::replica`]).
//!
//! Layout, integers little end first, offsets from the start of the record:
//! ```text
//!  0  format u8 = 1
//!  1  flags u8 = 0                        none are defined; others are refused, so that a flipped bit here is noticed too
//!  2  checksum u128                       XXH3-128 of everything after it, seeded by the store key
//! 18  entries u32 | versions u32 | spent u8 | bucket bytes u8 | key bytes u16
//! 30  entries × { actor u64, seq u64 }    the context, ascending by actor
//!     spent × { clock u64, hash u64 }     descending
//!     versions × {                        ascending by dot
//!         actor u32                       as the position of its context entry
//!         seq u64, op client u64, op sequence u64, clock u64
//!         kind u8                         bit 0: a value, bit 1: expires; no other
//!         [expires u64] [length u32, hash u128, value] }
//!     bucket, key
//! ```

use alloc::borrow::Cow;

use bytes::Bytes;

use crate::{
    ident::StoreKey,
    operation::{Address, ErrorCode, Failure},
    version::Object,
};

mod decode;
mod encode;

pub(crate) use decode::read;
pub use decode::{claimed_key, decode, outline, summary, verify};
pub use encode::encode;

/// The format this file describes.
pub const FORMAT: u8 = 1;

const FLAGS: u8 = 0;
const CHECKSUM_AT: usize = 2;
const COUNTS_AT: usize = 18;
const BODY_AT: usize = 30;
const ENTRY_BYTES: usize = 16;
const SPENT_BYTES: usize = 16;
const VERSION_BYTES: usize = 37;
const EXPIRES_BYTES: usize = 8;
const VALUE_HEAD_BYTES: usize = 20;
const KIND_VALUE: u8 = 1;
const KIND_EXPIRES: u8 = 2;

/// A decoded record. Names and values are slices of the record's own bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The bucket's name.
    pub bucket: Bytes,
    /// The application's key.
    pub key: Bytes,
    /// What is known of the key.
    pub object: Object,
    /// The record's checksum.
    pub digest: u128,
}

/// What a scan tells of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary<'r> {
    /// The bucket's name.
    pub bucket: &'r [u8],
    /// The application's key.
    pub key: &'r [u8],
    /// How many versions hold a value, twins and expired ones included.
    pub live: u32,
    /// Bytes of those values together.
    pub value_bytes: u64,
    /// The clock from which on readers are shown none of them; 0 if one stays for ever, or there are none.
    pub expires: u64,
    /// The record's checksum.
    pub digest: u128,
}

impl Summary<'_> {
    /// How many versions hold a value, twins included, when a reader at the clock `now` is shown any of them; otherwise none.
    pub fn live_at(&self, now: u64) -> u32 {
        if self.expires != 0 && self.expires <= now { 0 } else { self.live }
    }
}

/// Why bytes are not a record of the key they stand under. The record is unreadable, which is not the same as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// It was written by another version of the software.
    UnknownFormat(u8),
    /// It is too short or its checksum does not match: damaged, or a record of another store key.
    Damaged,
    /// Its checksum matches and yet it breaks a rule of the format: whoever wrote it was wrong.
    Malformed,
    /// It is a sound record of another key with the same store key. MD5 collisions can be made on purpose.
    OtherKey,
}

/// Decodes the record of `address`; a record of another key is an error, never this key's value.
pub fn decode_of(address: &Address, bytes: &Bytes) -> Result<Object, RecordError> {
    read(address, bytes).map(|(object, _)| object)
}

impl Record {
    /// Whether this is the record of `address`, by its full bucket and key.
    pub fn is_of(&self, address: &Address) -> bool {
        self.bucket == address.bucket && self.key == address.key
    }
}

impl RecordError {
    /// What a client is told.
    pub fn failure(self) -> Failure {
        match self {
            Self::OtherKey => Failure::new(
                ErrorCode::InvalidRequest,
                Cow::Borrowed(
                    "another key with the same MD5 and XXH3 hashes is stored here; nothing was done, choose another key",
                ),
            ),
            Self::UnknownFormat(_) | Self::Damaged | Self::Malformed => Failure::new(
                ErrorCode::Corrupt,
                Cow::Borrowed(
                    "the replica's record of this key can't be verified; nothing was done, other replicas may serve it",
                ),
            ),
        }
    }
}

/// The digest of a record that is known to be sound, such as one that was just encoded: read, not verified.
pub(crate) fn digest(record: &[u8]) -> u128 {
    let mut checksum = [0; 16];
    checksum.copy_from_slice(&record[CHECKSUM_AT..COUNTS_AT]);
    u128::from_le_bytes(checksum)
}

/// The checksum a record of this key must have; `bytes` is at least as long as its head.
fn checksum(store_key: &StoreKey, bytes: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128_with_seed(&bytes[COUNTS_AT..], store_key.seed())
}

/// Only for sizes of buffers.
fn room(object: &Object) -> usize {
    let versions: usize = object
        .versions
        .iter()
        .map(|version| VERSION_BYTES + EXPIRES_BYTES + VALUE_HEAD_BYTES + version.content.len() as usize)
        .sum();
    BODY_AT + ENTRY_BYTES * object.context.len() + SPENT_BYTES * object.spent.len() + versions
}

#[cfg(test)]
mod tests;
