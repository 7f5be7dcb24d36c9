//! Partitions that come, go, come back and are split, in a real store: what its rows, counts and hash trees say afterwards, also after it
//! was closed or killed and opened again.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use dynamo::{
    ident::{NodeId, StoreKey},
    layout::{Layout, Member, MemberState, NodeIndex, View, spans::Span, spans::Spans},
    merkle,
    peer::{
        MoveAnswer, PeerAction, PeerOperation, PeerResult, Standing, TreeAnswer, TreeAsk, TreePath, TreeQuestion,
        TreeSum,
    },
    record,
    replica::{MoveOperation, Refusal, WriteOperation, WriteOutcome},
    ring::Ring,
};
use server::store::{Store, StoreConfig};

use crate::support::{Worker, address, config, is_stored, put};

const ME: NodeIndex = NodeIndex(0);
const OTHER: u16 = 1;

/// As many as the operations of the tests' support have.
const BITS: u8 = crate::support::BITS;

/// A layout of two nodes with one copy of each partition, in which this node owns what is not given away.
fn layout(before: Option<&Layout>, bits: u8, is_mine: impl Fn(u32) -> bool, is_settled: bool) -> Layout {
    let member = |number: u16| Member {
        id: NodeId(u128::from(number) + 1),
        name: format!("n{number}"),
        zone: format!("z{number}"),
        weight: 1,
        addresses: vec![format!("10.0.0.{number}:7400")],
        state: MemberState::Active,
    };
    let epoch = before.map_or(1, |before| before.epoch + 1);
    let slots: Vec<u16> = (0..1 << bits).map(|prefix| if is_mine(prefix) { ME.0 } else { OTHER }).collect();
    let spans = (0..1_u32 << bits).map(|prefix| {
        let Some(before) = before else { return Span::settled(1) };
        let parent = prefix >> (bits - before.partition_bits);
        let span = before.spans.of(parent);
        let is_same = before.slots[parent as usize] == slots[prefix as usize];
        let since = if is_same { span.since } else { epoch };
        Span { since, oldest: if is_settled { span.since } else { span.oldest } }
    });
    Layout {
        cluster: 7,
        generation: 1,
        epoch,
        parent_hash: before.map_or([0; 16], Layout::hash),
        electors: vec![ME],
        members: (0..2).map(member).collect(),
        partition_bits: bits,
        replicas: 1,
        spans: Spans::from_partitions(spans.collect::<Vec<_>>()),
        slots,
        buckets: BTreeMap::new(),
    }
}

/// A ring in which this node owns everything.
fn whole() -> Ring {
    Ring::new(Arc::new(layout(None, BITS, |_| true, true)))
}

/// The ring with one more layout.
fn then(ring: &Ring, bits: u8, is_mine: impl Fn(u32) -> bool) -> Ring {
    let mut ring = ring.clone();
    ring.push(Arc::new(layout(Some(ring.newest()), bits, is_mine, true))).unwrap();
    ring
}

fn open(config: &StoreConfig, ring: &Ring) -> Store {
    let store = Store::open(config).unwrap();
    store.adopt(ring, ME).unwrap();
    store
}

fn fill(store: &Store, keys: std::ops::Range<u32>) {
    let keys: Vec<u32> = keys.collect();
    for some in keys.chunks(1_000) {
        let puts = some.iter().map(|key| put(&format!("key {key}"), format!("value {key}"))).collect();
        assert!(Worker::new(store).run(puts).iter().all(is_stored));
    }
}

fn taken(store: &Store, operation: MoveOperation) -> (Standing, bool) {
    match Worker::new(store).one(WriteOperation::Move(operation)) {
        WriteOutcome::Moved { standing, more } => (standing, more),
        other => panic!("{operation:?}: {other:?}"),
    }
}

/// Rows, trees and records agree, and all of the records are in rows of so many bits.
fn assert_sound(store: &Store, bits: u8, records: u64, context: &str) {
    let standings = store.standings();
    assert!(standings.iter().all(|standing| standing.view.bits == bits), "{context}");
    let mut all = 0;
    for Standing { view, .. } in standings {
        let mut expected = TreeSum::default();
        let mut after = None;
        loop {
            let chunk = store.snapshot().scan(view.prefix, bits, after).unwrap();
            for (key, record) in &chunk.records {
                expected.count += 1;
                expected.sum = expected.sum.wrapping_add(merkle::term(key, record::verify(key, record).unwrap()));
            }
            match chunk.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let standing = store.standing(bits, view.prefix).unwrap();
        assert_eq!(standing.records, expected.count, "{context}: {standing:?}");
        if !standing.is_moved {
            let path = TreePath::of_partition(view.prefix, bits);
            let sum = store.tree(&TreeQuestion { view, path, ask: TreeAsk::Sum });
            assert_eq!(sum, TreeAnswer::Sum(expected), "{context}: {standing:?}");
        }
        all += expected.count;
    }
    assert_eq!(all, records, "{context}");
    let report = store.verify();
    assert!(report.is_sound() && report.partitions_unsure == 0, "{context}: {report:?}");
}

#[test]
fn a_partition_goes_is_deleted_in_pieces_and_comes_back_as_a_learners() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig { shards: Some(2), ..config(directory.path()) };
    let ring = whole();
    let store = open(&config, &ring);
    fill(&store, 0..2_000);
    let lost = 5;
    let left = 2_000 - store.standing(BITS, lost).unwrap().records;
    let without = then(&ring, BITS, |prefix| prefix != lost);
    store.adopt(&without, ME).unwrap();
    // The layout alone deletes nothing and makes nothing active.
    let before = View { prefix: lost, bits: BITS, lo: 1, hi: 1 };
    assert_eq!(store.standing(BITS, lost).unwrap().view, before);
    let fenced = View { hi: 2, ..before };
    let away = View { lo: 2, hi: 2, ..before };
    assert!(!taken(&store, MoveOperation::Adopt { view: fenced }).0.is_moved);
    let early = MoveOperation::Drop { view: fenced, records_max: 7 };
    assert!(matches!(Worker::new(&store).one(WriteOperation::Move(early)), WriteOutcome::Refused(_)));
    taken(&store, MoveOperation::Adopt { view: away });
    // Some of it, and then the process ends.
    assert!(taken(&store, MoveOperation::Drop { view: away, records_max: 7 }).1);
    drop(store);
    let store = open(&config, &without);
    while taken(&store, MoveOperation::Drop { view: away, records_max: 7 }).1 {}
    assert_sound(&store, BITS, left, "dropped");
    drop(store);
    let store = open(&config, &without);
    assert_sound(&store, BITS, left, "dropped and opened again");
    let standing = store.standing(BITS, lost).unwrap();
    assert_eq!((standing.view, standing.is_moved, standing.records), (away, true, 0));
    let key =
        (0..).map(|key| address(&format!("key {key}")).store_key).find(|key| key.id().prefix(BITS) == lost).unwrap();
    for view in [before, away] {
        let read = PeerOperation { view, store_key: key, action: PeerAction::Read };
        assert_eq!(store.snapshot().read(&read), PeerResult::Stale(away));
    }
    assert!(matches!(store.range(&away, None, 1_000), MoveAnswer::Failed(_)), "nobody copies from who has nothing");
    // It comes back: merges are taken in again, and what it was FULL of is forgotten.
    let back = then(&without, BITS, |_| true);
    store.adopt(&back, ME).unwrap();
    let standing = store.standing(BITS, lost).unwrap();
    assert_eq!((standing.view, standing.is_moved, standing.full), (away, false, 0));
    let record = dynamo_record(&store);
    let merge = WriteOperation::Merge { view: away, store_key: record.0, record: record.1 };
    if record.0.id().prefix(BITS) == lost {
        assert!(is_stored(&Worker::new(&store).one(merge)));
    }
    let full = View { hi: 3, ..away };
    taken(&store, MoveOperation::Adopt { view: full });
    assert_eq!(taken(&store, MoveOperation::Fill { view: full }).0.full, 3);
    drop(store);
    assert_eq!(open(&config, &back).standing(BITS, lost).unwrap().full, 3);
}

/// Any record of the store.
fn dynamo_record(store: &Store) -> (StoreKey, bytes::Bytes) {
    store.snapshot().scan(0, 0, None).unwrap().records.remove(0)
}

#[test]
fn a_split_counts_exactly_keeps_what_rows_know_and_survives_being_opened_again() {
    for shards in [1, 2] {
        let directory = tempfile::tempdir().unwrap();
        let config = StoreConfig { shards: Some(shards), ..config(directory.path()) };
        let ring = whole();
        let store = open(&config, &ring);
        fill(&store, 0..20_000);
        let fenced = View { prefix: 9, bits: BITS, lo: 1, hi: 2 };
        let moving = then(&ring, BITS, |prefix| prefix != 9);
        store.adopt(&moving, ME).unwrap();
        taken(&store, MoveOperation::Adopt { view: fenced });
        let feed = store.view_feed();
        let doubled = then(&moving, BITS + 2, |prefix| prefix >> 2 != 9);
        let began = Instant::now();
        let standings = store.adopt(&doubled, ME).unwrap();
        println!("20,000 records were split in {:?}, {shards} shards", began.elapsed());
        assert_eq!(standings.len(), 1 << (BITS + 2));
        for standing in &standings {
            let (lo, hi) = if standing.view.prefix >> 2 == 9 { (2, 2) } else { (1, 1) };
            assert_eq!((standing.view.lo, standing.view.hi), (lo, hi), "{standing:?}");
        }
        assert_sound(&store, BITS + 2, 20_000, "split");
        let mut views = Vec::new();
        feed.drain(&mut views);
        assert!(standings.iter().all(|standing| views.contains(&standing.view)), "every child's view was told");
        // A sender who does not know of it is told a child's view; one who knows of more finds this node behind.
        let store_key = address("key 1").store_key;
        let parent = View { prefix: store_key.id().prefix(BITS), bits: BITS, lo: 1, hi: 1 };
        assert!(matches!(store.check(&parent, &store_key), Err(Refusal::Stale(child)) if child.bits == BITS + 2));
        let grandchild = View { prefix: store_key.id().prefix(BITS + 3), bits: BITS + 3, ..parent };
        assert!(matches!(store.check(&grandchild, &store_key), Err(Refusal::Behind(_))));
        assert!(matches!(Worker::new(&store).one(put("key 1", "v")), WriteOutcome::Stale(_)));
        drop(store);
        let store = open(&config, &doubled);
        assert_sound(&store, BITS + 2, 20_000, "opened again");
        drop(store);
        // The same without an orderly end, from the very files that the split left.
        assert_sound(&open(&config, &doubled), BITS + 2, 20_000, "and again");
    }
}

#[test]
fn a_split_that_was_just_committed_survives_the_loss_of_everything_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig { shards: Some(1), ..config(directory.path()) };
    let ring = whole();
    let store = open(&config, &ring);
    fill(&store, 0..5_000);
    let before = tempfile::tempdir().unwrap();
    copy(directory.path(), before.path());
    let doubled = then(&ring, BITS + 1, |_| true);
    store.adopt(&doubled, ME).unwrap();
    let after = tempfile::tempdir().unwrap();
    copy(directory.path(), after.path());
    drop(store);
    // Right before it all rows are parents', and right behind it all are children's; a store that was killed goes on from either.
    for (files, bits) in [(before.path(), BITS), (after.path(), BITS + 1)] {
        let store = Store::open(&StoreConfig { directory: files.to_owned(), ..config.clone() }).unwrap();
        assert!(store.standings().iter().all(|standing| standing.view.bits == bits));
        assert_sound(&store, bits, 5_000, "as it was left");
        store.adopt(&doubled, ME).unwrap();
        assert_sound(&store, BITS + 1, 5_000, "adopted");
    }
}

/// Copies the files of a store that nobody writes to at the moment, as a kill would leave them.
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
fn a_ranges_pages_bring_every_record_once_and_no_page_is_longer_than_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&StoreConfig { shards: Some(2), ..config(directory.path()) }, &whole());
    fill(&store, 0..3_000);
    // Of more bits or fewer than the rows have, because a copy rests on no view.
    for bits in [BITS - 2, BITS, BITS + 2] {
        let view = View { prefix: 1, bits, lo: 7, hi: 9 };
        let mut expected = Vec::new();
        let mut from = None;
        loop {
            let chunk = store.snapshot().scan(1, bits, from).unwrap();
            expected.extend(chunk.records);
            from = chunk.next;
            if from.is_none() {
                break;
            }
        }
        let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let MoveAnswer::Range { records, more } = store.range(&view, after, 500) else { panic!("no records") };
            assert!(records.iter().map(|(_, record)| record.len()).sum::<usize>() <= 500);
            after = records.last().map(|(key, _)| *key);
            found.extend(records);
            pages += 1;
            if !more {
                break;
            }
        }
        assert!(found == expected && pages > 1, "{bits} bits: {} of {} in {pages} pages", found.len(), expected.len());
    }
    let MoveAnswer::Range { records, more: true } = store.range(&View { prefix: 1, bits: BITS, lo: 1, hi: 1 }, None, 1)
    else {
        panic!("a record that is longer alone comes alone")
    };
    assert_eq!(records.len(), 1);
}

#[test]
fn every_change_of_a_view_reaches_every_feed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&StoreConfig { shards: Some(2), ..config(directory.path()) }, &whole());
    let feeds = [store.view_feed(), store.view_feed()];
    let mut views = Vec::new();
    for feed in &feeds {
        views.clear();
        feed.drain(&mut views);
        assert_eq!(views.len(), 1 << BITS, "all rows at first");
    }
    let view = View { prefix: 40, bits: BITS, lo: 1, hi: 4 };
    taken(&store, MoveOperation::Adopt { view });
    taken(&store, MoveOperation::Copied { view, below: 77 });
    let newer = View { lo: 4, hi: 5, ..view };
    taken(&store, MoveOperation::Adopt { view: newer });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for feed in &feeds {
        views.clear();
        let arrived = async { tokio::time::timeout(Duration::from_secs(10), feed.arrived()).await };
        runtime.block_on(arrived).expect("the feed wakes its owner");
        feed.drain(&mut views);
        assert_eq!(views, [newer], "the newest view of what changed, and nothing else");
    }
}
