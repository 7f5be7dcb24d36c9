//! What the hash trees cost: puts a second with and without them, in one run and in turns, so that whatever else the machine does
//! troubles both alike; processor time and bytes written for each put, which it does not trouble at all; and the memory they take.
//!
//! `cargo run --release -p quorate-server --example tree_costs -- [DIRECTORY [KEYS]]`: the directory must be on the disk that is
//! to be measured and is used up; the default is a temporary one and a million keys of 100-byte values.

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{
    ident::{NodeId, OpId},
    layout::View,
    operation::Address,
    replica::{MintBasis, Write, WriteOperation, WriteOutcome},
    version::Content,
};
use server::store::{CompletionQueue, OpenError, Progress, Store, StoreConfig, Submission};

const VALUE_BYTES: usize = 100;
const BITS: u8 = 8;
const GROUPS: [usize; 4] = [1, 64, 256, 1024];

/// How long each group size is measured. The two take turns commit by commit.
const PHASE: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let temporary = tempfile::tempdir()?;
    let directory = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let keys: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.to_string_lossy().replace('_', "").parse())?;
    let with = open(&directory.join("with"), Store::open)?;
    let without = open(&directory.join("without"), Store::open_without_trees)?;
    let mut workers = [Worker::new(&with)?, Worker::new(&without)?];
    println!(
        "{keys} keys, values of {VALUE_BYTES} bytes, {} shard(s), {}",
        with.identity().shards,
        directory.display()
    );
    for worker in &mut workers {
        let began = Instant::now();
        for first in (0..keys).step_by(8_192) {
            worker.put((first..keys.min(first + 8_192)).collect())?;
        }
        println!("loaded in {:.1} s", began.elapsed().as_secs_f64());
    }
    let bytes = with.tree_bytes();
    println!("memory of the trees: {bytes} bytes, {:.2} for each key\n", bytes as f64 / keys as f64);

    println!("{:>16} {:>9} {:>9} {:>7} {:>9} {:>9} {:>9}", "", "with", "without", "cost", "median", "CPU", "bytes");
    for size in GROUPS {
        let (mut spent, mut ratios) = ([Spent::default(); 2], Vec::new());
        let began = Instant::now();
        for round in 0.. {
            if began.elapsed() > PHASE {
                break;
            }
            let mut rates = [0.0; 2];
            // Who goes first takes turns, too.
            for turn in 0..2 {
                let at = (round + turn) % 2;
                let now = workers[at].work(size, keys)?;
                rates[at] = now.puts / now.seconds;
                spent[at].add(&now);
            }
            ratios.push(rates[0] / rates[1]);
        }
        ratios.sort_by(f64::total_cmp);
        let [with, without] = spent;
        let rate = |spent: &Spent| spent.puts / spent.seconds;
        let more = |of: fn(&Spent) -> f64| 100.0 * (of(&with) / with.puts / (of(&without) / without.puts) - 1.0);
        println!(
            "{:>16} {:>9.0} {:>9.0} {:>6.1}% {:>8.1}% {:>8.1}% {:>8.1}%",
            format!("{size} per commit"),
            rate(&with),
            rate(&without),
            100.0 * (1.0 - rate(&with) / rate(&without)),
            100.0 * (1.0 - ratios[ratios.len() / 2]),
            more(|spent| spent.cpu_seconds),
            more(|spent| spent.written_bytes)
        );
    }
    Ok(())
}

/// What was done, and what it took.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    puts: f64,
    seconds: f64,
    cpu_seconds: f64,
    written_bytes: f64,
}

impl Spent {
    fn add(&mut self, other: &Self) {
        self.puts += other.puts;
        self.seconds += other.seconds;
        self.cpu_seconds += other.cpu_seconds;
        self.written_bytes += other.written_bytes;
    }
}

/// Time that all threads of this process have run, by the kernel's account; it does not depend on what else runs.
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    stats.filter_map(|stat| stat.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() / 1e9
}

/// Bytes this process has had written to disk.
fn written_bytes() -> f64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(f64::NAN)
}

fn open(directory: &Path, open: impl Fn(&StoreConfig) -> Result<Store, OpenError>) -> Result<Store, Box<dyn Error>> {
    let founding = Some(Vec::new());
    let config = StoreConfig { founding, is_filesystem_forced: true, ..StoreConfig::new(directory, 1, NodeId(1)) };
    let store = open(&config)?;
    let views = (0..1 << BITS).map(|prefix| View { prefix, bits: BITS, lo: 1, hi: 1 });
    store.hold(views).map_err(|failure| failure.message)?;
    Ok(store)
}

struct Worker<'s> {
    store: &'s Store,
    queue: Arc<CompletionQueue>,
    runtime: tokio::runtime::Runtime,
    numbers: u64,
}

impl<'s> Worker<'s> {
    fn new(store: &'s Store) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok(Self { store, queue: CompletionQueue::new(), runtime, numbers: 1 })
    }

    /// Puts of one commit.
    fn work(&mut self, size: usize, keys: u64) -> Result<Spent, Box<dyn Error>> {
        let chosen = (0..size).map(|_| random(&mut self.numbers) % keys).collect();
        let (cpu, written, began) = (cpu_seconds(), written_bytes(), Instant::now());
        self.put(chosen)?;
        let seconds = began.elapsed().as_secs_f64();
        let (cpu_seconds, written_bytes) = (cpu_seconds() - cpu, written_bytes() - written);
        Ok(Spent { puts: size as f64, seconds, cpu_seconds, written_bytes })
    }

    /// Writes a value under each key and waits until all are durable.
    fn put(&mut self, keys: Vec<u64>) -> Result<(), Box<dyn Error>> {
        let count = keys.len();
        let mut by_shard: Vec<Vec<Submission>> = (0..self.store.identity().shards).map(|_| Vec::new()).collect();
        for key in keys {
            let operation = put(key, random(&mut self.numbers));
            by_shard[self.store.shard_of(&operation.store_key())].push(Submission { token: Some(key), operation });
        }
        for (shard, submissions) in by_shard.into_iter().enumerate().filter(|(_, list)| !list.is_empty()) {
            self.store.submit(shard, &self.queue, submissions).map_err(|rejected| rejected.failure.message)?;
        }
        let (mut ended, mut arrived) = (0, Vec::new());
        while ended < count {
            self.runtime.block_on(self.queue.arrived());
            self.queue.drain(&mut arrived);
            for completion in arrived.drain(..) {
                match completion.progress {
                    Progress::Minted(_) => {}
                    Progress::Finished(WriteOutcome::Minted(_)) => ended += 1,
                    Progress::Finished(other) => return Err(format!("{other:?}").into()),
                }
            }
        }
        Ok(())
    }
}

fn put(key: u64, number: u64) -> WriteOperation {
    let address = Address::new(Bytes::from_static(b"default"), Bytes::from(format!("key-{key:012}")));
    let view = View { prefix: address.store_key.id().prefix(BITS), bits: BITS, lo: 1, hi: 1 };
    let bytes = Bytes::from(number.to_le_bytes().repeat(VALUE_BYTES.div_ceil(8))).slice(..VALUE_BYTES);
    let content = Content::Value { hash: xxhash_rust::xxh3::xxh3_128(&bytes), bytes };
    let op_id = OpId { client: 1, sequence: number };
    let write = Write { content, basis: MintBasis::Local, op_id, seen_clock: 0, wall_ms: 1, expires: 0 };
    WriteOperation::Mint { view, address, write }
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
