//! Read, merge, write, and again when another writer was quicker: the rounds of an update as steps, so that whoever merges, in
//! whichever language and however long it takes, need not know why there is another round.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::operation::{Action, Address, Basis, Operation};

use crate::{
    Bucket, Context, Error, Lookup, Stored,
    request::{self, Defaults, write_under},
};

/// How often an update merges again when other writers were quicker.
const ROUNDS_MAX: u32 = 5;

/// An update under way. One step at a time: read, then write, then read again if [`Update::judge`] says so.
pub struct Update {
    bucket: Bucket,
    key: Bytes,
    defaults: Defaults,
    begun: Instant,
    deadline: Instant,
    state: Mutex<State>,
}

struct State {
    /// Covers what the last read saw; `None` before a read and after a write.
    seen: Option<Context>,
    rounds: u32,
    /// Whether an earlier round stored something.
    stored: bool,
}

impl Update {
    pub(crate) fn new(bucket: Bucket, key: Bytes, defaults: Defaults) -> Self {
        let state = State { seen: None, rounds: 0, stored: false };
        let (begun, deadline) = (Instant::now(), request::deadline(defaults.timeout));
        Self { bucket, key, defaults, begun, deadline, state: Mutex::new(state) }
    }

    /// The time that is left for the update as a whole, and so for whatever merges between two of its steps; none once it is over.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// How the update ends when merging was given up because no time remained.
    pub fn overdue(&self) -> Error {
        let message = "the time was over before the values were merged, and the merged value was not sent: merge faster, or give the update \
                       a longer timeout";
        Error::timeout(message).with_story(self.lock().stored, None, 0, self.begun.elapsed())
    }

    /// When the update as a whole must have ended.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The read that begins a round.
    pub(crate) fn read(&self) -> Operation {
        self.operation(Action::Get { without_values: false })
    }

    /// What a round's read gives to merge: no value when the key is absent, several when writes were concurrent.
    pub(crate) fn values(&self, read: Result<Lookup, Error>) -> Result<Vec<Bytes>, Error> {
        let mut state = self.lock();
        let seen = read.map_err(|error| state.explain(error))?;
        state.seen = Some(seen.context().clone());
        Ok(seen.siblings().iter().map(|sibling| sibling.value.clone()).collect())
    }

    /// The write that ends a round: it replaces exactly what was merged.
    pub(crate) fn write(&self, merged: Bytes) -> Result<Operation, Error> {
        let seen = self.lock().seen.take();
        let seen = seen.ok_or_else(|| Error::invalid("an update writes once after each read; nothing was sent"))?;
        let mut action = request::put(merged, Basis::Local);
        write_under(&mut action, seen)?;
        Ok(self.operation(action))
    }

    /// What a round's write comes to: the update's result, or `None` when what is there now must be read and merged again.
    pub(crate) fn judge(&self, written: Result<Stored, Error>) -> Result<Option<Stored>, Error> {
        let mut state = self.lock();
        state.rounds += 1;
        let may_repeat = state.rounds < ROUNDS_MAX;
        match written {
            Ok(stored) if stored.siblings > 1 && may_repeat => {
                state.stored = true;
                Ok(None)
            }
            Ok(stored) => Ok(Some(stored)),
            Err(Error::TooManySiblings(_)) if may_repeat => Ok(None),
            Err(error) => Err(state.explain(error)),
        }
    }

    fn operation(&self, action: Action) -> Operation {
        let address = Address::new(self.bucket.name_bytes().clone(), self.key.clone());
        Operation { address, consistency: self.defaults.consistency, action }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What an earlier round stored stands, whatever becomes of a later one.
    fn explain(&self, error: Error) -> Error {
        if self.stored { error.with_something_applied() } else { error }
    }
}
