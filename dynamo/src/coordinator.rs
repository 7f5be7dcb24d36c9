//! The coordinator (paper, sections 4.5 and 5): owns every client operation of one RPC worker from its
//! arrival to its reply. It decides which replicas to ask, when it is enough, what the answer is, and who needs read repair.
//!
//! It is a state machine: [`Coordinator::step`] takes one input and appends effects, [`Coordinator::next_deadline`] says
//! when it wants to be woken. It holds no data of its own, does no input or output, and never waits. That a write is on
//! this node's disk it learns only from [`Input::LocalWrite`], so no driver can acknowledge too early. Operations are
//! independent: there is no order between them, and an answer that is late, doubled, or made up finds nobody
//! ([`CallId`]). A client that goes away changes nothing: its operation ends here all the same.

use alloc::{sync::Arc, vec::Vec};

use slab::Slab;

use crate::{
    bug::{self, Bug},
    ident::StoreKey,
    layout::NodeIndex,
    operation::{Failure, Outcome},
    quorum::Places,
    ring::Ring,
    tick::Tick,
    token::TokenKey,
};

mod admission;
mod call;
mod counters;
mod deadlines;
mod demand;
mod effect;
mod failing;
mod flight;
mod forwarding;
mod hedging;
mod input;
mod known;
mod reading;
mod renewal;
mod route;
mod substitutes;
mod writing;

pub use call::CallId;
pub use counters::Counters;
pub use effect::Effect;
pub use input::{ForwardFailed, Input, PeerCall};

use admission::Arrival;
use call::Calls;
use deadlines::Deadlines;
use flight::{Flight, Flow, Head, Shared, Stage};
use writing::Writing;

/// The driver's own number for a client operation; comes back with its reply. The coordinator never looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a coordinator must know of its node's configuration.
#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    /// This node, by its position in the ring; `None` while it has none, and everything is forwarded.
    pub me: Option<NodeIndex>,
    /// The partition map, and the older ones by which a partition may still have owners.
    pub ring: Arc<Ring>,
    /// The cluster's key for context tokens.
    pub token_key: TokenKey,
    /// Longest value in bytes a put may carry; the replica's limit is the same.
    pub value_bytes_max: u64,
    /// Most operations whose clients wait. Beyond it new ones are refused with `Overloaded` before anything is done.
    pub operations_max: usize,
    /// Most operations that were answered and still wait for late answers: reads for read repair, writes to leave hints for
    /// owners that fail. Beyond it they end with their reply, and whoever was behind is repaired by a later read or an
    /// exchange.
    pub lingering_max: usize,
    /// The same in bytes of the records they keep.
    pub lingering_bytes_max: usize,
    /// Longest time in milliseconds an operation may take, whatever its client allows: what bounds the life of its state.
    pub budget_max_ms: u64,
    /// After so many milliseconds a read that is not answered yet asks one more owner for its record, and an operation at
    /// level `available` replaces who is silent by a stand-in; then again after twice, four times as many, and so on. 0 for
    /// never. Above the usual p95 of a replica's answer, or every operation becomes dearer.
    pub hedge_after_ms: u64,
}

impl CoordinatorConfig {
    /// Limits for a server's worker, to be adapted field by field.
    pub fn new(me: Option<NodeIndex>, ring: Arc<Ring>, token_key: TokenKey) -> Self {
        Self {
            me,
            ring,
            token_key,
            value_bytes_max: 1 << 20,
            // 64 full batches: beyond that a worker of one core can't answer within a usual budget anyway.
            operations_max: 65_536,
            // As many again; they cost a few hundred bytes each and the record that was read.
            lingering_max: 65_536,
            // Small beside what clients may have in flight; as many records of a kilobyte.
            lingering_bytes_max: 64 << 20,
            budget_max_ms: 60_000,
            hedge_after_ms: 100,
        }
    }
}

/// The coordinator of one RPC worker.
#[derive(Debug)]
pub struct Coordinator {
    shared: Shared,
    flights: Slab<Flight>,
    deadlines: Deadlines,
}

impl Coordinator {
    /// A coordinator without operations, to which every peer is reachable.
    pub fn new(config: CoordinatorConfig) -> Self {
        let config = CoordinatorConfig {
            operations_max: config.operations_max.min(call::SLOTS_MAX / 2),
            lingering_max: config.lingering_max.min(call::SLOTS_MAX / 2),
            ..config
        };
        Self { shared: Shared::new(config), flights: Slab::new(), deadlines: Deadlines::default() }
    }

    /// When to step [`Input::Deadline`] if nothing else happens before; `None` while there is nothing to wait for.
    pub fn next_deadline(&self) -> Option<Tick> {
        self.deadlines.next()
    }

    /// How many operations it holds, those included that were answered and wait for late answers.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// How many of them are about keys of the partition with this prefix.
    pub fn in_flight_on(&self, prefix: u32) -> usize {
        self.flights.iter().filter(|(_, flight)| flight.head.route.view.prefix == prefix).count()
    }

    /// How many clients wait for a reply.
    pub fn waiting(&self) -> usize {
        self.flights.len() - self.shared.lingering
    }

    /// When the operation that made this call ends; `None` if it has ended already. What a driver may send along, so that
    /// nobody works for a client that has given up.
    pub fn deadline(&self, call: CallId) -> Option<Tick> {
        let flight = self.flights.get(call.calls().slot())?;
        (flight.head.calls == call.calls()).then_some(flight.head.deadline)
    }

    /// Which of this node's own records a call wants to write; `None` if its operation has ended, or writes what this node
    /// keeps for others. What a driver reports when the store can't verify it.
    pub fn own_record(&self, call: CallId) -> Option<StoreKey> {
        let flight = self.flights.get(call.calls().slot()).filter(|flight| flight.head.calls == call.calls())?;
        match &flight.stage {
            Stage::Writing(_) if !flight.head.route.is_standing_in() => Some(flight.head.operation.address.store_key),
            Stage::Writing(_) | Stage::Reading(_) | Stage::Forwarding(_) | Stage::Parked(_) => None,
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.shared.counters
    }

    /// Takes one input and appends what is to be done to `effects`.
    pub fn step(&mut self, now: Tick, input: Input, effects: &mut Vec<Effect>) {
        self.shared.now = now;
        match input {
            Input::Client { request, operation, hops, deadline, now_wall_ms } => {
                self.admit(Arrival { request, hops, now, deadline, now_wall_ms }, operation, effects);
            }
            Input::LocalRead { call, result } => self.on_answer(call, PeerCall::Answered(result), effects),
            Input::Peer { call, result } => self.on_answer(call, result, effects),
            Input::Minted { call, minted } => {
                self.resume(call.calls(), effects, |Flight { head, stage }, shared, effects| match stage {
                    Stage::Writing(writing) => writing.on_minted(minted, head, shared, effects),
                    Stage::Reading(_) | Stage::Forwarding(_) | Stage::Parked(_) => Flow::Unclaimed,
                });
            }
            Input::LocalWrite { call, outcome } => {
                self.resume(call.calls(), effects, |Flight { head, stage }, shared, effects| match stage {
                    Stage::Writing(writing) => writing.on_local(outcome, head, shared, effects),
                    Stage::Reading(_) | Stage::Forwarding(_) | Stage::Parked(_) => Flow::Unclaimed,
                });
            }
            Input::Forwarded { call, result } => {
                self.resume(call.calls(), effects, |Flight { head, stage }, shared, effects| match stage {
                    Stage::Forwarding(forwarding) => forwarding.on_reply(call, result, head, shared, effects),
                    Stage::Reading(_) | Stage::Writing(_) | Stage::Parked(_) => Flow::Unclaimed,
                });
            }
            Input::PeerState { node, reachable } => self.shared.set_reachable(node, reachable),
            Input::View { view } => self.shared.known.raise(view, &self.shared.config.ring),
            Input::Deadline => self.expire(now, effects),
        }
    }

    fn on_answer(&mut self, call: CallId, result: PeerCall, effects: &mut Vec<Effect>) {
        let (place, ask) = (call.place(), call.ask());
        self.resume(call.calls(), effects, |Flight { head, stage }, shared, effects| match stage {
            Stage::Reading(reading) => reading.on_answer((place, ask), result, head, shared, effects),
            Stage::Writing(writing) => writing.on_peer(place, result, head, shared, effects),
            Stage::Forwarding(_) | Stage::Parked(_) => Flow::Unclaimed,
        });
    }

    fn expire(&mut self, now: Tick, effects: &mut Vec<Effect>) {
        while let Some(calls) = self.deadlines.pop_due(now) {
            // An operation that has ended since is nothing unusual here, unlike where an answer is looked up.
            if self.flights.get(calls.slot()).is_none_or(|flight| flight.head.calls != calls) {
                continue;
            }
            self.resume(calls, effects, |Flight { head, stage }, shared, effects| match stage {
                Stage::Reading(reading) if now < head.deadline => reading.on_hedge(head, shared, effects),
                Stage::Reading(reading) => reading.on_deadline(head, shared, effects),
                Stage::Writing(writing) if now < head.deadline => writing.on_hedge(head, shared, effects),
                Stage::Writing(writing) => writing.on_deadline(head, shared, effects),
                Stage::Forwarding(forwarding) => forwarding.on_deadline(head, shared, effects),
                Stage::Parked(_) => {
                    shared.counters.timeouts += 1;
                    let (failure, receipt) = (failing::uninformed(head), head.receipt(Places::NONE, 0));
                    head.reply(Outcome::Failed(failure), receipt, effects);
                    Flow::End
                }
            });
            self.watch(calls.slot(), now);
        }
    }

    /// Lets the operation that these calls belong to go on, if it still exists.
    fn resume(
        &mut self,
        calls: Calls,
        effects: &mut Vec<Effect>,
        go_on: impl FnOnce(&mut Flight, &mut Shared, &mut Vec<Effect>) -> Flow,
    ) {
        let is_it = |flight: &&mut Flight| flight.head.calls == calls || bug::is_on(Bug::TakeOthersAnswer);
        let Some(flight) = self.flights.get_mut(calls.slot()).filter(is_it) else {
            self.shared.counters.unclaimed += 1;
            return;
        };
        let was_lingering = flight.head.is_answered;
        match go_on(flight, &mut self.shared, effects) {
            Flow::Wait => {}
            Flow::Linger => {
                flight.head.lingering_bytes = flight.stage.record_bytes();
                self.shared.lingering += 1;
                self.shared.lingering_bytes += flight.head.lingering_bytes;
            }
            Flow::Unclaimed => self.shared.counters.unclaimed += 1,
            Flow::End => {
                self.shared.lingering -= usize::from(was_lingering);
                self.shared.lingering_bytes -= flight.head.lingering_bytes;
                self.flights.remove(calls.slot());
            }
            Flow::Write(write) => {
                let (address, write) = *write;
                self.go_on(calls.slot(), effects, |head, shared, effects| {
                    head.route.dismiss();
                    Writing::begin(address, write, head, shared, effects)
                });
            }
            Flow::StandIn => {
                self.go_on(calls.slot(), effects, |head, shared, effects| admission::stand_in(shared, head, effects))
            }
            Flow::Renew => self.renew(calls.slot(), effects),
        }
    }

    /// Lets an operation enter another stage: the delete after its read, the work itself when nobody took it over, all anew under
    /// another view. Its calls get new names: what was asked before is settled, and late answers have nothing to add.
    fn go_on(
        &mut self,
        slot: usize,
        effects: &mut Vec<Effect>,
        enter: impl FnOnce(&mut Head, &mut Shared, &mut Vec<Effect>) -> Result<Stage, Failure>,
    ) {
        let Flight { head, stage } = &mut self.flights[slot];
        head.calls = self.shared.calls(slot);
        match enter(head, &mut self.shared, effects) {
            Ok(next) => {
                *stage = next;
                let (due, calls) = (head.deadline, head.calls);
                self.wake(due, calls);
                self.watch(slot, self.shared.now);
            }
            Err(failure) => {
                let need = head.route.write_quorums(&head.demand).map_or(0, |quorums| quorums.need());
                let receipt = head.receipt(Places::NONE, need);
                head.reply(Outcome::Failed(failure), receipt, effects);
                self.flights.remove(slot);
            }
        }
    }

    /// Sees to it that an operation that is still waited for looks around for someone faster: after `hedge_after_ms`, and
    /// then whenever it has become twice as old.
    fn watch(&mut self, slot: usize, now: Tick) {
        let Some(Flight { head, stage }) = self.flights.get(slot) else { return };
        let may_hedge = match stage {
            Stage::Reading(reading) => !head.is_answered && reading.may_hedge(head),
            Stage::Writing(writing) => writing.may_hedge(head),
            Stage::Forwarding(_) | Stage::Parked(_) => false,
        };
        let hedge_after_ms = self.shared.config.hedge_after_ms;
        let due = now.after(hedge_after_ms.max(now.since(head.begun)));
        if hedge_after_ms > 0 && may_hedge && due < head.deadline {
            self.wake(due, head.calls);
        }
    }

    fn wake(&mut self, due: Tick, calls: Calls) {
        let flights = &self.flights;
        let alive = |calls: Calls| flights.get(calls.slot()).is_some_and(|flight| flight.head.calls == calls);
        self.deadlines.push(due, calls, 2 * flights.len() + 2, alive);
    }
}

#[cfg(test)]
mod tests;
