//! A thousand requests in flight on one thread: an executor for a fixed number of endless futures ("slots").
//!
//! A general runtime pays per request for a task, its allocation and its scheduling; at half a million requests per second
//! on two cores, shared with the node under test, the load generator would measure itself. Here each slot is one future
//! that lives for the whole run and loops over requests, its waker is made once, and being woken costs one push onto a
//! list. The thread takes the whole list at once, and sleeps only when it is empty.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// Longest sleep: how late a missed stop signal could be noticed.
const SLEEP_MAX: Duration = Duration::from_millis(20);

/// The number of a slot.
pub type Slot = usize;

/// What the thread does besides polling slots.
pub trait Pacer {
    /// Slots to poll although nothing woke them, because their time has come, and when to ask again.
    fn due(&mut self, now: Instant, slots: &mut Vec<Slot>) -> Option<Instant>;
}

/// No slot waits for a time.
#[derive(Debug)]
pub struct Unpaced;

impl Pacer for Unpaced {
    fn due(&mut self, _now: Instant, _slots: &mut Vec<Slot>) -> Option<Instant> {
        None
    }
}

/// Runs futures on the calling thread until all have ended, or until `deadline`; those that have not ended by then are
/// dropped. Returns how many those were.
pub fn run<F: Future<Output = ()>>(futures: Vec<F>, pacer: &mut impl Pacer, deadline: Instant) -> usize {
    let ready = Arc::new(Ready {
        slots: Mutex::new((0..futures.len()).collect()),
        sleeping: AtomicBool::new(false),
        thread: thread::current(),
    });
    let mut tasks: Vec<Option<Task<F>>> = futures
        .into_iter()
        .enumerate()
        .map(|(slot, future)| {
            let bell = Arc::new(Bell { slot, rung: AtomicBool::new(true), ready: ready.clone() });
            Some(Task { future: Box::pin(future), waker: Waker::from(bell.clone()), bell })
        })
        .collect();
    let mut running = tasks.len();
    let mut batch = Vec::with_capacity(running);
    while running > 0 {
        ready.take(&mut batch);
        let now = Instant::now();
        if now >= deadline {
            break;
        }
        let wake_at = pacer.due(now, &mut batch);
        if batch.is_empty() {
            let latest = wake_at.unwrap_or(deadline).min(deadline);
            ready.sleep(latest.saturating_duration_since(now).min(SLEEP_MAX));
            continue;
        }
        for slot in batch.drain(..) {
            let Some(task) = &mut tasks[slot] else { continue };
            // Before the poll: a completion during it must ring again.
            task.bell.rung.store(false, Ordering::SeqCst);
            if let Poll::Ready(()) = task.future.as_mut().poll(&mut Context::from_waker(&task.waker)) {
                tasks[slot] = None;
                running -= 1;
            }
        }
    }
    running
}

/// A slot's future and how it is woken.
struct Task<F> {
    future: Pin<Box<F>>,
    waker: Waker,
    bell: Arc<Bell>,
}

/// The slots that want to be polled.
struct Ready {
    slots: Mutex<Vec<Slot>>,
    sleeping: AtomicBool,
    thread: Thread,
}

impl Ready {
    /// Moves everything into `batch`, which is empty and gives its memory in exchange.
    fn take(&self, batch: &mut Vec<Slot>) {
        mem::swap(&mut *self.slots.lock().unwrap_or_else(PoisonError::into_inner), batch);
    }

    fn push(&self, slot: Slot) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
        // Only the first of a burst pays for waking the thread.
        if self.sleeping.load(Ordering::SeqCst) && self.sleeping.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
    }

    fn sleep(&self, longest: Duration) {
        self.sleeping.store(true, Ordering::SeqCst);
        // A slot may have come between taking the list and here; from now on, pushing unparks.
        if self.slots.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            thread::park_timeout(longest);
        }
        self.sleeping.store(false, Ordering::SeqCst);
    }
}

/// Puts a slot on the list, at most once between two polls.
struct Bell {
    slot: Slot,
    rung: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            self.ready.push(self.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        thread,
        time::{Duration, Instant},
    };

    use futures_util::future::pending;
    use tokio::sync::oneshot;

    use super::{Unpaced, run};

    #[test]
    fn every_slot_runs_to_its_end_though_other_threads_complete_it() {
        let done = Cell::new(0);
        let (questions, answerer) = std::sync::mpsc::channel::<oneshot::Sender<u32>>();
        let answers = thread::spawn(move || {
            for question in answerer {
                question.send(7).expect("the slot waits");
            }
        });
        let futures: Vec<_> = (0..100)
            .map(|_| {
                let questions = questions.clone();
                let done = &done;
                async move {
                    for _ in 0..200 {
                        let (sender, receiver) = oneshot::channel();
                        questions.send(sender).expect("the answerer lives");
                        let answer = receiver.await.expect("an answer");
                        done.set(done.get() + answer);
                    }
                }
            })
            .collect();
        drop(questions);
        assert_eq!(run(futures, &mut Unpaced, Instant::now() + Duration::from_secs(30)), 0);
        answers.join().expect("the answerer ends");
        assert_eq!(done.get(), 100 * 200 * 7);
    }

    #[test]
    fn what_never_ends_is_dropped_at_the_deadline() {
        let started = Instant::now();
        let left = run(vec![pending::<()>(), pending()], &mut Unpaced, started + Duration::from_millis(50));
        assert_eq!(left, 2);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
