//! The client's machine as simulators see it: routing, batching, breakers, retries and deadlines exactly as in the real client, under a
//! clock that is handed in. It is no part of the interface that applications use, and may change at any time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dynamo::{
    ident::NodeId,
    layout::Layout,
    operation::{Failure, Operation, Reply},
};
use schema::convert::{NodeLimits, ReplyHeader};

use crate::{
    Completer, Error,
    engine::{Effect, Engine, Settings, Submission, link::LinkId},
    random::Random,
};

/// What a machine is told to keep to; the meaning is [`crate::Builder`]'s.
#[derive(Clone, Debug)]
pub struct MachineSettings {
    /// Time for one attempt.
    pub attempt_timeout: Duration,
    /// How often an operation is sent at most.
    pub attempts_max: u32,
    /// Operations under way at the same time.
    pub in_flight_max: usize,
    /// The client's own zone.
    pub zone: Option<String>,
}

/// What shall happen. Nodes are named by who they are: their places can change hands when the ring does.
#[derive(Debug)]
pub enum MachineEffect {
    /// Open a connection, then say [`Machine::connected`] or [`Machine::unreachable`].
    Connect(NodeId),
    /// Close the connection.
    Disconnect(NodeId),
    /// Make this call, then say [`Machine::answered`], or [`Machine::disconnected`] if the connection ends.
    Send {
        /// Names the call.
        call: u64,
        /// To whom.
        node: NodeId,
        /// What to ask, in the order in which results are expected.
        operations: Vec<Operation>,
        /// How long the node may take.
        budget: Duration,
    },
    /// The operation that was submitted with `token` has ended.
    Complete {
        /// Which.
        token: u64,
        /// How.
        result: Result<Reply, Error>,
    },
    /// This node knows a newer layout: fetch it there, a little later and once, then say [`Machine::set_layout`]. Until then every answer
    /// that shows the newer epoch asks for it again.
    Refresh(NodeId),
}

/// The machine of one client. Times are counted from an instant of the driver's choice.
pub struct Machine {
    engine: Engine,
    start: Instant,
    submitted: u64,
}

/// Results come out as effects, so nobody has to be told.
struct Nobody;

impl Completer for Nobody {
    fn complete(&self, _token: u64, _result: Result<Reply, Error>) {}
}

impl Machine {
    /// A machine without connections; `seed` determines all its random choices.
    pub fn new(settings: MachineSettings, layout: Arc<Layout>, seed: u64) -> Self {
        let MachineSettings { attempt_timeout, attempts_max, in_flight_max, zone } = settings;
        let settings = Settings { attempt_timeout, attempts_max, in_flight_max, zone };
        // Only differences between instants mean anything, so this one makes no run differ from another.
        let start = Instant::now();
        Self { engine: Engine::new(settings, layout, Random::new(seed), start), start, submitted: 0 }
    }

    /// Takes an operation in.
    pub fn submit(&mut self, now: Duration, operation: Operation, deadline: Duration, token: u64) {
        self.submitted += 1;
        let submission = Submission {
            operation,
            sequence: self.submitted,
            started: self.start + now,
            deadline: self.start + deadline,
            token,
            completer: Arc::new(Nobody),
        };
        self.engine.submit(self.start + now, submission);
    }

    /// Follows another layout, unless it is no newer than the one that is followed. Says whether it was.
    pub fn set_layout(&mut self, now: Duration, layout: Arc<Layout>) -> bool {
        let here = self.engine.layout();
        let is_newer = (layout.generation, layout.epoch) > (here.generation, here.epoch);
        if is_newer {
            self.engine.set_layout(layout, self.start + now);
        }
        is_newer
    }

    /// The layout that is followed.
    pub fn layout(&self) -> &Arc<Layout> {
        self.engine.layout()
    }

    /// A connection was opened and greeted.
    pub fn connected(&mut self, now: Duration, node: NodeId, limits: &NodeLimits) {
        self.with_link(node, |engine, link, start| engine.connected(start + now, link, limits));
    }

    /// No connection was to be had.
    pub fn unreachable(&mut self, now: Duration, node: NodeId) {
        self.with_link(node, |engine, link, start| engine.unreachable(start + now, link));
    }

    /// A connection is gone.
    pub fn disconnected(&mut self, now: Duration, node: NodeId) {
        self.with_link(node, |engine, link, start| engine.disconnected(start + now, link));
    }

    /// A call was answered, with one reply for each of its operations.
    pub fn answered(&mut self, now: Duration, call: u64, header: &ReplyHeader, replies: Vec<Reply>) {
        self.engine.answered(self.start + now, call, header, replies);
    }

    /// A call was answered with one failure for all of its operations.
    pub fn refused(&mut self, now: Duration, call: u64, header: &ReplyHeader, failure: &Failure) {
        self.engine.refused(self.start + now, call, header, failure);
    }

    /// Deals with what is due, sends what can be sent, and says what shall happen. To be called after every other input, and
    /// when the time of [`Machine::next_event`] has come.
    pub fn advance(&mut self, now: Duration) -> Vec<MachineEffect> {
        self.engine.sweep(self.start + now);
        self.engine.pump(self.start + now);
        let effects = std::mem::take(&mut self.engine.effects);
        effects.into_iter().filter_map(|effect| self.translate(effect)).collect()
    }

    /// When something is due.
    pub fn next_event(&self) -> Option<Duration> {
        self.engine.next_event().map(|at| at.saturating_duration_since(self.start))
    }

    /// How many attempts beyond the first were made.
    pub fn retries(&self) -> u64 {
        self.engine.counts.retries
    }

    fn translate(&self, effect: Effect) -> Option<MachineEffect> {
        Some(match effect {
            Effect::Connect(link) => MachineEffect::Connect(self.node(link)),
            Effect::Disconnect(link) => MachineEffect::Disconnect(self.node(link)),
            Effect::Send { call, link, budget } => {
                let operations = self.engine.operations(call).cloned().collect();
                MachineEffect::Send { call, node: self.node(link), operations, budget }
            }
            Effect::Complete { completer: _, token, result } => MachineEffect::Complete { token, result },
            Effect::Refresh { link, epoch: _ } => MachineEffect::Refresh(self.node(link)),
            // Nobody has subscribed to the nodes' health.
            Effect::Health { .. } => return None,
        })
    }

    fn node(&self, link: LinkId) -> NodeId {
        self.engine.link(link).node
    }

    /// Also for a node that has left the ring: its connection may still have something to say.
    fn with_link(&mut self, node: NodeId, change: impl FnOnce(&mut Engine, LinkId, Instant)) {
        if let Some(link) = self.engine.link_of(node) {
            change(&mut self.engine, link, self.start);
        }
    }
}
