//! A batch: the operations of one transaction. Its outcomes come out only by [`Staged::committed`], so no driver can
//! acknowledge a write that is not durable; and whatever way it ends otherwise, the actors it minted under are given up.
//!
//! The second rule is why a batch is a guard and not a list. A dot that was shown to peers may live on there although the
//! transaction was aborted here. If its actor went on counting, the next dot's context would cover the one that this
//! replica no longer holds, and swallow it at the peers.

use alloc::{collections::BTreeSet, vec::Vec};
use core::mem;

use super::{Counted, Minted, Place, Replica, Rows, WriteOperation, WriteOutcome};

/// Operations that are being applied in an open transaction.
#[derive(Debug)]
#[must_use = "a batch that is dropped counts as aborted"]
pub struct Batch<'r> {
    pub(super) guard: Guard<'r>,
    outcomes: Vec<WriteOutcome>,
}

/// A batch all of whose writes stand in the transaction, which is yet to be committed.
#[derive(Debug)]
#[must_use = "a staged batch that is dropped counts as aborted"]
pub struct Staged<'r> {
    guard: Guard<'r>,
    outcomes: Vec<WriteOutcome>,
}

impl<'r> Batch<'r> {
    pub(super) fn new(replica: &'r mut Replica) -> Self {
        Self { guard: Guard { replica, changed: BTreeSet::new() }, outcomes: Vec::new() }
    }

    /// Applies one operation. What it minted is returned to be sent to peers while the local commit runs; it is no
    /// acknowledgement. After an error the transaction must be aborted, and so must an aborted transaction's operations not
    /// be applied again once their versions were shown: they are writes of which nobody knows whether they happened.
    pub fn apply<R: Rows>(&mut self, rows: &mut R, operation: WriteOperation) -> Result<Option<&Minted>, R::Error> {
        let outcome = self.guard.replica.apply(rows, operation, &mut self.guard.changed)?;
        self.outcomes.push(outcome);
        Ok(match self.outcomes.last() {
            Some(WriteOutcome::Minted(minted)) => Some(minted),
            Some(
                WriteOutcome::Stored
                | WriteOutcome::Stale(_)
                | WriteOutcome::Corrupt
                | WriteOutcome::Refused(_)
                | WriteOutcome::Moved { .. },
            )
            | None => None,
        })
    }

    /// Corrects a row that is unsure of what it has added up, by what somebody has counted who has read the whole partition as it is at this
    /// point of the batch. `false` if the count contradicts the row's: records are missing, and nothing was done.
    pub fn recounted<R: Rows>(
        &mut self,
        rows: &mut R,
        prefix: u32,
        bits: u8,
        counted: &Counted,
    ) -> Result<bool, R::Error> {
        let place = (bits, prefix);
        let Some(row) = self.guard.replica.row(rows, place)? else {
            return Ok(false);
        };
        if row.records != counted.records {
            return Ok(false);
        }
        (row.deleted, row.sum, row.forgotten) = (counted.deleted, counted.sum, 0);
        self.guard.changed.insert(place);
        Ok(true)
    }

    /// Writes the rows of the partitions that changed; the transaction is then ready to be committed.
    pub fn stage<R: Rows>(mut self, rows: &mut R) -> Result<Staged<'r>, R::Error> {
        for place in &self.guard.changed {
            if let Some(row) = self.guard.replica.partitions.get(place) {
                rows.put_partition(row)?;
            }
        }
        let outcomes = mem::take(&mut self.outcomes);
        Ok(Staged { guard: self.guard, outcomes })
    }
}

impl Staged<'_> {
    /// To be called when the commit has returned and said that it is durable: the outcomes, in the order of the operations.
    pub fn committed(mut self) -> Vec<WriteOutcome> {
        self.guard.changed.clear();
        mem::take(&mut self.outcomes)
    }
}

/// What must be undone in memory unless the transaction is committed.
#[derive(Debug)]
pub(super) struct Guard<'r> {
    pub(super) replica: &'r mut Replica,
    /// The partitions whose rows the transaction changes, which includes all that it minted in.
    pub(super) changed: BTreeSet<Place>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        for place in &self.changed {
            self.replica.actors.retire(*place);
            self.replica.partitions.remove(place);
        }
    }
}
