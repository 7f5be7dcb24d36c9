//! What a shard's writer does between groups, a little at a time: counting ranges of hash trees anew, correcting rows that are unsure of
//! what they have added up, and storing what is left when the shard is closed.
//!
//! It is the writer's work because while the writer does it nothing is written: what it lists in several short snapshots is one
//! state of the shard.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dynamo::{
    merkle::NODE_BYTES,
    replica::{Counted, PartitionRow},
};

use super::{
    aborted::Aborted,
    error::{OpenError, Trouble},
    forest::Range,
    listing::list_all,
    recount::{Recount, Step},
    replay::closed_at,
    rows::LmdbRows,
    shard::{Committed, Shard, place},
    space::{Full, Need},
    writer::{Writer, aborted_by_rows, commit},
};

/// How long one turn may take: writes wait meanwhile.
const TURN_MAX: Duration = Duration::from_millis(10);

/// Nodes stored in one transaction when a shard is closed or brought up: a megabyte.
const NODES_AT_ONCE: usize = 256;

/// Keys of a range are listed up to here. It has some thousands at most, when many came since it was looked at last.
const RANGE_KEYS_MAX: usize = 1 << 20;

impl Shard {
    /// Counts the next range that must be, by its records. Whether there was one.
    fn count_next(&self) -> bool {
        let Some(range) = self.forest().uncounted() else { return false };
        if let Err(what) = self.count(&range) {
            let ((bits, prefix), path) = range;
            self.damaged(format!("partition {prefix:#x}/{bits}, keys from {:#x}/{}: {what}", path.prefix, path.bits));
        }
        true
    }

    fn count(&self, range: &Range) -> Result<(), String> {
        let listing = list_all(&self.tables, &range.1, RANGE_KEYS_MAX);
        let keys = listing.as_ref().map_or(&[][..], |listing| &listing.keys);
        let counted = self.forest_mut().recount(range, keys);
        let listing = listing?;
        if listing.is_misplaced {
            return Err("a record stands under a key that is not its own".to_owned());
        }
        counted.map_err(|lost| format!("{} records are there, and {} were counted", lost.found, lost.counted))
    }

    /// Stores what the trees of a shard that nobody writes to yet hold, whatever it takes.
    pub(super) fn store_trees(&self) -> Result<(), OpenError> {
        while self.count_next() {}
        while self.forest().stale() > 0 && self.health.is_sound() {
            let store = || {
                let mut rows = LmdbRows::begin(&self.tables)?;
                rows.store_nodes(&self.forest(), NODES_AT_ONCE)?;
                rows.commit()
            };
            let committed = store().map_err(OpenError::engine(self.tables.env.path(), "store hash trees"))?;
            self.publish(&committed);
        }
        Ok(())
    }
}

impl Writer {
    /// Notes which rows are unsure of what they have added up.
    pub(super) fn notice_unsure<'r>(&mut self, rows: impl IntoIterator<Item = &'r PartitionRow>) {
        for row in rows.into_iter().filter(|row| row.forgotten > 0) {
            // Where a record can't be read, nothing can be counted until it has been rebuilt, and then the row says so.
            if self.blocked.get(&place(&row.view)) != Some(&row.forgotten) {
                self.unsure.insert(place(&row.view), row.forgotten);
            }
        }
    }

    /// Takes note of what was written.
    pub(super) fn written(&mut self, committed: &Committed) {
        self.notice_unsure(&committed.rows);
        if let Some(recount) = &mut self.recount {
            recount.changed(&committed.changes);
        }
    }

    /// Works for a short while on what is left to do. Whether anything is left that can be done at once.
    pub(super) fn keep_up(&mut self) -> bool {
        let began = Instant::now();
        while self.shard.health.is_sound() && began.elapsed() < TURN_MAX {
            if self.shard.count_next() {
                continue;
            }
            let Some((place, forgotten)) = self.next_recount() else { return false };
            let recount = self.recount.get_or_insert_with(|| Recount::new(place));
            match recount.step(&self.shard.tables) {
                Ok(Step::Counting) if self.shard.queue.waiting().0 > 0 => return true,
                Ok(Step::Counting) => {}
                Ok(Step::Unreadable) => {
                    self.recount = None;
                    self.unsure.remove(&place);
                    self.blocked.insert(place, forgotten);
                }
                Ok(Step::Counted(counted)) => {
                    self.recount = None;
                    self.unsure.remove(&place);
                    self.blocked.remove(&place);
                    if let Err(aborted) = self.correct(place, &counted) {
                        let _ = self.outcome_of(aborted);
                    }
                }
                Err(what) => {
                    self.recount = None;
                    self.shard.damaged(what);
                }
            }
        }
        self.shard.health.is_sound()
    }

    /// The partition that is being counted, or is to be next, and how many of its records were forgotten.
    fn next_recount(&self) -> Option<((u8, u32), u64)> {
        let counting = self.recount.as_ref().map(Recount::place);
        let known = |place: (u8, u32)| self.unsure.get(&place).map_or((place, 0), |forgotten| (place, *forgotten));
        counting.or_else(|| self.unsure.keys().next().copied()).map(known)
    }

    /// Writes what was counted into a row.
    fn correct(&mut self, (bits, prefix): (u8, u32), counted: &Counted) -> Result<(), Aborted> {
        let shard = Arc::clone(&self.shard);
        let mut rows = LmdbRows::begin(&shard.tables).map_err(Aborted::by_engine)?;
        let survey = self
            .space
            .survey(&shard.tables.env, &shard.tables.all(), rows.transaction())
            .map_err(Aborted::by_engine)?;
        self.space.prepare(&survey, &Need { writes: 1, bytes: 0, is_delete: true }).map_err(|Full| Aborted::Full)?;
        let mut batch = self.replica.begin();
        if !batch.recounted(&mut rows, prefix, bits, counted).map_err(aborted_by_rows)? {
            let records = counted.records;
            return Err(Aborted::Damage(format!(
                "partition {prefix:#x}/{bits} has {records} records, and its row says otherwise"
            )));
        }
        let staged = batch.stage(&mut rows).map_err(aborted_by_rows)?;
        let committed = commit(rows, &shard)?;
        shard.publish(&committed);
        staged.committed();
        Ok(())
    }

    /// Stores what is not stored yet and stamps the shard as closed, so that the next start is a quick one. If that can't be done, the
    /// next start replays the log and knows that this was no orderly end.
    pub(super) fn close(&mut self) {
        while self.shard.count_next() {}
        while self.shard.health.is_sound() {
            let is_last = self.shard.forest().stale() <= NODES_AT_ONCE;
            match self.commit_closing(is_last) {
                Ok(()) if is_last => return,
                Ok(()) => {}
                Err(what) => {
                    tracing::warn!(shard = self.shard.number, what, "the shard could not be closed in order");
                    return;
                }
            }
        }
    }

    fn commit_closing(&mut self, is_last: bool) -> Result<(), String> {
        let shard = &self.shard;
        let position = shard.position();
        let is_stamped = closed_at(&shard.tables).map_err(|error| error.to_string())? == Some(position);
        if is_last && is_stamped && shard.forest().stale() == 0 {
            return Ok(());
        }
        let by_engine = |error: heed::Error| match Trouble::of(&error) {
            Trouble::Full => "no space".to_owned(),
            Trouble::Damage | Trouble::Other => error.to_string(),
        };
        let mut rows = LmdbRows::begin(&shard.tables).map_err(by_engine)?;
        let survey =
            self.space.survey(&shard.tables.env, &shard.tables.all(), rows.transaction()).map_err(by_engine)?;
        let writes = shard.forest().stale().min(NODES_AT_ONCE) as u64;
        let need = Need { writes, bytes: writes * NODE_BYTES as u64, is_delete: true };
        self.space.prepare(&survey, &need).map_err(|Full| "no space".to_owned())?;
        rows.store_nodes(&shard.forest(), NODES_AT_ONCE).map_err(by_engine)?;
        if is_last {
            rows.put_closed(position).map_err(by_engine)?;
        }
        let committed = rows.commit().map_err(by_engine)?;
        shard.publish(&committed);
        Ok(())
    }
}
