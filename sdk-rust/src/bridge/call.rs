//! Calls that are more than one operation: each is told once, however it ends, and can be withdrawn by its ticket.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use dynamo::ident::OpId;
use tokio::sync::Notify;

use super::{Answer, Sink};
use crate::{Builder, Client, Error, core::Shared, driver::bootstrap, request};

/// Names a call that is under way: two numbers, so that it can cross any border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Of which client.
    pub client: u64,
    /// Which of its calls.
    pub call: u64,
}

/// Connects to a cluster: [`Answer::Connected`]. It ends within the time of [`Builder::connect_within`]. An error means that nothing was
/// begun and the sink will not be told.
pub fn connect<S: Sink + 'static>(builder: Builder, token: u64, sink: &Arc<S>) -> Result<(), Error> {
    let deadline = request::deadline(builder.connect_within());
    let config = builder.into_config()?;
    sink.expect(token, deadline, false);
    let sink = Arc::clone(sink);
    bootstrap::start(config, move |shared| {
        let client = shared.map(Client::new);
        if sink.is_wanted(token) {
            sink.deliver(token, client.map(Answer::Connected));
            sink.flush();
        }
    });
    Ok(())
}

/// The calls of a client that are under way, those of one operation excepted.
#[derive(Default)]
pub(crate) struct Calls(Mutex<HashMap<u64, Arc<Open>>>);

/// A call that nobody has been told about yet.
#[derive(Default)]
pub(crate) struct Open {
    withdrawn: AtomicBool,
    notify: Notify,
}

/// One call and where its answer goes. If it is dropped untold, it is told that the client was closed.
pub(super) struct Call<S: Sink> {
    shared: Arc<Shared>,
    id: OpId,
    open: Arc<Open>,
    token: u64,
    sink: Arc<S>,
}

impl From<OpId> for Ticket {
    fn from(id: OpId) -> Self {
        Self { client: id.client, call: id.sequence }
    }
}

impl Calls {
    /// Ends a call without telling its sink, if it is one of these.
    pub(crate) fn withdraw(&self, call: u64) -> bool {
        let Some(open) = self.lock().remove(&call) else { return false };
        open.withdrawn.store(true, Ordering::Release);
        open.notify.notify_one();
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Open>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Resolves when the call is withdrawn.
    pub(super) async fn withdrawn(&self) {
        self.notify.notified().await;
    }
}

impl<S: Sink> Call<S> {
    pub(super) fn begin(shared: &Arc<Shared>, token: u64, sink: &Arc<S>) -> Result<Self, Error> {
        if shared.is_closed() {
            return Err(Error::closed());
        }
        let (id, open) = (shared.next_id(), Arc::new(Open::default()));
        let mut calls = shared.calls.lock();
        if calls.len() >= shared.config.waiting_max {
            let message = format!("{} calls already wait in this client; nothing was sent", calls.len());
            return Err(Error::overloaded(message));
        }
        calls.insert(id.sequence, Arc::clone(&open));
        drop(calls);
        Ok(Self { shared: Arc::clone(shared), id, open, token, sink: Arc::clone(sink) })
    }

    pub(super) fn ticket(&self) -> Ticket {
        self.id.into()
    }

    pub(super) fn open(&self) -> &Arc<Open> {
        &self.open
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.open.withdrawn.load(Ordering::Acquire) && self.sink.is_wanted(self.token)
    }

    /// Tells the result, unless the call was told already or withdrawn.
    pub(super) fn tell(&self, result: Result<Answer, Error>) {
        let open = self.shared.calls.lock().remove(&self.id.sequence);
        if open.is_some() && self.sink.is_wanted(self.token) {
            self.sink.deliver(self.token, result);
            self.sink.flush();
        }
    }
}

impl<S: Sink> Drop for Call<S> {
    fn drop(&mut self) {
        let error = match std::thread::panicking() {
            true => Error::internal("the client panicked while the call was under way"),
            false => Error::closed(),
        };
        self.tell(Err(error));
    }
}
