//! A simulated disk: what is durable, and an open transaction over it that is durable only once it was applied. What a crash drops
//! is exactly what was not.

use std::{collections::BTreeMap, convert::Infallible};

use bytes::Bytes;
use dynamo::{
    ident::StoreKey,
    peer::{PeerOperation, PeerResult},
    replica::{PARTITION_ROW_BYTES, PartitionRow, Rows, answer_read},
};

/// What stands in a row, as bytes.
type Row = [u8; PARTITION_ROW_BYTES];

/// What is durable.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Records by key.
    pub records: BTreeMap<StoreKey, Bytes>,
    /// Rows by partition.
    pub rows: BTreeMap<(u8, u32), Row>,
    /// How many changes of records were ever made durable: the journal position by which peers notice a rollback.
    pub position: u64,
}

/// What a transaction changes.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Records it writes; `None` for one it removes.
    pub records: BTreeMap<StoreKey, Option<Bytes>>,
    rows: BTreeMap<(u8, u32), Row>,
}

/// An open write transaction.
#[derive(Debug)]
pub struct Transaction<'d> {
    disk: &'d Disk,
    changes: Changes,
}

impl Disk {
    /// Opens a transaction.
    pub fn begin(&self) -> Transaction<'_> {
        Transaction { disk: self, changes: Changes::default() }
    }

    /// Makes a transaction's changes durable.
    pub fn apply(&mut self, changes: &Changes) {
        self.position += changes.records.len() as u64;
        for (key, record) in &changes.records {
            match record {
                Some(record) => self.records.insert(*key, record.clone()),
                None => self.records.remove(key),
            };
        }
        self.rows.extend(changes.rows.iter().map(|(place, row)| (*place, *row)));
    }

    /// Answers a read from what is durable.
    pub fn read(&self, operation: &PeerOperation) -> PeerResult {
        let record = self.records.get(&operation.store_key);
        let place = (operation.view.bits, operation.view.prefix);
        let row = self.rows.get(&place).and_then(|row| PartitionRow::decode(place.1, place.0, row).ok());
        answer_read(operation, record, row.as_ref())
    }
}

impl Transaction<'_> {
    /// The changes, to be applied when the commit has returned.
    pub fn finish(self) -> Changes {
        self.changes
    }
}

impl Rows for Transaction<'_> {
    type Error = Infallible;

    fn record(&mut self, key: &StoreKey) -> Result<Option<Bytes>, Infallible> {
        Ok(match self.changes.records.get(key) {
            Some(record) => record.clone(),
            None => self.disk.records.get(key).cloned(),
        })
    }

    fn put_record(&mut self, key: &StoreKey, record: &[u8]) -> Result<(), Infallible> {
        self.changes.records.insert(*key, Some(Bytes::copy_from_slice(record)));
        Ok(())
    }

    fn partition(&mut self, prefix: u32, bits: u8) -> Result<Option<PartitionRow>, Infallible> {
        let row = self.changes.rows.get(&(bits, prefix)).or_else(|| self.disk.rows.get(&(bits, prefix)));
        Ok(row.map(|row| PartitionRow::decode(prefix, bits, row).expect("nothing damages rows in this simulation")))
    }

    fn put_partition(&mut self, row: &PartitionRow) -> Result<(), Infallible> {
        self.changes.rows.insert((row.view.bits, row.view.prefix), row.encode());
        Ok(())
    }
}
