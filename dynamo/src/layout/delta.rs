//! One layout said as its difference to an earlier one: what a client or node that has the earlier one must be told (design, ring, "Map").
//! A change of the ring touches few of its partitions, so the difference stays small while the map grows.
//!
//! A delta is not trusted more than a layout: what comes out of [`Delta::apply`] has the hash that the delta names and keeps the
//! rules of [`Layout::check`]. Layouts that differ in more than members, owners and buckets (a doubled ring, another N) have none.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::fmt;

use super::{
    BucketProperties, Layout, Member, NodeIndex,
    check::LayoutError,
    codec::SLOT_BYTES,
    spans::{Span, Spans},
};

/// Bytes of what is in every delta and every layout, roughly: epochs, hashes, counts.
const HEAD_BYTES: usize = 128;

/// Bytes of a member beside its texts, roughly.
const MEMBER_BYTES: usize = 64;

/// Bytes of the number of a partition.
const PARTITION_BYTES: usize = 4;

/// Bytes of a run of spans: where it begins and which of the kinds it is.
const RUN_BYTES: usize = 6;

/// The difference of two layouts of one cluster that have the same number of partitions and replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The epoch of the earlier one.
    pub from_epoch: u64,
    /// [`Layout::hash`] of the earlier one.
    pub from_hash: [u8; 16],
    /// The epoch of the later one.
    pub epoch: u64,
    /// [`Layout::hash`] of the later one.
    pub hash: [u8; 16],
    /// [`Layout::parent_hash`] of the later one.
    pub parent_hash: [u8; 16],
    /// How many members the later one has.
    pub member_count: usize,
    /// Members that are new or different.
    pub members: Vec<(NodeIndex, Member)>,
    /// The electors of the later one.
    pub electors: Vec<NodeIndex>,
    /// All its buckets, if any is different.
    pub buckets: Option<BTreeMap<String, BucketProperties>>,
    /// Partitions whose slots are different, in ascending order.
    pub partitions: Vec<u32>,
    /// Their slots, N for each.
    pub slots: Vec<u16>,
    /// The spans of the later one.
    pub spans: Spans,
}

/// A delta could not be applied. Nothing was changed; fetch the layout itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeltaError {
    /// It starts from another layout than this one.
    From {
        /// The epoch it starts from.
        epoch: u64,
    },
    /// It names a member or partition that can't be there, or has not N slots for each partition.
    Place,
    /// What comes out breaks a rule.
    Layout(LayoutError),
    /// What comes out is not the layout that it names.
    Hash,
}

impl Delta {
    /// The difference from `old` to `new`; `None` where there can be none.
    pub fn between(old: &Layout, new: &Layout) -> Option<Self> {
        let alike = (old.cluster, old.generation, old.partition_bits, old.replicas)
            == (new.cluster, new.generation, new.partition_bits, new.replicas);
        if !alike || old.slots.len() != new.slots.len() {
            return None;
        }
        let replicas = usize::from(new.replicas.max(1));
        let (mut partitions, mut slots) = (Vec::new(), Vec::new());
        let rows = old.slots.chunks(replicas).zip(new.slots.chunks(replicas));
        for (partition, (_, row)) in (0..).zip(rows).filter(|(_, (before, after))| before != after) {
            partitions.push(partition);
            slots.extend_from_slice(row);
        }
        let indices = (0..=u16::MAX).map(NodeIndex);
        let changed = indices.zip(&new.members).filter(|(at, member)| old.member(*at) != Some(member));
        Some(Self {
            from_epoch: old.epoch,
            from_hash: old.hash(),
            epoch: new.epoch,
            hash: new.hash(),
            parent_hash: new.parent_hash,
            member_count: new.members.len(),
            members: changed.map(|(at, member)| (at, member.clone())).collect(),
            electors: new.electors.clone(),
            buckets: (old.buckets != new.buckets).then(|| new.buckets.clone()),
            partitions,
            slots,
            spans: new.spans.clone(),
        })
    }

    /// The later layout, made of the earlier one and verified.
    pub fn apply(&self, old: &Layout) -> Result<Layout, DeltaError> {
        if old.epoch != self.from_epoch || old.hash() != self.from_hash {
            return Err(DeltaError::From { epoch: self.from_epoch });
        }
        let replicas = usize::from(old.replicas);
        if self.slots.len() != self.partitions.len() * replicas {
            return Err(DeltaError::Place);
        }
        let mut slots = old.slots.clone();
        for (partition, row) in self.partitions.iter().zip(self.slots.chunks(replicas.max(1))) {
            let first = *partition as usize * replicas;
            slots.get_mut(first..first + replicas).ok_or(DeltaError::Place)?.copy_from_slice(row);
        }
        let layout = Layout {
            cluster: old.cluster,
            generation: old.generation,
            epoch: self.epoch,
            parent_hash: self.parent_hash,
            electors: self.electors.clone(),
            members: self.apply_members(&old.members)?,
            partition_bits: old.partition_bits,
            replicas: old.replicas,
            slots,
            buckets: self.buckets.clone().unwrap_or_else(|| old.buckets.clone()),
            spans: self.spans.clone(),
        };
        layout.check().map_err(DeltaError::Layout)?;
        if layout.hash() == self.hash { Ok(layout) } else { Err(DeltaError::Hash) }
    }

    /// About how many bytes it has on the wire.
    pub fn bytes(&self) -> usize {
        let buckets = self.buckets.as_ref().map_or(0, bucket_bytes);
        let slots = self.partitions.len() * PARTITION_BYTES + self.slots.len() * SLOT_BYTES;
        HEAD_BYTES
            + self.members.iter().map(|(_, member)| member_bytes(member)).sum::<usize>()
            + buckets
            + slots
            + self.spans.runs().len() * RUN_BYTES
    }

    /// Whether it is worth having: telling the whole layout takes at least four times as much.
    pub fn is_worth_it(&self, new: &Layout) -> bool {
        self.bytes() * 4 <= layout_bytes(new)
    }

    fn apply_members(&self, old: &[Member]) -> Result<Vec<Member>, DeltaError> {
        // Places come to be at the end and are cut off there, and each new one must be named: the count alone allocates nothing.
        if self.member_count > old.len() + self.members.len() {
            return Err(DeltaError::Place);
        }
        let mut members = old[..self.member_count.min(old.len())].to_vec();
        for (at, member) in &self.members {
            let at = usize::from(at.0);
            if at == members.len() {
                members.push(member.clone());
            } else {
                members.get_mut(at).ok_or(DeltaError::Place)?.clone_from(member);
            }
        }
        if members.len() == self.member_count { Ok(members) } else { Err(DeltaError::Place) }
    }
}

/// The kinds of spans that occur, and for each run which of them it is: many runs share few kinds.
pub fn span_kinds(spans: &Spans) -> (Vec<Span>, Vec<(u32, usize)>) {
    let mut numbers = BTreeMap::new();
    let mut kinds = Vec::new();
    let runs = spans.runs().iter().map(|run| {
        let number = *numbers.entry(run.span).or_insert_with(|| {
            kinds.push(run.span);
            kinds.len() - 1
        });
        (run.first, number)
    });
    let runs = runs.collect();
    (kinds, runs)
}

/// About how many bytes a whole layout has on the wire.
pub fn layout_bytes(layout: &Layout) -> usize {
    HEAD_BYTES
        + layout.members.iter().map(member_bytes).sum::<usize>()
        + bucket_bytes(&layout.buckets)
        + layout.slots.len() * SLOT_BYTES
        + layout.spans.runs().len() * RUN_BYTES
}

fn member_bytes(member: &Member) -> usize {
    let addresses: usize = member.addresses.iter().map(String::len).sum();
    MEMBER_BYTES + member.name.len() + member.zone.len() + addresses
}

fn bucket_bytes(buckets: &BTreeMap<String, BucketProperties>) -> usize {
    buckets.keys().map(|name| name.len() + PARTITION_BYTES).sum()
}

impl fmt::Display for DeltaError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the difference of two layouts can't be used; fetch the layout itself: ")?;
        match self {
            Self::From { epoch } => write!(formatter, "it starts from another layout, of epoch {epoch}"),
            Self::Place => formatter.write_str("it names places that are not there"),
            Self::Layout(error) => error.fmt(formatter),
            Self::Hash => formatter.write_str("it leads to another layout than the one that it names"),
        }
    }
}

impl core::error::Error for DeltaError {}
