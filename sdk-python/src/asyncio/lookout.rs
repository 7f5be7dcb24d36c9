//! Looking for the answer of a single call in the turns of the loop, instead of sleeping until an I/O thread wakes it. Being woken costs
//! more than the whole of a call that is answered at once; and a loop that takes turns does everything else it has to do meanwhile.

use std::{
    sync::{Arc, LazyLock},
    thread,
    time::{Duration, Instant},
};

use pyo3::{Bound, PyAny, PyResult, intern, pyclass, pymethods, types::PyAnyMethods};

use super::{Mailbox, running};
use crate::{error, log};

/// How long a loop looks: a few times what a node nearby takes.
const LOOK: Duration = Duration::from_micros(200);

/// With more calls than this, answers come in batches, and being woken is paid once for many.
const CALLS_MAX: usize = 4;

/// What a longer wait is taken for, so that it is forgotten after a few calls.
const WAIT_MAX: Duration = Duration::from_millis(1);

/// The last wait is this part of the usual one.
const PART: u32 = 4;

/// With one processor, nobody else works while the loop looks.
static PAYS: LazyLock<bool> = LazyLock::new(|| thread::available_parallelism().is_ok_and(|count| count.get() > 1));

/// How long single calls have taken lately.
pub(super) struct Habit {
    asked: Option<Instant>,
    usual: Duration,
    looking: bool,
}

impl Default for Habit {
    fn default() -> Self {
        Self { asked: None, usual: WAIT_MAX, looking: false }
    }
}

impl Habit {
    /// A call was made, and it is the only one.
    pub(super) fn asked(&mut self) {
        self.asked = Some(Instant::now());
    }

    /// Answers have come.
    pub(super) fn answered(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.usual = (self.usual * (PART - 1) + asked.elapsed().min(WAIT_MAX)) / PART;
        }
    }

    pub(super) fn looking_pays(&self) -> bool {
        *PAYS && !self.looking && self.usual < LOOK
    }
}

/// What the loop calls in each of its turns while it looks.
#[pyclass(frozen, module = "quorate._native")]
pub(super) struct Lookout {
    mailbox: Arc<Mailbox>,
    began: Instant,
}

impl Lookout {
    /// Has the loop look from its next turn on.
    pub(super) fn begin(event_loop: &Bound<'_, PyAny>, mailbox: Arc<Mailbox>) -> PyResult<()> {
        let Some(outbox) = mailbox.outbox.get().cloned() else { return Ok(()) };
        mailbox.calls().habit.looking = true;
        outbox.attend();
        let lookout = Bound::new(event_loop.py(), Self { mailbox, began: Instant::now() })?;
        look_again(event_loop, &lookout)
    }

    fn rest(&self) {
        self.mailbox.calls().habit.looking = false;
        if let Some(outbox) = self.mailbox.outbox.get() {
            outbox.rest();
        }
    }
}

#[pymethods]
impl Lookout {
    fn __call__(this: &Bound<'_, Self>) -> PyResult<()> {
        let (py, lookout) = (this.py(), this.get());
        let seen = error::guarded(py, || Ok(lookout.mailbox.drain(py)))?;
        let calls = lookout.mailbox.calls().count();
        if seen || calls == 0 || calls > CALLS_MAX || lookout.began.elapsed() > LOOK {
            lookout.rest();
            log::pass_on(py);
            return Ok(());
        }
        // An I/O thread may want this very processor.
        thread::yield_now();
        look_again(&running(py)?.0, this)
    }
}

fn look_again(event_loop: &Bound<'_, PyAny>, lookout: &Bound<'_, Lookout>) -> PyResult<()> {
    event_loop.call_method1(intern!(event_loop.py(), "call_soon"), (lookout,)).map(drop)
}

impl Drop for Lookout {
    fn drop(&mut self) {
        // The loop may be closed before it looks again.
        self.rest();
    }
}
