//! Many operations at once, with a result for each: one future, one waker, a window of operations under way.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use dynamo::{
    layout::Level,
    operation::{Consistency, Operation, Reply},
};

use crate::{Completer, Error, client::Handle};

/// Operations that one future has under way. More would only wait inside the client.
pub(crate) const WINDOW: usize = 4096;

/// Operations that must have ended before the future is woken to submit more.
pub(crate) const REFILL: usize = WINDOW / 2;

/// Operations that are awaited together. Resolves to a result for each, in the order of the operations; one that fails leaves
/// the others alone.
#[must_use = "a request does nothing unless it is awaited"]
pub struct Batch<T> {
    handle: Arc<Handle>,
    timeout: Duration,
    operations: std::vec::IntoIter<Result<Operation, Error>>,
    submitted: usize,
    results: Arc<Results>,
    read: fn(Reply) -> Result<T, Error>,
}

struct Results(Mutex<State>);

struct State {
    results: Vec<Option<Result<Reply, Error>>>,
    open: usize,
    /// The future wants to be woken when no more than so many are open.
    wake_at: usize,
    waker: Option<Waker>,
    left: bool,
}

impl<T> Batch<T> {
    pub(crate) fn new(
        handle: Arc<Handle>,
        timeout: Duration,
        operations: Vec<Result<Operation, Error>>,
        read: fn(Reply) -> Result<T, Error>,
    ) -> Self {
        let results = (0..operations.len()).map(|_| None).collect();
        let state = State { results, open: 0, wake_at: 0, waker: None, left: false };
        let results = Arc::new(Results(Mutex::new(state)));
        Self { handle, timeout, operations: operations.into_iter(), submitted: 0, results, read }
    }

    /// How many replicas each operation waits for, by name.
    pub fn level(self, level: Level) -> Self {
        self.with(|consistency| consistency.level = Some(level))
    }

    /// Each read waits for so many replicas, whatever the level says.
    pub fn r(self, replicas: u8) -> Self {
        self.with(|consistency| consistency.r = replicas)
    }

    /// Each write waits until so many replicas have it on disk, whatever the level says.
    pub fn w(self, replicas: u8) -> Self {
        self.with(|consistency| consistency.w = replicas)
    }

    /// Uses only the first `replicas` owners of each key.
    pub fn n(self, replicas: u8) -> Self {
        self.with(|consistency| consistency.n = replicas)
    }

    /// Time for each operation, retries included, from the moment it is submitted.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn with(mut self, change: impl Fn(&mut Consistency)) -> Self {
        let operations = self.operations.as_mut_slice().iter_mut().flatten();
        operations.for_each(|operation| change(&mut operation.consistency));
        self
    }

    fn submit(&mut self) {
        let deadline = Instant::now() + self.timeout;
        loop {
            let mut state = self.results.lock();
            if state.open >= WINDOW {
                return;
            }
            let Some(operation) = self.operations.next() else { return };
            state.open += 1;
            drop(state);
            let completer = Arc::clone(&self.results) as Arc<dyn Completer>;
            let token = self.submitted as u64;
            self.submitted += 1;
            let submit = |operation| self.handle.shared.submit(operation, deadline, token, completer);
            if let Err(error) = operation.and_then(submit) {
                self.results.complete(token, Err(error));
            }
        }
    }
}

impl<T> Future for Batch<T> {
    type Output = Vec<Result<T, Error>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.submit();
        let more = self.operations.len() > 0;
        let mut state = self.results.lock();
        if state.open == 0 && !more {
            let results = std::mem::take(&mut state.results);
            drop(state);
            let missing = || Err(Error::internal("an operation ended without a result"));
            let read = self.read;
            return Poll::Ready(
                results.into_iter().map(|result| result.unwrap_or_else(missing).and_then(read)).collect(),
            );
        }
        state.wake_at = if more { REFILL } else { 0 };
        if state.open <= state.wake_at {
            // Ended since they were submitted.
            context.waker().wake_by_ref();
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Batch<T> {
    fn drop(&mut self) {
        self.results.lock().left = true;
    }
}

impl Results {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Completer for Results {
    fn complete(&self, token: u64, result: Result<Reply, Error>) {
        let mut state = self.lock();
        if let Some(place) = usize::try_from(token).ok().and_then(|at| state.results.get_mut(at)) {
            *place = Some(result);
        }
        state.open -= 1;
        if state.open <= state.wake_at
            && let Some(waker) = state.waker.take()
        {
            drop(state);
            waker.wake();
        }
    }

    fn is_wanted(&self, _token: u64) -> bool {
        !self.lock().left
    }
}
