//! What only shows from inside: directories of an older format, and tables that were changed behind the store's back.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{
    ident::{NodeId, OpId, StoreKey},
    layout::View,
    merkle,
    operation::Address,
    peer::{TreeAnswer, TreeAsk, TreePath, TreeQuestion, TreeSum},
    record,
    replica::{MintBasis, Write, WriteOperation, WriteOutcome},
    version::Content,
};
use heed::CommitOrAbort;

use super::{
    CompletionQueue, Health, OpenError, Progress, Store, StoreConfig, Submission,
    tables::{Environment, MAP_BYTES, PARTITIONS, RECORDS, STAMP_CLOSED, Table, Tables},
};

const BITS: u8 = 6;
const PATIENCE: Duration = Duration::from_secs(60);

fn config(directory: &Path) -> StoreConfig {
    StoreConfig {
        founding: Some(Vec::new()),
        shards: Some(1),
        is_filesystem_forced: true,
        ..StoreConfig::new(directory, 1, NodeId(1))
    }
}

fn open(directory: &Path) -> Store {
    let store = Store::open(&config(directory)).unwrap();
    store.hold((0..1 << BITS).map(view)).unwrap();
    store
}

fn view(prefix: u32) -> View {
    View { prefix, bits: BITS, lo: 1, hi: 1 }
}

fn address(number: u64) -> Address {
    Address::new(Bytes::from_static(b"default"), Bytes::from(format!("inside {number}")))
}

/// Puts a value under each key, so many at once, and waits until all are durable.
fn put(store: &Store, numbers: std::ops::Range<u64>, at_once: usize) {
    let queue = CompletionQueue::new();
    for some in numbers.collect::<Vec<_>>().chunks(at_once) {
        let submissions = some.iter().map(|number| {
            let (address, content) = (address(*number), Content::Value { bytes: Bytes::from_static(b"v"), hash: 1 });
            let (basis, view) = (MintBasis::Local, view(address.store_key.id().prefix(BITS)));
            let write = Write { content, basis, op_id: OpId::NONE, seen_clock: 0, wall_ms: 1, expires: 0 };
            Submission { token: Some(*number), operation: WriteOperation::Mint { view, address, write } }
        });
        store.submit(0, &queue, submissions.collect()).unwrap();
        let (began, mut ended, mut arrived) = (Instant::now(), 0, Vec::new());
        while ended < some.len() {
            assert!(began.elapsed() < PATIENCE);
            queue.drain(&mut arrived);
            for completion in arrived.drain(..) {
                match completion.progress {
                    Progress::Minted(_) => {}
                    Progress::Finished(WriteOutcome::Minted(_)) => ended += 1,
                    Progress::Finished(other) => panic!("{other:?}"),
                }
            }
            thread::yield_now();
        }
    }
}

fn sum(store: &Store, prefix: u32) -> TreeAnswer {
    store.tree(&TreeQuestion { view: view(prefix), path: TreePath::of_partition(prefix, BITS), ask: TreeAsk::Sum })
}

/// What the trees must be, by the records alone.
fn assert_trees(store: &Store, context: &str) {
    for prefix in 0..1 << BITS {
        let mut expected = TreeSum::default();
        let mut after = None;
        loop {
            let chunk = store.snapshot().scan(prefix, BITS, after).unwrap();
            for (key, record) in &chunk.records {
                let digest = record::verify(key, record).unwrap();
                expected.count += 1;
                expected.sum = expected.sum.wrapping_add(merkle::term(key, digest));
            }
            match chunk.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(sum(store, prefix), TreeAnswer::Sum(expected), "{context}: partition {prefix}");
    }
}

fn shard_path(directory: &Path) -> PathBuf {
    directory.join("data/shard-0")
}

/// Does something to the tables of a store that is closed.
fn behind(directory: &Path, change: impl FnOnce(&Tables, &mut heed::RwTxn<'_>)) {
    let tables = Tables::open(&shard_path(directory), MAP_BYTES).unwrap();
    let mut transaction = tables.env.write_txn().unwrap();
    change(&tables, &mut transaction);
    transaction.commit().unwrap();
}

fn entries(table: &Table, transaction: &heed::RoTxn<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    table
        .iter(transaction)
        .unwrap()
        .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap())
        .collect()
}

/// Makes a shard what it was in format 1: without the tables that came later.
fn make_format_1(directory: &Path) {
    let mut kept = Vec::new();
    behind(directory, |tables, transaction| {
        tables.stamps.delete(transaction, STAMP_CLOSED.as_bytes()).unwrap();
        kept = [tables.records, tables.partitions, tables.stamps].map(|table| entries(&table, transaction)).to_vec();
    });
    fs::remove_dir_all(shard_path(directory)).unwrap();
    let environment = Environment::open(&shard_path(directory), MAP_BYTES).unwrap();
    let env = &environment.env;
    let create = || -> heed::Result<_> {
        env.create_databases_and_commit(env.write_txn()?, |opener, transaction| -> heed::Result<_> {
            let records = opener.create_database(transaction, Some(RECORDS))?;
            let partitions = opener.create_database(transaction, Some(PARTITIONS))?;
            Ok(CommitOrAbort::<_, ()>::Commit((records, partitions)))
        })
    };
    let (records, partitions): (Table, Table) = create().unwrap().unwrap_commit();
    let mut transaction = environment.env.write_txn().unwrap();
    for (table, entries) in [records, partitions, environment.stamps].into_iter().zip(kept) {
        entries.iter().for_each(|(key, value)| table.put(&mut transaction, key, value).unwrap());
    }
    transaction.commit().unwrap();
    let format = directory.join("data/FORMAT");
    let text = fs::read_to_string(&format).unwrap();
    fs::write(&format, text.replace("format 2", "format 1")).unwrap();
}

#[test]
fn a_directory_of_format_1_is_brought_up_by_reading_it_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, 0..3_000, 500);
    drop(store);
    make_format_1(directory.path());
    // Refused by whoever must not change it, and brought up by who may.
    let store = open(directory.path());
    assert!(store.was_unclean(), "what it missed before nobody knows");
    assert_eq!(store.positions(), [0]);
    assert_trees(&store, "brought up");
    assert!(fs::read_to_string(directory.path().join("data/FORMAT")).unwrap().contains("format 2"));
    put(&store, 2_000..4_000, 500);
    assert_trees(&store, "written to");
    drop(store);
    let store = open(directory.path());
    assert!(!store.was_unclean());
    assert_eq!(store.positions(), [2_000]);
    assert_trees(&store, "opened again");
    assert!(store.verify().is_sound());
}

#[test]
fn a_directory_that_was_half_brought_up_is_brought_up_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, 0..500, 500);
    drop(store);
    make_format_1(directory.path());
    // The tables are there and empty, as if the process had ended right behind them.
    drop(Tables::open_format_1(&shard_path(directory.path()), MAP_BYTES).unwrap());
    assert_trees(&open(directory.path()), "brought up");
}

#[test]
fn a_key_that_a_page_lost_is_missed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, 0..3_000, 500);
    let lost = address(77).store_key;
    let prefix = lost.id().prefix(BITS);
    // While the store is open, because opening compares the counts of all tables.
    let tables = &store.shard(0).tables;
    let mut transaction = tables.env.write_txn().unwrap();
    assert!(tables.records.delete(&mut transaction, &lost.0).unwrap());
    transaction.commit().unwrap();
    let scrub = |prefix| {
        let (mut is_missing, mut after) = (false, None);
        loop {
            let step = store.scrub_partition(prefix, BITS, after).unwrap();
            is_missing |= step.is_missing;
            match step.next {
                Some(next) => after = Some(next),
                None => return is_missing,
            }
        }
    };
    assert!(!scrub(prefix ^ 1));
    assert!(store.status().is_sound());
    assert!(scrub(prefix));
    assert!(matches!(&store.status().shards[0].health, Health::Damaged(what) if what.contains("missing")));
    assert!(matches!(sum(&store, prefix), TreeAnswer::Failed(_)));
}

#[test]
fn an_older_record_in_the_place_of_a_newer_one_is_missed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, 0..100, 100);
    let key = address(5).store_key;
    let tables = &store.shard(0).tables;
    let old = tables.records.get(&tables.env.read_txn().unwrap(), &key.0).unwrap().unwrap().to_vec();
    put(&store, 5..6, 1);
    // Every checksum is right, and the count too: only the sums show it.
    let mut transaction = tables.env.write_txn().unwrap();
    tables.records.put(&mut transaction, &key.0, &old).unwrap();
    transaction.commit().unwrap();
    assert!(store.scrub_partition(key.id().prefix(BITS), BITS, None).unwrap().is_missing);
}

#[test]
fn trees_are_made_anew_where_the_log_or_a_copy_is_damaged() {
    type Harm = fn(&Tables, &mut heed::RwTxn<'_>);
    let harms: [(&str, Harm); 4] = [
        ("a bit in the log", |tables, transaction| {
            let (key, mut entry) = entries(&tables.changes, transaction).pop().unwrap();
            entry[20] ^= 1;
            tables.changes.put(transaction, &key, &entry).unwrap();
        }),
        ("an entry of the log is gone", |tables, transaction| {
            let all = entries(&tables.changes, transaction);
            assert!(tables.changes.delete(transaction, &all[all.len() / 2].0).unwrap());
        }),
        ("a bit in a copy", |tables, transaction| {
            let (key, mut node) = entries(&tables.trees, transaction).pop().unwrap();
            node[1_000] ^= 1;
            tables.trees.put(transaction, &key, &node).unwrap();
        }),
        ("all copies are gone", |tables, transaction| tables.trees.clear(transaction).unwrap()),
    ];
    let original = tempfile::tempdir().unwrap();
    let store = open(original.path());
    put(&store, 0..4_000, 100);
    for (what, harm) in harms {
        // As if the power had been cut: a store that is closed in order keeps no log.
        let directory = tempfile::tempdir().unwrap();
        copy(original.path(), directory.path());
        behind(directory.path(), harm);
        let store = open(directory.path());
        assert!(store.was_unclean());
        assert_eq!(store.positions(), [4_000], "{what}");
        assert_trees(&store, what);
        assert!(store.status().is_sound(), "{what}: nothing but the trees was harmed");
        put(&store, 3_000..6_000, 100);
        assert_trees(&store, what);
        drop(store);
        assert_trees(&open(directory.path()), what);
    }
}

#[test]
fn a_log_that_has_lost_its_end_is_refused_because_nobody_knows_what_else_was_lost() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, 0..500, 100);
    drop(store);
    behind(directory.path(), |tables, transaction| tables.changes.clear(transaction).unwrap());
    assert!(matches!(Store::open(&config(directory.path())), Err(OpenError::Damaged { .. })));
}

/// Copies the files of a store that nobody writes to at the moment.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else if ["data.mdb", "FORMAT"].iter().any(|needed| entry.file_name() == **needed) {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

#[test]
fn the_log_stays_short_and_positions_go_on_from_where_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let mut written = 0;
    for round in 0..3 {
        let store = open(directory.path());
        assert_eq!(store.positions(), [written], "round {round}");
        // Small groups and a large one.
        put(&store, 0..1_000, 10);
        put(&store, 0..19_000, 1_000);
        written += 20_000;
        assert_eq!(store.positions(), [written], "round {round}");
        let tables = &store.shard(0).tables;
        let transaction = tables.env.read_txn().unwrap();
        let first = tables.changes.first(&transaction).unwrap().unwrap().0;
        let kept = written - u64::from_be_bytes(first.try_into().unwrap());
        // A node for each of 64 partitions, 16 of them every 2,048 changes, and a group.
        assert!(kept < (64 / 16 + 1) * 2_048 + 1_000, "round {round}: {kept} changes are kept");
        assert_eq!(entries(&tables.trees, &transaction).len(), 64);
        drop(transaction);
        drop(store);
        behind(directory.path(), |tables, transaction| {
            assert_eq!(entries(&tables.changes, transaction).len(), 1, "the last stays, as the position");
        });
    }
}

#[test]
fn a_row_that_contradicts_its_tree_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, 0..500, 100);
    let key: StoreKey = address(3).store_key;
    let prefix = key.id().prefix(BITS);
    let tables = &store.shard(0).tables;
    let mut row = *store.shard(0).views().get(&(BITS, prefix)).unwrap();
    row.records += 1;
    let mut transaction = tables.env.write_txn().unwrap();
    tables.partitions.put(&mut transaction, &super::tables::partition_key(prefix, BITS), &row.encode()).unwrap();
    transaction.commit().unwrap();
    assert!(store.scrub_partition(prefix, BITS, None).unwrap().is_missing);
}
