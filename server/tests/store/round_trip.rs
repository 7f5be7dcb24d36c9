//! What was written is read, also after the store was closed and opened again; against a model that is a map.

use std::collections::BTreeMap;

use bytes::Bytes;
use dynamo::{
    ident::OpId,
    layout::View,
    operation::ErrorCode,
    peer::{PeerAction, PeerOperation, PeerResult},
    record,
    replica::{MintBasis, WriteOperation, WriteOutcome},
    version::{Actor, Content, Dot, Object, Version, put::Seen},
};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use server::store::Store;

use crate::support::{Worker, address, config, delete, is_stored, mint, open, put, read_of, value, values, view_of};

#[derive(Clone, Debug)]
enum Step {
    /// One group of writes.
    Write(Vec<(u8, What)>),
    Reopen,
}

#[derive(Clone, Debug)]
enum What {
    Put(Vec<u8>),
    Beside(Vec<u8>),
    Merge(Vec<u8>),
    Delete,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let content = || {
        prop_oneof![
            4 => proptest::collection::vec(any::<u8>(), 0..64),
            1 => (0_usize..20_000, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
        ]
    };
    let what = prop_oneof![
        4 => content().prop_map(What::Put),
        2 => content().prop_map(What::Beside),
        2 => content().prop_map(What::Merge),
        2 => Just(What::Delete),
    ];
    let step = prop_oneof![
        5 => proptest::collection::vec((0_u8..24, what), 1..40).prop_map(Step::Write),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..12)
}

/// A record of an object with one version, as another node would send it: concurrent with everything.
fn foreign(key: &str, number: u64, content: Content) -> WriteOperation {
    let (address, mut object) = (address(key), Object::new());
    let dot = Dot { actor: Actor(0xf000_0000_0000_0000 | number), seq: 1 };
    object.put(&Seen::default(), Version { dot, op_id: OpId::NONE, clock: 1, expires: 0, content });
    let record = Bytes::from(record::encode(&address, &object));
    WriteOperation::Merge { view: view_of(&address.store_key), store_key: address.store_key, record }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_store_holds_what_a_map_would_hold(steps in steps(), shards in prop_oneof![Just(1_u8), Just(4)]) {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(directory.path());
        config.shards = Some(shards);
        let mut store = Some(open(&config));
        let mut model: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
        let mut number = 0;
        for step in steps {
            match step {
                Step::Reopen => {
                    drop(store.take());
                    store = Some(open(&config));
                }
                Step::Write(writes) => {
                    let operations = writes.into_iter().map(|(key, what)| {
                        number += 1;
                        apply(&mut model, format!("key {key}"), number, what)
                    }).collect();
                    for outcome in Worker::new(store.as_ref().unwrap()).run(operations) {
                        assert!(is_stored(&outcome), "{outcome:?}");
                    }
                }
            }
            check(store.as_ref().unwrap(), &model);
        }
    }
}

fn apply(model: &mut BTreeMap<String, Vec<Bytes>>, key: String, number: u64, what: What) -> WriteOperation {
    let held = model.entry(key.clone()).or_default();
    match what {
        What::Put(bytes) => {
            *held = vec![bytes.clone().into()];
            put(&key, bytes)
        }
        What::Delete => {
            held.clear();
            delete(&key)
        }
        What::Beside(bytes) => {
            held.push(bytes.clone().into());
            mint(&key, value(bytes), MintBasis::Beside)
        }
        What::Merge(bytes) => {
            held.push(bytes.clone().into());
            foreign(&key, number, value(bytes))
        }
    }
}

fn check(store: &Store, model: &BTreeMap<String, Vec<Bytes>>) {
    for key in 0..24 {
        let key = format!("key {key}");
        let mut expected = model.get(&key).cloned().unwrap_or_default();
        expected.sort();
        assert_eq!(values(store, &key).as_ref(), Ok(&expected), "{key}");
    }
    let report = store.verify();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.sound, model.len() as u64);
    assert_eq!(store.status().records(), Some(model.len() as u64));
    assert_eq!(scan_all(store).len(), model.len());
}

fn scan_all(store: &Store) -> Vec<dynamo::ident::StoreKey> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let chunk = store.snapshot().scan(0, 0, after).unwrap();
        assert_eq!(chunk.unreadable, []);
        keys.extend(chunk.records.iter().map(|(key, _)| *key));
        after = chunk.next;
        if after.is_none() {
            assert!(keys.is_sorted(), "a scan goes in the order of keys");
            return keys;
        }
    }
}

#[test]
fn a_scan_comes_in_chunks_and_misses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.shards = Some(2);
    let store = open(&config);
    let keys: Vec<String> = (0..2_500).map(|number| format!("scanned {number}")).collect();
    let operations = keys.iter().map(|key| put(key, key.clone())).collect();
    assert!(Worker::new(&store).run(operations).iter().all(is_stored));
    let first = store.snapshot().scan(0, 0, None).unwrap();
    assert!((1..=1_000).contains(&first.records.len()) && first.next.is_some());
    let mut expected: Vec<_> = keys.iter().map(|key| address(key).store_key).collect();
    expected.sort();
    assert_eq!(scan_all(&store), expected);
    // A partition's scan shows its own keys only.
    let partition = expected[0].id().prefix(6);
    let chunk = store.snapshot().scan(partition, 6, None).unwrap();
    assert_eq!(chunk.next, None);
    assert_eq!(chunk.records.len(), expected.iter().filter(|key| key.id().prefix(6) == partition).count());
}

#[test]
fn views_are_compared_by_reads_and_by_writes() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&config(directory.path())).unwrap();
    let mut worker = Worker::new(&store);
    // No partition is held yet.
    let WriteOutcome::Refused(failure) = worker.one(put("k", "v")) else { panic!("written without a row") };
    assert_eq!(failure.code, ErrorCode::StaleView);
    let PeerResult::Failed(failure) = store.snapshot().read(&read_of("k")) else { panic!("read without a row") };
    assert_eq!(failure.code, ErrorCode::StaleView);
    // Held under a newer layout than the operation's.
    let store_key = address("k").store_key;
    let mine = View { lo: 5, hi: 5, ..view_of(&store_key) };
    store.hold([mine]).unwrap();
    assert_eq!(worker.one(put("k", "v")), WriteOutcome::Stale(mine));
    assert_eq!(store.snapshot().read(&read_of("k")), PeerResult::Stale(mine));
    let read = PeerOperation { view: mine, store_key, action: PeerAction::Read };
    assert_eq!(store.snapshot().read(&read), PeerResult::Absent);
}

#[test]
fn a_digest_is_the_records_checksum_and_a_merge_of_it_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&config(directory.path()));
    let mut worker = Worker::new(&store);
    let WriteOutcome::Minted(minted) = worker.one(put("k", "v")) else { panic!("not minted") };
    let store_key = address("k").store_key;
    let view = view_of(&store_key);
    let digest = PeerOperation { view, store_key, action: PeerAction::Digest };
    let expected = record::verify(&store_key, &minted.record).unwrap();
    assert_eq!(store.snapshot().read(&digest), PeerResult::Digest(expected));
    assert_eq!(store.snapshot().read(&read_of("k")), PeerResult::Record(minted.record.clone()));
    let commits = store.status().shards[0].commits;
    let merge = WriteOperation::Merge { view, store_key, record: minted.record };
    assert_eq!(worker.one(merge), WriteOutcome::Stored);
    assert_eq!(store.status().shards[0].commits, commits, "what stands there already costs no flush");
}

#[test]
fn writes_that_wait_together_share_commits() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&config(directory.path()));
    let before = store.status().shards[0].commits;
    let operations = (0..5_000).map(|number| put(&format!("grouped {number}"), "v")).collect();
    assert!(Worker::new(&store).run(operations).iter().all(is_stored));
    let status = &store.status().shards[0];
    assert!(status.commits - before <= 2, "{} commits for one batch", status.commits - before);
    assert_eq!(status.writes, 5_000);
}

#[test]
fn a_full_queue_hands_writes_back_and_forgets_none_it_took() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&config(directory.path()));
    let worker = Worker::new(&store);
    let (mut taken, mut rejected) = (0_u64, 0);
    // Far more than the queue takes, much faster than a disk works.
    for batch in 0..60 {
        let submissions: Vec<_> = (0..1_000)
            .map(|number| {
                let operation = put(&format!("{batch} {number}"), vec![7; 200]);
                server::store::Submission { token: Some(batch * 1_000 + number), operation }
            })
            .collect();
        let shard = store.shard_of(&submissions[0].operation.store_key());
        match store.submit(shard, &worker.queue, submissions) {
            Ok(()) => taken += 1_000,
            Err(refused) => {
                assert_eq!((refused.failure.code, refused.submissions.len()), (ErrorCode::Overloaded, 1_000));
                assert!(!refused.failure.maybe_applied);
                rejected += 1;
            }
        }
    }
    assert!(rejected > 0, "the queue took 60,000 writes at once: it has no bound");
    let queue = std::sync::Arc::clone(&worker.queue);
    drop(worker);
    // Closing finishes what was taken.
    drop(store);
    let mut arrived = Vec::new();
    queue.drain(&mut arrived);
    let ended = arrived.iter().filter(|one| matches!(one.progress, server::store::Progress::Finished(_))).count();
    assert_eq!(ended as u64, taken);
    let store = open(&config(directory.path()));
    assert_eq!(store.status().records(), Some(taken));
}

#[test]
fn a_store_can_be_shared_by_threads_that_read_while_it_is_written() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Store>();
    let directory = tempfile::tempdir().unwrap();
    let store = open(&config(directory.path()));
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A writer of two keys in one group: a snapshot shows both or neither of its writes.
        scope.spawn(|| {
            let mut worker = Worker::new(&store);
            for count in 1..200_u64 {
                let bytes = count.to_le_bytes();
                let pair = vec![put("left", bytes.to_vec()), put("right", bytes.to_vec())];
                assert!(worker.run(pair).iter().all(is_stored));
            }
            is_done.store(true, std::sync::atomic::Ordering::Release);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let began = std::time::Instant::now();
                while !is_done.load(std::sync::atomic::Ordering::Acquire) && began.elapsed().as_secs() < 60 {
                    let mut results = Vec::new();
                    store.snapshot().read_all(&[read_of("left"), read_of("right")], &mut results);
                    let content = |result: &PeerResult, key: &str| match result {
                        PeerResult::Record(record) => {
                            record::decode_of(&address(key), record).unwrap().versions[0].content.clone()
                        }
                        PeerResult::Absent => Content::Tombstone,
                        other => panic!("{other:?}"),
                    };
                    assert_eq!(content(&results[0], "left"), content(&results[1], "right"));
                    let report = store.verify();
                    assert!(report.is_sound(), "{report:?}");
                }
            });
        }
    });
    assert_eq!(store.status().snapshots, 0);
}
