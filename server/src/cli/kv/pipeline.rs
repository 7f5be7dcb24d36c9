//! Many records under way at once: what `kv load` and `kv verify` share.
//!
//! A fixed number of slots take lines in order and work on one each. Records of one key are worked on one after the other
//! in the order of their lines, so that the last line of a key wins as it would in a loop. What is done is remembered as a
//! contiguous prefix; a refused record is done, too, once it has been reported.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io::Write,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    sync::{Mutex, watch},
    time::{interval, sleep},
};

use super::{
    prefix::Prefix,
    source::{Item, Source},
};
use crate::cli::{
    exit::CommandError,
    jsonl::{Line, Place, Record},
    progress::Progress,
};

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(125);

/// How often the state for resumption is saved: what a kill makes to be done twice.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How long operations under way may still end after an interrupt.
const INTERRUPT_GRACE: Duration = Duration::from_secs(5);

/// What becomes of a record.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Done.
    Done,
    /// Not done and not to be tried again; the reason.
    Refused(String),
    /// Nothing more can be done: the whole command ends.
    Stop(CommandError),
}

/// What is done with each record.
pub(super) trait Work {
    /// Works on one record; gives up early when `stop` says that the command ends.
    async fn one(&self, record: Record, stop: &Stop) -> Verdict;
}

/// Says when a command is to end before its input does.
#[derive(Clone, Debug)]
pub(super) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// For commands that are simply cut off.
    pub(super) fn never() -> Self {
        Self(watch::channel(false).1)
    }

    /// Waits until it is to end.
    pub(super) async fn wait(&self) {
        if self.0.clone().wait_for(|stop| *stop).await.is_err() {
            // Nobody can say it any more.
            std::future::pending::<()>().await;
        }
    }

    /// Sleeps; `false` if the command is to end meanwhile.
    pub(super) async fn sleep(&self, time: Duration) -> bool {
        select! {
            () = sleep(time) => true,
            () = self.wait() => false,
        }
    }
}

/// What a pipeline tells while it runs.
pub(super) trait Observer {
    /// A record was refused.
    fn refused(&mut self, place: Place, reason: &str) -> Result<(), CommandError>;
    /// Everything up to `done` is done; called now and then, and at the end.
    fn save(&mut self, done: Place, counts: &Counts) -> Result<(), CommandError>;
}

/// How many of which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Records that were done in this run.
    pub(super) done: u64,
    /// Records that were refused.
    pub(super) refused: u64,
    /// Bytes of keys and values of those done.
    pub(super) bytes: u64,
}

/// How a pipeline ended.
#[derive(Debug)]
pub(super) enum End {
    /// At the end of its input.
    Complete,
    /// By a signal.
    Interrupted,
    /// By a record that stopped everything.
    Stopped(CommandError),
}

/// Takes every record from `source` to `work`, `in_flight` at a time.
pub(super) async fn run<O: Observer>(
    source: &Source,
    work: &impl Work,
    in_flight: usize,
    start: Place,
    observer: O,
    progress: &mut Progress,
) -> Result<(End, Counts), CommandError> {
    let (stopper, stop) = watch::channel(false);
    let shared = Shared {
        prefix: RefCell::new(Prefix::new(start)),
        counts: Cell::new(Counts::default()),
        observer: RefCell::new(observer),
        keys: RefCell::new(HashMap::new()),
        failure: RefCell::new(None),
        stopper,
        stop: Stop(stop),
    };
    let mut interrupts = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut interrupted = false;
    let mut ticks = interval(TICK);
    let mut saved = Instant::now();
    {
        let mut slots = std::pin::pin!(join_all((0..in_flight).map(|_| shared.slot(source, work))));
        let mut grace = std::pin::pin!(async {
            shared.stop.wait().await;
            sleep(INTERRUPT_GRACE).await;
        });
        loop {
            select! {
                _ = &mut slots => break,
                () = &mut grace => break,
                _ = ticks.tick() => {
                    let (done, counts) = (shared.prefix.borrow().done(), shared.counts.get());
                    progress.show(done.end_offset, counts.done);
                    if saved.elapsed() >= SAVE_EVERY {
                        shared.observer.borrow_mut().save(done, &counts)?;
                        saved = Instant::now();
                    }
                }
                _ = interrupts.0.recv() => { interrupted = true; let _ = shared.stopper.send(true); }
                _ = interrupts.1.recv() => { interrupted = true; let _ = shared.stopper.send(true); }
            }
        }
    }
    progress.finish();
    let counts = shared.counts.get();
    shared.observer.borrow_mut().save(shared.prefix.borrow().done(), &counts)?;
    let end = match (shared.failure.into_inner(), interrupted) {
        (_, true) => End::Interrupted,
        (Some(error), false) => End::Stopped(error),
        (None, false) => End::Complete,
    };
    Ok((end, counts))
}

/// The bucket, if the line names one, and the key.
type BucketAndKey = (Option<String>, Bytes);

/// Held by the slot that works on a key.
type Turn = Rc<Mutex<()>>;

/// What the slots share.
struct Shared<O> {
    prefix: RefCell<Prefix<Place>>,
    counts: Cell<Counts>,
    observer: RefCell<O>,
    /// Keys under way; whoever comes second waits its turn.
    keys: RefCell<HashMap<BucketAndKey, Turn>>,
    failure: RefCell<Option<CommandError>>,
    stopper: watch::Sender<bool>,
    stop: Stop,
}

impl<O: Observer> Shared<O> {
    async fn slot(&self, source: &Source, work: &impl Work) {
        loop {
            let item = select! {
                biased;
                () = self.stop.wait() => return,
                item = self.take(source) => item,
            };
            let Some(item) = item else { return };
            let Item { place, line, .. } = &item;
            let number = self.prefix.borrow_mut().start(*place);
            let bytes = match line {
                Line::Record(record) => record.weight_bytes() as u64,
                Line::Blank | Line::Bad(_) => 0,
            };
            let counted = matches!(line, Line::Record(_));
            let verdict = match line {
                Line::Blank => Verdict::Done,
                Line::Bad(reason) => Verdict::Refused(reason.clone()),
                Line::Record(record) => self.in_turn(record.clone(), work).await,
            };
            let finished = match verdict {
                Verdict::Done => {
                    self.count(|counts| {
                        counts.done += u64::from(counted);
                        counts.bytes += bytes;
                    });
                    Ok(())
                }
                Verdict::Refused(reason) => {
                    self.count(|counts| counts.refused += 1);
                    self.observer.borrow_mut().refused(*place, &reason)
                }
                Verdict::Stop(error) => Err(error),
            };
            match finished {
                Ok(()) => self.prefix.borrow_mut().finish(number),
                Err(error) => {
                    self.fail(error);
                    return;
                }
            }
        }
    }

    /// The next line, when the window has room for it.
    async fn take(&self, source: &Source) -> Option<Item> {
        while self.prefix.borrow().is_full() {
            // One record holds up tens of thousands: it waits for a node that is down. No need to be quick here.
            sleep(TICK).await;
        }
        match source.next().await? {
            Ok(item) => Some(item),
            Err(error) => {
                self.fail(error.into());
                None
            }
        }
    }

    /// Works on a record when those of the same key before it are done.
    async fn in_turn(&self, record: Record, work: &impl Work) -> Verdict {
        let key = (record.bucket.clone(), record.key.clone());
        let turn = self.keys.borrow_mut().entry(key.clone()).or_default().clone();
        let held = turn.lock().await;
        let verdict = work.one(record, &self.stop).await;
        drop(held);
        // The map and this function hold one each; more means that somebody waits.
        if Rc::strong_count(&turn) == 2 {
            self.keys.borrow_mut().remove(&key);
        }
        verdict
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// Keeps the first failure and ends the command.
    fn fail(&self, error: CommandError) {
        self.failure.borrow_mut().get_or_insert(error);
        let _ = self.stopper.send(true);
    }
}

/// Tells about refused records: on standard error, and in a file of JSON lines.
#[derive(Debug)]
pub(super) struct Rejects {
    file: Option<std::io::BufWriter<std::fs::File>>,
}

impl Rejects {
    /// Appends to `path`, or only writes to standard error.
    pub(super) fn open(path: Option<&std::path::Path>, append: bool) -> Result<Self, CommandError> {
        let open = |path| {
            std::fs::OpenOptions::new()
                .create(true)
                .write(true)
                .append(append)
                .truncate(!append)
                .open(path)
                .map_err(|error| CommandError::file("write", path, &error))
        };
        Ok(Self { file: path.map(open).transpose()?.map(std::io::BufWriter::new) })
    }

    /// Reports one.
    pub(super) fn report(&mut self, place: Place, reason: &str) -> Result<(), CommandError> {
        if let Some(file) = &mut self.file {
            let line = serde_json::json!({"line": place.line, "reason": reason});
            writeln!(file, "{line}")?;
        }
        eprintln!("line {}: {reason}", place.line);
        Ok(())
    }

    /// Makes sure that what was reported is in the file.
    pub(super) fn flush(&mut self) -> Result<(), CommandError> {
        self.file.as_mut().map_or(Ok(()), |file| file.flush()).map_err(CommandError::from)
    }
}
