//! The open write transaction of the hints as the book sees it: [`dynamo::hint::HintRows`] on LMDB.

use std::collections::BTreeSet;

use bytes::Bytes;
use dynamo::{
    hint::{HintKey, HintRows, HintUsage},
    ident::{NodeId, StoreKey},
};
use heed::RwTxn;

use super::shared::Shared;
use crate::store::{bounds::Bounds, error::Trouble, rows::SHRINK_BYTES};

/// Why a hint can't be read or written. The transaction must be aborted.
#[derive(Debug, thiserror::Error)]
pub(super) enum HintRowsError {
    /// LMDB refused.
    #[error("LMDB: {0}")]
    Engine(#[from] heed::Error),
    /// A damaged page says that a hint lies where none can lie.
    #[error("the hint {0:?} lies outside of the file's pages")]
    OutOfBounds(HintKey),
}

impl HintRowsError {
    /// What it means for the hints.
    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Self::Engine(error) => Trouble::of(error),
            Self::OutOfBounds(_) => Trouble::Damage,
        }
    }
}

/// An open write transaction.
pub(super) struct LmdbHintRows<'e> {
    shared: &'e Shared,
    transaction: RwTxn<'e>,
    bounds: Bounds,
    /// The names this transaction has written: their hints lie in memory of the transaction, beyond the map's bounds.
    written: BTreeSet<HintKey>,
    /// The hint that was read last, and its length.
    read: Option<(HintKey, usize)>,
    changes: Changes,
}

/// What a transaction has done.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Hints that it deleted because they were delivered.
    pub(super) delivered: u64,
    /// Keys of hints that it set aside, where nothing stood aside before.
    pub(super) aside: Vec<StoreKey>,
    /// Anything at all.
    pub(super) is_any: bool,
}

impl<'e> LmdbHintRows<'e> {
    /// Begins a write transaction.
    pub(super) fn begin(shared: &'e Shared) -> heed::Result<Self> {
        let transaction = shared.tables.env.write_txn()?;
        let (bounds, written) = (shared.tables.bounds(), BTreeSet::new());
        Ok(Self { shared, transaction, bounds, written, read: None, changes: Changes::default() })
    }

    /// The transaction, to look at its tables.
    pub(super) fn transaction(&self) -> &RwTxn<'e> {
        &self.transaction
    }

    /// The keys of what was set aside.
    pub(super) fn aside(&self) -> &[StoreKey] {
        &self.changes.aside
    }

    /// Commits, durably once it returns; what was done.
    pub(super) fn commit(self) -> heed::Result<Changes> {
        self.transaction.commit()?;
        Ok(self.changes)
    }

    fn find(&self, key: &HintKey) -> Result<Option<&[u8]>, HintRowsError> {
        let Some(hint) = self.shared.tables.hints.get(&self.transaction, &key.encode())? else {
            return Ok(None);
        };
        if !self.written.contains(key) && !self.bounds.admit_in_write(hint) {
            return Err(HintRowsError::OutOfBounds(*key));
        }
        Ok(Some(hint))
    }
}

impl HintRows for LmdbHintRows<'_> {
    type Error = HintRowsError;

    fn hint(&mut self, key: &HintKey) -> Result<Option<Bytes>, HintRowsError> {
        let hint = self.find(key)?.map(Bytes::copy_from_slice);
        self.read = hint.as_ref().map(|hint| (*key, hint.len()));
        Ok(hint)
    }

    fn put_hint(&mut self, key: &HintKey, record: &[u8]) -> Result<(), HintRowsError> {
        let name = key.encode();
        // As for records: LMDB joins pages that have become empty when it deletes, and not when it replaces.
        if self.read.is_some_and(|(read, length)| read == *key && length > record.len() + SHRINK_BYTES) {
            self.shared.tables.hints.delete(&mut self.transaction, &name)?;
        }
        self.shared.tables.hints.put(&mut self.transaction, &name, record)?;
        self.written.insert(*key);
        self.changes.is_any = true;
        Ok(())
    }

    fn delete_hint(&mut self, key: &HintKey) -> Result<(), HintRowsError> {
        self.shared.tables.hints.delete(&mut self.transaction, &key.encode())?;
        self.changes.delivered += 1;
        self.changes.is_any = true;
        Ok(())
    }

    fn set_aside(&mut self, key: &HintKey) -> Result<(), HintRowsError> {
        let (name, tables) = (key.encode(), &self.shared.tables);
        let Some(hint) = self.find(key)?.map(<[u8]>::to_vec) else {
            return Ok(());
        };
        if tables.aside.get(&self.transaction, &name)?.is_none() {
            self.changes.aside.push(key.store_key);
        }
        tables.aside.put(&mut self.transaction, &name, &hint)?;
        tables.hints.delete(&mut self.transaction, &name)?;
        self.changes.is_any = true;
        tracing::error!(target_node = %key.target, store_key = ?key.store_key, "a hint can't be verified and is set aside");
        Ok(())
    }

    fn usages(&mut self) -> Result<Vec<(NodeId, HintUsage)>, HintRowsError> {
        // The book asks before it changes anything, and nobody else changes hints: what is committed is known in memory.
        Ok(self.shared.backlog())
    }

    fn put_usage(&mut self, target: NodeId, usage: &HintUsage) -> Result<(), HintRowsError> {
        let (key, usages) = (target.0.to_be_bytes(), &self.shared.tables.usages);
        if usage.is_empty() {
            usages.delete(&mut self.transaction, &key)?;
        } else {
            usages.put(&mut self.transaction, &key, &usage.encode(target))?;
        }
        Ok(())
    }
}
