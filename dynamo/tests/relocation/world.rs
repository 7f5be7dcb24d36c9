//! A ring in one thread that changes while it serves: real replicas, real stewards, a network that loses, doubles and reorders, processes
//! that die and come back, nodes that learn of layouts whenever they do. Beside it stands what is known to be right: which number each
//! key's writer had acknowledged by a majority when, and which node may delete what.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use dynamo::{
    coordinator::CallId,
    layout::{Layout, NodeIndex, View},
    operation::Address,
    peer::{MoveQuestion, PeerOperation, TreeQuestion},
    record,
    replica::{Adoption, PartitionRow, WriteOperation, WriteOutcome},
    ring::Ring,
    round::{Answer, Ask},
    steward::{Effect, Input, Steward, StewardConfig},
    tick::Tick,
};

use crate::{
    clients::{Client, Event as ClientEvent},
    layouts::{self, Changes},
    node::{Node, Transaction, shown},
    random::Random,
};

/// Most events of one run: a world that needs more goes round in circles.
const EVENTS_MAX: u64 = 3_000_000;

/// How long a commit takes.
pub(crate) const COMMIT_MS: u64 = 1;

/// What goes wrong, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) loss_permille: u64,
    pub(crate) double_permille: u64,
    pub(crate) delay_max_ms: u64,
}

/// A network on a good day.
pub(crate) const CALM: Faults = Faults { loss_permille: 0, double_permille: 0, delay_max_ms: 2 };

/// A node and its process.
pub(crate) struct Inhabitant {
    pub(crate) node: Node,
    pub(crate) ring: Ring,
    pub(crate) steward: Steward,
    pub(crate) is_up: bool,
    /// Counts processes: what was meant for an earlier one is lost.
    pub(crate) process: u64,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    Steward { node: usize, process: u64, call: CallId },
    Client { client: usize, attempt: u64, member: NodeIndex },
}

/// What travels to a node.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Peer(PeerOperation),
    Tree(TreeQuestion),
    Move(MoveQuestion),
}

pub(crate) enum Event {
    Arrive { to: usize, from: Party, request: Request },
    Return { to: Party, answer: Answer },
    Write { node: usize, process: u64, call: CallId, operation: WriteOperation },
    View { node: usize, process: u64, view: View },
    Learn { node: usize, epoch: u64 },
    Start { node: usize },
    Client { client: usize, event: ClientEvent },
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) random: Random,
    /// All layouts that were ever decided.
    pub(crate) ring: Ring,
    pub(crate) nodes: Vec<Inhabitant>,
    pub(crate) clients: Vec<Client>,
    pub(crate) keys: Vec<Address>,
    /// The highest number that was acknowledged for each key.
    pub(crate) acknowledged: Vec<u64>,
    pub(crate) faults: Faults,
    /// Nodes that never come back.
    pub(crate) dead: Vec<NodeIndex>,
    /// What was seen that may not be.
    pub(crate) violations: Vec<String>,
    /// Records that travelled for first copies.
    pub(crate) copied: u64,
    /// Most bytes that a source puts into a page.
    pub(crate) page_bytes_max: usize,
    events: BTreeMap<(u64, u64), Event>,
    serial: u64,
}

impl World {
    pub(crate) fn new(seed: u64, members: u16, replicas: u8, bits: u8) -> Self {
        let layout = Arc::new(layouts::first(members, replicas, bits));
        let ring = Ring::new(Arc::clone(&layout));
        let mut world = Self {
            now: 0,
            random: Random(seed),
            ring: ring.clone(),
            nodes: Vec::new(),
            clients: Vec::new(),
            keys: Vec::new(),
            acknowledged: Vec::new(),
            faults: CALM,
            dead: Vec::new(),
            violations: Vec::new(),
            copied: 0,
            page_bytes_max: usize::MAX,
            events: BTreeMap::new(),
            serial: 0,
        };
        for at in 0..usize::from(members) {
            let mut node = Node::new(1_000 + at as u64);
            node.disk.rows.clear();
            node.restart(2_000 + at as u64);
            adopt(&mut node, &ring, NodeIndex(at as u16));
            let steward = world.steward(at, &node, &ring);
            world.nodes.push(Inhabitant { node, ring: ring.clone(), steward, is_up: true, process: 0 });
        }
        world
    }

    /// A key with a writer of its own, which is nothing yet.
    pub(crate) fn key(&mut self, address: Address) -> usize {
        self.keys.push(address);
        self.acknowledged.push(0);
        self.keys.len() - 1
    }

    /// Puts a record where it belongs, as if it had been written long ago.
    pub(crate) fn preload(&mut self, address: &Address, record: &Bytes) {
        let layout = Arc::clone(self.ring.newest());
        let partition = layout.partition(&address.store_key.id());
        for owner in layout.owners(partition) {
            let (view, store_key) = (layout.view(partition), address.store_key);
            let operation = WriteOperation::Merge { view, store_key, record: record.clone() };
            assert_eq!(self.nodes[usize::from(owner.0)].node.apply(operation), WriteOutcome::Stored);
        }
    }

    /// Agrees upon another layout, which the nodes learn of by and by.
    pub(crate) fn decide(&mut self, changes: Changes) {
        let mut random = self.random.clone();
        let (dead, nodes) = (self.dead.clone(), &self.nodes);
        let retired = |view: &View| {
            let rows = nodes.iter().filter_map(|inhabitant| inhabitant.node.disk.row_of(&view.first_key()));
            rows.map(|row| row.view.lo).max().unwrap_or(0)
        };
        let layout = layouts::next(&self.ring, changes, &mut random, &dead, retired);
        self.random = random;
        self.publish(layout);
    }

    /// Makes a layout the newest.
    pub(crate) fn publish(&mut self, layout: Layout) {
        self.ring.push(Arc::new(layout)).expect("it follows the newest");
        let epoch = self.ring.epoch();
        for node in 0..self.nodes.len() {
            let delay_ms = self.random.below(400);
            self.post(delay_ms, Event::Learn { node, epoch });
        }
    }

    /// A process dies; another one starts after a while.
    pub(crate) fn crash(&mut self, node: usize, down_ms: u64) {
        if !self.nodes[node].is_up {
            return;
        }
        self.nodes[node].is_up = false;
        self.nodes[node].process += 1;
        self.post(down_ms, Event::Start { node });
    }

    /// A node dies and does not come back.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].is_up = false;
        self.nodes[node].process += 1;
        self.dead.push(NodeIndex(node as u16));
    }

    pub(crate) fn wake_client(&mut self, client: usize, delay_ms: u64, event: ClientEvent) {
        self.post(delay_ms, Event::Client { client, event });
    }

    /// Lets time pass, or until nothing may be done any more.
    pub(crate) fn run_for(&mut self, duration_ms: u64) {
        let end = self.now + duration_ms;
        for _ in 0..EVENTS_MAX {
            let event = self.events.first_key_value().map(|(&(at, _), _)| at);
            let up = (0..self.nodes.len()).filter(|&node| self.nodes[node].is_up);
            let wake =
                up.filter_map(|node| Some((self.nodes[node].steward.next_deadline()?.0.max(self.now), node))).min();
            let next = [event, wake.map(|(at, _)| at)].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = next;
            match (event, wake) {
                (Some(at), _) if at == next => {
                    let (_, event) = self.events.pop_first().expect("it was seen");
                    self.happen(event);
                }
                (_, Some((_, node))) => self.tell(node, Input::Deadline),
                (_, None) => {}
            }
        }
        panic!("it does not come to rest");
    }

    /// Sends something to a node.
    pub(crate) fn send(&mut self, from: Party, to: usize, request: Request) {
        let copies = 1 + u64::from(self.random.happens(self.faults.double_permille));
        for _ in 0..copies {
            if !self.random.happens(self.faults.loss_permille) {
                let delay_ms = 1 + self.random.below(self.faults.delay_max_ms);
                self.post(delay_ms, Event::Arrive { to, from, request: request.clone() });
            }
        }
    }

    /// What is not as it is to be once nothing moves any more.
    pub(crate) fn unsettled(&self) -> Vec<String> {
        let layout = self.ring.newest();
        let mut wrong = Vec::new();
        for (at, inhabitant) in self.nodes.iter().enumerate().filter(|(_, inhabitant)| inhabitant.is_up) {
            let count = inhabitant.steward.unsettled();
            if count > 0 || inhabitant.ring.epoch() != layout.epoch {
                wrong.push(format!("n{at} has {count} unsettled at {}", inhabitant.ring.epoch()));
            }
            for partition in 0..layout.partitions() {
                let view = layout.settled_view(partition);
                let row = inhabitant.node.disk.row_of(&view.first_key());
                let is_owner = layout.owners(partition).any(|owner| usize::from(owner.0) == at);
                let is_right = match row {
                    Some(row) if is_owner => row.view == view && !row.is_moved,
                    Some(row) => row.is_moved,
                    None => !is_owner,
                };
                if !is_right {
                    wrong.push(format!("n{at} partition {partition} (wanted {view:?}): {row:?}"));
                }
            }
        }
        wrong
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { to, from, request } if self.nodes[to].is_up => {
                let answer = self.serve(to, request);
                let copies = 1 + u64::from(self.random.happens(self.faults.double_permille));
                for _ in 0..copies {
                    if !self.random.happens(self.faults.loss_permille) {
                        let delay_ms = 1 + self.random.below(self.faults.delay_max_ms);
                        self.post(delay_ms, Event::Return { to: from, answer: answer.clone() });
                    }
                }
            }
            Event::Arrive { .. } => {}
            Event::Return { to: Party::Steward { node, process, call }, answer } => {
                if self.nodes[node].is_up && self.nodes[node].process == process {
                    self.tell(node, Input::Answer { call, answer });
                }
            }
            Event::Return { to: Party::Client { client, attempt, member }, answer } => {
                self.client_heard(client, attempt, member, answer);
            }
            Event::Write { node, process, call, operation } => {
                if self.nodes[node].is_up && self.nodes[node].process == process {
                    let answer = Answer::Written(self.apply(node, operation));
                    self.tell(node, Input::Answer { call, answer });
                }
            }
            Event::View { node, process, view } => {
                if self.nodes[node].is_up && self.nodes[node].process == process {
                    self.tell(node, Input::View { view });
                }
            }
            Event::Learn { node, epoch } => self.learn(node, epoch),
            Event::Start { node } => self.start(node),
            Event::Client { client, event } => self.client_acts(client, event),
        }
    }

    /// A node learns of all layouts up to one.
    fn learn(&mut self, node: usize, epoch: u64) {
        if self.dead.contains(&NodeIndex(node as u16)) || self.nodes[node].ring.epoch() >= epoch {
            return;
        }
        if !self.nodes[node].is_up {
            return self.post(100, Event::Learn { node, epoch });
        }
        let inhabitant = &mut self.nodes[node];
        while inhabitant.ring.epoch() < epoch {
            let next = self.ring.layout(inhabitant.ring.epoch() + 1).expect("it was decided");
            inhabitant.ring.push(Arc::clone(next)).expect("it follows");
        }
        let me = NodeIndex(node as u16);
        adopt(&mut inhabitant.node, &inhabitant.ring, me);
        let rows = rows(&inhabitant.node).iter().map(PartitionRow::standing).collect();
        let ring = Arc::new(inhabitant.ring.clone());
        self.tell(node, Input::Ring { me: Some(me), ring, rows });
    }

    fn start(&mut self, node: usize) {
        if self.dead.contains(&NodeIndex(node as u16)) {
            return;
        }
        let nonce = self.random.next();
        let inhabitant = &mut self.nodes[node];
        inhabitant.node.restart(nonce);
        let steward = self.steward(node, &self.nodes[node].node, &self.nodes[node].ring);
        self.nodes[node].steward = steward;
        self.nodes[node].is_up = true;
    }

    fn steward(&self, at: usize, node: &Node, ring: &Ring) -> Steward {
        let rows = rows(node).iter().map(PartitionRow::standing).collect();
        let mut config = StewardConfig::new(Some(NodeIndex(at as u16)), Arc::new(ring.clone()), rows, at as u64);
        config.exchange_every_ms = 0;
        config.patience_ms = 60;
        config.retry_min_ms = 10;
        config.retry_max_ms = 160;
        config.confirm_move_after_ms = 2;
        config.work_per_second = 1_000_000;
        Steward::new(config, Tick(self.now))
    }

    fn tell(&mut self, node: usize, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = Vec::new();
            self.nodes[node].steward.step(Tick(self.now), input, &mut effects);
            for Effect { call, ask } in effects {
                if let Some(answer) = self.carry_out(node, call, ask) {
                    inputs.push(Input::Answer { call, answer });
                }
            }
        }
    }

    /// Does what a steward asks for; the answer, if there is one at once.
    fn carry_out(&mut self, node: usize, call: CallId, ask: Ask) -> Option<Answer> {
        let from = Party::Steward { node, process: self.nodes[node].process, call };
        match ask {
            Ask::Tree { to, question } => self.send(from, usize::from(to.0), Request::Tree(question)),
            Ask::Peer { to, operation } => self.send(from, usize::from(to.0), Request::Peer(operation)),
            Ask::Move { to, question } => self.send(from, usize::from(to.0), Request::Move(question)),
            Ask::LocalStanding { bits, prefix } => return Some(Answer::Move(self.standing(node, bits, prefix))),
            Ask::WantLayout { epoch } => {
                if epoch <= self.ring.epoch() {
                    self.post(5, Event::Learn { node, epoch });
                }
                return Some(Answer::NotSent);
            }
            Ask::LocalTree { question } => return Some(self.serve(node, Request::Tree(question))),
            Ask::LocalRead { operation } => return Some(self.serve(node, Request::Peer(operation))),
            Ask::LocalWrite { operation } => {
                let process = self.nodes[node].process;
                self.post(COMMIT_MS, Event::Write { node, process, call, operation });
            }
            Ask::HintTargets => return Some(Answer::Targets(Vec::new())),
            Ask::HintScan { .. } | Ask::LocalHint { .. } => return Some(Answer::NotSent),
        }
        None
    }

    /// The highest number of a key that a node holds.
    pub(crate) fn number(&self, node: usize, key: usize) -> u64 {
        let record = self.nodes[node].node.disk.records.get(&self.keys[key].store_key);
        record.map_or(0, |record| number(&self.keys[key], record))
    }

    pub(crate) fn post(&mut self, delay_ms: u64, event: Event) {
        self.serial += 1;
        self.events.insert((self.now + delay_ms, self.serial), event);
    }
}

/// The number a record of a key stands for.
pub(crate) fn number(address: &Address, record: &Bytes) -> u64 {
    let object = record::decode_of(address, record).expect("the record is sound");
    shown(&object).iter().map(|text| text.parse().expect("all values are numbers")).max().unwrap_or(0)
}

/// Every row of a node.
pub(crate) fn rows(node: &Node) -> Vec<PartitionRow> {
    let row = |(&(bits, prefix), bytes): (&(u8, u32), &Vec<u8>)| PartitionRow::decode(prefix, bits, bytes);
    node.disk.rows.iter().map(|row_of| row(row_of).expect("rows are sound")).collect()
}

/// Lets a node's rows follow a ring.
fn adopt(node: &mut Node, ring: &Ring, me: NodeIndex) {
    let adoption = Adoption::new(ring.clone(), me);
    let due = adoption.due(&rows(node));
    let mut transaction = Transaction::begin(&mut node.disk);
    let mut batch = node.replica.begin();
    let Ok(is_sound) = batch.adopt(&mut transaction, &adoption, &due);
    assert!(is_sound, "records are missing");
    let Ok(staged) = batch.stage(&mut transaction);
    transaction.commit();
    staged.committed();
}
