//! Rebuilding: a record that can't be verified gives way to the merge of what enough other owners hold (design, data, "Record
//! on disk"). Who was asked, and that they were enough, is the caller's business.
//!
//! Obligations: the partition takes a new actor, because dots of the current one may be among what is forgotten, and the next
//! dot's context would swallow them at the peers; row and tree must be right afterwards although nobody knows the digest of what
//! stood here. The count of records is right at once. The tree's range is counted anew from its keys. What the row has added up
//! would need every record of the partition, so the row says that it is unsure ([`super::PartitionRow::forgotten`]) until somebody has
//! read them all ([`super::Batch::recounted`]).

use bytes::Bytes;

use super::{
    Rows, WriteOutcome,
    apply::{Work, is_deleted},
    merge::receive,
};
use crate::{
    bug::{self, Bug},
    record,
};

impl<R: Rows> Work<'_, R> {
    /// Puts a record, or nothing, in the place of one that can't be read.
    pub(super) fn rebuild(self, bytes: Option<&Bytes>) -> Result<WriteOutcome, R::Error> {
        let received = bytes.map(|bytes| receive(&self.store_key, None, bytes)).transpose();
        let after = match received {
            Ok(received) => {
                received.zip(bytes).map(|(received, bytes)| (record::digest(bytes), is_deleted(&received.object)))
            }
            Err(failure) => return Ok(WriteOutcome::Refused(failure)),
        };
        if !bug::is_on(Bug::RebuildKeepsActor) {
            self.replica.actors.retire(self.place);
        }
        self.changed.insert(self.place);
        if let Some(row) = self.replica.partitions.get_mut(&self.place) {
            row.forgotten = row.forgotten.saturating_add(1);
            match after {
                Some((digest, is_deleted)) => {
                    row.sum = row.sum.wrapping_add(digest);
                    row.deleted = row.deleted.saturating_add(u64::from(is_deleted));
                }
                None => row.records = row.records.saturating_sub(1),
            }
        }
        match bytes {
            Some(bytes) => self.rows.put_record(&self.store_key, bytes)?,
            None => self.rows.remove_record(&self.store_key)?,
        }
        if !bug::is_on(Bug::TreeMissesRebuild) {
            self.rows.replaced_unknown(&self.store_key, after.map(|(digest, _)| digest))?;
        }
        Ok(WriteOutcome::Stored)
    }
}
