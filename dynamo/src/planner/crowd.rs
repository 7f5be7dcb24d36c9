//! How often a partition may be moved before it has come to rest. An operation needs a quorum of each configuration that may be active,
//! so there may be [`CONFIGURATIONS_MAX`] of them, and each move that is decided before the one before it is done adds one.
//!
//! The last place is kept for owners that must go: because others were put in their places, because they leave and do not answer, or
//! because their copies were given up.
//! Where anything else would need it, the planner leaves the partition to the owners it has, or, if that can't be, refuses.
//! Giving copies up is never refused, so there is always a way out: a configuration of which everybody is given up counts no more;
//! and where the last place is taken, the lost owners keep their slots, which count for nobody. Then what is left can come to rest,
//! and the next plan moves the partition to owners that are there.

use alloc::vec::Vec;

use super::{Desired, Past, PlanError};
use crate::layout::{Layout, MemberState, NodeIndex, SLOT_EMPTY, spans::CONFIGURATIONS_MAX, zones::Zones};

/// What may become of a partition that has got other owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It moves.
    Move,
    /// It stays with the owners it has.
    Stay,
    /// Neither: there is no plan.
    Refuse,
}

/// Leaves partitions that have been moved too often to the owners they have.
pub(super) fn keep(past: &Past<'_>, desired: &Desired, zones: &Zones, next: &mut Layout) -> Result<(), PlanError> {
    let old = past.newest();
    let doublings = next.partition_bits - old.partition_bits;
    let (mut refused, mut refused_count) = (None, 0);
    for parent in 0..old.partitions() {
        if old.spans.of(parent).is_settled() {
            continue;
        }
        let children = (parent << doublings)..((parent + 1) << doublings);
        let moved: Vec<u32> = children.filter(|child| !next.keeps_owners(old, *child)).collect();
        if moved.is_empty() {
            continue;
        }
        let fate = match fate(past, desired, next, parent) {
            Fate::Stay => stay(old.owners(parent), &moved, zones, next),
            fate @ (Fate::Move | Fate::Refuse) => fate,
        };
        if fate == Fate::Refuse {
            refused_count += 1;
            refused = refused.or(Some(parent));
        }
    }
    match refused {
        Some(partition) => Err(PlanError::StillMoving { partition, partitions: refused_count }),
        None => Ok(()),
    }
}

/// Whether partitions have owners that were given up for lost, and should get others.
pub(super) fn has_lost_owners(layout: &Layout) -> bool {
    let lost = |slot: &u16| *slot != SLOT_EMPTY && state(layout, NodeIndex(*slot)) != Some(MemberState::Active);
    layout.slots.iter().any(lost)
}

fn fate(past: &Past<'_>, desired: &Desired, next: &Layout, partition: u32) -> Fate {
    let old = past.newest();
    let is_lost = |owner: &NodeIndex| state(next, *owner) == Some(MemberState::Lost);
    let leavers: Vec<NodeIndex> =
        old.owners(partition).filter(|owner| state(next, *owner) != Some(MemberState::Active)).collect();
    let must_go = |owner: &NodeIndex| {
        let is_replaced = old.member(*owner).is_some_and(|member| desired.replacements.contains_key(&member.id));
        is_lost(owner) || is_replaced || desired.proven.is_silent(*owner)
    };
    let are_forced = leavers.iter().any(must_go);
    let configurations = past.configurations(partition, past.oldest(partition, &desired.proven));
    let count = configurations.fold(0, |count, owners| match owners {
        Ok(owners) => count + u64::from(!owners.iter().all(is_lost)),
        Err(more) => count + more,
    });
    let most = if are_forced { CONFIGURATIONS_MAX } else { CONFIGURATIONS_MAX - 1 };
    if count < most as u64 {
        Fate::Move
    } else if leavers.iter().all(is_lost) {
        Fate::Stay
    } else {
        Fate::Refuse
    }
}

/// Gives these children of a partition the owners of their parent, if the rules for owners allow it.
fn stay(owners: impl Iterator<Item = NodeIndex>, children: &[u32], zones: &Zones, next: &mut Layout) -> Fate {
    let replicas = usize::from(next.replicas);
    let mut row: Vec<u16> = owners.map(|owner| owner.0).collect();
    if row.len() > replicas {
        return Fate::Refuse;
    }
    row.resize(replicas, SLOT_EMPTY);
    for child in children {
        let first = *child as usize * replicas;
        next.slots[first..first + replicas].copy_from_slice(&row);
        if next.check_partition(*child, &row, zones, true).is_err() {
            return Fate::Refuse;
        }
    }
    Fate::Stay
}

fn state(layout: &Layout, node: NodeIndex) -> Option<MemberState> {
    layout.member(node).map(|member| member.state)
}
