//! Reaping: forgetting a record of tombstones and expired versions for good. It is safe only if every owner holds this very record and
//! nobody else holds an older one, which the operator's command makes sure of (design, data, "Deletes and TTL"); here it is only
//! made sure that exactly what was looked at is removed.

use super::{
    Rows, Standing, WriteOutcome,
    apply::{Before, Work},
};
use crate::{
    bug::{self, Bug},
    operation::{ErrorCode, Failure},
};

impl<R: Rows> Work<'_, R> {
    pub(super) fn reap(
        mut self,
        standing: Option<Standing>,
        digest: u128,
        clock: u64,
    ) -> Result<WriteOutcome, R::Error> {
        let Some(standing) = standing else {
            // A repetition, or it never was here: what was asked for is so.
            return Ok(WriteOutcome::Stored);
        };
        let before = Before::of(&standing);
        if before.digest != digest && !bug::is_on(Bug::ReapChanged) {
            return Ok(refuse("the record has changed since it was looked at; nothing was done, look again"));
        }
        if standing.record.object.live().any(|version| !version.is_expired(clock)) {
            return Ok(refuse("the record has a live version; nothing was done, delete it first"));
        }
        // With the record its context is forgotten, and with it which dots of the current actor belonged to it.
        self.replica.actors.retire(self.place);
        self.changed.insert(self.place);
        if let Some(row) = self.replica.partitions.get_mut(&self.place) {
            row.records = row.records.saturating_sub(1);
            row.deleted = row.deleted.saturating_sub(u64::from(before.is_deleted));
            row.sum = row.sum.wrapping_sub(before.digest);
        }
        self.rows.remove_record(&self.store_key)?;
        self.feed(Some(before.digest), None)?;
        Ok(WriteOutcome::Stored)
    }
}

fn refuse(message: &'static str) -> WriteOutcome {
    WriteOutcome::Refused(Failure::new(ErrorCode::InvalidRequest, message))
}
