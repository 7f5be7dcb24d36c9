//! What a change of the ring would do, as operators are told: the staged changes, the plan in numbers, and who did not answer.

use dynamo::{operation::Failure, staging::Change};

use super::{
    super::{
        ReplyHeader, decode_optional_failure, encode_failure, fixed, lenient_text, list_length, malformed, too_large,
    },
    change::{decode_changes, encode_changes},
    lenient_texts, set_texts,
};
use crate::admin_capnp as wire;

/// Most nodes of a plan that are read: as many as a layout may have.
const PLAN_NODES_MAX: u32 = dynamo::layout::NODES_MAX as u32;

/// Most sentences of one list that are read: warnings, names of nodes that are away, changes of a layout. More are for nobody to read.
pub(super) const SENTENCES_MAX: usize = 4096;

/// What is staged in the cluster, and what it would do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Staging {
    /// The epoch of the present layout.
    pub epoch: u64,
    /// What is staged, by all nodes that answered.
    pub staged: Vec<Change>,
    /// What it would do; `None` when nothing is staged.
    pub plan: Option<PlanReport>,
    /// Partitions that still move from an earlier change.
    pub moving: u32,
    /// The names of nodes that did not answer.
    pub away: Vec<String>,
    /// About how many bytes the records have of the nodes that answered.
    pub bytes: u64,
    /// Why there is no plan although something is staged; empty where there is one.
    pub problem: String,
}

/// A plan in numbers; see [`dynamo::planner::Summary`] for what they mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanReport {
    /// Which epoch it would be.
    pub epoch: u64,
    /// The hash of the layout: what a commit names.
    pub hash: [u8; 16],
    /// There would be 2^`partition_bits` partitions.
    pub partition_bits: u8,
    /// N.
    pub replicas: u8,
    /// Slots that are filled.
    pub slots: u64,
    /// Slots whose data moves.
    pub moved: u64,
    /// The least that any plan of this balance would have to move.
    pub moved_bound: u64,
    /// About how many bytes move.
    pub moved_bytes: u64,
    /// The largest and the smallest load as multiples of the ideal.
    pub balance: Extremes,
    /// The same if nothing moved.
    pub balance_before: Extremes,
    /// The same against shares by weight alone, as if zones were no matter.
    pub balance_by_weight: Extremes,
    /// Partitions that lose the majority of their owners at once.
    pub below_quorum: u32,
    /// Partitions that lose all.
    pub orphaned: u32,
    /// Partitions where operations at `quorum` fail already now, because owners do not answer.
    pub unavailable_now: u32,
    /// Partitions where they fail at some time while the change is carried out or after it, if those stay silent who are.
    pub unavailable_on_the_way: u32,
    /// Each node.
    pub nodes: Vec<PlanNode>,
    /// What an operator should know before the commit.
    pub warnings: Vec<String>,
}

/// The largest and the smallest of some loads.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Extremes {
    /// The largest.
    pub max: f64,
    /// The smallest.
    pub min: f64,
}

/// What a plan does to one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanNode {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Its weight.
    pub weight: u32,
    /// "active", "leaving", "lost" or "gone".
    pub state: String,
    /// Partitions it owns now.
    pub before: u32,
    /// Partitions it will own.
    pub after: u32,
    /// Those it must be sent.
    pub gained: u32,
    /// Its exact share, in partitions.
    pub ideal: f64,
}

impl Staging {
    /// Writes it, with its header.
    pub fn encode(&self, header: &ReplyHeader, mut wire: wire::plan_reply::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        wire.set_epoch(self.epoch);
        wire.set_moving(self.moving);
        wire.set_bytes(self.bytes);
        wire.set_problem(&self.problem);
        encode_changes(wire.reborrow().init_staged(list_length(self.staged.len())), &self.staged);
        set_texts(wire.reborrow().init_away(list_length(self.away.len())), &self.away);
        if let Some(plan) = &self.plan {
            plan.encode(wire.init_plan());
        }
    }

    /// Writes why there is none.
    pub fn encode_failure(header: &ReplyHeader, failure: &Failure, mut wire: wire::plan_reply::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        encode_failure(wire.init_error(), failure);
    }

    /// Reads it.
    pub fn decode(wire: wire::plan_reply::Reader<'_>) -> Result<Self, Failure> {
        decode_optional_failure(wire.has_error(), wire.get_error())?;
        let plan = match wire.has_plan() {
            true => Some(PlanReport::decode(wire.get_plan().map_err(|error| malformed("plan", error))?)?),
            false => None,
        };
        Ok(Self {
            epoch: wire.get_epoch(),
            staged: decode_changes(wire.get_staged().map_err(|error| malformed("staged", error))?)?,
            plan,
            moving: wire.get_moving(),
            away: lenient_texts("away", wire.get_away())?,
            bytes: wire.get_bytes(),
            problem: lenient_text(wire.get_problem()),
        })
    }
}

impl PlanReport {
    fn encode(&self, mut wire: wire::plan::Builder<'_>) {
        wire.set_epoch(self.epoch);
        wire.set_hash(&self.hash);
        wire.set_partition_bits(self.partition_bits);
        wire.set_replicas(self.replicas);
        wire.set_slots(self.slots);
        wire.set_moved(self.moved);
        wire.set_moved_bound(self.moved_bound);
        wire.set_moved_bytes(self.moved_bytes);
        wire.set_balance_max(self.balance.max);
        wire.set_balance_min(self.balance.min);
        wire.set_balance_max_before(self.balance_before.max);
        wire.set_balance_min_before(self.balance_before.min);
        wire.set_balance_max_by_weight(self.balance_by_weight.max);
        wire.set_balance_min_by_weight(self.balance_by_weight.min);
        wire.set_below_quorum(self.below_quorum);
        wire.set_orphaned(self.orphaned);
        wire.set_unavailable_now(self.unavailable_now);
        wire.set_unavailable_on_the_way(self.unavailable_on_the_way);
        let mut nodes = wire.reborrow().init_nodes(list_length(self.nodes.len()));
        for (at, node) in (0..).zip(&self.nodes) {
            node.encode(nodes.reborrow().get(at));
        }
        set_texts(wire.init_warnings(list_length(self.warnings.len())), &self.warnings);
    }

    fn decode(wire: wire::plan::Reader<'_>) -> Result<Self, Failure> {
        let nodes = wire.get_nodes().map_err(|error| malformed("plan.nodes", error))?;
        if nodes.len() > PLAN_NODES_MAX {
            return Err(too_large("plan.nodes", PLAN_NODES_MAX as usize, nodes.len() as usize, "nodes"));
        }
        Ok(Self {
            epoch: wire.get_epoch(),
            hash: fixed("plan.hash", wire.get_hash())?,
            partition_bits: wire.get_partition_bits(),
            replicas: wire.get_replicas(),
            slots: wire.get_slots(),
            moved: wire.get_moved(),
            moved_bound: wire.get_moved_bound(),
            moved_bytes: wire.get_moved_bytes(),
            balance: Extremes::new(wire.get_balance_max(), wire.get_balance_min()),
            balance_before: Extremes::new(wire.get_balance_max_before(), wire.get_balance_min_before()),
            balance_by_weight: Extremes::new(wire.get_balance_max_by_weight(), wire.get_balance_min_by_weight()),
            below_quorum: wire.get_below_quorum(),
            orphaned: wire.get_orphaned(),
            unavailable_now: wire.get_unavailable_now(),
            unavailable_on_the_way: wire.get_unavailable_on_the_way(),
            nodes: nodes.iter().map(PlanNode::decode).collect(),
            warnings: lenient_texts("plan.warnings", wire.get_warnings())?,
        })
    }
}

impl PlanNode {
    fn encode(&self, mut wire: wire::plan_node::Builder<'_>) {
        wire.set_name(&self.name);
        wire.set_zone(&self.zone);
        wire.set_weight(self.weight);
        wire.set_state(&self.state);
        wire.set_before(self.before);
        wire.set_after(self.after);
        wire.set_gained(self.gained);
        wire.set_ideal(self.ideal);
    }

    fn decode(wire: wire::plan_node::Reader<'_>) -> Self {
        Self {
            name: lenient_text(wire.get_name()),
            zone: lenient_text(wire.get_zone()),
            weight: wire.get_weight(),
            state: lenient_text(wire.get_state()),
            before: wire.get_before(),
            after: wire.get_after(),
            gained: wire.get_gained(),
            ideal: finite(wire.get_ideal()),
        }
    }
}

impl Extremes {
    fn new(max: f64, min: f64) -> Self {
        Self { max: finite(max), min: finite(min) }
    }
}

/// What is no number is none: nobody should have to think of it.
fn finite(number: f64) -> f64 {
    if number.is_finite() { number } else { 0.0 }
}
