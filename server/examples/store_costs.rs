//! What the store costs beside the engine alone: durable writes at several group sizes, and warm reads on one core.
//!
//! `cargo run --release -p quorate-server --example store_costs -- [DIRECTORY [KEYS]]`: the directory must be on the disk that
//! is to be measured and is used up; the default is a temporary one and a million keys of 100-byte values.

use std::{
    env,
    error::Error,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{
    ident::{NodeId, OpId},
    layout::View,
    operation::Address,
    peer::{PeerAction, PeerOperation, PeerResult},
    replica::{MintBasis, Write, WriteOperation, WriteOutcome},
    version::Content,
};
use server::store::{CompletionQueue, Progress, RawEngine, Store, StoreConfig, Submission};

const VALUE_BYTES: usize = 100;
const BITS: u8 = 8;
const GROUPS: [usize; 4] = [1, 64, 256, 1024];
const READ_BATCHES: [usize; 3] = [1, 64, 1024];

/// Long enough for a few hundred commits of the largest group.
const PHASE: Duration = Duration::from_secs(4);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let temporary = tempfile::tempdir()?;
    let directory = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let keys = match arguments.next() {
        Some(keys) => keys.to_string_lossy().replace('_', "").parse()?,
        None => 1_000_000,
    };
    let raw_directory = directory.join("raw");
    let config = StoreConfig {
        founding: Some(Vec::new()),
        is_filesystem_forced: true,
        ..StoreConfig::new(directory.join("store"), 1, NodeId(1))
    };
    let store = Store::open(&config)?;
    store
        .hold((0..1 << BITS).map(|prefix| View { prefix, bits: BITS, lo: 1, hi: 1 }))
        .map_err(|failure| failure.message)?;
    let shards = store.identity().shards;
    println!("{keys} keys, values of {VALUE_BYTES} bytes, {shards} shard(s), {}", directory.display());

    let mut worker = Worker { store: &store, queue: CompletionQueue::new(), runtime: runtime()?, numbers: 1 };
    let began = Instant::now();
    let mut record = Vec::new();
    for first in (0..keys).step_by(8192) {
        record = worker.put((first..keys.min(first + 8192)).collect())?;
    }
    println!("store: loaded in {:.1} s, records of {} bytes", began.elapsed().as_secs_f64(), record.len());
    let raw = RawEngine::create(&raw_directory)?;
    let began = Instant::now();
    for first in (0..keys).step_by(8192) {
        put_raw(&raw, (first..keys.min(first + 8192)).collect(), &record)?;
    }
    println!("raw:   loaded in {:.1} s\n", began.elapsed().as_secs_f64());

    println!("{:>28} {:>12} {:>12} {:>7}", "", "store", "raw LMDB", "ratio");
    for size in GROUPS {
        let of_store = rate(|| worker.put_random(size, keys))?;
        let mut numbers = 7;
        let of_raw = rate(|| {
            let chosen = (0..size).map(|_| random(&mut numbers) % keys).collect();
            put_raw(&raw, chosen, &record).map(|()| size)
        })?;
        print_row(&format!("puts/s, {size} per commit"), of_store, of_raw);
    }
    for size in READ_BATCHES {
        let mut numbers = 11;
        let (mut operations, mut results) = (Vec::new(), Vec::new());
        let of_store = rate_of(|spent| {
            operations.clear();
            operations.extend((0..size).map(|_| read(random(&mut numbers) % keys)));
            spent(&mut || {
                results.clear();
                store.snapshot().read_all(&operations, &mut results);
                results.iter().filter(|result| matches!(result, PeerResult::Record(_))).count()
            })
        });
        let mut chosen = Vec::new();
        let of_raw = rate_of(|spent| {
            chosen.clear();
            chosen.extend((0..size).map(|_| address(random(&mut numbers) % keys).store_key.0));
            spent(&mut || raw.read_all(chosen.iter()).map_or(0, |(found, _)| found as usize))
        });
        print_row(&format!("reads/s, {size} per snapshot"), of_store, of_raw);
    }
    let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    memory.lines().filter(|line| line.starts_with("Rss")).for_each(|line| println!("{line}"));
    println!("{:#?}", store.status());
    Ok(())
}

struct Worker<'s> {
    store: &'s Store,
    queue: Arc<CompletionQueue>,
    runtime: tokio::runtime::Runtime,
    numbers: u64,
}

impl Worker<'_> {
    fn put_random(&mut self, size: usize, keys: u64) -> Result<usize, Box<dyn Error>> {
        let chosen = (0..size).map(|_| random(&mut self.numbers) % keys).collect();
        self.put(chosen).map(|_| size)
    }

    /// Writes a value under each key and waits until all are durable; one of the records.
    fn put(&mut self, keys: Vec<u64>) -> Result<Vec<u8>, Box<dyn Error>> {
        let mut by_shard: Vec<Vec<Submission>> = Vec::new();
        let count = keys.len();
        for key in keys {
            let operation = put(key, random(&mut self.numbers));
            let shard = self.store.shard_of(&operation.store_key());
            by_shard.resize_with(by_shard.len().max(shard + 1), Vec::new);
            by_shard[shard].push(Submission { token: Some(key), operation });
        }
        for (shard, submissions) in by_shard.into_iter().enumerate().filter(|(_, list)| !list.is_empty()) {
            self.store.submit(shard, &self.queue, submissions).map_err(|rejected| rejected.failure.message)?;
        }
        let (mut ended, mut arrived, mut record) = (0, Vec::new(), Vec::new());
        while ended < count {
            self.runtime.block_on(self.queue.arrived());
            self.queue.drain(&mut arrived);
            for completion in arrived.drain(..) {
                match completion.progress {
                    Progress::Minted(_) => {}
                    Progress::Finished(WriteOutcome::Minted(minted)) => {
                        ended += 1;
                        record = minted.record.to_vec();
                    }
                    Progress::Finished(other) => return Err(format!("{other:?}").into()),
                }
            }
        }
        Ok(record)
    }
}

fn put_raw(raw: &RawEngine, keys: Vec<u64>, record: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut keys: Vec<[u8; 32]> = keys.into_iter().map(|key| address(key).store_key.0).collect();
    keys.sort_unstable();
    Ok(raw.put_all(keys.iter().map(|key| (key, record)))?)
}

fn address(key: u64) -> Address {
    Address::new(Bytes::from_static(b"default"), Bytes::from(format!("key-{key:012}")))
}

fn view(address: &Address) -> View {
    View { prefix: address.store_key.id().prefix(BITS), bits: BITS, lo: 1, hi: 1 }
}

fn put(key: u64, number: u64) -> WriteOperation {
    let address = address(key);
    let bytes = Bytes::from(number.to_le_bytes().repeat(VALUE_BYTES.div_ceil(8))).slice(..VALUE_BYTES);
    let content = Content::Value { hash: xxhash_rust::xxh3::xxh3_128(&bytes), bytes };
    let op_id = OpId { client: 1, sequence: number };
    let write = Write { content, basis: MintBasis::Local, op_id, seen_clock: 0, wall_ms: 1, expires: 0 };
    WriteOperation::Mint { view: view(&address), address, write }
}

fn read(key: u64) -> PeerOperation {
    let address = address(key);
    PeerOperation { view: view(&address), store_key: address.store_key, action: PeerAction::Read }
}

/// Operations a second of `work`, which does some and says how many.
fn rate(mut work: impl FnMut() -> Result<usize, Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let (began, mut done) = (Instant::now(), 0);
    while began.elapsed() < PHASE {
        done += work()?;
    }
    Ok(done as f64 / began.elapsed().as_secs_f64())
}

/// Operations a second, counting only the time inside of what `work` hands to its argument.
fn rate_of(mut work: impl FnMut(&mut dyn FnMut(&mut dyn FnMut() -> usize))) -> f64 {
    let (began, mut done, mut spent) = (Instant::now(), 0, Duration::ZERO);
    while began.elapsed() < PHASE {
        work(&mut |part| {
            let began = Instant::now();
            done += part();
            spent += began.elapsed();
        });
    }
    done as f64 / spent.as_secs_f64()
}

fn print_row(what: &str, of_store: f64, of_raw: f64) {
    println!("{what:>28} {of_store:>12.0} {of_raw:>12.0} {:>7.2}", of_store / of_raw);
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
