//! What the client has to say beside its answers, for the logging of another language.
//!
//! A library that is loaded by an interpreter has a private copy of everything it is linked with, `tracing` included: [`install`] makes
//! this the subscriber of that copy. I/O threads only note records, in a ring that forgets the oldest; the interpreter drains it when it
//! runs anyway. Spans are not recorded.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::SystemTime,
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::Interest,
};

pub use tracing::Level;

/// Records that wait to be drained. Warnings are rare; a flood of them says the same thing many times.
const RECORDS_MAX: usize = 4096;

/// Bytes of one message. The rest is cut off: a message is for people.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Above the rank of every level.
const SILENCE: u8 = u8::MAX;

/// Something that happened in the client.
#[derive(Clone, Debug)]
pub struct Record {
    /// How bad it is.
    pub level: Level,
    /// Which part of the client says so: `quorate::driver`.
    pub target: &'static str,
    /// What happened, with its fields as `key=value`.
    pub message: String,
    /// When.
    pub at: SystemTime,
}

/// Begins to record, from `level` up. Says whether it does: where a program has a subscriber of its own, that stays. May be called again
/// to change the level.
pub fn install(level: Level) -> bool {
    LEVEL.store(rank(&level), Ordering::Relaxed);
    if !INSTALLED.swap(true, Ordering::SeqCst) && tracing::subscriber::set_global_default(Ring).is_err() {
        INSTALLED.store(false, Ordering::SeqCst);
        return false;
    }
    true
}

/// Records nothing any more, until [`install`] is called again.
pub fn silence() {
    LEVEL.store(SILENCE, Ordering::Relaxed);
}

/// Has `wake` called when there are records and nobody was woken since they were drained last. Called on whichever thread has something
/// to say, without any lock held; it must not say anything itself.
pub fn on_records(wake: impl Fn() + Send + Sync + 'static) {
    lock().wake = Some(std::sync::Arc::new(wake));
}

/// Moves all records to the end of `into`, and says how many were forgotten since the last time because there were too many.
pub fn drain(into: &mut Vec<Record>) -> u64 {
    let mut records = lock();
    records.woken = false;
    into.extend(records.ring.drain(..));
    std::mem::take(&mut records.forgotten)
}

/// In a child of `fork`: begins without records and without anybody to wake. Those of the parent stay with it.
pub(super) fn forked_child() {
    // Nobody but this thread is there to set it.
    _ = current().next.set(Box::new(Generation::new()));
}

static INSTALLED: AtomicBool = AtomicBool::new(false);
static LEVEL: AtomicU8 = AtomicU8::new(0);
static FIRST: Generation = Generation::new();

/// The records of one process, and those of the child that it became by `fork`, if it did. A thread of the parent may have held the lock
/// in that moment; in the child it would stay locked for ever, so the child has another.
struct Generation {
    records: Mutex<Records>,
    next: OnceLock<Box<Self>>,
}

struct Records {
    ring: VecDeque<Record>,
    forgotten: u64,
    woken: bool,
    wake: Option<std::sync::Arc<dyn Fn() + Send + Sync>>,
}

impl Generation {
    const fn new() -> Self {
        let records = Records { ring: VecDeque::new(), forgotten: 0, woken: false, wake: None };
        Self { records: Mutex::new(records), next: OnceLock::new() }
    }
}

/// The subscriber.
struct Ring;

impl Subscriber for Ring {
    fn register_callsite(&self, _metadata: &'static Metadata<'static>) -> Interest {
        // The level may change, so it is asked every time; what is said is rare.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && rank(metadata.level()) >= LEVEL.load(Ordering::Relaxed)
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let record = Record {
            level: *metadata.level(),
            target: metadata.target(),
            message: text.message + &text.fields,
            at: SystemTime::now(),
        };
        note(record);
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

/// An event's message and its other fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let is_message = field.name() == "message";
        let into = if is_message { &mut self.message } else { &mut self.fields };
        let written = match is_message {
            true => write!(into, "{value:?}"),
            false => write!(into, " {}={value:?}", field.name()),
        };
        // A value that can't be shown is left out.
        let _ = written;
        if into.len() > MESSAGE_BYTES_MAX {
            let end = (0..=MESSAGE_BYTES_MAX).rev().find(|at| into.is_char_boundary(*at)).unwrap_or(0);
            into.truncate(end);
        }
    }
}

/// Larger is worse.
fn rank(level: &Level) -> u8 {
    match *level {
        Level::TRACE => 0,
        Level::DEBUG => 1,
        Level::INFO => 2,
        Level::WARN => 3,
        Level::ERROR => 4,
    }
}

fn note(record: Record) {
    let mut records = lock();
    if records.ring.len() == RECORDS_MAX {
        records.ring.pop_front();
        records.forgotten += 1;
    }
    records.ring.push_back(record);
    let wake = if std::mem::replace(&mut records.woken, true) { None } else { records.wake.clone() };
    drop(records);
    wake.into_iter().for_each(|wake| wake());
}

fn lock() -> MutexGuard<'static, Records> {
    current().records.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last: this process's own.
fn current() -> &'static Generation {
    let mut own = &FIRST;
    while let Some(next) = own.next.get() {
        own = next;
    }
    own
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        thread,
        time::{Duration, SystemTime},
    };

    use super::{Level, Record, drain, lock, note, on_records};
    use crate::bridge;

    fn say(message: &str) {
        note(Record { level: Level::WARN, target: "test", message: message.to_owned(), at: SystemTime::now() });
    }

    /// As in a child, where the thread that holds the parent's lock does not exist: it is not released before the end.
    #[test]
    fn a_child_records_although_the_parents_lock_is_never_released() {
        say("of the parent");
        let held = lock();
        for generation in 1..4 {
            bridge::forked_child();
            let (done, child) = mpsc::channel();
            thread::spawn(move || {
                let wakes = Arc::new(AtomicUsize::new(0));
                let counted = Arc::clone(&wakes);
                on_records(move || _ = counted.fetch_add(1, Ordering::SeqCst));
                say("of the child");
                let mut records = Vec::new();
                let forgotten = drain(&mut records);
                let messages: Vec<_> = records.into_iter().map(|record| record.message).collect();
                done.send((messages, forgotten, wakes.load(Ordering::SeqCst))).unwrap();
            });
            let seen =
                child.recv_timeout(Duration::from_secs(20)).expect("the child does not wait for the parent's lock");
            assert_eq!(seen, (vec!["of the child".to_owned()], 0, 1), "generation {generation}");
        }
        let parents: Vec<_> = held.ring.iter().map(|record| &record.message[..]).collect();
        assert_eq!(parents, ["of the parent"], "the parent's records stay with it");
    }
}
