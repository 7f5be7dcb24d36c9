//! How much is kept for a node: a row that is changed in the transaction of the hint that changes it. The bounds are judged by
//! it, and it shows whether hints are *missing*, which no checksum inside a hint can.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::{HINT_KEY_BYTES, HintKey};
use crate::ident::NodeId;

/// Length of an encoded row.
pub const USAGE_ROW_BYTES: usize = 17 + 8 + 8 + 8;

const FORMAT: u8 = 1;

/// What is kept for one node, or for all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HintUsage {
    /// How many hints.
    pub records: u64,
    /// Their bytes, names included.
    pub bytes: u64,
    /// A hash of each name, added modulo 2^64. Of names and not of contents, so that a hint that can no longer be read can be
    /// taken out of the sum.
    pub names: u64,
}

/// Why an encoded row can't be used: the hints have forgotten something unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// Its length or its checksum is wrong, or it belongs to another node.
    Damaged,
    /// It has a format this version of the software does not know.
    UnknownFormat(u8),
}

impl HintUsage {
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Counts a hint in, as a record of so many bytes.
    pub fn add(&mut self, key: &HintKey, record_bytes: usize) {
        self.records = self.records.wrapping_add(1);
        self.bytes = self.bytes.saturating_add(cost_bytes(record_bytes));
        self.names = self.names.wrapping_add(term(key));
    }

    /// Counts a hint out.
    pub fn remove(&mut self, key: &HintKey, record_bytes: usize) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(cost_bytes(record_bytes));
        self.names = self.names.wrapping_sub(term(key));
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            records: self.records.wrapping_add(other.records),
            bytes: self.bytes.saturating_add(other.bytes),
            names: self.names.wrapping_add(other.names),
        }
    }

    /// The row as bytes: `version u8 = 1 | xxh3-128 over the rest, seeded by the target | records u64 | bytes u64 | names u64`,
    /// integers little end first.
    pub fn encode(&self, target: NodeId) -> [u8; USAGE_ROW_BYTES] {
        let mut bytes = [0; USAGE_ROW_BYTES];
        bytes[0] = FORMAT;
        for (at, word) in [self.records, self.bytes, self.names].into_iter().enumerate() {
            bytes[17 + 8 * at..25 + 8 * at].copy_from_slice(&word.to_le_bytes());
        }
        let checksum = xxh3_128_with_seed(&bytes[17..], seed(target));
        bytes[1..17].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the row of a target.
    pub fn decode(target: NodeId, bytes: &[u8]) -> Result<Self, UsageError> {
        let bytes: &[u8; USAGE_ROW_BYTES] = match (bytes.first(), bytes.try_into()) {
            (Some(&FORMAT), Ok(bytes)) => bytes,
            (Some(&format), _) if format != FORMAT => return Err(UsageError::UnknownFormat(format)),
            _ => return Err(UsageError::Damaged),
        };
        if bytes[1..17] != xxh3_128_with_seed(&bytes[17..], seed(target)).to_le_bytes() {
            return Err(UsageError::Damaged);
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[17 + 8 * at..25 + 8 * at]);
            u64::from_le_bytes(word)
        };
        Ok(Self { records: word(0), bytes: word(1), names: word(2) })
    }
}

/// What a hint costs of a bound.
fn cost_bytes(record_bytes: usize) -> u64 {
    (HINT_KEY_BYTES + record_bytes) as u64
}

fn term(key: &HintKey) -> u64 {
    xxh3_64(&key.encode())
}

/// Node identifiers are random; their two halves together still are.
fn seed(target: NodeId) -> u64 {
    (target.0 >> 64) as u64 ^ target.0 as u64
}
