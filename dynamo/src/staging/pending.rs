//! Which of the staged changes are still to be done: those that the layout does not have already.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::{Change, Key, Staged, Stamp, Word};
use crate::{
    ident::NodeId,
    layout::{Layout, Member, MemberState},
};

/// The members of a layout by identity.
type Present<'a> = BTreeMap<NodeId, &'a Member>;

impl Staged {
    /// The changes that the layout does not have yet, in the order in which they were staged.
    pub fn pending(&self, layout: &Layout) -> Vec<Change> {
        let mut words = self.pending_words(layout);
        words.sort_by_key(|word| word.stamp);
        // Who leaves because another takes its place, or because its copies are lost, is named by that change.
        let implied: BTreeSet<(Stamp, NodeId)> = words
            .iter()
            .filter_map(|word| match word.change {
                Some(Change::Replace { old, .. } | Change::Lost(old)) => Some((word.stamp, old)),
                Some(_) | None => None,
            })
            .collect();
        let is_implied = |word: &Word| match word.change {
            Some(Change::Leave(node)) => implied.contains(&(word.stamp, node)),
            Some(_) | None => false,
        };
        words.into_iter().filter(|word| !is_implied(word)).filter_map(|word| word.change.clone()).collect()
    }

    pub(super) fn pending_words(&self, layout: &Layout) -> Vec<&Word> {
        let present: Present<'_> = layout.members.iter().map(|member| (member.id, member)).collect();
        let is_pending = |word: &&Word| {
            word.change.as_ref().is_some_and(|change| !self.is_done(change, word.stamp, layout, &present))
        };
        self.words.values().filter(is_pending).collect()
    }

    /// Whether a change would change nothing, or speaks of somebody who is not there.
    fn is_done(&self, change: &Change, stamp: Stamp, layout: &Layout, present: &Present<'_>) -> bool {
        let state = |node: &NodeId| present.get(node).map(|member| member.state);
        match change {
            Change::Join(member) => state(&member.id) == Some(MemberState::Active),
            Change::Leave(node) => state(node) != Some(MemberState::Active),
            // Once the newcomer is a member it replaces nobody any more, whatever becomes of it.
            Change::Replace { new, .. } => state(new).is_some() || self.was_dismissed(*new, stamp),
            Change::Lost(node) => matches!(state(node), None | Some(MemberState::Lost | MemberState::Gone)),
            Change::Reweight { node, weight } => self.is_idle(*node, stamp, present, |member| member.weight == *weight),
            Change::Zone { node, zone } => self.is_idle(*node, stamp, present, |member| member.zone == *zone),
            Change::Addresses { node, addresses } => {
                self.is_idle(*node, stamp, present, |member| member.addresses == *addresses)
            }
            Change::Bucket { name, properties } => layout.bucket(name) == *properties,
            Change::Replicas(replicas) => layout.replicas == *replicas,
            // Partitions are never joined, and the planner may have made more of them meanwhile.
            Change::PartitionBits(bits) => *bits <= layout.partition_bits,
            Change::Undo(_) => true,
        }
    }

    /// Whether a word about a property of a node has nothing to say: the node has it, or is not there and does not come, or
    /// the word is older than the one by which it comes, which names all its properties.
    fn is_idle(&self, node: NodeId, stamp: Stamp, present: &Present<'_>, has: impl Fn(&Member) -> bool) -> bool {
        let member = present.get(&node).filter(|member| member.state != MemberState::Gone);
        match self.words.get(&Key::Membership(node)) {
            Some(Word { stamp: said, change: Some(Change::Join(joining)) }) => {
                let is_active = member.filter(|member| member.state == MemberState::Active);
                stamp < *said || is_active.map_or_else(|| has(joining), |member| has(member))
            }
            Some(_) | None => member.is_none_or(|member| has(member)),
        }
    }

    /// Whether a later word sent the node away before it had come.
    fn was_dismissed(&self, node: NodeId, stamp: Stamp) -> bool {
        let word = self.words.get(&Key::Membership(node));
        word.is_some_and(|word| word.stamp > stamp && matches!(word.change, Some(Change::Leave(_))))
    }
}
