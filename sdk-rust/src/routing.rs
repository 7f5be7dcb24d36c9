//! Which node an operation goes to: a pure function of the layout, what is known of the nodes' health, and the key.
//!
//! Writes go to the first healthy owner in the order of preference, always the same one while it is healthy: that keeps the
//! number of actors per key low, and one node orders the writes of a key. Reads take the better of two owners drawn at
//! random, by the work they have in flight and their latency, in the own zone first. A node that owns nothing of the key is
//! taken only when no owner can be used: at level `available` the first stand-in, which coordinates in their place, so that all
//! clients of the key meet at one node; at other levels any, which forwards. When no node at all looks healthy, an owner is tried anyway: the
//! picture may be wrong, and an error is certain otherwise.
//!
//! A member that leaves the ring is asked only when nobody else is left, one that has left or is given up for lost never.

use dynamo::{
    ident::Id,
    layout::{Layout, MemberState, NodeIndex},
};

use crate::random::Random;

/// What routing knows of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Health {
    /// Whether it may be used: its breaker is closed and it did not just ask to be left alone.
    pub(crate) usable: bool,
    /// Whether it stands in the client's own zone.
    pub(crate) near: bool,
    /// Operations that wait for it or are under way to it.
    pub(crate) in_flight: u32,
    /// A moving average of its latency.
    pub(crate) latency_micros: f32,
    /// How busy it says it is, 0 to 255.
    pub(crate) load: u8,
}

/// Whether an operation only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// What one operation brings to the choice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    pub(crate) id: &'a Id,
    pub(crate) kind: Kind,
    /// Only the first so many owners count; 0 for all.
    pub(crate) owners_used: u8,
    /// Whether stand-ins may take the owners' place.
    pub(crate) stand_ins: bool,
    /// Nodes that have failed this operation.
    pub(crate) tried: &'a [NodeIndex],
}

/// The node for an operation, or `None` when every node of the layout has been tried. `health` has an entry for each member.
pub(crate) fn coordinator(
    layout: &Layout,
    health: &[Health],
    route: Route<'_>,
    random: &mut Random,
) -> Option<NodeIndex> {
    let used = if route.owners_used == 0 { usize::MAX } else { usize::from(route.owners_used) };
    let owners = layout.owners(layout.partition(route.id)).take(used);
    let untried = |node: &NodeIndex| !route.tried.contains(node);
    let usable = |node: &NodeIndex| health.get(usize::from(node.0)).is_some_and(|health| health.usable);
    let choice = match route.kind {
        Kind::Write => owners.clone().filter(untried).find(usable),
        Kind::Read => better_of_two(owners.clone().filter(untried).filter(usable), health, random),
    };
    let stand_in = || {
        let fits = |node: NodeIndex| untried(&node) && usable(&node);
        route.stand_ins.then(|| layout.stand_ins(layout.partition(route.id), fits).next()).flatten()
    };
    choice
        .or_else(stand_in)
        .or_else(|| any_of(layout, random, |node| stays(layout, node) && untried(node) && usable(node)))
        .or_else(|| any_of(layout, random, |node| is_there(layout, node) && untried(node) && usable(node)))
        .or_else(|| owners.clone().find(untried))
        .or_else(|| any_of(layout, random, |node| is_there(layout, node) && untried(node)))
}

/// Whether a node is to be a member in the future.
fn stays(layout: &Layout, node: &NodeIndex) -> bool {
    layout.member(*node).is_some_and(|member| member.state == MemberState::Active)
}

/// Whether a node may still serve.
fn is_there(layout: &Layout, node: &NodeIndex) -> bool {
    layout.member(*node).is_some_and(|member| match member.state {
        MemberState::Active | MemberState::Leaving => true,
        MemberState::Lost | MemberState::Gone => false,
    })
}

/// How unattractive a node is: what a new operation would wait for, roughly.
fn cost(health: &Health) -> f32 {
    let load = 1.0 + f32::from(health.load) / 64.0;
    (health.in_flight as f32 + 1.0) * health.latency_micros.max(1.0) * load
}

fn better_of_two(
    candidates: impl Iterator<Item = NodeIndex> + Clone,
    health: &[Health],
    random: &mut Random,
) -> Option<NodeIndex> {
    let is_near = |node: &NodeIndex| health[usize::from(node.0)].near;
    let near = candidates.clone().filter(is_near).count();
    let count = if near > 0 { near } else { candidates.clone().count() };
    let mut pool = candidates.filter(|node| near == 0 || is_near(node));
    match count {
        0 => None,
        1 => pool.next(),
        count => {
            let first = random.below(count as u64) as usize;
            let second = (first + 1 + random.below(count as u64 - 1) as usize) % count;
            let (low, high) = (first.min(second), first.max(second));
            let a = pool.nth(low)?;
            let b = pool.nth(high - low - 1)?;
            let costs = (cost(&health[usize::from(a.0)]), cost(&health[usize::from(b.0)]));
            // An even contest is decided by the order of the draw, which is random: first come would always be first served.
            let a_wins = if costs.0 == costs.1 { low == first } else { costs.0 < costs.1 };
            Some(if a_wins { a } else { b })
        }
    }
}

/// A node that fits, looked for from a random place on.
fn any_of(layout: &Layout, random: &mut Random, fits: impl Fn(&NodeIndex) -> bool) -> Option<NodeIndex> {
    let count = layout.members.len();
    let start = random.below(count as u64) as usize;
    (0..count).map(|step| NodeIndex(((start + step) % count) as u16)).find(fits)
}

#[cfg(test)]
mod tests;
