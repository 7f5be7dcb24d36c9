//! The hash trees of a shard in memory, one per partition, and what is left to do about them: nodes to be stored, ranges to be
//! counted. Changed only by the shard's writer, after each commit and before anybody is told of it.

use std::collections::{BTreeSet, HashMap, VecDeque};

use dynamo::{
    ident::StoreKey,
    merkle::{Change, Lost, Notice, Tree},
    peer::{TreeAnswer, TreeAsk, TreePath, TreeSum},
};

/// The position of the first change there ever was.
pub(super) const FIRST_POSITION: u64 = 1;

/// A partition by bits and prefix.
pub(super) type Place = (u8, u32);

/// A partition and one of its ranges.
pub(super) type Range = (Place, TreePath);

/// The trees of a shard.
#[derive(Debug, Default)]
pub(super) struct Forest {
    /// The last change that is in the trees.
    position: u64,
    /// The bits that partitions have here: one number, unless the ring is about to be doubled.
    bits: BTreeSet<u8>,
    trees: HashMap<Place, Tree>,
    /// Nodes that differ from their stored copies, in the order in which they began to, each with the first change its copy lacks.
    stale: VecDeque<(u64, Range)>,
    /// Ranges that are to be listed and counted.
    uncounted: BTreeSet<Range>,
}

/// Nodes as bytes, to be stored in one transaction.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    pub(super) nodes: Vec<(TreePath, Vec<u8>)>,
    ranges: Vec<(u64, Range)>,
    /// The first change that is needed when these are stored.
    pub(super) needed: u64,
}

impl Forest {
    /// Trees that stand for nothing yet, to be filled from a position on.
    pub(super) fn at(position: u64) -> Self {
        Self { position, ..Self::default() }
    }

    /// The position the trees stand for.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Has a tree for a partition from now on.
    pub(super) fn adopt(&mut self, (bits, prefix): Place) {
        self.bits.insert(bits);
        self.trees.entry((bits, prefix)).or_insert_with(|| Tree::new(prefix, bits));
    }

    /// Takes a tree as it was stored; changes behind the copies of its nodes are yet to come.
    pub(super) fn plant(&mut self, place: Place, tree: Tree) {
        self.bits.insert(place.0);
        self.trees.insert(place, tree);
    }

    /// Takes a tree that was made anew: its stored copy must not be relied on, whatever position it stands for.
    pub(super) fn replant(&mut self, place: Place, tree: Tree) {
        self.stale.retain(|(_, (stale, _))| *stale != place);
        self.uncounted.retain(|(uncounted, _)| *uncounted != place);
        self.stale.push_front((FIRST_POSITION, (place, tree.path())));
        self.plant(place, tree);
    }

    /// Takes the tree of a partition that has come to be, made of all its records.
    pub(super) fn graft(&mut self, place: Place, tree: Tree) {
        let crowded = tree.crowded();
        self.replant(place, tree);
        self.uncounted.extend(crowded.into_iter().map(|range| (place, range)));
    }

    /// Has no tree for a partition any more.
    pub(super) fn uproot(&mut self, place: Place) {
        self.stale.retain(|(_, (stale, _))| *stale != place);
        self.uncounted.retain(|(uncounted, _)| *uncounted != place);
        self.trees.remove(&place);
        self.bits = self.trees.keys().map(|(bits, _)| *bits).collect();
    }

    /// The position is known although the changes up to there are not.
    pub(super) fn skip_to(&mut self, position: u64) {
        self.position = position;
    }

    /// Brings in changes that have just been committed.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.apply_at(self.position + 1, change);
        }
    }

    /// Brings in the change of a position.
    pub(super) fn apply_at(&mut self, position: u64, change: &Change) {
        self.position = position;
        let (stale, uncounted) = (&mut self.stale, &mut self.uncounted);
        for bits in &self.bits {
            let place = (*bits, prefix_of(change.at, *bits));
            if let Some(tree) = self.trees.get_mut(&place) {
                tree.apply(change, position, &mut |notice| note(stale, uncounted, place, position, notice));
            }
        }
    }

    /// After a replay: looks for what must be counted, and drops copies that contradict each other.
    pub(super) fn settle(&mut self) {
        let position = self.position + 1;
        for (place, tree) in &mut self.trees {
            let (stale, uncounted) = (&mut self.stale, &mut self.uncounted);
            tree.prune(&mut |notice| note(stale, uncounted, *place, position, notice));
            uncounted.extend(tree.crowded().into_iter().map(|range| (*place, range)));
        }
    }

    /// A range that is to be counted.
    pub(super) fn uncounted(&self) -> Option<Range> {
        self.uncounted.first().copied()
    }

    /// Whether the sum of a range is to be relied on.
    pub(super) fn is_counted(&self, range: &Range) -> bool {
        !self.uncounted.contains(range)
    }

    /// Counts a range by all its keys as of the position of the trees.
    pub(super) fn recount(&mut self, range: &Range, keys: &[(StoreKey, Option<u128>)]) -> Result<(), Lost> {
        let (place, path) = range;
        self.uncounted.remove(range);
        let (stale, uncounted) = (&mut self.stale, &mut self.uncounted);
        // What it changes is in no entry of the log: the copy lacks something only from the next change on.
        let position = self.position + 1;
        let Some(tree) = self.trees.get_mut(place) else { return Ok(()) };
        tree.recount(path, keys, self.position, &mut |notice| note(stale, uncounted, *place, position, notice))
    }

    /// What is to be stored next, the longest overdue first. Nothing while ranges wait to be counted: a copy must not stand for a position
    /// at which it was not right.
    pub(super) fn checkpoint(&self, nodes_max: usize) -> Checkpoint {
        let mut checkpoint = Checkpoint { needed: self.position + 1, ..Checkpoint::default() };
        if !self.uncounted.is_empty() {
            checkpoint.needed = 0;
            return checkpoint;
        }
        for (since, (place, path)) in &self.stale {
            if checkpoint.nodes.len() == nodes_max {
                checkpoint.needed = *since;
                break;
            }
            if let Some(bytes) = self.trees.get(place).and_then(|tree| tree.encode(path, self.position)) {
                checkpoint.nodes.push((*path, bytes));
            }
            checkpoint.ranges.push((*since, (*place, *path)));
        }
        checkpoint
    }

    /// What was to be stored is durable; nothing has been applied since.
    pub(super) fn stored(&mut self, checkpoint: &Checkpoint) {
        for range in &checkpoint.ranges {
            debug_assert_eq!(self.stale.front(), Some(range));
            self.stale.pop_front();
            let (_, (place, path)) = range;
            if let Some(tree) = self.trees.get_mut(place) {
                tree.stored(path);
            }
        }
    }

    /// How many nodes differ from their stored copies.
    pub(super) fn stale(&self) -> usize {
        self.stale.len()
    }

    /// What a whole partition holds.
    pub(super) fn total(&self, place: Place) -> Option<TreeSum> {
        self.trees.get(&place).map(Tree::total)
    }

    /// The smallest range known to hold these first 64 bits of an id, and what it holds.
    pub(super) fn leaf(&self, place: Place, at: u64) -> Option<(TreePath, TreeSum)> {
        self.trees.get(&place).map(|tree| tree.leaf(at))
    }

    /// The answer to a question, if memory holds it.
    pub(super) fn answer(&self, place: Place, path: &TreePath, ask: TreeAsk) -> Option<TreeAnswer> {
        self.trees.get(&place)?.answer(path, ask)
    }

    /// Bytes of memory that all trees take, about.
    pub(super) fn memory_bytes(&self) -> usize {
        let around = self.trees.len() * size_of::<(Place, Tree)>();
        around + self.trees.values().map(Tree::memory_bytes).sum::<usize>()
    }
}

fn note(
    stale: &mut VecDeque<(u64, Range)>,
    uncounted: &mut BTreeSet<Range>,
    place: Place,
    position: u64,
    notice: Notice,
) {
    match notice {
        Notice::Stale(path) => stale.push_back((position, (place, path))),
        Notice::Crowded(path) | Notice::Unknown(path) => drop(uncounted.insert((place, path))),
    }
}

/// The partition, among those of so many bits, of an id by its first 64.
fn prefix_of(at: u64, bits: u8) -> u32 {
    at.checked_shr(64 - u32::from(bits)).map_or(0, |prefix| prefix as u32)
}
