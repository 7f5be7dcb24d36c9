//! Calls whose operations end one by one: each waits here until its last result has come, and is answered then. A caller that
//! goes away changes nothing: its operations end all the same, and their results are dropped.

use slab::Slab;
use tokio::sync::oneshot;

/// Bits of a ticket that say which operation of the call it is.
const INDEX_BITS: u32 = 10;

const _: () = assert!(1 << INDEX_BITS >= schema::convert::BATCH_OPERATIONS_MAX);

/// Names one operation of one waiting call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(pub(crate) u64);

/// Names a waiting call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call(usize);

/// The results of a call, now or later.
pub(crate) enum Results<R> {
    /// All are there.
    Now(Vec<R>),
    /// They come when the last operation has ended.
    Later(oneshot::Receiver<Vec<R>>),
}

/// The calls that wait. `C` is kept with each until its last operation has ended.
#[derive(Debug)]
pub(crate) struct Batches<R, C> {
    waiting: Slab<Batch<R, C>>,
}

#[derive(Debug)]
struct Batch<R, C> {
    results: Vec<Option<R>>,
    missing: usize,
    caller: Option<oneshot::Sender<Vec<R>>>,
    companion: C,
}

impl<R, C> Batches<R, C> {
    pub(crate) fn new() -> Self {
        Self { waiting: Slab::new() }
    }

    /// Begins to wait for `count` results, at least one.
    pub(crate) fn begin(&mut self, count: usize, companion: C) -> Call {
        let results = std::iter::repeat_with(|| None).take(count).collect();
        Call(self.waiting.insert(Batch { results, missing: count, caller: None, companion }))
    }

    /// Adds a result; every ticket gets one exactly once.
    pub(crate) fn put(&mut self, ticket: Ticket, result: R) {
        let (call, index) = ticket.parts();
        let Some(batch) = self.waiting.get_mut(call.0) else {
            debug_assert!(false, "a result came for a call that has all of them");
            return;
        };
        debug_assert!(batch.results[index].is_none());
        batch.results[index] = Some(result);
        batch.missing -= 1;
        if batch.missing == 0
            && let Some(caller) = batch.caller.take()
        {
            // A caller that is gone needs no answer.
            let _ = caller.send(self.take(call));
        }
    }

    /// The results of a call, to be asked for once, when all its operations have been started.
    pub(crate) fn results(&mut self, call: Call) -> Results<R> {
        match self.waiting.get_mut(call.0) {
            None => Results::Now(Vec::new()),
            Some(batch) if batch.missing == 0 => Results::Now(self.take(call)),
            Some(batch) => {
                let (sender, receiver) = oneshot::channel();
                batch.caller = Some(sender);
                Results::Later(receiver)
            }
        }
    }

    /// What was kept with a waiting call.
    pub(crate) fn companion(&self, ticket: Ticket) -> Option<&C> {
        self.waiting.get(ticket.parts().0.0).map(|batch| &batch.companion)
    }

    fn take(&mut self, call: Call) -> Vec<R> {
        self.waiting.remove(call.0).results.into_iter().flatten().collect()
    }
}

impl Call {
    /// The ticket of its operation at `index`.
    pub(crate) fn ticket(self, index: usize) -> Ticket {
        Ticket((self.0 as u64) << INDEX_BITS | index as u64)
    }
}

impl Ticket {
    fn parts(self) -> (Call, usize) {
        (Call((self.0 >> INDEX_BITS) as usize), (self.0 & ((1 << INDEX_BITS) - 1)) as usize)
    }

    /// Which operation of its call it is.
    pub(crate) fn index(self) -> usize {
        self.parts().1
    }
}

#[cfg(test)]
mod tests {
    use super::{Batches, Results};

    #[test]
    fn a_call_is_answered_in_order_when_its_last_result_has_come() {
        let mut batches = Batches::new();
        let calls = [batches.begin(2, "a"), batches.begin(1, "b")];
        batches.put(calls[0].ticket(1), 11);
        batches.put(calls[1].ticket(0), 20);
        assert!(matches!(batches.results(calls[1]), Results::Now(results) if results == [20]));
        let Results::Later(mut receiver) = batches.results(calls[0]) else { panic!("one is missing") };
        assert_eq!(batches.companion(calls[0].ticket(0)), Some(&"a"));
        batches.put(calls[0].ticket(0), 10);
        assert_eq!(receiver.try_recv(), Ok(vec![10, 11]));
        assert!(batches.waiting.is_empty());
    }

    #[test]
    fn a_caller_that_went_away_leaves_nothing_behind() {
        let mut batches = Batches::new();
        let call = batches.begin(1, ());
        drop(batches.results(call));
        batches.put(call.ticket(0), 1);
        assert!(batches.waiting.is_empty());
    }
}
