//! The network: delay, loss, doubling, reordering, damage, cuts in one or both directions, and links that hold everything back for a
//! while.

use bytes::Bytes;
use dynamo::{
    coordinator::{ForwardFailed, PeerCall},
    peer::{PeerAction, PeerResult},
};

use super::{
    World,
    queue::{Body, Caller, Event, Message, Party},
};
use crate::plan::Fault;

/// How long a question waits before it is seen whether what it rests on has come.
const HOLD_US: u64 = 20_000;

/// The state of all links.
#[derive(Debug)]
pub(super) struct Network {
    parties: usize,
    /// How many cuts lie on the way from one to another.
    cuts: Vec<u32>,
    /// Until when a link holds everything back.
    clogged_until_us: Vec<u64>,
}

impl Network {
    pub(super) fn new(parties: usize) -> Self {
        Self { parties, cuts: vec![0; parties * parties], clogged_until_us: vec![0; parties * parties] }
    }

    pub(super) fn cut(&mut self, from: Party, to: Party) {
        self.cuts[from * self.parties + to] += 1;
    }

    pub(super) fn join(&mut self, from: Party, to: Party) {
        let cuts = &mut self.cuts[from * self.parties + to];
        *cuts = cuts.saturating_sub(1);
    }

    pub(super) fn clog(&mut self, from: Party, to: Party, until_us: u64) {
        let until = &mut self.clogged_until_us[from * self.parties + to];
        *until = (*until).max(until_us);
    }

    /// Everything is as it should be.
    pub(super) fn heal(&mut self) {
        self.cuts.fill(0);
        self.clogged_until_us.fill(0);
    }

    pub(super) fn is_cut(&self, from: Party, to: Party) -> bool {
        self.cuts[from * self.parties + to] > 0
    }

    /// Whether both hear each other.
    pub(super) fn is_whole(&self, one: Party, other: Party) -> bool {
        !self.is_cut(one, other) && !self.is_cut(other, one)
    }
}

impl World {
    /// Sends a message; what becomes of it is the network's business.
    pub(super) fn send(&mut self, mut message: Message) {
        let (from, to) = (message.from, message.to);
        if self.network.is_cut(from, to) {
            self.figures.messages_cut += 1;
            return self.break_connection(from, to);
        }
        if self.befalls(Fault::Loss) {
            self.figures.messages_lost += 1;
            return self.break_connection(from, to);
        }
        let is_peer = from < self.plan.nodes && to < self.plan.nodes;
        if is_peer && self.befalls(Fault::Damage) && damage(&mut message.body, self.random.draw()) {
            self.figures.messages_damaged += 1;
        }
        // Clients' calls and forwarded operations travel in order on one connection; only what a peer may be asked twice is doubled.
        let may_double = matches!(message.body, Body::Ask { .. } | Body::Answer { .. });
        if may_double && self.befalls(Fault::Duplicate) {
            self.figures.messages_doubled += 1;
            message.doubled = true;
            let delay_us = self.delay_us(from, to);
            self.queue.push(self.now_us + delay_us, Event::Arrive(message.clone()));
        }
        let delay_us = self.delay_us(from, to);
        self.queue.push(self.now_us + delay_us, Event::Arrive(message));
    }

    /// A client's connection does not outlive a message that never arrives: sooner or later either side gives it up.
    fn break_connection(&mut self, from: Party, to: Party) {
        let (node, client) = (from.min(to), from.max(to));
        if client >= self.plan.nodes && node < self.plan.nodes {
            let at_us = self.now_us + self.random.between(300_000, 3_000_000);
            self.queue.push(at_us, Event::Broken { client: client - self.plan.nodes, node });
        }
    }

    /// Whether a fault that befalls some of a thousand befalls this one.
    pub(super) fn befalls(&mut self, fault: Fault) -> bool {
        let rate = self.plan.faults.rate(fault);
        self.is_stormy && rate > 0 && self.random.chance(rate)
    }

    /// A question that rests on a layout that its receiver lacks waits until it is there, as does what comes to a process whose rows have
    /// not followed yet.
    fn must_wait(&mut self, message: &Message) -> bool {
        let node = message.to;
        let view = match &message.body {
            Body::Ask { operation, .. } => operation.view,
            Body::AskTree { question, .. } => question.view,
            Body::AskMove { question, .. } => question.view,
            _ => return false,
        };
        let Some(process) = self.nodes.get(node).and_then(|node| node.process.as_ref()) else { return false };
        let incarnation = process.incarnation;
        let is_following = process.is_follow_due;
        if !is_following && !self.lacks_layouts(node, &view) {
            return false;
        }
        if !is_following {
            let epoch = self.nodes[node].ring.epoch() + 1;
            self.send(Message {
                from: node,
                to: message.from,
                incarnation: 0,
                doubled: false,
                body: Body::AskLayout { epoch },
            });
        }
        let at_us = self.now_us + HOLD_US;
        self.queue.push(at_us, Event::ServeAgain { node, incarnation, message: Box::new(message.clone()) });
        self.figures.sometimes.held += 1;
        true
    }

    fn delay_us(&mut self, from: Party, to: Party) -> u64 {
        let usual = 150 + self.random.around(250);
        let extra = if self.befalls(Fault::Reorder) { self.random.below(400_000) } else { 0 };
        let clogged_until = self.network.clogged_until_us[from * self.network.parties + to];
        usual + extra + clogged_until.saturating_sub(self.now_us)
    }

    pub(super) fn arrive(&mut self, message: Message) {
        if self.must_wait(&message) {
            return;
        }
        let Message { from, to, incarnation, doubled, body } = message;
        if to >= self.plan.nodes {
            return self.client_hears(to - self.plan.nodes, from, body);
        }
        let is_up = self.nodes[to].process.is_some();
        match body {
            Body::Call { call, operations, budget_ms } if is_up => {
                self.serve_client(to, from, call, operations, budget_ms)
            }
            Body::Call { .. } => {
                self.send(Message { from: to, to: from, incarnation, doubled: false, body: Body::Closed });
            }
            Body::Ask { call, operation } if is_up => {
                self.serve_peer(to, (from, incarnation, call, doubled), operation)
            }
            Body::Ask { call: Some(call), .. } => {
                // A connection is refused: nothing was done, unless the other copy found the process alive.
                let result = if doubled { PeerCall::Lost } else { PeerCall::NotSent };
                self.answer(to, (from, incarnation, call), result);
            }
            Body::Ask { call: None, .. } => {}
            Body::AskTree { call, question } if is_up => self.serve_tree(to, (from, incarnation), call, &question),
            Body::AskTree { call, .. } => {
                self.answer(to, (from, incarnation, Caller::Steward(call)), PeerCall::NotSent);
            }
            Body::AskMove { call, question } if is_up => self.serve_move(to, (from, incarnation, call), question),
            Body::AskMove { call, .. } => {
                self.answer(to, (from, incarnation, Caller::Steward(call)), PeerCall::NotSent);
            }
            Body::AnswerMove { call, answer } if self.is_process(to, incarnation) => {
                self.hear_move(to, from, call, answer);
            }
            Body::Gossip { epoch } if is_up => self.hear_gossip(to, from, epoch),
            Body::AskLayout { .. } if is_up && from >= self.plan.nodes => self.serve_client_layout(to, from),
            Body::AskLayout { epoch } if is_up => self.serve_layout(to, from, epoch),
            Body::Layout { layout, newest } if is_up => self.hear_layout(to, from, &layout, newest),
            Body::Ballot(question) if is_up => self.serve_ballot(to, from, question),
            Body::BallotAnswer { proposing, ballot, answer } if is_up => {
                self.hear_ballot(to, from, proposing, ballot, answer);
            }
            Body::AnswerTree { call, answer } if self.is_process(to, incarnation) => {
                self.hear_tree(to, from, call, answer)
            }
            Body::Answer { call, result } if self.is_process(to, incarnation) => {
                self.hear_answer(to, from, call, result)
            }
            Body::Forward { call, operation, budget_ms } if is_up => {
                self.serve_forwarded(to, (from, incarnation, call), *operation, budget_ms);
            }
            Body::Forward { call, .. } => {
                let result = Box::new(Err(ForwardFailed { sent: false }));
                let body = Body::Forwarded { call, result };
                self.send(Message { from: to, to: from, incarnation, doubled: false, body });
            }
            Body::Forwarded { call, result } if self.is_process(to, incarnation) => {
                self.hear_forwarded(to, from, call, *result);
            }
            Body::Answer { .. }
            | Body::AnswerTree { .. }
            | Body::AnswerMove { .. }
            | Body::Gossip { .. }
            | Body::AskLayout { .. }
            | Body::Layout { .. }
            | Body::Ballot(_)
            | Body::BallotAnswer { .. }
            | Body::Forwarded { .. }
            | Body::Replies { .. }
            | Body::Closed => {}
        }
    }
}

/// Flips a bit of the record in a message, if it carries one.
fn damage(body: &mut Body, at: u64) -> bool {
    let record = match body {
        Body::Ask { operation, .. } => match &mut operation.action {
            PeerAction::Merge(record) | PeerAction::Hint { record, .. } => record,
            PeerAction::Read | PeerAction::Digest | PeerAction::ReadHint => return false,
        },
        Body::Answer { result: PeerCall::Answered(PeerResult::Record(record)), .. } => record,
        Body::Answer { .. }
        | Body::AskTree { .. }
        | Body::AnswerTree { .. }
        | Body::AskMove { .. }
        | Body::AnswerMove { .. }
        | Body::Gossip { .. }
        | Body::AskLayout { .. }
        | Body::Layout { .. }
        | Body::Ballot(_)
        | Body::BallotAnswer { .. }
        | Body::Call { .. }
        | Body::Replies { .. }
        | Body::Closed
        | Body::Forward { .. }
        | Body::Forwarded { .. } => return false,
    };
    *record = flipped(record, at);
    true
}

/// The bytes with one bit flipped.
pub(super) fn flipped(bytes: &Bytes, at: u64) -> Bytes {
    let mut bytes = bytes.to_vec();
    let at = (at % (8 * bytes.len() as u64).max(1)) as usize;
    if let Some(byte) = bytes.get_mut(at / 8) {
        *byte ^= 1 << (at % 8);
    }
    Bytes::from(bytes)
}
