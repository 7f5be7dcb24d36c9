//! What stands under a key before an operation changes it: a record that has been verified.

use bytes::Bytes;

use crate::{
    ident::StoreKey,
    record::{self, Record, RecordError},
};

/// What stands under a key.
pub(crate) struct Standing {
    /// The record as it is stored.
    pub(crate) bytes: Bytes,
    /// What it says.
    pub(crate) record: Record,
}

impl Standing {
    /// Verifies and decodes what stands under a key.
    pub(crate) fn read(store_key: &StoreKey, bytes: Bytes) -> Result<Self, RecordError> {
        let record = record::decode(store_key, &bytes)?;
        Ok(Self { bytes, record })
    }
}
