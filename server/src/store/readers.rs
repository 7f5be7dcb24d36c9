//! Which snapshots are open, and since when: the oldest one decides which pages LMDB may reuse, so a forgotten one makes
//! the file grow.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The open snapshots of a store. There are about as many as threads, so a list is enough.
#[derive(Debug, Default)]
pub(super) struct Readers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    open: Vec<(u64, Instant)>,
}

impl Readers {
    /// Notes a snapshot; the number it is ended by.
    pub(super) fn begin(&self, now: Instant) -> u64 {
        let mut state = self.lock();
        state.begun += 1;
        let number = state.begun;
        state.open.push((number, now));
        number
    }

    /// Notes that a snapshot has ended.
    pub(super) fn end(&self, number: u64) {
        let mut state = self.lock();
        if let Some(at) = state.open.iter().position(|(open, _)| *open == number) {
            state.open.swap_remove(at);
        }
    }

    /// How many there are, and how long the oldest has been open.
    pub(super) fn oldest(&self, now: Instant) -> (usize, Duration) {
        let state = self.lock();
        let oldest = state.open.iter().map(|(_, begun)| now.saturating_duration_since(*begun)).max();
        (state.open.len(), oldest.unwrap_or_default())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
