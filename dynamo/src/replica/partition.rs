//! The row a replica keeps for each partition it holds: the view, the last dot it minted, and a sum over its records, all
//! changed in the transaction of the write that changes them.

use crate::{
    layout::View,
    version::{Actor, Dot},
};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Length of an encoded row.
pub const PARTITION_ROW_BYTES: usize = FORMAT_2_BYTES + 8 + 8 + 8 + 1;

const FORMAT: u8 = 3;

/// The format before, whose partitions could not move. Still read, no longer written.
const FORMAT_2: u8 = 2;
const FORMAT_2_BYTES: usize = FORMAT_1_BYTES + 8;

/// The one before that, which did not have [`PartitionRow::forgotten`] either.
const FORMAT_1: u8 = 1;
const FORMAT_1_BYTES: usize = 17 + 5 + 16 + 16 + 16 + 16;

/// What a replica knows of one of its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionRow {
    /// Which configurations are active, as this replica durably knows.
    pub view: View,
    /// The last dot that was minted here; `None` before the first. Its actor is the current one only within the process
    /// that took it.
    pub last: Option<Dot>,
    /// How many records the partition has.
    pub records: u64,
    /// How many of them have no live version.
    pub deleted: u64,
    /// The digests of all its records added up, modulo 2^128. Together with the count it shows a scrub whether records are
    /// *missing*, which no checksum inside a record can.
    pub sum: u128,
    /// How many records were rebuilt without anybody knowing what those that stood there had added to `deleted` and `sum`. Unless it is 0
    /// those two are not to be relied on; `records` always is.
    pub forgotten: u64,
    /// The newest configuration for which this replica is FULL: it has merged a majority of every older active one, each read after its
    /// fence. 0 for none, which is also what an owner has that never needed it.
    pub full: u64,
    /// How far the first copy has come: identifiers whose first 64 bits are below this have been copied. All bits set: all of them.
    pub copied: u64,
    /// The newest configuration this node belongs to, of those it has learned of; 0 for none. As long as it may be active, nothing is
    /// deleted.
    pub owned: u64,
    /// The partition has been handed over and deleted. The row stays, to tell whoever still sends under an old view.
    pub is_moved: bool,
}

/// Why an encoded row can't be used: the shard has forgotten something unknown, and must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowError {
    /// Its length or its checksum is wrong, or it belongs to another partition.
    Damaged,
    /// It has a format this version of the software does not know.
    UnknownFormat(u8),
}

impl PartitionRow {
    /// The row of a partition without records.
    pub fn new(view: View) -> Self {
        Self {
            view,
            last: None,
            records: 0,
            deleted: 0,
            sum: 0,
            forgotten: 0,
            full: 0,
            copied: 0,
            owned: 0,
            is_moved: false,
        }
    }

    /// The row as bytes: `version u8 = 3 | xxh3-128 over the rest, seeded by bits and prefix | bits u8 | prefix u32 | lo u64 |
    /// hi u64 | actor u64 | seq u64 | records u64 | deleted u64 | sum u128 |
    /// forgotten u64 | full u64 | copied u64 | owned u64 | is_moved u8`, integers little end first. A `seq` of 0 stands
    /// for no dot.
    pub fn encode(&self) -> [u8; PARTITION_ROW_BYTES] {
        let last = self.last.unwrap_or(Dot { actor: Actor(0), seq: 0 });
        let mut bytes = [0; PARTITION_ROW_BYTES];
        bytes[0] = FORMAT;
        bytes[17] = self.view.bits;
        bytes[18..22].copy_from_slice(&self.view.prefix.to_le_bytes());
        let words = [self.view.lo, self.view.hi, last.actor.0, last.seq, self.records, self.deleted];
        for (at, word) in words.into_iter().enumerate() {
            bytes[22 + 8 * at..30 + 8 * at].copy_from_slice(&word.to_le_bytes());
        }
        bytes[70..86].copy_from_slice(&self.sum.to_le_bytes());
        bytes[86..94].copy_from_slice(&self.forgotten.to_le_bytes());
        bytes[94..102].copy_from_slice(&self.full.to_le_bytes());
        bytes[102..110].copy_from_slice(&self.copied.to_le_bytes());
        bytes[110..118].copy_from_slice(&self.owned.to_le_bytes());
        bytes[118] = u8::from(self.is_moved);
        let checksum = xxh3_128_with_seed(&bytes[17..], seed(self.view.prefix, self.view.bits));
        bytes[1..17].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the row of the partition `prefix` of `bits` bits.
    pub fn decode(prefix: u32, bits: u8, bytes: &[u8]) -> Result<Self, RowError> {
        match (bytes.first(), bytes.len()) {
            (Some(&FORMAT), PARTITION_ROW_BYTES)
            | (Some(&FORMAT_2), FORMAT_2_BYTES)
            | (Some(&FORMAT_1), FORMAT_1_BYTES) => {}
            (Some(&format), _) if ![FORMAT, FORMAT_2, FORMAT_1].contains(&format) => {
                return Err(RowError::UnknownFormat(format));
            }
            (_, _) => return Err(RowError::Damaged),
        }
        let (body, mut checksum) = (&bytes[17..], [0; 16]);
        checksum.copy_from_slice(&bytes[1..17]);
        if xxh3_128_with_seed(body, seed(prefix, bits)) != u128::from_le_bytes(checksum) || body[0] != bits {
            return Err(RowError::Damaged);
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[22 + 8 * at..30 + 8 * at]);
            u64::from_le_bytes(word)
        };
        let mut sum = [0; 16];
        sum.copy_from_slice(&bytes[70..86]);
        let forgotten = if bytes[0] == FORMAT_1 { 0 } else { word(8) };
        let moving = (bytes[0] == FORMAT).then(|| (word(9), word(10), word(11), bytes[118]));
        // When the older formats were written, nobody had rows but owners.
        let (full, copied, owned, is_moved) = moving.unwrap_or((0, 0, word(1), 0));
        let last = Dot { actor: Actor(word(2)), seq: word(3) };
        Ok(Self {
            view: View { prefix, bits, lo: word(0), hi: word(1) },
            last: (last.seq > 0).then_some(last),
            records: word(4),
            deleted: word(5),
            sum: u128::from_le_bytes(sum),
            forgotten,
            full,
            copied,
            owned,
            is_moved: is_moved != 0,
        })
    }
}

fn seed(prefix: u32, bits: u8) -> u64 {
    u64::from(bits) << 32 | u64::from(prefix)
}
