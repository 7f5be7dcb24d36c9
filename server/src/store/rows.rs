//! The open write transaction of a shard as the replica sees it: [`dynamo::replica::Rows`] on LMDB.

use std::{collections::BTreeSet, ops::Bound};

use bytes::Bytes;
use dynamo::{
    ident::StoreKey,
    merkle::{Change, Tree},
    peer::TreePath,
    replica::{Listed, PartitionRow, Planted, RowError, Rows},
};
use heed::RwTxn;

use super::{
    bounds::Bounds,
    error::Trouble,
    forest::{Checkpoint, FIRST_POSITION, Forest, Place},
    log,
    shard::Committed,
    tables::{STAMP_CLOSED, Tables, node_key, partition_key, put_stamp},
};

/// Changes after which copies of nodes are stored together: neighbouring copies share pages of their table.
pub(super) const CHECKPOINT_CHANGES: u64 = 2_048;

/// Nodes that are stored then: a page for every 128 changes, which is less than a hundredth of the pages those changes wrote.
pub(super) const CHECKPOINT_NODES: usize = 16;

/// A record that gets shorter by more than this, an eighth of a page, may leave its page emptier than it should be.
pub(super) const SHRINK_BYTES: usize = 512;

/// Why a row or record can't be read or written. The transaction must be aborted.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowsError {
    /// LMDB refused.
    #[error("LMDB: {0}")]
    Engine(#[from] heed::Error),
    /// A partition's row does not verify.
    #[error("the row of partition {prefix:#x}/{bits} can't be used: {error:?}")]
    Row {
        /// Which partition.
        prefix: u32,
        /// Of how many bits.
        bits: u8,
        /// Why.
        error: RowError,
    },
    /// A damaged page says that a record lies where none can lie.
    #[error("the record of {0:?} lies outside of the store's pages")]
    OutOfBounds(StoreKey),
    /// A damaged page holds a key that can't be one.
    #[error("a key has a wrong length")]
    Key,
}

impl RowsError {
    /// What it means for the store.
    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Self::Engine(error) => Trouble::of(error),
            Self::Row { .. } | Self::OutOfBounds(_) | Self::Key => Trouble::Damage,
        }
    }
}

/// An open write transaction.
pub(super) struct LmdbRows<'e> {
    tables: &'e Tables,
    transaction: RwTxn<'e>,
    bounds: Bounds,
    /// The keys this transaction has written: their records lie in memory of the transaction, beyond the map's bounds.
    written: BTreeSet<StoreKey>,
    /// The record that was read last, and its length.
    read: Option<(StoreKey, usize)>,
    /// The rows this transaction has written.
    changed: Vec<PartitionRow>,
    /// What it has changed in the hash trees, in order.
    changes: Vec<Change>,
    /// What it stores of them.
    checkpoint: Checkpoint,
    /// The partitions whose rows it has removed.
    uprooted: Vec<Place>,
    /// Hash trees of partitions that have come to be.
    planted: Vec<(Place, Tree)>,
    is_fed: bool,
}

impl<'e> LmdbRows<'e> {
    /// Begins a write transaction.
    pub(super) fn begin(tables: &'e Tables) -> heed::Result<Self> {
        let transaction = tables.env.write_txn()?;
        let bounds = tables.mapping.bounds(&tables.env);
        Ok(Self {
            tables,
            transaction,
            bounds,
            written: BTreeSet::new(),
            read: None,
            changed: Vec::new(),
            changes: Vec::new(),
            checkpoint: Checkpoint::default(),
            uprooted: Vec::new(),
            planted: Vec::new(),
            is_fed: true,
        })
    }

    /// The transaction, to look at its tables.
    pub(super) fn transaction(&self) -> &RwTxn<'e> {
        &self.transaction
    }

    /// Whether hash trees are fed from here on.
    pub(super) fn feed(&mut self, is_fed: bool) {
        self.is_fed = is_fed;
    }

    /// Writes what has changed into the log, behind what the trees have; and whenever so many changes have come together, copies of the nodes
    /// that are longest overdue. So the log stays about as long as the trees are large.
    pub(super) fn keep_log(&mut self, forest: &Forest, nodes_max: usize) -> heed::Result<()> {
        let before = forest.position();
        log::append(&self.tables.changes, &mut self.transaction, before, &self.changes)?;
        let after = before + self.changes.len() as u64;
        let times = usize::try_from(after / CHECKPOINT_CHANGES - before / CHECKPOINT_CHANGES).unwrap_or(1);
        if times > 0 { self.store_nodes(forest, times * nodes_max) } else { Ok(()) }
    }

    /// Stores copies of nodes that differ from theirs, and drops what the log no longer needs.
    pub(super) fn store_nodes(&mut self, forest: &Forest, nodes_max: usize) -> heed::Result<()> {
        self.checkpoint = forest.checkpoint(nodes_max);
        for (range, node) in &self.checkpoint.nodes {
            self.tables.trees.put(&mut self.transaction, &node_key(range), node)?;
        }
        log::drop_before(&self.tables.changes, &mut self.transaction, self.checkpoint.needed)
    }

    /// Stamps the shard as closed at a position.
    pub(super) fn put_closed(&mut self, position: u64) -> heed::Result<()> {
        put_stamp(&self.tables.stamps, &mut self.transaction, STAMP_CLOSED, &position.to_le_bytes())
    }

    /// Commits, durably once it returns; what is true then.
    pub(super) fn commit(self) -> heed::Result<Committed> {
        self.transaction.commit()?;
        let Self { changed: rows, changes, checkpoint, uprooted, planted, .. } = self;
        Ok(Committed { rows, changes, checkpoint, uprooted, planted })
    }

    /// Whether this transaction has changed anything.
    pub(super) fn has_changes(&self) -> bool {
        !self.written.is_empty() || !self.changed.is_empty() || !self.changes.is_empty() || !self.uprooted.is_empty()
    }

    /// Removes the stored copies of a partition's tree: ranges of its children are cut otherwise.
    fn drop_nodes(&mut self, range: &TreePath) -> heed::Result<()> {
        let [first, last] = [range.first_key(), range.last_key()].map(|key| TreePath::around(&key, 64).prefix);
        for bits in (range.bits..=64).step_by(8) {
            let [first, last] = [first, last].map(|prefix| node_key(&TreePath { prefix, bits }));
            self.tables
                .trees
                .delete_range(&mut self.transaction, &(Bound::Included(&first[..]), Bound::Included(&last[..])))?;
        }
        Ok(())
    }
}

impl LmdbRows<'_> {
    /// Shows the records from one key to another, at most so many.
    fn visit(
        &self,
        first: &StoreKey,
        last: &StoreKey,
        most: usize,
        mut visit: impl FnMut(StoreKey, &[u8]),
    ) -> Result<(), RowsError> {
        let range = self
            .tables
            .records
            .range(&self.transaction, &(Bound::Included(&first.0[..]), Bound::Included(&last.0[..])))?;
        for entry in range.take(most) {
            let (key, record) = entry?;
            let key = <[u8; 32]>::try_from(key).map(StoreKey).map_err(|_| RowsError::Key)?;
            if !self.written.contains(&key) && !self.bounds.admit_in_write(record) {
                return Err(RowsError::OutOfBounds(key));
            }
            visit(key, record);
        }
        Ok(())
    }
}

impl Rows for LmdbRows<'_> {
    type Error = RowsError;

    fn record(&mut self, key: &StoreKey) -> Result<Option<Bytes>, RowsError> {
        let Some(record) = self.tables.records.get(&self.transaction, &key.0)? else {
            return Ok(None);
        };
        if !self.written.contains(key) && !self.bounds.admit_in_write(record) {
            return Err(RowsError::OutOfBounds(*key));
        }
        self.read = Some((*key, record.len()));
        Ok(Some(Bytes::copy_from_slice(record)))
    }

    fn put_record(&mut self, key: &StoreKey, record: &[u8]) -> Result<(), RowsError> {
        // LMDB joins pages that have become empty when it deletes, and not when it replaces: without this, a full store
        // would stay full however much is deleted from it.
        if self.read.is_some_and(|(read, length)| read == *key && length > record.len() + SHRINK_BYTES) {
            self.tables.records.delete(&mut self.transaction, &key.0)?;
        }
        self.tables.records.put(&mut self.transaction, &key.0, record)?;
        self.written.insert(*key);
        Ok(())
    }

    fn remove_record(&mut self, key: &StoreKey) -> Result<(), RowsError> {
        self.tables.records.delete(&mut self.transaction, &key.0)?;
        self.written.insert(*key);
        Ok(())
    }

    fn changed(&mut self, key: &StoreKey, before: Option<u128>, after: Option<u128>) -> Result<(), RowsError> {
        if self.is_fed {
            self.changes.push(Change::of(key, before, after));
        }
        Ok(())
    }

    fn replaced_unknown(&mut self, key: &StoreKey, after: Option<u128>) -> Result<(), RowsError> {
        self.changes.push(Change::of_unknown(key, after));
        Ok(())
    }

    fn partition(&mut self, prefix: u32, bits: u8) -> Result<Option<PartitionRow>, RowsError> {
        let Some(row) = self.tables.partitions.get(&self.transaction, &partition_key(prefix, bits))? else {
            return Ok(None);
        };
        if !self.bounds.admit_in_write(row) {
            return Err(RowsError::Row { prefix, bits, error: RowError::Damaged });
        }
        PartitionRow::decode(prefix, bits, row).map(Some).map_err(|error| RowsError::Row { prefix, bits, error })
    }

    fn put_partition(&mut self, row: &PartitionRow) -> Result<(), RowsError> {
        let key = partition_key(row.view.prefix, row.view.bits);
        self.tables.partitions.put(&mut self.transaction, &key, &row.encode())?;
        self.changed.push(*row);
        Ok(())
    }

    fn listed(&mut self, first: &StoreKey, last: &StoreKey, most: usize) -> Result<Vec<Listed>, RowsError> {
        let mut listed = Vec::new();
        let visit = |key: StoreKey, record: &[u8]| listed.push(Listed::verified(key, record));
        self.visit(first, last, most, visit)?;
        Ok(listed)
    }

    fn plant(&mut self, prefix: u32, bits: u8) -> Result<Planted, RowsError> {
        let range = TreePath::of_partition(prefix, bits);
        let (mut planted, mut tree) = (Planted::default(), Tree::new(prefix, bits));
        self.visit(&range.first_key(), &range.last_key(), usize::MAX, |key, record| {
            let listed = Listed::outlined(key, record);
            planted.add(&listed);
            tree.apply(&Change::planted(&listed), FIRST_POSITION, &mut |_| {});
        })?;
        self.planted.push(((bits, prefix), tree));
        Ok(planted)
    }

    fn uproot(&mut self, prefix: u32, bits: u8) -> Result<(), RowsError> {
        self.tables.partitions.delete(&mut self.transaction, &partition_key(prefix, bits))?;
        self.drop_nodes(&TreePath::of_partition(prefix, bits))?;
        self.uprooted.push((bits, prefix));
        Ok(())
    }
}
