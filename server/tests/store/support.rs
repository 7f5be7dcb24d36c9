//! What the store's tests share: a store in a temporary directory, a worker that waits for its answers, and parts of tests
//! that run in a process of their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{
    ident::{NodeId, OpId, StoreKey},
    layout::View,
    merkle,
    operation::Address,
    peer::{PeerAction, PeerOperation, PeerResult, TreeAnswer, TreeAsk, TreePath, TreeQuestion, TreeSum},
    record,
    replica::{MintBasis, Write, WriteOperation, WriteOutcome},
    version::Content,
};
use server::store::{Completion, CompletionQueue, Progress, Store, StoreConfig, Submission};

pub(crate) const BITS: u8 = 6;
pub(crate) const CLUSTER: u128 = 0xc1;
pub(crate) const NODE: NodeId = NodeId(0x0d);

/// Longer than any disk takes for a group; a test that waits longer has lost an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The configuration of a test's store, allowed to found one. Temporary directories may lie on an overlay in a container.
pub(crate) fn config(directory: &Path) -> StoreConfig {
    StoreConfig {
        founding: Some(b"a layout".to_vec()),
        is_filesystem_forced: true,
        ..StoreConfig::new(directory, CLUSTER, NODE)
    }
}

/// Opens a store that holds all partitions.
pub(crate) fn open(config: &StoreConfig) -> Store {
    let store = Store::open(config).unwrap();
    store.hold((0..1 << BITS).map(view_of_prefix)).unwrap();
    store
}

pub(crate) fn view_of_prefix(prefix: u32) -> View {
    View { prefix, bits: BITS, lo: 1, hi: 1 }
}

pub(crate) fn view_of(store_key: &StoreKey) -> View {
    view_of_prefix(store_key.id().prefix(BITS))
}

pub(crate) fn address(key: &str) -> Address {
    Address::new(Bytes::from_static(b"default"), Bytes::copy_from_slice(key.as_bytes()))
}

pub(crate) fn value(bytes: impl Into<Bytes>) -> Content {
    let bytes = bytes.into();
    let hash = xxhash_rust::xxh3::xxh3_128(&bytes);
    Content::Value { bytes, hash }
}

pub(crate) fn mint(key: &str, content: Content, basis: MintBasis) -> WriteOperation {
    let address = address(key);
    let view = view_of(&address.store_key);
    let write = Write { content, basis, op_id: OpId::NONE, seen_clock: 0, wall_ms: 1_000, expires: 0 };
    WriteOperation::Mint { view, address, write }
}

pub(crate) fn put(key: &str, bytes: impl Into<Bytes>) -> WriteOperation {
    mint(key, value(bytes), MintBasis::Local)
}

pub(crate) fn delete(key: &str) -> WriteOperation {
    mint(key, Content::Tombstone, MintBasis::Local)
}

pub(crate) fn read_of(key: &str) -> PeerOperation {
    let store_key = address(key).store_key;
    PeerOperation { view: view_of(&store_key), store_key, action: PeerAction::Read }
}

/// The live values under a key, sorted; or what the store said instead.
pub(crate) fn values(store: &Store, key: &str) -> Result<Vec<Bytes>, PeerResult> {
    match store.snapshot().read(&read_of(key)) {
        PeerResult::Absent => Ok(Vec::new()),
        PeerResult::Record(bytes) => {
            let record = record::decode(&address(key).store_key, &bytes).expect("what is served verifies");
            assert_eq!(record.key, key.as_bytes());
            let mut values: Vec<Bytes> = record
                .object
                .live()
                .map(|version| match &version.content {
                    Content::Value { bytes, .. } => bytes.clone(),
                    Content::Tombstone => unreachable!("a tombstone is not live"),
                })
                .collect();
            values.sort();
            Ok(values)
        }
        other => Err(other),
    }
}

/// One worker's end of a store: submits, and waits for the answers.
pub(crate) struct Worker<'s> {
    pub(crate) store: &'s Store,
    pub(crate) queue: Arc<CompletionQueue>,
    next: u64,
    runtime: tokio::runtime::Runtime,
}

impl<'s> Worker<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { store, queue: CompletionQueue::new(), next: 0, runtime }
    }

    /// Submits operations, a batch for each shard, and waits until all are answered: the outcomes in order.
    pub(crate) fn run(&mut self, operations: Vec<WriteOperation>) -> Vec<WriteOutcome> {
        let (first, count) = (self.next, operations.len());
        self.next += count as u64;
        let mut by_shard: BTreeMap<usize, Vec<Submission>> = BTreeMap::new();
        for (token, operation) in (first..).zip(operations) {
            let shard = self.store.shard_of(&operation.store_key());
            by_shard.entry(shard).or_default().push(Submission { token: Some(token), operation });
        }
        for (shard, submissions) in by_shard {
            self.store.submit(shard, &self.queue, submissions).expect("there is room for a test's batch");
        }
        let (mut outcomes, mut shown) = (BTreeMap::new(), BTreeSet::new());
        let began = Instant::now();
        while outcomes.len() < count {
            assert!(began.elapsed() < PATIENCE, "{} of {count} writes were never answered", count - outcomes.len());
            for Completion { token, progress } in self.arrived() {
                match progress {
                    Progress::Minted(_) => {
                        assert!(!outcomes.contains_key(&token), "shown as minted after it had ended");
                        assert!(shown.insert(token), "shown as minted twice");
                    }
                    Progress::Finished(outcome) => {
                        assert_eq!(outcomes.insert(token, outcome), None, "answered twice");
                    }
                }
            }
        }
        outcomes.into_values().collect()
    }

    pub(crate) fn one(&mut self, operation: WriteOperation) -> WriteOutcome {
        self.run(vec![operation]).remove(0)
    }

    /// Waits until something has arrived, for a while.
    pub(crate) fn arrived(&mut self) -> Vec<Completion> {
        let queue = Arc::clone(&self.queue);
        let _ = self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), queue.arrived()).await });
        let mut arrived = Vec::new();
        self.queue.drain(&mut arrived);
        arrived
    }
}

/// Whether the hash trees say what the records say: the sums of all partitions, and of the parts of each.
pub(crate) fn trees_agree(store: &Store, context: &str) {
    for prefix in 0..1 << BITS {
        let (view, path) = (view_of_prefix(prefix), TreePath::of_partition(prefix, BITS));
        let mut expected = vec![TreeSum::default(); 256];
        let mut after = None;
        loop {
            let chunk = store.snapshot().scan(prefix, BITS, after).unwrap();
            for (key, record) in &chunk.records {
                // Counted by the eighth and the following bits, without the help of what is tested.
                let part = u16::from_be_bytes([key.0[0], key.0[1]]) << BITS >> 8;
                let digest = record::verify(key, record).unwrap();
                let sum = &mut expected[usize::from(part)];
                *sum = TreeSum { count: sum.count + 1, sum: sum.sum.wrapping_add(merkle::term(key, digest)) };
            }
            assert_eq!(chunk.unreadable, [], "{context}");
            match chunk.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let total = expected.iter().fold(TreeSum::default(), |total, part| TreeSum {
            count: total.count + part.count,
            sum: total.sum.wrapping_add(part.sum),
        });
        let ask = |ask| store.tree(&TreeQuestion { view, path, ask });
        assert_eq!(ask(TreeAsk::Sum), TreeAnswer::Sum(total), "{context}: partition {prefix}");
        assert_eq!(ask(TreeAsk::Children), TreeAnswer::Children(expected), "{context}: partition {prefix}");
    }
}

/// Whether an outcome is a durable write.
pub(crate) fn is_stored(outcome: &WriteOutcome) -> bool {
    match outcome {
        WriteOutcome::Stored | WriteOutcome::Minted(_) => true,
        WriteOutcome::Stale(_) | WriteOutcome::Corrupt | WriteOutcome::Refused(_) | WriteOutcome::Moved { .. } => false,
    }
}

/// Says that a test could not run on this machine, and why: printed, and handed to `tests/run` for its summary.
pub(crate) fn not_run(reason: &str) {
    use std::io::Write;
    println!("NOT RUN: {reason}");
    if let Ok(path) = std::env::var("QUORATE_NOT_RUN") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
        let written = file.and_then(|mut file| writeln!(file, "{reason}"));
        assert!(written.is_ok(), "{path} can't be written: {written:?}");
    }
}
