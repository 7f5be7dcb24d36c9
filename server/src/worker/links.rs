//! What one worker has for the other nodes: an outbox and a breaker for each. Whether an operation was certainly not sent is
//! known here: what never left the outbox was not.
//!
//! Making and keeping the connections is the business of [`super::dialling`], the calls that leave are [`super::calls`].

use std::{rc::Rc, time::Duration};

use dynamo::{
    coordinator::{CallId, ForwardFailed, Input, PeerCall},
    ident::NodeId,
    layout::{MemberState, NodeIndex},
    operation::Operation,
    peer::PeerOperation,
    tick::Tick,
};
use schema::{
    convert::{operation_bytes, peer_operation_bytes},
    kv_capnp::kv,
    peer_capnp::peer,
};
use tokio::sync::Notify;

use super::{
    breaker::{Breaker, State, Trouble},
    outbox::{Departure, Outbox, Urgency, Waiting},
};
use crate::node::{Known, Process};

/// Asks another node's replica; comes back with the answer, unless it is a repair.
pub(super) type Ask = (Option<CallId>, PeerOperation);

/// Asks another node's coordinator.
pub(super) type Forward = (CallId, Operation);

/// A node's capabilities on this worker's connection to it.
#[derive(Clone)]
pub(crate) struct Capabilities {
    /// Which process of the node.
    pub(crate) process: Process,
    pub(super) kv: kv::Client,
    /// For its replica and hash trees.
    pub(crate) peer: peer::Client,
}

/// The links of one worker to all nodes, by their places in the ring. A place that nobody has is closed.
#[derive(Default)]
pub(super) struct Links {
    links: Vec<Link>,
    /// Peers that came or went, to be told to the coordinator.
    changes: Vec<(NodeIndex, bool)>,
    /// Operations that could not be sent, to be told to the coordinator.
    unsent: Vec<Input>,
    dropped_repairs: u64,
    expired: u64,
    /// Peers for which something may be ready to leave.
    ready: Vec<NodeIndex>,
}

/// The link to one node.
struct Link {
    /// Which; `None` when it has left.
    node: Option<NodeId>,
    asks: Outbox<Ask>,
    forwards: Outbox<Forward>,
    line: Line,
    breaker: Breaker,
    /// What the coordinator was last told.
    is_reachable: bool,
    /// Told when the peer shall prove that it is alive.
    probe: Rc<Notify>,
    /// Told when the peer has fallen silent.
    silence: Rc<Notify>,
}

/// Whether a node can be talked to.
enum Line {
    /// The first attempt to connect is under way: operations wait for it.
    Opening,
    /// Connected.
    Up(Capabilities),
    /// Not connected: operations are not sent.
    Down,
}

/// A call that leaves.
pub(super) enum Outgoing {
    /// Operations for the node's replica.
    Asks(NodeIndex, Process, peer::Client, Departure<Ask>),
    /// Operations for the node's coordinator.
    Forwards(NodeIndex, kv::Client, Departure<Forward>),
}

/// How a call went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// It is not answered yet, and should have been.
    Overdue,
    /// It was answered.
    Answered {
        /// After so long.
        round_trip: Duration,
        /// Whether it had been overdue.
        is_late: bool,
    },
    /// It was answered after a time that says nothing about the peer.
    Heard,
}

impl Links {
    /// Follows a change of the ring: links to nodes that came open, those to nodes that left close.
    pub(super) fn follow(&mut self, known: &Known) {
        for (at, member) in (0..).map(NodeIndex).zip(&known.layout().members) {
            let node = (member.state != MemberState::Gone).then_some(member.id);
            match self.links.get(usize::from(at.0)) {
                None => self.links.push(Link::new(node)),
                Some(link) if link.node != node => {
                    self.down(at);
                    let is_reachable = self.link(at).is_reachable;
                    *self.link(at) = Link { is_reachable, ..Link::new(node) };
                    self.settle(at);
                }
                Some(_) => {}
            }
        }
    }

    /// Lets an operation for a replica leave with the next call.
    pub(super) fn ask(&mut self, to: NodeIndex, call: Option<CallId>, operation: PeerOperation, deadline: Tick) {
        let bytes = peer_operation_bytes(&operation);
        let urgency = if call.is_some() { Urgency::Awaited } else { Urgency::Repair };
        let waiting = Waiting { item: (call, operation), bytes, deadline };
        match self.links.get_mut(usize::from(to.0)) {
            Some(link) if link.takes() => {
                if let Err(item) = link.asks.push(waiting, urgency) {
                    self.ask_unsent(item);
                }
                self.ready.push(to);
            }
            Some(_) | None => self.ask_unsent(waiting.item),
        }
    }

    /// Lets an operation for a coordinator leave with the next call.
    pub(super) fn forward(&mut self, to: NodeIndex, call: CallId, operation: Operation, deadline: Tick) {
        let bytes = operation_bytes(&operation);
        let waiting = Waiting { item: (call, operation), bytes, deadline };
        match self.links.get_mut(usize::from(to.0)) {
            Some(link) if link.takes() => {
                if let Err(item) = link.forwards.push(waiting, Urgency::Awaited) {
                    self.forward_unsent(&item);
                }
                self.ready.push(to);
            }
            Some(_) | None => self.forward_unsent(&waiting.item),
        }
    }

    /// The calls that can leave now.
    pub(super) fn depart(&mut self, now: Tick, departures: &mut Vec<Outgoing>) {
        let (mut late_asks, mut late_forwards) = (Vec::new(), Vec::new());
        for to in self.ready.drain(..) {
            let link = &mut self.links[usize::from(to.0)];
            let Line::Up(Capabilities { process, kv, peer }) = &link.line else { continue };
            while let Some(departure) = link.asks.depart(now, &mut late_asks) {
                departures.push(Outgoing::Asks(to, *process, peer.clone(), departure));
            }
            while let Some(departure) = link.forwards.depart(now, &mut late_forwards) {
                departures.push(Outgoing::Forwards(to, kv.clone(), departure));
            }
        }
        self.expired += (late_asks.len() + late_forwards.len()) as u64;
        late_asks.into_iter().for_each(|item| self.ask_unsent(item));
        late_forwards.iter().for_each(|item| self.forward_unsent(item));
    }

    /// A connection to a node stands.
    pub(super) fn up(&mut self, now: Tick, node: NodeIndex, capabilities: Capabilities) {
        let link = self.link(node);
        link.breaker.connected(now);
        link.line = Line::Up(capabilities);
        self.settle(node);
    }

    /// There is no connection to a node. What waited for it was not sent.
    pub(super) fn down(&mut self, node: NodeIndex) {
        self.link(node).line = Line::Down;
        self.settle(node);
    }

    /// How long to wait before the next attempt to connect.
    pub(super) fn wait(&mut self, node: NodeIndex, trouble: Trouble, jitter: u64) -> Duration {
        self.link(node).breaker.wait(trouble, jitter)
    }

    /// How a call of either kind goes on.
    pub(super) fn passed(&mut self, now: Tick, node: NodeIndex, passage: Passage) {
        let breaker = &mut self.link(node).breaker;
        match passage {
            Passage::Overdue => breaker.overdue(now),
            Passage::Answered { round_trip, is_late } => breaker.answered(now, round_trip, is_late),
            Passage::Heard => breaker.heard(now),
        }
        if matches!(breaker.state(), State::Slow { .. }) {
            // Whoever keeps the connection has to end the rest.
            self.link(node).probe.notify_one();
        }
        self.settle(node);
    }

    /// A call of either kind has ended, however it did.
    pub(super) fn ended(&mut self, node: NodeIndex, is_forward: bool) {
        let link = self.link(node);
        if is_forward {
            link.forwards.arrived();
        } else {
            link.asks.arrived();
        }
        self.ready.push(node);
    }

    /// A ping was answered.
    pub(super) fn ponged(&mut self, now: Tick, node: NodeIndex, round_trip: Duration) {
        self.link(node).breaker.ponged(now, round_trip);
        self.settle(node);
    }

    /// A ping sent at `began` is not answered. Returns whether nothing else came since either: then the peer is silent.
    pub(super) fn unanswered(&mut self, node: NodeIndex, began: Tick) -> bool {
        let link = self.link(node);
        let is_silent = link.breaker.is_quiet_since(began);
        if is_silent {
            link.breaker.silent();
            link.silence.notify_waiters();
            self.settle(node);
        }
        is_silent
    }

    /// Gives a slow peer its trial, if its rest is over; otherwise says how long it still rests, and nothing of a peer that
    /// does not rest.
    pub(super) fn rest(&mut self, now: Tick, node: NodeIndex) -> Option<Duration> {
        let breaker = &mut self.link(node).breaker;
        match breaker.state() {
            State::Slow { until } if until <= now => {
                breaker.rested(now);
                self.settle(node);
                None
            }
            State::Slow { until } => Some(Duration::from_millis(until.since(now))),
            State::Closed | State::Silent => None,
        }
    }

    /// What is known of a node's health.
    pub(super) fn breaker(&self, node: NodeIndex) -> &Breaker {
        &self.links[usize::from(node.0)].breaker
    }

    /// A call sent at `began` has no answer yet. If nothing else came either, the peer shall prove that it is alive.
    pub(super) fn doubt(&self, node: NodeIndex, began: Tick) {
        let link = &self.links[usize::from(node.0)];
        if link.breaker.is_quiet_since(began) {
            link.probe.notify_one();
        }
    }

    /// What is told when a node shall prove that it is alive.
    pub(super) fn probe(&self, node: NodeIndex) -> Rc<Notify> {
        Rc::clone(&self.links[usize::from(node.0)].probe)
    }

    /// What is told when a node has fallen silent.
    pub(super) fn silence(&self, node: NodeIndex) -> Rc<Notify> {
        Rc::clone(&self.links[usize::from(node.0)].silence)
    }

    /// A peer that came (`true`) or went since the last time.
    pub(super) fn next_change(&mut self) -> Option<(NodeIndex, bool)> {
        self.changes.pop()
    }

    /// The operations that were not sent since the last time.
    pub(super) fn unsent(&mut self) -> std::vec::Drain<'_, Input> {
        self.unsent.drain(..)
    }

    /// The number of repairs that were not sent since the last time.
    pub(super) fn take_dropped_repairs(&mut self) -> u64 {
        std::mem::take(&mut self.dropped_repairs)
    }

    /// The number of operations since the last time that were not sent because their deadline had passed.
    pub(super) fn take_expired(&mut self) -> u64 {
        std::mem::take(&mut self.expired)
    }

    fn link(&mut self, node: NodeIndex) -> &mut Link {
        &mut self.links[usize::from(node.0)]
    }

    /// Follows a change of a link: what waited for a peer that takes nothing now was not sent, and the coordinator is told of
    /// one that came or went.
    fn settle(&mut self, node: NodeIndex) {
        let link = self.link(node);
        let is_reachable = link.takes();
        if is_reachable {
            self.ready.push(node);
        } else {
            let (asks, forwards): (Vec<_>, Vec<_>) = (link.asks.give_up().collect(), link.forwards.give_up().collect());
            asks.into_iter().for_each(|item| self.ask_unsent(item));
            forwards.iter().for_each(|item| self.forward_unsent(item));
        }
        let link = self.link(node);
        if link.is_reachable != is_reachable {
            link.is_reachable = is_reachable;
            self.changes.push((node, is_reachable));
        }
    }

    fn ask_unsent(&mut self, (call, _): Ask) {
        match call {
            Some(call) => self.unsent.push(Input::Peer { call, result: PeerCall::NotSent }),
            None => self.dropped_repairs += 1,
        }
    }

    fn forward_unsent(&mut self, (call, _): &Forward) {
        self.unsent.push(Input::Forwarded { call: *call, result: Err(ForwardFailed { sent: false }) });
    }
}

impl Link {
    fn new(node: Option<NodeId>) -> Self {
        Self {
            node,
            asks: Outbox::new(),
            forwards: Outbox::new(),
            line: if node.is_some() { Line::Opening } else { Line::Down },
            breaker: Breaker::default(),
            is_reachable: true,
            probe: Rc::new(Notify::new()),
            silence: Rc::new(Notify::new()),
        }
    }

    /// Whether operations for the node may wait here and leave.
    fn takes(&self) -> bool {
        match self.line {
            Line::Opening => true,
            Line::Up(_) => self.breaker.state() == State::Closed,
            Line::Down => false,
        }
    }
}
