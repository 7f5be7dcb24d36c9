//! A node: a disk and clocks that outlive its process, and the process, which drives the real coordinator and replica.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use dynamo::{
    acceptor::Acceptor,
    bug::{self, Bug},
    coordinator::{Coordinator, CoordinatorConfig, Effect, ForwardFailed, Input, PeerCall, RequestId},
    hint::{Book, HintBounds, HintKey, HintOperation},
    ident::StoreKey,
    layout::{Layout, View},
    operation::Reply,
    peer::{PeerOperation, PeerResult},
    replica::{Limits, Nonce, Replica, WriteOperation},
    ring::Ring,
    steward::{self, Steward},
    tick::Tick,
    token::TokenKey,
};

use super::{
    WALL_MS, World,
    background::is_read,
    deciding::Proposing,
    disk::Disk,
    hints::Keeping,
    moving::Waiting,
    peers::Peer,
    queue::{Body, Caller, Event, Message},
    serving::{Batch, Pending},
    shelf::Shelf,
    store::{Committing, Origin},
};
use crate::{
    invariant::Invariant,
    oracle::KeyNumber,
    plan::{Fault, Plan},
    random::Random,
};

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) disk: Disk,
    pub(super) shelf: Shelf,
    /// Hints that were damaged.
    pub(super) rotten_hints: BTreeSet<HintKey>,
    pub(super) process: Option<Process>,
    pub(super) paused_until_us: u64,
    /// When it last went on after a pause: what was due before may be late.
    pub(super) resumed_us: u64,
    /// How fast its clocks run, in millionths of the true speed.
    pub(super) rate: u64,
    /// How far its wall clock is off.
    pub(super) wall_offset_ms: i64,
    pub(super) is_full: bool,
    pub(super) slow_ms: u64,
    /// Its directory was emptied or rolled back: its peers refuse it, so it stays away for ever.
    pub(super) is_out: bool,
    /// It has not been asked to join yet.
    pub(super) is_waiting: bool,
    /// The layouts it knows, durably.
    pub(super) ring: Arc<Ring>,
    /// The views of its rows, as coordinator and steward have been told.
    pub(super) views: BTreeMap<(u8, u32), View>,
    /// What it promised as an elector, durably.
    pub(super) promises: Option<Vec<u8>>,
    /// An older copy of its directory.
    pub(super) copy: Option<Disk>,
    /// Keys whose records it can't read any more.
    pub(super) unreadable: BTreeSet<KeyNumber>,
}

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) incarnation: u64,
    pub(super) coordinator: Coordinator,
    pub(super) replica: Replica,
    /// Writes that wait for the writer.
    pub(super) queue: VecDeque<(Origin, WriteOperation)>,
    pub(super) is_write_due: bool,
    pub(super) committing: Option<Committing>,
    pub(super) book: Book,
    pub(super) hint_queue: VecDeque<(Origin, HintOperation)>,
    pub(super) is_keeper_due: bool,
    pub(super) keeping: Option<Keeping>,
    pub(super) steward: Steward,
    /// Records found unreadable of which the steward has not heard yet.
    pub(super) corrupt: Vec<StoreKey>,
    /// A commit failed: nothing is committed any more until the next start.
    pub(super) has_failed: bool,
    /// When the coordinator will be woken.
    pub(super) armed_us: Option<u64>,
    /// Calls that are out, with the peer they went to.
    pub(super) calls: BTreeMap<Caller, usize>,
    pub(super) peers: Vec<Peer>,
    pub(super) requests: BTreeMap<RequestId, Pending>,
    /// The reply to a forwarded operation that is being passed on.
    pub(super) relayed: Option<Reply>,
    pub(super) next_request: u64,
    pub(super) batches: BTreeMap<u64, Batch>,
    pub(super) next_batch: u64,
    pub(super) acceptor: Acceptor,
    pub(super) proposing: Vec<Proposing>,
    /// The rows have not followed the ring yet.
    pub(super) is_follow_due: bool,
}

impl Node {
    pub(super) fn new(at: usize, plan: &Plan, layout: &Arc<Layout>, random: &mut Random) -> Self {
        let mut disk = Disk::default();
        let mut transaction = disk.begin();
        for partition in 0..layout.partitions() {
            if layout.owners(partition).any(|owner| usize::from(owner.0) == at) {
                let Ok(()) = Replica::adopt(&mut transaction, layout.view(partition));
            }
        }
        let changes = transaction.finish();
        disk.apply(&changes);
        let drift = u64::from(plan.faults.rate(Fault::ClockDrift)) * 1_000;
        Self {
            disk,
            shelf: Shelf::default(),
            rotten_hints: BTreeSet::new(),
            process: None,
            paused_until_us: 0,
            resumed_us: 0,
            rate: 1_000_000 - drift + random.between(0, 2 * drift),
            wall_offset_ms: 0,
            is_full: false,
            slow_ms: 0,
            is_out: false,
            is_waiting: at >= plan.founders,
            ring: Arc::new(Ring::new(Arc::clone(layout))),
            views: BTreeMap::new(),
            promises: None,
            copy: None,
            unreadable: BTreeSet::new(),
        }
    }

    /// Its monotonic clock.
    pub(super) fn tick(&self, now_us: u64) -> Tick {
        Tick((u128::from(now_us) * u128::from(self.rate) / 1_000_000_000) as u64)
    }

    /// Its wall clock.
    pub(super) fn wall_ms(&self, now_us: u64) -> u64 {
        (WALL_MS + self.tick(now_us).0).saturating_add_signed(self.wall_offset_ms)
    }

    /// Whether it is not to be reckoned with, now or ever.
    pub(super) fn is_away(&self) -> bool {
        self.is_out || self.is_waiting
    }

    /// When its monotonic clock will show this.
    fn when_us(&self, tick: Tick) -> u64 {
        (u128::from(tick.0) * 1_000_000_000).div_ceil(u128::from(self.rate)) as u64
    }
}

impl World {
    pub(super) fn is_process(&self, node: usize, incarnation: u64) -> bool {
        self.nodes[node].process.as_ref().is_some_and(|process| process.incarnation == incarnation)
    }

    /// Starts a node's process, unless it runs or may not.
    pub(super) fn start(&mut self, node: usize) {
        if self.nodes[node].process.is_some() || self.nodes[node].is_away() {
            return;
        }
        self.incarnations += 1;
        self.trace.line(self.now_us, || format!("n{node} starts as process {}", self.incarnations));
        let limits = self.plan.limits;
        let (me, ring) = (self.position(node, node), Arc::clone(&self.nodes[node].ring));
        let config = CoordinatorConfig {
            value_bytes_max: limits.value_bytes_max,
            operations_max: limits.operations_max,
            lingering_max: limits.lingering_max,
            hedge_after_ms: limits.hedge_after_ms,
            ..CoordinatorConfig::new(me, ring, TokenKey([1; 32]))
        };
        let acceptor = self.restored_acceptor(node);
        let values = Limits { value_bytes_max: limits.value_bytes_max };
        let replica = Replica::new(self.nonce(), values);
        let total_bytes_max = 3 * limits.hint_bytes_max;
        let bounds = HintBounds { target_bytes_max: limits.hint_bytes_max, total_bytes_max };
        let book = Book::new(self.nonce(), values, bounds);
        let is_unclean = self.now_us > 0;
        let steward = Steward::new(self.steward_config(node, is_unclean), self.nodes[node].tick(self.now_us));
        self.nodes[node].process = Some(Process {
            incarnation: self.incarnations,
            coordinator: Coordinator::new(config),
            replica,
            queue: VecDeque::new(),
            is_write_due: false,
            committing: None,
            book,
            hint_queue: VecDeque::new(),
            is_keeper_due: false,
            keeping: None,
            steward,
            corrupt: Vec::new(),
            has_failed: false,
            armed_us: None,
            calls: BTreeMap::new(),
            peers: vec![Peer::default(); self.plan.nodes],
            requests: BTreeMap::new(),
            relayed: None,
            next_request: 0,
            batches: BTreeMap::new(),
            next_batch: 0,
            acceptor,
            proposing: Vec::new(),
            is_follow_due: false,
        });
        let incarnation = self.incarnations;
        let at_us = self.now_us + self.random.around(self.plan.repair.scrub_every_ms * 1_000);
        self.queue.push(at_us, Event::Scrub { node, incarnation });
        if self.plan.faults.change_ring() {
            self.follow(node);
            self.gossip(node);
        } else if bug::is_on(Bug::WipedKeepsIdentity) {
            // Its directory is as empty as a founder's: it owns what the layout says, and holds nothing.
            self.follow(node);
        }
        self.arm(node);
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 32];
        nonce.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.random.draw().to_le_bytes()));
        Nonce(nonce)
    }

    /// Ends a node's process: everything that is not on its disk is gone, and its connections are closed.
    pub(super) fn stop(&mut self, node: usize) {
        self.count_process(node);
        let Some(process) = self.nodes[node].process.take() else { return };
        self.trace.line(self.now_us, || format!("n{node} dies"));
        if let Some(committing) = process.committing {
            self.figures.sometimes.crash_in_commit += 1;
            // The commit was under way: it may have reached the disk before the process died.
            if self.random.chance(500) {
                self.apply(node, &committing.changes);
            } else {
                self.figures.sometimes.lost_in_crash += 1;
            }
        }
        self.crash_hints(node, process.keeping);
        for client in 0..self.plan.clients {
            self.send(Message {
                from: node,
                to: self.plan.nodes + client,
                incarnation: 0,
                doubled: false,
                body: Body::Closed,
            });
        }
    }

    /// Adds what a process counted to the run's figures.
    pub(super) fn count_process(&mut self, node: usize) {
        if let Some(process) = &self.nodes[node].process {
            self.figures.sometimes.count(&process.coordinator.counters());
            self.figures.sometimes.count_steward(&process.steward.status());
        }
    }

    pub(super) fn wake_node(&mut self, node: usize) {
        if let Some(process) = self.nodes[node].process.as_mut() {
            process.armed_us = None;
            let tick = self.nodes[node].tick(self.now_us);
            let Some(process) = self.nodes[node].process.as_ref() else { return };
            let (coordinator, steward) = (process.coordinator.next_deadline(), process.steward.next_deadline());
            if coordinator.is_some_and(|due| due <= tick) {
                self.drive(node, Input::Deadline);
            }
            if steward.is_some_and(|due| due <= tick) {
                self.tell_steward(node, steward::Input::Deadline);
            }
            self.wake_proposals(node);
            self.arm(node);
        }
    }

    /// Does what a coordinator wants that was not asked for anything.
    pub(super) fn carry_out_all(&mut self, node: usize, effects: Vec<Effect>) {
        let mut inputs = VecDeque::new();
        effects.into_iter().for_each(|effect| self.carry_out(node, effect, &mut inputs));
        inputs.into_iter().for_each(|input| self.drive(node, input));
        self.arm(node);
    }

    /// Hands something to a node's coordinator and does all that follows from it.
    pub(super) fn drive(&mut self, node: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        let mut effects = Vec::new();
        while let Some(input) = inputs.pop_front() {
            let tick = self.nodes[node].tick(self.now_us);
            let Some(process) = self.nodes[node].process.as_mut() else { return };
            process.coordinator.step(tick, input, &mut effects);
            for effect in effects.drain(..) {
                self.carry_out(node, effect, &mut inputs);
            }
        }
        self.arm(node);
    }

    pub(super) fn arm(&mut self, node: usize) {
        let Some(process) = self.nodes[node].process.as_ref() else { return };
        let proposals = process.proposing.iter().map(|one| one.machine.next_deadline());
        let deadlines = proposals.chain([process.coordinator.next_deadline(), process.steward.next_deadline()]);
        let Some(at_us) = deadlines.flatten().min().map(|next| self.nodes[node].when_us(next).max(self.now_us)) else {
            return;
        };
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        if process.armed_us.is_none_or(|armed| at_us < armed) {
            process.armed_us = Some(at_us);
            let incarnation = process.incarnation;
            self.queue.push(at_us, Event::WakeNode { node, incarnation });
        }
    }

    fn carry_out(&mut self, node: usize, effect: Effect, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::LocalRead { call, operation }
                if is_read(&operation.action) && self.is_behind(node, &operation.view) =>
            {
                let view = operation.view;
                self.catch_up(node, view, Waiting::Read { call, operation });
            }
            Effect::LocalRead { call, operation } => {
                let result = match is_read(&operation.action) {
                    true => self.read(node, &operation),
                    false => self.read_hints(node, &operation),
                };
                inputs.push_back(Input::LocalRead { call, result });
            }
            Effect::LocalWrite { call, operation } => self.submit(node, Origin::Here(call), operation),
            Effect::LocalHint { call, operation } => self.submit_hint(node, Origin::Here(call), operation),
            Effect::Peer { to, call, operation } => match self.number_at(node, to) {
                Some(to) => self.ask(node, to, call, operation, inputs),
                None => inputs.extend(call.map(|call| Input::Peer { call, result: PeerCall::NotSent })),
            },
            Effect::Forward { call, to, operation, deadline } => match self.number_at(node, to) {
                Some(to) => self.forward(node, to, call, operation, deadline),
                None => inputs.push_back(Input::Forwarded { call, result: Err(ForwardFailed { sent: false }) }),
            },
            Effect::WantLayout { epoch } => self.wish_for(node, epoch),
            Effect::Reply { request, reply } => self.reply(node, request, reply),
        }
    }

    /// Reads from what is durable; a record that can't be read must be answered so.
    pub(super) fn read(&mut self, node: usize, operation: &PeerOperation) -> PeerResult {
        let result = self.nodes[node].disk.read(operation);
        let key = self.oracle.number(&operation.store_key);
        let is_served = match &result {
            PeerResult::Record(_) | PeerResult::Digest(_) | PeerResult::Absent | PeerResult::Stored => true,
            PeerResult::Stale(_) | PeerResult::Corrupt | PeerResult::Failed(_) => false,
        };
        if self.nodes[node].unreadable.contains(&key) {
            self.figures.sometimes.unreadable += 1;
            if is_served {
                self.oracle
                    .broken(Invariant::I10, || format!("n{node} can't read its record of key {key}: {result:?}"));
            }
        }
        if result == PeerResult::Corrupt {
            self.found_corrupt(node, operation.store_key);
        }
        result
    }
}
