//! Merging a record that another replica sent.

use alloc::borrow::Cow;

use bytes::Bytes;

use super::{
    Rows, WriteOutcome,
    apply::{Standing, Work},
};
use crate::{
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
        let incoming = match record::decode(&self.store_key, bytes) {
            Ok(incoming) => incoming,
            Err(error) => return Ok(WriteOutcome::Refused(refuse(error))),
        };
        let address = Address { store_key: self.store_key, bucket: incoming.bucket, key: incoming.key };
        if let Err(failure) = check_names(&address, standing.as_ref()) {
            return Ok(WriteOutcome::Refused(failure));
        }
        let before = standing.as_ref().map(Standing::before);
        let mut object = standing.map_or_else(Object::new, |standing| standing.record.object);
        self.notice_amnesia(&object, &incoming.object.context);
        object.merge(&incoming.object);
        self.store(before, &object, &record::encode(&address, &object))?;
        Ok(WriteOutcome::Stored)
    }
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
