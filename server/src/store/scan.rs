//! Scans: the records of a partition in the order of their store keys, a chunk at a time. Between chunks nothing is kept
//! but the last key, so a slow reader holds back nobody; what changes in between may or may not be seen.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{ident::StoreKey, record};

use super::{
    Snapshot,
    pages::Pages,
    shard::{Shard, first_key, last_key, shard_of},
    tables::RECORDS,
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
#[error("the store can't be read behind {after:?} ({what}): the scan can't go on, other replicas hold the records")]
pub struct ScanError {
    /// The last key that was read.
    pub after: Option<StoreKey>,
    /// What was found.
    pub what: String,
}

impl Snapshot<'_> {
    /// The next records of the partition with this prefix, behind `after` or from its beginning. With no bits, of the whole
    /// store. Sees what is committed when it is called.
    pub fn scan(&self, prefix: u32, bits: u8, after: Option<StoreKey>) -> Result<Chunk, ScanError> {
        self.scan_bytes(prefix, bits, after, SCAN_BYTES_MAX)
    }

    /// The same with at most so many bytes, unless the first record alone is longer.
    pub(super) fn scan_bytes(
        &self,
        prefix: u32,
        bits: u8,
        after: Option<StoreKey>,
        bytes_max: usize,
    ) -> Result<Chunk, ScanError> {
        let last = last_key(prefix, bits);
        let first = first_key(prefix, bits);
        let shards = self.store.identity().shards;
        let mut scan = Scan {
            first: after.map_or(first, |after| after.max(first)),
            after,
            last,
            chunk: Chunk::default(),
            bytes: 0,
            bytes_max: bytes_max.min(SCAN_BYTES_MAX),
        };
        for number in shard_of(&scan.first, shards)..=shard_of(&last, shards) {
            match scan.read(self.store.shard(number)) {
                Ok(true) => {}
                Ok(false) => {
                    scan.chunk.next = scan.reached();
                    break;
                }
                Err(what) => return Err(ScanError { after: scan.reached(), what }),
            }
        }
        Ok(scan.chunk)
    }
}

/// A chunk in the making.
struct Scan {
    first: StoreKey,
    after: Option<StoreKey>,
    last: StoreKey,
    chunk: Chunk,
    bytes: usize,
    bytes_max: usize,
}

impl Scan {
    /// The last key that was looked at.
    fn reached(&self) -> Option<StoreKey> {
        let sound = self.chunk.records.last().map(|(key, _)| *key);
        sound.max(self.chunk.unreadable.last().copied()).or(self.after)
    }

    /// Reads a shard's part of the range; whether it came to its end.
    fn read(&mut self, shard: &Shard) -> Result<bool, String> {
        let (env, file) = (&shard.tables.env, &shard.tables.file);
        let pages = Pages::of(env, file).map_err(|error| error.to_string())?;
        let (began, mut is_end, mut malformed) = (Instant::now(), true, false);
        let first = self.first.0;
        let walked = pages.table(RECORDS).and_then(|tree| {
            pages.walk(&tree, Some(&first), &mut |key, record| {
                let Ok(key) = <[u8; 32]>::try_from(key).map(StoreKey) else {
                    malformed = true;
                    return ControlFlow::Break(());
                };
                if key > self.last {
                    return ControlFlow::Break(());
                }
                if self.is_full(began, record) {
                    is_end = false;
                    return ControlFlow::Break(());
                }
                if self.after != Some(key) {
                    self.add(key, record);
                }
                ControlFlow::Continue(())
            })
        });
        match walked {
            Ok(_) if !malformed => Ok(is_end),
            Ok(_) => Err(shard.damaged("a key has a wrong length")),
            Err(error) => Err(shard.damaged(error.to_string())),
        }
    }

    fn is_full(&self, began: Instant, next: &[u8]) -> bool {
        let count = self.chunk.records.len() + self.chunk.unreadable.len();
        let is_late = count % RECORDS_PER_LOOK == RECORDS_PER_LOOK - 1 && began.elapsed() > SCAN_TIME_MAX;
        let is_over = self.bytes > 0 && self.bytes + next.len() > self.bytes_max;
        count > 0 && (count >= SCAN_RECORDS_MAX || is_over || is_late)
    }

    fn add(&mut self, key: StoreKey, record: &[u8]) {
        if record::verify(&key, record).is_ok() {
            self.bytes += record.len();
            self.chunk.records.push((key, Bytes::copy_from_slice(record)));
        } else {
            self.chunk.unreadable.push(key);
        }
    }
}
