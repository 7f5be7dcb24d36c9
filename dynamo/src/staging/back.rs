//! The way back: which changes undo what a layout changed of the one before it.

use alloc::{collections::BTreeSet, vec::Vec};

use super::Change;
use crate::{
    ident::NodeId,
    layout::{Layout, Member, MemberState},
};

/// The changes that take a ring from `after` back to what `before` was, as far as there is a way: an abort is an ordinary
/// change, staged and decided like every other. While partitions still move, the planner takes them back to the very owners
/// they come from.
///
/// Four things stay: more partitions, for they are never joined; addresses, which say where nodes are; that a node's copies
/// were given up; and that a node has left and is gone.
pub fn changes_back(before: &Layout, after: &Layout) -> Vec<Change> {
    let mut changes = Vec::new();
    for member in before.members.iter().filter(|member| member.state == MemberState::Active) {
        if let Some(now) = after.members.iter().find(|now| now.id == member.id) {
            stay(member, now, &mut changes);
        }
    }
    let stayed: BTreeSet<NodeId> = active(before).map(|member| member.id).collect();
    changes.extend(active(after).map(|member| member.id).filter(|id| !stayed.contains(id)).map(Change::Leave));
    if before.replicas != after.replicas {
        changes.push(Change::Replicas(before.replicas));
    }
    let names: BTreeSet<_> = before.buckets.keys().chain(after.buckets.keys()).collect();
    let changed = names.into_iter().filter(|name| before.bucket(name) != after.bucket(name));
    changes.extend(changed.map(|name| Change::Bucket { name: name.clone(), properties: before.bucket(name) }));
    changes
}

/// What makes an active member that it is again.
fn stay(member: &Member, now: &Member, changes: &mut Vec<Change>) {
    let node = member.id;
    match now.state {
        MemberState::Leaving => {
            changes.push(Change::Join(Member { addresses: now.addresses.clone(), ..member.clone() }))
        }
        MemberState::Active => {
            if now.weight != member.weight {
                changes.push(Change::Reweight { node, weight: member.weight });
            }
            if now.zone != member.zone {
                changes.push(Change::Zone { node, zone: member.zone.clone() });
            }
        }
        MemberState::Lost | MemberState::Gone => {}
    }
}

fn active(layout: &Layout) -> impl Iterator<Item = &Member> {
    layout.members.iter().filter(|member| member.state == MemberState::Active)
}
