//! One operation on one replica, from view check to stored record.
//!
//! Obligations, in this order: a newer view than the replica's is adopted and then compared, in the write's own transaction, so that
//! nothing is ever acknowledged under a view that is not the row's; a record that can't be verified ends
//! the operation and the partition's actor; any sign that dots of the current actor were forgotten ends that actor before
//! it mints again; only then is anything written, and record and row change together.

use alloc::collections::BTreeSet;

use super::{
    PartitionRow, Place, Refusal, Replica, Rows, WriteOperation, WriteOutcome,
    read::{check_bits, check_place, check_view, is_behind, other_bits, unknown},
    standing::Standing,
};
use crate::{
    bug::{self, Bug},
    ident::StoreKey,
    layout::View,
    operation::{ErrorCode, Failure},
    record,
    version::Object,
};

/// One operation at work: admitted, with what stands under its key.
pub(super) struct Work<'w, R> {
    pub(super) replica: &'w mut Replica,
    pub(super) rows: &'w mut R,
    /// The partitions that the transaction changed; [`super::batch`] undoes them if it is not committed.
    pub(super) changed: &'w mut BTreeSet<Place>,
    pub(super) place: Place,
    pub(super) store_key: StoreKey,
}

/// What must be known of the record before, once its object has been changed.
#[derive(Clone, Copy)]
pub(super) struct Before {
    pub(super) digest: u128,
    pub(super) is_deleted: bool,
}

impl Replica {
    pub(super) fn apply<R: Rows>(
        &mut self,
        rows: &mut R,
        operation: WriteOperation,
        changed: &mut BTreeSet<Place>,
    ) -> Result<WriteOutcome, R::Error> {
        let (view, store_key) = match &operation {
            WriteOperation::Merge { view, store_key, .. }
            | WriteOperation::Rebuild { view, store_key, .. }
            | WriteOperation::Reap { view, store_key, .. } => (*view, *store_key),
            WriteOperation::Mint { view, address, .. } => (*view, address.store_key),
            WriteOperation::Move(operation) => return self.take_step(rows, *operation, changed),
        };
        let place = match self.admit(rows, &view, &store_key, changed)? {
            Ok(place) => place,
            Err(refusal) => return Ok(refusal.into()),
        };
        let work = Work { replica: self, rows, changed, place, store_key };
        let bytes = work.rows.record(&store_key)?;
        let Ok(standing) = bytes.map(|bytes| Standing::read(&store_key, bytes)).transpose() else {
            return work.apply_to_unreadable(&operation);
        };
        match operation {
            WriteOperation::Merge { record, .. } | WriteOperation::Rebuild { record: Some(record), .. } => {
                work.merge(standing, &record)
            }
            WriteOperation::Mint { address, write, .. } => work.mint(standing, &address, write),
            // What can be read needs no rebuilding, and others that hold nothing add nothing to it.
            WriteOperation::Rebuild { record: None, .. } => Ok(WriteOutcome::Stored),
            WriteOperation::Reap { digest, clock, .. } => work.reap(standing, digest, clock),
            WriteOperation::Move(_) => Ok(WriteOutcome::Refused(misplaced())),
        }
    }

    /// Lets the partition's row know what the operation's sender knows, and compares the views: where the row is, if the operation is to
    /// be done. What was learned stays learned also if it is not.
    fn admit<R: Rows>(
        &mut self,
        rows: &mut R,
        view: &View,
        store_key: &StoreKey,
        changed: &mut BTreeSet<Place>,
    ) -> Result<Result<Place, Refusal>, R::Error> {
        if let Err(refusal) = check_place(store_key, view) {
            return Ok(Err(refusal));
        }
        let Some(place) = self.find(rows, store_key, view.bits)? else { return Ok(Err(Refusal::Failed(unknown()))) };
        let Some(row) = self.row(rows, place)? else { return Ok(Err(Refusal::Failed(unknown()))) };
        if check_bits(&row.view, view).is_ok() && is_behind(&row.view, view) {
            row.view = row.view.join(view);
            changed.insert(place);
        }
        Ok(check_view(row, view).map(|()| place))
    }

    /// Where the row is that a key's records are counted in, by whatever number of bits.
    pub(super) fn find<R: Rows>(
        &mut self,
        rows: &mut R,
        store_key: &StoreKey,
        bits: u8,
    ) -> Result<Option<Place>, R::Error> {
        for bits in other_bits(bits) {
            let place = (bits, store_key.id().prefix(bits));
            if self.row(rows, place)?.is_some() {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// The row of a partition as the open batch has left it.
    pub(super) fn row<R: Rows>(&mut self, rows: &mut R, place: Place) -> Result<Option<&mut PartitionRow>, R::Error> {
        if !self.partitions.contains_key(&place)
            && let Some(row) = rows.partition(place.1, place.0)?
        {
            self.partitions.insert(place, row);
        }
        Ok(self.partitions.get_mut(&place))
    }
}

impl<R: Rows> Work<'_, R> {
    /// Stores a record and brings the partition's row in line with it; does neither if the very record stands there.
    pub(super) fn store(&mut self, before: Option<Before>, object: &Object, encoded: &[u8]) -> Result<(), R::Error> {
        let after = Before { digest: record::digest(encoded), is_deleted: is_deleted(object) };
        if before.is_some_and(|before| before.digest == after.digest) {
            return Ok(());
        }
        self.changed.insert(self.place);
        if let Some(row) = self.replica.partitions.get_mut(&self.place) {
            match before {
                Some(before) => {
                    row.sum = row.sum.wrapping_sub(before.digest);
                    row.deleted = row.deleted.saturating_sub(u64::from(before.is_deleted));
                }
                None => row.records = row.records.saturating_add(1),
            }
            row.sum = row.sum.wrapping_add(after.digest);
            row.deleted = row.deleted.saturating_add(u64::from(after.is_deleted));
        }
        self.rows.put_record(&self.store_key, encoded)?;
        self.feed(before.map(|before| before.digest), Some(after.digest))
    }

    /// Lets the hash tree know.
    pub(super) fn feed(&mut self, before: Option<u128>, after: Option<u128>) -> Result<(), R::Error> {
        if bug::is_on(Bug::TreeMissesWrite) {
            return Ok(());
        }
        self.rows.changed(&self.store_key, before, after)
    }

    /// A record that can't be verified is no object: nothing is merged with it and nothing counts on it.
    fn apply_to_unreadable(self, operation: &WriteOperation) -> Result<WriteOutcome, R::Error> {
        match operation {
            WriteOperation::Rebuild { record, .. } => return self.rebuild(record.as_ref()),
            WriteOperation::Merge { record, .. } if bug::is_on(Bug::CorruptOverwrittenByMerge) => {
                return self.merge(None, record);
            }
            WriteOperation::Merge { .. }
            | WriteOperation::Mint { .. }
            | WriteOperation::Reap { .. }
            | WriteOperation::Move(_) => {}
        }
        // Whatever this record held is forgotten here, dots of the current actor among it.
        self.replica.actors.retire(self.place);
        Ok(WriteOutcome::Corrupt)
    }
}

impl Before {
    pub(super) fn of(standing: &Standing) -> Self {
        Self { digest: standing.record.digest, is_deleted: is_deleted(&standing.record.object) }
    }
}

/// A step of a move touches no record, so it never comes as far as one.
fn misplaced() -> Failure {
    Failure::new(ErrorCode::Internal, "a step of a move was taken for a write of a record; nothing was done")
}

pub(super) fn is_deleted(object: &Object) -> bool {
    object.live().next().is_none()
}
