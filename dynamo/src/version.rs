//! Versions of one key (paper, section 4.4) as a dotted causal container: every write has a *dot*, unique for ever, and the
//! object remembers under a *context* which dots of this key it has seen, so that what was overwritten can be told from
//! what was never known.
//!
//! An [`Object`] is what a replica holds under one key and what travels between nodes, always whole: a part of it under
//! the context of the whole would tell a peer to drop the siblings that were left out. How objects are united is
//! [`merge`], how a write changes one is [`put`], what a reader is shown is [`present`]. Nothing here looks at a clock to
//! decide what is kept, draws numbers, or knows bytes on disk ([`crate::record`]).

use alloc::vec::Vec;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::ident::OpId;

pub mod context;
pub mod merge;
pub mod present;
pub mod put;

pub use context::CausalContext;

/// Most versions a put may bring a key to: more are not concurrency but a client that never reads (design, data,
/// "Conflict rule"). Merges may go beyond it, because they must never lose anything.
pub const SIBLINGS_MAX: usize = 128;

/// How many overwritten operation ids an object remembers at least, once it has had so many. A twin is minted by a retry, and where
/// nothing moves it meets the next write of its key: eight further overwrites before that are rarer than the memory of more is dear.
pub const SPENT_MAX: usize = 8;

/// Operations overwritten within so long before the latest are remembered too. A twin may lie with a node that hands its partition over to
/// others and takes no more part in writes: it arrives as late as what that node has left to give, and a key that is written
/// all the time is overwritten dozens of times until then.
pub const SPENT_RECENT_MS: u64 = 60_000;

/// How many operation ids that makes at most: 1 KiB in a record that is overwritten every second.
pub const SPENT_RECENT_MAX: usize = 64;

/// One process start of one node for one partition, as a random number: who counts. Never reused, so a node that forgot
/// something can't count the same dot twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor(pub u64);

/// The name of one write: the actor and its count, which runs over all keys of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who counted.
    pub actor: Actor,
    /// The count; the first is 1.
    pub seq: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A value.
    Value {
        /// The value itself.
        bytes: Bytes,
        /// XXH3-128 of it, which goes with it from the writer to every reader.
        hash: u128,
    },
    /// The mark of a delete.
    Tombstone,
}

/// One write that nothing in the object has overwritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its name.
    pub dot: Dot,
    /// The client's name for the operation; two versions of one operation are twins.
    pub op_id: OpId,
    /// Hybrid logical clock of the write ([`crate::hlc`]).
    pub clock: u64,
    /// The clock from which on readers no longer see it; 0 for never. Only reading looks at it.
    pub expires: u64,
    /// What was written.
    pub content: Content,
}

/// The memory of an operation whose version was overwritten, so that its twin, minted by a retry on a cut-off node, does
/// not bring the value back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spent {
    /// Orders the memory, latest overwritten last: at least the clock of the version that overwrote it.
    pub clock: u64,
    /// The [`Version::fingerprint`] of what was overwritten.
    pub hash: u64,
}

/// Everything a replica knows of one key.
///
/// Always so: `versions` ascend by dot and hold each dot once; `context` covers every dot in `versions`; `spent` descends
/// by (clock, hash), holds each hash once and at most [`SPENT_RECENT_MAX`] of them; no version's fingerprint is in `spent`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// The versions that nothing known has overwritten, tombstones among them.
    pub versions: Vec<Version>,
    /// Every dot of this key that was ever known here, whether its version still stands or was overwritten.
    pub context: CausalContext,
    /// Operations whose versions were overwritten, latest first.
    pub spent: Vec<Spent>,
}

impl Object {
    /// The object of a key that was never written.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing was ever known of the key.
    pub fn is_empty(&self) -> bool {
        self.context.is_empty()
    }

    /// The versions that hold a value, expired or not.
    pub fn live(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().filter(|version| version.content.bytes().is_some())
    }

    /// The bytes of all its values together.
    pub fn value_bytes(&self) -> u64 {
        self.live().map(|version| version.content.len()).sum()
    }

    /// The fingerprints of all versions that have one: what a reader of this object has seen.
    pub fn fingerprints(&self) -> impl Iterator<Item = u64> + '_ {
        self.versions.iter().filter_map(Version::fingerprint)
    }
}

impl Version {
    /// Names the operation together with what it wrote; `None` without an operation id. Twins have the same fingerprint.
    /// The content belongs to it, so that a client that uses one id for two different writes loses neither.
    pub fn fingerprint(&self) -> Option<u64> {
        fingerprint(&self.op_id, &self.content)
    }

    /// Whether readers at the clock `now` no longer see it.
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires != 0 && self.expires <= now
    }
}

impl Content {
    /// The value, if there is one.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Value { bytes, .. } => Some(bytes),
            Self::Tombstone => None,
        }
    }

    /// The length of the value; 0 for a tombstone.
    pub fn len(&self) -> u64 {
        self.bytes().map_or(0, |bytes| bytes.len() as u64)
    }

    /// Whether there is no value, or one of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number for comparing contents without their bytes: the value's hash, or a mark for tombstones.
    fn digest(&self) -> (bool, u128) {
        match self {
            Self::Value { hash, .. } => (true, *hash),
            Self::Tombstone => (false, 0),
        }
    }
}

/// The fingerprint of an operation that writes `content`; `None` without an operation id.
pub fn fingerprint(op_id: &OpId, content: &Content) -> Option<u64> {
    if op_id.is_none() {
        return None;
    }
    let (is_value, hash) = content.digest();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&op_id.client.to_le_bytes());
    bytes[8..16].copy_from_slice(&op_id.sequence.to_le_bytes());
    bytes[16..].copy_from_slice(&hash.to_le_bytes());
    Some(xxh3_64_with_seed(&bytes, u64::from(is_value)))
}

#[cfg(test)]
mod tests;
