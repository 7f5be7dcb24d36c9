//! The driver of one worker: it hands what happens to the coordinator and does what the coordinator wants done. The
//! coordinator decides, the driver reads the clock, the store and the network.
//!
//! Everything that arrived together is carried out together: all local reads of a batch share one snapshot, all its writes
//! reach a shard as one submission, all its operations for a peer leave in one call. Nothing here is done per operation that
//! could be done per batch, and no borrow of the state is held across an await.

mod counting;

use std::{
    cell::{Cell, Ref, RefCell},
    mem,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dynamo::{
    coordinator::{CallId, Coordinator, CoordinatorConfig, Effect, ForwardFailed, Input, PeerCall, RequestId},
    ident::NodeId,
    layout::{NodeIndex, View},
    operation::{Failure, Operation, Outcome, Receipt, Reply},
    peer::{PeerAction, PeerOperation, PeerResult},
    replica::{Refusal, WriteOutcome},
    tick::Tick,
};
use tokio::sync::Notify;

use self::counting::{Kind, kind};
use super::{
    admission::Admitted,
    batches::{Batches, Results, Ticket},
    links::{Links, Outgoing},
    merges::Merges,
    reading::read_all,
};
use crate::{
    counters::Counters,
    node::{Known, Node, PeerGauge},
    ring::adopting,
    store::{Completion, CompletionQueue, HintSubmission, Progress, Rejected, Submission},
};

/// How many operations that were answered may wait for late answers: they only serve repair, and each keeps its record.
const LINGERING_MAX: usize = 16_384;

/// How long a repair may wait to be sent; a later read finds the difference again.
const REPAIR_MS: u64 = 2_000;

/// What is kept with a client's batch until its last operation has ended.
#[derive(Debug)]
struct Client {
    kinds: Vec<Kind>,
    /// Keeps the batch's room in the admission.
    _admitted: Admitted,
}

/// What is known of a request beside its operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// How many nodes have forwarded it.
    pub(crate) hops: u8,
    /// When it ends.
    pub(crate) deadline: Tick,
}

/// One worker's driver.
pub(crate) struct Driver {
    /// The node it works for.
    pub(crate) node: Arc<Node>,
    /// This worker's counters.
    pub(crate) counters: Arc<Counters>,
    /// Which worker it is.
    pub(crate) number: usize,
    pub(crate) merges: Merges,
    writes: Arc<CompletionQueue>,
    /// The ring, as this worker's coordinator knows it.
    known: RefCell<Arc<Known>>,
    state: RefCell<State>,
    /// How many of the coordinator's corrupt records `counters` has.
    corrupt_published: Cell<u64>,
    /// Told when the coordinator wants to be woken earlier than it last said.
    earlier: Notify,
}

/// What the driver changes while it carries out effects.
struct State {
    coordinator: Coordinator,
    clients: Batches<Reply, Client>,
    links: Links,
    /// Local reads of this round: whose they are, and what.
    reads: (Vec<CallId>, Vec<PeerOperation>),
    /// The same of hints.
    hint_reads: Vec<(CallId, PeerOperation)>,
    /// Kept for its capacity.
    results: Vec<PeerResult>,
    /// Writes of this round, by shard.
    submissions: Vec<Vec<Submission>>,
    /// Hints of this round.
    hints: Vec<HintSubmission>,
    /// When the task that waits for deadlines will wake.
    armed: Option<Tick>,
    /// Kept for their capacity.
    effects: Vec<Effect>,
    following: Vec<Effect>,
}

impl Driver {
    /// A driver without connections.
    pub(crate) fn new(node: Arc<Node>, number: usize) -> Rc<Self> {
        let known = node.known();
        let mut config = CoordinatorConfig::new(known.me, Arc::clone(&known.ring), node.token_key.clone());
        config.value_bytes_max = u64::from(node.config.value_bytes_max);
        // Admission refuses clients and peers each beyond its own bound; the coordinator's must not be the tighter one.
        config.operations_max = 2 * node.config.admission.operations_max;
        config.lingering_max = LINGERING_MAX;
        config.budget_max_ms = u64::from(node.config.deadlines.maximum_ms);
        let state = State {
            coordinator: Coordinator::new(config),
            clients: Batches::new(),
            links: Links::default(),
            reads: (Vec::new(), Vec::new()),
            hint_reads: Vec::new(),
            results: Vec::new(),
            submissions: (0..node.store.identity().shards).map(|_| Vec::new()).collect(),
            hints: Vec::new(),
            armed: None,
            effects: Vec::new(),
            following: Vec::new(),
        };
        let driver = Rc::new(Self {
            counters: Arc::clone(&node.counters[number]),
            merges: Merges::new(Arc::clone(&node), number),
            node,
            number,
            writes: CompletionQueue::new(),
            known: RefCell::new(Arc::clone(&known)),
            state: RefCell::new(state),
            corrupt_published: Cell::new(0),
            earlier: Notify::new(),
        });
        driver.change_links(|_, links| links.follow(&known));
        driver
    }

    /// The ring, as this worker knows it. Not to be held across an await.
    pub(crate) fn known(&self) -> Ref<'_, Arc<Known>> {
        self.known.borrow()
    }

    /// Follows a change of the ring.
    pub(super) fn follow(self: &Rc<Self>, known: &Arc<Known>) {
        if Arc::ptr_eq(&self.known(), known) {
            return;
        }
        self.known.replace(Arc::clone(known));
        self.change_links(|_, links| links.follow(known));
        self.advance(|now, state, effects| {
            state.coordinator.set_ring(now, known.me, Arc::clone(&known.ring), effects);
        });
    }

    /// Somebody works under the layout of this epoch. Newer than this node's, it is fetched.
    pub(crate) fn hear_epoch(&self, epoch: u64, from: Option<NodeId>) {
        if epoch > self.known().ring.epoch() {
            self.node.pull(epoch, from);
        }
    }

    /// Now, on the node's monotonic clock.
    pub(crate) fn now(&self) -> Tick {
        self.node.now()
    }

    /// How many operations are in flight on the partition with this prefix: clients', and those that only wait for late answers.
    pub(super) fn in_flight_on(&self, prefix: u32) -> usize {
        self.state.borrow().coordinator.in_flight_on(prefix)
    }

    /// Begins a client's operations, at least one, and returns their replies now or later. What could not be decoded has its
    /// reply already.
    pub(crate) fn execute(
        self: &Rc<Self>,
        operations: Vec<Result<Operation, Failure>>,
        terms: Terms,
        admitted: Admitted,
    ) -> Results<Reply> {
        self.counters.batches.one();
        self.counters.batch_operations.add(operations.len() as u64);
        let now_wall_ms = wall_ms();
        let mut call = None;
        self.advance(|now, state, effects| {
            let kinds = operations.iter().map(kind).collect();
            let waiting = state.clients.begin(operations.len(), Client { kinds, _admitted: admitted });
            call = Some(waiting);
            for (at, operation) in operations.into_iter().enumerate() {
                let ticket = waiting.ticket(at);
                match operation {
                    Ok(operation) => {
                        let Terms { hops, deadline } = terms;
                        let request = RequestId(ticket.0);
                        let input = Input::Client { request, operation, hops, deadline, now_wall_ms };
                        state.coordinator.step(now, input, effects);
                    }
                    Err(failure) => self.reply(state, ticket, refusal(failure)),
                }
            }
        });
        match call {
            Some(call) => self.state.borrow_mut().clients.results(call),
            None => Results::Now(Vec::new()),
        }
    }

    /// Waits for the store's answers to local writes, for ever.
    pub(crate) async fn complete_writes(self: Rc<Self>) {
        let mut completions = Vec::new();
        loop {
            self.writes.arrived().await;
            self.writes.drain(&mut completions);
            self.advance(|now, state, effects| {
                for Completion { token, progress } in completions.drain(..) {
                    let call = CallId(token);
                    if matches!(progress, Progress::Finished(WriteOutcome::Corrupt))
                        && let Some(store_key) = state.coordinator.own_record(call)
                    {
                        self.node.steward.corrupt(store_key);
                    }
                    let input = match progress {
                        Progress::Minted(minted) => Input::Minted { call, minted },
                        Progress::Finished(outcome) => Input::LocalWrite { call, outcome },
                    };
                    state.coordinator.step(now, input, effects);
                }
            });
        }
    }

    /// Wakes the coordinator when it wants to be woken, for ever.
    pub(crate) async fn watch_deadlines(self: Rc<Self>) {
        loop {
            let next = {
                let mut state = self.state.borrow_mut();
                state.armed = state.coordinator.next_deadline();
                state.armed
            };
            match next {
                None => self.earlier.notified().await,
                Some(next) => {
                    let sleep = tokio::time::sleep_until((self.node.started + Duration::from_millis(next.0)).into());
                    tokio::select! {
                        () = sleep => self.advance(|now, state, effects| {
                            state.coordinator.step(now, Input::Deadline, effects);
                        }),
                        () = self.earlier.notified() => {}
                    }
                }
            }
        }
    }

    /// Tells the coordinator how calls to a peer ended.
    pub(super) fn peer_answered(self: &Rc<Self>, answers: impl Iterator<Item = (CallId, PeerCall)>) {
        self.advance(|now, state, effects| {
            for (call, result) in answers {
                state.coordinator.step(now, Input::Peer { call, result }, effects);
            }
        });
    }

    /// Tells the coordinator how forwarded operations ended.
    pub(super) fn forwarded(self: &Rc<Self>, answers: impl Iterator<Item = (CallId, Result<Reply, ForwardFailed>)>) {
        self.advance(|now, state, effects| {
            for (call, result) in answers {
                state.coordinator.step(now, Input::Forwarded { call, result }, effects);
            }
        });
    }

    /// Changes the links to other nodes, and tells the coordinator of peers that came or went with it.
    pub(super) fn change_links(self: &Rc<Self>, change: impl FnOnce(Tick, &mut Links)) {
        self.advance(|now, state, effects| {
            change(now, &mut state.links);
            while let Some((node, reachable)) = state.links.next_change() {
                state.coordinator.step(now, Input::PeerState { node, reachable }, effects);
            }
        });
    }

    /// Changes what is known of a node, and shows it.
    pub(super) fn change_peer(self: &Rc<Self>, node: NodeIndex, change: impl FnOnce(Tick, &mut Links)) {
        self.change_links(|now, links| {
            change(now, links);
            self.gauge(node).suspect(links.breaker(node).is_suspect(now));
        });
    }

    /// Looks at the links to other nodes.
    pub(super) fn links<T>(&self, look: impl FnOnce(&Links) -> T) -> T {
        look(&self.state.borrow().links)
    }

    /// Lets a node prove that it is alive.
    pub(crate) fn doubt(&self, node: NodeIndex) {
        self.links(|links| links.probe(node).notify_one());
    }

    /// How this worker sees a node.
    pub(super) fn gauge(&self, node: NodeIndex) -> Arc<PeerGauge> {
        self.known().gauge(self.number, node).map(Arc::clone).unwrap_or_default()
    }

    /// Lets something happen and does all that follows from it.
    fn advance(self: &Rc<Self>, happen: impl FnOnce(Tick, &mut State, &mut Vec<Effect>)) {
        let now = self.now();
        let mut departures = Vec::new();
        {
            let state = &mut *self.state.borrow_mut();
            let (mut effects, mut following) = (mem::take(&mut state.effects), mem::take(&mut state.following));
            happen(now, state, &mut effects);
            loop {
                self.carry_out(now, state, &mut effects);
                self.read(now, state, &mut following);
                self.submit(now, state, &mut following);
                state.links.depart(now, &mut departures);
                self.report_unsent(now, state, &mut following);
                if following.is_empty() {
                    break;
                }
                mem::swap(&mut effects, &mut following);
            }
            (state.effects, state.following) = (effects, following);
            self.publish(&state.coordinator);
            let next = state.coordinator.next_deadline();
            if next.is_some_and(|next| state.armed.is_none_or(|armed| next < armed)) {
                state.armed = next;
                self.earlier.notify_one();
            }
        }
        for departure in departures {
            self.send(departure);
        }
    }

    /// Carries out effects, or puts them to the others of this round.
    fn carry_out(&self, now: Tick, state: &mut State, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::LocalRead { call, operation } if operation.action == PeerAction::ReadHint => {
                    state.hint_reads.push((call, operation));
                }
                Effect::LocalRead { call, operation } => {
                    state.reads.0.push(call);
                    state.reads.1.push(operation);
                }
                Effect::LocalWrite { call: Some(call), operation } => {
                    let shard = self.node.store.shard_of(&operation.store_key());
                    state.submissions[shard].push(Submission { token: Some(call.0), operation });
                }
                Effect::LocalWrite { call: None, operation } => self.merges.repair(operation),
                Effect::LocalHint { call, operation } => {
                    state.hints.push(Submission { token: call.map(|call| call.0), operation });
                }
                Effect::Peer { to, call, operation } => {
                    let deadline = call.and_then(|call| state.coordinator.deadline(call));
                    state.links.ask(to, call, operation, deadline.unwrap_or(now.after(REPAIR_MS)));
                }
                Effect::Forward { call, to, operation, deadline } => {
                    state.links.forward(to, call, *operation, deadline)
                }
                Effect::WantLayout { epoch } => self.node.pull(epoch, None),
                Effect::Reply { request, reply } => self.reply(state, Ticket(request.0), reply),
            }
        }
    }

    /// Reads what this round wants to know, all records from one snapshot.
    fn read(self: &Rc<Self>, now: Tick, state: &mut State, following: &mut Vec<Effect>) {
        let State { coordinator, reads: (calls, operations), hint_reads, results, .. } = state;
        for (call, PeerOperation { view, store_key, .. }) in hint_reads.drain(..) {
            let result = self.node.store.hints().read(&view, &store_key);
            coordinator.step(now, Input::LocalRead { call, result }, following);
        }
        if operations.is_empty() {
            return;
        }
        read_all(&self.node, operations, results);
        let mut behind = Vec::new();
        for ((call, operation), result) in calls.drain(..).zip(operations.drain(..)).zip(results.drain(..)) {
            if adopting::is_behind(&self.node, &operation, &result) {
                behind.push((call, operation));
            } else {
                coordinator.step(now, Input::LocalRead { call, result }, following);
            }
        }
        if !behind.is_empty() {
            tokio::task::spawn_local(Rc::clone(self).read_level(behind));
        }
    }

    /// Reads what was to be read under newer views than this node's rows had, once these are adopted.
    async fn read_level(self: Rc<Self>, behind: Vec<(CallId, PeerOperation)>) {
        for (_, operation) in &behind {
            if let Err(Refusal::Behind(_)) = self.node.store.check(&operation.view, &operation.store_key)
                && let Err(failure) = adopting::adopt(&self.node, operation.view).await
            {
                tracing::debug!(view = ?operation.view, why = %failure.message, "a view could not be adopted");
            }
        }
        let (calls, operations): (Vec<CallId>, Vec<PeerOperation>) = behind.into_iter().unzip();
        let mut results = Vec::with_capacity(operations.len());
        read_all(&self.node, &operations, &mut results);
        self.advance(|now, state, effects| {
            for (call, result) in calls.into_iter().zip(results) {
                state.coordinator.step(now, Input::LocalRead { call, result }, effects);
            }
        });
    }

    /// Rows of this node have these views now.
    pub(super) fn learn_views(self: &Rc<Self>, views: impl Iterator<Item = View>) {
        self.advance(|now, state, effects| {
            for view in views {
                state.coordinator.step(now, Input::View { view }, effects);
            }
        });
    }

    /// Hands the writes of this round to the store; what it refuses has ended.
    fn submit(&self, now: Tick, state: &mut State, following: &mut Vec<Effect>) {
        self.merges.submit_repairs();
        if !state.hints.is_empty()
            && let Err(refused) = self.node.store.hints().submit(&self.writes, mem::take(&mut state.hints))
        {
            report_refused(now, state, refused, following);
        }
        for shard in 0..state.submissions.len() {
            if state.submissions[shard].is_empty() {
                continue;
            }
            let submissions = mem::take(&mut state.submissions[shard]);
            if let Err(refused) = self.node.store.submit(shard, &self.writes, submissions) {
                report_refused(now, state, refused, following);
            }
        }
    }

    /// Tells the coordinator of operations that could not be sent.
    fn report_unsent(&self, now: Tick, state: &mut State, following: &mut Vec<Effect>) {
        let State { coordinator, links, .. } = state;
        for input in links.unsent() {
            self.counters.peer_operations_unsent.one();
            coordinator.step(now, input, following);
        }
        self.counters.repairs_dropped.add(links.take_dropped_repairs());
        self.counters.expired.add(links.take_expired());
    }

    fn reply(&self, state: &mut State, ticket: Ticket, reply: Reply) {
        if let Some(client) = state.clients.companion(ticket) {
            self.count(client.kinds[ticket.index()], &reply.outcome);
        }
        state.clients.put(ticket, reply);
    }

    fn send(self: &Rc<Self>, departure: Outgoing) {
        tokio::task::spawn_local(departure.travel(Rc::clone(self)));
    }
}

/// Tells the coordinator that what it wanted to be written was not taken in.
fn report_refused<O>(now: Tick, state: &mut State, refused: Rejected<O>, following: &mut Vec<Effect>) {
    for token in refused.submissions.into_iter().filter_map(|submission| submission.token) {
        let (call, outcome) = (CallId(token), WriteOutcome::Refused(refused.failure.clone()));
        state.coordinator.step(now, Input::LocalWrite { call, outcome }, following);
    }
}

/// A reply that says why nothing was done.
pub(crate) fn refusal(failure: Failure) -> Reply {
    Reply { outcome: Outcome::Failed(failure), receipt: Receipt::default() }
}

/// Now, in milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
