//! Where a Rust future waits for one result.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use dynamo::operation::Reply;

use crate::{Completer, Error};

/// A place for one result.
#[derive(Default)]
pub(crate) struct Slot(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Empty,
    Awaited(Waker),
    Full(Result<Reply, Error>),
    /// The future was dropped, or has its result.
    Left,
}

impl Slot {
    /// The result, once it is there.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Reply, Error>> {
        let mut state = self.lock();
        match &mut *state {
            State::Full(_) => match std::mem::replace(&mut *state, State::Left) {
                State::Full(result) => Poll::Ready(result),
                State::Empty | State::Awaited(_) | State::Left => Poll::Pending,
            },
            State::Awaited(waker) if waker.will_wake(context.waker()) => Poll::Pending,
            State::Empty | State::Awaited(_) => {
                *state = State::Awaited(context.waker().clone());
                Poll::Pending
            }
            State::Left => Poll::Ready(Err(Error::internal("the future was polled after it was ready"))),
        }
    }

    /// Nobody waits any more.
    pub(crate) fn leave(&self) {
        *self.lock() = State::Left;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Completer for Slot {
    fn complete(&self, _token: u64, result: Result<Reply, Error>) {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Full(result)) {
            State::Awaited(waker) => {
                drop(state);
                waker.wake();
            }
            State::Left => *state = State::Left,
            State::Empty | State::Full(_) => {}
        }
    }

    fn is_wanted(&self, _token: u64) -> bool {
        !matches!(*self.lock(), State::Left)
    }
}
