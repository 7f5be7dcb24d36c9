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

    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// The I/O thread is about to look: whatever comes from now on wakes it again.
    pub(crate) fn listen(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
        self.woken.store(false, Ordering::Release);
    }

    /// Exchanges what has gathered for `contents`, which must be empty and keeps its capacity.
    pub(crate) fn take(&self, contents: &mut Contents) {
        let mut own = self.lock();
        mem::swap(&mut own.submissions, &mut contents.submissions);
        mem::swap(&mut own.cancelled, &mut contents.cancelled);
        mem::swap(&mut own.jobs, &mut contents.jobs);
    }

    /// Takes nothing any more, and hands out the last that came.
    pub(crate) fn close(&self) -> Contents {
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
        drop(own);
        self.wake();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        // Nothing that holds the lock can panic halfway through a change.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
