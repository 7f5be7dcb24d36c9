//! A simulated disk: what is durable, and an open transaction over it that is durable only once it was applied. What a crash drops
//! is exactly what was not.

use std::{collections::BTreeMap, convert::Infallible};

use bytes::Bytes;
use dynamo::{
    ident::StoreKey,
    layout::View,
    merkle::{self, Change, KEYS_MAX, Listing, Notice, Tree},
    operation::{ErrorCode, Failure},
    peer::{PeerOperation, PeerResult, TreeAnswer, TreeAsk, TreePath, TreeQuestion, TreeSum},
    record,
    replica::{Listed, PARTITION_ROW_BYTES, PartitionRow, Planted, Refusal, Rows, answer_read, find_row},
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
    /// The hash trees, fed by nothing but what the replica says has changed.
    pub trees: BTreeMap<(u8, u32), Tree>,
    /// How many changes were ever made durable: the position by which peers notice a rollback.
    pub position: u64,
}

/// What a transaction changes.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Records it writes; `None` for one it removes.
    pub records: BTreeMap<StoreKey, Option<Bytes>>,
    /// Rows it writes; `None` for those of partitions that were split.
    rows: BTreeMap<(u8, u32), Option<Row>>,
    /// Trees of partitions that have come to be by a split.
    planted: BTreeMap<(u8, u32), Tree>,
    log: Vec<Change>,
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
        for (key, record) in &changes.records {
            match record {
                Some(record) => self.records.insert(*key, record.clone()),
                None => self.records.remove(key),
            };
        }
        for (place, row) in &changes.rows {
            match row {
                Some(row) => drop(self.rows.insert(*place, *row)),
                None => {
                    self.rows.remove(place);
                    self.trees.remove(place);
                }
            }
        }
        self.trees.extend(changes.planted.iter().map(|(place, tree)| (*place, tree.clone())));
        let unknown: Vec<TreePath> = changes.log.iter().flat_map(|change| self.feed(change)).collect();
        // Only now: what is listed holds all changes of the transaction.
        for range in unknown {
            let place = self.place_of(range.prefix);
            let within = self.records.range(range.first_key()..=range.last_key());
            let keys: Vec<_> = within.map(|(key, bytes)| (*key, record::verify(key, bytes).ok())).collect();
            if let Some(tree) = place.and_then(|place| self.trees.get_mut(&place)) {
                let _ = tree.recount(&range, &keys, self.position, &mut |_| {});
            }
        }
    }

    /// Brings a change into its tree, as a store does after its commit; the ranges that must be counted anew.
    fn feed(&mut self, change: &Change) -> Vec<TreePath> {
        self.position += 1;
        let mut unknown = Vec::new();
        if let Some((bits, prefix)) = self.place_of(change.at) {
            let tree = self.trees.entry((bits, prefix)).or_insert_with(|| Tree::new(prefix, bits));
            tree.apply(change, self.position, &mut |notice| {
                if let Notice::Unknown(range) = notice {
                    unknown.push(range);
                }
            });
        }
        unknown
    }

    /// The partition of identifiers that begin with these bits.
    fn place_of(&self, first_bits: u64) -> Option<(u8, u32)> {
        self.rows.keys().copied().find(|&(bits, prefix)| (first_bits >> (64 - u32::from(bits))) as u32 == prefix)
    }

    /// Answers a question to a hash tree.
    pub fn answer_tree(&self, question: &TreeQuestion) -> TreeAnswer {
        let place = (question.view.bits, question.view.prefix);
        let row = self.row_of(&question.path.first_key(), place.0);
        match merkle::check(row.as_ref(), question) {
            Ok(()) => {}
            Err(Refusal::Stale(view)) => return TreeAnswer::Stale(view),
            Err(Refusal::Behind(_)) => {
                return TreeAnswer::Failed(Failure::new(ErrorCode::StaleView, "this node knows less than the sender"));
            }
            Err(Refusal::Failed(failure)) => return TreeAnswer::Failed(failure),
        }
        let empty = Tree::new(place.1, place.0);
        let tree = self.trees.get(&place).unwrap_or(&empty);
        tree.answer(&question.path, question.ask).unwrap_or_else(|| {
            let most = if let TreeAsk::Keys(most) = question.ask { most.min(KEYS_MAX) } else { KEYS_MAX } as usize;
            let path = &question.path;
            let within = self.records.range(path.first_key()..=path.last_key());
            let mut keys: Vec<_> = within
                .map(|(key, bytes)| (*key, record::verify(key, bytes).unwrap_or(merkle::UNREADABLE)))
                .take(most + 1)
                .collect();
            let more = keys.len() > most;
            keys.truncate(most);
            merkle::answer_of(path, question.ask, Listing { keys, more })
        })
    }

    /// Whether the trees say what the records do.
    pub fn has_true_trees(&self) -> bool {
        let mut sums: BTreeMap<(u8, u32), TreeSum> = BTreeMap::new();
        for (key, bytes) in &self.records {
            let place = self.rows.keys().copied().find(|&(bits, prefix)| key.id().prefix(bits) == prefix);
            let sum = sums.entry(place.unwrap_or_default()).or_default();
            sum.count += 1;
            sum.sum = sum.sum.wrapping_add(record::verify(key, bytes).map_or(0, |digest| merkle::term(key, digest)));
        }
        let totals = self.trees.iter().map(|(place, tree)| (*place, tree.total()));
        let totals: BTreeMap<_, _> = totals.filter(|(_, total)| *total != TreeSum::default()).collect();
        sums == totals
    }

    /// Its rows.
    pub fn decoded_rows(&self) -> Vec<PartitionRow> {
        self.rows.iter().map(|(&(bits, prefix), row)| decoded(bits, prefix, row)).collect()
    }

    /// The view of each row.
    pub fn views(&self) -> BTreeMap<(u8, u32), View> {
        self.decoded_rows().iter().map(|row| ((row.view.bits, row.view.prefix), row.view)).collect()
    }

    /// Records of a partition in their order, those that verify; and whether there are more.
    pub fn range(&self, view: &View, after: Option<StoreKey>, bytes_max: u32) -> (Vec<(StoreKey, Bytes)>, bool) {
        let path = TreePath::of_partition(view.prefix, view.bits);
        let (mut records, mut bytes) = (Vec::new(), 0);
        for (key, record) in self.records.range(path.first_key()..=path.last_key()) {
            if after.is_some_and(|after| *key <= after) {
                continue;
            }
            bytes += record.len();
            if bytes > bytes_max as usize && !records.is_empty() {
                return (records, true);
            }
            if record::verify(key, record).is_ok() {
                records.push((*key, record.clone()));
            }
        }
        (records, false)
    }

    /// Answers a read from what is durable.
    pub fn read(&self, operation: &PeerOperation) -> PeerResult {
        let record = self.records.get(&operation.store_key);
        answer_read(operation, record, self.row_of(&operation.store_key, operation.view.bits).as_ref())
    }

    /// The row that a key's records are counted in; the number of bits it probably has is `bits`.
    pub fn row_of(&self, store_key: &StoreKey, bits: u8) -> Option<PartitionRow> {
        find_row(store_key, bits, |bits, prefix| {
            self.rows.get(&(bits, prefix)).and_then(|row| PartitionRow::decode(prefix, bits, row).ok())
        })
    }
}

impl Changes {
    /// The rows it writes, or where one is gone.
    pub fn rows(&self) -> Vec<Result<PartitionRow, (u8, u32)>> {
        let row = |(&(bits, prefix), row): (&(u8, u32), &Option<Row>)| {
            row.as_ref().map(|row| decoded(bits, prefix, row)).ok_or((bits, prefix))
        };
        self.rows.iter().map(row).collect()
    }
}

fn decoded(bits: u8, prefix: u32, row: &Row) -> PartitionRow {
    PartitionRow::decode(prefix, bits, row).expect("nothing damages rows in this simulation")
}

impl Transaction<'_> {
    /// The records from one key to another, as the transaction has left them.
    fn within(&self, first: &StoreKey, last: &StoreKey) -> impl Iterator<Item = (&StoreKey, &Bytes)> {
        let mut records: BTreeMap<&StoreKey, &Bytes> = self.disk.records.range(*first..=*last).collect();
        for (key, record) in self.changes.records.range(*first..=*last) {
            match record {
                Some(record) => drop(records.insert(key, record)),
                None => drop(records.remove(key)),
            }
        }
        records.into_iter()
    }

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

    fn remove_record(&mut self, key: &StoreKey) -> Result<(), Infallible> {
        self.changes.records.insert(*key, None);
        Ok(())
    }

    fn changed(&mut self, key: &StoreKey, before: Option<u128>, after: Option<u128>) -> Result<(), Infallible> {
        self.changes.log.push(Change::of(key, before, after));
        Ok(())
    }

    fn replaced_unknown(&mut self, key: &StoreKey, after: Option<u128>) -> Result<(), Infallible> {
        self.changes.log.push(Change::of_unknown(key, after));
        Ok(())
    }

    fn partition(&mut self, prefix: u32, bits: u8) -> Result<Option<PartitionRow>, Infallible> {
        let written = self.changes.rows.get(&(bits, prefix)).map(Option::as_ref);
        let row = written.unwrap_or_else(|| self.disk.rows.get(&(bits, prefix)));
        Ok(row.map(|row| PartitionRow::decode(prefix, bits, row).expect("nothing damages rows in this simulation")))
    }

    fn put_partition(&mut self, row: &PartitionRow) -> Result<(), Infallible> {
        self.changes.rows.insert((row.view.bits, row.view.prefix), Some(row.encode()));
        Ok(())
    }

    fn listed(&mut self, first: &StoreKey, last: &StoreKey, most: usize) -> Result<Vec<Listed>, Infallible> {
        Ok(self.within(first, last).map(|(key, record)| Listed::verified(*key, record)).take(most).collect())
    }

    fn plant(&mut self, prefix: u32, bits: u8) -> Result<Planted, Infallible> {
        let range = TreePath::of_partition(prefix, bits);
        let (mut planted, mut tree) = (Planted::default(), Tree::new(prefix, bits));
        for (key, record) in self.within(&range.first_key(), &range.last_key()) {
            let listed = Listed::outlined(*key, record);
            planted.add(&listed);
            tree.apply(&Change::planted(&listed), self.disk.position.max(1), &mut |_| {});
        }
        self.changes.planted.insert((bits, prefix), tree);
        Ok(planted)
    }

    fn uproot(&mut self, prefix: u32, bits: u8) -> Result<(), Infallible> {
        self.changes.rows.insert((bits, prefix), None);
        Ok(())
    }
}
