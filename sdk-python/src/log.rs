//! What the client has to say beside its answers, passed on to Python's `logging` by whichever thread of Python comes by next.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::{Py, PyAny, PyResult, Python, exceptions::PyKeyboardInterrupt, sync::PyOnceLock, types::PyAnyMethods};
use quorate::bridge::log::{self, Level, Record};

/// Whether there is something to pass on.
static WAITING: AtomicBool = AtomicBool::new(false);

/// Numbers of Python's levels.
const DEBUG: u8 = 10;
const INFO: u8 = 20;
const WARNING: u8 = 30;
const ERROR: u8 = 40;
/// Below Python's own levels, where others put it too.
const TRACE: u8 = 5;

/// Begins to note records, from the level up that the logger `quorate` has now.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    static LEVEL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let level = match LEVEL.import(py, "quorate._logging", "level")?.call0()?.extract::<u32>()? {
        0..=9 => Level::TRACE,
        10..=19 => Level::DEBUG,
        20..=29 => Level::INFO,
        30..=39 => Level::WARN,
        40.. => Level::ERROR,
    };
    log::install(level);
    log::on_records(|| WAITING.store(true, Ordering::Release));
    Ok(())
}

/// Passes on what there is. A handler or filter that raises is told to `sys.unraisablehook`, record by record: what it raises is about
/// the record, and must not take the place of the outcome of a call that happens to come by.
pub(crate) fn pass_on(py: Python<'_>) {
    if !WAITING.load(Ordering::Relaxed) || !WAITING.swap(false, Ordering::AcqRel) {
        return;
    }
    let mut records = Vec::new();
    let forgotten = log::drain(&mut records);
    for Record { level, target, message, at } in records {
        let at = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        emit(py, number(level), target, &message, Some(at));
    }
    if forgotten > 0 {
        let message = format!("{forgotten} earlier records were forgotten: too many at once");
        emit(py, WARNING, "quorate", &message, None);
    }
}

fn emit(py: Python<'_>, number: u8, target: &str, message: &str, at: Option<f64>) {
    static EMIT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let emit = EMIT.import(py, "quorate._logging", "emit");
    let Err(raised) = emit.and_then(|emit| emit.call1((number, target, message, at))) else { return };
    if raised.is_instance_of::<PyKeyboardInterrupt>(py) {
        // Ctrl-C came while a handler was at work. It is meant for the program, which gets it again when the outcome is there.
        let again = py.import("_thread").and_then(|thread| thread.call_method0("interrupt_main"));
        if again.is_ok() {
            return;
        }
    }
    raised.write_unraisable(py, None);
}

fn number(level: Level) -> u8 {
    match level {
        Level::TRACE => TRACE,
        Level::DEBUG => DEBUG,
        Level::INFO => INFO,
        Level::WARN => WARNING,
        Level::ERROR => ERROR,
    }
}
