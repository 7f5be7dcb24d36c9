//! The active configurations of a partition that moves, and the questions the rules ask of them. A node given up for lost belongs to
//! none of them: no quorum waits for it.

use alloc::vec::Vec;

use crate::{
    bug::{Bug, is_on},
    holdings::{Holdings, Missing},
    layout::{NodeIndex, View},
    peer::Standing,
    quorum::majority,
    ring::OwnerSet,
};

/// The active configurations of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// The view that calls them active.
    pub view: View,
    /// Their owners, the oldest configuration first, without those given up for lost; never none.
    sets: Vec<OwnerSet>,
    /// Likewise: how many were given up.
    lost: Vec<usize>,
    /// Everybody who owns the partition under any of them, the lost ones included.
    everybody: Vec<NodeIndex>,
    /// They do not all have the same number of owners, the lost ones included.
    is_resized: bool,
}

impl Active {
    /// The configurations that a view calls active; or the layout that is missing to tell.
    pub fn new(holdings: &Holdings, view: View) -> Result<Self, Missing> {
        let mut sets = holdings.configurations(&view)?;
        let is_resized = sets.windows(2).any(|pair| pair[0].owners.len() != pair[1].owners.len());
        let mut everybody: Vec<NodeIndex> = sets.iter().flat_map(|set| &set.owners).copied().collect();
        everybody.sort_unstable();
        everybody.dedup();
        let mut lost = Vec::with_capacity(sets.len());
        for set in &mut sets {
            let all = set.owners.len();
            set.owners.retain(|owner| !holdings.is_gone(*owner));
            lost.push(all - set.owners.len());
        }
        Ok(Self { view, sets, lost, everybody, is_resized })
    }

    /// The oldest configuration.
    pub fn oldest(&self) -> Option<&OwnerSet> {
        self.sets.first()
    }

    /// The owners of the newest configuration.
    pub fn newest(&self) -> &[NodeIndex] {
        self.sets.last().map_or(&[], |set| &set.owners)
    }

    /// All configurations but the newest.
    pub fn older(&self) -> &[OwnerSet] {
        self.sets.split_last().map_or(&[], |(_, older)| older)
    }

    /// Whether a node owns the partition under any of them, given up or not.
    pub fn includes(&self, node: NodeIndex) -> bool {
        self.everybody.contains(&node)
    }

    /// The members of all of them, each once.
    pub fn members(&self) -> Vec<NodeIndex> {
        let mut members: Vec<NodeIndex> = self.sets.iter().flat_map(|set| &set.owners).copied().collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// Whether these nodes are a majority of the newest configuration; nobody is, if all its owners are lost.
    pub fn are_enough_of_newest(&self, nodes: &[NodeIndex]) -> bool {
        let newest = self.sets.last().zip(self.lost.last());
        newest.is_some_and(|(set, lost)| !set.owners.is_empty() && is_majority(set, *lost, nodes))
    }

    /// Whether a node needs not become FULL, for it was a member all along. When the number of owners changes, so does the size of a
    /// majority, and then that is not enough.
    pub fn has_kept(&self, node: NodeIndex) -> bool {
        let is_resized = self.is_resized && !is_on(Bug::RetireWithoutAllWhenNChanges);
        !is_resized && self.sets.iter().all(|set| set.owners.contains(&node))
    }

    /// The first of the older configurations of which these nodes are no majority.
    pub fn lacking(&self, nodes: &[NodeIndex]) -> Option<&OwnerSet> {
        let mut older = self.older().iter().zip(&self.lost);
        older.find(|(set, lost)| !is_majority(set, **lost, nodes)).map(|(set, _)| set)
    }

    /// Whether the older configurations can be retired, by how the owners of the newest one stand: each is FULL, or was an owner all along.
    pub fn can_retire(&self, standings: &[(NodeIndex, Standing)]) -> bool {
        let missing = self.not_full(standings).len();
        let wanted = self.newest().iter().filter(|node| !self.has_kept(**node)).count();
        if is_on(Bug::RetireOnOneFull) && missing < wanted {
            return true;
        }
        missing == 0 && !self.newest().is_empty()
    }

    /// The owners of the newest configuration that must become FULL and did not say that they are.
    pub fn not_full(&self, standings: &[(NodeIndex, Standing)]) -> Vec<NodeIndex> {
        let is_full = |node: &NodeIndex| {
            standings.iter().any(|(of, standing)| of == node && !standing.is_moved && standing.full >= self.view.hi)
        };
        self.newest().iter().copied().filter(|node| !self.has_kept(*node) && !is_full(node)).collect()
    }

    /// The same partition when nothing but its newest configuration is active.
    pub fn settled_view(&self) -> View {
        View { lo: self.view.hi, ..self.view }
    }
}

/// Whether these nodes are a majority of a configuration, of which so many more owners are lost. If all are, nobody is left to ask.
fn is_majority(set: &OwnerSet, lost: usize, nodes: &[NodeIndex]) -> bool {
    if is_on(Bug::BereftCountsAsRetired) && set.owners.len() <= lost {
        return true;
    }
    let believed = if is_on(Bug::LostCountsAsMerged) { lost } else { 0 };
    set.owners.iter().filter(|owner| nodes.contains(owner)).count() + believed >= majority(set.owners.len(), lost)
}
