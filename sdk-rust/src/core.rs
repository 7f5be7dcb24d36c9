//! The core that every language's client is made of: submit an operation, be told its result, cancel it. Operations enter
//! the queue of an I/O thread; the thread is woken once for as many as have gathered, and results leave it in batches too.

mod queue;
mod slot;

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dynamo::{
    ident::{KEY_BYTES_MAX, OpId, StoreKey, is_bucket_name},
    layout::Layout,
    operation::{Action, Operation, Reply, value_hash},
};
use tokio::sync::oneshot;
use wire::Budget;

use crate::{
    Error,
    bridge::{Calls, Event, Subscribers},
    engine::Submission,
};
pub(crate) use queue::{Contents, Job, Queue};
pub(crate) use slot::Slot;

/// Bytes of replies that a client reads at the same time: two of the largest frames.
pub(crate) const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Is told how an operation ended. Called on an I/O thread, which waits: a completer only notes the result and wakes somebody.
pub trait Completer: Send + Sync {
    /// The operation that was submitted with `token` has ended. Called at most once for each submission.
    fn complete(&self, token: u64, result: Result<Reply, Error>);

    /// Results were handed over by `complete`, and there are no more at this moment. One call for a run of results: the place
    /// to wake somebody, where waking costs more than noting.
    fn flush(&self) {}

    /// Whether anybody still waits for it. If not, it is not sent (again), and `complete` is not called.
    fn is_wanted(&self, token: u64) -> bool {
        let _ = token;
        true
    }
}

/// What all handles and all I/O threads of a client have in common.
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// 64 random bits: the upper half of every operation id.
    client: u64,
    sequence: AtomicU64,
    seen_clock: AtomicU64,
    admitted: AtomicUsize,
    closed: AtomicBool,
    /// The longest value that every node met so far takes.
    value_bytes_max: AtomicU32,
    layout: RwLock<Arc<Layout>>,
    /// Counts the layouts, so that I/O threads see a new one without taking the lock.
    layouts: AtomicU64,
    pub(crate) refresh: Mutex<RefreshState>,
    pub(crate) refreshes: AtomicU64,
    /// Bounds the bytes of replies that are being read.
    pub(crate) replies: Budget,
    pub(crate) queues: Vec<Queue>,
    /// Calls of other languages that are more than one operation.
    pub(crate) calls: Calls,
    pub(crate) subscribers: Subscribers,
    running: Mutex<Running>,
}

/// What a client was told to keep to.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) endpoints: Vec<String>,
    pub(crate) name: String,
    pub(crate) zone: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) attempt_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) attempts_max: u32,
    pub(crate) in_flight_max: usize,
    pub(crate) waiting_max: usize,
    pub(crate) io_threads: usize,
    pub(crate) refresh_interval: Duration,
}

/// One refresh of the layout at a time, and not one after another either.
#[derive(Default)]
pub(crate) struct RefreshState {
    /// One is under way or will begin soon.
    pub(crate) running: bool,
    /// When the next may ask.
    pub(crate) not_before: Option<Instant>,
    /// How many in a row have brought nothing newer.
    pub(crate) fruitless: u32,
}

#[derive(Default)]
struct Running {
    threads: usize,
    waiting: Vec<Box<dyn FnOnce() + Send>>,
}

impl Shared {
    pub(crate) fn new(config: Config, client: u64, layout: Layout) -> Self {
        let threads = config.io_threads;
        Self {
            config,
            client,
            sequence: AtomicU64::new(1),
            seen_clock: AtomicU64::new(0),
            admitted: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            value_bytes_max: AtomicU32::new(u32::MAX),
            layout: RwLock::new(Arc::new(layout)),
            layouts: AtomicU64::new(0),
            refresh: Mutex::default(),
            refreshes: AtomicU64::new(0),
            replies: Budget::new(REPLY_BYTES_MAX),
            queues: (0..threads).map(|_| Queue::default()).collect(),
            calls: Calls::default(),
            subscribers: Subscribers::default(),
            running: Mutex::new(Running { threads, waiting: Vec::new() }),
        }
    }

    /// Takes an operation in, gives it its id, and hands it to an I/O thread. An error means that nothing was done and the
    /// completer will not be called.
    pub(crate) fn submit(
        &self,
        mut operation: Operation,
        deadline: Instant,
        token: u64,
        completer: Arc<dyn Completer>,
    ) -> Result<OpId, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed());
        }
        check(&operation, self.value_bytes_max.load(Ordering::Relaxed))?;
        if self.admitted.fetch_add(1, Ordering::Relaxed) >= self.config.waiting_max {
            self.release(1);
            let message =
                format!("{} operations already wait in this client; nothing was sent", self.config.waiting_max);
            return Err(Error::overloaded(message));
        }
        let id = self.next_id();
        let sequence = id.sequence;
        match &mut operation.action {
            Action::Get { .. } => {}
            Action::Put { value, hash, op_id, seen_clock, .. } => {
                *op_id = id;
                *seen_clock = self.seen_clock.load(Ordering::Relaxed);
                hash.get_or_insert_with(|| value_hash(value));
            }
            Action::Delete { op_id, seen_clock, .. } => {
                *op_id = id;
                *seen_clock = self.seen_clock.load(Ordering::Relaxed);
            }
        }
        let queue = &self.queues[self.thread_of_key(&operation.address.store_key)];
        let submission = Submission { operation, sequence, started: Instant::now(), deadline, token, completer };
        if queue.push(submission) {
            return Ok(id);
        }
        self.release(1);
        Err(Error::closed())
    }

    /// Ends an operation without telling its completer, unless it has ended already.
    pub(crate) fn cancel(&self, id: OpId) {
        if id.client == self.client {
            self.queues.iter().for_each(|queue| queue.cancel(id.sequence));
        }
    }

    /// The next operation's id. Calls that are more than one operation have one, too.
    pub(crate) fn next_id(&self) -> OpId {
        OpId { client: self.client, sequence: self.sequence.fetch_add(1, Ordering::Relaxed) }
    }

    /// The I/O thread that carries out the operations on a key: always the same one.
    pub(crate) fn thread_of_key(&self, store_key: &StoreKey) -> usize {
        usize::from(store_key.0[15]) % self.queues.len()
    }

    /// Operations that have not ended.
    pub(crate) fn admitted(&self) -> usize {
        self.admitted.load(Ordering::Relaxed)
    }

    /// `count` operations have ended.
    pub(crate) fn release(&self, count: usize) {
        self.admitted.fetch_sub(count, Ordering::Relaxed);
    }

    /// A clock came from a node; later writes shall be later.
    pub(crate) fn saw_clock(&self, clock: u64) {
        self.seen_clock.fetch_max(clock, Ordering::Relaxed);
    }

    /// A node said how long values may be.
    pub(crate) fn saw_value_limit(&self, bytes: u32) {
        if bytes > 0 {
            self.value_bytes_max.fetch_min(bytes, Ordering::Relaxed);
        }
    }

    /// The newest layout.
    pub(crate) fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.layout.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many layouts have been published.
    pub(crate) fn layouts(&self) -> u64 {
        self.layouts.load(Ordering::Acquire)
    }

    /// Makes a layout the one to follow, if it is of this cluster and newer than the one that is.
    pub(crate) fn publish(&self, layout: Layout) -> bool {
        let mut current = self.layout.write().unwrap_or_else(PoisonError::into_inner);
        let newer = (layout.generation, layout.epoch) > (current.generation, current.epoch);
        if layout.cluster != current.cluster || !newer {
            return false;
        }
        let event = Event::Topology { epoch: layout.epoch, generation: layout.generation };
        *current = Arc::new(layout);
        self.layouts.fetch_add(1, Ordering::Release);
        drop(current);
        self.queues.iter().for_each(Queue::wake);
        self.subscribers.tell(&event);
        true
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Takes nothing in any more; the I/O threads end when what they have has ended.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.queues.iter().for_each(Queue::wake);
    }

    /// Resolves when every I/O thread has ended.
    pub(crate) fn ended(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.when_ended(move || _ = sender.send(()));
        receiver
    }

    /// Calls `then` when every I/O thread has ended: on the last of them, or here if that has happened already.
    pub(crate) fn when_ended(&self, then: impl FnOnce() + Send + 'static) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.threads > 0 {
            return running.waiting.push(Box::new(then));
        }
        drop(running);
        then();
    }

    /// An I/O thread has ended.
    pub(crate) fn thread_ended(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.threads -= 1;
        let told = if running.threads == 0 { std::mem::take(&mut running.waiting) } else { Vec::new() };
        drop(running);
        told.into_iter().for_each(|then| then());
    }
}

/// Refuses what every node would refuse, before it costs anything.
fn check(operation: &Operation, value_bytes_max: u32) -> Result<(), Error> {
    let address = &operation.address;
    if !is_bucket_name(&address.bucket) {
        return Err(Error::invalid("bucket: a name has 1 to 64 bytes of [A-Za-z0-9._-]; nothing was sent"));
    }
    if address.key.is_empty() {
        return Err(Error::invalid("key: 0 bytes, but a key has 1 to 1024; nothing was sent"));
    }
    if address.key.len() > KEY_BYTES_MAX {
        let got = address.key.len();
        return Err(Error::too_large(format!(
            "key: {got} bytes, but at most {KEY_BYTES_MAX} are allowed; nothing was sent"
        )));
    }
    if let Action::Put { value, .. } = &operation.action
        && value.len() > value_bytes_max as usize
    {
        let got = value.len();
        return Err(Error::too_large(format!(
            "value: {got} bytes, but the nodes allow {value_bytes_max}; nothing was sent"
        )));
    }
    Ok(())
}
