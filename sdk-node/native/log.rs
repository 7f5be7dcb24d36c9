//! What the client has to say beside its answers, for everybody in the process who listens: each environment (the main thread, each
//! worker) drains what it has not seen.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak},
    time::UNIX_EPOCH,
};

use napi::{Status, bindgen_prelude::Function, threadsafe_function::ThreadsafeFunctionCallMode};
use napi_derive::napi;
use quorate::bridge::log::{self, Level, Record};

/// What is not worse than this is not told.
const LEVEL: Level = Level::DEBUG;

/// Records that wait for one environment. The rest of a flood says the same thing again.
const RECORDS_MAX: usize = 4096;

static LISTENERS: Mutex<Vec<Weak<Listener>>> = Mutex::new(Vec::new());
static BEGUN: Once = Once::new();

/// One environment that listens. It stops when this is collected.
#[napi]
pub struct NativeLog(Arc<Listener>);

/// Something that happened in the client.
#[napi(object, object_from_js = false)]
pub struct LogRecord {
    /// How bad it is: `error`, `warn`, `info` or `debug`.
    pub level: String,
    /// Which part of the client says so: `quorate::driver`.
    pub target: &'static str,
    /// What happened, with its fields as `key=value`.
    pub message: String,
    /// When, in milliseconds since 1970.
    pub time_ms: f64,
}

struct Listener {
    records: Mutex<Vec<Record>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[napi]
impl NativeLog {
    /// Begins to listen. `wake` is called when there is something to drain.
    #[napi(constructor, catch_unwind)]
    pub fn new(wake: Function<'_, (), ()>) -> napi::Result<Self> {
        let wake = wake.build_threadsafe_function::<()>().weak::<true>().build()?;
        let wake = Box::new(move || {
            // Refused only once the environment is being torn down, and then nobody reads.
            let _: Status = wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        });
        let listener = Arc::new(Listener { records: Mutex::default(), wake });
        BEGUN.call_once(|| log::on_records(tell));
        let mut listeners = lock(&LISTENERS);
        listeners.push(Arc::downgrade(&listener));
        log::install(LEVEL);
        drop(listeners);
        Ok(Self(listener))
    }

    /// Listens no more. When nobody does, nothing is recorded.
    #[napi(catch_unwind)]
    pub fn stop(&self) {
        let mut listeners = lock(&LISTENERS);
        listeners.retain(|listener| listener.strong_count() > 0 && listener.as_ptr() != Arc::as_ptr(&self.0));
        if listeners.is_empty() {
            log::silence();
        }
    }

    /// What was said since the last time.
    #[napi(catch_unwind)]
    pub fn drain(&self) -> Vec<LogRecord> {
        mem::take(&mut *lock(&self.0.records)).into_iter().map(LogRecord::from).collect()
    }
}

impl Drop for NativeLog {
    /// An environment that ends does not say so.
    fn drop(&mut self) {
        self.stop();
    }
}

impl From<Record> for LogRecord {
    fn from(record: Record) -> Self {
        Self {
            level: record.level.as_str().to_lowercase(),
            target: record.target,
            message: record.message,
            time_ms: record.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3,
        }
    }
}

/// Passes on what has been said to everybody who listens.
fn tell() {
    let mut said = Vec::new();
    log::drain(&mut said);
    let listeners: Vec<Arc<Listener>> = {
        let mut listeners = lock(&LISTENERS);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.iter().filter_map(Weak::upgrade).collect()
    };
    for listener in listeners {
        let mut records = lock(&listener.records);
        let nobody_was_woken = records.is_empty();
        let room = RECORDS_MAX - records.len();
        records.extend(said.iter().take(room).cloned());
        drop(records);
        if nobody_was_woken {
            (listener.wake)();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
