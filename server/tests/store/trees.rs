//! Hash trees beside the records: they hold what the records say, after every kind of write and every kind of restart, and what is lost
//! or damaged is found by comparing the two.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{
    ident::StoreKey,
    layout::View,
    operation::ErrorCode,
    peer::{PeerResult, TreeAnswer, TreeAsk, TreePath, TreeQuestion},
    record,
    replica::{WriteOperation, WriteOutcome},
};
use server::store::{Health, ScrubStep, Store, StoreConfig};

use crate::{
    damage::flip_after,
    process::Numbers,
    support::{
        BITS, Worker, address, config, delete, is_stored, open, put, read_of, trees_agree, values, view_of,
        view_of_prefix,
    },
};

/// Longer than correcting rows takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Scrubs of a store that is written to.
const SCRUBS: usize = 5;

fn name(number: u64) -> String {
    format!("leaf {number}")
}

fn content(number: u64) -> Vec<u8> {
    format!("content of {number} ").repeat(12).into_bytes()
}

fn one_shard(directory: &Path) -> StoreConfig {
    StoreConfig { shards: Some(1), ..config(directory) }
}

fn fill(worker: &mut Worker<'_>, numbers: std::ops::Range<u64>) {
    let numbers: Vec<u64> = numbers.collect();
    for some in numbers.chunks(500) {
        let outcomes = worker.run(some.iter().map(|number| put(&name(*number), content(*number))).collect());
        assert!(outcomes.iter().all(is_stored));
    }
}

/// Scrubs everything: what was found in all steps together.
fn scrub(store: &Store) -> ScrubStep {
    let mut found = ScrubStep::default();
    for prefix in 0..1 << BITS {
        let mut after = None;
        loop {
            let step = store.scrub_partition(prefix, BITS, after).unwrap();
            found.verified += step.verified;
            found.unreadable.extend(step.unreadable);
            found.is_missing |= step.is_missing;
            assert!(step.next.is_none() || step.next > after, "a scrub goes on");
            match step.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    found
}

/// Waits until rows and trees say again what is there.
fn wait_sound(store: &Store) {
    let began = Instant::now();
    let is_corrected = || store.verify().partitions_unsure == 0;
    while !is_corrected() {
        assert!(began.elapsed() < PATIENCE, "rows stay unsure");
        thread::sleep(Duration::from_millis(5));
    }
    let report = store.verify();
    assert!(report.is_sound(), "{report:?}");
    trees_agree(store, "when all is quiet");
}

fn rebuild(key: &str, record: Option<Bytes>) -> WriteOperation {
    let store_key = address(key).store_key;
    WriteOperation::Rebuild { view: view_of(&store_key), store_key, record }
}

#[test]
fn trees_hold_what_the_records_say_through_all_writes_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig { shards: Some(2), ..config(directory.path()) };
    let (mut numbers, mut positions) = (Numbers(11), vec![0, 0]);
    for round in 0..5 {
        let store = open(&config);
        assert!(!store.was_unclean(), "round {round}");
        assert_eq!(store.positions(), positions, "round {round}: the position is what it was");
        trees_agree(&store, &format!("round {round}, opened"));
        let mut worker = Worker::new(&store);
        for _ in 0..6 {
            let mut operations = Vec::new();
            for _ in 0..800 {
                let number = numbers.below(3_000);
                let operation = match numbers.below(10) {
                    0 => delete(&name(number)),
                    1 => reap(&store, &name(number)),
                    _ => put(&name(number), content(number)),
                };
                operations.push(operation);
            }
            worker.run(operations);
            let later = store.positions();
            assert!(later.iter().zip(&positions).all(|(later, before)| later > before), "{positions:?}, {later:?}");
            positions = later;
        }
        trees_agree(&store, &format!("round {round}, written"));
        assert_eq!(scrub(&store), ScrubStep { verified: store.status().records().unwrap(), ..ScrubStep::default() });
        assert!(store.verify().is_sound());
    }
}

/// A reap of whatever stands there now; of nothing, if nothing does.
fn reap(store: &Store, key: &str) -> WriteOperation {
    let store_key = address(key).store_key;
    let digest = match store.snapshot().read(&read_of(key)) {
        PeerResult::Record(record) => record::verify(&store_key, &record).unwrap(),
        _ => 0,
    };
    WriteOperation::Reap { view: view_of(&store_key), store_key, digest, clock: 0 }
}

#[test]
fn crowded_ranges_get_nodes_that_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let config = one_shard(directory.path());
    // One partition of no bits: 256 ranges share all keys, so that few keys are many.
    let view = View { prefix: 0, bits: 0, lo: 1, hi: 1 };
    let store = Store::open(&config).unwrap();
    store.hold([view]).unwrap();
    let mut worker = Worker::new(&store);
    let before = store.tree_bytes();
    let under = |operation: WriteOperation| match operation {
        WriteOperation::Mint { address, write, .. } => WriteOperation::Mint { view, address, write },
        other => panic!("{other:?}"),
    };
    for some in (0..280_000_u64).collect::<Vec<_>>().chunks(8_000) {
        let puts = some.iter().map(|number| under(put(&name(*number), &b"v"[..]))).collect();
        assert!(worker.run(puts).iter().all(is_stored));
    }
    let wait = |store: &Store, least: usize| {
        let began = Instant::now();
        while store.tree_bytes() < least {
            assert!(began.elapsed() < PATIENCE, "crowded ranges get no nodes: {} bytes", store.tree_bytes());
            thread::sleep(Duration::from_millis(5));
        }
    };
    wait(&store, before + 200 * 3_072);
    let ask = |store: &Store, path, ask| store.tree(&TreeQuestion { view, path, ask });
    let range = TreePath { prefix: 0x37 << 56, bits: 8 };
    let children = |store: &Store| match ask(store, range, TreeAsk::Children) {
        TreeAnswer::Children(children) => children,
        other => panic!("{other:?}"),
    };
    let parts = children(&store);
    match ask(&store, TreePath { prefix: 0, bits: 0 }, TreeAsk::Children) {
        TreeAnswer::Children(all) => {
            assert_eq!(all.iter().map(|sum| sum.count).sum::<u64>(), 280_000);
            assert_eq!(all[0x37].count, parts.iter().map(|sum| sum.count).sum::<u64>());
            assert_eq!(all[0x37].sum, parts.iter().fold(0, |sum: u64, part| sum.wrapping_add(part.sum)));
        }
        other => panic!("{other:?}"),
    }
    drop(store);
    let store = Store::open(&config).unwrap();
    assert!(!store.was_unclean());
    wait(&store, before + 200 * 3_072);
    assert_eq!(children(&store), parts);
}

#[test]
fn keys_are_listed_with_their_digests_up_to_a_bound() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&one_shard(directory.path()));
    fill(&mut Worker::new(&store), 0..2_000);
    let path = TreePath::of_partition(5, BITS);
    let ask = |most| store.tree(&TreeQuestion { view: view_of_prefix(5), path, ask: TreeAsk::Keys(most) });
    let chunk = store.snapshot().scan(5, BITS, None).unwrap();
    let all: Vec<(StoreKey, u128)> =
        chunk.records.iter().map(|(key, record)| (*key, record::verify(key, record).unwrap())).collect();
    assert!(all.len() > 10);
    assert_eq!(ask(1_000), TreeAnswer::Keys { keys: all.clone(), more: false });
    assert_eq!(ask(3), TreeAnswer::Keys { keys: all[..3].to_vec(), more: true });
    assert_eq!(ask(all.len() as u32), TreeAnswer::Keys { keys: all, more: false });
}

#[test]
fn questions_under_another_view_or_of_another_partition_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&one_shard(directory.path()));
    let path = TreePath::of_partition(5, BITS);
    let ask = |view, path| store.tree(&TreeQuestion { view, path, ask: TreeAsk::Sum });
    let mine = view_of_prefix(5);
    assert_eq!(ask(View { lo: 0, hi: 0, ..mine }, path), TreeAnswer::Stale(mine));
    let hostile = [
        (mine, TreePath::of_partition(6, BITS)),
        (mine, TreePath { bits: 0, prefix: 0 }),
        (mine, TreePath { bits: 200, ..path }),
        (mine, TreePath { prefix: u64::MAX, ..path }),
        (View { bits: 99, ..mine }, path),
    ];
    let parent = View { bits: BITS - 1, prefix: mine.prefix >> 1, ..mine };
    let first = view_of_prefix(mine.prefix & !1);
    assert_eq!(ask(parent, TreePath::of_partition(parent.prefix, parent.bits)), TreeAnswer::Stale(first));
    for (view, path) in hostile {
        match ask(view, path) {
            TreeAnswer::Failed(failure) => {
                assert!(matches!(failure.code, ErrorCode::InvalidRequest | ErrorCode::StaleView), "{failure:?}");
            }
            other => panic!("{view:?} {path:?}: {other:?}"),
        }
    }
}

#[test]
fn damaged_records_are_found_by_a_scrub_rebuilt_and_served_again() {
    let directory = tempfile::tempdir().unwrap();
    let config = one_shard(directory.path());
    let store = open(&config);
    fill(&mut Worker::new(&store), 0..3_000);
    drop(store);
    let victims: Vec<u64> = (0..3_000).step_by(100).collect();
    let path = directory.path().join("data/shard-0/data.mdb");
    victims.iter().for_each(|number| flip_after(&path, &content(*number), 77));
    // What another owner holds, and one key that none holds.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(&one_shard(elsewhere.path()));
    fill(&mut Worker::new(&other), 0..3_000);

    let store = open(&config);
    let keys =
        |numbers: &[u64]| numbers.iter().map(|number| address(&name(*number)).store_key).collect::<BTreeSet<_>>();
    let found = scrub(&store);
    assert_eq!(found.unreadable.iter().copied().collect::<BTreeSet<_>>(), keys(&victims));
    assert_eq!((found.verified, found.is_missing), (3_000 - 30, false));
    let mut worker = Worker::new(&store);
    for (at, number) in victims.iter().enumerate() {
        assert_eq!(values(&store, &name(*number)), Err(PeerResult::Corrupt), "not absent, and not wrong");
        let record = match other.snapshot().read(&read_of(&name(*number))) {
            PeerResult::Record(record) if at > 0 => Some(record),
            _ => None,
        };
        // Its neighbours go on being written in the meantime.
        let outcomes = worker.run(vec![put(&name(number + 1), content(number + 1)), rebuild(&name(*number), record)]);
        assert!(outcomes.iter().all(is_stored), "{outcomes:?}");
        let expected = if at > 0 { vec![content(*number).into()] } else { vec![] };
        assert_eq!(values(&store, &name(*number)), Ok(expected));
    }
    wait_sound(&store);
    assert_eq!(scrub(&store), ScrubStep { verified: 2_999, ..ScrubStep::default() });
    assert!(is_stored(&worker.one(put(&name(0), content(0)))));
    drop(store);
    // A row that is unsure when the process ends is corrected after the next start.
    flip_after(&path, &content(500), 77);
    let store = open(&config);
    let record = other.snapshot().read(&read_of(&name(500)));
    let PeerResult::Record(record) = record else { panic!("{record:?}") };
    assert_eq!(Worker::new(&store).one(rebuild(&name(500), Some(record))), WriteOutcome::Stored);
    drop(store);
    let store = open(&config);
    wait_sound(&store);
}

#[test]
fn a_key_that_was_lost_is_missed_by_the_scrub() {
    let directory = tempfile::tempdir().unwrap();
    let config = one_shard(directory.path());
    let store = open(&config);
    fill(&mut Worker::new(&store), 0..1_000);
    drop(store);
    // In the page, and so in order, it is another key now; a read of the true one finds nothing.
    let lost = address(&name(77)).store_key;
    flip_after(&directory.path().join("data/shard-0/data.mdb"), &lost.0, 31);
    let store = open(&config);
    assert_eq!(values(&store, &name(77)), Ok(Vec::new()));
    assert!(scrub(&store).is_missing);
    assert!(matches!(store.status().shards[0].health, Health::Damaged(_)));
    assert_eq!(values(&store, &name(77)), Err(PeerResult::Corrupt), "nothing counts as absent any more");
    let question = TreeQuestion { view: view_of(&lost), path: TreePath::around(&lost, BITS), ask: TreeAsk::Sum };
    assert!(matches!(store.tree(&question), TreeAnswer::Failed(_)), "and nobody is told to delete what is missing");
}

#[test]
fn a_scrub_of_a_store_that_is_written_to_finds_nothing_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&config(directory.path()));
    fill(&mut Worker::new(&store), 0..2_000);
    // How long it takes does not matter: they go on until so many scrubs have each seen writes.
    let (written, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut steps = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut worker, mut numbers, began) = (Worker::new(&store), Numbers(3), Instant::now());
            while !is_over.load(Ordering::Relaxed) && began.elapsed() < PATIENCE {
                let puts = (0..200).map(|_| numbers.below(2_000)).map(|number| put(&name(number), content(number)));
                assert!(worker.run(puts.collect()).iter().all(is_stored));
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
        let began = Instant::now();
        while steps < SCRUBS && began.elapsed() < PATIENCE {
            let before = written.load(Ordering::Relaxed);
            let found = scrub(&store);
            assert_eq!((found.unreadable.len(), found.is_missing), (0, false));
            steps += usize::from(written.load(Ordering::Relaxed) > before);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    println!("{steps} scrubs, and {written:?} batches written meanwhile");
    assert!(steps == SCRUBS && store.status().is_sound());
    wait_sound(&store);
}
