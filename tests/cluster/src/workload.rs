//! Clients that read and write while things happen, and write down what they asked and what they were told.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quorate::{Bucket, Client, Context, Error, Level, Lookup, Stored};
use quorate_history::{Basis, Kind, Stage};
use tokio::task::JoinHandle;

use crate::{random::Random, recorder::Recorder, values};

/// The bucket in which the workload's keys stand.
pub const BUCKET: &str = "default";

/// How clients behave.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// The level of everything they do.
    pub level: Level,
    /// Over how many keys.
    pub keys: u64,
    /// How many of a hundred operations read; of the others most replace what was read, some add beside it, some delete.
    pub reads_percent: u64,
    /// Length of values, at most.
    pub value_bytes_max: u64,
    /// Time between the end of an operation and the next.
    pub pause: Duration,
}

/// What became of the operations, besides the history.
#[derive(Debug, Default)]
pub struct Tally {
    /// Operations that succeeded.
    pub succeeded: AtomicU64,
    /// Failed ones by the error's code.
    pub failed: Mutex<BTreeMap<&'static str, u64>>,
    /// The longest time an operation took beyond its deadline, in microseconds.
    pub late_us: AtomicU64,
    /// Of the writes that were acknowledged: those in which a stand-in had a part.
    pub with_stand_ins: AtomicU64,
}

/// Clients at work.
pub struct Workload {
    /// What they do.
    pub recorder: Arc<Recorder>,
    /// How it goes.
    pub tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    processes: Vec<JoinHandle<()>>,
}

/// One process: it does one thing at a time.
struct Process {
    number: u32,
    bucket: Bucket,
    timeout: Duration,
    habits: Habits,
    recorder: Arc<Recorder>,
    tally: Arc<Tally>,
    random: Random,
    /// What it saw of each key last.
    seen: BTreeMap<String, Context>,
}

impl Workload {
    /// Lets processes of these numbers share `clients`, whose operations have `timeout`.
    pub fn start(
        clients: &[Client],
        processes: Range<u32>,
        timeout: Duration,
        habits: Habits,
        recorder: Arc<Recorder>,
        seed: u64,
    ) -> Self {
        let (tally, stop) = (Arc::<Tally>::default(), Arc::<AtomicBool>::default());
        let mut handles = Vec::new();
        for number in processes {
            let client = &clients[number as usize % clients.len()];
            let mut process = Process {
                number,
                bucket: client.bucket(BUCKET).level(habits.level).timeout(timeout),
                timeout,
                habits,
                recorder: Arc::clone(&recorder),
                tally: Arc::clone(&tally),
                random: Random::new(seed ^ u64::from(number) << 32),
                seen: BTreeMap::new(),
            };
            let stop = Arc::clone(&stop);
            handles.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    process.step().await;
                    tokio::time::sleep(process.habits.pause).await;
                }
            }));
        }
        Self { recorder, tally, stop, processes: handles }
    }

    /// Lets every process finish what it is at.
    ///
    /// # Panics
    /// When a process did.
    pub async fn finish(self) -> (Arc<Recorder>, Arc<Tally>) {
        self.stop.store(true, Ordering::Relaxed);
        for process in self.processes {
            process.await.expect("a process of the workload does not panic");
        }
        (self.recorder, self.tally)
    }
}

impl Tally {
    /// All failures by code, as text.
    pub fn failures(&self) -> String {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.iter().map(|(code, count)| format!("{count} {code}")).collect::<Vec<_>>().join(", ")
    }

    /// How many failed.
    pub fn failed_count(&self) -> u64 {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

impl Process {
    async fn step(&mut self) {
        let key = format!("k{}", self.random.below(self.habits.keys));
        if self.random.below(100) < self.habits.reads_percent {
            return self.read(&key).await;
        }
        match (self.random.below(20), self.seen.remove(&key)) {
            (0, Some(context)) if !context.is_empty() => self.delete(&key, context).await,
            (0..=15, Some(context)) => self.put(&key, context).await,
            // To be replaced, something must have been read; without that, values would only pile up.
            (0..=15, None) => self.read(&key).await,
            (_, _) => self.put(&key, Context::EMPTY).await,
        }
    }

    async fn read(&mut self, key: &str) {
        let begun = self.recorder.read(self.number, key, is_strict(self.habits.level));
        let started = Instant::now();
        let answer = self.bucket.get(key).lookup().await;
        self.count(started, answer.as_ref().err());
        match answer {
            Ok(lookup) => {
                let ids = lookup.siblings().iter().map(|sibling| values::decode(&sibling.value)).collect();
                self.recorder.end(begun, Stage::Ok, ids, Some(name(lookup.context())));
                self.saw(key, lookup);
            }
            Err(_) => self.recorder.end(begun, Stage::Fail, Vec::new(), None),
        }
    }

    async fn put(&mut self, key: &str, context: Context) {
        let id = self.recorder.id();
        let length = self.random.below(self.habits.value_bytes_max) as usize;
        let put = self.bucket.put(key, values::encode(id, length)).context(&context);
        let begun = self.recorder.write(self.number, Kind::Put, key, is_strict(self.habits.level), id, basis(&context));
        let started = Instant::now();
        let answer = put.await;
        self.count(started, answer.as_ref().err());
        self.wrote(key, begun, answer);
    }

    async fn delete(&mut self, key: &str, context: Context) {
        let id = self.recorder.id();
        let delete = self.bucket.delete(key).context(&context);
        let strict = is_strict(self.habits.level);
        let begun = self.recorder.write(self.number, Kind::Delete, key, strict, id, basis(&context));
        let started = Instant::now();
        let answer = delete.await;
        self.count(started, answer.as_ref().err());
        self.wrote(key, begun, answer);
    }

    fn wrote(&mut self, key: &str, begun: crate::recorder::Begun, answer: Result<Stored, Error>) {
        match answer {
            Ok(stored) => {
                let has_stand_ins = stored.receipt.stand_ins > 0;
                self.tally.with_stand_ins.fetch_add(u64::from(has_stand_ins), Ordering::Relaxed);
                let context = stored.context.filter(|context| !context.is_empty());
                self.recorder.end(begun, Stage::Ok, Vec::new(), context.as_ref().map(name));
                if let Some(context) = context {
                    self.seen.insert(key.to_owned(), context);
                }
            }
            Err(error) if error.maybe_applied() => self.recorder.end(begun, Stage::Unclear, Vec::new(), None),
            Err(_) => self.recorder.end(begun, Stage::Fail, Vec::new(), None),
        }
    }

    fn saw(&mut self, key: &str, lookup: Lookup) {
        self.seen.insert(key.to_owned(), lookup.context().clone());
    }

    fn count(&self, started: Instant, error: Option<&Error>) {
        let late = started.elapsed().saturating_sub(self.timeout);
        self.tally.late_us.fetch_max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        match error {
            None => drop(self.tally.succeeded.fetch_add(1, Ordering::Relaxed)),
            Some(error) => {
                *self.tally.failed.lock().unwrap_or_else(PoisonError::into_inner).entry(error.code()).or_default() += 1;
            }
        }
    }
}

/// Whether a level promises that reads see writes that were acknowledged before.
pub fn is_strict(level: Level) -> bool {
    match level {
        Level::Quorum | Level::All => true,
        Level::One | Level::Available => false,
    }
}

fn basis(context: &Context) -> Basis {
    if context.is_empty() { Basis::Beside } else { Basis::Context(name(context)) }
}

/// A short name for a context.
fn name(context: &Context) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(context.as_bytes()))
}
