//! Reading: what is committed now, shard by shard, on the calling thread and without waiting for anybody.
//!
//! A snapshot serves one batch of reads. As long as it lives, LMDB can't reuse the pages it sees, and nothing newer is
//! seen: so it is never kept, and never held across an `.await`.

use std::{ops::Range, time::Instant};

use bytes::Bytes;
use dynamo::{
    operation::{ErrorCode, Failure},
    peer::{PeerAction, PeerOperation, PeerResult},
    record,
    replica::check_read,
};
use heed::{RoTxn, WithoutTls};

use super::{
    Store,
    bounds::Bounds,
    error::Trouble,
    shard::{Shard, row_of, shard_of},
};

/// Room made beforehand for each record of a batch: a record of a value of 100 bytes has 226.
const RECORD_BYTES_USUAL: usize = 256;

/// Committed data, as of the first read in each shard.
pub struct Snapshot<'s> {
    pub(super) store: &'s Store,
    open: Vec<Option<Open<'s>>>,
    registration: u64,
}

/// The snapshot of one shard.
struct Open<'s> {
    transaction: RoTxn<'s, WithoutTls>,
    bounds: Bounds,
}

/// What stands under a key.
enum Found {
    Absent,
    /// A record that verifies, copied to this range of the batch's buffer.
    Record(Range<usize>),
    Digest(u128),
    Corrupt,
    Failed(Failure),
    /// What is kept of the key for others: no record of this node's, so no row of it says who may see it.
    Hints(PeerResult),
}

impl<'s> Snapshot<'s> {
    pub(super) fn new(store: &'s Store) -> Self {
        let registration = store.readers.begin(Instant::now());
        Self { store, open: store.shards().map(|_| None).collect(), registration }
    }

    /// Answers one read. Several at once cost less: [`Snapshot::read_all`].
    pub fn read(&mut self, operation: &PeerOperation) -> PeerResult {
        let mut results = Vec::with_capacity(1);
        self.read_all(std::slice::from_ref(operation), &mut results);
        results.pop().unwrap_or(PeerResult::Corrupt)
    }

    /// Answers reads, in their order, at the end of `results`: data first, views after, so that an answer is never given
    /// under a view that was already left behind when it was made. Records share one buffer. What is asked for of hints is not
    /// of this snapshot, but of now. A merge is no read; it fails.
    pub fn read_all(&mut self, operations: &[PeerOperation], results: &mut Vec<PeerResult>) {
        let mut buffer = Vec::with_capacity(operations.len() * RECORD_BYTES_USUAL);
        let found: Vec<Found> = operations.iter().map(|operation| self.find(operation, &mut buffer)).collect();
        let buffer = Bytes::from(buffer);
        let mut views = None;
        for (operation, found) in operations.iter().zip(found) {
            let number = shard_of(&operation.store_key, self.store.identity().shards);
            let (_, rows) = match views.take() {
                Some((of, rows)) if of == number => views.insert((of, rows)),
                _ => views.insert((number, self.store.shard(number).views())),
            };
            let row = row_of(rows, &operation.store_key, operation.view.bits);
            results.push(match (check_read(row, &operation.store_key, &operation.view), found) {
                (_, Found::Hints(result)) => result,
                (Err(refusal), _) => refusal.into(),
                (Ok(()), Found::Absent) => PeerResult::Absent,
                (Ok(()), Found::Record(range)) => PeerResult::Record(buffer.slice(range)),
                (Ok(()), Found::Digest(digest)) => PeerResult::Digest(digest),
                (Ok(()), Found::Corrupt) => PeerResult::Corrupt,
                (Ok(()), Found::Failed(failure)) => PeerResult::Failed(failure),
            });
        }
    }

    fn find(&mut self, operation: &PeerOperation, buffer: &mut Vec<u8>) -> Found {
        if operation.action == PeerAction::ReadHint {
            return Found::Hints(self.store.hints().read(&operation.view, &operation.store_key));
        }
        let number = shard_of(&operation.store_key, self.store.identity().shards);
        let shard = self.store.shard(number);
        match self.look_up(number, operation, buffer) {
            // Once anything was lost, nothing that is not found counts as absent.
            Ok(Found::Absent) if shard.health.is_damaged() => Found::Corrupt,
            Ok(found) => found,
            Err(error) => {
                // LMDB gives up a transaction that met damage; the next read needs another.
                self.open[number] = None;
                match shard.note(&error) {
                    Trouble::Damage => Found::Corrupt,
                    Trouble::Full | Trouble::Other => Found::Failed(read_failure(&error)),
                }
            }
        }
    }

    fn look_up(&mut self, number: usize, operation: &PeerOperation, buffer: &mut Vec<u8>) -> heed::Result<Found> {
        let shard = self.store.shard(number);
        let open = self.open(number)?;
        let Some(record) = shard.tables.records.get(&open.transaction, &operation.store_key.0)? else {
            return Ok(Found::Absent);
        };
        if !open.bounds.admit(record) {
            shard.damaged("a record lies outside of the file");
            return Ok(Found::Corrupt);
        }
        let Ok(digest) = record::verify(&operation.store_key, record) else {
            return Ok(Found::Corrupt);
        };
        Ok(match operation.action {
            PeerAction::Read => {
                let start = buffer.len();
                buffer.extend_from_slice(record);
                Found::Record(start..buffer.len())
            }
            PeerAction::Digest => Found::Digest(digest),
            PeerAction::Merge(_) | PeerAction::ReadHint | PeerAction::Hint { .. } => {
                let message = "a write or a hint was handed to a reader of records; nothing was done";
                Found::Failed(Failure::new(ErrorCode::Internal, message))
            }
        })
    }

    /// The snapshot of a shard, taken at its first use.
    fn open(&mut self, number: usize) -> heed::Result<&Open<'s>> {
        let shard: &'s Shard = self.store.shard(number);
        let slot = &mut self.open[number];
        if slot.is_none() {
            let transaction = shard.tables.env.read_txn()?;
            *slot = Some(Open { transaction, bounds: shard.bounds() });
        }
        Ok(slot.as_ref().expect("it was just opened"))
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        self.store.readers.end(self.registration);
    }
}

fn read_failure(error: &heed::Error) -> Failure {
    Failure::with_message(
        ErrorCode::Unavailable,
        format!("this node's store could not be read ({error}); other replicas may serve the key"),
    )
}
