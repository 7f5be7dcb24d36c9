//! Staying awake between two operations of a caller that makes one after another, and for the answer to a single one. Such a caller's
//! next operation comes within microseconds of the answer; falling asleep and being woken for it takes longer than that, on both sides.
//!
//! The thread lingers only where that has paid lately: it remembers how long the next operation took to come, and its answer. A client
//! that is idle, or whose calls are far apart, does not linger at all.

use std::{
    cell::Cell,
    rc::Rc,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use tokio::task::{spawn_local, yield_now};

use super::Driver;

/// How long the thread lingers at most: what two sleeps and wakes cost, several times over. An interpreter needs less between two calls.
const LINGER_MAX: Duration = Duration::from_micros(50);

/// How long the thread watches its sockets for an answer before it sleeps: a few times what a node nearby takes.
const WATCH_MAX: Duration = Duration::from_micros(150);

/// With more operations under way than this, answers come in batches, and being woken is paid once for many.
const WATCHED_MAX: usize = 16;

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
    /// When the first operation after a pause came, if they have not all ended.
    busy_since: Cell<Option<Instant>>,
    /// How long it took on average until all had ended.
    answer_micros: Cell<f32>,
    /// Whether the sockets are being watched.
    watching: Cell<bool>,
}

impl Default for Linger {
    fn default() -> Self {
        let long = PAUSE_MAX.as_micros() as f32;
        Self {
            idle_since: Cell::new(None),
            pause_micros: Cell::new(long),
            busy_since: Cell::new(None),
            answer_micros: Cell::new(long),
            watching: Cell::new(false),
        }
    }
}

impl Linger {
    /// Operations have come.
    pub(super) fn note_arrival(&self, now: Instant) {
        if let Some(since) = self.idle_since.take() {
            fold(&self.pause_micros, now.saturating_duration_since(since));
            self.busy_since.set(Some(now));
        }
    }

    /// All operations have ended.
    fn note_idle(&self, now: Instant) {
        self.idle_since.set(Some(now));
        if let Some(since) = self.busy_since.take() {
            fold(&self.answer_micros, now.saturating_duration_since(since));
        }
    }

    /// Whether to watch sockets: answers come soon, and so do the operations of whoever gets them.
    fn watching_pays(&self) -> bool {
        let most = WATCH_MAX.as_micros() as f32;
        *PAYS && self.answer_micros.get() < most && self.pause_micros.get() < most
    }

    fn pays(&self) -> bool {
        *PAYS && self.pause_micros.get() < LINGER_MAX.as_micros() as f32
    }
}

fn fold(average_micros: &Cell<f32>, measured: Duration) {
    let measured = measured.min(PAUSE_MAX).as_secs_f32() * 1e6;
    let before = average_micros.get();
    average_micros.set(before + (measured - before) * WEIGHT);
}

impl Driver {
    /// Something is under way: keeps the thread from falling asleep for a moment, so that it looks at its sockets again and again.
    pub(super) fn watch(self: &Rc<Self>) {
        if !self.linger.watching_pays() || self.shared.admitted() > WATCHED_MAX || self.linger.watching.replace(true) {
            return;
        }
        let driver = Rc::clone(self);
        spawn_local(async move {
            let began = Instant::now();
            while !driver.engine.borrow().is_idle()
                && driver.shared.admitted() <= WATCHED_MAX
                && began.elapsed() < WATCH_MAX
            {
                // The node may be on this very machine, and want this very processor.
                thread::yield_now();
                yield_now().await;
            }
            driver.linger.watching.set(false);
        });
    }

    /// Nothing is under way any more: waits a moment for the next operation, if it is likely to come.
    pub(super) fn linger(self: &Rc<Self>) {
        let now = Instant::now();
        self.linger.note_idle(now);
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
