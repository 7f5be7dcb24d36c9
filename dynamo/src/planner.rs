//! The planner: from a layout and the nodes one would like to have, the next layout (paper, sections 4.2, 4.9 and 6.2).
//!
//! A pure function. Anybody may run it; what it returns is data that everybody checks, so nobody has to run it again. It
//! works on two levels: which zones hold a partition, never two replicas in one zone while there are N zones; then which
//! node inside each zone. Both divide the slots by weight, and move only what must move to get there.
//!
//! It decides where data belongs. Agreeing on its result and moving the data are the business of others.

mod apportion;
mod bins;
mod chain;
mod draft;
mod electors;
mod level;
mod random;
mod roster;
mod summary;
mod tenants;

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::fmt;

pub use summary::{Balance, NodeSummary, Summary};

use crate::layout::{
    BucketProperties, Layout, Member, NodeIndex, PARTITION_BITS_MAX,
    check::LayoutError,
    spans::{Span, Spans},
    zones::Zones,
};
use draft::{Draft, Targets};
use roster::Inherited;

/// Fewest partition bits that the planner chooses: 256 partitions divide evenly among the first handful of nodes.
pub const PARTITION_BITS_MIN_CHOSEN: u8 = 8;

/// A map has at least this many slots for an average node, so that rounding to whole slots costs little balance: 1.3 %, and
/// somewhat more in a zone that holds less than its weight. With four times as many partitions at each step this gives 2^8
/// for 5 nodes, 2^10 for 10, 2^12 for 100, 2^16 for 1,000 and 2^18 for 10,000. Dividing partitions moves no data, but every
/// client has to learn the larger map; therefore large steps, taken seldom.
pub const SLOTS_PER_NODE_MIN: u64 = 78;

/// What one would like the cluster to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Which cluster; the old layout's, if there is one.
    pub cluster: u128,
    /// The nodes. One that is in the old layout and not here is removed at once, without a chance to hand over what it
    /// holds: right for a dead node; a living one should be [leaving](crate::layout::MemberState::Leaving) first.
    pub members: Vec<Member>,
    /// N: replicas of each partition.
    pub replicas: u8,
    /// There shall be 2^`partition_bits` partitions, not fewer than there are; `None` leaves it to the number of nodes.
    pub partition_bits: Option<u8>,
    /// Properties by bucket name.
    pub buckets: BTreeMap<String, BucketProperties>,
    /// Whether it is known that under the old layout nothing moves any more: every partition's newest configuration alone is active,
    /// at every owner. Never guessed: what a layout calls retired, nobody reads from again.
    pub is_settled: bool,
}

/// A layout that is ready to be agreed upon, and what it would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The next layout; it has passed [`Layout::check`].
    pub layout: Layout,
    /// What it does.
    pub summary: Summary,
}

/// Why there is no plan. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// The old layout breaks a rule.
    OldLayout(LayoutError),
    /// What is desired breaks a rule.
    Desired(LayoutError),
    /// The old layout is one of another cluster.
    OtherCluster {
        /// The old layout's cluster.
        old: u128,
        /// The desired one.
        desired: u128,
    },
    /// Fewer partitions are desired than there are.
    PartitionBits {
        /// The old layout's partition bits.
        old: u8,
        /// The desired ones.
        desired: u8,
    },
    /// The old layout's epoch is the last number there is.
    LastEpoch,
}

/// Plans the layout that follows `old`, or a first one. The same input gives the same plan everywhere; with nothing to
/// change it moves nothing. Takes milliseconds for a few nodes and well below a second for 10,000.
pub fn plan(old: Option<&Layout>, desired: &Desired) -> Result<Plan, PlanError> {
    if let Some(old) = old {
        check_succession(old, desired)?;
    }
    let mut layout = frame(old, desired)?;
    let zones = Zones::new(&layout.members);
    layout.partition_bits =
        desired.partition_bits.unwrap_or_else(|| choose_partition_bits(old, &zones, desired.replicas));
    let inherited = Inherited::new(old, &layout);
    let targets = Targets::new(&layout, &zones, &inherited.held(layout.members.len()));
    layout.electors = electors::choose(old, &layout, &zones, &inherited);
    layout.slots = Draft::new(&layout, &zones, &targets, &inherited).settle(&inherited);
    layout.spans = spans(old, &layout, desired.is_settled);
    layout.check().map_err(PlanError::Desired)?;
    let summary = Summary::new(&layout, &targets, &inherited, old.is_none());
    Ok(Plan { layout, summary })
}

/// Since when the partitions have their owners: since this layout where it changes them, or how many copies there are.
fn spans(old: Option<&Layout>, new: &Layout, is_settled: bool) -> Spans {
    let Some(old) = old else { return Spans::uniform(Span::settled(new.epoch)) };
    let doublings = new.partition_bits - old.partition_bits;
    Spans::from_partitions((0..new.partitions()).map(|partition| {
        let parent = partition >> doublings;
        let before = old.spans.of(parent);
        let oldest = if is_settled { before.since } else { before.oldest };
        if same_owners(old, parent, new, partition) {
            Span { since: before.since, oldest }
        } else {
            Span { since: new.epoch, oldest }
        }
    }))
}

/// Whether two layouts give a partition the same owners, in whatever order.
fn same_owners(old: &Layout, parent: u32, new: &Layout, partition: u32) -> bool {
    let owns = |node: NodeIndex| {
        let id = new.member(node).map(|member| member.id);
        old.owners(parent).any(|owner| old.member(owner).map(|member| member.id) == id)
    };
    old.owners(parent).count() == new.owners(partition).count() && new.owners(partition).all(owns)
}

fn check_succession(old: &Layout, desired: &Desired) -> Result<(), PlanError> {
    old.check().map_err(PlanError::OldLayout)?;
    if old.cluster != desired.cluster {
        return Err(PlanError::OtherCluster { old: old.cluster, desired: desired.cluster });
    }
    match desired.partition_bits {
        Some(desired) if desired < old.partition_bits => {
            Err(PlanError::PartitionBits { old: old.partition_bits, desired })
        }
        Some(_) | None => Ok(()),
    }
}

/// The next layout without slots and electors; everything else has been checked.
fn frame(old: Option<&Layout>, desired: &Desired) -> Result<Layout, PlanError> {
    let layout = Layout {
        cluster: desired.cluster,
        generation: old.map_or(0, |old| old.generation),
        epoch: old.map_or(Some(1), |old| old.epoch.checked_add(1)).ok_or(PlanError::LastEpoch)?,
        parent_hash: old.map_or([0; 16], Layout::hash),
        electors: Vec::new(),
        members: desired.members.clone(),
        partition_bits: desired.partition_bits.unwrap_or_default(),
        replicas: desired.replicas,
        slots: Vec::new(),
        buckets: desired.buckets.clone(),
        spans: Spans::from_runs([]),
    };
    layout
        .check_frame()
        .and_then(|()| layout.check_members())
        .and_then(|()| layout.check_buckets())
        .map_err(PlanError::Desired)?;
    Ok(Layout { members: roster::arrange(old, &desired.members), ..layout })
}

/// How many partition bits a cluster of this size gets, never fewer than it has; see [`SLOTS_PER_NODE_MIN`].
fn choose_partition_bits(old: Option<&Layout>, zones: &Zones, replicas: u8) -> u8 {
    let slots_wanted = SLOTS_PER_NODE_MIN * zones.active() as u64;
    let mut bits = old.map_or(PARTITION_BITS_MIN_CHOSEN, |old| old.partition_bits);
    while bits < PARTITION_BITS_MAX && (zones.owners(replicas) as u64) << bits < slots_wanted {
        bits = (bits + 2).min(PARTITION_BITS_MAX);
    }
    bits
}

impl fmt::Display for PlanError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nothing was planned: ")?;
        match self {
            Self::OldLayout(error) => write!(formatter, "the present layout is wrong, fetch it again: {error}"),
            Self::Desired(error) => write!(formatter, "what is desired can't be: {error}"),
            Self::OtherCluster { old, desired } => {
                write!(formatter, "the present layout is of cluster {old:032x}, not {desired:032x}")
            }
            Self::PartitionBits { old, desired } => write!(
                formatter,
                "there are 2^{old} partitions, and they can be divided but not joined to 2^{desired}: ask for {old} or more"
            ),
            Self::LastEpoch => formatter.write_str("the present layout has the last epoch there can be"),
        }
    }
}

impl core::error::Error for PlanError {}
