//! A cluster in one thread: real stewards and real replicas over in-memory stores, hash trees made anew for every question from
//! the records themselves, and a network that takes a millisecond each way, can be cut, and counts what it carries.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use dynamo::{
    coordinator::CallId,
    hint::{HintKey, HintOperation},
    ident::{NodeId, StoreKey},
    layout::{Layout, Member, MemberState, NodeIndex},
    merkle,
    operation::{Address, ErrorCode, Failure},
    peer::{
        MoveAnswer, PeerAction, PeerOperation, PeerResult, Standing, TreeAnswer, TreeAsk, TreePath, TreeQuestion,
        TreeSum,
    },
    record,
    replica::{PartitionRow, WriteOperation, WriteOutcome, answer_read},
    ring::Ring,
    round::{Answer, Ask, Hint, HintPage, HintTarget},
    steward::{Effect, Input, Steward, StewardConfig},
    tick::Tick,
};

use crate::node::{BITS, Node, put};

/// How long a message takes.
const LATENCY_MS: u64 = 1;

/// Most events of one run: a test that needs more does not end.
const EVENTS_MAX: u64 = 20_000_000;

/// A node with its steward.
pub(crate) struct Inhabitant {
    pub(crate) node: Node,
    pub(crate) hints: BTreeMap<HintKey, Bytes>,
    pub(crate) steward: Steward,
    pub(crate) is_up: bool,
    /// Merges of others are refused, as by a full disk.
    pub(crate) is_full: bool,
    /// Partitions below this lie in a damaged part of its store, which answers no questions to its trees.
    pub(crate) unfit_below: u32,
}

/// What the network carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) tree_bytes: u64,
    pub(crate) object_bytes: u64,
    pub(crate) messages: u64,
}

enum Event {
    Do { node: usize, effect: Effect },
    Hear { node: usize, call: CallId, answer: Answer },
}

pub(crate) struct World {
    pub(crate) layout: Arc<Layout>,
    pub(crate) members: Vec<Inhabitant>,
    pub(crate) now: Tick,
    pub(crate) traffic: Traffic,
    /// Answers that arrive when their rounds are over, or twice.
    pub(crate) doubles_answers: bool,
    /// Every so many-th message is lost without a word; 0 for none.
    pub(crate) loses_every: u64,
    events: BTreeMap<(Tick, u64), Event>,
    serial: u64,
}

/// A layout of `nodes` nodes with `replicas` owners for each partition, dealt out in turn.
pub(crate) fn layout(nodes: u16, replicas: u8) -> Layout {
    let member = |index: u16| Member {
        id: NodeId(u128::from(index) + 100),
        name: format!("n{index}"),
        zone: "z".to_owned(),
        weight: 1,
        addresses: Vec::new(),
        state: MemberState::Active,
    };
    let slots = (0..1_u16 << BITS)
        .flat_map(|partition| (0..u16::from(replicas)).map(move |slot| (partition + slot) % nodes))
        .collect();
    Layout {
        cluster: 1,
        generation: 0,
        epoch: 1,
        parent_hash: [0; 16],
        electors: Vec::new(),
        members: (0..nodes).map(member).collect(),
        partition_bits: BITS,
        replicas,
        slots,
        buckets: BTreeMap::new(),
        spans: dynamo::layout::spans::Spans::settled(1),
    }
}

impl World {
    pub(crate) fn new(layout: Layout, adapt: impl Fn(&mut StewardConfig)) -> Self {
        let layout = Arc::new(layout);
        let members = (0..layout.members.len()).map(|index| {
            let me = NodeIndex(index as u16);
            let owned = (0..layout.partitions()).filter(|at| layout.owners(*at).any(|owner| owner == me));
            let rows = owned.map(|partition| Standing::new(layout.view(partition))).collect();
            let ring = Arc::new(Ring::new(Arc::clone(&layout)));
            let mut config = StewardConfig::new(Some(me), ring, rows, 7 + index as u64);
            config.exchange_every_ms = 0;
            adapt(&mut config);
            Inhabitant {
                node: Node::new(index as u64 + 1),
                hints: BTreeMap::new(),
                steward: Steward::new(config, Tick(0)),
                is_up: true,
                is_full: false,
                unfit_below: 0,
            }
        });
        Self {
            members: members.collect(),
            layout,
            now: Tick(0),
            traffic: Traffic::default(),
            doubles_answers: false,
            loses_every: 0,
            events: BTreeMap::new(),
            serial: 0,
        }
    }

    /// Writes at one owner only, as if the others had not been reached.
    pub(crate) fn write_at(&mut self, node: usize, address: &Address, text: &str) {
        self.members[node].node.mint(put(address, text));
    }

    /// Writes at one node and merges the object at others.
    pub(crate) fn write(&mut self, nodes: &[usize], address: &Address, text: &str) -> Bytes {
        let minted = self.members[nodes[0]].node.mint(put(address, text));
        for &node in &nodes[1..] {
            assert_eq!(self.members[node].node.merge(address, &minted.record), WriteOutcome::Stored);
        }
        minted.record
    }

    /// Keeps a hint at a node.
    pub(crate) fn keep_hint(&mut self, at: usize, target: usize, address: &Address, record: &Bytes) {
        let prefix = address.store_key.id().prefix(BITS);
        let target = self.layout.members[target].id;
        let key = HintKey { target, bits: BITS, prefix, store_key: address.store_key };
        self.members[at].hints.insert(key, record.clone());
    }

    /// Turns a bit of a record at a node.
    pub(crate) fn damage(&mut self, at: usize, address: &Address) {
        let records = &mut self.members[at].node.disk.records;
        let mut bytes = records[&address.store_key].to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        records.insert(address.store_key, Bytes::from(bytes));
    }

    pub(crate) fn owners(&self, address: &Address) -> Vec<usize> {
        self.layout.owners(self.layout.partition(&address.store_key.id())).map(|node| usize::from(node.0)).collect()
    }

    pub(crate) fn tell(&mut self, node: usize, input: Input) {
        let mut effects = Vec::new();
        self.members[node].steward.step(self.now, input, &mut effects);
        for effect in effects {
            self.post(self.now, Event::Do { node, effect });
        }
    }

    /// A node goes away or comes back, and the others notice.
    pub(crate) fn set_up(&mut self, node: usize, is_up: bool) {
        self.members[node].is_up = is_up;
        for other in (0..self.members.len()).filter(|&other| other != node) {
            self.tell(other, Input::PeerState { node: NodeIndex(node as u16), reachable: is_up });
        }
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, duration_ms: u64) {
        let end = self.now.after(duration_ms);
        for _ in 0..EVENTS_MAX {
            let event = self.events.first_key_value().map(|(&(at, _), _)| at);
            let wake = (0..self.members.len())
                .filter(|&node| self.members[node].is_up)
                .filter_map(|node| self.members[node].steward.next_deadline().map(|at| (at.max(self.now), node)))
                .min();
            let next = [event, wake.map(|(at, _)| at)].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = next;
            match (event, wake) {
                (Some(at), _) if at == next => {
                    if let Some((_, event)) = self.events.pop_first() {
                        self.happen(event);
                    }
                }
                (_, Some((_, node))) => self.tell(node, Input::Deadline),
                (_, None) => {}
            }
        }
        panic!("it does not come to rest");
    }

    /// Whether all owners of every key hold the same bytes.
    pub(crate) fn is_level(&self) -> bool {
        self.differences() == 0
    }

    /// Keys that not all of their owners hold alike.
    pub(crate) fn differences(&self) -> usize {
        let keys: BTreeSet<StoreKey> =
            self.members.iter().flat_map(|member| member.node.disk.records.keys().copied()).collect();
        let differs = |key: &&StoreKey| {
            let owners = self.layout.owners(self.layout.partition(&key.id()));
            let held: BTreeSet<Option<&Bytes>> =
                owners.map(|owner| self.members[usize::from(owner.0)].node.disk.records.get(*key)).collect();
            held.len() > 1
        };
        keys.iter().filter(differs).count()
    }

    /// Objects that exchanges brought level, at all nodes.
    pub(crate) fn repaired(&self) -> u64 {
        self.members.iter().map(|member| member.steward.status().exchange.repaired).sum()
    }

    fn post(&mut self, at: Tick, event: Event) {
        self.serial += 1;
        self.events.insert((at, self.serial), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Do { node, .. } | Event::Hear { node, .. } if !self.members[node].is_up => {}
            Event::Hear { node, call, answer } => self.tell(node, Input::Answer { call, answer }),
            Event::Do { node, effect: Effect { call, ask } } => {
                let (answer, delay_ms) = self.carry_out(node, ask);
                if self.loses_every > 0 && delay_ms > 0 && self.serial.is_multiple_of(self.loses_every) {
                    return;
                }
                let at = self.now.after(delay_ms);
                if self.doubles_answers {
                    self.post(at.after(3), Event::Hear { node, call, answer: answer.clone() });
                }
                self.post(at, Event::Hear { node, call, answer });
            }
        }
    }

    fn carry_out(&mut self, node: usize, ask: Ask) -> (Answer, u64) {
        let member = &mut self.members[node];
        match ask {
            Ask::LocalTree { question } => (Answer::Tree(member.tree(&question)), 0),
            Ask::LocalRead { operation } => (Answer::Peer(read(&member.node, &operation)), 0),
            Ask::LocalWrite { operation } => (Answer::Written(member.node.apply(operation)), 0),
            Ask::HintTargets => (Answer::Targets(targets(&member.hints)), 0),
            Ask::HintScan { target, after, records_max, .. } => {
                (Answer::Hints(scan(&member.hints, target, after, records_max as usize)), 0)
            }
            Ask::LocalHint { operation } => (Answer::Written(drop_hint(&mut member.hints, &operation)), 0),
            Ask::Move { .. } | Ask::LocalStanding { .. } => (Answer::Move(MoveAnswer::Unknown), 0),
            Ask::WantLayout { .. } => (Answer::NotSent, 0),
            Ask::Tree { to, question } => {
                let to = usize::from(to.0);
                if !self.members[to].is_up {
                    return (Answer::NotSent, 0);
                }
                let answer = self.members[to].tree(&question);
                self.traffic.messages += 2;
                self.traffic.tree_bytes += tree_bytes(&answer);
                (Answer::Tree(answer), 2 * LATENCY_MS)
            }
            Ask::Peer { to, operation } => {
                let to = usize::from(to.0);
                if !self.members[to].is_up {
                    return (Answer::NotSent, 0);
                }
                let sent = match &operation.action {
                    PeerAction::Merge(record) => record.len(),
                    PeerAction::Read | PeerAction::Digest | PeerAction::ReadHint | PeerAction::Hint { .. } => 0,
                };
                let result = self.answer_peer(to, operation);
                let received = if let PeerResult::Record(record) = &result { record.len() } else { 16 };
                self.traffic.messages += 2;
                self.traffic.object_bytes += (sent + received) as u64 + 64;
                (Answer::Peer(result), 2 * LATENCY_MS)
            }
        }
    }

    fn answer_peer(&mut self, to: usize, operation: PeerOperation) -> PeerResult {
        let member = &mut self.members[to];
        let PeerOperation { view, store_key, action } = operation;
        match action {
            PeerAction::Merge(_) if member.is_full => PeerResult::Failed(Failure::new(ErrorCode::StorageFull, "full")),
            PeerAction::Merge(record) => match member.node.apply(WriteOperation::Merge { view, store_key, record }) {
                WriteOutcome::Stored => PeerResult::Stored,
                WriteOutcome::Corrupt => PeerResult::Corrupt,
                WriteOutcome::Stale(view) => PeerResult::Stale(view),
                WriteOutcome::Refused(failure) => PeerResult::Failed(failure),
                WriteOutcome::Minted(_) | WriteOutcome::Moved { .. } => {
                    panic!("a merge mints nothing and moves nothing")
                }
            },
            action @ (PeerAction::Read | PeerAction::Digest) => {
                read(&member.node, &PeerOperation { view, store_key, action })
            }
            PeerAction::ReadHint | PeerAction::Hint { .. } => panic!("a steward asks for no hints"),
        }
    }
}

impl Inhabitant {
    fn tree(&self, question: &TreeQuestion) -> TreeAnswer {
        if question.view.prefix < self.unfit_below {
            return TreeAnswer::Failed(Failure::new(ErrorCode::Corrupt, "damaged"));
        }
        tree(&self.node, question)
    }
}

/// What a question's answer takes in a message, about.
fn tree_bytes(answer: &TreeAnswer) -> u64 {
    match answer {
        TreeAnswer::Sum(_) => 16,
        TreeAnswer::Children(children) => 16 * children.len() as u64,
        TreeAnswer::Keys { keys, .. } => 64 * keys.len() as u64,
        TreeAnswer::Stale(_) | TreeAnswer::Failed(_) => 0,
    }
}

/// The answer of a hash tree, made from all records of the range: the dumb oracle of one.
fn tree(node: &Node, question: &TreeQuestion) -> TreeAnswer {
    let TreePath { prefix, bits } = question.path;
    let first = |key: &StoreKey| u64::from_be_bytes(key.0[..8].try_into().expect("eight bytes"));
    let mut low = [0; 32];
    low[..8].copy_from_slice(&prefix.to_be_bytes());
    let is_within = |key: &StoreKey| bits == 0 || first(key) >> (64 - bits) == prefix >> (64 - bits);
    let records = node.disk.records.range(StoreKey(low)..).take_while(|(key, _)| is_within(key));
    let keys = records.map(|(key, bytes)| (*key, record::verify(key, bytes).unwrap_or(merkle::UNREADABLE)));
    match question.ask {
        TreeAsk::Sum => TreeAnswer::Sum(sum(keys)),
        TreeAsk::Children => {
            let mut children = vec![TreeSum::default(); 256];
            for (key, digest) in keys {
                let child = &mut children[usize::from((first(&key) >> (56 - bits)) as u8)];
                *child = sum([(key, digest)].into_iter()).plus(*child);
            }
            TreeAnswer::Children(children)
        }
        TreeAsk::Keys(most) => {
            let mut keys: Vec<_> = keys.take(most as usize + 1).collect();
            let more = keys.len() > most as usize;
            keys.truncate(most as usize);
            TreeAnswer::Keys { keys, more }
        }
    }
}

trait Plus {
    fn plus(self, other: Self) -> Self;
}

impl Plus for TreeSum {
    fn plus(self, other: Self) -> Self {
        Self { count: self.count + other.count, sum: self.sum.wrapping_add(other.sum) }
    }
}

fn sum(keys: impl Iterator<Item = (StoreKey, u128)>) -> TreeSum {
    keys.fold(TreeSum::default(), |total, (key, digest)| {
        let mut bytes = key.0.to_vec();
        bytes.extend(digest.to_be_bytes());
        total.plus(TreeSum { count: 1, sum: xxhash_rust::xxh3::xxh3_64(&bytes) })
    })
}

fn read(node: &Node, operation: &PeerOperation) -> PeerResult {
    let prefix = operation.store_key.id().prefix(BITS);
    let row = PartitionRow::decode(prefix, BITS, &node.disk.rows[&(BITS, prefix)]).expect("the row is sound");
    answer_read(operation, node.disk.records.get(&operation.store_key), Some(&row))
}

fn targets(hints: &BTreeMap<HintKey, Bytes>) -> Vec<HintTarget> {
    let mut counts = BTreeMap::new();
    for key in hints.keys() {
        *counts.entry(key.target).or_insert(0) += 1;
    }
    counts.into_iter().map(|(target, objects)| HintTarget { target, objects }).collect()
}

fn scan(hints: &BTreeMap<HintKey, Bytes>, target: NodeId, after: Option<HintKey>, records_max: usize) -> HintPage {
    let of_target = hints.iter().filter(|(key, _)| key.target == target && Some(**key) > after);
    let mut hints: Vec<Hint> =
        of_target.take(records_max + 1).map(|(key, record)| Hint { key: *key, record: record.clone() }).collect();
    let is_last = hints.len() <= records_max;
    hints.truncate(records_max);
    HintPage { after: if is_last { None } else { hints.last().map(|hint| hint.key) }, hints }
}

fn drop_hint(hints: &mut BTreeMap<HintKey, Bytes>, operation: &HintOperation) -> WriteOutcome {
    let HintOperation::Drop { target, view, store_key, digest } = operation else {
        panic!("a steward only drops hints");
    };
    let key = HintKey { target: *target, bits: view.bits, prefix: view.prefix, store_key: *store_key };
    let is_unchanged = hints.get(&key).is_some_and(|hint| record::verify(store_key, hint) == Ok(*digest));
    if is_unchanged {
        hints.remove(&key);
    }
    WriteOutcome::Stored
}
