//! What a node remembers of the others so that it notices when one of them has forgotten: which data directory each ran on,
//! which of its processes introduced itself last, and how far its store had come. If a node that forgot went on as the old
//! owner, a quorum that counts it could miss what the old one had acknowledged (design, answers: "wiped owner keeps its
//! identity"). Three ways to forget are told apart from a normal restart, which remembers everything that was acknowledged:
//!
//! * an empty directory: its number is another one.
//! * an old copy of the directory, put back: the positions of its store, or the number of its start, are behind.
//! * a copy that runs beside the original: two processes are the same start of one directory, or a start comes after a later
//!   one.
//!
//! It does not judge the node it runs on: the others do, and tell it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use dynamo::ident::NodeId;

use crate::store::{OpenError, Store};

/// The first bytes of the stored form. Before it, there were only nodes and directories, 16 bytes each.
const MAGIC: &[u8; 8] = b"quorate2";
const FORMER_ENTRY_BYTES: usize = 32;

/// One process of a node: the how many-th start of its data directory it is, and a random number, since a copy of the
/// directory counts its starts by itself. Zero where a node does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Process(pub(crate) u128);

/// What a node says about itself when it introduces itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'c> {
    /// Its data directory.
    pub(crate) directory: u128,
    /// Which of its processes.
    pub(crate) process: Process,
    /// How many changes each shard of its store had made durable when this process started.
    pub(crate) positions: &'c [u64],
}

/// What is remembered of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Acquaintance {
    directory: u128,
    process: Process,
    /// The highest that were heard.
    positions: Vec<u64>,
}

/// The nodes that have introduced themselves; durable at once where a process comes or goes, and within about a second where
/// only positions grow.
#[derive(Debug)]
pub(crate) struct Acquaintances {
    me: Process,
    memory: Mutex<Memory>,
    /// Whoever writes to the store holds this from before it looks into the memory, so that nothing older is written over anything
    /// newer. The memory itself is not held meanwhile: every reply of a peer looks into it, and none shall wait for a disk.
    order: Mutex<()>,
}

#[derive(Debug, Default)]
struct Memory {
    known: BTreeMap<NodeId, Acquaintance>,
    is_unsaved: bool,
}

/// Why a node is not accepted.
#[derive(Debug)]
pub(crate) enum Stranger {
    /// It ran on another directory before.
    OtherDirectory {
        /// The directory it had.
        known: u128,
    },
    /// Its directory is an old copy of what it was.
    OldCopy {
        /// Which shard shows it.
        shard: usize,
        /// How far that had come.
        known: u64,
        /// How far it has come now.
        now: u64,
    },
    /// Another process introduced itself under the directory, which started as late or later.
    Superseded {
        /// The start of that one.
        known: u64,
        /// The start of this one.
        now: u64,
    },
    /// What was heard can't be remembered, so it can't be relied on.
    Forgetful(OpenError),
}

impl Process {
    fn new(start: u64, random: u64) -> Self {
        Self(u128::from(start) << 64 | u128::from(random))
    }

    fn start(self) -> u64 {
        (self.0 >> 64) as u64
    }

    fn is_unsaid(self) -> bool {
        self.0 == 0
    }
}

impl Acquaintances {
    /// Those a store remembers. Counts this start of the directory, durably.
    pub(crate) fn recall(store: &Store, random: u64) -> Result<Self, OpenError> {
        let (starts, known) = decode(&store.acquaintances()?);
        let me = Process::new(starts + 1, random);
        store.put_acquaintances(&encode(me.start(), &known))?;
        Ok(Self { me, memory: Mutex::new(Memory { known, is_unsaved: false }), order: Mutex::new(()) })
    }

    /// Which process of this node this is.
    pub(crate) fn me(&self) -> Process {
        self.me
    }

    /// A node introduces itself. Remembers that durably when it is its first process or a later one, and refuses it when it
    /// must have forgotten something.
    pub(crate) fn meet(&self, store: &Store, node: NodeId, claim: &Claim<'_>) -> Result<(), Stranger> {
        let _order = self.order();
        let (before, bytes) = {
            let mut memory = self.memory();
            let before = memory.known.get(&node).cloned();
            let Some(after) = judge(before.as_ref(), claim)? else { return Ok(()) };
            memory.known.insert(node, after);
            (before, encode(self.me.start(), &memory.known))
        };
        store.put_acquaintances(&bytes).map_err(|error| {
            let known = &mut self.memory().known;
            match before {
                Some(before) => known.insert(node, before),
                None => known.remove(&node),
            };
            Stranger::Forgetful(error)
        })
    }

    /// Whether this is the latest process of a node; also when the node does not say which it is.
    pub(crate) fn is_latest(&self, node: NodeId, process: Process) -> bool {
        process.is_unsaid() || self.memory().known.get(&node).is_none_or(|known| known.process == process)
    }

    /// A process of a node says how far its store has come.
    pub(crate) fn heard(&self, node: NodeId, process: Process, positions: &[u64]) {
        let memory = &mut *self.memory();
        if let Some(known) = memory.known.get_mut(&node)
            && known.process == process
        {
            memory.is_unsaved |= raise(&mut known.positions, positions);
        }
    }

    /// Makes durable what was heard, if there is anything new. Blocks.
    pub(crate) fn save(&self, store: &Store) -> Result<(), OpenError> {
        let _order = self.order();
        let bytes = {
            let mut memory = self.memory();
            if !memory.is_unsaved {
                return Ok(());
            }
            memory.is_unsaved = false;
            encode(self.me.start(), &memory.known)
        };
        store.put_acquaintances(&bytes).inspect_err(|_| self.memory().is_unsaved = true)
    }

    fn order(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to remember of a node from now on; nothing new where it is `None`.
fn judge(known: Option<&Acquaintance>, claim: &Claim<'_>) -> Result<Option<Acquaintance>, Stranger> {
    let Claim { directory, process, positions } = *claim;
    let Some(known) = known else {
        return Ok(Some(Acquaintance { directory, process, positions: positions.to_vec() }));
    };
    if known.directory != directory {
        return Err(Stranger::OtherDirectory { known: known.directory });
    }
    if process.is_unsaid() || process == known.process {
        return Ok(None);
    }
    if process.start() <= known.process.start() {
        return Err(Stranger::Superseded { known: known.process.start(), now: process.start() });
    }
    for (shard, &known) in known.positions.iter().enumerate() {
        let now = positions.get(shard).copied().unwrap_or_default();
        if now < known {
            return Err(Stranger::OldCopy { shard, known, now });
        }
    }
    let mut after = Acquaintance { process, ..known.clone() };
    raise(&mut after.positions, positions);
    Ok(Some(after))
}

/// Raises each position to what was heard of it, and says whether any rose.
fn raise(known: &mut Vec<u64>, heard: &[u64]) -> bool {
    let mut has_risen = false;
    if known.len() < heard.len() {
        known.resize(heard.len(), 0);
    }
    for (known, &heard) in known.iter_mut().zip(heard) {
        has_risen |= heard > *known;
        *known = heard.max(*known);
    }
    has_risen
}

/// The stored form: the magic, this directory's starts, then for each node who it is, its directory, its process, and its
/// positions behind their number.
fn encode(starts: u64, known: &BTreeMap<NodeId, Acquaintance>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&starts.to_be_bytes());
    for (node, Acquaintance { directory, process, positions }) in known {
        for number in [node.0, *directory, process.0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.push(positions.len() as u8);
        positions.iter().for_each(|position| bytes.extend_from_slice(&position.to_be_bytes()));
    }
    bytes
}

fn decode(bytes: &[u8]) -> (u64, BTreeMap<NodeId, Acquaintance>) {
    let number = |bytes: &[u8]| bytes.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        let entry = |entry: &[u8]| {
            let directory = number(&entry[16..]);
            (NodeId(number(&entry[..16])), Acquaintance { directory, ..Acquaintance::default() })
        };
        return (0, bytes.chunks_exact(FORMER_ENTRY_BYTES).map(entry).collect());
    };
    let mut take = |count: usize| rest.split_off(..count).map(number);
    let starts = take(8).unwrap_or_default() as u64;
    let mut known = BTreeMap::new();
    // LMDB keeps it whole: it ends where an entry ends.
    while let (Some(node), Some(directory), Some(process), Some(count)) = (take(16), take(16), take(16), take(1)) {
        let positions = (0..count).map_while(|_| take(8)).map(|position| position as u64).collect();
        known.insert(NodeId(node), Acquaintance { directory, process: Process(process), positions });
    }
    (starts, known)
}

impl fmt::Display for Stranger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WAY_OUT: &str = "What it acknowledged meanwhile may be missing here, so it must not vote as the old owner did. \
                               Leave this directory as it is, and let a node with an empty directory and another name take its place, \
                               as a replacement: quorate serve --join HOST:PORT --replace NAME; delete nothing else";
        match self {
            Self::OtherDirectory { known } => write!(
                formatter,
                "it ran on data directory {known:032x} before: it has lost its data, or another one uses its name. It must \
                 not vote as the old one did: give it back its directory, or let a node with an empty directory and another name \
                 take its place: quorate serve --join HOST:PORT --replace NAME"
            ),
            Self::OldCopy { shard, known, now } => write!(
                formatter,
                "its data directory is an old copy: shard {shard} had made {known} changes durable, and this copy has only \
                 {now}. {WAY_OUT}"
            ),
            Self::Superseded { known, now } => write!(
                formatter,
                "its data directory is an old copy, or two processes run on copies of it: this is start {now} of the \
                 directory, and another process introduced itself as start {known}. {WAY_OUT}"
            ),
            Self::Forgetful(error) => write!(formatter, "what it says can't be remembered: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dynamo::ident::NodeId;

    use super::{Acquaintance, Claim, Process, Stranger, decode, encode, judge};

    fn claim(start: u64, random: u64, positions: &[u64]) -> Claim<'_> {
        Claim { directory: 1, process: Process::new(start, random), positions }
    }

    fn met(known: &Acquaintance, claim: &Claim<'_>) -> Acquaintance {
        judge(Some(known), claim).unwrap().unwrap_or_else(|| known.clone())
    }

    #[test]
    fn restarts_are_welcome_whatever_was_heard_meanwhile() {
        let mut known = judge(None, &claim(1, 9, &[0, 0])).unwrap().unwrap();
        for start in 2..9 {
            super::raise(&mut known.positions, &[start * 10, start * 7]);
            // Another worker of the same process comes with what held when the process started.
            known = met(&known, &claim(start - 1, 9, &[0, 0]));
            known = met(&known, &claim(start, 9, &[start * 10, start * 7 + 1]));
        }
        assert_eq!(known.positions, [80, 57]);
    }

    #[test]
    fn an_old_copy_is_refused_by_its_positions() {
        let known = judge(None, &claim(4, 9, &[100, 50])).unwrap().unwrap();
        let refused = judge(Some(&known), &claim(5, 8, &[100, 49])).unwrap_err();
        assert!(matches!(refused, Stranger::OldCopy { shard: 1, known: 50, now: 49 }), "{refused:?}");
        let refused = judge(Some(&known), &claim(5, 8, &[100])).unwrap_err();
        assert!(matches!(refused, Stranger::OldCopy { shard: 1, known: 50, now: 0 }), "{refused:?}");
        let message = refused.to_string();
        for expected in ["old copy", "empty directory", "replacement", "delete nothing"] {
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_copy_beside_the_original_is_refused_and_so_is_the_original_once_the_copy_was_first() {
        let known = judge(None, &claim(4, 9, &[100])).unwrap().unwrap();
        for (start, random) in [(4, 8), (3, 9), (1, 1)] {
            let refused = judge(Some(&known), &claim(start, random, &[100])).unwrap_err();
            assert!(matches!(refused, Stranger::Superseded { known: 4, .. }), "{refused:?}");
        }
        // A copy that nobody could tell from a restart; then the original is still there.
        let known = met(&known, &claim(5, 7, &[100]));
        assert!(matches!(judge(Some(&known), &claim(4, 9, &[100])), Err(Stranger::Superseded { known: 5, now: 4 })));
    }

    #[test]
    fn an_emptied_directory_is_refused_whatever_else_it_says() {
        let known = judge(None, &claim(4, 9, &[100])).unwrap().unwrap();
        let emptied = Claim { directory: 2, ..claim(1, 1, &[0]) };
        assert!(matches!(judge(Some(&known), &emptied), Err(Stranger::OtherDirectory { known: 1 })));
    }

    #[test]
    fn it_is_stored_and_read_back_and_the_form_before_this_one_too() {
        let entry = |directory, process, positions: &[u64]| Acquaintance {
            directory,
            process: Process(process),
            positions: positions.to_vec(),
        };
        let known = BTreeMap::from([
            (NodeId(7), entry(1, 2, &[])),
            (NodeId(u128::MAX), entry(u128::MAX, u128::MAX, &[u64::MAX; 16])),
        ]);
        assert_eq!(decode(&encode(12, &known)), (12, known));
        let former: Vec<u8> = [7_u128, 8].into_iter().flat_map(u128::to_be_bytes).collect();
        assert_eq!(decode(&former), (0, BTreeMap::from([(NodeId(7), entry(8, 0, &[]))])));
        assert_eq!(decode(&[]), (0, BTreeMap::new()));
    }
}
