//! Calls that are no operations: explanations, statistics, pings, pages of scans. Each is a task on an I/O thread of the client.

use std::{sync::Arc, time::Duration};

use tokio::{task::spawn_local, time::timeout_at};

use super::{Answer, Sink, Ticket, ask::Asking, call::Call};
use crate::{Bucket, Error, request};

/// Begins a call whose answer is the result of a future, if that comes in time.
pub(super) fn begin<S, F>(
    asking: &Asking<'_, S>,
    work: impl FnOnce(Bucket) -> F + Send + 'static,
) -> Result<Ticket, Error>
where
    S: Sink + 'static,
    F: Future<Output = Result<Answer, Error>> + 'static,
{
    let shared = &asking.bucket.handle().shared;
    let call = Call::begin(shared, asking.token, asking.sink)?;
    asking.sink.expect(asking.token, asking.deadline, false);
    let (ticket, bucket, deadline) = (call.ticket(), asking.bucket.clone(), asking.deadline);
    // Where the thread takes no more jobs, or ends before this one does, the call is told so by being dropped.
    shared.queues[0].push_job(Box::new(move |_| {
        spawn_local(async move {
            let open = Arc::clone(call.open());
            let result = tokio::select! {
                biased;
                () = open.withdrawn() => return,
                result = timeout_at(deadline.into(), work(bucket)) => result,
            };
            call.tell(
                result.unwrap_or_else(|_| Err(Error::timeout("the time was over before the answer was complete"))),
            );
        });
    }));
    Ok(ticket)
}

/// Closes the client. What has been taken in ends by its own deadline, so this does too.
pub(super) fn close<S: Sink + 'static>(asking: &Asking<'_, S>) -> Ticket {
    let shared = &asking.bucket.handle().shared;
    let (token, sink) = (asking.token, Arc::clone(asking.sink));
    let ticket = shared.next_id().into();
    // As long as the longest of what is under way.
    asking.sink.expect(token, request::deadline(Duration::MAX), false);
    shared.when_ended(move || {
        if sink.is_wanted(token) {
            sink.deliver(token, Ok(Answer::Closed));
            sink.flush();
        }
    });
    shared.close();
    ticket
}
