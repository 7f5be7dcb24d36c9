//! Writes down what clients do while they do it, on one clock, for all of them.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use quorate_history::{Basis, Event, Kind, Stage};

/// A history in the making.
#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    next_id: AtomicU64,
    events: Mutex<Vec<Event>>,
}

/// An operation that has begun.
#[derive(Clone, Debug)]
pub struct Begun(Event);

impl Default for Recorder {
    fn default() -> Self {
        Self { started: Instant::now(), next_id: AtomicU64::new(1), events: Mutex::default() }
    }
}

impl Recorder {
    /// An id that no other write has.
    pub fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// A read begins.
    pub fn read(&self, process: u32, key: &str, strict: bool) -> Begun {
        self.begin(Event { strict, ..Event::new(self.now(), process, Kind::Get, key, Stage::Invoke) })
    }

    /// A write begins.
    pub fn write(&self, process: u32, op: Kind, key: &str, strict: bool, id: u64, basis: Basis) -> Begun {
        let event = Event::new(self.now(), process, op, key, Stage::Invoke);
        self.begin(Event { strict, id: Some(id), basis: Some(basis), ..event })
    }

    /// An operation ends. `values` and `context` are what its answer showed.
    pub fn end(&self, begun: Begun, stage: Stage, mut values: Vec<u64>, context: Option<String>) {
        let mut event = Event::new(self.now(), begun.0.process, begun.0.op, begun.0.key, stage);
        values.sort_unstable();
        (event.strict, event.id, event.values, event.context) = (begun.0.strict, begun.0.id, values, context);
        self.events().push(event);
    }

    /// Adds what was seen otherwise.
    pub fn add(&self, events: impl IntoIterator<Item = Event>) {
        self.events().extend(events);
    }

    /// Everything so far.
    pub fn history(&self) -> Vec<Event> {
        self.events().clone()
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.events().len()
    }

    /// Whether nothing has happened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Microseconds since the beginning.
    pub fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn begin(&self, event: Event) -> Begun {
        self.events().push(event.clone());
        Begun(event)
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
