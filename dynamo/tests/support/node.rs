//! A node for tests: a replica over an in-memory store with transactions that commit, abort, or are lost in a crash.

// Each test program uses its own part of this.
#![allow(dead_code)]

use std::{collections::BTreeMap, convert::Infallible};

use bytes::Bytes;
use dynamo::{
    ident::{OpId, StoreKey},
    layout::View,
    merkle::{Change, Notice, Tree, term},
    operation::Address,
    peer::{TreePath, TreeSum},
    record,
    replica::{
        Counted, Limits, Listed, MintBasis, Minted, Nonce, PartitionRow, Planted, Replica, Rows, Write, WriteOperation,
        WriteOutcome, find_row,
    },
    version::{Content, Object, put::Seen},
};
use xxhash_rust::xxh3::xxh3_128;

/// How many bits the partitions of these tests have.
pub(crate) const BITS: u8 = 4;

/// What is durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) records: BTreeMap<StoreKey, Bytes>,
    pub(crate) rows: BTreeMap<(u8, u32), Vec<u8>>,
    /// One tree for each partition that has changed, fed by nothing but what the replica said.
    pub(crate) trees: BTreeMap<(u8, u32), Tree>,
    /// How many changes there were.
    pub(crate) position: u64,
}

impl Disk {
    /// Feeds the trees with what a transaction has left, as a store does after its commit.
    fn feed(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.position += 1;
            let Some((bits, prefix)) = self.place_of(change.at) else { continue };
            let tree = self.trees.entry((bits, prefix)).or_insert_with(|| Tree::new(prefix, bits));
            let mut unknown = Vec::new();
            tree.apply(&change, self.position, &mut |notice| {
                if let Notice::Unknown(range) = notice {
                    unknown.push(range);
                }
            });
            for range in unknown {
                let keys: Vec<_> = self.records.range(range.first_key()..=range.last_key()).map(digest_of).collect();
                tree.recount(&range, &keys, self.position, &mut |_| {}).expect("no key is lost in these tests");
            }
        }
    }

    /// What the trees must be, by the records alone. A record that can't be read counts and adds nothing.
    pub(crate) fn sums(&self) -> BTreeMap<(u8, u32), TreeSum> {
        let mut sums: BTreeMap<(u8, u32), TreeSum> = BTreeMap::new();
        for (key, digest) in self.records.iter().map(digest_of) {
            let place = self.place_of(TreePath::around(&key, 64).prefix).expect("every record has a row");
            let sum = sums.entry(place).or_default();
            sum.count += 1;
            sum.sum = sum.sum.wrapping_add(digest.map_or(0, |digest| term(&key, digest)));
        }
        sums
    }

    /// What the trees are; those of empty partitions left out.
    pub(crate) fn totals(&self) -> BTreeMap<(u8, u32), TreeSum> {
        let totals = self.trees.iter().map(|(place, tree)| (*place, tree.total()));
        totals.filter(|(_, total)| *total != TreeSum::default()).collect()
    }

    /// The partition of identifiers that begin with these bits, by the row there is for it.
    fn place_of(&self, first_bits: u64) -> Option<(u8, u32)> {
        self.rows.keys().copied().find(|&(bits, prefix)| (first_bits >> (64 - u32::from(bits))) as u32 == prefix)
    }

    /// The row that a key's records are counted in.
    pub(crate) fn row_of(&self, store_key: &StoreKey) -> Option<PartitionRow> {
        find_row(store_key, BITS, |bits, prefix| {
            let row = self.rows.get(&(bits, prefix))?;
            Some(PartitionRow::decode(prefix, bits, row).expect("rows are not damaged in these tests"))
        })
    }
}

fn digest_of((key, record): (&StoreKey, &Bytes)) -> (StoreKey, Option<u128>) {
    (*key, record::verify(key, record).ok())
}

/// An open transaction.
#[derive(Debug)]
pub(crate) struct Transaction<'d> {
    disk: &'d mut Disk,
    /// `None` for those it has removed.
    records: BTreeMap<StoreKey, Option<Bytes>>,
    changes: Vec<Change>,
    /// `None` for those of partitions that were split.
    rows: BTreeMap<(u8, u32), Option<Vec<u8>>>,
    planted: BTreeMap<(u8, u32), Tree>,
    /// How many records were written.
    pub(crate) writes: usize,
}

impl<'d> Transaction<'d> {
    pub(crate) fn begin(disk: &'d mut Disk) -> Self {
        Self {
            disk,
            records: BTreeMap::new(),
            changes: Vec::new(),
            rows: BTreeMap::new(),
            planted: BTreeMap::new(),
            writes: 0,
        }
    }

    pub(crate) fn commit(self) {
        for (key, record) in self.records {
            match record {
                Some(record) => drop(self.disk.records.insert(key, record)),
                None => drop(self.disk.records.remove(&key)),
            }
        }
        for (place, row) in self.rows {
            match row {
                Some(row) => drop(self.disk.rows.insert(place, row)),
                None => {
                    self.disk.rows.remove(&place);
                    self.disk.trees.remove(&place);
                }
            }
        }
        self.disk.trees.extend(self.planted);
        self.disk.feed(self.changes);
    }

    /// The records from one key to another, as the transaction has left them.
    fn within(&self, first: &StoreKey, last: &StoreKey) -> BTreeMap<StoreKey, Bytes> {
        let mut records: BTreeMap<StoreKey, Bytes> =
            self.disk.records.range(*first..=*last).map(|(key, record)| (*key, record.clone())).collect();
        for (key, record) in self.records.range(*first..=*last) {
            match record {
                Some(record) => drop(records.insert(*key, record.clone())),
                None => drop(records.remove(key)),
            }
        }
        records
    }
}

impl Rows for Transaction<'_> {
    type Error = Infallible;

    fn record(&mut self, key: &StoreKey) -> Result<Option<Bytes>, Infallible> {
        Ok(self.records.get(key).cloned().unwrap_or_else(|| self.disk.records.get(key).cloned()))
    }

    fn put_record(&mut self, key: &StoreKey, record: &[u8]) -> Result<(), Infallible> {
        self.writes += 1;
        self.records.insert(*key, Some(Bytes::copy_from_slice(record)));
        Ok(())
    }

    fn remove_record(&mut self, key: &StoreKey) -> Result<(), Infallible> {
        self.writes += 1;
        self.records.insert(*key, None);
        Ok(())
    }

    fn changed(&mut self, key: &StoreKey, before: Option<u128>, after: Option<u128>) -> Result<(), Infallible> {
        self.changes.push(Change::of(key, before, after));
        Ok(())
    }

    fn replaced_unknown(&mut self, key: &StoreKey, after: Option<u128>) -> Result<(), Infallible> {
        self.changes.push(Change::of_unknown(key, after));
        Ok(())
    }

    fn partition(&mut self, prefix: u32, bits: u8) -> Result<Option<PartitionRow>, Infallible> {
        let written = self.rows.get(&(bits, prefix)).map(Option::as_ref);
        let bytes = written.unwrap_or_else(|| self.disk.rows.get(&(bits, prefix)));
        Ok(bytes.map(|bytes| PartitionRow::decode(prefix, bits, bytes).expect("rows are not damaged in these tests")))
    }

    fn put_partition(&mut self, row: &PartitionRow) -> Result<(), Infallible> {
        self.rows.insert((row.view.bits, row.view.prefix), Some(row.encode().to_vec()));
        Ok(())
    }

    fn listed(&mut self, first: &StoreKey, last: &StoreKey, most: usize) -> Result<Vec<Listed>, Infallible> {
        Ok(self.within(first, last).iter().map(|(key, record)| Listed::verified(*key, record)).take(most).collect())
    }

    fn plant(&mut self, prefix: u32, bits: u8) -> Result<Planted, Infallible> {
        let range = TreePath::of_partition(prefix, bits);
        let (mut planted, mut tree) = (Planted::default(), Tree::new(prefix, bits));
        for (key, record) in self.within(&range.first_key(), &range.last_key()) {
            let listed = Listed::outlined(key, &record);
            planted.add(&listed);
            tree.apply(&Change::planted(&listed), self.disk.position.max(1), &mut |_| {});
        }
        self.planted.insert((bits, prefix), tree);
        Ok(planted)
    }

    fn uproot(&mut self, prefix: u32, bits: u8) -> Result<(), Infallible> {
        self.rows.insert((bits, prefix), None);
        Ok(())
    }
}

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) disk: Disk,
    pub(crate) replica: Replica,
}

impl Node {
    /// A node that holds every partition under the view of epoch 1.
    pub(crate) fn new(nonce: u64) -> Self {
        let mut node = Self { disk: Disk::default(), replica: replica(nonce) };
        let mut transaction = Transaction::begin(&mut node.disk);
        for prefix in 0..1 << BITS {
            let Ok(()) = Replica::adopt(&mut transaction, View { prefix, bits: BITS, lo: 1, hi: 1 });
        }
        transaction.commit();
        node
    }

    /// The process ends and another one starts on the same disk.
    pub(crate) fn restart(&mut self, nonce: u64) {
        self.replica = replica(nonce);
    }

    /// Applies one operation and commits.
    pub(crate) fn apply(&mut self, operation: WriteOperation) -> WriteOutcome {
        let mut transaction = Transaction::begin(&mut self.disk);
        let mut batch = self.replica.begin();
        let Ok(_) = batch.apply(&mut transaction, operation);
        let Ok(staged) = batch.stage(&mut transaction);
        transaction.commit();
        staged.committed().remove(0)
    }

    /// Applies one operation that must mint, and commits.
    pub(crate) fn mint(&mut self, operation: WriteOperation) -> Minted {
        match self.apply(operation) {
            WriteOutcome::Minted(minted) => minted,
            other => panic!("not minted: {other:?}"),
        }
    }

    /// Applies one operation that must mint, shows it, and never commits.
    pub(crate) fn mint_and_abort(&mut self, operation: WriteOperation) -> Minted {
        let mut transaction = Transaction::begin(&mut self.disk);
        let mut batch = self.replica.begin();
        let Ok(shown) = batch.apply(&mut transaction, operation);
        shown.expect("minted").clone()
    }

    /// Merges a record that another node sent.
    pub(crate) fn merge(&mut self, address: &Address, record: &Bytes) -> WriteOutcome {
        self.apply(merge(address, record))
    }

    /// Counts a key's partition and corrects its row, as a store does that has read all of it.
    pub(crate) fn recount(&mut self, address: &Address) {
        let View { prefix, bits, .. } = view(address);
        let mut counted = Counted::default();
        for (key, record) in self.disk.records.iter().filter(|(key, _)| key.id().prefix(bits) == prefix) {
            let summary = record::summary(key, record).expect("no record is damaged any more");
            counted.records += 1;
            counted.deleted += u64::from(summary.live == 0);
            counted.sum = counted.sum.wrapping_add(summary.digest);
        }
        let mut transaction = Transaction::begin(&mut self.disk);
        let mut batch = self.replica.begin();
        assert_eq!(batch.recounted(&mut transaction, prefix, bits, &counted), Ok(true));
        let Ok(staged) = batch.stage(&mut transaction);
        transaction.commit();
        staged.committed();
    }

    /// The record of a key.
    pub(crate) fn record(&self, address: &Address) -> Option<Bytes> {
        self.disk.records.get(&address.store_key).cloned()
    }

    /// What is known of a key.
    pub(crate) fn object(&self, address: &Address) -> Object {
        match self.record(address) {
            Some(bytes) => record::decode_of(address, &bytes).expect("the record is sound"),
            None => Object::new(),
        }
    }

    /// The row of a key's partition.
    pub(crate) fn row(&self, address: &Address) -> PartitionRow {
        let View { prefix, bits, .. } = view(address);
        PartitionRow::decode(prefix, bits, &self.disk.rows[&(bits, prefix)]).expect("the row is sound")
    }

    /// Changes the view of a key's partition, as the fence of a layout change will.
    pub(crate) fn fence(&mut self, address: &Address, lo: u64, hi: u64) {
        let mut row = self.row(address);
        (row.view.lo, row.view.hi) = (lo, hi);
        self.disk.rows.insert((row.view.bits, row.view.prefix), row.encode().to_vec());
        // Rows change only by the writer; a writer that did this would know it.
        self.restart(u64::from(row.view.prefix) << 32 | hi);
    }
}

fn replica(nonce: u64) -> Replica {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&nonce.to_le_bytes());
    Replica::new(Nonce(bytes), Limits { value_bytes_max: 1 << 20 })
}

pub(crate) fn address(key: &str) -> Address {
    Address::new(Bytes::from_static(b"default"), Bytes::copy_from_slice(key.as_bytes()))
}

pub(crate) fn view(address: &Address) -> View {
    View { prefix: address.store_key.id().prefix(BITS), bits: BITS, lo: 1, hi: 1 }
}

pub(crate) fn value(text: &str) -> Content {
    Content::Value { bytes: Bytes::copy_from_slice(text.as_bytes()), hash: xxh3_128(text.as_bytes()) }
}

/// A write of `content` at second one, without an operation id.
pub(crate) fn write(content: Content, basis: MintBasis) -> Write {
    Write { content, basis, op_id: OpId::NONE, seen_clock: 0, wall_ms: 1_000, expires: 0 }
}

pub(crate) fn mint(address: &Address, write: Write) -> WriteOperation {
    WriteOperation::Mint { view: view(address), address: address.clone(), write }
}

/// A put of `text` over what the coordinator holds.
pub(crate) fn put(address: &Address, text: &str) -> WriteOperation {
    mint(address, write(value(text), MintBasis::Local))
}

/// A put of `text` beside what there is.
pub(crate) fn put_beside(address: &Address, text: &str) -> WriteOperation {
    mint(address, write(value(text), MintBasis::Beside))
}

/// A put of `text` over what a read saw.
pub(crate) fn put_over(address: &Address, text: &str, seen: &Seen) -> WriteOperation {
    mint(address, write(value(text), MintBasis::Context(seen.clone())))
}

/// The same write with an operation id.
pub(crate) fn named(operation: WriteOperation, sequence: u64) -> WriteOperation {
    match operation {
        WriteOperation::Mint { view, address, write } => {
            let write = Write { op_id: OpId { client: 1, sequence }, ..write };
            WriteOperation::Mint { view, address, write }
        }
        unnamed @ (WriteOperation::Merge { .. }
        | WriteOperation::Rebuild { .. }
        | WriteOperation::Reap { .. }
        | WriteOperation::Move(_)) => unnamed,
    }
}

pub(crate) fn merge(address: &Address, record: &Bytes) -> WriteOperation {
    WriteOperation::Merge { view: view(address), store_key: address.store_key, record: record.clone() }
}

/// The values an object shows, in order.
pub(crate) fn shown(object: &Object) -> Vec<String> {
    let versions = object.present(dynamo::layout::ConflictRule::Siblings, 0);
    let texts = versions.filter_map(|version| version.content.bytes());
    let mut texts: Vec<String> = texts.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    texts.sort();
    texts
}
