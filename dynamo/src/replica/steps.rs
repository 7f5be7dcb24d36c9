//! The steps of a partition's move at one replica (design, ring, "Moving a partition"): what its row must durably know before anybody
//! may rely on it. Facts only grow, so a step that is repeated does nothing.

use alloc::collections::BTreeSet;

use super::{
    Listed, MoveOperation, PartitionRow, Place, Refusal, Replica, Rows, WriteOutcome,
    read::{check_bits, check_place},
};
use crate::{
    bug::{self, Bug},
    layout::View,
    operation::{ErrorCode, Failure},
    peer::{Standing, TreePath},
};

/// Most records that one step deletes: some tens of milliseconds, for which the writes of others wait.
pub const DELETIONS_MAX: u32 = 4_096;

impl PartitionRow {
    /// How the replica stands with the partition, for others.
    pub fn standing(&self) -> Standing {
        let Self { view, full, is_moved, records, copied, .. } = *self;
        Standing { view, full, is_moved, records, copied }
    }

    /// Whether another row of the partition differs in more than what is counted, which every write changes.
    pub fn is_news(&self, other: &Self) -> bool {
        (self.view, self.full, self.owned, self.is_moved) != (other.view, other.full, other.owned, other.is_moved)
    }
}

impl Replica {
    /// Takes one step.
    pub(super) fn take_step<R: Rows>(
        &mut self,
        rows: &mut R,
        operation: MoveOperation,
        changed: &mut BTreeSet<Place>,
    ) -> Result<WriteOutcome, R::Error> {
        let view = *operation.view();
        let place = match self.place_of(rows, &view)? {
            Ok(place) => place,
            Err(refusal) => return Ok(refusal.into()),
        };
        let Some(row) = self.row(rows, place)? else { return Ok(Refusal::Failed(super::read::unknown()).into()) };
        let before = *row;
        match operation {
            MoveOperation::Adopt { view } => row.view = row.view.join(&view),
            MoveOperation::Fill { .. } if row.view != view || row.is_moved => return Ok(WriteOutcome::Stale(row.view)),
            MoveOperation::Fill { view } => row.full = row.full.max(view.hi),
            MoveOperation::Copied { .. } if row.is_moved => return Ok(WriteOutcome::Stale(row.view)),
            MoveOperation::Copied { below, .. } => row.copied = row.copied.max(below),
            MoveOperation::Drop { records_max, .. } => return self.drop_some(rows, place, &view, records_max, changed),
        }
        let after = *row;
        if after != before {
            changed.insert(place);
        }
        Ok(WriteOutcome::Moved { standing: after.standing(), more: false })
    }

    /// The view this replica has of a partition, as the open batch has left it.
    pub fn view<R: Rows>(&mut self, rows: &mut R, bits: u8, prefix: u32) -> Result<Option<View>, R::Error> {
        Ok(self.row(rows, (bits, prefix))?.map(|row| row.view))
    }

    /// Where the row of a view's partition is, if it is one of as many bits.
    fn place_of<R: Rows>(&mut self, rows: &mut R, view: &View) -> Result<Result<Place, Refusal>, R::Error> {
        let first = view.first_key();
        if let Err(refusal) = check_place(&first, view) {
            return Ok(Err(refusal));
        }
        let Some(place) = self.find(rows, &first, view.bits)? else {
            return Ok(Err(Refusal::Failed(super::read::unknown())));
        };
        let row = self.row(rows, place)?.map(|row| row.view);
        Ok(row.map_or(Ok(()), |mine| check_bits(&mine, view)).map(|()| place))
    }

    /// Deletes the next records of a partition that this node has handed over, and says so in the row when none is left.
    fn drop_some<R: Rows>(
        &mut self,
        rows: &mut R,
        place: Place,
        view: &View,
        records_max: u32,
        changed: &mut BTreeSet<Place>,
    ) -> Result<WriteOutcome, R::Error> {
        let Some(before) = self.row(rows, place)?.copied() else {
            return Ok(WriteOutcome::Refused(super::read::unknown()));
        };
        if before.is_moved {
            return Ok(WriteOutcome::Moved { standing: before.standing(), more: false });
        }
        if before.view != *view {
            return Ok(WriteOutcome::Stale(before.view));
        }
        if before.owned >= view.lo && !bug::is_on(Bug::EarlyDeletion) {
            return Ok(WriteOutcome::Refused(in_use()));
        }
        // With the records their contexts are forgotten, and with them which dots of the current actor belonged to them.
        self.actors.retire(place);
        changed.insert(place);
        let range = TreePath::of_partition(place.1, place.0);
        let most = records_max.clamp(1, DELETIONS_MAX) as usize;
        let listed = rows.listed(&range.first_key(), &range.last_key(), most)?;
        // What was FULL once no longer is, and a later copy begins anew.
        let mut after = PartitionRow { full: 0, copied: 0, ..before };
        for listed in &listed {
            remove(rows, &mut after, listed)?;
        }
        let more = listed.len() == most;
        if !more {
            after = PartitionRow { records: 0, deleted: 0, sum: 0, forgotten: 0, is_moved: true, ..after };
        }
        let standing = after.standing();
        self.partitions.insert(place, after);
        if after.is_moved && bug::is_on(Bug::MovedRowForgotten) {
            self.forget(place);
            rows.uproot(place.1, place.0)?;
        }
        Ok(WriteOutcome::Moved { standing, more })
    }
}

/// Removes one record, from the store, from the row's counts, and from the hash tree.
fn remove<R: Rows>(rows: &mut R, row: &mut PartitionRow, listed: &Listed) -> Result<(), R::Error> {
    rows.remove_record(&listed.store_key)?;
    row.records = row.records.saturating_sub(1);
    match listed.outline {
        Some((digest, is_deleted)) => {
            row.sum = row.sum.wrapping_sub(digest);
            row.deleted = row.deleted.saturating_sub(u64::from(is_deleted));
            rows.changed(&listed.store_key, Some(digest), None)
        }
        None => {
            row.forgotten = row.forgotten.saturating_add(1);
            rows.replaced_unknown(&listed.store_key, None)
        }
    }
}

fn in_use() -> Failure {
    let message = "this node owns the partition under a configuration that may still be active; nothing was deleted";
    Failure::new(ErrorCode::InvalidRequest, message)
}
