//! Nodes of a tree as bytes, for the stored copies that a restart begins with. A copy says which position of the log it
//! stands for; what comes behind that is applied again.
//!
//! Layout, integers little end first: `format u8 = 1 | xxh3-128 over the rest, seeded by the range | position u64 | 256 × { count
//! u32, sum u64 }`.

use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::{FANOUT, Node, Notice, Tree};
use crate::peer::{TreePath, TreeSum};

/// Length of an encoded node: less than a page of 4 KiB with what a store puts around it.
pub const NODE_BYTES: usize = BODY_AT + 8 + FANOUT * SLOT_BYTES;

const FORMAT: u8 = 1;
const BODY_AT: usize = 17;
const SLOT_BYTES: usize = 12;

/// Why the stored copy of a node can't be used. The tree can be made anew from the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeError {
    /// Its length or its checksum is wrong, or it belongs to another range.
    Damaged,
    /// It has a format this version of the software does not know.
    UnknownFormat(u8),
    /// It belongs to no range of this tree.
    Misplaced,
}

impl Tree {
    /// The node of a range as bytes, standing for all changes up to a position; `None` if there is no such node.
    pub fn encode(&self, range: &TreePath, position: u64) -> Option<Vec<u8>> {
        let node = self.node(range)?;
        let mut bytes = Vec::with_capacity(NODE_BYTES);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&[0; BODY_AT - 1]);
        bytes.extend_from_slice(&position.to_le_bytes());
        for (count, sum) in node.counts.iter().zip(node.sums.iter()) {
            bytes.extend_from_slice(&count.to_le_bytes());
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        let checksum = checksum(range, &bytes);
        bytes[1..BODY_AT].copy_from_slice(&checksum.to_le_bytes());
        Some(bytes)
    }

    /// Notes that the stored copy of a node is like the node now.
    pub fn stored(&mut self, range: &TreePath) {
        if let Some(node) = self.node_mut(range) {
            node.is_stale = false;
        }
    }

    /// Takes over the stored copy of a node. Nodes of wide ranges come before those of their parts.
    pub fn restore(&mut self, range: &TreePath, bytes: &[u8]) -> Result<(), NodeError> {
        let node = decode(range, bytes)?;
        if *range == self.path {
            self.root = node;
            return Ok(());
        }
        let (parent, part) = range.parent().ok_or(NodeError::Misplaced)?;
        let parent = self.node_mut(&parent).ok_or(NodeError::Misplaced)?;
        parent.below.insert(part, node);
        Ok(())
    }

    /// Drops nodes that do not hold what the ranges around them say. After a restart a copy may be older or newer than a recount that
    /// left no trace in the log; what it stood for must be counted anew.
    pub fn prune(&mut self, notice: &mut impl FnMut(Notice)) {
        self.root.prune(self.path, notice);
    }
}

impl Node {
    fn prune(&mut self, path: TreePath, notice: &mut impl FnMut(Notice)) {
        let (counts, sums) = (&self.counts, &self.sums);
        self.below.retain(|part, node| {
            let (total, slot, Some(child)) = (node.total(), usize::from(*part), path.child(*part)) else {
                return false;
            };
            let agrees = total == TreeSum { count: u64::from(counts[slot]), sum: sums[slot] };
            if agrees {
                node.prune(child, notice);
            } else {
                notice(Notice::Unknown(child));
            }
            agrees
        });
    }
}

fn decode(range: &TreePath, bytes: &[u8]) -> Result<Node, NodeError> {
    match bytes.first() {
        Some(&FORMAT) if bytes.len() == NODE_BYTES => {}
        Some(&format) if format != FORMAT => return Err(NodeError::UnknownFormat(format)),
        Some(_) | None => return Err(NodeError::Damaged),
    }
    if bytes[1..BODY_AT] != checksum(range, bytes).to_le_bytes() {
        return Err(NodeError::Damaged);
    }
    let mut node = Node::new(word(&bytes[BODY_AT..]));
    for (slot, bytes) in bytes[BODY_AT + 8..].chunks_exact(SLOT_BYTES).enumerate() {
        let mut count = [0; 4];
        count.copy_from_slice(&bytes[..4]);
        node.counts[slot] = u32::from_le_bytes(count);
        node.sums[slot] = word(&bytes[4..]);
    }
    Ok(node)
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(word)
}

fn checksum(range: &TreePath, bytes: &[u8]) -> u128 {
    xxh3_128_with_seed(&bytes[BODY_AT..], range.prefix ^ u64::from(range.bits))
}
