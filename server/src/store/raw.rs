//! The engine alone: LMDB with the same settings and the same batches, without records, views, dots or answers. What it
//! does is the limit of what the store can do, so figures of the store are given as a ratio to it. Not for data.

use std::path::Path;

use super::{
    OpenError,
    tables::{Environment, MAP_BYTES, Table},
};

/// An LMDB environment used plainly.
pub struct RawEngine {
    environment: Environment,
}

impl RawEngine {
    /// Creates one in an empty or absent directory.
    pub fn create(directory: &Path) -> Result<Self, OpenError> {
        Ok(Self { environment: Environment::open(directory, MAP_BYTES)? })
    }

    /// Writes a batch in one synchronous transaction, in the order it comes.
    pub fn put_all<'b>(&self, batch: impl Iterator<Item = (&'b [u8; 32], &'b [u8])>) -> Result<(), OpenError> {
        let put = || {
            let mut transaction = self.environment.env.write_txn()?;
            for (key, value) in batch {
                self.table().put(&mut transaction, key, value)?;
            }
            transaction.commit()
        };
        put().map_err(OpenError::engine(self.environment.env.path(), "put a batch"))
    }

    /// Reads a batch in one snapshot; how many keys were there, and the sum of their lengths and first bytes.
    pub fn read_all<'b>(&self, keys: impl Iterator<Item = &'b [u8; 32]>) -> Result<(u64, u64), OpenError> {
        let read = || {
            let transaction = self.environment.env.read_txn()?;
            let (mut found, mut sum) = (0, 0);
            for key in keys {
                if let Some(value) = self.table().get(&transaction, key)? {
                    found += 1;
                    sum += value.len() as u64 + u64::from(value.first().copied().unwrap_or_default());
                }
            }
            Ok((found, sum))
        };
        read().map_err(OpenError::engine(self.environment.env.path(), "read a batch"))
    }

    fn table(&self) -> &Table {
        &self.environment.stamps
    }
}
