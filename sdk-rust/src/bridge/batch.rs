//! Many operations as one call: a window of them is under way, and the sink is told once, when the last has ended.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
    vec,
};

use dynamo::operation::{Operation, Reply};

use super::{Answer, Sink, Ticket, ask::Asking, call::Call};
use crate::{
    Completer, Error,
    client::Handle,
    many::{REFILL, WINDOW},
};

/// The replies of a batch in the order of its operations.
pub(super) type Replies = vec::IntoIter<Result<Reply, Error>>;

/// A batch under way.
struct Batch<S: Sink> {
    call: Call<S>,
    handle: Arc<Handle>,
    deadline: Instant,
    answer: fn(Replies) -> Answer,
    state: Mutex<State>,
    /// Itself, to be handed in with each operation.
    this: Weak<Self>,
}

struct State {
    /// What has not been submitted, with its place.
    operations: std::iter::Enumerate<vec::IntoIter<Result<Operation, Error>>>,
    results: Vec<Option<Result<Reply, Error>>>,
    open: usize,
}

/// Begins a batch. An operation that is an error already has that for its result.
pub(super) fn begin<S: Sink + 'static>(
    asking: &Asking<'_, S>,
    operations: impl Iterator<Item = Result<Operation, Error>>,
    writes: bool,
    answer: fn(Replies) -> Answer,
) -> Result<Ticket, Error> {
    let operations: Vec<_> = operations.collect();
    let handle = asking.bucket.handle();
    let call = Call::begin(&handle.shared, asking.token, asking.sink)?;
    asking.sink.expect(asking.token, asking.deadline, writes);
    let ticket = call.ticket();
    let results = operations.iter().map(|_| None).collect();
    let state = State { operations: operations.into_iter().enumerate(), results, open: 0 };
    let batch = Arc::new_cyclic(|this| Batch {
        call,
        handle: Arc::clone(handle),
        deadline: asking.deadline,
        answer,
        state: Mutex::new(state),
        this: Weak::clone(this),
    });
    batch.go_on();
    Ok(ticket)
}

impl<S: Sink + 'static> Batch<S> {
    /// Submits as many as may be under way; tells the answer when all have ended.
    fn go_on(&self) {
        let Some(this) = self.this.upgrade() else { return };
        loop {
            let mut state = self.lock();
            let room = state.open < WINDOW;
            let next = if room { state.operations.next() } else { return };
            let Some((at, operation)) = next else {
                let results = if state.open == 0 { std::mem::take(&mut state.results) } else { return };
                drop(state);
                let missing = || Err(Error::internal("an operation ended without a result"));
                let results: Vec<_> = results.into_iter().map(|result| result.unwrap_or_else(missing)).collect();
                return self.call.tell(Ok((self.answer)(results.into_iter())));
            };
            state.open += 1;
            drop(state);
            let completer = Arc::clone(&this) as Arc<dyn Completer>;
            let submit = |operation| self.handle.shared.submit(operation, self.deadline, at as u64, completer);
            if let Err(error) = operation.and_then(submit) {
                self.complete(at as u64, Err(error));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Sink + 'static> Completer for Batch<S> {
    fn complete(&self, token: u64, result: Result<Reply, Error>) {
        let mut state = self.lock();
        if let Some(place) = usize::try_from(token).ok().and_then(|at| state.results.get_mut(at)) {
            *place = Some(result);
        }
        state.open -= 1;
    }

    fn flush(&self) {
        let state = self.lock();
        let left = state.operations.len();
        let due = if left > 0 { state.open <= REFILL } else { state.open == 0 };
        drop(state);
        if due {
            self.go_on();
        }
    }

    fn is_wanted(&self, _token: u64) -> bool {
        self.call.is_wanted()
    }
}
