//! The network: messages wait in a heap, any of them may be next, and not all arrive as they were sent.

use bytes::Bytes;
use dynamo::{
    coordinator::{ForwardFailed, Input, PeerCall},
    hint::HintOperation,
    peer::{PeerAction, PeerOperation, PeerResult},
    replica::WriteOperation,
};

use super::{Asker, Caller, Message, Origin, World};

impl World {
    /// A request may be lost, with or without its sender being told, and may arrive although its sender was told it is lost.
    pub(super) fn send_request(&mut self, message: Message, from: Caller) {
        if self.has_faults {
            let told = |result| Message::Response { to: from, result };
            match self.random.below(100) {
                0..3 => return self.network.push(told(PeerCall::NotSent)),
                3..6 => return self.network.push(told(PeerCall::Lost)),
                6..9 => self.network.push(told(PeerCall::Lost)),
                _ => {}
            }
        }
        self.send(message);
    }

    pub(super) fn send(&mut self, mut message: Message) {
        if self.has_faults {
            match self.random.below(100) {
                0..4 => return,
                4..8 => {
                    if let Message::Request { from, .. } | Message::Forward { from, .. } = &mut message {
                        from.doubled = true;
                    }
                    self.network.push(message.clone());
                }
                _ => {}
            }
        }
        self.network.push(message);
    }

    pub(super) fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.random.below(self.network.len());
        match self.network.swap_remove(at) {
            Message::LocalRead { to, operation } => {
                if self.is_same_process(to) {
                    let (result, call) = (self.read(to.node, &operation), to.call.expect("reads are awaited"));
                    self.input(to.node, Input::LocalRead { call, result });
                }
            }
            Message::LocalWritten { to, outcome } => {
                if let Some(call) = to.call.filter(|_| self.is_same_process(to)) {
                    self.input(to.node, Input::LocalWrite { call, outcome });
                }
            }
            Message::Request { to, from, operation } => {
                if self.nodes[to].process.is_some() {
                    self.serve(to, from, operation);
                } else {
                    let result = if from.doubled { PeerCall::Lost } else { PeerCall::NotSent };
                    self.send(Message::Response { to: from, result });
                }
            }
            Message::Response { to, result } => {
                if let Some(call) = to.call.filter(|_| self.is_same_process(to)) {
                    let result = self.perhaps_damaged(result);
                    self.input(to.node, Input::Peer { call, result });
                }
            }
            Message::Forward { to, from, operation, deadline } => {
                if self.nodes[to].process.is_none() || deadline <= self.now {
                    self.send(Message::Forwarded { to: from, result: Err(ForwardFailed { sent: from.doubled }) });
                } else {
                    self.request(to, Asker::Forwarder(from), operation, 1, deadline);
                }
            }
            Message::Handoff { from, key, record } => self.take_handoff(from, key, record),
            Message::HandedOff { to, key, digest } => self.handed_off(to, key, digest),
            Message::Forwarded { to, result } => {
                if let Some(call) = to.call.filter(|_| self.is_same_process(to)) {
                    self.input(to.node, Input::Forwarded { call, result });
                }
            }
        }
    }

    pub(super) fn is_same_process(&self, caller: Caller) -> bool {
        self.nodes[caller.node].process.as_ref().is_some_and(|process| process.incarnation == caller.incarnation)
    }

    /// A peer's replica takes a request.
    pub(super) fn serve(&mut self, at: usize, from: Caller, operation: PeerOperation) {
        let PeerOperation { view, store_key, ref action } = operation;
        let process = self.nodes[at].process.as_mut().expect("only a running node serves");
        match action {
            PeerAction::Merge(record) => {
                let record = if self.has_faults && self.random.chance(10) { damaged(record) } else { record.clone() };
                process.queue.push((Origin::Peer(from), WriteOperation::Merge { view, store_key, record }));
            }
            PeerAction::Hint { target, record } => {
                let record = if self.has_faults && self.random.chance(10) { damaged(record) } else { record.clone() };
                let operation = HintOperation::Keep { view, target: *target, store_key, record };
                process.hints.push((Origin::Peer(from), operation));
            }
            PeerAction::Read | PeerAction::Digest | PeerAction::ReadHint => {
                let result = PeerCall::Answered(self.read(at, &operation));
                self.send(Message::Response { to: from, result });
            }
        }
    }

    pub(super) fn perhaps_damaged(&mut self, result: PeerCall) -> PeerCall {
        match result {
            PeerCall::Answered(PeerResult::Record(record)) if self.has_faults && self.random.chance(15) => {
                PeerCall::Answered(PeerResult::Record(damaged(&record)))
            }
            other => other,
        }
    }
}

fn damaged(record: &Bytes) -> Bytes {
    let mut bytes = record.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Bytes::from(bytes)
}
