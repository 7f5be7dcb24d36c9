//! The coordinator (paper, sections 4.5 and 5): owns every client operation of one RPC worker from its
//! arrival to its reply. It decides which replicas to ask, when it is enough, what the answer is, and who needs read repair.
//!
//! It is a state machine: [`Coordinator::step`] takes one input and appends effects, [`Coordinator::next_deadline`] says
//! when it wants to be woken. It holds no data of its own, does no input or output, and never waits. That a write is on
//! this node's disk it learns only from [`Input::LocalWrite`], so no driver can acknowledge too early. Operations are
//! independent: there is no order between them, and an answer that is late, doubled, or made up finds nobody
//! ([`CallId`]). A client that goes away changes nothing: its operation ends here all the same.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use slab::Slab;

use crate::{
    bug::{self, Bug},
    hint::HintOperation,
    ident::StoreKey,
    layout::{NodeIndex, View},
    operation::{Failure, Operation, Outcome, Reply},
    peer::{PeerOperation, PeerResult},
    quorum::Places,
    replica::{Minted, WriteOperation, WriteOutcome},
    ring::Ring,
    tick::Tick,
    token::TokenKey,
};

mod admission;
mod call;
mod deadlines;
mod demand;
mod failing;
mod flight;
mod forwarding;
mod hedging;
mod known;
mod reading;
mod route;
mod substitutes;
mod writing;

pub use call::CallId;

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

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client, or a node that forwards for one, asks for an operation.
    Client {
        /// The driver's number for it.
        request: RequestId,
        /// What it asks.
        operation: Operation,
        /// How many nodes have forwarded it already.
        hops: u8,
        /// When it ends, answered or not.
        deadline: Tick,
        /// Now, in milliseconds since 1970.
        now_wall_ms: u64,
    },
    /// The answer to [`Effect::LocalRead`].
    LocalRead {
        /// Which.
        call: CallId,
        /// What the snapshot held.
        result: PeerResult,
    },
    /// A version was minted here and is not committed yet: enough to send it to the others, not to acknowledge it.
    Minted {
        /// Which [`Effect::LocalWrite`] or [`Effect::LocalHint`].
        call: CallId,
        /// The version.
        minted: Minted,
    },
    /// The answer to [`Effect::LocalWrite`] or [`Effect::LocalHint`], after the commit.
    LocalWrite {
        /// Which.
        call: CallId,
        /// How it ended.
        outcome: WriteOutcome,
    },
    /// What became of an [`Effect::Peer`].
    Peer {
        /// Which.
        call: CallId,
        /// How it ended.
        result: PeerCall,
    },
    /// What became of an [`Effect::Forward`].
    Forwarded {
        /// Which.
        call: CallId,
        /// The other node's reply, or why there is none.
        result: Result<Reply, ForwardFailed>,
    },
    /// The driver's breaker for a peer opened or closed. Peers count as reachable until it says otherwise.
    PeerState {
        /// Which peer.
        node: NodeIndex,
        /// Whether calls to it make sense now.
        reachable: bool,
    },
    /// A row of this node says, durably, that this is the view of its partition.
    View {
        /// The row's view.
        view: View,
    },
    /// The time of [`Coordinator::next_deadline`] has come.
    Deadline,
}

/// What became of a call to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerCall {
    /// The peer answered.
    Answered(PeerResult),
    /// It was not sent: the peer certainly did nothing.
    NotSent,
    /// It was sent and no answer will come: nobody knows what the peer did.
    Lost,
}

/// Why a forwarded operation has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardFailed {
    /// Whether it was sent, so that the other node may have done it.
    pub sent: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read here, from a snapshot, on the calling worker; answered by [`Input::LocalRead`].
    LocalRead {
        /// Comes back with the answer.
        call: CallId,
        /// A `Read` or `Digest` of the record, or a `ReadHint` of what this node keeps for its owners.
        operation: PeerOperation,
    },
    /// Hand to the store's writer; answered by [`Input::Minted`] (for a mint, as soon as it is made) and
    /// [`Input::LocalWrite`] (after the commit).
    LocalWrite {
        /// Comes back with the answers; `None` for a repair nobody waits for.
        call: Option<CallId>,
        /// What to write.
        operation: WriteOperation,
    },
    /// Hand to the writer of this node's hints; answered like [`Effect::LocalWrite`].
    LocalHint {
        /// Comes back with the answers; `None` for a hint nobody waits for.
        call: Option<CallId>,
        /// What to keep.
        operation: HintOperation,
    },
    /// Send to a peer; answered by [`Input::Peer`]. The driver groups what leaves together by peer.
    Peer {
        /// To whom.
        to: NodeIndex,
        /// Comes back with the answer; `None` for a repair nobody waits for, to be dropped first under pressure.
        call: Option<CallId>,
        /// What to ask.
        operation: PeerOperation,
    },
    /// Ask another node's `Kv` with one hop more: this node is no owner of the key. Answered by [`Input::Forwarded`].
    Forward {
        /// Comes back with the answer.
        call: CallId,
        /// To whom.
        to: NodeIndex,
        /// What to ask.
        operation: Box<Operation>,
        /// When it ends.
        deadline: Tick,
    },
    /// Fetch the layout of this epoch from whoever has it: an operation needs it, or somebody told of it. What comes of it is told by
    /// [`Coordinator::set_ring`].
    WantLayout {
        /// Which.
        epoch: u64,
    },
    /// Tell the client. Every [`Input::Client`] has exactly one, at its deadline at the latest.
    Reply {
        /// Which request.
        request: RequestId,
        /// How it ended.
        reply: Reply,
    },
}

/// What happened so far, for monitors and for tests that must not pass vacuously.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Merged objects sent to owners that were behind.
    pub repairs: u64,
    /// Records asked for after the reply because only their digest was known.
    pub fetches: u64,
    /// Nodes asked for their record because another failed to give its own.
    pub upgrades: u64,
    /// Nodes asked for their record because others were slow.
    pub hedges: u64,
    /// Hedges that were due and not made, because too many had been.
    pub hedges_withheld: u64,
    /// Objects sent to stand-ins, to be kept for owners that failed.
    pub hints: u64,
    /// Hints that a stand-in refused, or that nobody knows of.
    pub hints_refused: u64,
    /// Times that a stand-in, this node included, was asked what it keeps.
    pub hints_read: u64,
    /// Operations that this node coordinated in the owners' place.
    pub stood_in: u64,
    /// Records that did not verify, here or at a peer.
    pub corrupt: u64,
    /// Answers that found nobody: late, doubled, or made up.
    pub unclaimed: u64,
    /// Operations handed to another node.
    pub forwarded: u64,
    /// Operations that ended at their deadline.
    pub timeouts: u64,
    /// Operations refused because too many were waiting.
    pub overloads: u64,
    /// Operations that ended without waiting for late answers because too many did.
    pub unlingered: u64,
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

    /// Takes a ring with more layouts, or fewer that are older, in which this node stands at `me`. Operations in flight go on under the
    /// views they have.
    pub fn set_ring(&mut self, now: Tick, me: Option<NodeIndex>, ring: Arc<Ring>, _effects: &mut Vec<Effect>) {
        self.shared.now = now;
        self.shared.set_ring(me, ring);
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
            Stage::Writing(writing) if !flight.head.route.is_standing_in() => Some(writing.store_key()),
            Stage::Writing(_) | Stage::Reading(_) | Stage::Forwarding(_) => None,
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
                    Stage::Reading(_) | Stage::Forwarding(_) => Flow::Unclaimed,
                });
            }
            Input::LocalWrite { call, outcome } => {
                self.resume(call.calls(), effects, |Flight { head, stage }, shared, effects| match stage {
                    Stage::Writing(writing) => writing.on_local(outcome, head, shared, effects),
                    Stage::Reading(_) | Stage::Forwarding(_) => Flow::Unclaimed,
                });
            }
            Input::Forwarded { call, result } => {
                self.resume(call.calls(), effects, |Flight { head, stage }, shared, effects| match stage {
                    Stage::Forwarding(forwarding) => forwarding.on_reply(call, result, head, shared, effects),
                    Stage::Reading(_) | Stage::Writing(_) => Flow::Unclaimed,
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
            Stage::Forwarding(_) => Flow::Unclaimed,
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
                    Writing::begin(address, write, head, shared, effects).map(Stage::Writing)
                });
            }
            Flow::StandIn(operation) => self.go_on(calls.slot(), effects, |head, shared, effects| {
                admission::stand_in(shared, head, *operation, effects)
            }),
        }
    }

    /// Lets an operation enter another stage: the delete after its read, or the work itself when nobody took it over. Its
    /// calls get new names: what was asked before is settled, and late answers have nothing to add.
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
                let receipt = head.receipt(Places::NONE, head.demand.write);
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
            Stage::Forwarding(_) => false,
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
