//! An operation that another node does, because this one is an owner of its key under no active configuration: one hop, so that any
//! node takes any request and none goes around in circles. Owners may have changed without this node's knowledge: whom it asks then
//! does nothing and says whom to ask instead. At level `available` it goes to the first live stand-in when no owner can be
//! reached, and if that is this node, it stays.

use alloc::{boxed::Box, format, vec::Vec};

use super::{
    CallId, Effect, ForwardFailed,
    call::Ask,
    failing::{Shortfall, Trouble},
    flight::{Flow, Head, Shared},
};
use crate::{
    layout::REPLICAS_MAX,
    operation::{Action, ErrorCode, Failure, Outcome, Receipt, Reply},
    quorum::{CONFIGURATIONS_MAX, Place, Places},
};

/// Most owners of which a refusal's word is taken: those of all configurations that can be active.
const OWNERS_FOLLOWED_MAX: usize = CONFIGURATIONS_MAX * REPLICAS_MAX as usize;

/// Who does an operation that this node owns nothing of.
pub(super) enum Handed {
    /// Another node, which has it now.
    On(Forwarding),
    /// This one: no owner can be reached, and it is the first to stand in for them.
    Here,
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
    /// Owners it may still be handed to.
    untried: Places,
    /// The owner that has it now.
    at: Place,
}

impl Forwarding {
    /// Hands the operation to the first owner that can be reached.
    pub(super) fn begin(head: &mut Head, shared: &mut Shared, effects: &mut Vec<Effect>) -> Result<Handed, Failure> {
        let untried = head.route.owners().without(shared.unreachable(&head.route));
        let mut forwarding = Self { untried, at: Place::FIRST };
        match forwarding.hand_on(head, shared, effects) {
            Taker::Found => Ok(Handed::On(forwarding)),
            Taker::Me => Ok(Handed::Here),
            Taker::Nobody => Err(shortfall(false, head).lost()),
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
            Ok(Reply { outcome: Outcome::Failed(failure), receipt }) if is_turned_away(&failure) => {
                shared.want_newer(receipt.epoch, effects);
                self.follow(&failure, head, shared);
                match self.hand_on(head, shared, effects) {
                    Taker::Found => Flow::Wait,
                    Taker::Me => Flow::StandIn,
                    Taker::Nobody => self.fail(failure, head, effects),
                }
            }
            // What this node did before it handed the operation on, the other one does not know.
            Ok(Reply { outcome: Outcome::Failed(failure), .. }) if head.maybe_applied && !failure.maybe_applied => {
                let text = "an earlier attempt may have stored the write, and it may still appear";
                let message = format!("{}; but {text}", failure.message).into();
                self.fail(Failure { message, ..failure }, head, effects)
            }
            Ok(Reply { outcome, receipt }) => {
                head.reply(outcome, receipt, effects);
                Flow::End
            }
            Err(ForwardFailed { sent }) => {
                let is_applied = sent && writes(head);
                if !is_applied {
                    match self.hand_on(head, shared, effects) {
                        Taker::Found => return Flow::Wait,
                        Taker::Me => return Flow::StandIn,
                        Taker::Nobody => {}
                    }
                }
                let failure = shortfall(is_applied, head).lost();
                self.fail(failure, head, effects)
            }
        }
    }

    /// Time is up.
    pub(super) fn on_deadline(&mut self, head: &mut Head, shared: &mut Shared, effects: &mut Vec<Effect>) -> Flow {
        shared.counters.timeouts += 1;
        let failure = shortfall(writes(head), head).timeout();
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
        effects.push(Effect::Forward {
            call,
            to,
            operation: Box::new(head.operation.clone()),
            deadline: head.deadline,
        });
        Taker::Found
    }

    /// The node that was asked is no owner any more, and says who is.
    fn follow(&mut self, failure: &Failure, head: &mut Head, shared: &Shared) {
        let owners = failure.owners.iter().filter(|&&owner| Some(owner) != shared.config.me);
        for &owner in owners.take(OWNERS_FOLLOWED_MAX) {
            if !shared.is_unreachable(owner)
                && let Some(place) = head.route.add(owner)
            {
                self.untried.insert(place);
            }
        }
    }

    fn fail(&self, mut failure: Failure, head: &mut Head, effects: &mut Vec<Effect>) -> Flow {
        failure.maybe_applied |= head.maybe_applied;
        let receipt = Receipt { epoch: head.route.epoch, replicas: head.route.replicas, ..Receipt::default() };
        head.reply(Outcome::Failed(failure), receipt, effects);
        Flow::End
    }
}

/// Whether the other node did nothing because it is no owner, or is about to stop: another one may do it.
fn is_turned_away(failure: &Failure) -> bool {
    matches!(failure.code, ErrorCode::StaleView | ErrorCode::ShuttingDown) && !failure.maybe_applied
}

fn writes(head: &Head) -> bool {
    match head.operation.action {
        Action::Get { .. } => false,
        Action::Put { .. } | Action::Delete { .. } => true,
    }
}

fn shortfall(is_applied: bool, head: &Head) -> Shortfall<'_> {
    let maybe_applied = writes(head).then_some(is_applied || head.maybe_applied);
    Shortfall { need_and_got: (1, 0), trouble: Trouble::default(), maybe_applied, route: &head.route }
}
