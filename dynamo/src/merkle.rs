//! Hash trees (paper, section 4.7): one per partition of a replica, so that two owners find out what differs between them by
//! comparing sums instead of keys.
//!
//! A record's term is a hash of its key and its digest, and the digest covers versions and context. A range's sum is the sum
//! of its terms: unlike a hash of hashes it is changed by adding and subtracting, in any order, without reading the neighbours. A
//! node of the tree holds the sums of the 256 ranges that one byte more of the identifier tells apart. The root is
//! always in memory; a range gets a node of its own when it has more keys than one short scan reads, so whatever memory does
//! not hold is answered from the keys themselves ([`answer_of`]).
//!
//! It knows neither the store nor the network: it is fed what the replica says has changed ([`crate::replica::Rows::changed`]), and who
//! compares trees with whom is the business of the exchange.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    bug::{self, Bug},
    ident::StoreKey,
    peer::{TreePath, TreeSum},
    replica::Listed,
};

mod answer;
mod codec;
mod path;

pub use answer::{KEYS_MAX, Listing, UNREADABLE, answer_of, check};
pub use codec::{NODE_BYTES, NodeError};

/// Ranges a node tells apart: those that one byte of the identifier does.
pub const FANOUT: usize = 256;

/// A range with more keys gets a node of its own. It is what one chunk of a scan reads, so a range without a node can always be listed
/// at once; a node then costs 3 to 12 bytes for each of its keys, and less the more there are.
pub const LEAF_KEYS_MAX: u32 = 1_000;

/// The hash of one record in a tree.
pub fn term(store_key: &StoreKey, digest: u128) -> u64 {
    let mut bytes = [0; 48];
    bytes[..32].copy_from_slice(&store_key.0);
    if !bug::is_on(Bug::TreeIgnoresVersions) {
        bytes[32..].copy_from_slice(&digest.to_le_bytes());
    }
    xxh3_64(&bytes)
}

/// What a changed record changes in a tree. Small and without a key, because every write leaves one in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The first 64 bits of the key's identifier.
    pub at: u64,
    /// How many records there are more: 1, 0 or −1.
    pub count: i8,
    /// What is added to the sum. `None` if that is unknown, because what stood there could not be read: the range must be
    /// counted anew.
    pub sum: Option<u64>,
}

impl Change {
    /// A record with the digest `before` gave way to one with the digest `after`.
    pub fn of(store_key: &StoreKey, before: Option<u128>, after: Option<u128>) -> Self {
        let term = |digest: Option<u128>| digest.map_or(0, |digest| term(store_key, digest));
        let count = i8::from(after.is_some()) - i8::from(before.is_some());
        Self { at: path::position(store_key), count, sum: Some(term(after).wrapping_sub(term(before))) }
    }

    /// A record that a tree begins with. One that can't be read counts, and adds nothing.
    pub fn planted(listed: &Listed) -> Self {
        let digest = listed.outline.map(|(digest, _)| digest);
        let change = Self::of(&listed.store_key, None, Some(digest.unwrap_or(0)));
        Self { sum: if digest.is_some() { change.sum } else { Some(0) }, ..change }
    }

    /// A record that could not be read gave way to one with the digest `after`, or to none.
    pub fn of_unknown(store_key: &StoreKey, after: Option<u128>) -> Self {
        Self { at: path::position(store_key), count: i8::from(after.is_some()) - 1, sum: None }
    }
}

/// What a tree's keeper must do about a range after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The node of this range differs from its stored copy, which it did not before.
    Stale(TreePath),
    /// The range has more keys than one without a node should: list it and call [`Tree::recount`].
    Crowded(TreePath),
    /// The sum of the range is no longer known: list it and call [`Tree::recount`].
    Unknown(TreePath),
}

/// A range has not as many keys as were counted into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How many there should be.
    pub counted: u64,
    /// How many were listed.
    pub found: u64,
}

/// The tree of one partition.
#[derive(Clone, Debug)]
pub struct Tree {
    path: TreePath,
    root: Node,
}

/// The sums of the 256 parts of one range.
#[derive(Clone, Debug)]
struct Node {
    counts: Box<[u32; FANOUT]>,
    sums: Box<[u64; FANOUT]>,
    /// Nodes of those parts that have one.
    below: BTreeMap<u8, Self>,
    /// Changes up to this position of the log are in it since it was made.
    since: u64,
    /// Whether it has changed since it was stored.
    is_stale: bool,
}

impl Tree {
    /// The tree of a partition without records.
    pub fn new(prefix: u32, bits: u8) -> Self {
        Self { path: TreePath::of_partition(prefix, bits), root: Node::new(0) }
    }

    /// The partition's range.
    pub fn path(&self) -> TreePath {
        self.path
    }

    /// Brings in the change that stands at a position of the log. A node that had it when it was stored is left alone.
    pub fn apply(&mut self, change: &Change, position: u64, notice: &mut impl FnMut(Notice)) {
        let (mut node, mut path) = (&mut self.root, self.path);
        loop {
            let part = path.part_of(change.at);
            let slot = usize::from(part);
            let is_news = position > node.since;
            if is_news {
                node.counts[slot] = node.counts[slot].wrapping_add_signed(i32::from(change.count));
                node.sums[slot] = node.sums[slot].wrapping_add(change.sum.unwrap_or(0));
                node.stale(path, notice);
            }
            let is_split = node.below.contains_key(&part);
            let count = node.counts[slot];
            let Some(child) = path.child(part) else { return };
            if !is_split {
                if change.sum.is_none() {
                    notice(Notice::Unknown(child));
                }
                // Once, when it has just become so.
                if is_news && change.count > 0 && is_crowded(&child, count) && !is_crowded(&child, count - 1) {
                    notice(Notice::Crowded(child));
                }
                return;
            }
            let Some(below) = node.below.get_mut(&part) else { return };
            (node, path) = (below, child);
        }
    }

    /// Makes the sum of a range anew from all its keys; those whose records can't be read have no digest. A range with many keys gets a
    /// node. Does nothing if the range has a node already, or if there is none around it any more.
    pub fn recount(
        &mut self,
        range: &TreePath,
        keys: &[(StoreKey, Option<u128>)],
        position: u64,
        notice: &mut impl FnMut(Notice),
    ) -> Result<(), Lost> {
        let Some((parent, part)) = range.parent() else { return Ok(()) };
        let slot = usize::from(part);
        let Some((known, old)) = self
            .node(&parent)
            .filter(|node| !node.below.contains_key(&part))
            .map(|node| (node.counts[slot], node.sums[slot]))
        else {
            return Ok(());
        };
        if known as usize != keys.len() {
            return Err(Lost { counted: u64::from(known), found: keys.len() as u64 });
        }
        let sum = keys
            .iter()
            .fold(0_u64, |sum, (key, digest)| sum.wrapping_add(digest.map_or(0, |digest| term(key, digest))));
        let change = Change { at: range.prefix, count: 0, sum: Some(sum.wrapping_sub(old)) };
        self.adjust(&change, range.bits, notice);
        if is_crowded(range, known) {
            let mut node = Node::new(position);
            for (key, digest) in keys {
                let slot = usize::from(range.part_of(path::position(key)));
                node.counts[slot] += 1;
                node.sums[slot] = node.sums[slot].wrapping_add(digest.map_or(0, |digest| term(key, digest)));
            }
            node.stale(*range, notice);
            let mut parts = Vec::new();
            node.crowded(*range, &mut parts);
            parts.into_iter().for_each(|part| notice(Notice::Crowded(part)));
            if let Some(parent) = self.node_mut(&parent) {
                parent.below.insert(part, node);
            }
        }
        Ok(())
    }

    /// The ranges without a node that have more keys than they should.
    pub fn crowded(&self) -> Vec<TreePath> {
        let mut found = Vec::new();
        self.root.crowded(self.path, &mut found);
        found
    }

    /// What the whole partition holds.
    pub fn total(&self) -> TreeSum {
        self.root.total()
    }

    /// The smallest range without a node that an identifier beginning with these 64 bits lies in, and what it holds.
    pub fn leaf(&self, at: u64) -> (TreePath, TreeSum) {
        let (mut node, mut path) = (&self.root, self.path);
        loop {
            let part = path.part_of(at);
            let Some(child) = path.child(part) else { return (path, node.total()) };
            match node.below.get(&part) {
                Some(below) => (node, path) = (below, child),
                None => return (child, node.slot(part)),
            }
        }
    }

    /// The sum of a range, if it is in memory.
    fn sum(&self, range: &TreePath) -> Option<TreeSum> {
        match self.node(range) {
            Some(node) => Some(node.total()),
            None => {
                let (parent, part) = range.parent()?;
                Some(self.node(&parent)?.slot(part))
            }
        }
    }

    /// Changes the sums of all ranges around one, down to `bits`, outside of the log.
    fn adjust(&mut self, change: &Change, bits: u8, notice: &mut impl FnMut(Notice)) {
        let (mut node, mut path) = (&mut self.root, self.path);
        while path.bits < bits {
            let part = path.part_of(change.at);
            if change.sum != Some(0) {
                node.sums[usize::from(part)] = node.sums[usize::from(part)].wrapping_add(change.sum.unwrap_or(0));
                node.stale(path, notice);
            }
            match (path.child(part), node.below.get_mut(&part)) {
                (Some(child), Some(below)) => (node, path) = (below, child),
                (_, _) => return,
            }
        }
    }

    fn node(&self, range: &TreePath) -> Option<&Node> {
        let (mut node, mut path) = (&self.root, self.path);
        while path.bits < range.bits {
            let part = path.part_of(range.prefix);
            (node, path) = (node.below.get(&part)?, path.child(part)?);
        }
        (path == *range).then_some(node)
    }

    fn node_mut(&mut self, range: &TreePath) -> Option<&mut Node> {
        let (mut node, mut path) = (&mut self.root, self.path);
        while path.bits < range.bits {
            let part = path.part_of(range.prefix);
            (node, path) = (node.below.get_mut(&part)?, path.child(part)?);
        }
        (path == *range).then_some(node)
    }

    /// Bytes of memory it takes, about.
    pub fn memory_bytes(&self) -> usize {
        self.root.memory_bytes()
    }
}

impl Node {
    fn new(since: u64) -> Self {
        let (counts, sums) = (Box::new([0; FANOUT]), Box::new([0; FANOUT]));
        Self { counts, sums, below: BTreeMap::new(), since, is_stale: false }
    }

    fn stale(&mut self, path: TreePath, notice: &mut impl FnMut(Notice)) {
        if !self.is_stale {
            self.is_stale = true;
            notice(Notice::Stale(path));
        }
    }

    fn slot(&self, part: u8) -> TreeSum {
        TreeSum { count: u64::from(self.counts[usize::from(part)]), sum: self.sums[usize::from(part)] }
    }

    fn slots(&self) -> Vec<TreeSum> {
        (0..=u8::MAX).map(|part| self.slot(part)).collect()
    }

    fn total(&self) -> TreeSum {
        TreeSum {
            count: self.counts.iter().map(|count| u64::from(*count)).sum(),
            sum: self.sums.iter().fold(0, |sum, part| sum.wrapping_add(*part)),
        }
    }

    fn crowded(&self, path: TreePath, found: &mut Vec<TreePath>) {
        for part in 0..=u8::MAX {
            let Some(child) = path.child(part) else { return };
            match self.below.get(&part) {
                Some(below) => below.crowded(child, found),
                None if is_crowded(&child, self.counts[usize::from(part)]) => found.push(child),
                None => {}
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        let own = size_of::<Self>() + size_of::<[u32; FANOUT]>() + size_of::<[u64; FANOUT]>();
        own + self.below.values().map(Self::memory_bytes).sum::<usize>()
    }
}

fn is_crowded(range: &TreePath, keys: u32) -> bool {
    keys > LEAF_KEYS_MAX && range.child(0).is_some()
}

#[cfg(test)]
mod tests;
