//! The way into an I/O thread: whoever submits locks for a moment, and wakes the thread only if it found the queue empty.

use std::{
    mem,
    rc::Rc,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::task::AtomicWaker;

use crate::{driver::Driver, engine::Submission};

/// Rare work on the I/O thread: scans, status, statistics.
pub(crate) type Job = Box<dyn FnOnce(Rc<Driver>) + Send>;

/// The queue of one I/O thread.
#[derive(Default)]
pub(crate) struct Queue {
    contents: Mutex<Contents>,
    /// Whether the thread has been woken and has not looked yet.
    woken: AtomicBool,
    /// Whether something has been added since the thread took what there was.
    filled: AtomicBool,
    waker: AtomicWaker,
}

/// What has gathered in a queue.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) submissions: Vec<Submission>,
    pub(crate) cancelled: Vec<u64>,
    pub(crate) jobs: Vec<Job>,
    closed: bool,
}

impl Queue {
    /// Says whether the thread will look at it.
    pub(crate) fn push(&self, submission: Submission) -> bool {
        self.add(|contents| contents.submissions.push(submission))
    }

    pub(crate) fn cancel(&self, sequence: u64) {
        self.add(|contents| contents.cancelled.push(sequence));
    }

    /// Says whether the thread will do it.
    pub(crate) fn push_job(&self, job: Job) -> bool {
        self.add(|contents| contents.jobs.push(job))
    }

    /// Has the thread look, although nothing was added.
    pub(crate) fn wake(&self) {
        self.filled.store(true, Ordering::SeqCst);
        self.wake_if_asleep();
    }

    fn wake_if_asleep(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    /// The I/O thread is about to look: whatever comes from now on wakes it again.
    pub(crate) fn listen(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
        self.woken.store(false, Ordering::Release);
    }

    /// The thread is awake and will look by itself: nobody needs to wake it, until it may sleep again.
    pub(crate) fn stay_awake(&self) {
        self.woken.store(true, Ordering::Release);
    }

    /// The thread wants to sleep. Not if something has come that nobody woke it for.
    pub(crate) fn may_sleep(&self) -> bool {
        // Exchanged, not just stored: what was done before a wake that was left out is seen from here on.
        self.woken.swap(false, Ordering::SeqCst);
        self.looks_empty()
    }

    /// Whether nothing has come, as far as can be seen without the lock.
    pub(crate) fn looks_empty(&self) -> bool {
        !self.filled.load(Ordering::SeqCst)
    }

    /// Exchanges what has gathered for `contents`, which must be empty and keeps its capacity.
    pub(crate) fn take(&self, contents: &mut Contents) {
        let mut own = self.lock();
        self.filled.store(false, Ordering::SeqCst);
        mem::swap(&mut own.submissions, &mut contents.submissions);
        mem::swap(&mut own.cancelled, &mut contents.cancelled);
        mem::swap(&mut own.jobs, &mut contents.jobs);
    }

    /// Takes nothing any more, and hands out the last that came.
    pub(crate) fn close(&self) -> Contents {
        // It would keep the descriptors of the thread's event loop open for as long as anybody keeps the closed client.
        drop(self.waker.take());
        let mut own = self.lock();
        mem::replace(&mut own, Contents { closed: true, ..Contents::default() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        let own = self.lock();
        own.submissions.is_empty() && own.jobs.is_empty()
    }

    fn add(&self, add: impl FnOnce(&mut Contents)) -> bool {
        let mut own = self.lock();
        if own.closed {
            return false;
        }
        add(&mut own);
        self.filled.store(true, Ordering::SeqCst);
        drop(own);
        self.wake_if_asleep();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        // Nothing that holds the lock can panic halfway through a change.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
