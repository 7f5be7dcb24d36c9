//! Requests: futures that are submitted when they are first polled, with the options of one call. They need no particular
//! executor, and dropping one cancels it: what was not sent yet is not sent, what was sent may still be carried out.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{
    ident::OpId,
    layout::Level,
    operation::{Action, Address, Basis, Consistency, Operation, Reply},
};

use crate::{
    Context, Error, Found, Lookup, Stored,
    client::Handle,
    core::{Completer, Slot},
};

/// What a timeout that no clock can show is taken for: a year.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads a key. Resolves to its values, or `None` when there are none.
#[must_use = "a request does nothing unless it is awaited"]
pub struct Get(Request);

/// Writes a value.
#[must_use = "a request does nothing unless it is awaited"]
pub struct Put(Request);

/// Deletes a key.
#[must_use = "a request does nothing unless it is awaited"]
pub struct Delete(Request);

/// Asks whether a key has values, without moving them.
#[must_use = "a request does nothing unless it is awaited"]
pub struct Exists(Request);

/// What all requests have in common.
pub(crate) struct Request {
    handle: Arc<Handle>,
    until: Until,
    stage: Stage,
}

/// How long a request may take.
#[derive(Clone, Copy)]
enum Until {
    /// So long from when it is first polled.
    After(Duration),
    At(Instant),
}

// Boxing the operation would cost an allocation for each; the future moves only before it is polled.
#[allow(clippy::large_enum_variant)]
enum Stage {
    New(Operation),
    Submitted(Arc<Slot>),
    Wrong(Error),
    Over,
}

/// Options that a handle gives to every request it makes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub(crate) consistency: Consistency,
    pub(crate) timeout: Duration,
}

impl Request {
    pub(crate) fn new(handle: Arc<Handle>, defaults: Defaults, address: Address, action: Action) -> Self {
        let operation = Operation { address, consistency: defaults.consistency, action };
        Self { handle, until: Until::After(defaults.timeout), stage: Stage::New(operation) }
    }

    /// An operation that must have ended at a certain time.
    pub(crate) fn of(handle: Arc<Handle>, operation: Operation, deadline: Instant) -> Self {
        Self { handle, until: Until::At(deadline), stage: Stage::New(operation) }
    }

    fn change(mut self, change: impl FnOnce(&mut Operation)) -> Self {
        if let Stage::New(operation) = &mut self.stage {
            change(operation);
        }
        self
    }

    fn replace_only(mut self, context: Context) -> Self {
        let Stage::New(operation) = &mut self.stage else { return self };
        if let Err(error) = write_under(&mut operation.action, context) {
            self.stage = Stage::Wrong(error);
        }
        self
    }

    fn poll_reply(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<Reply, Error>> {
        if let Stage::New(_) = self.stage {
            self.submit();
        }
        let result = match &self.stage {
            Stage::Submitted(slot) => std::task::ready!(slot.poll(context)),
            Stage::Wrong(error) => Err(error.clone()),
            Stage::New(_) | Stage::Over => Err(Error::internal("the request was polled after it was ready")),
        };
        self.stage = Stage::Over;
        Poll::Ready(result)
    }

    fn submit(&mut self) {
        let Stage::New(operation) = std::mem::replace(&mut self.stage, Stage::Over) else { return };
        let slot = Arc::new(Slot::default());
        let completer = Arc::clone(&slot) as Arc<dyn Completer>;
        let deadline = match self.until {
            Until::After(timeout) => deadline(timeout),
            Until::At(deadline) => deadline,
        };
        self.stage = match self.handle.shared.submit(operation, deadline, 0, completer) {
            Ok(_) => Stage::Submitted(slot),
            Err(error) => Stage::Wrong(error),
        };
    }
}

impl Future for Request {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.poll_reply(context)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Stage::Submitted(slot) = &self.stage {
            slot.leave();
        }
    }
}

macro_rules! options {
    ($($request:ident: $replicas:ident, $what:literal);* $(;)?) => {$(
        impl $request {
            /// How many replicas it waits for, by name.
            pub fn level(self, level: Level) -> Self {
                Self(self.0.change(|operation| operation.consistency.level = Some(level)))
            }

            #[doc = $what]
            pub fn $replicas(self, replicas: u8) -> Self {
                Self(self.0.change(|operation| operation.consistency.$replicas = replicas))
            }

            /// Uses only the first `replicas` owners of the key.
            pub fn n(self, replicas: u8) -> Self {
                Self(self.0.change(|operation| operation.consistency.n = replicas))
            }

            /// Time for the whole request, retries included. It resolves within it.
            pub fn timeout(mut self, timeout: Duration) -> Self {
                self.0.until = Until::After(timeout);
                self
            }
        }
    )*};
}

options! {
    Get: r, "Waits for so many replicas, whatever the level says.";
    Exists: r, "Waits for so many replicas, whatever the level says.";
    Put: w, "Waits until so many replicas have it on disk, whatever the level says.";
    Delete: w, "Waits until so many replicas have it on disk, whatever the level says.";
}

impl Get {
    pub(crate) fn new(request: Request) -> Self {
        Self(request)
    }

    /// Moves no values: their lengths, clocks and the context only.
    pub fn without_values(self) -> Self {
        Self(self.0.change(|operation| operation.action = Action::Get { without_values: true }))
    }

    /// The answer with its context and receipt even when there are no values.
    pub async fn lookup(mut self) -> Result<Lookup, Error> {
        Lookup::from_reply((&mut self.0).await?)
    }
}

impl Put {
    pub(crate) fn new(request: Request) -> Self {
        Self(request)
    }

    /// Replaces exactly what the read that gave `context` saw. Under [`Context::EMPTY`] it replaces nothing.
    pub fn context(self, context: impl Into<Context>) -> Self {
        Self(self.0.replace_only(context.into()))
    }

    /// Lets the version expire: reads that begin so much later, by the clock of the node that answers them, do not see it any
    /// more. In whole milliseconds; a shorter time than one is one.
    pub fn ttl(self, ttl: Duration) -> Self {
        Self(self.0.change(|operation| expire(&mut operation.action, ttl)))
    }

    /// Replaces nothing: adds a version beside whatever there is.
    pub fn beside(self) -> Self {
        self.context(Context::EMPTY)
    }
}

impl Delete {
    pub(crate) fn new(request: Request) -> Self {
        Self(request)
    }

    /// Deletes exactly what the read that gave `context` saw.
    pub fn context(self, context: impl Into<Context>) -> Self {
        Self(self.0.replace_only(context.into()))
    }
}

impl Exists {
    pub(crate) fn new(request: Request) -> Self {
        Self(request)
    }
}

impl From<&Self> for Context {
    fn from(context: &Self) -> Self {
        context.clone()
    }
}

impl Future for Get {
    type Output = Result<Option<Found>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.poll_reply(context).map(|reply| reply.and_then(Lookup::from_reply).map(Lookup::found))
    }
}

impl Future for Put {
    type Output = Result<Stored, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.poll_reply(context).map(|reply| reply.and_then(Stored::from_reply))
    }
}

impl Future for Delete {
    type Output = Result<Stored, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.poll_reply(context).map(|reply| reply.and_then(Stored::from_reply))
    }
}

impl Future for Exists {
    type Output = Result<bool, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let found = |lookup| matches!(lookup, Lookup::Found(_));
        self.0.poll_reply(context).map(|reply| reply.and_then(Lookup::from_reply).map(found))
    }
}

/// When something must have ended that may take so long from now on.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or(now + TIMEOUT_MAX)
}

/// Has a write replace exactly what `context` covers.
pub(crate) fn write_under(action: &mut Action, context: Context) -> Result<(), Error> {
    let under = |context: Context| match context.is_empty() {
        true => Basis::Beside,
        false => Basis::Context(context.into_bytes()),
    };
    match action {
        Action::Get { .. } => {}
        Action::Put { basis, .. } => *basis = under(context),
        Action::Delete { .. } if context.is_empty() => {
            return Err(Error::invalid("a delete under the empty context would delete nothing; nothing was sent"));
        }
        Action::Delete { basis, .. } => *basis = under(context),
    }
    Ok(())
}

/// Lets what a put writes expire.
pub(crate) fn expire(action: &mut Action, ttl: Duration) {
    if let Action::Put { ttl_ms, .. } = action {
        *ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
    }
}

/// A put as it begins.
pub(crate) fn put(value: Bytes, basis: Basis) -> Action {
    Action::Put { value, hash: None, basis, op_id: OpId::NONE, seen_clock: 0, ttl_ms: 0 }
}

/// A delete as it begins.
pub(crate) fn delete(basis: Basis) -> Action {
    Action::Delete { basis, op_id: OpId::NONE, seen_clock: 0 }
}
