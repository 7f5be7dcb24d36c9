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
    /// Gone once it is being told.
    results: Option<Vec<Option<Result<Reply, Error>>>>,
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
    let results = Some(operations.iter().map(|_| None).collect());
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
                let ended = if state.open == 0 { state.results.take() } else { None };
                drop(state);
                // Two threads may find that the last has ended. Whoever comes second has nothing to tell.
                let Some(results) = ended else { return };
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
        let (results, at) = (state.results.as_mut(), usize::try_from(token).ok());
        if let Some(place) = results.zip(at).and_then(|(results, at)| results.get_mut(at)) {
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

#[cfg(test)]
mod tests {
    use std::{cell::Cell, time::Duration};

    use dynamo::operation::Action;

    use super::{Answer, Arc, Asking, Completer, Error, Instant, Replies, begin};
    use crate::{
        Client, Lookup,
        bridge::Outbox,
        core::{Contents, Shared},
        request::Defaults,
    };

    thread_local! {
        /// The batch whose results are about to be told.
        static ENDED: Cell<Option<Arc<dyn Completer>>> = const { Cell::new(None) };
    }

    /// While one thread makes the answer, another finds as well that all operations have ended.
    fn overtaken(replies: Replies) -> Answer {
        ENDED.take().into_iter().for_each(|batch| batch.flush());
        Answer::Reads(replies.map(|reply| reply.and_then(Lookup::from_reply)).collect())
    }

    #[test]
    fn of_two_threads_that_find_a_batch_ended_only_the_one_with_the_results_tells() {
        let config = Client::builder().endpoints("127.0.0.1:1").into_config().unwrap();
        let layout = stage::layout(&["127.0.0.1:1".to_owned()], 1);
        let shared = Arc::new(Shared::new(config, 1, layout));
        let client = Client::new(Arc::clone(&shared));
        let outbox = Outbox::new(|| {});
        let bucket = client.default_bucket();
        let deadline = Instant::now() + Duration::from_secs(60);
        let defaults: Defaults = bucket.defaults();
        let asking = Asking { bucket, defaults, deadline, token: 7, sink: &outbox };
        let keys = ["a", "b", "c"];
        let get = |key: &str| Ok(bucket.operation(key.to_owned(), Action::Get { without_values: true }));
        begin(&asking, keys.into_iter().map(get), false, overtaken).unwrap();

        // No I/O thread runs: the test ends the operations itself.
        let mut contents = Contents::default();
        shared.queues[0].take(&mut contents);
        assert_eq!(contents.submissions.len(), keys.len());
        for submission in &contents.submissions {
            submission.completer.complete(submission.token, Err(Error::timeout("too late")));
        }
        let batch = Arc::clone(&contents.submissions[0].completer);
        ENDED.set(Some(Arc::clone(&batch)));
        batch.flush();

        let mut ended = Vec::new();
        outbox.drain(&mut ended);
        let [told] = &ended[..] else { panic!("one answer, not {ended:?}") };
        let Ok(Answer::Reads(reads)) = &told.result else { panic!("{told:?}") };
        assert_eq!((told.token, reads.len()), (7, keys.len()));
        assert!(reads.iter().all(|read| matches!(read, Err(Error::Timeout(_)))));
    }
}
