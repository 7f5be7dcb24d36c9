//! The oracle: it sees every mint, every commit and every reply of the cluster, keeps plain sets of dots, and says when an invariant is
//! broken. It knows what each write was *entitled* to replace, so it can tell for any record or reply which versions must stand in it.
//!
//! It holds for every record, every context and every reply: the dots below its context are exactly those its makers knew
//! (I6), and the versions in it are those of these dots that no other of them replaces (I3, I4). So one look at each new record
//! suffices, at the moment it is made.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use bytes::Bytes;
use dynamo::{
    ident::{OpId, StoreKey},
    layout::{ConflictRule, Level},
    operation::{Address, Consistency},
    token::TokenKey,
    version::{Actor, Dot},
};

use crate::invariant::{Invariant, Violation};
use losses::Losses;
use rings::Ownership;

pub mod dots;
mod judging;
mod losses;
mod records;
mod rings;
mod writes;

pub use dots::Dots;
pub use judging::Request;
pub use rings::{Configuration, Demand, Kind};
pub use writes::Told;

/// A key's position among all that a run uses.
pub type KeyNumber = usize;

/// An operation's position among all writes of a run.
pub type OpNumber = usize;

/// What a write was asked to replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entitled {
    /// What its coordinator holds.
    Local,
    /// Nothing.
    Nothing,
    /// What a read at its own level finds.
    Found,
    /// What this context covers.
    Context(Bytes),
}

/// How a write stands with its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not answered yet.
    Open,
    /// Stored, or the client does not know.
    Unclear,
    /// The client was told that nothing was applied.
    Denied,
}

/// A write that a client asked for.
#[derive(Clone, Debug)]
pub struct Written {
    /// Of which key.
    pub key: KeyNumber,
    /// Its value; `None` for a delete.
    pub value: Option<Bytes>,
    /// What it may replace.
    pub entitled: Entitled,
    /// With which quorums.
    pub demand: Demand,
    /// When it was first asked for.
    pub began_us: u64,
    /// The dots under which it was minted.
    pub dots: Dots,
    /// How it stands.
    pub standing: Standing,
    /// Whether a coordinator acknowledged it.
    pub acknowledged: bool,
}

/// One minted version.
#[derive(Clone, Debug)]
struct Minting {
    dot: Dot,
    op: OpNumber,
    /// The dots it replaces, and all they replaced.
    removes: Dots,
    clock: u64,
    expires: u64,
    /// Nodes, as bits, that had it in a committed record.
    durable: u32,
    /// Nodes that had it in a committed hint.
    hinted: u32,
}

/// An acknowledgement.
#[derive(Clone, Copy, Debug)]
struct Acknowledgement {
    op: OpNumber,
    at_us: u64,
    demand: Demand,
    /// Owners that had it on disk and have not lost it since.
    owners: u32,
    /// Reads are not held to it any more, except by those owners.
    is_forsaken: bool,
}

/// Everything about one key.
#[derive(Debug)]
struct KeyTruth {
    address: Address,
    rule: ConflictRule,
    /// Who owns it, and what nodes know of that.
    ownership: Ownership,
    minted: Vec<Minting>,
    numbers: HashMap<Dot, usize>,
    /// The highest count of each actor that any context has claimed.
    claimed: BTreeMap<Actor, u64>,
    /// What is known by records, by digest.
    records: HashMap<u128, Rc<Dots>>,
    /// What contexts that were given out cover.
    tokens: HashMap<Bytes, Rc<Dots>>,
    /// What each node's record holds, on disk.
    held: Vec<Rc<Dots>>,
    acknowledgements: Vec<Acknowledgement>,
    /// Replaced by what an operator removed for good: it may never be seen again.
    reaped: Dots,
    /// All that was known by what an operator removed.
    forgotten: Dots,
    /// Of which no copy was left on any disk but those of nodes given up.
    abandoned: Dots,
    /// Too few owners were left once, where it would be looked for.
    was_bereft: bool,
    writes: Vec<OpNumber>,
}

/// The oracle of one run.
#[derive(Debug)]
pub struct Oracle {
    now_us: u64,
    token_key: TokenKey,
    level: Level,
    keys: Vec<KeyTruth>,
    by_store_key: HashMap<StoreKey, KeyNumber>,
    ops: Vec<Written>,
    by_op_id: HashMap<OpId, OpNumber>,
    by_value: HashMap<Bytes, OpNumber>,
    /// Every dot ever minted.
    dots: HashMap<Dot, (KeyNumber, usize)>,
    losses: Losses,
    violation: Option<Violation>,
    /// What happened that a test without it would prove little about.
    pub seen: Seen,
}

/// Things the oracle noticed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Operations minted more than once.
    pub twins: u64,
    /// Reads that showed several values.
    pub siblings: u64,
    /// Reads that had to show something because it was acknowledged.
    pub bound_reads: u64,
    /// Reads of keys all of whose values were deleted.
    pub deleted: u64,
    /// Reads that hid an expired value.
    pub expired: u64,
    /// Acknowledgements with a stand-in.
    pub stand_ins: u64,
    /// Acknowledged retries that minted nothing.
    pub recognised: u64,
    /// Acknowledgements that did not wait for the coordinator's own disk.
    pub without_own: u64,
    /// Layouts that left no majority of the owners of a key.
    pub bereft: u64,
    /// Acknowledged writes that were forsaken.
    pub forsaken: u64,
    /// Writes that were abandoned.
    pub abandoned: u64,
    /// Records that were judged.
    pub records: u64,
    /// Replies that were judged.
    pub replies: u64,
}

impl Oracle {
    /// An oracle for these keys, each with its conflict rule. Their owners are what layouts make them ([`Oracle::decided`]).
    pub fn new(token_key: TokenKey, level: Level, keys: Vec<(Address, ConflictRule)>, nodes: usize) -> Self {
        let by_store_key = keys.iter().enumerate().map(|(at, (address, _))| (address.store_key, at)).collect();
        let truth = |(address, rule)| KeyTruth {
            address,
            rule,
            ownership: Ownership::new(nodes),
            minted: Vec::new(),
            numbers: HashMap::new(),
            claimed: BTreeMap::new(),
            records: HashMap::new(),
            tokens: HashMap::new(),
            held: vec![Rc::default(); nodes],
            acknowledgements: Vec::new(),
            reaped: Dots::default(),
            forgotten: Dots::default(),
            abandoned: Dots::default(),
            was_bereft: false,
            writes: Vec::new(),
        };
        Self {
            now_us: 0,
            token_key,
            level,
            keys: keys.into_iter().map(truth).collect(),
            by_store_key,
            ops: Vec::new(),
            by_op_id: HashMap::new(),
            by_value: HashMap::new(),
            dots: HashMap::new(),
            losses: Losses::default(),
            violation: None,
            seen: Seen::default(),
        }
    }

    /// Tells the time, for reports.
    pub fn at(&mut self, now_us: u64) {
        self.now_us = now_us;
    }

    /// The first broken invariant.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Notes a broken invariant; the first counts.
    pub fn broken(&mut self, invariant: Invariant, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, what: what(), at_us: self.now_us });
        }
    }

    /// The number of a key.
    pub fn number(&self, store_key: &StoreKey) -> KeyNumber {
        self.by_store_key[store_key]
    }

    /// What `asked` means.
    pub fn demand(&self, asked: &Consistency) -> Demand {
        Demand::of(asked, self.level)
    }

    /// The owners of a key as they are to be.
    pub fn owners(&self, key: KeyNumber) -> &[usize] {
        self.keys[key].ownership.newest()
    }

    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// A key's address.
    pub fn address(&self, key: KeyNumber) -> &Address {
        &self.keys[key].address
    }

    /// How many writes a coordinator acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.ops.iter().filter(|op| op.acknowledged).count() as u64
    }

    fn text(&self, op: OpNumber) -> String {
        let Written { value, entitled, .. } = &self.ops[op];
        let what = match value {
            Some(value) => format!("put {:?}", String::from_utf8_lossy(&value[..value.len().min(12)])),
            None => "delete".to_owned(),
        };
        let entitled = match entitled {
            Entitled::Local => "local",
            Entitled::Nothing => "beside",
            Entitled::Found => "found",
            Entitled::Context(_) => "context",
        };
        format!("write {op} ({what}, {entitled}) of key {}", self.ops[op].key)
    }
}
