//! An operation that another node does, because this one is no owner of its key: one hop, so that any node takes any
//! request and none goes around in circles. At level `available` it goes to the first live stand-in when no owner can be
//! reached, and if that is this node, it stays.

use alloc::{boxed::Box, vec::Vec};

use super::{
    CallId, Effect, ForwardFailed,
    call::Ask,
    failing::{Shortfall, Trouble},
    flight::{Flow, Head, Shared},
};
use crate::{
    operation::{Action, Failure, Operation, Outcome, Receipt, Reply},
    quorum::{Place, Places},
};

/// Who does an operation that this node owns nothing of.
pub(super) enum Handed {
    /// Another node, which has it now.
    On(Forwarding),
    /// This one: no owner can be reached, and it is the first to stand in for them.
    Here(Box<Operation>),
}

/// What came of looking for someone to hand it to.
enum Taker {
    Found,
    Me,
    Nobody,
}

/// A forwarded operation.
#[derive(Debug)]
pub(super) struct Forwarding {
    /// On the heap, for it is large and rare: it shall not make every operation's state larger.
    operation: Box<Operation>,
    /// Owners it may still be handed to.
    untried: Places,
    /// The owner that has it now.
    at: Place,
}

impl Forwarding {
    /// Hands the operation to the first owner that can be reached.
    pub(super) fn begin(
        operation: Operation,
        head: &mut Head,
        shared: &mut Shared,
        effects: &mut Vec<Effect>,
    ) -> Result<Handed, Failure> {
        let untried = head.route.owners().without(shared.unreachable(&head.route));
        let mut forwarding = Self { operation: Box::new(operation), untried, at: Place::FIRST };
        match forwarding.hand_on(head, shared, effects) {
            Taker::Found => Ok(Handed::On(forwarding)),
            Taker::Me => Ok(Handed::Here(forwarding.operation)),
            Taker::Nobody => Err(forwarding.shortfall(false, head).lost()),
        }
    }

    /// Takes the other node's reply, or tries the next one if this one can't have done anything.
    pub(super) fn on_reply(
        &mut self,
        call: CallId,
        result: Result<Reply, ForwardFailed>,
        head: &mut Head,
        shared: &mut Shared,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        if call.place() != self.at || call.ask() != Ask::Whole {
            return Flow::Unclaimed;
        }
        match result {
            Ok(Reply { outcome, receipt }) => {
                head.reply(outcome, receipt, effects);
                Flow::End
            }
            Err(ForwardFailed { sent }) => {
                let is_applied = sent && self.writes();
                if !is_applied {
                    match self.hand_on(head, shared, effects) {
                        Taker::Found => return Flow::Wait,
                        Taker::Me => return Flow::StandIn(self.operation.clone()),
                        Taker::Nobody => {}
                    }
                }
                let failure = self.shortfall(is_applied, head).lost();
                self.fail(failure, head, effects)
            }
        }
    }

    /// Time is up.
    pub(super) fn on_deadline(&mut self, head: &mut Head, shared: &mut Shared, effects: &mut Vec<Effect>) -> Flow {
        shared.counters.timeouts += 1;
        let failure = self.shortfall(self.writes(), head).timeout();
        self.fail(failure, head, effects)
    }

    fn hand_on(&mut self, head: &mut Head, shared: &mut Shared, effects: &mut Vec<Effect>) -> Taker {
        let next = match self.untried.iter().next() {
            None if head.demand.is_sloppy => head.route.recruit(shared),
            owner => owner,
        };
        let Some(place) = next else { return Taker::Nobody };
        if Some(head.route.node(place)) == shared.config.me {
            return Taker::Me;
        }
        self.untried.remove(place);
        self.at = place;
        shared.counters.forwarded += 1;
        let (call, to) = (head.call(place, Ask::Whole), head.route.node(place));
        effects.push(Effect::Forward { call, to, operation: self.operation.clone(), deadline: head.deadline });
        Taker::Found
    }

    fn writes(&self) -> bool {
        match self.operation.action {
            Action::Get { .. } => false,
            Action::Put { .. } | Action::Delete { .. } => true,
        }
    }

    fn fail(&self, failure: Failure, head: &mut Head, effects: &mut Vec<Effect>) -> Flow {
        let receipt = Receipt { epoch: head.route.view.hi, replicas: head.route.replicas, ..Receipt::default() };
        head.reply(Outcome::Failed(failure), receipt, effects);
        Flow::End
    }

    fn shortfall<'r>(&self, is_applied: bool, head: &'r Head) -> Shortfall<'r> {
        let maybe_applied = self.writes().then_some(is_applied);
        Shortfall { need_and_got: (1, 0), trouble: Trouble::default(), maybe_applied, route: &head.route }
    }
}
