//! The cluster and its network, one event at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use dynamo::{
    coordinator::{CallId, Coordinator, CoordinatorConfig, Effect, ForwardFailed, Input, PeerCall, RequestId},
    ident::{NodeId, OpId},
    layout::{Layout, Level, Member, MemberState, NodeIndex},
    operation::{Action, Address, Consistency, ErrorCode, Failure, Operation, Outcome, Reply},
    peer::{PeerAction, PeerOperation, PeerResult},
    replica::{Limits, Nonce, PartitionRow, Replica, WriteOperation, WriteOutcome, answer_read},
    tick::Tick,
    token::TokenKey,
    version::{Dot, SPENT_MAX},
};

use super::{
    Sometimes,
    clients::{Client, KEYS, Pending, REPLICAS},
    history::{History, Read},
    node::{self, BITS, Disk, Transaction},
    random::Random,
};

const NODES: usize = 4;
const CLIENTS: u64 = 5;
const BUDGET_MS: u64 = 300;
const WALL_MS: u64 = 1_700_000_000_000;

/// One node: what is on its disk and, while it is up, its process.
#[derive(Debug)]
struct Node {
    disk: Disk,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    /// Answers meant for the process before this one do not reach it: its connections are gone.
    incarnation: u64,
    coordinator: Coordinator,
    replica: Replica,
    /// Writes that wait for the store's writer.
    queue: Vec<(Origin, WriteOperation)>,
    /// What the running transaction will have made durable when its commit returns.
    committing: Option<(Disk, Vec<(Origin, WriteOutcome)>)>,
}

/// Who waits for a write.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Here(Caller),
    Peer(Caller),
}

/// A coordinator's call, as the other side knows it.
#[derive(Clone, Copy, Debug)]
struct Caller {
    node: usize,
    incarnation: u64,
    call: Option<CallId>,
    /// Its request was doubled on the way, so a refusal of one copy says nothing about the other.
    doubled: bool,
}

/// Who waits for a reply.
#[derive(Clone, Copy, Debug)]
enum Asker {
    Client(usize),
    Forwarder(Caller),
}

/// What is under way.
#[derive(Clone, Debug)]
enum Message {
    LocalRead { to: Caller, operation: PeerOperation },
    LocalWritten { to: Caller, outcome: WriteOutcome },
    Request { to: usize, from: Caller, operation: PeerOperation },
    Response { to: Caller, result: PeerCall },
    Forward { to: usize, from: Caller, operation: Operation, deadline: Tick },
    Forwarded { to: Caller, result: Result<Reply, ForwardFailed> },
}

#[derive(Debug)]
pub(crate) struct World {
    random: Random,
    now: Tick,
    /// Counts events: the order in which clients begin and end.
    events: u64,
    nodes: Vec<Node>,
    incarnations: u64,
    network: Vec<Message>,
    clients: Vec<Client>,
    addresses: Vec<Address>,
    requests: BTreeMap<(usize, RequestId), (Asker, Operation, Tick)>,
    next_request: u64,
    history: History,
    /// The dots under which each operation was minted, anywhere.
    minted: BTreeMap<OpId, BTreeSet<Dot>>,
    sometimes: Sometimes,
    has_faults: bool,
    layout: Arc<Layout>,
}

fn layout() -> Layout {
    let member = |index: usize| Member {
        id: NodeId(index as u128),
        name: format!("n{index}"),
        zone: String::new(),
        weight: 1,
        addresses: Vec::new(),
        state: MemberState::Active,
    };
    let owners = |partition: usize| (0..REPLICAS).map(move |slot| ((partition + usize::from(slot)) % NODES) as u16);
    Layout {
        cluster: 1,
        generation: 0,
        epoch: 1,
        parent_hash: [0; 16],
        electors: Vec::new(),
        members: (0..NODES).map(member).collect(),
        partition_bits: BITS,
        replicas: REPLICAS,
        slots: (0..1 << BITS).flat_map(owners).collect(),
        buckets: BTreeMap::new(),
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Random(seed),
            now: Tick(0),
            events: 0,
            nodes: (0..NODES).map(|_| Node { disk: node::Node::new(0).disk, process: None }).collect(),
            incarnations: 0,
            network: Vec::new(),
            clients: (1..=CLIENTS).map(Client::new).collect(),
            addresses: (0..KEYS).map(|key| node::address(&format!("key {key}"))).collect(),
            requests: BTreeMap::new(),
            next_request: 0,
            history: History::default(),
            minted: BTreeMap::new(),
            sometimes: Sometimes::default(),
            has_faults: true,
            layout: Arc::new(layout()),
        };
        (0..NODES).for_each(|at| world.start(at));
        world
    }

    /// What the schedule ran into, the coordinators' own counters included.
    pub(crate) fn sometimes(mut self) -> Sometimes {
        (0..NODES).for_each(|at| self.stop(at));
        self.sometimes
    }

    /// A number that depends on all that happened.
    pub(crate) fn fingerprint(&self) -> u64 {
        let disks = self.nodes.iter().flat_map(|node| node.disk.records.values());
        disks.fold(self.random.clone().next() ^ self.events, |sum, record| {
            xxhash_rust::xxh3::xxh3_64_with_seed(record, sum)
        })
    }

    fn start(&mut self, at: usize) {
        self.incarnations += 1;
        let mut nonce = [0; 32];
        nonce[..8].copy_from_slice(&self.random.next().to_le_bytes());
        let config = CoordinatorConfig {
            operations_max: 3,
            lingering_max: self.random.below(3),
            hedge_after_ms: 40,
            ..CoordinatorConfig::new(NodeIndex(at as u16), Arc::clone(&self.layout), TokenKey([1; 32]))
        };
        self.nodes[at].process = Some(Process {
            incarnation: self.incarnations,
            coordinator: Coordinator::new(config),
            replica: Replica::new(Nonce(nonce), Limits { value_bytes_max: 1 << 20 }),
            queue: Vec::new(),
            committing: None,
        });
    }

    /// Kills a node: everything that is not on its disk is gone, and clients that waited for it know nothing.
    fn stop(&mut self, at: usize) {
        let Some(process) = self.nodes[at].process.take() else { return };
        let minted = |(_, outcome): &(Origin, WriteOutcome)| matches!(outcome, WriteOutcome::Minted(_));
        if let Some((_, outcomes)) = &process.committing {
            self.sometimes.minted_and_lost_in_a_crash +=
                outcomes.iter().filter(|outcome| minted(outcome)).count() as u64;
        }
        self.sometimes += Sometimes { coordinator: process.coordinator.counters(), ..Sometimes::default() };
        let orphans: Vec<(usize, RequestId)> = self.requests.keys().filter(|(node, _)| *node == at).copied().collect();
        for orphan in orphans {
            match self.requests.remove(&orphan) {
                Some((Asker::Client(client), ..)) => self.client_lost(client),
                Some((Asker::Forwarder(caller), ..)) => {
                    self.send(Message::Forwarded { to: caller, result: Err(ForwardFailed { sent: true }) });
                }
                None => {}
            }
        }
    }

    /// One event.
    pub(crate) fn step(&mut self) {
        self.events += 1;
        self.now = self.now.after(self.random.below(4) as u64);
        self.fire_deadlines();
        let at = self.random.below(NODES);
        match self.random.below(1_000) {
            0..500 => self.deliver(),
            500..650 => self.write(at),
            650..800 => self.commit(at),
            800..960 => {
                let client = self.random.below(self.clients.len());
                self.ask(client, at);
            }
            960..964 => {
                let down = self.nodes.iter().filter(|node| node.process.is_none()).count();
                if self.has_faults && down < 2 && self.nodes[at].process.is_some() {
                    self.sometimes.crashes += 1;
                    self.stop(at);
                }
            }
            964..980 if self.nodes[at].process.is_none() => self.start(at),
            980..990 if self.has_faults => {
                let (node, reachable) = (NodeIndex(self.random.below(NODES) as u16), self.random.chance(700));
                self.input(at, Input::PeerState { node, reachable });
            }
            _ => {}
        }
    }

    /// Steps every coordinator whose deadline has come; nobody may wait for it any longer.
    fn fire_deadlines(&mut self) {
        for at in 0..NODES {
            let due = self.nodes[at].process.as_ref().and_then(|process| process.coordinator.next_deadline());
            if due.is_some_and(|due| due <= self.now) {
                self.input(at, Input::Deadline);
            }
        }
        let overdue = self.requests.iter().find(|(_, (_, _, deadline))| *deadline <= self.now);
        assert!(overdue.is_none(), "{overdue:?} is still waiting at {:?}", self.now);
    }

    fn ask(&mut self, client: usize, at: usize) {
        if self.clients[client].pending.is_some() || self.nodes[at].process.is_none() {
            return;
        }
        let asked = self.clients[client].begin(&mut self.random, &mut self.history, self.events);
        let address = self.addresses[asked.key].clone();
        let operation = Operation { address, consistency: asked.consistency, action: asked.action };
        let deadline = self.now.after(BUDGET_MS);
        self.request(at, Asker::Client(client), operation, 0, deadline);
    }

    fn request(&mut self, at: usize, asker: Asker, operation: Operation, hops: u8, deadline: Tick) {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.requests.insert((at, request), (asker, operation.clone(), deadline.max(Tick(self.now.0 + 1))));
        let now_wall_ms = WALL_MS + self.now.0;
        self.input(at, Input::Client { request, operation, hops, deadline, now_wall_ms });
    }

    /// Steps a coordinator and sees to its effects.
    fn input(&mut self, at: usize, input: Input) {
        let Some(process) = &mut self.nodes[at].process else { return };
        let (mut effects, incarnation) = (Vec::new(), process.incarnation);
        process.coordinator.step(self.now, input, &mut effects);
        let caller = |call| Caller { node: at, incarnation, call, doubled: false };
        for effect in effects {
            match effect {
                Effect::LocalRead { call, operation } => {
                    self.network.push(Message::LocalRead { to: caller(Some(call)), operation });
                }
                Effect::LocalWrite { call, operation } => {
                    let process = self.nodes[at].process.as_mut().expect("it was just stepped");
                    process.queue.push((Origin::Here(caller(call)), operation));
                }
                Effect::Peer { to, call, operation } => {
                    assert_ne!(usize::from(to.0), at, "nobody is its own peer");
                    let message = Message::Request { to: usize::from(to.0), from: caller(call), operation };
                    self.send_request(message, caller(call));
                }
                Effect::Forward { call, to, operation, deadline } => {
                    let (to, from) = (usize::from(to.0), caller(Some(call)));
                    self.send(Message::Forward { to, from, operation: *operation, deadline });
                }
                Effect::Reply { request, reply } => self.reply(at, request, reply),
            }
        }
    }

    /// A request may be lost, with or without its sender being told, and may arrive although its sender was told it is lost.
    fn send_request(&mut self, message: Message, from: Caller) {
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

    fn send(&mut self, mut message: Message) {
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

    fn deliver(&mut self) {
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
            Message::Forwarded { to, result } => {
                if let Some(call) = to.call.filter(|_| self.is_same_process(to)) {
                    self.input(to.node, Input::Forwarded { call, result });
                }
            }
        }
    }

    fn is_same_process(&self, caller: Caller) -> bool {
        self.nodes[caller.node].process.as_ref().is_some_and(|process| process.incarnation == caller.incarnation)
    }

    /// A peer's replica takes a request.
    fn serve(&mut self, at: usize, from: Caller, operation: PeerOperation) {
        let PeerOperation { view, store_key, ref action } = operation;
        let process = self.nodes[at].process.as_mut().expect("only a running node serves");
        match action {
            PeerAction::Merge(record) => {
                let record = if self.has_faults && self.random.chance(10) { damaged(record) } else { record.clone() };
                process.queue.push((Origin::Peer(from), WriteOperation::Merge { view, store_key, record }));
            }
            PeerAction::Read | PeerAction::Digest => {
                let result = PeerCall::Answered(self.read(at, &operation));
                self.send(Message::Response { to: from, result });
            }
        }
    }

    fn read(&self, at: usize, operation: &PeerOperation) -> PeerResult {
        let disk = &self.nodes[at].disk;
        let place = (operation.view.bits, operation.view.prefix);
        let row = disk.rows.get(&place).map(|row| PartitionRow::decode(place.1, place.0, row).expect("rows are sound"));
        answer_read(operation, disk.records.get(&operation.store_key), row.as_ref())
    }

    fn perhaps_damaged(&mut self, result: PeerCall) -> PeerCall {
        match result {
            PeerCall::Answered(PeerResult::Record(record)) if self.has_faults && self.random.chance(15) => {
                PeerCall::Answered(PeerResult::Record(damaged(&record)))
            }
            other => other,
        }
    }

    /// The store's writer of a node takes what waits for it into a transaction. Mints are shown before the commit; the
    /// transaction may fail, and is then tried again or given up.
    fn write(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(process) = node.process.as_mut().filter(|process| process.committing.is_none()) else { return };
        if process.queue.is_empty() {
            return;
        }
        let fails = self.has_faults && self.random.chance(60);
        let mut disk = node.disk.clone();
        let mut transaction = Transaction::begin(&mut disk);
        let mut batch = process.replica.begin();
        let mut minted = Vec::new();
        for (origin, operation) in &process.queue {
            let Ok(shown) = batch.apply(&mut transaction, operation.clone());
            if let (Some(shown), Origin::Here(Caller { call: Some(call), .. }), WriteOperation::Mint { write, .. }) =
                (shown, origin, operation)
            {
                let dots = self.minted.entry(write.op_id).or_default();
                self.sometimes.recognised_retries += u64::from(shown.retried);
                self.sometimes.minted_twice += u64::from(!shown.retried && !dots.is_empty());
                dots.extend(shown.dot);
                minted.push((*call, shown.clone()));
            }
        }
        if fails {
            drop(batch);
            if self.random.chance(500) {
                // Whatever was in the failed transaction may live on inside a record that was shown before it failed.
                let maybe_applied = !minted.is_empty();
                let failure = Failure { maybe_applied, ..Failure::new(ErrorCode::StorageFull, "no space") };
                for (origin, _) in process.queue.split_off(0) {
                    self.network.push(ended(origin, WriteOutcome::Refused(failure.clone())));
                }
            }
        } else {
            let Ok(staged) = batch.stage(&mut transaction);
            transaction.commit();
            let origins = process.queue.drain(..).map(|(origin, _)| origin);
            let outcomes = origins.zip(staged.committed()).collect();
            process.committing = Some((disk, outcomes));
        }
        for (call, minted) in minted {
            // A driver may also leave it out: it only saves time.
            if self.random.chance(800) {
                self.input(at, Input::Minted { call, minted });
            }
        }
    }

    /// The commit of a node's transaction returns.
    fn commit(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some((disk, outcomes)) = node.process.as_mut().and_then(|process| process.committing.take()) else {
            return;
        };
        node.disk = disk;
        for (origin, outcome) in outcomes {
            match origin {
                Origin::Here(_) => self.network.push(ended(origin, outcome)),
                Origin::Peer(_) => self.send(ended(origin, outcome)),
            }
        }
    }

    fn reply(&mut self, at: usize, request: RequestId, reply: Reply) {
        let (asker, operation, _) = self.requests.remove(&(at, request)).expect("every request is answered once");
        let receipt = &reply.receipt;
        let answered: BTreeSet<NodeIndex> = receipt.answered.iter().copied().collect();
        assert_eq!(answered.len(), receipt.answered.len(), "nobody counts twice: {reply:?}");
        match &reply.outcome {
            Outcome::Stored { .. } => {
                assert!(answered.len() >= usize::from(receipt.need) && receipt.durable >= receipt.need);
                self.check_durable(&operation, &answered);
                self.sometimes.acknowledged_without_own_commit += u64::from(!answered.contains(&NodeIndex(at as u16)));
            }
            Outcome::Found { .. } | Outcome::NotFound { .. } => assert!(answered.len() >= usize::from(receipt.need)),
            Outcome::Failed(_) => {}
        }
        match asker {
            Asker::Client(client) => self.client_answered(client, reply),
            Asker::Forwarder(to) => {
                let is_told_by_a_copy = to.doubled && matches!(reply.outcome, Outcome::Failed(_));
                let result = if is_told_by_a_copy { Err(ForwardFailed { sent: true }) } else { Ok(reply) };
                self.send(Message::Forwarded { to, result });
            }
        }
    }

    /// Each of these nodes has the operation's version, or knows that it was overwritten, on its disk at this moment.
    fn check_durable(&self, operation: &Operation, answered: &BTreeSet<NodeIndex>) {
        let (Action::Put { op_id, .. } | Action::Delete { op_id, .. }) = &operation.action else {
            panic!("only writes are stored");
        };
        // A forwarder passes on what an owner has checked; then the disks are those of the owner's time, and only more.
        for node in answered {
            let disk = &self.nodes[usize::from(node.0)].disk;
            let record = disk.records.get(&operation.address.store_key).expect("a durable write has left a record");
            let object = dynamo::record::decode_of(&operation.address, record).expect("records are sound");
            let is_there = self.minted[op_id].iter().any(|dot| object.context.covers(*dot));
            assert!(is_there, "{op_id:?} was acknowledged by {node:?}, which does not have it");
        }
    }

    fn client_answered(&mut self, client: usize, reply: Reply) {
        let Pending { asked, write, begun } = self.clients[client].pending.take().expect("it waited");
        let key = asked.key;
        match (reply.outcome, write) {
            (Outcome::Found { siblings, context }, None) => {
                let text = |value: &Bytes| String::from_utf8(value.to_vec()).expect("values are text");
                let values: Vec<String> = siblings.iter().map(|sibling| text(&sibling.value)).collect();
                self.sometimes.reads_with_siblings += u64::from(values.len() > 1);
                self.client_read(
                    client,
                    &Read { key, begun, need: reply.receipt.need, replicas: REPLICAS, values: &values },
                    context,
                );
            }
            (Outcome::NotFound { context }, None) => {
                let is_written = self.history.writes.iter().any(|written| written.key == key);
                self.sometimes.reads_of_deleted += u64::from(is_written);
                self.client_read(
                    client,
                    &Read { key, begun, need: reply.receipt.need, replicas: REPLICAS, values: &[] },
                    context,
                );
            }
            (Outcome::Stored { context, .. }, Some(write)) => {
                self.sometimes.acknowledged += 1;
                self.history.acknowledge(write, reply.receipt.durable, self.events);
                if let Some(context) = context {
                    self.clients[client].learn(key, context, BTreeSet::from([write]));
                }
            }
            (Outcome::Failed(failure), Some(write)) => {
                let unclear = u64::from(failure.maybe_applied);
                self.sometimes.failed_unclear += unclear;
                self.sometimes.failed_for_certain += 1 - unclear;
                self.history.fail(write, failure.maybe_applied, self.events);
                if failure.retryable {
                    self.clients[client].may_retry(write, asked);
                }
            }
            (Outcome::Failed(_), None) => {}
            (outcome @ (Outcome::Found { .. } | Outcome::NotFound { .. }), Some(_))
            | (outcome @ Outcome::Stored { .. }, None) => {
                panic!("{asked:?} was answered by {outcome:?}");
            }
        }
    }

    fn client_read(&mut self, client: usize, read: &Read<'_>, context: Bytes) {
        self.sometimes.reads_that_must_show_something +=
            u64::from(self.history.judge(read, |op_id| self.minted.get(op_id).is_some_and(|dots| dots.len() > 1)));
        let shown = self.history.shown(read.values);
        self.clients[client].learn(read.key, context, shown);
    }

    /// The node a client waited for died.
    fn client_lost(&mut self, client: usize) {
        let Some(Pending { asked, write, .. }) = self.clients[client].pending.take() else { return };
        if let Some(write) = write {
            self.history.fail(write, true, self.events);
            self.clients[client].may_retry(write, asked);
        }
    }

    /// Ends all faults, lets everything end that is under way, and demands that every replica then holds the same: one read
    /// of every key at `all` repairs what there is to repair, and after it nothing is left to do.
    pub(crate) fn heal_and_check(&mut self) {
        self.has_faults = false;
        for at in 0..NODES {
            if self.nodes[at].process.is_none() {
                self.start(at);
            }
            for node in 0..NODES as u16 {
                self.input(at, Input::PeerState { node: NodeIndex(node), reachable: true });
            }
        }
        self.settle();
        for key in 0..KEYS {
            // Replicas that once had to forget that an operation was overwritten may differ in its twin after one merge;
            // merging what came of that makes them equal.
            let rounds = if self.history.overwritten(key) > SPENT_MAX { 2 } else { 1 };
            (0..rounds).for_each(|round| self.read_at_all(key, (key + round) % NODES));
        }
        let repairs = |world: &Self| -> u64 {
            let processes = world.nodes.iter().filter_map(|node| node.process.as_ref());
            processes
                .map(|process| process.coordinator.counters())
                .map(|counters| counters.repairs + counters.fetches)
                .sum()
        };
        let before = repairs(self);
        for key in 0..KEYS {
            let store_key = self.addresses[key].store_key;
            let records: BTreeSet<_> = self.owners(key).map(|at| self.nodes[at].disk.records.get(&store_key)).collect();
            assert_eq!(records.len(), 1, "the owners of key {key} hold different records after it was read at `all`");
            (0..NODES).for_each(|at| self.read_at_all(key, at));
        }
        assert_eq!(repairs(self), before, "something was repaired although all replicas are level");
    }

    fn owners(&self, key: usize) -> impl Iterator<Item = usize> + '_ {
        let partition = self.layout.partition(&self.addresses[key].store_key.id());
        self.layout.owners(partition).map(|owner| usize::from(owner.0))
    }

    fn read_at_all(&mut self, key: usize, at: usize) {
        self.events += 1;
        let consistency = Consistency { level: Some(Level::All), ..Consistency::default() };
        let asked = super::clients::Asked { key, consistency, action: Action::Get { without_values: false } };
        self.clients[0].pending = Some(Pending { asked: asked.clone(), write: None, begun: self.events });
        let operation = Operation { address: self.addresses[key].clone(), consistency, action: asked.action };
        let deadline = self.now.after(1_000_000);
        let reads = self.sometimes.reads_that_must_show_something;
        self.request(at, Asker::Client(0), operation, 0, deadline);
        self.settle();
        assert!(self.sometimes.reads_that_must_show_something >= reads && self.clients[0].pending.is_none());
    }

    /// Runs until nothing is under way.
    fn settle(&mut self) {
        loop {
            self.events += 1;
            let is_idle = |node: &Node| {
                node.process.as_ref().is_some_and(|process| {
                    process.queue.is_empty() && process.committing.is_none() && process.coordinator.in_flight() == 0
                })
            };
            if self.network.is_empty() && self.requests.is_empty() && self.nodes.iter().all(is_idle) {
                return;
            }
            self.now = self.now.after(1);
            self.fire_deadlines();
            self.deliver();
            for at in 0..NODES {
                self.write(at);
                self.commit(at);
            }
            assert!(self.events < 10_000_000, "it never ends: {:?}", self.network);
        }
    }
}

/// The news that a write has ended, for whoever waits for it.
fn ended(origin: Origin, outcome: WriteOutcome) -> Message {
    match origin {
        Origin::Here(to) => Message::LocalWritten { to, outcome },
        Origin::Peer(to) => {
            let result = match outcome {
                WriteOutcome::Stored => PeerCall::Answered(PeerResult::Stored),
                _ if to.doubled => PeerCall::Lost,
                WriteOutcome::Stale(view) => PeerCall::Answered(PeerResult::Stale(view)),
                WriteOutcome::Corrupt => PeerCall::Answered(PeerResult::Corrupt),
                WriteOutcome::Refused(failure) => PeerCall::Answered(PeerResult::Failed(failure)),
                WriteOutcome::Minted(minted) => panic!("a peer only merges: {minted:?}"),
            };
            Message::Response { to, result }
        }
    }
}

fn damaged(record: &Bytes) -> Bytes {
    let mut bytes = record.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Bytes::from(bytes)
}
