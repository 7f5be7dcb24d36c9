//! Three replicas under random writes, retries, lost, late and doubled messages, aborted transactions, crashes, a wiped
//! directory and a rotten record, against an oracle that remembers everything.
//!
//! The oracle knows, for every dot, which dots its write was based on, and for every object, read and message, exactly
//! which dots were ever known there and which operations were known to be overwritten. From that it judges, after every step and at the end: every acknowledged write is
//! visible or causally covered, nothing overwritten comes back, dots are unique for ever, contexts claim exactly what was
//! known, rows count what is there, and all replicas end with the same bytes.

#[path = "support/node.rs"]
mod node;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dynamo::{
    ident::OpId,
    operation::Address,
    record,
    replica::{MintBasis, Minted, Write, WriteOperation, WriteOutcome},
    token::{self, TokenKey},
    version::{Content, Dot, Object},
};
use node::{Node, Transaction, address, merge, mint, value, view};
use proptest::{collection::vec, prelude::*, sample::Index};

const NODES: usize = 3;

/// How many nodes make a write durable before it is acknowledged.
const W: usize = 2;

/// Operations with an id, per key and run: no more than an object remembers, so that no twin may ever come back.
const NAMED: u64 = 8;

const TOKEN_KEY: TokenKey = TokenKey([3; 32]);

/// What an object or a read has ever known, by the oracle's account.
#[derive(Clone, Debug, Default)]
struct Known {
    dots: BTreeSet<Dot>,
    /// Fingerprints of operations whose versions were overwritten; of a read, of those that it saw.
    spent: BTreeSet<u64>,
}

impl Known {
    fn learn(&mut self, other: &Self) {
        self.dots.extend(&other.dots);
        self.spent.extend(&other.spent);
    }
}

/// What happens. Nodes are numbers; keys, reads and messages are chosen among what there is.
#[derive(Clone, Debug)]
enum Step {
    /// Operations of one transaction on one node.
    Transact { node: usize, operations: Vec<Draft>, commits: bool },
    /// A message arrives, and may arrive again later.
    Deliver { message: Index, again: bool },
    /// A message is lost.
    Lose { message: Index },
    /// A client reads a key at two nodes.
    Read { key: usize, nodes: (usize, usize) },
    /// A process ends and starts again.
    Restart { node: usize },
    /// The one disk failure of a run: everything on a node is gone, or one record is damaged.
    Break { node: usize, key: usize, everything: bool },
}

/// An operation of a transaction, before it is known what there is to choose from.
#[derive(Clone, Debug)]
enum Draft {
    Put { key: usize, basis: DraftBasis, operation: Option<u64>, skew_ms: u64 },
    Merge { message: Index },
}

#[derive(Clone, Debug)]
enum DraftBasis {
    Local,
    Beside,
    Read(Index),
}

fn draft() -> impl Strategy<Value = Draft> {
    let basis = prop_oneof![
        Just(DraftBasis::Local),
        Just(DraftBasis::Beside),
        any::<Index>().prop_map(DraftBasis::Read),
        any::<Index>().prop_map(DraftBasis::Read),
    ];
    let put = (0..2usize, basis, prop::option::of(1..=NAMED), 0..3_000u64)
        .prop_map(|(key, basis, operation, skew_ms)| Draft::Put { key, basis, operation, skew_ms });
    prop_oneof![4 => put, 1 => any::<Index>().prop_map(|message| Draft::Merge { message })]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..NODES, vec(draft(), 1..4), prop::bool::weighted(0.8))
            .prop_map(|(node, operations, commits)| Step::Transact { node, operations, commits }),
        10 => (any::<Index>(), prop::bool::weighted(0.2))
            .prop_map(|(message, again)| Step::Deliver { message, again }),
        2 => any::<Index>().prop_map(|message| Step::Lose { message }),
        5 => (0..2usize, 0..NODES, 0..NODES).prop_map(|(key, one, two)| Step::Read { key, nodes: (one, two) }),
        1 => (0..NODES).prop_map(|node| Step::Restart { node }),
        1 => (0..NODES, 0..2usize, any::<bool>())
            .prop_map(|(node, key, everything)| Step::Break { node, key, everything }),
    ]
}

/// A record on its way, with what the oracle knows of it.
#[derive(Clone, Debug)]
struct Message {
    to: usize,
    key: usize,
    record: Bytes,
    known: Known,
    /// The write it makes durable.
    dot: Option<Dot>,
}

/// What a client holds after a read or a put.
#[derive(Clone, Debug)]
struct Reading {
    key: usize,
    token: Bytes,
    known: Known,
}

/// A write that was minted, whatever became of it.
#[derive(Clone, Debug)]
struct Minting {
    key: usize,
    /// The dots its basis knew.
    based_on: BTreeSet<Dot>,
    fingerprint: Option<u64>,
    durable_at: BTreeSet<usize>,
}

struct World {
    keys: [Address; 2],
    nodes: Vec<Node>,
    /// By node and key: what that node's object has ever known.
    known: Vec<[Known; 2]>,
    messages: Vec<Message>,
    readings: Vec<Reading>,
    mintings: BTreeMap<Dot, Minting>,
    processes: u64,
    is_broken: bool,
}

impl World {
    fn new() -> Self {
        let first = address("one");
        let second = (0..).map(|at| address(&format!("two {at}"))).find(|other| view(other) == view(&first));
        Self {
            keys: [first, second.unwrap()],
            nodes: (0..NODES as u64).map(Node::new).collect(),
            known: vec![Default::default(); NODES],
            messages: Vec::new(),
            readings: Vec::new(),
            mintings: BTreeMap::new(),
            processes: NODES as u64,
            is_broken: false,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Transact { node, operations, commits } => self.transact(node, operations, commits),
            Step::Deliver { message, again } => {
                if !self.messages.is_empty() {
                    let at = message.index(self.messages.len());
                    let message = if again { self.messages[at].clone() } else { self.messages.swap_remove(at) };
                    self.deliver(&message);
                }
            }
            Step::Lose { message } => {
                if !self.messages.is_empty() {
                    self.messages.swap_remove(message.index(self.messages.len()));
                }
            }
            Step::Read { key, nodes: (one, two) } => {
                let mut object = self.nodes[one].object(&self.keys[key]);
                object.merge(&self.nodes[two].object(&self.keys[key]));
                let mut known = self.known[one][key].clone();
                known.learn(&self.known[two][key]);
                self.judge(key, &object, &known);
                let token = token::seal(&TOKEN_KEY, &self.keys[key].store_key, &object.seen());
                self.readings.push(self.reading(key, token, &known));
            }
            Step::Restart { node } => {
                self.processes += 1;
                self.nodes[node].restart(self.processes);
            }
            Step::Break { node, key, everything } => self.break_disk(node, key, everything),
        }
    }

    fn transact(&mut self, node: usize, drafts: Vec<Draft>, commits: bool) {
        let drafts: Vec<_> = drafts.into_iter().filter_map(|draft| self.operation(node, draft)).collect();
        let mut known = self.known[node].clone();
        let mut shown = Vec::new();
        let Node { disk, replica } = &mut self.nodes[node];
        let mut transaction = Transaction::begin(disk);
        let mut batch = replica.begin();
        for (key, operation, others_know, named) in drafts {
            let Ok(minted) = batch.apply(&mut transaction, operation);
            match minted {
                Some(Minted { retried: true, .. }) => {}
                Some(minted) => {
                    let dot = minted.dot.expect("what is not a retry has a dot");
                    let standing = standing(&self.mintings, key, &known[key]);
                    // None stands for the local basis.
                    let basis = others_know.unwrap_or_else(|| reading_of(&self.mintings, key, &known[key]));
                    let overwritten =
                        standing.intersection(&basis.dots).filter_map(|dot| self.mintings[dot].fingerprint);
                    known[key].spent.extend(overwritten.chain(basis.spent).filter(|spent| Some(*spent) != named));
                    known[key].dots.extend(&basis.dots);
                    known[key].dots.insert(dot);
                    let minting =
                        Minting { key, based_on: basis.dots, fingerprint: named, durable_at: BTreeSet::new() };
                    assert!(self.mintings.insert(dot, minting).is_none(), "dots are unique for ever");
                }
                None => known[key].learn(&others_know.expect("a message knows something")),
            }
            if let Some(minted) = minted {
                shown.push((key, minted.clone(), known[key].clone()));
            }
        }
        let Ok(staged) = batch.stage(&mut transaction);
        if commits {
            transaction.commit();
            let refused = staged.committed().into_iter().find(|outcome| matches!(outcome, WriteOutcome::Refused(_)));
            assert_eq!(refused, None);
            self.known[node] = known;
        } else {
            drop(staged);
        }
        for (key, minted, known) in shown {
            self.replicate(node, key, minted, &known, commits);
        }
    }

    /// Sends what was minted to the other nodes, also if the transaction failed afterwards, and hands the client its reply.
    fn replicate(&mut self, node: usize, key: usize, minted: Minted, known: &Known, committed: bool) {
        for to in (0..NODES).filter(|to| *to != node) {
            let record = minted.record.clone();
            self.messages.push(Message { to, key, record, known: known.clone(), dot: minted.dot });
        }
        if !committed {
            return;
        }
        if let Some(minting) = minted.dot.and_then(|dot| self.mintings.get_mut(&dot)) {
            minting.durable_at.insert(node);
        }
        if let Some(seen) = minted.seen {
            let object = record::decode_of(&self.keys[key], &minted.record).unwrap();
            let ours = object.versions.iter().find(|version| Some(version.dot) == minted.dot).unwrap();
            let is_ours = |dot| dot == ours.dot || self.fingerprint(dot) == ours.fingerprint();
            assert!(object.live().all(|version| is_ours(version.dot)), "a reply's context covers an unseen sibling");
            let token = token::seal(&TOKEN_KEY, &self.keys[key].store_key, &seen);
            self.readings.push(self.reading(key, token, known));
        }
    }

    fn reading(&self, key: usize, token: Bytes, known: &Known) -> Reading {
        Reading { key, token, known: reading_of(&self.mintings, key, known) }
    }

    /// Makes an operation of a draft: its key, itself, what its basis or record knows, its fingerprint.
    fn operation(&self, node: usize, draft: Draft) -> Option<(usize, WriteOperation, Option<Known>, Option<u64>)> {
        let (key, basis, operation, skew_ms) = match draft {
            Draft::Put { key, basis, operation, skew_ms } => (key, basis, operation, skew_ms),
            Draft::Merge { message } => {
                let ours: Vec<&Message> = self.messages.iter().filter(|message| message.to == node).collect();
                let message = if ours.is_empty() { return None } else { message.get(&ours) };
                let operation = merge(&self.keys[message.key], &message.record);
                return Some((message.key, operation, Some(message.known.clone()), None));
            }
        };
        let (basis, based_on) = match basis {
            DraftBasis::Local => (MintBasis::Local, None),
            DraftBasis::Beside => (MintBasis::Beside, Some(Known::default())),
            DraftBasis::Read(reading) => {
                let ours: Vec<&Reading> = self.readings.iter().filter(|reading| reading.key == key).collect();
                let reading = if ours.is_empty() { return None } else { reading.get(&ours) };
                let seen = token::open(&TOKEN_KEY, &self.keys[key].store_key, &reading.token).unwrap();
                (MintBasis::Context(seen), Some(reading.known.clone()))
            }
        };
        // An operation's content follows from its number, as a retry's does.
        let content = match operation {
            Some(number) if number % 4 == 0 => Content::Tombstone,
            Some(number) => value(&format!("named {number}")),
            None => value(&format!("unnamed {}", self.mintings.len())),
        };
        let op_id = operation.map_or(OpId::NONE, |sequence| OpId { client: 1, sequence });
        let fingerprint = dynamo::version::fingerprint(&op_id, &content);
        let wall_ms = 10_000 + skew_ms;
        let write = Write { content, basis, op_id, seen_clock: 0, wall_ms, expires: 0 };
        Some((key, mint(&self.keys[key], write), based_on, fingerprint))
    }

    fn deliver(&mut self, message: &Message) {
        let outcome = self.nodes[message.to].merge(&self.keys[message.key], &message.record);
        assert_eq!(outcome, WriteOutcome::Stored);
        self.known[message.to][message.key].learn(&message.known);
        if let Some(minting) = message.dot.and_then(|dot| self.mintings.get_mut(&dot)) {
            minting.durable_at.insert(message.to);
        }
    }

    /// At most once a run: W - 1 failures may not lose an acknowledged write.
    fn break_disk(&mut self, node: usize, key: usize, everything: bool) {
        if self.is_broken {
            return;
        }
        self.is_broken = true;
        if everything {
            self.processes += 1;
            self.nodes[node] = Node::new(self.processes);
            self.known[node] = Default::default();
            return;
        }
        let address = self.keys[key].clone();
        let Some(record) = self.nodes[node].record(&address) else {
            return;
        };
        let mut rotten = record.to_vec();
        rotten[record.len() / 2] ^= 0x20;
        self.nodes[node].disk.records.insert(address.store_key, rotten.into());
        assert_eq!(self.nodes[node].apply(node::put(&address, "never")), WriteOutcome::Corrupt);
        self.rebuild(node, key);
    }

    /// Both others are asked, which is N - W + 1, and the merge of what they hold takes the place of the record.
    fn rebuild(&mut self, node: usize, key: usize) {
        let address = self.keys[key].clone();
        let (mut known, mut object) = (Known::default(), Object::new());
        for other in (0..NODES).filter(|other| *other != node) {
            known.learn(&self.known[other][key]);
            object.merge(&self.nodes[other].object(&address));
        }
        let record = (!object.is_empty()).then(|| Bytes::from(record::encode(&address, &object)));
        let rebuild = WriteOperation::Rebuild { view: view(&address), store_key: address.store_key, record };
        assert_eq!(self.nodes[node].apply(rebuild), WriteOutcome::Stored);
        assert_eq!(self.nodes[node].row(&address).forgotten, 1);
        self.nodes[node].recount(&address);
        self.known[node][key] = known;
    }

    fn fingerprint(&self, dot: Dot) -> Option<u64> {
        self.mintings[&dot].fingerprint
    }

    /// Whether an object is what it must be where exactly `known` was known.
    fn judge(&self, key: usize, object: &Object, known: &Known) {
        for (dot, _) in self.mintings.iter().filter(|(_, minting)| minting.key == key) {
            assert_eq!(
                object.context.covers(*dot),
                known.dots.contains(dot),
                "a context claims exactly what was known"
            );
        }
        let found: BTreeSet<Dot> = object.versions.iter().map(|version| version.dot).collect();
        assert_eq!(found, standing(&self.mintings, key, known), "{object:?}");
        let spent: BTreeSet<u64> = object.spent.iter().map(|spent| spent.hash).collect();
        assert_eq!(spent, known.spent);
    }

    fn judge_nodes(&self) {
        for (node, known) in self.nodes.iter().zip(&self.known) {
            for (key, address) in self.keys.iter().enumerate() {
                self.judge(key, &node.object(address), &known[key]);
            }
            let row = node.row(&self.keys[0]);
            let records = self.keys.iter().filter_map(|key| node.record(key).map(|record| (key, record)));
            let digests = records.map(|(key, record)| record::verify(&key.store_key, &record).unwrap());
            let sum = digests.fold((0, 0u128), |(count, sum), digest| (count + 1, sum.wrapping_add(digest)));
            assert_eq!((row.records, row.sum), sum, "a row counts what is there");
            let deleted = self.keys.iter().map(|key| node.object(key));
            let deleted = deleted.filter(|object| !object.is_empty() && object.live().next().is_none()).count();
            assert_eq!((row.deleted, row.forgotten), (deleted as u64, 0));
            assert_eq!(node.disk.totals(), node.disk.sums(), "a tree holds what is there");
        }
    }

    /// Everyone sends everyone everything, until nothing changes.
    fn heal(&mut self) {
        for round in 0.. {
            let before: Vec<_> = self.nodes.iter().map(|node| node.disk.records.clone()).collect();
            for (from, to) in [(0, 1), (1, 2), (2, 0)] {
                for key in 0..self.keys.len() {
                    if let Some(record) = self.nodes[from].record(&self.keys[key]) {
                        let known = self.known[from][key].clone();
                        self.deliver(&Message { to, key, record, known, dot: None });
                    }
                }
            }
            if self.nodes.iter().map(|node| &node.disk.records).eq(&before) {
                return;
            }
            assert!(round < 5, "replicas do not converge");
        }
    }
}

/// The dots that nothing known has overwritten, neither them nor a twin of theirs.
fn standing(mintings: &BTreeMap<Dot, Minting>, key: usize, known: &Known) -> BTreeSet<Dot> {
    let is_overwritten = |dot: &Dot| {
        known.dots.iter().any(|later| mintings[later].based_on.contains(dot))
            || mintings[dot].fingerprint.is_some_and(|fingerprint| known.spent.contains(&fingerprint))
    };
    known.dots.iter().copied().filter(|dot| mintings[dot].key == key && !is_overwritten(dot)).collect()
}

/// What a client knows that has read an object: all its dots, and the operations of those that stand.
fn reading_of(mintings: &BTreeMap<Dot, Minting>, key: usize, known: &Known) -> Known {
    let standing = standing(mintings, key, known);
    let spent = standing.iter().filter_map(|dot| mintings[dot].fingerprint).collect();
    Known { dots: known.dots.clone(), spent }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) })]

    #[test]
    fn replicas_lose_nothing_and_end_the_same(steps in vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.judge_nodes();
        }
        world.heal();
        world.judge_nodes();
        prop_assert_eq!(&world.nodes[0].disk.records, &world.nodes[1].disk.records);
        prop_assert_eq!(&world.nodes[1].disk.records, &world.nodes[2].disk.records);
        for (dot, minting) in &world.mintings {
            let is_acknowledged = minting.durable_at.len() >= W;
            // Known everywhere, so by the last judgement it stands or was overwritten by someone who knew it.
            prop_assert!(!is_acknowledged || world.known[0][minting.key].dots.contains(dot));
        }
    }
}

/// The random runs above would prove little if they never came to the interesting places.
#[test]
fn random_runs_reach_siblings_twins_retries_and_lost_transactions() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut siblings, mut twins, mut spent, mut acknowledged, mut actors) = (0, 0, 0, 0, 0);
    for _ in 0..100 {
        let steps = vec(step(), 40..80).new_tree(&mut runner).unwrap().current();
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        let objects = || world.nodes.iter().flat_map(|node| world.keys.iter().map(|key| node.object(key)));
        siblings += objects().filter(|object| object.versions.len() > 1).count();
        twins += objects().filter(|object| node::shown(object).len() < object.live().count()).count();
        spent += objects().filter(|object| !object.spent.is_empty()).count();
        acknowledged += world.mintings.values().filter(|minting| minting.durable_at.len() >= W).count();
        actors += world.mintings.keys().map(|dot| dot.actor).collect::<BTreeSet<_>>().len();
    }
    assert!(
        siblings > 50 && twins > 5 && spent > 50 && acknowledged > 200 && actors > 400,
        "{siblings} {twins} {spent} {acknowledged} {actors}"
    );
}
