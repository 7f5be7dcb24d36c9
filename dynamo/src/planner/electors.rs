//! Which nodes of a layout decide the next one: few, far apart, and those that have been there longest.

use alloc::{vec, vec::Vec};

use super::roster::Inherited;
use crate::layout::{
    Layout, NodeIndex,
    check::electors_max,
    zones::{ZONE_NONE, Zones},
};

/// The electors of a layout, ascending: as many as it may have, in as many zones as possible. Electors of the layout before
/// come first, then its other members, then newcomers, each by position.
pub(super) fn choose(new: &Layout, zones: &Zones, inherited: &Inherited<'_>) -> Vec<NodeIndex> {
    let seniority = |node: &usize| {
        let was_elector = inherited.electors().contains(&NodeIndex(*node as u16));
        (!was_elector, !inherited.was_member(*node))
    };
    let mut candidates: Vec<usize> =
        (0..new.members.len()).filter(|&node| zones.of_member[node] != ZONE_NONE).collect();
    candidates.sort_by_key(seniority);
    let count = electors_max(candidates.len());
    let mut in_zone = vec![0_usize; zones.nodes.len()];
    let mut electors = Vec::with_capacity(count);
    for most_in_zone in 1..=count {
        for &node in &candidates {
            let zone = usize::from(zones.of_member[node]);
            let elector = NodeIndex(node as u16);
            if electors.len() < count && in_zone[zone] < most_in_zone && !electors.contains(&elector) {
                in_zone[zone] += 1;
                electors.push(elector);
            }
        }
    }
    electors.sort_unstable();
    electors
}
