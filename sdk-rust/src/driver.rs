//! An I/O thread: it performs what the machine ([`crate::engine`]) wants, on connections that never leave it.
//!
//! One pass takes what has gathered in the queue, lets the machine sort and send it, and delivers results; the same happens
//! when an answer arrives. Nothing here decides anything.

mod administration;
pub(crate) mod bootstrap;
mod call;
pub(crate) mod jobs;
mod linger;
mod refresh;
mod reshaping;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use dynamo::operation::{Outcome, Reply};
use tokio::task::spawn_local;

use crate::{
    Completer, Error,
    core::{Contents, Job, Shared},
    engine::{Effect, Engine, Settings, link::LinkId},
    random::Random,
    transport::{self, Connection, Expected},
};
use linger::Linger;

/// How long the timer is set for when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// The driver of one I/O thread.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    /// Which of the client's I/O threads this is.
    thread: usize,
    engine: RefCell<Engine>,
    connections: RefCell<HashMap<LinkId, Connection>>,
    /// How many of the published layouts the machine has seen.
    layouts_seen: Cell<u64>,
    /// Wakes the main loop, which owns the timer.
    waker: RefCell<Waker>,
    timer_at: Cell<Option<Instant>>,
    linger: Linger,
    /// Emptied and filled again in every pass, so that they keep their capacity.
    contents: RefCell<Contents>,
    effects: RefCell<Vec<Effect>>,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, thread: usize) -> Rc<Self> {
        let config = &shared.config;
        let settings = Settings {
            attempt_timeout: config.attempt_timeout,
            attempts_max: config.attempts_max,
            in_flight_max: (config.in_flight_max / config.io_threads).max(1),
            zone: config.zone.clone(),
        };
        let layouts_seen = shared.layouts();
        let engine = Engine::new(settings, shared.layout(), Random::from_system(), Instant::now());
        Rc::new(Self {
            shared,
            thread,
            engine: RefCell::new(engine),
            connections: RefCell::default(),
            layouts_seen: Cell::new(layouts_seen),
            waker: RefCell::new(Waker::noop().clone()),
            timer_at: Cell::new(None),
            linger: Linger::default(),
            contents: RefCell::default(),
            effects: RefCell::default(),
        })
    }

    /// Runs until the client is closed and everything it took in has ended.
    pub(crate) async fn run(self: Rc<Self>) {
        if self.thread == 0 {
            spawn_local(Rc::clone(&self).refresh_now_and_then());
        }
        let mut timer = pin!(tokio::time::sleep(IDLE));
        let queue = &self.shared.queues[self.thread];
        poll_fn(|context| {
            queue.listen(context.waker());
            if !self.waker.borrow().will_wake(context.waker()) {
                self.waker.replace(context.waker().clone());
            }
            loop {
                self.pass();
                if self.shared.is_closed() && queue.is_empty() && self.engine.borrow().is_idle() {
                    return Poll::Ready(());
                }
                let at = self.engine.borrow().next_event();
                if let Some(at) = at
                    && self.timer_at.get() != Some(at)
                {
                    timer.as_mut().reset(at.into());
                    self.timer_at.set(Some(at));
                }
                if at.is_none() || timer.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.timer_at.set(None);
            }
        })
        .await;
    }

    /// Ends whatever is left, because the thread ends.
    pub(crate) fn stop(self: &Rc<Self>, error: &Error) {
        let left = self.shared.queues[self.thread].close();
        if let Ok(mut engine) = self.engine.try_borrow_mut() {
            engine.fail_all(error);
        }
        self.perform();
        self.shared.release(left.submissions.len());
        for submission in left.submissions {
            complete(&*submission.completer, submission.token, Err(error.clone()));
            flush(Some(submission.completer));
        }
    }

    /// Takes in what has gathered and what is due, and performs what follows.
    fn pass(self: &Rc<Self>) {
        let now = Instant::now();
        let mut contents = self.contents.take();
        self.shared.queues[self.thread].take(&mut contents);
        if !contents.submissions.is_empty() {
            self.linger.note_arrival(now);
        }
        {
            let mut engine = self.engine.borrow_mut();
            let layouts = self.shared.layouts();
            if self.layouts_seen.replace(layouts) != layouts {
                engine.set_layout(self.shared.layout(), now);
            }
            contents.submissions.drain(..).for_each(|submission| engine.submit(now, submission));
            engine.cancel(now, &mut contents.cancelled);
            contents.cancelled.clear();
            engine.sweep(now);
            engine.pump(now);
        }
        let jobs: Vec<Job> = contents.jobs.drain(..).collect();
        self.contents.replace(contents);
        jobs.into_iter().for_each(|job| job(Rc::clone(self)));
        self.perform();
    }

    /// Lets `input` change the machine, and performs what follows.
    fn input(self: &Rc<Self>, input: impl FnOnce(&mut Engine, Instant)) {
        let now = Instant::now();
        {
            let mut engine = self.engine.borrow_mut();
            input(&mut engine, now);
            engine.pump(now);
        }
        self.perform();
        if self.engine.borrow().is_idle() {
            self.linger();
        }
        let due = self.engine.borrow().next_event();
        let must_wake = match (due, self.timer_at.get()) {
            (Some(at), Some(timer)) => at < timer,
            (Some(_), None) => true,
            (None, _) => self.shared.is_closed(),
        };
        if must_wake || self.shared.is_closed() {
            self.waker.borrow().wake_by_ref();
        }
    }

    fn perform(self: &Rc<Self>) {
        let mut effects = self.effects.take();
        loop {
            let released = {
                let Ok(mut engine) = self.engine.try_borrow_mut() else { return };
                std::mem::swap(&mut engine.effects, &mut effects);
                engine.take_released()
            };
            if released > 0 {
                self.shared.release(released);
            }
            if effects.is_empty() {
                break;
            }
            let mut latest_clock = 0;
            let mut told: Option<Arc<dyn Completer>> = None;
            for effect in effects.drain(..) {
                let Effect::Complete { completer, token, result } = effect else {
                    flush(told.take());
                    self.perform_one(effect);
                    continue;
                };
                if let Ok(reply) = &result {
                    latest_clock = latest_clock.max(clock(&reply.outcome));
                }
                if told.as_ref().is_some_and(|last| !Arc::ptr_eq(last, &completer)) {
                    flush(told.take());
                }
                complete(&*completer, token, result);
                told = Some(completer);
            }
            flush(told);
            if latest_clock > 0 {
                self.shared.saw_clock(latest_clock);
            }
        }
        self.effects.replace(effects);
    }

    fn perform_one(self: &Rc<Self>, effect: Effect) {
        match effect {
            Effect::Complete { completer, token, result } => {
                complete(&*completer, token, result);
                flush(Some(completer));
            }
            Effect::Health { link, up } => self.tell_health(link, up),
            Effect::Send { call, link, budget } => self.send(call, link, budget),
            Effect::Connect(link) => drop(spawn_local(Rc::clone(self).connect(link))),
            Effect::Disconnect(link) => drop(self.connections.borrow_mut().remove(&link)),
            Effect::Refresh { link, epoch } => self.refresh_from(link, epoch),
        }
    }

    /// Tells subscribers that a node has come or gone, as far as this thread can tell.
    fn tell_health(&self, link: LinkId, up: bool) {
        let (name, node) = {
            let engine = self.engine.borrow();
            let link = engine.link(link);
            (link.name.clone(), link.node)
        };
        self.shared.subscribers.tell_health(name, node, up);
    }

    async fn connect(self: Rc<Self>, link: LinkId) {
        let (addresses, node, cluster) = {
            let engine = self.engine.borrow();
            let target = engine.link(link);
            (target.addresses.clone(), target.node, engine.layout().cluster)
        };
        let config = &self.shared.config;
        let expected = Some(Expected { cluster, node });
        let (patience, budget) = (config.connect_timeout, &self.shared.replies);
        match transport::connect(&addresses, &config.name, expected, patience, budget).await {
            Ok(connection) => {
                let (limits, handle) = (connection.hello.limits, connection.handle());
                self.shared.saw_value_limit(limits.value_bytes_max);
                self.connections.borrow_mut().insert(link, connection);
                self.input(|engine, now| engine.connected(now, link, &limits));
                let reason = handle.closed().await;
                tracing::debug!(%reason, "a connection ended");
                // After `Disconnect` this is another connection's entry, or none.
                if self.connections.borrow().get(&link).is_some_and(Connection::has_ended) {
                    self.connections.borrow_mut().remove(&link);
                    self.input(|engine, now| engine.disconnected(now, link));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "no connection");
                self.input(|engine, now| engine.unreachable(now, link));
            }
        }
    }
}

/// Tells a result. A completer is the application's code; if it panics, the other operations still end.
fn complete(completer: &dyn Completer, token: u64, result: Result<Reply, Error>) {
    if catch_unwind(AssertUnwindSafe(|| completer.complete(token, result))).is_err() {
        tracing::error!(token, "a completer panicked");
    }
}

/// A run of results of one completer is over.
fn flush(completer: Option<Arc<dyn Completer>>) {
    let Some(completer) = completer else { return };
    if catch_unwind(AssertUnwindSafe(|| completer.flush())).is_err() {
        tracing::error!("a completer panicked");
    }
}

/// The highest clock that an outcome shows.
fn clock(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Found { siblings, .. } => siblings.iter().map(|sibling| sibling.clock).max().unwrap_or(0),
        Outcome::Stored { clock, .. } => *clock,
        Outcome::NotFound { .. } | Outcome::Failed(_) => 0,
    }
}
