//! Clients: each drives the real client's machine, does what its plan likes, remembers contexts for better and for worse, and retries
//! what failed under the same operation id.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use dynamo::{
    ident::{OpId, StoreKey},
    layout::{Layout, Level},
    operation::{Action, Basis, Consistency, Operation, Outcome, Reply},
};
use quorate::{
    Error,
    machine::{Machine, MachineEffect, MachineSettings},
};
use schema::convert::{NodeLimits, ReplyHeader};

use super::{
    World,
    network::flipped,
    queue::{Body, Event, Message, Party},
    ring::{identity, number},
};
use crate::{invariant::Invariant, oracle::Told, plan::Plan, random::Random, trace::Short};

/// How many old contexts a client keeps for each key.
const OLD_CONTEXTS: usize = 4;

/// How long a client waits for a connection that nobody answers.
const CONNECT_TIMEOUT_US: u64 = 1_000_000;

/// A client.
pub(super) struct Client {
    pub(super) machine: Machine,
    id: u64,
    sequence: u64,
    pending: BTreeMap<u64, Pending>,
    /// By key: contexts it was given, the latest last.
    contexts: Vec<Vec<Bytes>>,
    seen_clock: u64,
    armed_us: Option<u64>,
    /// A write that failed and may be asked for again as it is.
    again: Option<Operation>,
    /// What a read at the end of the run showed.
    pub(super) last: Option<Result<Reply, ()>>,
}

/// An operation that a client waits for.
#[derive(Clone, Debug)]
struct Pending {
    operation: Operation,
    deadline_us: u64,
    /// Its context belongs to another key or is damaged.
    is_forged: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Client").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(at: usize, plan: &Plan, layout: &Arc<Layout>, random: &mut Random) -> Self {
        let settings = MachineSettings {
            attempt_timeout: Duration::from_millis((plan.timeout_ms / 3).max(150)),
            attempts_max: 3,
            in_flight_max: 16,
            zone: Some(format!("z{}", at % plan.zones)),
        };
        Self {
            machine: Machine::new(settings, Arc::clone(layout), random.draw()),
            id: random.draw() | 1,
            sequence: 0,
            pending: BTreeMap::new(),
            contexts: vec![Vec::new(); plan.keys],
            seen_clock: 0,
            armed_us: None,
            again: None,
            last: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether it asks for something of a key, or will ask again.
    pub(super) fn wants(&self, store_key: &StoreKey) -> bool {
        let pending = self.pending.values().map(|pending| &pending.operation);
        pending.chain(&self.again).any(|operation| operation.address.store_key == *store_key)
    }

    fn remember(&mut self, key: usize, context: &Bytes) {
        let contexts = &mut self.contexts[key];
        if contexts.last() != Some(context) {
            contexts.push(context.clone());
        }
        if contexts.len() > OLD_CONTEXTS {
            contexts.remove(0);
        }
    }
}

impl World {
    /// A client begins its next operations: mostly one, sometimes several at once.
    pub(super) fn turn(&mut self, client: usize) {
        let burst = if self.random.chance(80) { self.random.between(2, 5) } else { 1 };
        for _ in 0..burst {
            if !self.is_stormy || self.begun >= self.plan.operations {
                break;
            }
            self.begun += 1;
            let (operation, is_forged) = self.draw(client);
            self.submit_operation(client, operation, is_forged, self.plan.timeout_ms);
        }
        self.advance_client(client);
    }

    /// Hands an operation to a client's machine.
    pub(super) fn submit_operation(&mut self, client: usize, operation: Operation, is_forged: bool, timeout_ms: u64) {
        self.oracle.asked(&operation);
        self.trace.line(self.now_us, || format!("c{client} asks to {}", outline(&operation)));
        let deadline_us = self.now_us + timeout_ms * 1_000;
        let (now, deadline) = (self.now(), Duration::from_micros(deadline_us));
        let client = &mut self.clients[client];
        client.sequence += 1;
        let token = client.sequence;
        client.pending.insert(token, Pending { operation: operation.clone(), deadline_us, is_forged });
        client.machine.submit(now, operation, deadline, token);
    }

    fn draw(&mut self, client: usize) -> (Operation, bool) {
        if self.random.chance(500)
            && let Some(operation) = self.clients[client].again.take()
        {
            self.figures.sometimes.asked_again += 1;
            return (operation, false);
        }
        let key = self.random.index(self.plan.keys);
        let (action, is_forged) = self.draw_action(client, key);
        let consistency = self.draw_consistency();
        let address = self.oracle.address(key).clone();
        (Operation { address, consistency, action }, is_forged)
    }

    fn draw_action(&mut self, client: usize, key: usize) -> (Action, bool) {
        let mix = self.plan.mix;
        let weights = [mix.get, mix.put, mix.beside, mix.over, mix.stale, mix.foreign, mix.delete, mix.delete_over];
        let known = &self.clients[client].contexts[key];
        let latest = known.last().cloned();
        let old = known.first().cloned();
        let without_values = self.random.chance(100);
        let get = (Action::Get { without_values }, false);
        let context = |context: Option<Bytes>| context.map(Basis::Context);
        match self.weighted(&weights) {
            0 => get,
            1 => (self.put(client, Basis::Local), false),
            2 => (self.put(client, Basis::Beside), false),
            3 => context(latest).map_or(get, |basis| (self.put(client, basis), false)),
            4 => context(old).map_or(get, |basis| (self.put(client, basis), false)),
            5 => match self.forged(client, key) {
                Some(basis) if self.random.chance(700) => (self.put(client, basis), true),
                Some(basis) => (self.delete(client, basis), true),
                None => get,
            },
            6 => (self.delete(client, Basis::Local), false),
            _ => context(latest).map_or(get, |basis| (self.delete(client, basis), false)),
        }
    }

    /// A context that belongs to another key, or one with a flipped bit.
    fn forged(&mut self, client: usize, key: usize) -> Option<Basis> {
        let other = self.random.index(self.plan.keys);
        let context = self.clients[client].contexts[other].last()?.clone();
        let is_other = other != key;
        let at = self.random.draw();
        Some(Basis::Context(if is_other && at.is_multiple_of(3) { flipped(&context, at) } else { context }))
            .filter(|_| is_other)
    }

    fn put(&mut self, client: usize, basis: Basis) -> Action {
        let length = if self.random.chance(50) { self.random.between(60, 160) } else { self.random.between(8, 40) };
        let op_id = self.op_id(client);
        let mut value = format!("c{client}-{}", op_id.sequence).into_bytes();
        value.resize(value.len().max(length as usize), b'.');
        let ttl_ms = if self.random.chance(self.plan.expiring) { self.random.between(1, 20_000) } else { 0 };
        let seen_clock = self.clients[client].seen_clock;
        Action::Put { value: Bytes::from(value), hash: None, basis, op_id, seen_clock, ttl_ms }
    }

    fn delete(&mut self, client: usize, basis: Basis) -> Action {
        Action::Delete { basis, op_id: self.op_id(client), seen_clock: self.clients[client].seen_clock }
    }

    fn op_id(&mut self, client: usize) -> OpId {
        let client = &mut self.clients[client];
        client.sequence += 1;
        OpId { client: client.id, sequence: client.sequence }
    }

    fn draw_consistency(&mut self) -> Consistency {
        let levels = self.plan.levels;
        let weights = [levels.one, levels.available, levels.quorum, levels.all, levels.explicit];
        let of = |level| Consistency { level: Some(level), ..Consistency::default() };
        match self.weighted(&weights) {
            0 => of(Level::One),
            1 => of(Level::Available),
            2 => of(Level::Quorum),
            3 => of(Level::All),
            _ => {
                let replicas = u64::from(self.plan.replicas);
                let n = if self.random.chance(300) { self.random.between(1, replicas) } else { 0 };
                let most = if n == 0 { replicas } else { n };
                let level = if self.random.chance(700) { Level::Quorum } else { Level::Available };
                let (r, w) = (self.random.between(0, most) as u8, self.random.between(0, most) as u8);
                Consistency { level: Some(level), r, w, n: n as u8 }
            }
        }
    }

    fn weighted(&mut self, weights: &[u32]) -> usize {
        let mut at = self.random.below(weights.iter().sum::<u32>().into()) as u32;
        weights
            .iter()
            .position(|&weight| {
                let is_it = at < weight;
                at = at.saturating_sub(weight);
                is_it
            })
            .unwrap_or(0)
    }

    pub(super) fn wake_client(&mut self, client: usize) {
        self.clients[client].armed_us = None;
        self.advance_client(client);
    }

    /// Lets a client's machine do what is due, and does what it wants.
    pub(super) fn advance_client(&mut self, client: usize) {
        let now = self.now();
        let effects = self.clients[client].machine.advance(now);
        for effect in effects {
            self.carry_out_for(client, effect);
        }
        let Some(next) = self.clients[client].machine.next_event() else { return };
        let at_us = (next.as_micros() as u64 + 1).max(self.now_us + 1);
        if self.clients[client].armed_us.is_none_or(|armed| at_us < armed) {
            self.clients[client].armed_us = Some(at_us);
            self.queue.push(at_us, Event::WakeClient(client));
        }
    }

    fn carry_out_for(&mut self, client: usize, effect: MachineEffect) {
        let party = self.plan.nodes + client;
        match effect {
            MachineEffect::Connect(node) => {
                let node = number(node);
                let silent = !self.network.is_whole(party, node) || self.nodes[node].paused_until_us > self.now_us;
                let took_us = if silent { CONNECT_TIMEOUT_US } else { 300 + self.random.around(300) };
                self.queue.push(self.now_us + took_us, Event::Dialled { client, node });
            }
            MachineEffect::Disconnect(_) => {}
            MachineEffect::Refresh(node) => {
                let to = number(node);
                self.send(Message {
                    from: party,
                    to,
                    incarnation: 0,
                    doubled: false,
                    body: Body::AskLayout { epoch: 0 },
                });
            }
            MachineEffect::Send { call, node, operations, budget } => {
                let to = number(node);
                let budget_ms = budget.as_millis() as u64;
                let body = Body::Call { call, operations, budget_ms };
                self.send(Message { from: party, to, incarnation: 0, doubled: false, body });
            }
            MachineEffect::Complete { token, result } => self.complete(client, token, result),
        }
    }

    /// A client fetches the newest layout.
    pub(super) fn serve_client_layout(&mut self, node: usize, client: Party) {
        let layout = Arc::clone(self.nodes[node].ring.newest());
        let body = Body::Layout { newest: layout.epoch, layout };
        self.send(Message { from: node, to: client, incarnation: 0, doubled: false, body });
    }

    /// A client's attempt to connect ends.
    pub(super) fn dialled(&mut self, client: usize, node: usize) {
        let is_up = self.nodes[node].process.is_some() && self.nodes[node].paused_until_us <= self.now_us;
        let (now, id) = (self.now(), identity(node));
        self.trace.line(self.now_us, || format!("c{client} dialled n{node}"));
        if is_up && self.network.is_whole(self.plan.nodes + client, node) {
            let limits = NodeLimits {
                key_bytes_max: 1_024,
                value_bytes_max: 1 << 20,
                batch_operations_max: 1_024,
                batch_bytes_max: 4 << 20,
                calls_in_flight_max: 16,
            };
            self.clients[client].machine.connected(now, id, &limits);
        } else {
            self.clients[client].machine.unreachable(now, id);
        }
        self.advance_client(client);
    }

    pub(super) fn client_hears(&mut self, client: usize, node: Party, body: Body) {
        let now = self.now();
        match body {
            Body::Replies { call, replies, epoch } => {
                let header = ReplyHeader { epoch, ..ReplyHeader::default() };
                self.clients[client].machine.answered(now, call, &header, replies);
            }
            Body::Closed => self.clients[client].machine.disconnected(now, identity(node)),
            Body::Layout { layout, .. } => {
                let is_newer = self.clients[client].machine.set_layout(now, layout);
                self.figures.sometimes.clients_refreshed += u64::from(is_newer);
            }
            Body::Call { .. }
            | Body::Ask { .. }
            | Body::Answer { .. }
            | Body::AskTree { .. }
            | Body::AnswerTree { .. }
            | Body::AskMove { .. }
            | Body::AnswerMove { .. }
            | Body::Gossip { .. }
            | Body::AskLayout { .. }
            | Body::Ballot(_)
            | Body::BallotAnswer { .. }
            | Body::Forward { .. }
            | Body::Forwarded { .. } => {}
        }
        self.advance_client(client);
    }

    /// An operation has ended for its client.
    fn complete(&mut self, client: usize, token: u64, result: Result<Reply, Error>) {
        let Some(pending) = self.clients[client].pending.remove(&token) else {
            return self
                .oracle
                .broken(Invariant::I12, || format!("c{client} is told twice how its operation {token} ended"));
        };
        if self.now_us > pending.deadline_us + 2_000 {
            self.oracle
                .broken(Invariant::I12, || format!("c{client} was told {} us late", self.now_us - pending.deadline_us));
        }
        self.trace
            .line(self.now_us, || format!("c{client} is told of {}: {}", outline(&pending.operation), told(&result)));
        self.figures.count_result(&result);
        self.remember_result(client, &pending, &result);
        self.clients[client].last = Some(result.map_err(drop));
        if self.is_stormy && self.clients[client].pending.is_empty() {
            let at_us = self.now_us + self.random.around(self.plan.think_ms * 1_000);
            self.queue.push(at_us, Event::Turn(client));
        }
    }

    fn remember_result(&mut self, client: usize, pending: &Pending, result: &Result<Reply, Error>) {
        let operation = &pending.operation;
        let key = self.oracle.number(&operation.address.store_key);
        let op_id = match &operation.action {
            Action::Put { op_id, .. } | Action::Delete { op_id, .. } => Some(*op_id),
            Action::Get { .. } => None,
        };
        match result {
            Ok(reply) => {
                if pending.is_forged {
                    self.oracle.broken(Invariant::I6, || format!("c{client}'s context of another key was accepted"));
                }
                op_id.iter().for_each(|op_id| self.oracle.told(op_id, Told::Stored));
                let client = &mut self.clients[client];
                match &reply.outcome {
                    Outcome::Found { siblings, context } => {
                        let highest = siblings.iter().map(|sibling| sibling.clock).max().unwrap_or(0);
                        client.seen_clock = client.seen_clock.max(highest);
                        client.remember(key, context);
                    }
                    Outcome::NotFound { context } => client.remember(key, context),
                    Outcome::Stored { context, clock, .. } => {
                        client.seen_clock = client.seen_clock.max(*clock);
                        context.iter().for_each(|context| client.remember(key, context));
                    }
                    Outcome::Failed(_) => {}
                }
            }
            Err(error) => {
                let told = if error.maybe_applied() { Told::Unclear } else { Told::Denied };
                op_id.iter().for_each(|op_id| self.oracle.told(op_id, told));
                if op_id.is_some() && error.retryable() && self.random.chance(400) {
                    self.clients[client].again = Some(operation.clone());
                }
            }
        }
    }
}

fn outline(operation: &Operation) -> String {
    let basis = |basis: &Basis| match basis {
        Basis::Local => "",
        Basis::Beside => " beside",
        Basis::Context(_) => " over a context",
    };
    let what = match &operation.action {
        Action::Get { .. } => "get".to_owned(),
        Action::Put { value, basis: on, .. } => format!("put {}{}", Short(value), basis(on)),
        Action::Delete { basis: on, .. } => format!("delete{}", basis(on)),
    };
    let Consistency { level, r, w, n } = operation.consistency;
    format!("{what} {} {level:?} r{r} w{w} n{n}", String::from_utf8_lossy(&operation.address.key))
}

fn told(result: &Result<Reply, Error>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(error) => {
            format!("{} maybe_applied={} after {} attempts", error.code(), error.maybe_applied(), error.attempts())
        }
    }
}
