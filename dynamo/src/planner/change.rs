//! Planning what was staged: from the ring as it is and the changes that operators want, what the next layout is to be.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{Desired, Past, Plan, PlanError, crowd, plan_after};
use crate::{
    ident::NodeId,
    layout::{BucketProperties, Layout, Member, MemberState},
    settlement::Proven,
    staging::{Change, Staged, StagingError},
};

/// Plans the layout that has what is staged. `proven` as in [`Desired::proven`].
///
/// Partitions whose owners were given up for lost while they could not be moved are moved by the next plan that can, though
/// nothing else be staged.
///
/// The past may be the newest layout alone. With the whole ring, an abort ([`crate::staging::changes_back`]) takes partitions
/// back to the very owners that they come from, and it is known which ones have been moved too often to be moved again; without
/// it, more of them may be refused.
pub fn plan_change<'a>(past: impl Into<Past<'a>>, staged: &Staged, proven: &Proven) -> Result<Plan, PlanError> {
    let past = past.into();
    let old = past.newest();
    if staged.pending(old).is_empty() && !crowd::has_lost_owners(old) {
        return Err(PlanError::NothingStaged);
    }
    let desired = staged.desired(old, proven).map_err(PlanError::Staging)?;
    plan_after(Some(past), &desired)
}

/// What names the plan by which `layout` follows `old`: the hash it would have if nothing had been left of earlier changes.
///
/// While partitions still move, one after the other comes to rest between the moment a plan is looked at and the moment it is
/// committed. What a layout says of that is no part of what anybody wants, so it is no part of the name either.
pub fn plan_hash(old: &Layout, layout: &Layout) -> [u8; 16] {
    let mut named = layout.clone();
    named.spans = layout.spans_after(old, |_| true);
    for (now, before) in named.members.iter_mut().zip(&old.members).filter(|(now, before)| now.id == before.id) {
        let is_news = now.state == MemberState::Lost && before.state == MemberState::Leaving;
        let has_left = matches!(before.state, MemberState::Leaving | MemberState::Lost);
        if has_left && !is_news && now.state != MemberState::Active {
            *now = Member { state: MemberState::Gone, addresses: Vec::new(), ..before.clone() };
        }
    }
    named.hash()
}

impl Staged {
    /// What the cluster is to be once everything is done that is staged. `proven` as in [`Desired::proven`].
    pub fn desired(&self, old: &Layout, proven: &Proven) -> Result<Desired, StagingError> {
        let mut wish = Wish {
            joining: BTreeMap::new(),
            replacements: BTreeMap::new(),
            desired: Desired {
                cluster: old.cluster,
                members: old.members.clone(),
                replacements: BTreeMap::new(),
                replicas: old.replicas,
                partition_bits: None,
                buckets: old.buckets.clone(),
                proven: proven.clone(),
            },
        };
        let pending = self.pending(old);
        pending.iter().for_each(|change| wish.note(change));
        wish.replace()?;
        pending.iter().for_each(|change| wish.apply(change));
        wish.seat()?;
        Ok(wish.desired)
    }
}

/// The changes on their way into what is desired.
struct Wish {
    /// The nodes that join, or stay after all.
    joining: BTreeMap<NodeId, Member>,
    /// By who goes: who comes, as it was staged.
    replacements: BTreeMap<NodeId, Vec<NodeId>>,
    desired: Desired,
}

impl Wish {
    fn note(&mut self, change: &Change) {
        match change {
            Change::Join(member) => drop(self.joining.insert(member.id, member.clone())),
            Change::Replace { old, new } => self.replacements.entry(*old).or_default().push(*new),
            Change::Leave(_)
            | Change::Lost(_)
            | Change::Reweight { .. }
            | Change::Zone { .. }
            | Change::Addresses { .. }
            | Change::Bucket { .. }
            | Change::Replicas(_)
            | Change::PartitionBits(_)
            | Change::Undo(_) => {}
        }
    }

    /// Finds the newcomers who take over from others, and gives them zone and weight of those where they have none.
    fn replace(&mut self) -> Result<(), StagingError> {
        for (&old, newcomers) in &self.replacements {
            let &[new] = newcomers.as_slice() else { return Err(StagingError::TwoReplacements { old }) };
            let leaver = self.desired.members.iter().find(|member| member.id == old);
            let Some(leaver) = leaver.filter(|member| member.state == MemberState::Active) else {
                return Err(StagingError::NothingToReplace { old });
            };
            let Some(joining) = self.joining.get_mut(&new) else {
                return Err(StagingError::ReplacementMissing { old, new });
            };
            if joining.zone.is_empty() {
                joining.zone.clone_from(&leaver.zone);
            }
            if joining.weight == 0 {
                joining.weight = leaver.weight;
            }
            self.desired.replacements.insert(old, new);
        }
        Ok(())
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Join(_) | Change::Undo(_) => {}
            Change::Leave(node) | Change::Replace { old: node, .. } => self.dismiss(*node, MemberState::Leaving),
            Change::Lost(node) => self.dismiss(*node, MemberState::Lost),
            Change::Reweight { node, weight } => self.edit(*node, |member| member.weight = *weight),
            Change::Zone { node, zone } => self.edit(*node, |member| member.zone.clone_from(zone)),
            Change::Addresses { node, addresses } => self.edit(*node, |member| member.addresses.clone_from(addresses)),
            Change::Bucket { name, properties } => {
                if *properties == BucketProperties::default() {
                    self.desired.buckets.remove(name);
                } else {
                    self.desired.buckets.insert(name.clone(), properties.clone());
                }
            }
            Change::Replicas(replicas) => self.desired.replicas = *replicas,
            Change::PartitionBits(bits) => self.desired.partition_bits = Some(*bits),
        }
    }

    fn dismiss(&mut self, node: NodeId, state: MemberState) {
        self.edit(node, |member| {
            if member.state != MemberState::Lost {
                member.state = state;
            }
        });
    }

    fn edit(&mut self, node: NodeId, edit: impl FnOnce(&mut Member)) {
        let member = self.desired.members.iter_mut().find(|member| member.id == node);
        if let Some(member) = self.joining.get_mut(&node).or(member) {
            edit(member);
        }
    }

    /// Those who join become members, those who stay after all are active again.
    fn seat(&mut self) -> Result<(), StagingError> {
        for (node, joining) in core::mem::take(&mut self.joining) {
            match self.desired.members.iter_mut().find(|member| member.id == node) {
                Some(member) if matches!(member.state, MemberState::Lost | MemberState::Gone) => {
                    return Err(StagingError::Departed(node));
                }
                Some(member) => *member = Member { state: MemberState::Active, ..joining },
                None => self.desired.members.push(Member { state: MemberState::Active, ..joining }),
            }
        }
        Ok(())
    }
}
