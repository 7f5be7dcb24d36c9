//! What must be true of a replica whatever has happened to it, found out the long way.

use std::collections::BTreeMap;

use dynamo::{record, replica::PartitionRow};

use super::{Judged, World};

impl World {
    /// What must be true whatever has happened.
    pub(crate) fn check(&mut self, before: &BTreeMap<(u8, u32), PartitionRow>) -> Judged {
        let rows = self.rows();
        for (place, row) in &rows {
            self.check_counts(*place, row)?;
            let owned = self.newest_owned(&row.view.first_key());
            if row.owned != owned && row.owned < owned {
                return Err(format!("{row:?} does not know of {owned}"));
            }
            let ancestor =
                before.iter().find(|((bits, prefix), _)| *bits <= place.0 && place.1 >> (place.0 - bits) == *prefix);
            let Some((_, ancestor)) = ancestor else { continue };
            let has_grown =
                row.view.lo >= ancestor.view.lo && row.view.hi >= ancestor.view.hi && row.owned >= ancestor.owned;
            let has_returned = ancestor.is_moved && !row.is_moved && owned < row.view.lo;
            if !has_grown || has_returned {
                return Err(format!("{ancestor:?} became {row:?}"));
            }
        }
        for place in before.keys() {
            let is_held = |(bits, prefix): &(u8, u32)| *bits >= place.0 && prefix >> (bits - place.0) == place.1;
            if !rows.keys().any(is_held) {
                return Err(format!("the row of {place:?} is gone"));
            }
        }
        for (one, other) in rows.keys().zip(rows.keys().skip(1)) {
            if one.0 != other.0 {
                return Err(format!("rows of {one:?} and {other:?} beside each other"));
            }
        }
        self.check_owned()?;
        let (totals, sums) = (self.node.disk.totals(), self.node.disk.sums());
        if totals != sums { Err(format!("trees hold {totals:?}, and there is {sums:?}")) } else { Ok(()) }
    }

    fn check_counts(&self, (bits, prefix): (u8, u32), row: &PartitionRow) -> Judged {
        let (mut records, mut deleted, mut sum) = (0, 0, 0_u128);
        for (key, bytes) in self.node.disk.records.iter().filter(|(key, _)| key.id().prefix(bits) == prefix) {
            let record = record::decode(key, bytes).map_err(|error| format!("{error:?}"))?;
            records += 1;
            deleted += u64::from(record.object.live().next().is_none());
            sum = sum.wrapping_add(record.digest);
        }
        if (row.records, row.deleted, row.sum, row.forgotten) != (records, deleted, sum, 0) {
            return Err(format!("{row:?} counts other than {records} records, {deleted} deleted"));
        }
        if row.is_moved && records > 0 { Err(format!("{row:?} was moved and is not empty")) } else { Ok(()) }
    }

    /// Every partition with a configuration that may be active and has this node in it has a row that was not moved.
    fn check_owned(&self) -> Judged {
        let newest = self.ring.newest();
        for partition in 0..newest.partitions() {
            let view = newest.view(partition);
            let row = self.node.disk.row_of(&view.first_key());
            let owned = self.newest_owned(&view.first_key());
            let is_wanted = owned >= row.map_or(view.lo, |row| row.view.lo);
            if is_wanted && row.is_none_or(|row| row.is_moved) {
                return Err(format!("partition {partition} is this node's by {owned}, and its row is {row:?}"));
            }
        }
        Ok(())
    }
}
