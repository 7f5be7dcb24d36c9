//! Merging a record that another replica sent.

use alloc::borrow::Cow;

use bytes::Bytes;

use super::{
    Rows, WriteOutcome,
    apply::{Before, Work},
    standing::Standing,
};
use crate::{
    bug::{self, Bug},
    ident::{KEY_BYTES_MAX, StoreKey, is_bucket_name},
    operation::{Address, ErrorCode, Failure},
    record::{self, RecordError},
    version::Object,
};

impl<R: Rows> Work<'_, R> {
    pub(super) fn merge(mut self, standing: Option<Standing>, bytes: &Bytes) -> Result<WriteOutcome, R::Error> {
        if standing.as_ref().is_some_and(|standing| standing.bytes == bytes) {
            return Ok(WriteOutcome::Stored);
        }
        let Received { address, object: incoming } = match receive(&self.store_key, standing.as_ref(), bytes) {
            Ok(received) => received,
            Err(failure) => return Ok(WriteOutcome::Refused(failure)),
        };
        let before = standing.as_ref().map(Before::of);
        let mut object = standing.map_or_else(Object::new, |standing| standing.record.object);
        self.replica.actors.notice_amnesia(self.place, &object.context, &incoming.context);
        object.merge(&incoming);
        if bug::is_on(Bug::ContextOfWholePartition) {
            self.replica.actors.last(self.place).into_iter().for_each(|last| object.context.add(last));
        }
        self.store(before, &object, &record::encode(&address, &object))?;
        Ok(WriteOutcome::Stored)
    }
}

/// An object that another node sent, verified, and allowed to be merged with what stands under its key.
pub(crate) struct Received {
    /// Its names.
    pub(crate) address: Address,
    /// What it says.
    pub(crate) object: Object,
}

/// Verifies a record that another node sent to be merged under a key.
pub(crate) fn receive(store_key: &StoreKey, standing: Option<&Standing>, bytes: &Bytes) -> Result<Received, Failure> {
    let incoming = record::decode(store_key, bytes).map_err(refuse)?;
    let address = Address { store_key: *store_key, bucket: incoming.bucket, key: incoming.key };
    check_names(&address, standing)?;
    Ok(Received { address, object: incoming.object })
}

/// Whether a record may be merged under its store key, by the full names inside it.
fn check_names(address: &Address, standing: Option<&Standing>) -> Result<(), Failure> {
    match standing {
        Some(standing) if standing.record.is_of(address) => return Ok(()),
        Some(_) => return Err(RecordError::OtherKey.failure()),
        None => {}
    }
    let are_sound = is_bucket_name(&address.bucket) && (1..=KEY_BYTES_MAX).contains(&address.key.len());
    if are_sound && StoreKey::of(&address.bucket, &address.key) == address.store_key {
        Ok(())
    } else {
        Err(refuse(RecordError::Malformed))
    }
}

fn refuse(error: RecordError) -> Failure {
    let message = match error {
        RecordError::OtherKey => return error.failure(),
        RecordError::UnknownFormat(_) => {
            "the record to be merged has a format this node does not know; nothing was done"
        }
        RecordError::Damaged => "the record to be merged was damaged on its way; nothing was done, send it again",
        RecordError::Malformed => "the record to be merged breaks the rules of records; nothing was done",
    };
    Failure::new(ErrorCode::InvalidRequest, Cow::Borrowed(message))
}
