//! What a stand-in keeps on its disk: kept, merged, read back, listed for delivery, bounded, and there again after a restart.

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use dynamo::{
    hint::{HintKey, HintOperation, HintUsage},
    ident::{NodeId, OpId},
    layout::View,
    operation::ErrorCode,
    peer::PeerResult,
    record,
    replica::{MintBasis, Write, WriteOutcome},
    version::{Actor, Dot, Object, Version, put::Seen},
};
use server::store::{Completion, Health, HintSubmission, Hints, OpenError, Progress, Store, StoreConfig};

use crate::support::{Worker, address, config, open, value, view_of};

pub(crate) const A: NodeId = NodeId(0xa);
pub(crate) const B: NodeId = NodeId(0xb);

/// An object with one version, as some other node minted it.
pub(crate) fn object(actor: u64, bytes: impl Into<Bytes>) -> Object {
    let mut object = Object::new();
    let dot = Dot { actor: Actor(actor), seq: 1 };
    object.put(&Seen::default(), Version { dot, op_id: OpId::NONE, clock: 1, expires: 0, content: value(bytes) });
    object
}

pub(crate) fn record_of(key: &str, object: &Object) -> Bytes {
    record::encode(&address(key), object).into()
}

pub(crate) fn keep(target: NodeId, key: &str, object: &Object) -> HintOperation {
    let store_key = address(key).store_key;
    HintOperation::Keep { view: view_of(&store_key), target, store_key, record: record_of(key, object) }
}

pub(crate) fn mint(target: NodeId, key: &str, bytes: impl Into<Bytes>) -> HintOperation {
    let address = address(key);
    let (content, basis) = (value(bytes), MintBasis::Local);
    let write = Write { content, basis, op_id: OpId::NONE, seen_clock: 0, wall_ms: 1_000, expires: 0 };
    HintOperation::Mint { view: view_of(&address.store_key), target, address, write }
}

pub(crate) fn delivered(name: &HintKey, hint: &Bytes) -> HintOperation {
    let HintKey { target, store_key, .. } = *name;
    let digest = record::verify(&store_key, hint).unwrap();
    HintOperation::Drop { target, view: view_of(&store_key), store_key, digest }
}

/// Has operations carried out; the outcomes in order.
pub(crate) fn run(worker: &mut Worker<'_>, operations: Vec<HintOperation>) -> Vec<WriteOutcome> {
    let count = operations.len();
    let submissions = (0..).zip(operations).map(|(token, operation)| HintSubmission { token: Some(token), operation });
    worker.store.hints().submit(&worker.queue, submissions.collect()).expect("there is room for a test's batch");
    let mut outcomes = BTreeMap::new();
    for _ in 0..60 {
        for Completion { token, progress } in worker.arrived() {
            match progress {
                Progress::Minted(_) => assert!(!outcomes.contains_key(&token), "shown as minted after it had ended"),
                Progress::Finished(outcome) => assert_eq!(outcomes.insert(token, outcome), None, "answered twice"),
            }
        }
        if outcomes.len() == count {
            return outcomes.into_values().collect();
        }
    }
    panic!("{} of {count} operations were never answered", count - outcomes.len())
}

pub(crate) fn one(worker: &mut Worker<'_>, operation: HintOperation) -> WriteOutcome {
    run(worker, vec![operation]).remove(0)
}

pub(crate) fn read(hints: &Hints, key: &str) -> PeerResult {
    let store_key = address(key).store_key;
    hints.read(&view_of(&store_key), &store_key)
}

/// All hints of a target, page by page.
pub(crate) fn list(hints: &Hints, target: NodeId, records_max: usize, bytes_max: usize) -> Vec<(HintKey, Bytes)> {
    let mut all: Vec<(HintKey, Bytes)> = Vec::new();
    loop {
        let page = hints.scan(target, all.last().map(|(key, _)| *key), records_max, bytes_max).unwrap();
        if page.is_empty() {
            return all;
        }
        assert!(page.len() <= records_max);
        all.extend(page);
    }
}

fn small(directory: &Path) -> StoreConfig {
    StoreConfig { max_bytes: Some(64 << 20), shards: Some(1), ..config(directory) }
}

fn data_file(directory: &Path) -> std::path::PathBuf {
    directory.join("data/hints/data.mdb")
}

#[test]
fn hints_are_kept_merged_listed_delivered_and_there_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(&config(directory.path()));
    let (one_version, other) = (object(1, "a"), object(2, "b"));
    let mut both = one_version.clone();
    both.merge(&other);
    let outcomes =
        run(&mut Worker::new(&store), vec![keep(A, "k", &one_version), keep(A, "k", &other), keep(B, "k", &other)]);
    assert!(outcomes.iter().all(|outcome| *outcome == WriteOutcome::Stored), "{outcomes:?}");
    for _ in 0..2 {
        let hints = store.hints();
        assert_eq!(read(hints, "k"), PeerResult::Record(record_of("k", &both)));
        assert_eq!(read(hints, "other"), PeerResult::Absent);
        let listed = list(hints, A, 100, 1 << 20);
        assert_eq!(listed.iter().map(|(_, hint)| hint.clone()).collect::<Vec<_>>(), [record_of("k", &both)]);
        let backlog: Vec<(NodeId, u64)> =
            hints.backlog().into_iter().map(|(node, usage)| (node, usage.records)).collect();
        assert_eq!(backlog, [(A, 1), (B, 1)]);
        assert_eq!(hints.kept_of(&address("k").store_key).unwrap().len(), 2);
        assert!(hints.verify().is_sound(), "{:?}", hints.verify());
        drop(store);
        store = open(&config(directory.path()));
    }
    let hints = store.hints();
    for target in [A, B] {
        let operations = list(hints, target, 1, 1).iter().map(|(name, hint)| delivered(name, hint)).collect();
        assert_eq!(run(&mut Worker::new(&store), operations), [WriteOutcome::Stored]);
    }
    assert_eq!((hints.backlog(), read(hints, "k")), (Vec::new(), PeerResult::Absent));
    let status = hints.status();
    assert_eq!((status.delivered, status.aside, status.health), (2, 0, Health::Sound));
}

#[test]
fn what_is_kept_of_a_key_is_found_however_often_its_partition_was_divided() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&config(directory.path()));
    let key = address("k").store_key;
    let view = |bits: u8| View { bits, prefix: key.id().prefix(bits), lo: 1, hi: 1 };
    let mut all = Object::new();
    // Others of the same targets lie before, between and behind.
    let mut keeps: Vec<HintOperation> = (0..40)
        .flat_map(|number| {
            [keep(A, &format!("other {number}"), &object(1, "o")), keep(B, &format!("{number}"), &object(1, "o"))]
        })
        .collect();
    for (actor, target, bits) in [(1, A, 0), (2, A, 8), (3, A, 10), (4, B, 9), (5, B, 20)] {
        let object = object(actor, format!("of {actor}"));
        all.merge(&object);
        keeps.push(HintOperation::Keep { view: view(bits), target, store_key: key, record: record_of("k", &object) });
    }
    let outcomes = run(&mut Worker::new(&store), keeps);
    assert!(outcomes.iter().all(|outcome| *outcome == WriteOutcome::Stored), "{outcomes:?}");
    let hints = store.hints();
    for bits in [0, 8, 10, 12] {
        assert_eq!(hints.read(&view(bits), &key), PeerResult::Record(record_of("k", &all)), "asked under {bits} bits");
    }
    let targets: Vec<NodeId> = hints.kept_of(&key).unwrap().into_iter().map(|(target, _)| target).collect();
    assert_eq!(targets, [A, A, A, B, B]);
    let minted = match one(&mut Worker::new(&store), mint(B, "k", "the only one")) {
        WriteOutcome::Minted(minted) => record::decode_of(&address("k"), &minted.record).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(minted.versions.len(), 1, "it replaces all that is kept here");
}

#[test]
fn a_stand_in_shows_what_it_minted_and_takes_a_new_actor_after_its_hint_went_or_it_restarted() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(&config(directory.path()));
    let mint = |store: &Store| {
        let WriteOutcome::Minted(minted) = one(&mut Worker::new(store), mint(A, "k", "v")) else {
            panic!("not minted")
        };
        (minted.dot.unwrap(), minted.record)
    };
    let (first, _) = mint(&store);
    let (second, hint) = mint(&store);
    assert_eq!((first.actor, first.seq + 1), (second.actor, second.seq));
    assert_eq!(read(store.hints(), "k"), PeerResult::Record(hint));
    drop(store);
    store = open(&config(directory.path()));
    let (third, hint) = mint(&store);
    assert_ne!(third.actor, second.actor);
    let name = HintKey::new(A, &view_of(&address("k").store_key), address("k").store_key).unwrap();
    assert_eq!(one(&mut Worker::new(&store), delivered(&name, &hint)), WriteOutcome::Stored);
    assert_ne!(mint(&store).0.actor, third.actor);
}

#[test]
fn a_listing_goes_on_behind_the_last_name_whatever_its_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&config(directory.path()));
    let mut worker = Worker::new(&store);
    let keys: Vec<String> = (0..300).map(|number| format!("key {number}")).collect();
    let length = |number: usize| if number.is_multiple_of(50) { 20_000 } else { 50 };
    for target in [A, B] {
        let keeps = keys.iter().enumerate().map(|(at, key)| keep(target, key, &object(1, vec![7; length(at)])));
        assert!(run(&mut worker, keeps.collect()).iter().all(|outcome| *outcome == WriteOutcome::Stored));
    }
    let all = list(store.hints(), A, 1_000, 4 << 20);
    assert_eq!(all.len(), keys.len());
    assert!(all.is_sorted_by_key(|(name, _)| *name) && all.iter().all(|(name, _)| name.target == A));
    for (records, bytes) in [(1, 1 << 20), (7, 1 << 20), (1_000, 1), (1_000, 30_000)] {
        assert_eq!(list(store.hints(), A, records, bytes), all, "{records} records, {bytes} bytes");
    }
    let mut counted = HintUsage::default();
    all.iter().for_each(|(name, hint)| counted.add(name, hint.len()));
    assert_eq!(store.hints().backlog(), [(A, counted), (B, store.hints().backlog()[1].1)]);
}

#[test]
fn a_directory_that_has_lost_its_hints_or_has_those_of_another_is_refused() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = config(directory.path());
    drop(open(&config));
    drop(open(&StoreConfig { directory: other.path().to_owned(), ..config.clone() }));
    let (hints, elsewhere) = (directory.path().join("data/hints"), directory.path().join("elsewhere"));
    fs::rename(&hints, &elsewhere).unwrap();
    assert!(matches!(Store::open(&config), Err(OpenError::Missing { path }) if path.ends_with("data/hints/data.mdb")));
    copy(&other.path().join("data/hints"), &hints);
    assert!(matches!(Store::open(&config), Err(OpenError::OtherOwner { .. })));
    fs::remove_dir_all(&hints).unwrap();
    fs::rename(&elsewhere, &hints).unwrap();
    drop(open(&config));
    let file = fs::File::options().write(true).open(hints.join("data.mdb")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 16], 16).unwrap();
    assert!(matches!(Store::open(&config), Err(OpenError::Damaged { .. })), "a damaged header");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_full_book_refuses_loses_nothing_and_has_room_again_when_hints_are_delivered() {
    let directory = tempfile::tempdir().unwrap();
    let config = small(directory.path());
    let store = open(&config);
    let mut worker = Worker::new(&store);
    let value = vec![5; 1_500];
    let (mut kept, mut refusals) = (0, 0);
    for round in 0..400 {
        let keeps = (0..32).map(|number| keep(A, &format!("filler {round} {number}"), &object(1, value.clone())));
        for outcome in run(&mut worker, keeps.collect()) {
            match outcome {
                WriteOutcome::Stored => kept += 1,
                WriteOutcome::Refused(failure) => {
                    assert_eq!(failure.code, ErrorCode::StorageFull, "{failure:?}");
                    assert!(failure.retryable && !failure.maybe_applied, "{failure:?}");
                    refusals += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        if refusals > 500 {
            break;
        }
    }
    println!("{kept} hints of 1.5 kB fit into a tenth of 64 MiB");
    assert!(kept > 1_000 && refusals > 500, "{kept} kept, {refusals} refused");
    assert_eq!(store.hints().refused(), refusals);
    let length = fs::metadata(data_file(directory.path())).unwrap().len();
    assert!(length <= (64 << 20) / 10 + (256 << 10), "{length} bytes of a tenth of 64 MiB");
    let all = list(store.hints(), A, 1_000, 1 << 20);
    assert_eq!(all.len(), kept);
    // The shards do not notice.
    assert!(crate::support::is_stored(&worker.one(crate::support::put("k", "v"))));
    for some in all[..kept / 2].chunks(50) {
        let outcomes = run(&mut worker, some.iter().map(|(name, hint)| delivered(name, hint)).collect());
        assert!(outcomes.iter().all(|outcome| *outcome == WriteOutcome::Stored), "{outcomes:?}");
    }
    assert_eq!(one(&mut worker, keep(A, "there is room", &object(1, value))), WriteOutcome::Stored);
    assert!(store.hints().verify().is_sound());
    drop(store);
    assert_eq!(list(open(&config).hints(), A, 1_000, 1 << 20).len(), kept - kept / 2 + 1);
}
