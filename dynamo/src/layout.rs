//! The partition map (paper, section 4.2 and strategy 3 of 6.2): which nodes own which partition, as plain data with an
//! epoch. A layout is planned once, checked by everyone, and never recomputed by clients.
//!
//! This file says what a layout *is* and how it is read; beneath it are the rules it must keep ([`check`]), its bytes
//! ([`codec`]), the pages it travels in ([`pages`]), its difference to an earlier one ([`delta`]) and who stands in for an owner that is away ([`stand_ins`]). How a good
//! layout is found is [`crate::planner`]'s business.

pub mod check;
pub mod codec;
pub mod delta;
pub mod pages;
pub mod spans;
pub mod stand_ins;
pub mod succession;
pub(crate) mod zones;

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use crate::ident::{Id, NodeId, StoreKey};
use spans::Spans;

/// Most nodes of one layout: a slot is a `u16`, and the last value means "nobody".
pub const NODES_MAX: usize = 65_535;

/// Most replicas of a partition. More copies than seven buy no durability that other failures do not eat up.
pub const REPLICAS_MAX: u8 = 7;

/// Most bits of a partition number: 2^20 partitions serve 50,000 nodes (design, ring, "Map").
pub const PARTITION_BITS_MAX: u8 = 20;

/// Most buckets of a cluster: their properties travel with the layout to every client.
pub const BUCKETS_MAX: usize = 10_000;

/// A slot that nobody fills: there are fewer live nodes than replicas.
pub const SLOT_EMPTY: u16 = u16::MAX;

/// The position of a node in [`Layout::members`]: what slots and receipts name nodes by, under one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u16);

/// What the map wants of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It takes its share of the partitions.
    Active,
    /// It shall own nothing any more; its place stays until its data has moved.
    Leaving,
    /// Like leaving, and its copies are given up for lost: no quorum waits for it. An operator's word, for when too few copies survive
    /// to do without it.
    Lost,
    /// It has left. Only its place is still there, so that every other node keeps its own; the next newcomer takes it.
    Gone,
}

impl MemberState {
    /// The state in a word, for people and for programs that read what is printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Leaving => "leaving",
            Self::Lost => "lost",
            Self::Gone => "gone",
        }
    }
}

/// A node as the layout knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it is, for ever.
    pub id: NodeId,
    /// What people call it; unique in a layout.
    pub name: String,
    /// The failure domain it stands in: a rack, a room, a data centre.
    pub zone: String,
    /// Its share of the data relative to the others; at least 1.
    pub weight: u32,
    /// Where it listens, `host:port`, most preferred first.
    pub addresses: Vec<String>,
    /// What the map wants of it.
    pub state: MemberState,
}

/// How concurrent versions of a key in a bucket are shown (design, data, "Conflict rule").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConflictRule {
    /// A read returns every concurrent value.
    #[default]
    Siblings,
    /// A read returns the concurrent value with the highest clock; the others are hidden, not dropped.
    LastWriterWins,
}

/// How many replicas an operation waits for (design, quorum, "Levels").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// The first replica's answer: durable on one node, may be stale.
    One,
    /// A majority, counted over owners and stand-ins for those that fail (paper, section 4.6): a write is accepted while any W
    /// nodes can be reached, is durable on W distinct nodes, and reaches the owners in time. R + W > N promises nothing here:
    /// a read may meet other nodes than the write did, a stand-in that keeps nothing of the key counts too, and so a read
    /// may miss a write that was acknowledged before, or find nothing at all. Dynamo's own level, and the usual one.
    #[default]
    Available,
    /// A majority of owners: a read that starts after a write completed sees it.
    Quorum,
    /// Every owner: no availability under failure.
    All,
}

/// What the operations on a bucket do when a request does not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketProperties {
    /// The level of reads and writes.
    pub level: Level,
    /// Replicas a read waits for instead of what the level says; 0 leaves it to the level.
    pub r: u8,
    /// Replicas a write waits for instead of what the level says; 0 leaves it to the level.
    pub w: u8,
    /// How concurrent versions are shown.
    pub conflict_rule: ConflictRule,
}

/// The configurations of a partition that are active, as one operation assumes or one replica knows them: all layouts
/// from `lo` to `hi`. The number of prefix bits belongs to it, so that after the number of partitions doubled a view of the
/// parent can't be taken for one of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct View {
    /// The partition: the first `bits` bits of the identifiers in it.
    pub prefix: u32,
    /// How many bits `prefix` has.
    pub bits: u8,
    /// The oldest active configuration's epoch.
    pub lo: u64,
    /// The newest active configuration's epoch.
    pub hi: u64,
}

impl View {
    /// The first key of the partition, whether or not there is such a record: what names the shard that its row lies in.
    pub fn first_key(&self) -> StoreKey {
        let mut key = StoreKey([0; 32]);
        let aligned = self.prefix.checked_shl(32 - u32::from(self.bits.min(32))).unwrap_or(0);
        key.0[..4].copy_from_slice(&aligned.to_be_bytes());
        key
    }

    /// The view that knows what either knows.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self { lo: self.lo.max(other.lo), hi: self.hi.max(other.hi).max(self.lo).max(other.lo), ..*self }
    }

    /// Whether it knows everything that the other knows.
    pub fn covers(&self, other: &Self) -> bool {
        self.lo >= other.lo && self.hi >= other.hi
    }
}

/// The partition map with everything that changes by epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Which cluster this is; no node or client follows a layout of another.
    pub cluster: u128,
    /// Raised when a whole cluster is restored from a backup; orders layouts before the epoch does.
    pub generation: u64,
    /// Counts layouts; 1 is the first.
    pub epoch: u64,
    /// [`Layout::hash`] of the layout before; zero for the first.
    pub parent_hash: [u8; 16],
    /// The nodes that decide the next epoch.
    pub electors: Vec<NodeIndex>,
    /// The nodes; the position is the [`NodeIndex`].
    pub members: Vec<Member>,
    /// There are 2^`partition_bits` partitions.
    pub partition_bits: u8,
    /// N: how many slots a partition has.
    pub replicas: u8,
    /// Partition by partition, `replicas` node indices each; [`SLOT_EMPTY`] where nobody is. The first is the default
    /// coordinator.
    pub slots: Vec<u16>,
    /// Properties by bucket name; a bucket without an entry has the default ones.
    pub buckets: BTreeMap<String, BucketProperties>,
    /// Partition by partition, since when it has the owners it has.
    pub spans: Spans,
}

impl Layout {
    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        1 << self.partition_bits
    }

    /// The partition that `id` falls into.
    pub fn partition(&self, id: &Id) -> u32 {
        id.prefix(self.partition_bits)
    }

    /// The owners of a partition in order of preference: N of them, or fewer while there are fewer nodes.
    pub fn owners(&self, partition: u32) -> impl DoubleEndedIterator<Item = NodeIndex> + Clone + '_ {
        let first = partition as usize * usize::from(self.replicas);
        self.slots[first..first + usize::from(self.replicas)]
            .iter()
            .filter(|&&slot| slot != SLOT_EMPTY)
            .map(|&slot| NodeIndex(slot))
    }

    /// The view of a partition that somebody assumes who knows nothing but this layout: the oldest configuration that may be
    /// active, alone. Too old is corrected by the first replica that knows better; too new could not be.
    pub fn view(&self, partition: u32) -> View {
        let oldest = self.spans.of(partition).oldest;
        View { prefix: partition, bits: self.partition_bits, lo: oldest, hi: oldest }
    }

    /// The view of a partition once nothing moves any more.
    pub fn settled_view(&self, partition: u32) -> View {
        let since = self.spans.of(partition).since;
        View { prefix: partition, bits: self.partition_bits, lo: since, hi: since }
    }

    /// A node by its position.
    pub fn member(&self, index: NodeIndex) -> Option<&Member> {
        self.members.get(usize::from(index.0))
    }

    /// The position of a node.
    pub fn index_of(&self, id: NodeId) -> Option<NodeIndex> {
        self.members.iter().position(|member| member.id == id).and_then(|at| u16::try_from(at).ok()).map(NodeIndex)
    }

    /// The properties of a bucket.
    pub fn bucket(&self, name: &str) -> BucketProperties {
        self.buckets.get(name).cloned().unwrap_or_default()
    }
}
