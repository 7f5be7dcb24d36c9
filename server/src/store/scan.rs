//! Scans: the records of a partition in the order of their store keys, a chunk at a time. Between chunks nothing is kept
//! but the last key, so a slow reader holds back nobody; what changes in between may or may not be seen.

use std::{
    ops::Bound,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{ident::StoreKey, record};

use super::{
    Snapshot,
    shard::{first_key, last_key, shard_of},
};

/// Records of one chunk, so that its snapshot is short.
pub const SCAN_RECORDS_MAX: usize = 1_000;

/// Bytes of one chunk, unless its first record alone is longer: what a frame takes.
pub const SCAN_BYTES_MAX: usize = 4 << 20;

/// Time of one chunk: as long as it runs, pages that are overwritten can't be reused.
pub const SCAN_TIME_MAX: Duration = Duration::from_millis(10);

/// How often a scan looks at the clock.
const RECORDS_PER_LOOK: usize = 32;

/// Part of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Records that verify, in ascending order.
    pub records: Vec<(StoreKey, Bytes)>,
    /// Keys whose records don't.
    pub unreadable: Vec<StoreKey>,
    /// Where to go on: the last key that was looked at. `None` at the end of the partition.
    pub next: Option<StoreKey>,
}

/// The scan met a damaged page: what lies behind `after` can't be listed. The shard counts as damaged now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store is damaged behind {after:?} ({what}): the scan can't go on, other replicas hold the records")]
pub struct ScanError {
    /// The last key that was read.
    pub after: Option<StoreKey>,
    /// What was found.
    pub what: String,
}

impl Snapshot<'_> {
    /// The next records of the partition with this prefix, behind `after` or from its beginning. With no bits, of the whole
    /// store.
    pub fn scan(&mut self, prefix: u32, bits: u8, after: Option<StoreKey>) -> Result<Chunk, ScanError> {
        let (first, last) = (first_key(prefix, bits), last_key(prefix, bits));
        let shards = self.store.identity().shards;
        let begin = after.map_or(first, |after| after.max(first));
        let mut chunk = Chunk::default();
        let mut reached = after;
        for number in shard_of(&begin, shards)..=shard_of(&last, shards) {
            let from = if reached.is_some() { Bound::Excluded(&begin.0[..]) } else { Bound::Included(&begin.0[..]) };
            match self.scan_shard(number, (from, Bound::Included(&last.0[..])), &mut chunk, &mut reached) {
                Ok(true) => {}
                Ok(false) => {
                    chunk.next = reached;
                    return Ok(chunk);
                }
                Err(error) => {
                    self.close(number);
                    self.store.shard(number).note(&error);
                    return Err(ScanError { after: reached, what: error.to_string() });
                }
            }
        }
        Ok(chunk)
    }

    /// Whether the shard's part of the range was read to its end.
    fn scan_shard(
        &mut self,
        number: usize,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        chunk: &mut Chunk,
        reached: &mut Option<StoreKey>,
    ) -> heed::Result<bool> {
        let shard = self.store.shard(number);
        let open = self.open(number)?;
        let began = Instant::now();
        let mut bytes = 0;
        for (at, entry) in shard.tables.records.range(&open.transaction, &range)?.enumerate() {
            let looked_at = chunk.records.len() + chunk.unreadable.len();
            let is_late = at % RECORDS_PER_LOOK == RECORDS_PER_LOOK - 1 && began.elapsed() > SCAN_TIME_MAX;
            if looked_at > 0 && (looked_at >= SCAN_RECORDS_MAX || bytes >= SCAN_BYTES_MAX || is_late) {
                return Ok(false);
            }
            let (key, record) = entry?;
            let key = match <[u8; 32]>::try_from(key) {
                Ok(key) if open.bounds.admit(record) => StoreKey(key),
                Ok(_) | Err(_) => return Err(heed::MdbError::Corrupted.into()),
            };
            if record::verify(&key, record).is_ok() {
                bytes += record.len();
                chunk.records.push((key, Bytes::copy_from_slice(record)));
            } else {
                chunk.unreadable.push(key);
            }
            *reached = Some(key);
        }
        Ok(true)
    }
}
