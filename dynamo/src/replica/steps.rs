//! The steps of a partition's move at one replica (design, ring, "Moving a partition"): what its row must durably know before anybody
//! may rely on it. Facts only grow, so a step that is repeated does nothing.

use alloc::collections::BTreeSet;

use super::{MoveOperation, PartitionRow, Place, Replica, Rows, WriteOutcome};
use crate::{
    layout::View,
    operation::{ErrorCode, Failure},
    peer::Standing,
};

impl PartitionRow {
    /// How the replica stands with the partition, for others.
    pub fn standing(&self) -> Standing {
        let Self { view, full, is_moved, records, copied, .. } = *self;
        Standing { view, full, is_moved, records, copied }
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
        let place = (view.bits, view.prefix);
        let Some(row) = self.row(rows, place)? else { return Ok(WriteOutcome::Refused(unknown())) };
        let before = *row;
        match operation {
            MoveOperation::Adopt { view } => row.view = row.view.join(&view),
            MoveOperation::Fill { .. } | MoveOperation::Drop { .. } if row.view != view => {
                return Ok(WriteOutcome::Stale(row.view));
            }
            MoveOperation::Fill { view } => row.full = row.full.max(view.hi),
            MoveOperation::Copied { below, .. } => row.copied = row.copied.max(below),
            MoveOperation::Drop { .. } => return Ok(WriteOutcome::Refused(unsupported())),
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
}

fn unknown() -> Failure {
    Failure::new(
        ErrorCode::StaleView,
        "this node holds no such partition; nothing was done, fetch the ring and ask an owner",
    )
}

fn unsupported() -> Failure {
    Failure::new(ErrorCode::Unsupported, "partitions are not deleted yet; nothing was done")
}
