//! Answers that gather until somebody drains them: one wake for as many as there are.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use dynamo::operation::Reply;

use super::{Answer, Ended, Sink};
use crate::{Completer, Error};

/// The answers of any number of calls, for an event loop.
///
/// `wake` is called when there are answers and nobody was woken since the outbox was drained last. It is called on an I/O thread,
/// without any lock held, and should do no more than write to a descriptor or set a flag. Whoever is woken calls [`Outbox::drain`].
pub struct Outbox {
    contents: Mutex<Contents>,
    /// Whether somebody has been woken and has not drained yet.
    woken: AtomicBool,
    /// Whether its owner looks by itself.
    attended: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Contents {
    ended: Vec<Ended>,
    abandoned: bool,
}

impl Outbox {
    /// An empty outbox.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            contents: Mutex::default(),
            woken: AtomicBool::new(false),
            attended: AtomicBool::new(false),
            wake: Box::new(wake),
        })
    }

    /// Moves everything there is to the end of `into`, in the order in which it ended. Cheapest with an empty vector whose capacity is
    /// used again.
    pub fn drain(&self, into: &mut Vec<Ended>) {
        // First, so that what comes from now on wakes again.
        self.woken.store(false, Ordering::SeqCst);
        let ended = &mut self.lock().ended;
        if into.is_empty() {
            mem::swap(ended, into);
        } else {
            into.append(ended);
        }
    }

    /// Its owner looks for answers again and again, and nobody wakes it until it rests.
    pub fn attend(&self) {
        self.attended.store(true, Ordering::SeqCst);
    }

    /// Its owner does not look any more. It is woken at once if answers are there that it was not woken for.
    pub fn rest(&self) {
        self.attended.store(false, Ordering::SeqCst);
        self.flush();
    }

    /// Nobody will drain it any more: what is in it is dropped, what comes is not taken, what was not sent yet is not sent, and `wake` is
    /// not called again once this has returned, unless it is being called at this moment.
    pub fn abandon(&self) {
        let mut contents = self.lock();
        contents.abandoned = true;
        let dropped = mem::take(&mut contents.ended);
        drop(contents);
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Completer for Outbox {
    fn complete(&self, token: u64, result: Result<Reply, Error>) {
        self.deliver(token, result.and_then(Answer::from_reply));
    }

    fn flush(&self) {
        let contents = self.lock();
        let somebody_to_wake = !contents.abandoned && !contents.ended.is_empty();
        drop(contents);
        if somebody_to_wake && !self.attended.load(Ordering::SeqCst) && !self.woken.swap(true, Ordering::SeqCst) {
            (self.wake)();
        }
    }

    fn is_wanted(&self, _token: u64) -> bool {
        !self.lock().abandoned
    }
}

impl Sink for Outbox {
    fn deliver(&self, token: u64, result: Result<Answer, Error>) {
        let mut contents = self.lock();
        if !contents.abandoned {
            contents.ended.push(Ended { token, result });
        }
    }
}
