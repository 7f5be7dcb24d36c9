//! Clients: each does one thing at a time, remembers what it was shown, and sometimes retries what failed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dynamo::{
    ident::OpId,
    layout::Level,
    operation::{Action, Basis, Consistency},
};

use super::{
    history::{History, Replaces, WriteId},
    random::Random,
};

/// Keys of the first half are only written in ways whose effect a client can know; on the others anything goes.
pub(crate) const KEYS: usize = 4;

/// How many owners a key has.
pub(crate) const REPLICAS: u8 = 3;

/// A client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    number: u64,
    sequence: u64,
    /// By key: the last context it was given, and the writes that context covers.
    contexts: BTreeMap<usize, (Bytes, BTreeSet<WriteId>)>,
    pub(crate) pending: Option<Pending>,
    /// A write that failed and may be tried again.
    failed: Option<(WriteId, Asked)>,
}

/// What a client asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) key: usize,
    pub(crate) consistency: Consistency,
    pub(crate) action: Action,
}

/// What a client waits for.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) asked: Asked,
    /// The write; `None` for a read.
    pub(crate) write: Option<WriteId>,
    /// When it began, in events.
    pub(crate) begun: u64,
}

impl Client {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, sequence: 0, contexts: BTreeMap::new(), pending: None, failed: None }
    }

    /// Chooses what to do next.
    pub(crate) fn begin(&mut self, random: &mut Random, history: &mut History, at: u64) -> Asked {
        if let Some((write, asked)) = self.failed.take().filter(|_| random.chance(700)) {
            history.begin_again(write);
            self.pending = Some(Pending { asked: asked.clone(), write: Some(write), begun: at });
            return asked;
        }
        let key = random.below(KEYS);
        let quorum = (Level::Quorum, 2);
        // Whoever answers at `available` may be a stand-in, so nobody is sure to be met.
        let sloppy = (Level::Available, 0);
        let levels = [(Level::One, 1), quorum, quorum, sloppy, sloppy, sloppy, (Level::All, 3)];
        let (level, need) = *random.pick(&levels);
        let consistency = Consistency { level: Some(level), ..Consistency::default() };
        if random.chance(450) {
            let asked = Asked { key, consistency, action: Action::Get { without_values: false } };
            self.pending = Some(Pending { asked: asked.clone(), write: None, begun: at });
            return asked;
        }
        self.sequence += 1;
        let op_id = OpId { client: self.number, sequence: self.sequence };
        let (basis, replaces) = self.basis(key, random);
        let deletes = random.chance(250) && basis != Basis::Beside;
        let value = (!deletes).then(|| format!("{}-{}", self.number, self.sequence));
        let write = history.begin(key, op_id, value.clone(), replaces, (need, REPLICAS), at);
        let action = match value {
            Some(value) => {
                Action::Put { value: Bytes::from(value), hash: None, basis, op_id, seen_clock: 0, ttl_ms: 0 }
            }
            None => Action::Delete { basis, op_id, seen_clock: 0 },
        };
        let asked = Asked { key, consistency, action };
        self.pending = Some(Pending { asked: asked.clone(), write: Some(write), begun: at });
        asked
    }

    fn basis(&self, key: usize, random: &mut Random) -> (Basis, Replaces) {
        let beside = (Basis::Beside, Replaces::Exactly(BTreeSet::new()));
        match self.contexts.get(&key) {
            Some((context, covered)) if random.chance(600) => {
                (Basis::Context(context.clone()), Replaces::Exactly(covered.clone()))
            }
            _ if key < KEYS / 2 || random.chance(300) => beside,
            _ => (Basis::Local, Replaces::Unknown),
        }
    }

    /// Remembers a context and what it covers.
    pub(crate) fn learn(&mut self, key: usize, context: Bytes, covered: BTreeSet<WriteId>) {
        self.contexts.insert(key, (context, covered));
    }

    /// Remembers a write to be tried again.
    pub(crate) fn may_retry(&mut self, write: WriteId, asked: Asked) {
        self.failed = Some((write, asked));
    }
}
