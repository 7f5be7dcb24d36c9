//! Rows that follow the ring, at the writer of a shard: learner rows, what a layout proves, and the split of all rows when the number of
//! partitions was doubled, all in one transaction. A crash in its middle leaves the rows and trees of before.
//!
//! A split reads the heads of all records of the shard, and nothing is written meanwhile (`server/tests/store/moves.rs` prints how long
//! that took). It happens when the ring outgrows its number of partitions, a few times in a cluster's life.

use std::sync::Arc;

use dynamo::{
    layout::View,
    operation::Failure,
    replica::{Adoption, PartitionRow, Replica, WriteOutcome},
};

use super::{
    aborted::Aborted,
    error,
    forest::Place,
    queue::WantedRows,
    rows::LmdbRows,
    shard::{Committed, Shard, place},
    space::{Full, Need},
    writer::{Writer, aborted_by_rows, commit},
};

impl Writer {
    /// Makes rows what they shall be.
    pub(super) fn adopt(&mut self, wanted: &WantedRows) -> Result<(), Failure> {
        let outcome = match self.refusal() {
            Some(outcome) => outcome,
            None => match self.commit_adoption(wanted) {
                Ok(()) => return Ok(()),
                Err(aborted) => self.outcome_of(aborted),
            },
        };
        match outcome {
            WriteOutcome::Refused(failure) => Err(failure),
            WriteOutcome::Corrupt
            | WriteOutcome::Stored
            | WriteOutcome::Minted(_)
            | WriteOutcome::Moved { .. }
            | WriteOutcome::Stale(_) => Err(error::stopped("it is damaged")),
        }
    }

    /// Does nothing if there is nothing to do, so that a store on a full disk still opens.
    fn commit_adoption(&mut self, wanted: &WantedRows) -> Result<(), Aborted> {
        let shard = Arc::clone(&self.shard);
        let known: Vec<PartitionRow> = shard.views().values().copied().collect();
        let committed = match wanted {
            WantedRows::Following(adoption) => {
                let due = adoption.due(&known);
                if due.is_empty() {
                    return Ok(());
                }
                self.follow(&shard, adoption, &due)?
            }
            WantedRows::Held(views) if views.iter().any(|view| !is_held(&known, view)) => self.hold(&shard, views)?,
            WantedRows::Held(_) => return Ok(()),
        };
        // What was known of partitions that are no more.
        for place in &committed.uprooted {
            self.unsure.remove(place);
            self.blocked.remove(place);
        }
        if self.recount.as_ref().is_some_and(|recount| committed.uprooted.contains(&recount.place())) {
            self.recount = None;
        }
        self.notice_unsure(&committed.rows);
        Ok(())
    }

    fn follow(&mut self, shard: &Shard, adoption: &Adoption, due: &[Place]) -> Result<Committed, Aborted> {
        let mut rows = self.begin(shard, due.len() as u64)?;
        let mut batch = self.replica.begin();
        if !batch.adopt(&mut rows, adoption, due).map_err(aborted_by_rows)? {
            return Err(Aborted::Damage("a partition has not as many records as its row says".to_owned()));
        }
        let staged = batch.stage(&mut rows).map_err(aborted_by_rows)?;
        let committing = shard.committing();
        let committed = commit(rows, shard)?;
        shard.publish(&committed);
        drop(committing);
        staged.committed();
        Ok(committed)
    }

    fn hold(&mut self, shard: &Shard, views: &[View]) -> Result<Committed, Aborted> {
        let mut rows = self.begin(shard, views.len() as u64)?;
        for view in views {
            Replica::adopt(&mut rows, *view).map_err(aborted_by_rows)?;
        }
        let committed = commit(rows, shard)?;
        shard.publish(&committed);
        Ok(committed)
    }

    /// Begins a transaction that has room for so many rows.
    fn begin<'s>(&mut self, shard: &'s Shard, rows_max: u64) -> Result<LmdbRows<'s>, Aborted> {
        let rows = LmdbRows::begin(&shard.tables).map_err(Aborted::by_engine)?;
        let survey = self
            .space
            .survey(&shard.tables.env, &shard.tables.all(), rows.transaction())
            .map_err(Aborted::by_engine)?;
        let need = Need { writes: rows_max, bytes: 0, is_delete: false };
        self.space.prepare(&survey, &need).map_err(|Full| Aborted::Full)?;
        Ok(rows)
    }
}

fn is_held(known: &[PartitionRow], view: &View) -> bool {
    known.iter().any(|row| place(&row.view) == place(view))
}
