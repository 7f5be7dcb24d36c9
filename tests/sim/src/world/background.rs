//! Background repair: the real steward of each node, its questions to other nodes, and the scrub that reads all records.

use std::{collections::VecDeque, sync::Arc};

use dynamo::{
    coordinator::{CallId, PeerCall},
    ident::StoreKey,
    layout::View,
    peer::{PeerAction, PeerResult, TreeAnswer, TreeQuestion},
    record,
    replica::WriteOutcome,
    round::{Answer, Ask},
    steward::{Effect, Input, StewardConfig},
};

use super::{
    World,
    moving::Waiting,
    queue::{Body, Caller, Event, Message, Party},
    store::Origin,
};
use crate::invariant::Invariant;

/// Most inputs of a steward at one instant; more means that it keeps itself busy.
const STEPS_AT_ONCE_MAX: u32 = 20_000;

impl World {
    pub(super) fn steward_config(&mut self, node: usize, is_unclean: bool) -> StewardConfig {
        let settings = self.plan.repair;
        let seed = self.random.draw();
        let (me, ring) = (self.position(node, node), Arc::clone(&self.nodes[node].ring));
        let rows = self.standings(node);
        StewardConfig {
            is_unclean,
            exchange_every_ms: settings.exchange_every_ms,
            hints_every_ms: settings.hints_every_ms,
            return_after_ms: 1_000,
            patience_ms: 3_000,
            retry_min_ms: 200,
            retry_max_ms: 4_000,
            ..StewardConfig::new(me, ring, rows, seed)
        }
    }

    /// Hands something to a node's steward and does all that follows from it.
    pub(super) fn tell_steward(&mut self, node: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        let mut effects = Vec::new();
        let mut steps = 0;
        while let Some(input) = inputs.pop_front() {
            let tick = self.nodes[node].tick(self.now_us);
            let Some(process) = self.nodes[node].process.as_mut() else { return };
            process.steward.step(tick, input, &mut effects);
            steps += 1;
            if steps > STEPS_AT_ONCE_MAX {
                let status = process.steward.status();
                return self.oracle.broken(Invariant::I12, || {
                    format!("n{node}'s steward goes round in circles: {effects:?} {status:?}")
                });
            }
            for Effect { call, ask } in effects.drain(..) {
                if let Some(answer) = self.carry_out_ask(node, call, ask) {
                    inputs.push_back(Input::Answer { call, answer });
                }
            }
        }
        self.arm(node);
    }

    /// Does what a steward asks for; the answer, if there is one at once.
    fn carry_out_ask(&mut self, node: usize, call: CallId, ask: Ask) -> Option<Answer> {
        let caller = Caller::Steward(call);
        match ask {
            Ask::LocalTree { question } => Some(Answer::Tree(self.nodes[node].disk.answer_tree(&question))),
            Ask::LocalRead { operation } => Some(Answer::Peer(self.read(node, &operation))),
            Ask::HintTargets => Some(Answer::Targets(self.nodes[node].shelf.targets())),
            Ask::HintScan { target, after, records_max, .. } => {
                Some(Answer::Hints(self.nodes[node].shelf.scan(target, after, records_max as usize)))
            }
            Ask::Move { to, question } => {
                let Some(to) = self.number_at(node, to) else { return Some(Answer::NotSent) };
                if !self.begin_call(node, to, caller) {
                    return Some(Answer::NotSent);
                }
                self.post(node, to, Body::AskMove { call, question });
                None
            }
            Ask::LocalStanding { bits, prefix } => {
                let view = View { prefix, bits, lo: 0, hi: 0 };
                Some(Answer::Move(self.standing(node, &view)))
            }
            Ask::WantLayout { epoch } => {
                self.wish_for(node, epoch);
                Some(Answer::NotSent)
            }
            Ask::LocalWrite { operation } => {
                self.submit(node, Origin::Steward(call), operation);
                None
            }
            Ask::LocalHint { operation } => {
                self.submit_hint(node, Origin::Steward(call), operation);
                None
            }
            Ask::Peer { to, operation } => {
                let Some(to) = self.number_at(node, to) else { return Some(Answer::NotSent) };
                if !self.begin_call(node, to, caller) {
                    return Some(Answer::NotSent);
                }
                self.post(node, to, Body::Ask { call: Some(caller), operation });
                None
            }
            Ask::Tree { to, question } => {
                let Some(to) = self.number_at(node, to) else { return Some(Answer::NotSent) };
                if !self.begin_call(node, to, caller) {
                    return Some(Answer::NotSent);
                }
                self.post(node, to, Body::AskTree { call, question });
                None
            }
        }
    }

    fn post(&mut self, node: usize, to: Party, body: Body) {
        let incarnation = self.nodes[node].process.as_ref().map_or(0, |process| process.incarnation);
        self.send(Message { from: node, to, incarnation, doubled: false, body });
    }

    /// A peer's steward asks this node's hash trees.
    pub(super) fn serve_tree(
        &mut self,
        node: usize,
        (from, incarnation): (Party, u64),
        call: CallId,
        question: &TreeQuestion,
    ) {
        if self.is_behind(node, &question.view) {
            let waiting = Waiting::Tree { from, incarnation, call, question: *question };
            return self.catch_up(node, question.view, waiting);
        }
        let answer = self.nodes[node].disk.answer_tree(question);
        let body = Body::AnswerTree { call, answer };
        self.send(Message { from: node, to: from, incarnation, doubled: false, body });
    }

    pub(super) fn hear_tree(&mut self, node: usize, peer: Party, call: CallId, answer: TreeAnswer) {
        self.end_call(node, peer, Caller::Steward(call), true);
        self.tell_steward(node, Input::Answer { call, answer: Answer::Tree(answer) });
    }

    /// A steward's own call to a peer ended.
    pub(super) fn steward_hears(&mut self, node: usize, call: CallId, result: PeerCall) {
        let answer = match result {
            PeerCall::Answered(result) => Answer::Peer(result),
            PeerCall::NotSent => Answer::NotSent,
            PeerCall::Lost => Answer::Lost,
        };
        self.tell_steward(node, Input::Answer { call, answer });
    }

    pub(super) fn steward_wrote(&mut self, node: usize, call: CallId, outcome: WriteOutcome) {
        self.tell_steward(node, Input::Answer { call, answer: Answer::Written(outcome) });
    }

    /// A record was found that can't be read: the steward hears of it in a moment, as in the server.
    pub(super) fn found_corrupt(&mut self, node: usize, store_key: StoreKey) {
        let now_us = self.now_us;
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let incarnation = process.incarnation;
        if process.corrupt.is_empty() {
            self.queue.push(now_us, Event::Report { node, incarnation });
        }
        process.corrupt.push(store_key);
    }

    /// Tells the steward what was found.
    pub(super) fn report(&mut self, node: usize) {
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        for store_key in std::mem::take(&mut process.corrupt) {
            self.tell_steward(node, Input::Corrupt { store_key });
        }
    }

    /// Reads every record and reports those that do not verify.
    pub(super) fn scrub(&mut self, node: usize) {
        let records = self.nodes[node].disk.records.iter();
        let found: Vec<StoreKey> =
            records.filter(|(key, bytes)| record::verify(key, bytes).is_err()).map(|(key, _)| *key).collect();
        self.figures.sometimes.scrubbed += found.len() as u64;
        found.into_iter().for_each(|store_key| self.found_corrupt(node, store_key));
        let Some(incarnation) = self.nodes[node].process.as_ref().map(|process| process.incarnation) else { return };
        let at_us = self.now_us + self.random.around(self.plan.repair.scrub_every_ms * 1_000);
        self.queue.push(at_us, Event::Scrub { node, incarnation });
    }
}

/// Whether a peer asks this replica for its record.
pub(super) fn is_read(action: &PeerAction) -> bool {
    match action {
        PeerAction::Read | PeerAction::Digest => true,
        PeerAction::ReadHint | PeerAction::Merge(_) | PeerAction::Hint { .. } => false,
    }
}

/// What a peer is told of a write.
pub(super) fn told(outcome: WriteOutcome) -> PeerCall {
    match outcome {
        WriteOutcome::Stored => PeerCall::Answered(PeerResult::Stored),
        WriteOutcome::Stale(view) => PeerCall::Answered(PeerResult::Stale(view)),
        WriteOutcome::Corrupt => PeerCall::Answered(PeerResult::Corrupt),
        WriteOutcome::Refused(failure) => PeerCall::Answered(PeerResult::Failed(failure)),
        // Peers never ask for one.
        WriteOutcome::Minted(_) | WriteOutcome::Moved { .. } => PeerCall::Lost,
    }
}
