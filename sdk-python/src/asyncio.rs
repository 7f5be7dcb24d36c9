//! Waiting for calls in an event loop: a future for each, and one wake for as many answers as have gathered.
//!
//! Each running loop has one mailbox, whichever clients are used in it. I/O threads put answers into its outbox and raise its signal,
//! which the loop watches like a socket; they never take the interpreter's lock. The loop then resolves the futures of all answers
//! there are. The loop owns the mailbox, by what it watches: when the loop is closed, the mailbox goes, and what comes for it is
//! dropped unseen.

mod calls;
mod lookout;
mod signal;

use std::{
    cell::RefCell,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use pyo3::{
    Bound, Py, PyAny, PyErr, PyResult, PyTraverseError, PyVisit, Python,
    exceptions::PyNotImplementedError,
    intern, pyclass, pymethods,
    sync::PyOnceLock,
    types::{IntoPyDict, PyAnyMethods, PyDict, PyWeakrefReference},
};
use quorate::{
    Builder, Error, Level,
    bridge::{self, Answer, Ask, CallOptions, Ended, Outbox},
};

use crate::{answer::Absence, blocking, bucket::AsyncBucket, error, fork::Ours, log};
use calls::{Calls, Open, Purpose};
use lookout::Lookout;
use signal::Signal;

/// What a loop without `add_reader` holds its mailbox by.
const LOOP_ATTRIBUTE: &str = "_quorate_mailbox";

thread_local! {
    /// The mailboxes of the loops that run or ran in this thread, by the address of the loop. A mailbox lives no longer than its loop,
    /// which owns it, so an address with a living mailbox is the address of that loop and of no other.
    static MAILBOXES: RefCell<Vec<(usize, Weak<Mailbox>)>> = const { RefCell::new(Vec::new()) };
}

/// What a loop watches.
#[pyclass(frozen, module = "quorate._native", name = "Mailbox")]
pub(crate) struct Owner(Arc<Mailbox>);

/// Where the answers for one loop arrive.
struct Mailbox {
    outbox: Ours<Arc<Outbox>>,
    signal: Arc<Signal>,
    calls: Mutex<Calls>,
    /// `{"loop": loop}` where the loop's futures are the usual ones, made without going through its method.
    future_options: Option<Py<PyDict>>,
}

/// Makes a call; its future belongs to the loop that runs now.
pub(crate) fn call<'py>(
    caller: &Bound<'py, AsyncBucket>,
    ask: Ask,
    options: &CallOptions,
    absence: Absence,
) -> PyResult<Bound<'py, PyAny>> {
    let py = caller.py();
    let (event_loop, mailbox) = running(py)?;
    let token = mailbox.calls().next_token();
    // First, so that no answer comes for a future that there is not; answers are drained by this thread later.
    let ticket = caller.get().place().ask(py, ask, options, token, mailbox.outbox.here()?)?;
    let future = mailbox.future(&event_loop)?;
    let purpose = Purpose::Call { caller: caller.clone().unbind(), ticket, absence };
    let lonely = {
        let mut calls = mailbox.calls();
        calls.insert(token, Open { future: future.clone().unbind(), purpose });
        calls.is_worth_looking()
    };
    if lonely {
        Lookout::begin(&event_loop, mailbox)?;
    }
    Ok(future)
}

/// Connects; the future belongs to the loop that runs now.
pub(crate) fn connect(py: Python<'_>, builder: Builder, level: Option<Level>) -> PyResult<Bound<'_, PyAny>> {
    let (event_loop, mailbox) = running(py)?;
    let token = mailbox.calls().next_token();
    bridge::connect(builder, token, mailbox.outbox.here()?).map_err(|cause| error::raised(py, &cause))?;
    let future = mailbox.future(&event_loop)?;
    mailbox.calls().insert(token, Open { future: future.clone().unbind(), purpose: Purpose::Connection { level } });
    Ok(future)
}

/// Nobody waits for this call any more.
pub(crate) fn withdraw(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    let Ok((_, mailbox)) = running(py) else { return Ok(()) };
    let open = mailbox.calls().remove_future(future);
    if let Some(Open { purpose: Purpose::Call { caller, ticket, .. }, .. }) = open {
        caller.get().place().withdraw(ticket);
    }
    Ok(())
}

/// The loop that runs in this thread, and its mailbox.
fn running(py: Python<'_>) -> PyResult<(Bound<'_, PyAny>, Arc<Mailbox>)> {
    static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let event_loop = RUNNING.import(py, "asyncio", "get_running_loop")?.call0()?;
    let address = event_loop.as_ptr() as usize;
    let known = MAILBOXES.with_borrow(|known| {
        let known = known.iter().find(|(at, mailbox)| *at == address && mailbox.strong_count() > 0);
        known.and_then(|(_, mailbox)| mailbox.upgrade())
    });
    let mailbox = match known.filter(|mailbox| mailbox.outbox.get().is_some()) {
        Some(mailbox) => mailbox,
        None => open_mailbox(&event_loop)?,
    };
    Ok((event_loop, mailbox))
}

fn open_mailbox(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Mailbox>> {
    let py = event_loop.py();
    let mailbox = match watch_descriptor(event_loop) {
        Err(cause) if cause.is_instance_of::<PyNotImplementedError>(py) => watch_by_calls(event_loop)?,
        watched => watched?,
    };
    MAILBOXES.with_borrow_mut(|known| {
        known.retain(|(_, mailbox)| mailbox.strong_count() > 0);
        known.push((event_loop.as_ptr() as usize, Arc::downgrade(&mailbox)));
    });
    Ok(mailbox)
}

/// The usual way: the loop watches a descriptor.
fn watch_descriptor(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Mailbox>> {
    let py = event_loop.py();
    let signal = Signal::descriptor().map_err(|cause| match cause.kind() {
        io::ErrorKind::Unsupported => PyNotImplementedError::new_err("nothing that a loop could watch"),
        _ => PyErr::from(cause),
    });
    let signal = Arc::new(signal?);
    let mailbox = Mailbox::new(signal, event_loop)?;
    let owner = Bound::new(py, Owner(Arc::clone(&mailbox)))?;
    let drain = owner.getattr(intern!(py, "drain"))?;
    event_loop.call_method1(intern!(py, "add_reader"), (mailbox.signal.raw_descriptor(), drain))?;
    Ok(mailbox)
}

/// For loops that can't watch descriptors: I/O threads ask them to drain, which takes the interpreter's lock, but once for as many
/// answers as there are.
fn watch_by_calls(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Mailbox>> {
    let py = event_loop.py();
    let event_loop_reference = PyWeakrefReference::new(event_loop)?.unbind();
    let signal = Arc::new(Signal::calls(move || {
        // Fails while the interpreter ends or the loop is closed: then nobody waits.
        let _ = Python::try_attach(|py| -> PyResult<()> {
            let event_loop = event_loop_reference.bind(py).call0()?;
            let drain = event_loop.getattr(LOOP_ATTRIBUTE)?.getattr(intern!(py, "drain"))?;
            event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (drain,)).map(drop)
        });
    }));
    let mailbox = Mailbox::new(signal, event_loop)?;
    event_loop.setattr(LOOP_ATTRIBUTE, Bound::new(py, Owner(Arc::clone(&mailbox)))?)?;
    Ok(mailbox)
}

#[pymethods]
impl Owner {
    /// Resolves the futures of all calls that have ended. Called by the loop.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        error::guarded(py, || {
            self.0.signal.lower();
            self.0.drain(py);
            Ok(())
        })?;
        log::pass_on(py);
        Ok(())
    }

    /// The loop owns this, and the futures of open calls lead to it.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0.future_options)?;
        match self.0.calls.try_lock() {
            Ok(calls) => calls.traverse(&visit),
            Err(_) => Ok(()),
        }
    }
}

impl Mailbox {
    fn new(signal: Arc<Signal>, event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        let py = event_loop.py();
        let usual = py.import("asyncio")?.getattr("BaseEventLoop")?.getattr("create_future")?;
        let future_options = match event_loop.get_type().getattr("create_future")?.is(&usual) {
            true => Some([(intern!(py, "loop"), event_loop)].into_py_dict(py)?.unbind()),
            false => None,
        };
        let raised = Arc::clone(&signal);
        let outbox = Ours::new(Outbox::new(move || raised.raise()));
        Ok(Arc::new(Self { outbox, signal, calls: Mutex::default(), future_options }))
    }

    /// What `loop.create_future()` gives.
    fn future<'py>(&self, event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        static FUTURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = event_loop.py();
        match &self.future_options {
            Some(options) => FUTURE.import(py, "asyncio", "Future")?.call((), Some(options.bind(py))),
            None => event_loop.call_method0(intern!(py, "create_future")),
        }
    }

    /// Resolves the futures of all calls that have ended, and says whether there were any.
    fn drain(&self, py: Python<'_>) -> bool {
        let Some(outbox) = self.outbox.get() else { return false };
        let mut ended = self.calls().take_buffer();
        outbox.drain(&mut ended);
        if ended.is_empty() {
            self.calls().return_buffer(ended);
            return false;
        }
        for Ended { token, result } in ended.drain(..) {
            // Without the lock, for whatever runs when a future is resolved.
            let open = self.calls().remove(token);
            if let Some(open) = open {
                resolve(py, open, result);
            }
        }
        let mut calls = self.calls();
        calls.note_answers();
        calls.return_buffer(ended);
        true
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // Nothing that holds the lock can panic halfway through a change.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        if let Some(outbox) = self.outbox.get() {
            outbox.abandon();
        }
    }
}

/// Tells a future how its call ended, unless it was cancelled a moment ago.
fn resolve(py: Python<'_>, open: Open, result: Result<Answer, Error>) {
    let outcome = error::guarded(py, || match open.purpose {
        Purpose::Call { caller, absence, .. } => caller.get().place().outcome(py, result, absence),
        Purpose::Connection { level } => {
            let place = blocking::place(py, result, level)?;
            Ok(Bound::new(py, AsyncBucket::new(place))?.into_any())
        }
    });
    let future = open.future.bind(py);
    let told: Result<_, PyErr> = match outcome {
        Ok(object) => future.call_method1(intern!(py, "set_result"), (object,)),
        Err(exception) => future.call_method1(intern!(py, "set_exception"), (exception,)),
    };
    // It fails for a future that is cancelled, and there nobody waits.
    drop(told);
}
