//! How far the steward's tasks are, for operators and for tests that must not pass vacuously.

use crate::tick::Tick;

/// What a task does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// There is nothing to do.
    #[default]
    Idle,
    /// At work.
    Running,
    /// There is something to do that can't be done now: a node is away, or something failed and is tried again later.
    Waiting,
}

/// How far one kind of work is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it does now.
    pub state: State,
    /// Finished of the present run, or of the last one: partitions compared with one owner each, or objects.
    pub done: u64,
    /// What the run has to do, as far as known.
    pub total: u64,
    /// Objects brought level since the start, here or elsewhere.
    pub repaired: u64,
    /// Attempts that failed since the start.
    pub failed: u64,
    /// When the last run ended.
    pub ended_at: Option<Tick>,
}

/// How everything stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Anti-entropy.
    pub exchange: Progress,
    /// Hinted handoff. Its total is not known here: whoever keeps the hints knows how many are left.
    pub hints: Progress,
    /// Rebuilding what can't be verified.
    pub rebuild: Progress,
    /// Records known that can't be verified and are not rebuilt yet.
    pub unreadable: u64,
    /// Records that were found unreadable when too many were known already: another scrub finds them again.
    pub unreadable_forgotten: u64,
    /// The share of its full speed that background work has, in thousandths.
    pub share_permille: u32,
}

impl Progress {
    /// There is more to do; after the end of a run it begins another.
    pub(super) fn begin(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        if self.done >= self.total {
            (self.done, self.total) = (0, 0);
        }
        self.total += count as u64;
    }

    /// Something is done.
    pub(super) fn finish(&mut self, now: Tick, count: u64) {
        self.done += count;
        if self.done >= self.total {
            self.ended_at = Some(now);
        }
    }

    /// Objects are done.
    pub(super) fn advance(&mut self, now: Tick, objects: u64) {
        self.repaired += objects;
        self.finish(now, objects);
    }

    /// With what it does now.
    pub(super) fn seen(&self, state: State) -> Self {
        Self { state, ..*self }
    }
}
