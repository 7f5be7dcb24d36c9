//! What a plan does, in numbers for whoever has to decide about it: what moves, how even the loads become, what the zones
//! cost, and whether any partition is left with too few owners on the way.

use alloc::vec::Vec;

use super::{Past, draft::Targets, roster::Inherited};
use crate::{
    layout::{Layout, MemberState, NodeIndex},
    settlement::Proven,
};

/// A plan in numbers. A *slot* is one replica of one partition, the unit that moves; loads are counted in slots.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Slots that are filled in the new layout.
    pub slots: u64,
    /// Slots whose node was no owner of the partition before: their data must be copied.
    pub moved: u64,
    /// The slots that nodes lack of what they will hold: no plan can move fewer to reach the same loads. The rule about zones
    /// may ask for more, by up to a half where a change brings a zone into nearly every partition.
    pub moved_lower_bound: u64,
    /// How even the loads would be if nothing moved; `None` for a first layout.
    pub balance_before: Option<Balance>,
    /// How even the loads will be.
    pub balance: Balance,
    /// How even the loads will be against shares by weight alone. The difference to `balance` is what it costs to keep the
    /// replicas of a partition in different zones although the zones are not equally large.
    pub balance_by_weight: Balance,
    /// Partitions of which the copies of so many old owners are given up that the rest is no majority: what was written at
    /// `quorum` may be lost there.
    pub below_quorum: u32,
    /// Partitions of which the copies of all old owners are given up: their data is lost unless a backup has it.
    pub orphaned: u32,
    /// Each node, in the order of the new layout's members.
    pub nodes: Vec<NodeSummary>,
}

/// The largest and the smallest load of an active node, each as a multiple of that node's ideal load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    /// 1.02 says that the fullest node holds 2 % more than its share.
    pub max: f64,
    /// 0.97 says that the emptiest node holds 3 % less than its share.
    pub min: f64,
}

/// What a plan does to one node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeSummary {
    /// Slots it holds in the old layout, counted in partitions of the new one.
    pub before: u32,
    /// Slots it will hold: the number of partitions it owns.
    pub partitions: u32,
    /// Partitions among them that it will coordinate by default.
    pub coordinated: u32,
    /// Slots it must be sent.
    pub gained: u32,
    /// The number of slots that would be its exact share under the rule about zones.
    pub ideal: f64,
    /// The number of slots that would be its exact share by weight alone.
    pub by_weight: f64,
}

impl Summary {
    pub(super) fn new(
        layout: &Layout,
        targets: &Targets,
        inherited: &Inherited<'_>,
        bereft: &Bereft,
        first: bool,
    ) -> Self {
        let active = |node: usize| layout.members[node].state == MemberState::Active;
        let nodes = nodes(layout, targets, inherited);
        let balance = |load: fn(&NodeSummary) -> u32, share: fn(&NodeSummary) -> f64| {
            let shares = nodes.iter().enumerate().filter(|&(node, _)| active(node));
            let ratios = shares.map(|(_, node)| f64::from(load(node)) / share(node));
            ratios.fold(Balance { max: 0.0, min: f64::INFINITY }, |balance, ratio| Balance {
                max: balance.max.max(ratio),
                min: balance.min.min(ratio),
            })
        };
        let lacking = |node: &NodeSummary| u64::from(node.partitions.saturating_sub(node.before));
        Self {
            slots: nodes.iter().map(|node| u64::from(node.partitions)).sum(),
            moved: nodes.iter().map(|node| u64::from(node.gained)).sum(),
            moved_lower_bound: nodes.iter().map(lacking).sum(),
            balance_before: (!first).then(|| balance(|node| node.before, |node| node.ideal)),
            balance: balance(|node| node.partitions, |node| node.ideal),
            balance_by_weight: balance(|node| node.partitions, |node| node.by_weight),
            below_quorum: bereft.below_quorum,
            orphaned: bereft.orphaned,
            nodes,
        }
    }
}

fn nodes(layout: &Layout, targets: &Targets, inherited: &Inherited<'_>) -> Vec<NodeSummary> {
    let weight = |node: usize| match layout.members[node].state {
        MemberState::Active => f64::from(layout.members[node].weight),
        MemberState::Leaving | MemberState::Lost | MemberState::Gone => 0.0,
    };
    let weights: f64 = (0..layout.members.len()).map(weight).sum();
    let slots = targets.nodes.iter().map(|&target| f64::from(target)).sum::<f64>();
    let mut nodes: Vec<NodeSummary> = (0..layout.members.len())
        .zip(inherited.held_before(layout.members.len()))
        .map(|(node, before)| NodeSummary {
            before,
            partitions: 0,
            coordinated: 0,
            gained: 0,
            ideal: targets.ideal[node],
            by_weight: slots * weight(node) / weights,
        })
        .collect();
    for partition in 0..layout.partitions() {
        for (position, owner) in layout.owners(partition).enumerate() {
            let node = &mut nodes[usize::from(owner.0)];
            node.partitions += 1;
            node.coordinated += u32::from(position == 0);
            node.gained += u32::from(inherited.before(partition).all(|before| before != owner.0));
        }
    }
    nodes
}

/// The partitions whose copies are given up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bereft {
    /// Those that lose the majority of the owners of a configuration that may be active.
    below_quorum: u32,
    /// Those of which nobody remains in any of them.
    orphaned: u32,
}

impl Bereft {
    /// What the next layout gives up that its past has. Those who only leave hand over first; and what was given up before was agreed to
    /// then.
    pub(super) fn new(past: &Past<'_>, proven: &Proven, next: &Layout) -> Self {
        let (old, mut bereft) = (past.newest(), Self::default());
        let is_lost = |layout: &Layout, node: &NodeIndex| match layout.member(*node).map(|member| member.state) {
            Some(MemberState::Active | MemberState::Leaving) => false,
            Some(MemberState::Lost | MemberState::Gone) | None => true,
        };
        let is_given_up = |node: &NodeIndex| is_lost(next, node) && !is_lost(old, node);
        if !(0..).map(NodeIndex).zip(&old.members).any(|(node, _)| is_given_up(&node)) {
            return bereft;
        }
        for partition in 0..old.partitions() {
            let (mut is_below, mut remains) = (false, false);
            for owners in past.configurations(partition, past.oldest(partition, proven)).flatten() {
                let there = owners.iter().filter(|owner| !is_lost(next, owner)).count();
                is_below |= there <= owners.len() / 2 && owners.iter().any(is_given_up);
                remains |= there > 0;
            }
            bereft.below_quorum += u32::from(is_below);
            bereft.orphaned += u32::from(is_below && !remains);
        }
        // A partition that is divided loses as many.
        let divided = 1 << (next.partition_bits - old.partition_bits);
        Self { below_quorum: bereft.below_quorum * divided, orphaned: bereft.orphaned * divided }
    }
}
