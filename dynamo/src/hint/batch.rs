//! A batch of operations on hints: the replica's rule ([`crate::replica::Batch`]) for the same reason. Outcomes come out only
//! by [`Staged::committed`]; whatever way a batch ends otherwise, the actors it minted under are given up.

use alloc::{collections::BTreeSet, vec::Vec};
use core::mem;

use super::{Book, HintOperation, HintRows};
use crate::{
    ident::NodeId,
    replica::{Minted, Place, WriteOutcome},
};

/// Operations that are being applied in an open transaction.
#[derive(Debug)]
#[must_use = "a batch that is dropped counts as aborted"]
pub struct Batch<'b> {
    guard: Guard<'b>,
    outcomes: Vec<WriteOutcome>,
}

/// A batch all of whose changes stand in the transaction, which is yet to be committed.
#[derive(Debug)]
#[must_use = "a staged batch that is dropped counts as aborted"]
pub struct Staged<'b> {
    guard: Guard<'b>,
    outcomes: Vec<WriteOutcome>,
}

/// What a transaction has changed.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// The targets whose usage it changes.
    pub(super) targets: BTreeSet<NodeId>,
    /// The partitions it minted in.
    pub(super) places: BTreeSet<Place>,
}

impl<'b> Batch<'b> {
    pub(super) fn new(book: &'b mut Book) -> Self {
        Self { guard: Guard { book, changed: Changed::default() }, outcomes: Vec::new() }
    }

    /// Applies one operation. What it minted is returned to be sent to peers while the local commit runs; it is no
    /// acknowledgement. After an error the transaction must be aborted, and so must an aborted transaction's operations not
    /// be applied again once their versions were shown.
    pub fn apply<R: HintRows>(&mut self, rows: &mut R, operation: HintOperation) -> Result<Option<&Minted>, R::Error> {
        let outcome = self.guard.book.apply(rows, operation, &mut self.guard.changed)?;
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

    /// Writes the usage of the targets that changed; the transaction is then ready to be committed.
    pub fn stage<R: HintRows>(mut self, rows: &mut R) -> Result<Staged<'b>, R::Error> {
        for target in &self.guard.changed.targets {
            rows.put_usage(*target, &self.guard.book.usage_of(*target))?;
        }
        let outcomes = mem::take(&mut self.outcomes);
        Ok(Staged { guard: self.guard, outcomes })
    }
}

impl Staged<'_> {
    /// To be called when the commit has returned and said that it is durable: the outcomes, in the order of the operations.
    pub fn committed(mut self) -> Vec<WriteOutcome> {
        self.guard.changed = Changed::default();
        mem::take(&mut self.outcomes)
    }
}

/// What must be undone in memory unless the transaction is committed.
#[derive(Debug)]
struct Guard<'b> {
    book: &'b mut Book,
    changed: Changed,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.book.forget(&self.changed);
    }
}
