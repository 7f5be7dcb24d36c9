//! What keeping a hint costs beside merging the same record as an owner does: durable operations a second at several group sizes,
//! and how fast hints are listed and deleted again when their owner is back.
//!
//! `cargo run --release -p quorate-server --example hint_costs -- [DIRECTORY [KEYS]]`: the directory must be on the disk that is
//! to be measured and is used up; the default is a temporary one and 200,000 keys of 100-byte values.

use std::{
    env,
    error::Error,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{
    hint::{HintKey, HintOperation},
    ident::{NodeId, OpId},
    layout::View,
    operation::Address,
    record,
    replica::{WriteOperation, WriteOutcome},
    version::{Actor, Content, Dot, Object, Version, put::Seen},
};
use server::store::{CompletionQueue, HintSubmission, Progress, Store, StoreConfig, Submission};

const VALUE_BYTES: usize = 100;
const BITS: u8 = 8;
const GROUPS: [usize; 4] = [1, 64, 256, 1024];
const TARGET: NodeId = NodeId(2);

/// Long enough for a few hundred commits of the largest group.
const PHASE: Duration = Duration::from_secs(4);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let temporary = tempfile::tempdir()?;
    let directory = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let keys = match arguments.next() {
        Some(keys) => keys.to_string_lossy().replace('_', "").parse()?,
        None => 200_000,
    };
    let config = StoreConfig {
        founding: Some(Vec::new()),
        shards: Some(1),
        is_filesystem_forced: true,
        ..StoreConfig::new(directory.join("store"), 1, NodeId(1))
    };
    let store = Store::open(&config)?;
    let adopted = store.hold((0..1 << BITS).map(|prefix| View { prefix, bits: BITS, lo: 1, hi: 1 }));
    adopted.map_err(|failure| failure.message)?;
    println!("{keys} keys, values of {VALUE_BYTES} bytes, one shard and the hints, {}", directory.display());

    let mut worker = Worker { store: &store, queue: CompletionQueue::new(), runtime: runtime()?, count: 0 };
    for first in (0..keys).step_by(8192) {
        let some: Vec<u64> = (first..keys.min(first + 8192)).collect();
        worker.merge(&some)?;
        worker.keep(&some)?;
    }
    println!("{:>30} {:>12} {:>12} {:>7}", "", "hints", "merges", "ratio");
    let mut numbers = 7;
    for size in GROUPS {
        let mut some = || (0..size).map(|_| random(&mut numbers) % keys).collect::<Vec<u64>>();
        let merges = rate(|| worker.merge(&some()))?;
        let hints = rate(|| worker.keep(&some()))?;
        println!("{:>30} {hints:>12.0} {merges:>12.0} {:>7.2}", format!("kept/s, {size} per commit"), hints / merges);
    }
    let (mut after, mut listed, mut spent_listing) = (None, 0, Duration::ZERO);
    let began = Instant::now();
    loop {
        let began = Instant::now();
        let page = store.hints().scan(TARGET, after, 256, 1 << 20).map_err(|failure| failure.message)?;
        spent_listing += began.elapsed();
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        listed += page.len();
        worker.drop_delivered(&page)?;
    }
    let taken = began.elapsed().as_secs_f64();
    println!("{:>30} {:>12.0}", "listed/s, 256 a page", listed as f64 / spent_listing.as_secs_f64());
    println!("{:>30} {:>12.0}", "listed and deleted/s", listed as f64 / taken);
    println!("{:#?}", store.hints().status());
    Ok(())
}

struct Worker<'s> {
    store: &'s Store,
    queue: Arc<CompletionQueue>,
    runtime: tokio::runtime::Runtime,
    /// Makes every record newer than those before.
    count: u64,
}

impl Worker<'_> {
    fn merge(&mut self, keys: &[u64]) -> Result<usize, Box<dyn Error>> {
        let submissions = keys.iter().map(|key| {
            let (view, address, record) = self.record(*key);
            let operation = WriteOperation::Merge { view, store_key: address.store_key, record };
            Submission { token: Some(0), operation }
        });
        let submissions = submissions.collect();
        self.store.submit(0, &self.queue, submissions).map_err(|rejected| rejected.failure.message)?;
        self.wait(keys.len())
    }

    fn keep(&mut self, keys: &[u64]) -> Result<usize, Box<dyn Error>> {
        let operations = keys.iter().map(|key| {
            let (view, address, record) = self.record(*key);
            HintOperation::Keep { view, target: TARGET, store_key: address.store_key, record }
        });
        let operations = operations.collect();
        self.submit(operations)
    }

    fn drop_delivered(&mut self, page: &[(HintKey, Bytes)]) -> Result<usize, Box<dyn Error>> {
        let operations = page.iter().map(|(key, hint)| {
            let HintKey { target, store_key, bits, prefix } = *key;
            let digest = record::verify(&store_key, hint).map_err(|error| format!("{error:?}"))?;
            Ok(HintOperation::Drop { target, view: View { prefix, bits, lo: 1, hi: 1 }, store_key, digest })
        });
        let operations = operations.collect::<Result<_, String>>()?;
        self.submit(operations)
    }

    fn submit(&mut self, operations: Vec<HintOperation>) -> Result<usize, Box<dyn Error>> {
        let count = operations.len();
        let submissions =
            operations.into_iter().map(|operation| HintSubmission { token: Some(0), operation }).collect();
        self.store.hints().submit(&self.queue, submissions).map_err(|rejected| rejected.failure.message)?;
        self.wait(count)
    }

    fn wait(&mut self, count: usize) -> Result<usize, Box<dyn Error>> {
        let (mut ended, mut arrived) = (0, Vec::new());
        while ended < count {
            self.runtime.block_on(self.queue.arrived());
            self.queue.drain(&mut arrived);
            for completion in arrived.drain(..) {
                match completion.progress {
                    Progress::Finished(WriteOutcome::Stored) => ended += 1,
                    other => return Err(format!("{other:?}").into()),
                }
            }
        }
        Ok(count)
    }

    /// A record that replaces every earlier one of its key when it is merged with it.
    fn record(&mut self, key: u64) -> (View, Address, Bytes) {
        self.count += 1;
        let address = Address::new(Bytes::from_static(b"default"), Bytes::from(format!("key-{key:012}")));
        let view = View { prefix: address.store_key.id().prefix(BITS), bits: BITS, lo: 1, hi: 1 };
        let bytes = Bytes::from(self.count.to_le_bytes().repeat(VALUE_BYTES.div_ceil(8))).slice(..VALUE_BYTES);
        let content = Content::Value { hash: xxhash_rust::xxh3::xxh3_128(&bytes), bytes };
        let dot = Dot { actor: Actor(1), seq: self.count };
        let mut object = Object::new();
        object.put(&Seen::default(), Version { dot, op_id: OpId::NONE, clock: self.count, expires: 0, content });
        let record = record::encode(&address, &object).into();
        (view, address, record)
    }
}

/// Operations a second of `work`, which does some and says how many.
fn rate(mut work: impl FnMut() -> Result<usize, Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let (began, mut done) = (Instant::now(), 0);
    while began.elapsed() < PHASE {
        done += work()?;
    }
    Ok(done as f64 / began.elapsed().as_secs_f64())
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_time().build()
}
