//! The simulated disk lies about nothing: one random script of writes drives it and a real LMDB store, and after every group both give
//! the same outcomes and the same bytes, also after both were closed and opened again. Everything the simulator shows rests on that.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{
    ident::{NodeId, OpId},
    layout::View,
    operation::Address,
    peer::{PeerAction, PeerOperation, PeerResult, TreeAsk, TreePath, TreeQuestion},
    record,
    replica::{Limits, MintBasis, Nonce, Replica, Write, WriteOperation, WriteOutcome},
    version::Content,
};
use server::store::{Completion, CompletionQueue, Progress, Store, StoreConfig, Submission};
use sim::{
    random::Random,
    world::disk::{Changes, Disk},
};
use xxhash_rust::xxh3::xxh3_128;

const BITS: u8 = 2;
const KEYS: u64 = 12;
const SCRIPTS: u64 = 6;
const GROUPS: usize = 40;

/// Longer than any disk takes for a group.
const PATIENCE: Duration = Duration::from_secs(60);

fn view(prefix: u32) -> View {
    View { prefix, bits: BITS, lo: 1, hi: 1 }
}

fn replica(nonce: u8) -> Replica {
    Replica::new(Nonce([nonce; 32]), Limits { value_bytes_max: 1 << 20 })
}

/// A replica over a simulated disk.
struct Simulated {
    disk: Disk,
    replica: Replica,
}

impl Simulated {
    fn new(nonce: u8) -> Self {
        let mut node = Self { disk: Disk::default(), replica: replica(nonce) };
        let mut transaction = node.disk.begin();
        for prefix in 0..1 << BITS {
            let Ok(()) = Replica::adopt(&mut transaction, view(prefix));
        }
        let changes = transaction.finish();
        node.disk.apply(&changes);
        node
    }

    /// Applies a group without making it durable.
    fn stage(&mut self, group: &[WriteOperation]) -> (Changes, Vec<WriteOutcome>) {
        let mut transaction = self.disk.begin();
        let mut batch = self.replica.begin();
        for operation in group {
            let Ok(_) = batch.apply(&mut transaction, operation.clone());
        }
        let Ok(staged) = batch.stage(&mut transaction);
        let outcomes = staged.committed();
        (transaction.finish(), outcomes)
    }

    fn run(&mut self, group: &[WriteOperation]) -> Vec<WriteOutcome> {
        let (changes, outcomes) = self.stage(group);
        self.disk.apply(&changes);
        outcomes
    }
}

/// A store in a directory.
fn open(directory: &Path) -> Store {
    let config = StoreConfig {
        founding: Some(b"a layout".to_vec()),
        is_filesystem_forced: true,
        ..StoreConfig::new(directory, 0xc1, NodeId(0x0d))
    };
    let store = Store::open(&config).expect("the store opens");
    store.hold((0..1 << BITS).map(view)).expect("the partitions are adopted");
    store
}

fn run(store: &Store, group: &[WriteOperation]) -> Vec<WriteOutcome> {
    let queue = CompletionQueue::new();
    for (token, operation) in (0..).zip(group) {
        let shard = store.shard_of(&operation.store_key());
        let submission = Submission { token: Some(token), operation: operation.clone() };
        store.submit(shard, &queue, vec![submission]).expect("there is room for a test's write");
    }
    let (mut outcomes, mut arrived, began) = (BTreeMap::new(), Vec::new(), Instant::now());
    while outcomes.len() < group.len() {
        assert!(began.elapsed() < PATIENCE, "{} of {} writes were never answered", outcomes.len(), group.len());
        Arc::clone(&queue).drain(&mut arrived);
        for Completion { token, progress } in arrived.drain(..) {
            if let Progress::Finished(outcome) = progress {
                outcomes.insert(token, outcome);
            }
        }
        thread::sleep(Duration::from_micros(200));
    }
    outcomes.into_values().collect()
}

fn address(key: u64) -> Address {
    Address::new(Bytes::from_static(b"default"), Bytes::from(format!("key {key}")))
}

/// A write that is the same wherever it is done: what other nodes minted is merged, repaired, or removed.
fn draw(random: &mut Random, source: &mut [Simulated], disk: &Disk) -> WriteOperation {
    let address = address(random.below(KEYS));
    let (store_key, view) = (address.store_key, view(address.store_key.id().prefix(BITS)));
    let standing = disk.records.get(&store_key).cloned();
    match (random.below(10), standing) {
        (0, Some(record)) => {
            let digest = record::verify(&store_key, &record).unwrap_or(0) ^ u128::from(random.chance(300));
            WriteOperation::Reap { view, store_key, digest, clock: 0 }
        }
        (1, standing) => WriteOperation::Rebuild { view, store_key, record: standing },
        (2, Some(record)) => {
            let mut damaged = record.to_vec();
            let at = random.index(damaged.len());
            damaged[at] ^= 1;
            WriteOperation::Merge { view, store_key, record: Bytes::from(damaged) }
        }
        _ => WriteOperation::Merge { view, store_key, record: minted_elsewhere(random, source, &address, view) },
    }
}

/// The record that one of several other nodes has after a write.
fn minted_elsewhere(random: &mut Random, source: &mut [Simulated], address: &Address, view: View) -> Bytes {
    let at = random.index(source.len());
    let bytes = Bytes::from(format!("value {}", random.draw()));
    let hash = xxh3_128(&bytes);
    let content = if random.chance(300) { Content::Tombstone } else { Content::Value { bytes, hash } };
    let basis = if random.chance(200) { MintBasis::Beside } else { MintBasis::Local };
    let op_id = OpId { client: 1, sequence: random.draw() };
    let write = Write { content, basis, op_id, seen_clock: 0, wall_ms: random.below(1_000_000), expires: 0 };
    let operation = WriteOperation::Mint { view, address: address.clone(), write };
    match source[at].run(&[operation]).remove(0) {
        WriteOutcome::Minted(minted) => minted.record,
        other => panic!("a node without faults mints: {other:?}"),
    }
}

/// Everything that can be seen of both is the same.
fn compare(store: &Store, disk: &Disk, context: &str) {
    for key in 0..KEYS {
        let store_key = address(key).store_key;
        let view = view(store_key.id().prefix(BITS));
        for action in [PeerAction::Read, PeerAction::Digest] {
            let operation = PeerOperation { view, store_key, action };
            let real: PeerResult = store.snapshot().read(&operation);
            assert_eq!(real, disk.read(&operation), "{context}, key {key}");
        }
    }
    for prefix in 0..1 << BITS {
        for ask in [TreeAsk::Sum, TreeAsk::Children, TreeAsk::Keys(100)] {
            let question = TreeQuestion { view: view(prefix), path: TreePath::of_partition(prefix, BITS), ask };
            assert_eq!(store.tree(&question), disk.answer_tree(&question), "{context}, partition {prefix}, {ask:?}");
        }
    }
}

#[test]
fn the_simulated_disk_and_the_lmdb_store_give_the_same_outcomes_and_hold_the_same_bytes() {
    let (mut groups, mut reopened, mut writes) = (0, 0, 0);
    for script in 0..SCRIPTS {
        let mut random = Random::new(script);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut store = open(directory.path());
        let mut simulated = Simulated::new(9);
        let mut source: Vec<Simulated> = (1..4).map(Simulated::new).collect();
        for number in 0..GROUPS {
            let context = format!("script {script}, group {number}");
            let size = random.between(1, 12);
            let group: Vec<_> = (0..size).map(|_| draw(&mut random, &mut source, &simulated.disk)).collect();
            if random.chance(100) {
                // A crash before the commit: what was staged is gone, as what LMDB was never given.
                let _ = simulated.stage(&group);
                simulated.replica = replica(100 + number as u8);
            } else {
                // In the store each key's writes keep their order; groups of other keys do not touch them.
                assert_eq!(run(&store, &group), simulated.run(&group), "{context}: {group:#?}");
                writes += group.len();
            }
            if random.chance(150) {
                drop(store);
                store = open(directory.path());
                simulated.replica = replica(200 - number as u8);
                reopened += 1;
            }
            compare(&store, &simulated.disk, &context);
            groups += 1;
        }
    }
    println!("{writes} writes in {groups} groups, {reopened} restarts");
    assert!(reopened > 10 && writes > 500);
}
