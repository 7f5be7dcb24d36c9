//! An operation in flight, and what all operations of a coordinator share.

use alloc::{boxed::Box, collections::BTreeMap, sync::Arc, vec, vec::Vec};

use super::{
    CoordinatorConfig, Counters, Effect, RequestId,
    call::{Ask, Calls, next_serial},
    demand::Demand,
    forwarding::Forwarding,
    hedging::HedgeBudget,
    known::Known,
    reading::Reading,
    route::Route,
    writing::{Writing, Written},
};
use crate::{
    bug::{self, Bug},
    ident::NodeId,
    layout::{Layout, NodeIndex, View},
    operation::{Address, Operation, Outcome, Receipt, Reply},
    quorum::{Place, Places},
    replica::Write,
    ring::Ring,
    tick::Tick,
};

/// Partitions whose stand-ins are kept in memory, at 28 bytes and a little each: all of a layout of some dozen nodes.
const STAND_INS_KEPT_MAX: usize = 16_384;

/// An operation in flight.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) head: Head,
    pub(super) stage: Stage,
}

/// What every operation has.
#[derive(Debug)]
pub(super) struct Head {
    /// The names of its calls in this stage.
    pub(super) calls: Calls,
    pub(super) request: RequestId,
    pub(super) begun: Tick,
    pub(super) deadline: Tick,
    pub(super) now_wall_ms: u64,
    pub(super) route: Route,
    pub(super) demand: Demand,
    /// Whether the client has its reply.
    pub(super) is_answered: bool,
    /// What is to be done: what it starts again with, and what another node is asked to do.
    pub(super) operation: Operation,
    /// How many nodes have forwarded it.
    pub(super) hops: u8,
    /// The newest view that a replica named, if one did: what it starts again under.
    pub(super) heard: Option<View>,
    /// How often it has started again.
    pub(super) renewals: u8,
    /// Whether something may have been written before it started again.
    pub(super) maybe_applied: bool,
    /// Bytes it was counted with when it began to linger.
    pub(super) lingering_bytes: usize,
}

/// What it is doing.
#[derive(Debug)]
pub(super) enum Stage {
    /// Reads: a get, or the read before a delete; after the reply, read repair.
    Reading(Reading),
    /// Waits for a write to be durable.
    Writing(Writing),
    /// Another node does it.
    Forwarding(Forwarding),
    /// Waits for a layout, with what it has written so far.
    Parked(Option<Written>),
}

/// What becomes of an operation after an input.
#[derive(Debug)]
pub(super) enum Flow {
    /// It waits for more.
    Wait,
    /// The client was just answered; it waits for late answers.
    Linger,
    /// It is over.
    End,
    /// It has read what a delete replaces, and goes on to write this.
    Write(Box<(Address, Write)>),
    /// No owner can be reached, and this node is the first to stand in for them: it coordinates the operation itself.
    StandIn,
    /// A replica knows a newer view: it starts again under that, or waits for the layout that says what the view means.
    Renew,
    /// The input was not for it.
    Unclaimed,
}

/// What all operations share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: CoordinatorConfig,
    /// By node index: whether calls to it make no sense now.
    unreachable: Vec<bool>,
    /// By partition: who stands in while just these nodes are unreachable. The walk through a layout that has nobody is a
    /// long one, and every write to such a partition would take it.
    stand_ins: BTreeMap<u32, Vec<NodeIndex>>,
    /// Which views are known to be newer than the newest layout says.
    pub(super) known: Known,
    /// Nodes that are given up for lost; nearly always none.
    pub(super) lost: Vec<NodeIndex>,
    /// The layout that was asked for last, and when.
    pub(super) wanted: (u64, Tick),
    pub(super) counters: Counters,
    pub(super) hedges: HedgeBudget,
    /// The time of the step that is being taken.
    pub(super) now: Tick,
    /// Numbers the stages of operations, so that an answer can't be taken for one to whoever had the same slot before.
    serial: u64,
    /// Operations whose clients have their reply, and the records they keep.
    pub(super) lingering: usize,
    pub(super) lingering_bytes: usize,
}

impl Shared {
    pub(super) fn new(config: CoordinatorConfig) -> Self {
        let unreachable = vec![false; config.ring.newest().members.len()];
        let lost = lost_nodes(&config.ring);
        Self {
            config,
            unreachable,
            known: Known::default(),
            lost,
            wanted: (0, Tick(0)),
            stand_ins: BTreeMap::new(),
            counters: Counters::default(),
            hedges: HedgeBudget::new(),
            now: Tick(0),
            serial: 0,
            lingering: 0,
            lingering_bytes: 0,
        }
    }

    /// Names for the calls of a new stage in this slot.
    pub(super) fn calls(&mut self, slot: usize) -> Calls {
        self.serial = next_serial(self.serial);
        Calls::new(self.serial, slot)
    }

    /// The newest layout.
    pub(super) fn layout(&self) -> &Layout {
        self.config.ring.newest()
    }

    /// Nodes keep their state across layouts by who they are: a newcomer may have the place of one that is gone.
    pub(super) fn set_ring(&mut self, me: Option<NodeIndex>, ring: Arc<Ring>) {
        let before = self.config.ring.newest();
        let unreachable = (0..).map(NodeIndex).zip(&ring.newest().members).map(|(index, member)| {
            let is_the_same = before.member(index).is_some_and(|known| known.id == member.id);
            is_the_same && self.is_unreachable(index)
        });
        self.unreachable = unreachable.collect();
        self.stand_ins.clear();
        self.known.set_ring(&ring);
        self.lost = lost_nodes(&ring);
        self.wanted = (0, Tick(0));
        self.config.ring = ring;
        self.config.me = me;
    }

    pub(super) fn set_reachable(&mut self, node: NodeIndex, reachable: bool) {
        if let Some(unreachable) = self.unreachable.get_mut(usize::from(node.0)) {
            *unreachable = !reachable;
            self.stand_ins.clear();
        }
    }

    /// This node, if it may stand in for others: nobody counts on what one keeps that was given up for lost.
    pub(super) fn as_stand_in(&self) -> Option<NodeIndex> {
        self.config.me.filter(|me| !self.lost.contains(me) || bug::is_on(Bug::CountLostOwner))
    }

    /// Who stands in for the owners of a partition, most preferred first, of those that can be reached and were not given up.
    pub(super) fn stand_ins(&mut self, partition: u32) -> &[NodeIndex] {
        if self.stand_ins.len() >= STAND_INS_KEPT_MAX && !self.stand_ins.contains_key(&partition) {
            self.stand_ins.clear();
        }
        // One that was given up for lost may own something still, where it could not be moved away.
        let alive = |node: NodeIndex| {
            let is_unreachable = self.unreachable.get(usize::from(node.0)).copied().unwrap_or(true);
            !is_unreachable && (!self.lost.contains(&node) || bug::is_on(Bug::CountLostOwner))
        };
        let layout = self.config.ring.newest();
        self.stand_ins.entry(partition).or_insert_with(|| layout.stand_ins(partition, alive).collect())
    }

    /// Who a node of a route is, for ever: by the layout that was the newest when the way was found, for since then another may have
    /// been given its place. `None` if that layout is forgotten.
    pub(super) fn id_of(&self, node: NodeIndex, route: &Route) -> Option<NodeId> {
        self.config.ring.layout(route.epoch)?.member(node).map(|member| member.id)
    }

    pub(super) fn is_unreachable(&self, node: NodeIndex) -> bool {
        self.unreachable.get(usize::from(node.0)).copied().unwrap_or(true)
    }

    /// The places of a route that calls make no sense to; never this node.
    pub(super) fn unreachable(&self, route: &Route) -> Places {
        let mut places = Places::NONE;
        for place in route.places().iter() {
            if !route.is_me(place) && self.is_unreachable(route.node(place)) {
                places.insert(place);
            }
        }
        places
    }

    pub(super) fn may_linger(&self) -> bool {
        self.lingering < self.config.lingering_max && self.lingering_bytes < self.config.lingering_bytes_max
    }
}

fn lost_nodes(ring: &Ring) -> Vec<NodeIndex> {
    let nodes = (0..ring.newest().members.len() as u16).map(NodeIndex);
    nodes.filter(|&node| ring.is_lost(node)).collect()
}

impl Stage {
    /// Bytes of the record it keeps.
    pub(super) fn record_bytes(&self) -> usize {
        match self {
            Self::Reading(reading) => reading.record_bytes(),
            Self::Writing(writing) => writing.record_bytes(),
            Self::Forwarding(_) => 0,
            Self::Parked(written) => written.as_ref().map_or(0, Written::record_bytes),
        }
    }
}

impl Head {
    /// Tells the client.
    pub(super) fn reply(&mut self, outcome: Outcome, receipt: Receipt, effects: &mut Vec<Effect>) {
        debug_assert!(!self.is_answered, "one reply for each request");
        self.is_answered = true;
        effects.push(Effect::Reply { request: self.request, reply: Reply { outcome, receipt } });
    }

    /// A receipt that names these places.
    pub(super) fn receipt(&self, answered: Places, need: u8) -> Receipt {
        Receipt {
            answered: self.route.nodes(answered),
            epoch: self.route.epoch,
            need,
            durable: 0,
            stand_ins: answered.intersection(self.route.stand_ins()).len(),
            repaired: false,
            replicas: self.route.replicas,
        }
    }

    /// The call that asks `ask` of `place`.
    pub(super) fn call(&self, place: Place, ask: Ask) -> super::CallId {
        self.calls.to(place, ask)
    }
}
