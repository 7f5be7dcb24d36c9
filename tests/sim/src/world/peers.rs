//! What nodes ask of each other, and what each thinks of its peers: a breaker like the server's decides when a peer counts as away, and
//! a probe finds out when it is back.

use std::collections::VecDeque;

use dynamo::{
    coordinator::{CallId, ForwardFailed, Input, PeerCall},
    hint::HintOperation,
    operation::{Operation, Reply},
    peer::{PeerAction, PeerOperation},
    replica::WriteOperation,
    steward,
    tick::Tick,
};

use super::{
    World,
    moving::Waiting,
    queue::{Body, Caller, Event, Message, Party},
    store::Origin,
};

/// Calls to a peer that take too long in a row before nothing more is sent to it, as in the server's breaker.
const TIMEOUTS_IN_A_ROW: u32 = 3;

/// What is known of a peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peer {
    pub(super) timeouts_in_a_row: u32,
    pub(super) is_away: bool,
}

impl World {
    /// A peer asks something of this node's replica.
    pub(super) fn serve_peer(
        &mut self,
        node: usize,
        (from, incarnation, call, doubled): (Party, u64, Option<Caller>, bool),
        operation: PeerOperation,
    ) {
        match &operation.action {
            PeerAction::Read | PeerAction::Digest if self.is_behind(node, &operation.view) => {
                let view = operation.view;
                self.catch_up(node, view, Waiting::Peer { from, incarnation, call, operation });
            }
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

    pub(super) fn peer_state(&mut self, node: usize, peer: usize, reachable: bool) {
        let Some(peer) = self.position(node, peer) else { return };
        self.drive(node, Input::PeerState { node: peer, reachable });
        self.tell_steward(node, steward::Input::PeerState { node: peer, reachable });
    }

    pub(super) fn ask(
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

    pub(super) fn forward(&mut self, node: usize, to: usize, call: CallId, operation: Box<Operation>, deadline: Tick) {
        let budget_ms = deadline.since(self.nodes[node].tick(self.now_us));
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let incarnation = process.incarnation;
        let body = Body::Forward { call, operation, budget_ms };
        self.send(Message { from: node, to, incarnation, doubled: false, body });
    }
}
