//! A node: a disk and clocks that outlive its process, and the process, which drives the real coordinator and replica.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use dynamo::{
    coordinator::{CallId, Coordinator, CoordinatorConfig, Effect, ForwardFailed, Input, PeerCall, RequestId},
    hint::{Book, HintBounds, HintKey, HintOperation},
    ident::StoreKey,
    layout::{Layout, NodeIndex},
    operation::{Operation, Reply},
    peer::{PeerAction, PeerOperation, PeerResult},
    replica::{Limits, Nonce, Replica, WriteOperation},
    steward::{self, Steward},
    tick::Tick,
    token::TokenKey,
};

use super::{
    WALL_MS, World,
    background::is_read,
    disk::Disk,
    hints::Keeping,
    queue::{Body, Caller, Event, Message, Party},
    shelf::Shelf,
    store::{Committing, Origin},
};
use crate::{
    invariant::Invariant,
    oracle::{KeyNumber, Request},
    plan::{Fault, Plan},
    random::Random,
};

/// Calls to a peer that take too long in a row before nothing more is sent to it, as in the server's breaker.
const TIMEOUTS_IN_A_ROW: u32 = 3;

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
    /// Its directory was emptied or rolled back: its peers refuse it, so it stays away.
    pub(super) is_out: bool,
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
    armed_us: Option<u64>,
    /// Calls that are out, with the peer they went to.
    calls: BTreeMap<Caller, usize>,
    peers: Vec<Peer>,
    requests: BTreeMap<RequestId, Pending>,
    /// The reply to a forwarded operation that is being passed on.
    relayed: Option<Reply>,
    next_request: u64,
    batches: BTreeMap<u64, Batch>,
    next_batch: u64,
}

/// What is known of a peer.
#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    timeouts_in_a_row: u32,
    is_away: bool,
}

/// A request at its coordinator.
#[derive(Clone, Debug)]
struct Pending {
    asker: Asker,
    request: Request,
    deadline: Tick,
}

/// Who waits for a reply.
#[derive(Clone, Copy, Debug)]
enum Asker {
    Client { batch: u64, place: usize },
    Forwarder { node: Party, incarnation: u64, call: CallId },
}

/// A client's call.
#[derive(Clone, Debug)]
struct Batch {
    client: Party,
    call: u64,
    replies: Vec<Option<Reply>>,
    missing: usize,
}

impl Node {
    pub(super) fn new(at: usize, plan: &Plan, layout: &Layout, random: &mut Random) -> Self {
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
        if self.nodes[node].process.is_some() || self.nodes[node].is_out {
            return;
        }
        self.incarnations += 1;
        self.trace.line(self.now_us, || format!("n{node} starts as process {}", self.incarnations));
        let limits = self.plan.limits;
        let config = CoordinatorConfig {
            value_bytes_max: limits.value_bytes_max,
            operations_max: limits.operations_max,
            lingering_max: limits.lingering_max,
            hedge_after_ms: limits.hedge_after_ms,
            ..CoordinatorConfig::new(NodeIndex(node as u16), Arc::clone(&self.layout), TokenKey([1; 32]))
        };
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
        });
        let incarnation = self.incarnations;
        let at_us = self.now_us + self.random.around(self.plan.repair.scrub_every_ms * 1_000);
        self.queue.push(at_us, Event::Scrub { node, incarnation });
        self.arm(node);
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 32];
        nonce.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.random.next().to_le_bytes()));
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

    /// A client's call arrives.
    pub(super) fn serve_client(
        &mut self,
        node: usize,
        client: Party,
        call: u64,
        operations: Vec<Operation>,
        budget_ms: u64,
    ) {
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let batch = process.next_batch;
        process.next_batch += 1;
        let missing = operations.len();
        process.batches.insert(batch, Batch { client, call, replies: vec![None; missing], missing });
        for (place, operation) in operations.into_iter().enumerate() {
            self.request(node, Asker::Client { batch, place }, operation, 0, budget_ms);
        }
    }

    /// An operation arrives that another node handed on.
    pub(super) fn serve_forwarded(
        &mut self,
        node: usize,
        (from, incarnation, call): (Party, u64, CallId),
        operation: Operation,
        budget_ms: u64,
    ) {
        self.request(node, Asker::Forwarder { node: from, incarnation, call }, operation, 1, budget_ms);
    }

    fn request(&mut self, node: usize, asker: Asker, operation: Operation, hops: u8, budget_ms: u64) {
        let (tick, wall_ms) = (self.nodes[node].tick(self.now_us), self.nodes[node].wall_ms(self.now_us));
        let deadline = tick.after(budget_ms.max(1));
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let request = RequestId(process.next_request);
        process.next_request += 1;
        let judged = Request { operation: operation.clone(), arrived_us: self.now_us, wall_ms };
        let pending = Pending { asker, request: judged, deadline };
        process.requests.insert(request, pending);
        self.drive(node, Input::Client { request, operation, hops, deadline, now_wall_ms: wall_ms });
        let limits = &self.plan.limits;
        let (waiting, in_flight) = self.nodes[node]
            .process
            .as_ref()
            .map_or((0, 0), |process| (process.coordinator.waiting(), process.coordinator.in_flight()));
        if waiting > limits.operations_max || in_flight > limits.operations_max + limits.lingering_max {
            self.oracle.broken(Invariant::I12, || format!("n{node} holds {waiting} of {in_flight} operations"));
        }
    }

    /// A peer asks something of this node's replica.
    pub(super) fn serve_peer(
        &mut self,
        node: usize,
        (from, incarnation, call, doubled): (Party, u64, Option<Caller>, bool),
        operation: PeerOperation,
    ) {
        match &operation.action {
            PeerAction::Read | PeerAction::Digest => {
                let result = self.read(node, &operation);
                if let Some(call) = call {
                    self.answer(node, (from, incarnation, call), PeerCall::Answered(result));
                }
            }
            PeerAction::Merge(record) => {
                let (view, store_key, record) = (operation.view, operation.store_key, record.clone());
                let write = WriteOperation::Merge { view, store_key, record };
                self.submit(node, Origin::Peer { node: from, incarnation, call, doubled }, write);
            }
            PeerAction::ReadHint => {
                let result = self.read_hints(node, &operation);
                if let Some(call) = call {
                    self.answer(node, (from, incarnation, call), PeerCall::Answered(result));
                }
            }
            PeerAction::Hint { target, record } => {
                let (view, store_key, target, record) = (operation.view, operation.store_key, *target, record.clone());
                let keep = HintOperation::Keep { view, target, store_key, record };
                self.submit_hint(node, Origin::Peer { node: from, incarnation, call, doubled }, keep);
            }
        }
    }

    pub(super) fn answer(&mut self, node: usize, (to, incarnation, call): (Party, u64, Caller), result: PeerCall) {
        let body = Body::Answer { call, result };
        self.send(Message { from: node, to, incarnation, doubled: false, body });
    }

    /// A peer's answer arrives.
    pub(super) fn hear_answer(&mut self, node: usize, peer: Party, call: Caller, result: PeerCall) {
        let is_refused = result == PeerCall::NotSent;
        self.end_call(node, peer, call, !is_refused);
        self.called(node, call, result);
        if is_refused {
            self.set_away(node, peer);
        }
    }

    /// Tells whoever made a call how it ended.
    fn called(&mut self, node: usize, call: Caller, result: PeerCall) {
        match call {
            Caller::Coordinator(call) => self.drive(node, Input::Peer { call, result }),
            Caller::Steward(call) => self.steward_hears(node, call, result),
        }
    }

    /// Notes a call to a peer, unless the peer is taken for away.
    pub(super) fn begin_call(&mut self, node: usize, peer: usize, call: Caller) -> bool {
        let Some(process) = self.nodes[node].process.as_mut() else { return false };
        if process.peers[peer].is_away {
            return false;
        }
        let incarnation = process.incarnation;
        process.calls.insert(call, peer);
        let at_us = self.now_us + self.plan.limits.call_timeout_ms * 1_000;
        self.queue.push(at_us, Event::Overdue { node, incarnation, call });
        true
    }

    pub(super) fn end_call(&mut self, node: usize, peer: Party, call: Caller, is_well: bool) {
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        process.calls.remove(&call);
        if is_well {
            process.peers[peer].timeouts_in_a_row = 0;
        }
    }

    pub(super) fn hear_forwarded(
        &mut self,
        node: usize,
        peer: Party,
        call: CallId,
        result: Result<Reply, ForwardFailed>,
    ) {
        let is_refused = result == Err(ForwardFailed { sent: false });
        if let Some(process) = self.nodes[node].process.as_mut() {
            process.relayed = result.as_ref().ok().cloned();
        }
        self.drive(node, Input::Forwarded { call, result });
        if is_refused {
            self.set_away(node, peer);
        }
    }

    /// A call to a peer was not answered in time.
    pub(super) fn overdue(&mut self, node: usize, call: Caller) {
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let Some(peer) = process.calls.remove(&call) else { return };
        process.peers[peer].timeouts_in_a_row += 1;
        let is_enough = process.peers[peer].timeouts_in_a_row >= TIMEOUTS_IN_A_ROW;
        self.called(node, call, PeerCall::Lost);
        if is_enough {
            self.set_away(node, peer);
        }
    }

    /// Nothing more is sent to this peer until it can be reached again.
    fn set_away(&mut self, node: usize, peer: usize) {
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        if std::mem::replace(&mut process.peers[peer].is_away, true) {
            return;
        }
        let incarnation = process.incarnation;
        self.trace.line(self.now_us, || format!("n{node} takes n{peer} for away"));
        let at_us = self.now_us + self.random.between(100_000, 400_000);
        self.queue.push(at_us, Event::Probe { node, incarnation, peer });
        self.peer_state(node, peer, false);
    }

    /// Tries whether a peer can be reached again.
    pub(super) fn probe(&mut self, node: usize, peer: usize) {
        let is_up = self.nodes[peer].process.is_some() && self.nodes[peer].paused_until_us <= self.now_us;
        let is_back = is_up && self.network.is_whole(node, peer);
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let incarnation = process.incarnation;
        if is_back {
            process.peers[peer] = Peer::default();
            self.trace.line(self.now_us, || format!("n{node} reaches n{peer} again"));
            return self.peer_state(node, peer, true);
        }
        let at_us = self.now_us + self.random.between(400_000, 800_000);
        self.queue.push(at_us, Event::Probe { node, incarnation, peer });
    }

    fn peer_state(&mut self, node: usize, peer: usize, reachable: bool) {
        let peer = NodeIndex(peer as u16);
        self.drive(node, Input::PeerState { node: peer, reachable });
        self.tell_steward(node, steward::Input::PeerState { node: peer, reachable });
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
            self.arm(node);
        }
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
        let deadlines = [process.coordinator.next_deadline(), process.steward.next_deadline()];
        let Some(at_us) =
            deadlines.into_iter().flatten().min().map(|next| self.nodes[node].when_us(next).max(self.now_us))
        else {
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
            Effect::LocalRead { call, operation } => {
                let result = match is_read(&operation.action) {
                    true => self.read(node, &operation),
                    false => self.read_hints(node, &operation),
                };
                inputs.push_back(Input::LocalRead { call, result });
            }
            Effect::LocalWrite { call, operation } => self.submit(node, Origin::Here(call), operation),
            Effect::LocalHint { call, operation } => self.submit_hint(node, Origin::Here(call), operation),
            Effect::Peer { to, call, operation } => self.ask(node, usize::from(to.0), call, operation, inputs),
            Effect::Forward { call, to, operation, deadline } => {
                self.forward(node, usize::from(to.0), call, operation, deadline);
            }
            Effect::Reply { request, reply } => self.reply(node, request, reply),
        }
    }

    fn ask(
        &mut self,
        node: usize,
        peer: usize,
        call: Option<CallId>,
        operation: PeerOperation,
        inputs: &mut VecDeque<Input>,
    ) {
        let is_sent = match call {
            Some(call) => self.begin_call(node, peer, Caller::Coordinator(call)),
            None => self.nodes[node].process.as_ref().is_some_and(|process| !process.peers[peer].is_away),
        };
        if !is_sent {
            return inputs.extend(call.map(|call| Input::Peer { call, result: PeerCall::NotSent }));
        }
        let incarnation = self.nodes[node].process.as_ref().map_or(0, |process| process.incarnation);
        let body = Body::Ask { call: call.map(Caller::Coordinator), operation };
        self.send(Message { from: node, to: peer, incarnation, doubled: false, body });
    }

    fn forward(&mut self, node: usize, to: usize, call: CallId, operation: Box<Operation>, deadline: Tick) {
        let budget_ms = deadline.since(self.nodes[node].tick(self.now_us));
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let incarnation = process.incarnation;
        let body = Body::Forward { call, operation, budget_ms };
        self.send(Message { from: node, to, incarnation, doubled: false, body });
    }

    /// The coordinator replies to a request: it is judged, and passed on to who asked.
    fn reply(&mut self, node: usize, request: RequestId, reply: Reply) {
        let tick = self.nodes[node].tick(self.now_us);
        let resumed_tick = self.nodes[node].tick(self.nodes[node].resumed_us);
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let incarnation = process.incarnation;
        let Some(pending) = process.requests.remove(&request) else {
            return self.oracle.broken(Invariant::I12, || format!("n{node} replies twice to {request:?}"));
        };
        if tick > pending.deadline.after(1) && resumed_tick < pending.deadline {
            self.oracle
                .broken(Invariant::I12, || format!("n{node} replies at {tick:?}, due at {:?}", pending.deadline));
        }
        // What another node replied was judged there.
        let is_relayed = process.relayed.take().is_some_and(|relayed| relayed == reply);
        if !is_relayed {
            self.oracle.replied(node, &pending.request, &reply);
        }
        self.trace.line(self.now_us, || format!("n{node} replies {}", outline(&pending.request.operation, &reply)));
        match pending.asker {
            Asker::Client { batch, place } => self.fill(node, batch, place, reply),
            Asker::Forwarder { node: to, incarnation: asked_by, call } => {
                let body = Body::Forwarded { call, result: Box::new(Ok(reply)) };
                let _ = incarnation;
                self.send(Message { from: node, to, incarnation: asked_by, doubled: false, body });
            }
        }
    }

    fn fill(&mut self, node: usize, batch: u64, place: usize, reply: Reply) {
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let Some(waiting) = process.batches.get_mut(&batch) else { return };
        waiting.replies[place] = Some(reply);
        waiting.missing -= 1;
        if waiting.missing > 0 {
            return;
        }
        let Some(Batch { client, call, replies, .. }) = process.batches.remove(&batch) else { return };
        let body = Body::Replies { call, replies: replies.into_iter().flatten().collect() };
        self.send(Message { from: node, to: client, incarnation: 0, doubled: false, body });
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

/// An operation and how it ended, in one line.
fn outline(operation: &Operation, reply: &Reply) -> String {
    use dynamo::operation::{Action, Outcome};
    let what = match &operation.action {
        Action::Get { .. } => "get".to_owned(),
        Action::Put { value, .. } => format!("put {}", crate::trace::Short(value)),
        Action::Delete { .. } => "delete".to_owned(),
    };
    let outcome = match &reply.outcome {
        Outcome::Found { siblings, .. } => {
            let values: Vec<String> = siblings.iter().map(|one| crate::trace::Short(&one.value).to_string()).collect();
            format!("found {}", values.join(" | "))
        }
        Outcome::NotFound { .. } => "not found".to_owned(),
        Outcome::Stored { siblings, .. } => format!("stored, {siblings} stand"),
        Outcome::Failed(failure) => format!("failed {:?} maybe_applied={}", failure.code, failure.maybe_applied),
    };
    let answered: Vec<u16> = reply.receipt.answered.iter().map(|node| node.0).collect();
    let key = String::from_utf8_lossy(&operation.address.key).into_owned();
    format!("to {what} of {key} {:?}: {outcome}, by {answered:?}", operation.consistency.level)
}
