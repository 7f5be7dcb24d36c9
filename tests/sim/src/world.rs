//! The cluster: nodes that run the real machines, clients that run the client's real machine, and between them a network, disks and
//! clocks that do what the plan says. One thread, one queue of events, one seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use dynamo::{
    layout::{BucketProperties, ConflictRule, Layout, Level, Member, MemberState, SLOT_EMPTY, spans::Spans},
    operation::Address,
    planner::{self, Desired},
    settlement::Proven,
    token::TokenKey,
};

use crate::{
    figures::Figures,
    invariant::{Invariant, Violation},
    oracle::Oracle,
    plan::{Fault, Plan},
    random::Random,
    trace::Trace,
};

mod background;
mod clients;
mod deciding;
pub mod disk;
mod ending;
mod faults;
mod hints;
mod losing;
mod moving;
mod network;
mod node;
mod operator;
mod peers;
mod queue;
mod ring;
mod serving;
pub mod shelf;
mod store;

use clients::Client;
use faults::Mend;
use network::Network;
use node::Node;
use queue::{Event, Queue};

/// Longest simulated time of a run's first phase: clients that are refused for ever must not make it endless.
const SAFETY_MS_MAX: u64 = 600_000;

/// Most events of a run; more means that something goes round in circles.
const EVENTS_MAX: u64 = 3_000_000;

/// Most events at one instant; more means that somebody wants to be woken again and again for nothing.
const EVENTS_AT_ONCE_MAX: u64 = 20_000;

/// The wall time at which runs begin, in milliseconds since 1970.
const WALL_MS: u64 = 1_700_000_000_000;

/// The bucket whose values are shown by last writer wins.
const BUCKET_LWW: &str = "lww";

/// A whole cluster in a run.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    random: Random,
    now_us: u64,
    queue: Queue,
    /// Every layout that anybody decided.
    decided: BTreeMap<u64, Arc<Layout>>,
    nodes: Vec<Node>,
    /// Nodes that somebody wanted to give up: a layout that does may be decided at any time.
    doomed: BTreeSet<usize>,
    clients: Vec<Client>,
    network: Network,
    oracle: Oracle,
    trace: Trace,
    figures: Figures,
    incarnations: u64,
    /// Layouts that nodes are about to fetch, by node and process.
    wishes: BTreeSet<(usize, u64, u64)>,
    /// Events at this very instant so far.
    instant: u64,
    /// Client operations that were begun.
    begun: u32,
    /// Whether faults still happen.
    is_stormy: bool,
}

impl World {
    /// The cluster of a plan, before its first event.
    pub fn new(plan: Plan, is_shown: bool) -> Self {
        let mut random = Random::new(plan.seed ^ 0x5151);
        let layout = Arc::new(layout(&plan, &mut random));
        let keys = (0..plan.keys).map(|key| key_of(&plan, &layout, key)).collect();
        let mut oracle = Oracle::new(TokenKey([1; 32]), BucketProperties::default().level, keys, plan.nodes);
        oracle.decided(&layout);
        let nodes = (0..plan.nodes).map(|at| Node::new(at, &plan, &layout, &mut random)).collect();
        let clients = (0..plan.clients).map(|at| Client::new(at, &plan, &layout, &mut random)).collect();
        let network = Network::new(plan.nodes + plan.clients);
        let mut world = Self {
            random,
            now_us: 0,
            queue: Queue::default(),
            decided: BTreeMap::from([(1, layout)]),
            nodes,
            doomed: BTreeSet::new(),
            clients,
            network,
            oracle,
            trace: Trace::new(is_shown),
            figures: Figures::default(),
            incarnations: 0,
            wishes: BTreeSet::new(),
            instant: 0,
            begun: 0,
            is_stormy: true,
            plan,
        };
        (0..world.plan.nodes).for_each(|node| world.note_rows(node));
        (0..world.plan.nodes).for_each(|node| world.start(node));
        for client in 0..world.plan.clients {
            let at_us = world.random.below(200_000);
            world.queue.push(at_us, Event::Turn(client));
        }
        for fault in Fault::ALL.into_iter().filter(|fault| fault.is_episode()) {
            world.schedule_strike(fault);
        }
        world.queue.push(1_000_000, Event::LookToReap);
        world
    }

    /// Both phases, up to the first broken invariant.
    pub fn run(&mut self) {
        while self.oracle.violation().is_none() && !self.is_safety_over() {
            self.step();
        }
        if self.oracle.violation().is_none() {
            self.converge();
        }
        self.finish();
    }

    /// What was broken, if anything.
    pub fn violation(&self) -> Option<&Violation> {
        self.oracle.violation()
    }

    /// The hash of all that happened.
    pub fn hash(&self) -> u64 {
        self.trace.hash()
    }

    /// What was counted.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    fn is_safety_over(&self) -> bool {
        let is_done = self.begun >= self.plan.operations && self.clients.iter().all(Client::is_idle);
        is_done || self.now_us > SAFETY_MS_MAX * 1_000
    }

    /// One event.
    fn step(&mut self) {
        let Some((at_us, event)) = self.queue.pop() else {
            return self
                .oracle
                .broken(Invariant::I12, || "nothing is left to happen, and clients still wait".to_owned());
        };
        self.instant = if at_us > self.now_us { 0 } else { self.instant + 1 };
        if self.instant > EVENTS_AT_ONCE_MAX {
            self.oracle
                .broken(Invariant::I12, || format!("time stands still: {event:?} and its like go round in circles"));
        }
        self.now_us = self.now_us.max(at_us);
        self.oracle.at(self.now_us);
        let (code, whom) = event.code();
        self.trace.mix(&[self.now_us, code, whom]);
        if self.trace.events() > EVENTS_MAX {
            self.oracle.broken(Invariant::I12, || format!("more than {EVENTS_MAX} events: something never ends"));
        }
        let paused_until = event.node(self.plan.nodes).map_or(0, |node| self.nodes[node].paused_until_us);
        if paused_until > self.now_us {
            return self.queue.push(paused_until, event);
        }
        self.happen(event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(message) => self.arrive(message),
            Event::Turn(client) => self.turn(client),
            Event::WakeClient(client) => self.wake_client(client),
            Event::Dialled { client, node } => self.dialled(client, node),
            Event::Broken { client, node } => self.client_hears(client, node, queue::Body::Closed),
            Event::WakeNode { node, incarnation } if self.is_process(node, incarnation) => self.wake_node(node),
            Event::Write { node, incarnation } if self.is_process(node, incarnation) => self.write(node),
            Event::Commit { node, incarnation } if self.is_process(node, incarnation) => self.commit(node),
            Event::WriteHints { node, incarnation } if self.is_process(node, incarnation) => self.write_hints(node),
            Event::CommitHints { node, incarnation } if self.is_process(node, incarnation) => self.commit_hints(node),
            Event::Report { node, incarnation } if self.is_process(node, incarnation) => self.report(node),
            Event::Scrub { node, incarnation } if self.is_process(node, incarnation) => self.scrub(node),
            Event::Overdue { node, incarnation, call } if self.is_process(node, incarnation) => {
                self.overdue(node, call);
            }
            Event::Probe { node, incarnation, peer } if self.is_process(node, incarnation) => self.probe(node, peer),
            Event::WantLayout { node, incarnation, epoch } if self.is_process(node, incarnation) => {
                self.wishes.remove(&(node, incarnation, epoch));
                self.want_layout(node, epoch);
            }
            Event::Gossip { node, incarnation } if self.is_process(node, incarnation) => self.gossip(node),
            Event::ServeAgain { node, incarnation, message } if self.is_process(node, incarnation) => {
                self.arrive(*message)
            }
            Event::WakeNode { .. }
            | Event::Write { .. }
            | Event::Commit { .. }
            | Event::WriteHints { .. }
            | Event::CommitHints { .. }
            | Event::Report { .. }
            | Event::Scrub { .. }
            | Event::Overdue { .. }
            | Event::Probe { .. }
            | Event::Gossip { .. }
            | Event::WantLayout { .. }
            | Event::ServeAgain { .. }
            | Event::Rest => {}
            Event::LookToReap => self.look_to_reap(),
            Event::Reap { node, store_key, digest } => self.reap(node, store_key, digest),
            Event::Start(node) => self.start(node),
            Event::Strike(fault) => self.strike(fault),
            Event::Mend(mend) => self.mend(mend),
        }
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.now_us)
    }

    fn finish(&mut self) {
        (0..self.plan.nodes).for_each(|node| self.count_process(node));
        let retries: u64 = self.clients.iter().map(|client| client.machine.retries()).sum();
        self.figures.end(self.now_us, self.trace.events(), retries, &self.oracle);
    }
}

/// The first map. Where it is to change the planner makes it; else every partition has N owners that are drawn at random.
fn layout(plan: &Plan, random: &mut Random) -> Layout {
    let member = |at: usize| Member {
        id: ring::identity(at),
        name: format!("n{at}"),
        zone: format!("z{}", at % plan.zones),
        weight: 1,
        addresses: vec![format!("n{at}:1")],
        state: MemberState::Active,
    };
    let members: Vec<Member> = (0..plan.founders).map(member).collect();
    let lww = BucketProperties { conflict_rule: ConflictRule::LastWriterWins, ..BucketProperties::default() };
    let buckets = BTreeMap::from([(BUCKET_LWW.to_owned(), lww)]);
    if plan.faults.change_ring() {
        let desired = Desired {
            cluster: 1,
            members,
            replacements: BTreeMap::new(),
            replicas: plan.replicas,
            partition_bits: Some(plan.partition_bits),
            buckets,
            proven: Proven::Everything,
        };
        return planner::plan(None, &desired).expect("a first ring can be planned").layout;
    }
    let mut slots = Vec::new();
    for _ in 0..1_u32 << plan.partition_bits {
        let mut nodes: Vec<u16> = (0..plan.founders as u16).collect();
        for _ in 0..plan.replicas {
            let at = random.index(nodes.len().max(1));
            slots.push(if nodes.is_empty() { SLOT_EMPTY } else { nodes.swap_remove(at) });
        }
    }
    Layout {
        cluster: 1,
        generation: 0,
        epoch: 1,
        parent_hash: [0; 16],
        electors: Vec::new(),
        members,
        partition_bits: plan.partition_bits,
        replicas: plan.replicas,
        slots,
        buckets,
        spans: Spans::settled(1),
    }
}

/// A key with its rule. One in five stands in the bucket where the last writer wins.
fn key_of(plan: &Plan, layout: &Layout, key: usize) -> (Address, ConflictRule) {
    let is_lww = (plan.seed as usize + key).is_multiple_of(5);
    let bucket = if is_lww { BUCKET_LWW } else { "default" };
    let address = Address::new(bucket.into(), format!("key {key}").into());
    (address, layout.bucket(bucket).conflict_rule)
}

/// The level that buckets have when nothing is said: what operations without a level mean.
pub fn default_level() -> Level {
    BucketProperties::default().level
}
