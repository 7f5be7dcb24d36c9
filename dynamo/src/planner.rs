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
mod change;
mod crowd;
mod draft;
mod electors;
mod error;
mod level;
mod past;
mod random;
mod roster;
mod summary;
mod tenants;
mod way;

use alloc::{collections::BTreeMap, string::String, vec::Vec};

pub use change::{plan_change, plan_hash};
pub use error::PlanError;
pub use past::Past;
pub use summary::{Balance, NodeSummary, Summary};
pub use way::{Unavailable, unavailable};

use crate::{
    ident::NodeId,
    layout::{BucketProperties, Layout, Member, PARTITION_BITS_MAX, spans::Spans, zones::Zones},
    settlement::Proven,
};
use draft::{Draft, Targets};
use roster::Inherited;
use summary::Bereft;

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
    /// The nodes. One that is in the old layout and not here is [leaving](crate::layout::MemberState::Leaving) in the next.
    pub members: Vec<Member>,
    /// Who takes over from whom: by a node that is to go, the newcomer that gets exactly its partitions, as far as weight and
    /// zone allow.
    pub replacements: BTreeMap<NodeId, NodeId>,
    /// N: replicas of each partition.
    pub replicas: u8,
    /// There shall be 2^`partition_bits` partitions, not fewer than there are; `None` leaves it to the number of nodes.
    pub partition_bits: Option<u8>,
    /// Properties by bucket name.
    pub buckets: BTreeMap<String, BucketProperties>,
    /// What is known to be at rest under the old layout. Never guessed: what a layout calls retired, nobody reads from again.
    pub proven: Proven,
}

/// A layout that is ready to be agreed upon, and what it would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The next layout; it has passed [`Layout::check`].
    pub layout: Layout,
    /// What it does.
    pub summary: Summary,
}

/// Plans the layout that follows `old`, or a first one. The same input gives the same plan everywhere; with nothing to
/// change it moves nothing. Takes milliseconds for a few nodes and well below a second for 10,000.
pub fn plan(old: Option<&Layout>, desired: &Desired) -> Result<Plan, PlanError> {
    plan_after(old.map(Past::from), desired)
}

/// The same with what is known of the past: the newest layout and, where partitions still move, those before it.
pub fn plan_after(past: Option<Past<'_>>, desired: &Desired) -> Result<Plan, PlanError> {
    let old = past.map(|past| past.newest());
    if let Some(old) = old {
        check_succession(old, desired)?;
    }
    let mut layout = frame(past.as_ref(), desired)?;
    let zones = Zones::new(&layout.members);
    layout.partition_bits =
        desired.partition_bits.unwrap_or_else(|| choose_partition_bits(old, &zones, desired.replicas));
    let is_moving = |past: &Past<'_>| !desired.proven.are_settled(past.newest());
    let former = past.filter(is_moving).and_then(|past| past.returns_to(&layout));
    let inherited = Inherited::new(old, former, &layout, &desired.replacements);
    let targets = Targets::new(&layout, &zones, &inherited.held(layout.members.len()));
    layout.electors = electors::choose(&layout, &zones, &inherited);
    // Where nothing changed that decides who owns what, nothing moves, even if finer partitions would allow a finer balance.
    layout.slots = inherited
        .carried_over(&layout)
        .unwrap_or_else(|| Draft::new(&layout, &zones, &targets, &inherited).settle(&inherited));
    if let Some(past) = past {
        crowd::keep(&past, desired, &zones, &mut layout)?;
    }
    let spans = |old| layout.spans_after(old, |partition| desired.proven.is_settled(partition));
    layout.spans = old.map_or_else(|| Spans::settled(layout.epoch), spans);
    layout.check().map_err(PlanError::Desired)?;
    let bereft = past.map_or_else(Bereft::default, |past| Bereft::new(&past, &desired.proven, &layout));
    let summary = Summary::new(&layout, &targets, &inherited, &bereft, old.is_none());
    Ok(Plan { layout, summary })
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
fn frame(past: Option<&Past<'_>>, desired: &Desired) -> Result<Layout, PlanError> {
    let old = past.map(Past::newest);
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
    Ok(Layout { members: roster::arrange(past, desired), ..layout })
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
