//! Staying awake between two operations of a caller that makes one after another. Such a caller's next operation comes within
//! microseconds of the answer; falling asleep and being woken for it takes longer than that, on both sides.
//!
//! The thread lingers only where that has paid lately: it remembers how long the next operation took to come. A client that is idle, or
//! whose calls are far apart, does not linger at all.

use std::{
    cell::Cell,
    rc::Rc,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use super::Driver;

/// How long the thread lingers at most: what two sleeps and wakes cost, several times over. An interpreter needs less between two calls.
const LINGER_MAX: Duration = Duration::from_micros(50);

/// What a longer pause is taken for, so that it is forgotten after a few operations.
const PAUSE_MAX: Duration = Duration::from_micros(400);

/// Part of a new measurement in the average.
const WEIGHT: f32 = 0.25;

/// With one processor, the caller can't work while the thread lingers.
static PAYS: LazyLock<bool> = LazyLock::new(|| thread::available_parallelism().is_ok_and(|count| count.get() > 1));

/// What the thread knows of its callers' habits.
pub(super) struct Linger {
    /// When the last operation ended, if none has come since.
    idle_since: Cell<Option<Instant>>,
    /// How long it took on average until the next one came.
    pause_micros: Cell<f32>,
}

impl Default for Linger {
    fn default() -> Self {
        Self { idle_since: Cell::new(None), pause_micros: Cell::new(PAUSE_MAX.as_micros() as f32) }
    }
}

impl Linger {
    /// Operations have come.
    pub(super) fn note_arrival(&self, now: Instant) {
        let Some(since) = self.idle_since.take() else { return };
        let pause = now.saturating_duration_since(since).min(PAUSE_MAX).as_secs_f32() * 1e6;
        let before = self.pause_micros.get();
        self.pause_micros.set(before + (pause - before) * WEIGHT);
    }

    fn pays(&self) -> bool {
        *PAYS && self.pause_micros.get() < LINGER_MAX.as_micros() as f32
    }
}

impl Driver {
    /// Nothing is under way any more: waits a moment for the next operation, if it is likely to come.
    pub(super) fn linger(self: &Rc<Self>) {
        let now = Instant::now();
        self.linger.idle_since.set(Some(now));
        if !self.linger.pays() {
            return;
        }
        let queue = &self.shared.queues[self.thread];
        queue.stay_awake();
        while queue.looks_empty() && now.elapsed() < LINGER_MAX {
            // The caller may have been put on this very processor.
            thread::yield_now();
        }
        if !queue.looks_empty() {
            self.pass();
        }
        if !queue.may_sleep() {
            self.waker.borrow().wake_by_ref();
        }
    }
}
