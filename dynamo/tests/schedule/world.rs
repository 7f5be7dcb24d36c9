//! The cluster, one event at a time: nodes that run, die and start again, and clients that ask them.

mod judging;
mod network;
mod standing_in;
mod store;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use dynamo::{
    coordinator::{CallId, Coordinator, CoordinatorConfig, Effect, ForwardFailed, Input, PeerCall, RequestId},
    hint::{Book, HintKey, HintOperation},
    ident::{NodeId, OpId},
    layout::{Layout, Member, MemberState, NodeIndex},
    operation::{Address, Operation, Reply},
    peer::PeerOperation,
    replica::{Limits, Nonce, Replica, WriteOperation, WriteOutcome},
    ring::Ring,
    tick::Tick,
    token::TokenKey,
    version::Dot,
};

use super::{
    Sometimes,
    clients::{Client, KEYS, REPLICAS},
    hints,
    history::History,
    node::{self, BITS, Disk},
    random::Random,
};

/// As many again as a key has owners: all of them may be away, and others do their work.
const NODES: usize = 6;
const CLIENTS: u64 = 5;
const BUDGET_MS: u64 = 300;
const WALL_MS: u64 = 1_700_000_000_000;

/// One node: what is on its disk and, while it is up, its process.
#[derive(Debug)]
struct Node {
    disk: Disk,
    hints: hints::Disk,
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
    book: Book,
    /// The same for hints.
    hints: Vec<(Origin, HintOperation)>,
    keeping: Option<(hints::Disk, Vec<(Origin, WriteOutcome)>)>,
}

/// Who waits for a write.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Here(Caller),
    Peer(Caller),
    /// Who hands off this hint, and what its record is.
    Handoff(Caller, HintKey, u128),
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
    Handoff { from: Caller, key: HintKey, record: Bytes },
    HandedOff { to: Caller, key: HintKey, digest: u128 },
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
        spans: dynamo::layout::spans::Spans::settled(1),
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Random(seed),
            now: Tick(0),
            events: 0,
            nodes: (0..NODES)
                .map(|_| Node { disk: node::Node::new(0).disk, hints: hints::Disk::default(), process: None })
                .collect(),
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
        let [nonce, other_nonce] = [(); 2].map(|()| {
            let mut nonce = [0; 32];
            nonce[..8].copy_from_slice(&self.random.next().to_le_bytes());
            nonce
        });
        let limits = Limits { value_bytes_max: 1 << 20 };
        let ring = Arc::new(Ring::new(Arc::clone(&self.layout)));
        let config = CoordinatorConfig {
            operations_max: 3,
            lingering_max: self.random.below(3),
            hedge_after_ms: 40,
            ..CoordinatorConfig::new(Some(NodeIndex(at as u16)), ring, TokenKey([1; 32]))
        };
        self.nodes[at].process = Some(Process {
            incarnation: self.incarnations,
            coordinator: Coordinator::new(config),
            replica: Replica::new(Nonce(nonce), limits),
            queue: Vec::new(),
            committing: None,
            book: Book::new(Nonce(other_nonce), limits, hints::WIDE),
            hints: Vec::new(),
            keeping: None,
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
            500..580 => self.write(at),
            580..650 => self.write_hints(at),
            650..730 => self.commit(at),
            730..790 => self.commit_hints(at),
            790..800 => self.hand_off(at),
            800..960 => {
                let client = self.random.below(self.clients.len());
                self.ask(client, at);
            }
            960..964 => {
                let down = self.nodes.iter().filter(|node| node.process.is_none()).count();
                if self.has_faults && down < 4 && self.nodes[at].process.is_some() {
                    self.sometimes.crashes += 1;
                    self.stop(at);
                }
            }
            964..980 if self.nodes[at].process.is_none() => self.start(at),
            980..990 if self.has_faults => {
                let (node, reachable) = (NodeIndex(self.random.below(NODES) as u16), self.random.chance(700));
                self.input(at, Input::PeerState { node, reachable });
            }
            990..993 if self.has_faults => {
                // All owners of a key at once, so that others do their work for a while.
                let key = self.random.below(KEYS);
                for owner in self.owners(key).collect::<Vec<_>>() {
                    self.input(at, Input::PeerState { node: NodeIndex(owner as u16), reachable: false });
                }
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
                Effect::LocalHint { call, operation } => {
                    let process = self.nodes[at].process.as_mut().expect("it was just stepped");
                    process.hints.push((Origin::Here(caller(call)), operation));
                }
                Effect::WantLayout { epoch } => unreachable!("there is one layout, and {epoch} is not it"),
                Effect::Reply { request, reply } => self.reply(at, request, reply),
            }
        }
    }
}
