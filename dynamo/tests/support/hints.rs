//! A stand-in for tests: a book of hints over an in-memory store with transactions, and a world around it with an oracle that
//! keeps plain lists.

// Each test program uses its own part of this.
#![allow(dead_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
};

use bytes::Bytes;
use dynamo::{
    hint::{Book, HintBounds, HintKey, HintOperation, HintRows, HintUsage, answer_read},
    ident::{NodeId, OpId},
    layout::View,
    operation::Address,
    peer::PeerResult,
    record,
    replica::{Limits, MintBasis, Minted, Nonce, Write, WriteOutcome},
    version::{Actor, Content, Dot, Object, Version, put::Seen},
};
use proptest::prelude::{Strategy, any, prop_oneof};
use xxhash_rust::xxh3::xxh3_128;

/// How many bits the partitions of these tests have: few, so that keys share actors.
pub(crate) const BITS: u8 = 1;

/// Bounds that are not reached unless a test means to.
pub(crate) const WIDE: HintBounds = HintBounds { target_bytes_max: 1 << 30, total_bytes_max: 1 << 30 };

/// What is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) hints: BTreeMap<HintKey, Bytes>,
    pub(crate) aside: BTreeMap<HintKey, Bytes>,
    pub(crate) usages: BTreeMap<NodeId, Vec<u8>>,
}

impl HintRows for Disk {
    type Error = Infallible;

    fn hint(&mut self, key: &HintKey) -> Result<Option<Bytes>, Infallible> {
        Ok(self.hints.get(key).cloned())
    }

    fn put_hint(&mut self, key: &HintKey, record: &[u8]) -> Result<(), Infallible> {
        self.hints.insert(*key, Bytes::copy_from_slice(record));
        Ok(())
    }

    fn delete_hint(&mut self, key: &HintKey) -> Result<(), Infallible> {
        assert!(self.hints.remove(key).is_some(), "a hint was deleted that was not there");
        Ok(())
    }

    fn set_aside(&mut self, key: &HintKey) -> Result<(), Infallible> {
        let hint = self.hints.remove(key).expect("only what is there is set aside");
        self.aside.insert(*key, hint);
        Ok(())
    }

    fn usages(&mut self) -> Result<Vec<(NodeId, HintUsage)>, Infallible> {
        let row = |(target, row): (&NodeId, &Vec<u8>)| (*target, HintUsage::decode(*target, row).expect("a sound row"));
        Ok(self.usages.iter().map(row).collect())
    }

    fn put_usage(&mut self, target: NodeId, usage: &HintUsage) -> Result<(), Infallible> {
        if usage.is_empty() {
            self.usages.remove(&target);
        } else {
            self.usages.insert(target, usage.encode(target).to_vec());
        }
        Ok(())
    }
}

/// A node that stands in.
#[derive(Debug)]
pub(crate) struct StandIn {
    pub(crate) disk: Disk,
    pub(crate) book: Book,
    bounds: HintBounds,
}

impl StandIn {
    pub(crate) fn new(nonce: u64, bounds: HintBounds) -> Self {
        Self { disk: Disk::default(), book: book(nonce, bounds), bounds }
    }

    /// The process ends and another one starts on the same disk.
    pub(crate) fn restart(&mut self, nonce: u64) {
        self.book = book(nonce, self.bounds);
    }

    /// Applies one operation and commits.
    pub(crate) fn apply(&mut self, operation: HintOperation) -> WriteOutcome {
        self.apply_all([operation]).remove(0)
    }

    /// Applies operations in one transaction and commits.
    pub(crate) fn apply_all(&mut self, operations: impl IntoIterator<Item = HintOperation>) -> Vec<WriteOutcome> {
        let mut transaction = self.disk.clone();
        let mut batch = self.book.begin();
        for operation in operations {
            let Ok(_) = batch.apply(&mut transaction, operation);
        }
        let Ok(staged) = batch.stage(&mut transaction);
        self.disk = transaction;
        staged.committed()
    }

    /// Applies operations, shows what was minted, and never commits.
    pub(crate) fn abort(&mut self, operation: HintOperation, is_staged: bool) -> Option<Minted> {
        let mut transaction = self.disk.clone();
        let mut batch = self.book.begin();
        let Ok(minted) = batch.apply(&mut transaction, operation);
        let minted = minted.cloned();
        if is_staged {
            let Ok(staged) = batch.stage(&mut transaction);
            drop(staged);
        }
        minted
    }

    /// Applies one operation that must mint, and commits.
    pub(crate) fn mint(&mut self, operation: HintOperation) -> Minted {
        match self.apply(operation) {
            WriteOutcome::Minted(minted) => minted,
            other => panic!("not minted: {other:?}"),
        }
    }

    /// What a peer is told of a key.
    pub(crate) fn read(&self, address: &Address) -> PeerResult {
        let of_key = |(key, hint): (&HintKey, &Bytes)| (key.store_key == address.store_key).then(|| hint.clone());
        let is_aside = self.disk.aside.keys().any(|key| key.store_key == address.store_key);
        answer_read(&view(address), &address.store_key, self.disk.hints.iter().filter_map(of_key), is_aside)
    }

    /// What is kept for a target, counted anew.
    pub(crate) fn counted(&self, target: NodeId) -> HintUsage {
        let mut usage = HintUsage::default();
        let hints = self.disk.hints.iter().filter(|(key, _)| key.target == target);
        hints.for_each(|(key, hint)| usage.add(key, hint.len()));
        usage
    }
}

fn book(nonce: u64, bounds: HintBounds) -> Book {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&nonce.to_le_bytes());
    Book::new(Nonce(bytes), Limits { value_bytes_max: 1 << 20 }, bounds)
}

pub(crate) fn address(key: &str) -> Address {
    Address::new(Bytes::from_static(b"default"), Bytes::copy_from_slice(key.as_bytes()))
}

pub(crate) fn view(address: &Address) -> View {
    View { prefix: address.store_key.id().prefix(BITS), bits: BITS, lo: 1, hi: 1 }
}

pub(crate) fn name(target: NodeId, address: &Address) -> HintKey {
    HintKey::new(target, &view(address), address.store_key).expect("the view is the key's")
}

pub(crate) fn value(text: &str) -> Content {
    Content::Value { bytes: Bytes::copy_from_slice(text.as_bytes()), hash: xxh3_128(text.as_bytes()) }
}

/// An object with one version, as an owner or another stand-in minted it.
pub(crate) fn object(actor: u64, seq: u64, text: &str) -> Object {
    let mut object = Object::new();
    let dot = Dot { actor: Actor(actor), seq };
    let version = Version { dot, op_id: OpId::NONE, clock: seq, expires: 0, content: value(text) };
    object.put(&Seen::default(), version);
    object
}

pub(crate) fn encode(address: &Address, object: &Object) -> Bytes {
    record::encode(address, object).into()
}

pub(crate) fn keep(target: NodeId, address: &Address, object: &Object) -> HintOperation {
    let record = encode(address, object);
    HintOperation::Keep { view: view(address), target, store_key: address.store_key, record }
}

pub(crate) fn put(target: NodeId, address: &Address, text: &str, basis: MintBasis) -> HintOperation {
    let write = Write { content: value(text), basis, op_id: OpId::NONE, seen_clock: 0, wall_ms: 1_000, expires: 0 };
    HintOperation::Mint { view: view(address), target, address: address.clone(), write }
}

pub(crate) fn delivered(target: NodeId, address: &Address, record: &Bytes) -> HintOperation {
    let digest = record::verify(&address.store_key, record).expect("a sound record");
    HintOperation::Drop { target, view: view(address), store_key: address.store_key, digest }
}

/// A step of the world. Keys and targets are numbers below 3.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A coordinator that minted a version elsewhere has it kept here.
    Keep { key: u8, target: u8, beside: bool },
    /// No owner can be reached: this node mints.
    Mint { key: u8, target: u8, beside: bool },
    /// The same, in a transaction that is aborted after the version was shown, and kept by an owner.
    MintAndAbort { key: u8, target: u8, staged: bool },
    /// The hint is sent to its target and acknowledged.
    Deliver { key: u8, target: u8 },
    /// The hint is sent, changes, and is then acknowledged.
    DeliverLate { key: u8, target: u8 },
    /// The hint rots after it was sent, and before it is acknowledged.
    Rot { key: u8, target: u8, byte: u16 },
    /// The process ends and another one starts.
    Restart,
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let place = || (0..3_u8, 0..3_u8);
    prop_oneof![
        3 => (place(), any::<bool>()).prop_map(|((key, target), beside)| Step::Keep { key, target, beside }),
        4 => (place(), any::<bool>()).prop_map(|((key, target), beside)| Step::Mint { key, target, beside }),
        1 => (place(), any::<bool>()).prop_map(|((key, target), staged)| Step::MintAndAbort { key, target, staged }),
        3 => place().prop_map(|(key, target)| Step::Deliver { key, target }),
        1 => place().prop_map(|(key, target)| Step::DeliverLate { key, target }),
        1 => (place(), any::<u16>()).prop_map(|((key, target), byte)| Step::Rot { key, target, byte }),
        1 => proptest::strategy::Just(Step::Restart),
    ]
}

/// A stand-in, the owners it stands in for, and what must be true of them.
#[derive(Debug)]
pub(crate) struct World {
    stand_in: StandIn,
    /// What the owners hold of each key, all of them together.
    owners: BTreeMap<u8, Object>,
    /// What is kept under each name, as a list of all that was merged there.
    kept: BTreeMap<(u8, u8), Vec<Object>>,
    /// Versions that were acknowledged and that nobody who knew them has overwritten.
    truth: BTreeMap<u8, BTreeSet<Dot>>,
    dots: BTreeSet<Dot>,
    /// Counts processes and versions.
    count: u64,
}

impl World {
    /// Runs steps; the first thing that is wrong, as a sentence.
    pub(crate) fn run(steps: &[Step]) -> Result<(), String> {
        let mut world = Self {
            stand_in: StandIn::new(0, WIDE),
            owners: BTreeMap::new(),
            kept: BTreeMap::new(),
            truth: BTreeMap::new(),
            dots: BTreeSet::new(),
            count: 0,
        };
        for step in steps {
            world.step(step).and_then(|()| world.check()).map_err(|wrong| format!("{step:?}: {wrong}"))?;
        }
        for key in 0..3 {
            (0..3).try_for_each(|target| world.deliver(key, target))?;
        }
        world.check()?;
        world.check_truth()
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        self.count += 1;
        match *step {
            Step::Keep { key, target, beside } => self.keep(key, target, beside),
            Step::Mint { key, target, beside } => self.mint(key, target, beside),
            Step::MintAndAbort { key, target, staged } => {
                let operation = put(NodeId(target.into()), &address_of(key), "shown", MintBasis::Beside);
                if let Some(minted) = self.stand_in.abort(operation, staged) {
                    self.new_dot(minted.dot)?;
                    self.at_owner(key, &read(key, &minted.record));
                    self.truth.entry(key).or_default().extend(minted.dot);
                }
                Ok(())
            }
            Step::Deliver { key, target } => self.deliver(key, target),
            Step::DeliverLate { key, target } => {
                let Some(sent) = self.send(key, target) else { return Ok(()) };
                self.keep(key, target, true)?;
                self.acknowledge(key, target, &sent)
            }
            Step::Rot { key, target, byte } => self.rot(key, target, byte),
            Step::Restart => {
                self.stand_in.restart(self.count);
                Ok(())
            }
        }
    }

    /// A version that another coordinator minted, on what the owners hold or beside it.
    fn keep(&mut self, key: u8, target: u8, beside: bool) -> Result<(), String> {
        let address = address_of(key);
        let mut new = if beside { Object::new() } else { self.owners.get(&key).cloned().unwrap_or_default() };
        let dot = Dot { actor: Actor(1_000_000 + self.count), seq: 1 };
        let version = Version { dot, op_id: OpId::NONE, clock: self.count, expires: 0, content: value("kept") };
        let truth = self.truth.entry(key).or_default();
        truth.retain(|dot| new.versions.iter().all(|version| version.dot != *dot));
        truth.insert(dot);
        let seen = new.seen();
        new.put(&seen, version);
        let outcome = self.stand_in.apply(keep(NodeId(target.into()), &address, &new));
        self.kept.entry((key, target)).or_default().push(new);
        expect(&outcome, &WriteOutcome::Stored)
    }

    fn mint(&mut self, key: u8, target: u8, beside: bool) -> Result<(), String> {
        let basis = if beside { MintBasis::Beside } else { MintBasis::Local };
        let outcome = self.stand_in.apply(put(NodeId(target.into()), &address_of(key), "minted", basis));
        let WriteOutcome::Minted(minted) = outcome else { return Err(format!("not minted: {outcome:?}")) };
        let (object, truth) = (read(key, &minted.record), self.truth.entry(key).or_default());
        if !beside {
            let known = self.kept.iter().filter(|((of, _), _)| *of == key).flat_map(|(_, list)| list);
            let known: BTreeSet<Dot> = known.flat_map(|object| &object.versions).map(|version| version.dot).collect();
            truth.retain(|dot| !known.contains(dot));
        }
        truth.extend(minted.dot);
        self.new_dot(minted.dot)?;
        let all = (0..3).flat_map(|target| self.kept.get(&(key, target))).flatten();
        let covered = all.flat_map(|known| known.context.iter()).all(|(actor, seq)| object.context.seen(actor) >= seq);
        self.kept.entry((key, target)).or_default().push(object);
        if covered { Ok(()) } else { Err("the coordinator minted on less than it keeps".to_owned()) }
    }

    /// Sends a hint to its target.
    fn send(&mut self, key: u8, target: u8) -> Option<Bytes> {
        let sent = self.stand_in.disk.hints.get(&name(NodeId(target.into()), &address_of(key))).cloned()?;
        self.at_owner(key, &read(key, &sent));
        Some(sent)
    }

    /// The target says that it has what was sent.
    fn acknowledge(&mut self, key: u8, target: u8, sent: &Bytes) -> Result<(), String> {
        let list = self.kept.entry((key, target)).or_default();
        if record::encode(&address_of(key), &merged(list)) == *sent {
            list.clear();
        }
        let outcome = self.stand_in.apply(delivered(NodeId(target.into()), &address_of(key), sent));
        expect(&outcome, &WriteOutcome::Stored)
    }

    fn deliver(&mut self, key: u8, target: u8) -> Result<(), String> {
        match self.send(key, target) {
            Some(sent) => self.acknowledge(key, target, &sent),
            None => Ok(()),
        }
    }

    fn rot(&mut self, key: u8, target: u8, byte: u16) -> Result<(), String> {
        let Some(sent) = self.send(key, target) else { return Ok(()) };
        let name = name(NodeId(target.into()), &address_of(key));
        let mut rotten = sent.to_vec();
        rotten[usize::from(byte) % sent.len()] ^= 1 << (byte % 8);
        self.stand_in.disk.hints.insert(name, rotten.clone().into());
        self.kept.remove(&(key, target));
        expect(
            &self.stand_in.apply(delivered(NodeId(target.into()), &address_of(key), &sent)),
            &WriteOutcome::Corrupt,
        )?;
        if self.stand_in.disk.aside.remove(&name).is_none_or(|aside| aside != rotten) {
            return Err("a rotten hint was not set aside as it is".to_owned());
        }
        Ok(())
    }

    fn at_owner(&mut self, key: u8, object: &Object) {
        self.owners.entry(key).or_default().merge(object);
    }

    fn new_dot(&mut self, dot: Option<Dot>) -> Result<(), String> {
        match dot {
            Some(dot) if self.dots.insert(dot) => Ok(()),
            Some(dot) => Err(format!("{dot:?} was minted twice")),
            None => Err("nothing was minted".to_owned()),
        }
    }

    /// The hints are the merges of the lists, and the rows say how much they are.
    fn check(&self) -> Result<(), String> {
        for (key, target) in (0..3).flat_map(|key| (0..3).map(move |target| (key, target))) {
            let list = self.kept.get(&(key, target)).filter(|list| !list.is_empty());
            let expected = list.map(|list| encode(&address_of(key), &merged(list)));
            let found = self.stand_in.disk.hints.get(&name(NodeId(target.into()), &address_of(key)));
            if found != expected.as_ref() {
                return Err(format!("key {key} for target {target}: other things are kept than were given to be kept"));
            }
        }
        for target in (0..3_u8).map(|target| NodeId(target.into())) {
            let row = self.stand_in.disk.usages.get(&target).map(|row| HintUsage::decode(target, row));
            if row.unwrap_or(Ok(HintUsage::default())) != Ok(self.stand_in.counted(target)) {
                return Err(format!("the row of target {target:?} does not say what is kept"));
            }
        }
        Ok(())
    }

    /// With everything delivered, the owners hold what was acknowledged and not overwritten, and nothing else.
    fn check_truth(&self) -> Result<(), String> {
        for key in 0..3 {
            let held: BTreeSet<Dot> = self
                .owners
                .get(&key)
                .into_iter()
                .flat_map(|object| &object.versions)
                .map(|version| version.dot)
                .collect();
            let truth = self.truth.get(&key).cloned().unwrap_or_default();
            if held != truth {
                return Err(format!("key {key}: the owners hold {held:?}, acknowledged were {truth:?}"));
            }
        }
        Ok(())
    }
}

fn merged(list: &[Object]) -> Object {
    list.iter().fold(Object::new(), |mut all, object| {
        all.merge(object);
        all
    })
}

fn read(key: u8, record: &Bytes) -> Object {
    record::decode_of(&address_of(key), record).expect("a sound record")
}

fn address_of(key: u8) -> Address {
    address(&format!("key {key}"))
}

fn expect(outcome: &WriteOutcome, expected: &WriteOutcome) -> Result<(), String> {
    if outcome == expected { Ok(()) } else { Err(format!("{outcome:?} instead of {expected:?}")) }
}
