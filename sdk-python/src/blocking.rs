//! Waiting for one call in the thread that made it: without the interpreter's lock, but looking for signals often enough for Ctrl-C
//! to seem immediate.

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant},
};

use pyo3::{Bound, PyAny, PyResult, Python};
use quorate::{
    Builder, Error, Level,
    bridge::{self, Answer, Ask, CallOptions, Waiter},
};

use crate::{answer::Absence, error, fork, place::Place};

/// Time between two looks for signals: shorter than what a person notices, longer than any call that is worth being quick about.
const SIGNALS_INTERVAL: Duration = Duration::from_millis(50);

thread_local! {
    /// The thread's waiter between calls, and the generation of processes it belongs to.
    static WAITER: RefCell<Option<(u64, Arc<Waiter>)>> = const { RefCell::new(None) };
}

/// Makes a call and waits for it.
pub(crate) fn call<'py>(
    py: Python<'py>,
    place: &Place,
    ask: Ask,
    options: &CallOptions,
    absence: Absence,
) -> PyResult<Bound<'py, PyAny>> {
    let waiter = waiter();
    let ticket = place.ask(py, ask, options, 0, &waiter)?;
    match wait(py, &waiter) {
        Ok(result) => {
            keep(waiter);
            place.outcome(py, result, absence)
        }
        Err(interrupted) => {
            place.withdraw(ticket);
            Err(interrupted)
        }
    }
}

/// Connects and waits until that has come to something.
pub(crate) fn connect(py: Python<'_>, builder: Builder, level: Option<Level>) -> PyResult<Place> {
    let waiter = Waiter::new();
    bridge::connect(builder, 0, &waiter).map_err(|cause| error::raised(py, &cause))?;
    place(py, wait(py, &waiter)?, level)
}

/// The client that a connection came to.
pub(crate) fn place(py: Python<'_>, result: Result<Answer, Error>, level: Option<Level>) -> PyResult<Place> {
    match result.map_err(|cause| error::raised(py, &cause))? {
        Answer::Connected(client) => Ok(Place::of_client(client, level)),
        _ => Err(error::unforeseen(py, "a connection that is none")),
    }
}

/// Waits without the interpreter's lock. An exception comes from a signal's handler; then nobody waits any more.
fn wait(py: Python<'_>, waiter: &Arc<Waiter>) -> PyResult<Result<Answer, Error>> {
    loop {
        if let Some(result) = py.detach(|| waiter.wait(Instant::now() + SIGNALS_INTERVAL)) {
            return Ok(result);
        }
        if let Err(interrupted) = py.check_signals() {
            waiter.leave();
            return Err(interrupted);
        }
    }
}

/// The thread's own waiter, taken away from it so that a signal's handler that makes a call has another.
fn waiter() -> Arc<Waiter> {
    let own = WAITER.with(RefCell::take).filter(|(generation, _)| *generation == fork::generation());
    own.map_or_else(Waiter::new, |(_, waiter)| waiter)
}

/// For the thread's next call. A waiter that was left is not kept, so no answer of an earlier call meets a later one.
fn keep(waiter: Arc<Waiter>) {
    if !waiter.is_left() {
        WAITER.with(|own| own.replace(Some((fork::generation(), waiter))));
    }
}
