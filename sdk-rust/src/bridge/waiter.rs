//! One thread that waits for one answer. It looks for it for a moment before it sleeps: being woken from sleep costs more than the whole
//! of a call that is answered at once.

use std::{
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use dynamo::operation::Reply;

use super::{Answer, Sink};
use crate::{Completer, Error};

/// How long a thread looks for its answer before it sleeps: about what it takes to wake it from sleep, and a call to be answered by a node
/// nearby.
const SPIN: Duration = Duration::from_micros(150);

/// How long after a call's deadline its answer may come. The I/O thread's timers are exact to a millisecond; the rest is for a busy machine.
const GRACE: Duration = Duration::from_millis(250);

/// Threads that wait. Only a single one looks: more would keep each other and the I/O thread from working.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// How long waiting took lately, in nanoseconds. Looking pays where that is less than [`SPIN`].
static USUAL_NANOS: AtomicU64 = AtomicU64::new(0);

/// What a longer wait is taken for, so that it is forgotten after a few calls.
const NANOS_MAX: u64 = 1_000_000;

/// With one processor, nobody else works while a thread looks.
static SPINNING_PAYS: LazyLock<bool> =
    LazyLock::new(|| thread::available_parallelism().is_ok_and(|count| count.get() > 1));

/// Where one thread waits for one answer at a time. It can be used for one call after another, best with a token for each, until a call
/// was left or given up; the answer to that could come any time, so the next call needs another waiter.
pub struct Waiter {
    state: Mutex<State>,
    /// Whether the answer is there.
    full: AtomicBool,
}

#[derive(Default)]
struct State {
    answer: Option<Result<Answer, Error>>,
    /// The thread that sleeps.
    asleep: Option<Thread>,
    /// The call whose answer is waited for.
    token: Option<u64>,
    deadline: Option<Instant>,
    writes: bool,
    left: bool,
}

impl Waiter {
    /// A waiter without a call.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), full: AtomicBool::new(false) })
    }

    /// Waits for the answer, or until `until`: then `None`, and it can be waited for again, after looking for signals for example. Shortly
    /// after the call's own deadline it is over in any case.
    pub fn wait(&self, until: Instant) -> Option<Result<Answer, Error>> {
        let began = Instant::now();
        WAITING.fetch_add(1, Ordering::Relaxed);
        if *SPINNING_PAYS && USUAL_NANOS.load(Ordering::Relaxed) < SPIN.as_nanos() as u64 {
            self.spin(began);
        }
        let answer = self.sleep(until);
        WAITING.fetch_sub(1, Ordering::Relaxed);
        note_wait(began.elapsed());
        answer
    }

    /// Nobody waits any more: the answer will be dropped, and what was not sent yet is not sent.
    pub fn leave(&self) {
        let mut state = self.lock();
        state.left = true;
        let dropped = state.answer.take();
        drop(state);
        drop(dropped);
    }

    /// Whether it was left, or has given up: then the next call needs another one.
    pub fn is_left(&self) -> bool {
        self.lock().left
    }

    fn spin(&self, began: Instant) {
        while !self.full.load(Ordering::Acquire) && WAITING.load(Ordering::Relaxed) == 1 && began.elapsed() < SPIN {
            // Whoever is to answer may have been put on this very processor.
            thread::yield_now();
        }
    }

    fn sleep(&self, until: Instant) -> Option<Result<Answer, Error>> {
        loop {
            let mut state = self.lock();
            state.asleep = None;
            if let Some(answer) = state.answer.take() {
                self.full.store(false, Ordering::Relaxed);
                return Some(answer);
            }
            let now = Instant::now();
            let given_up = state.deadline.map(|deadline| deadline + GRACE);
            if given_up.is_some_and(|at| now >= at) {
                state.left = true;
                return Some(Err(
                    Error::timeout("the client's I/O thread did not answer in time").with_doubt(state.writes)
                ));
            }
            if now >= until {
                return None;
            }
            state.asleep = Some(thread::current());
            drop(state);
            let wake_at = given_up.map_or(until, |at| at.min(until));
            thread::park_timeout(wake_at.saturating_duration_since(now));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In a child of `fork`: the parent's threads that wait do not exist here.
pub(super) fn forked_child() {
    WAITING.store(0, Ordering::Relaxed);
}

/// Folds a measurement into [`USUAL_NANOS`], of which it becomes an eighth. Two threads that do so at once lose one of them.
fn note_wait(took: Duration) {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).min(NANOS_MAX);
    let usual = USUAL_NANOS.load(Ordering::Relaxed);
    USUAL_NANOS.store(usual - usual / 8 + nanos / 8, Ordering::Relaxed);
}

impl Completer for Waiter {
    fn complete(&self, token: u64, result: Result<Reply, Error>) {
        self.deliver(token, result.and_then(Answer::from_reply));
    }

    fn flush(&self) {
        let asleep = self.lock().asleep.take();
        asleep.iter().for_each(Thread::unpark);
    }

    fn is_wanted(&self, _token: u64) -> bool {
        !self.lock().left
    }
}

impl Sink for Waiter {
    fn deliver(&self, token: u64, result: Result<Answer, Error>) {
        let mut state = self.lock();
        // An answer to a call before, which was withdrawn while it was being told, is not for this one.
        if !state.left && state.token.is_none_or(|expected| expected == token) {
            state.answer = Some(result);
            self.full.store(true, Ordering::Release);
        }
    }

    fn expect(&self, token: u64, deadline: Instant, writes: bool) {
        let mut state = self.lock();
        let dropped = state.answer.take();
        self.full.store(false, Ordering::Relaxed);
        (state.token, state.deadline, state.writes) = (Some(token), Some(deadline), writes);
        drop(state);
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::{Ordering, WAITING, forked_child};

    #[test]
    fn threads_that_waited_in_the_parent_do_not_count_in_the_child() {
        WAITING.fetch_add(3, Ordering::Relaxed);
        forked_child();
        assert_eq!(WAITING.load(Ordering::Relaxed), 0);
    }
}
