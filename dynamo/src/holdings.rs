//! What a node's background work knows of partitions: how its own rows stand, as the store has told, and which newer views it has heard
//! of from others. Whoever talks to another node about a partition takes the view to say from here, not from a layout alone, which
//! knows nothing of fences.
//!
//! It decides nothing: what a node has to do about a partition that moves is [`crate::relocation`]'s business.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use crate::{
    bug::{Bug, is_on},
    ident::NodeId,
    layout::{Layout, MemberState, NodeIndex, View},
    peer::Standing,
    ring::{OwnerSet, Ring},
};

/// The partitions of one node.
#[derive(Clone, Debug)]
pub struct Holdings {
    me: Option<NodeIndex>,
    ring: Arc<Ring>,
    /// Nobody counts on what this node has.
    is_given_up: bool,
    /// This node's rows, by partition under the newest layout.
    rows: BTreeMap<u32, Standing>,
    /// Views of partitions it has no row of, as others told them.
    heard: BTreeMap<u32, View>,
}

/// A layout is missing that must be known to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its epoch.
    pub epoch: u64,
}

impl Holdings {
    /// What the node `me` holds by its rows. Rows of partitions that the newest layout does not have are left out.
    pub fn new(me: Option<NodeIndex>, ring: Arc<Ring>, rows: Vec<Standing>) -> Self {
        let bits = ring.newest().partition_bits;
        let is_given_up = is_given_up(me, &ring, &rows);
        let rows = rows.into_iter().filter(|row| row.view.bits == bits).map(|row| (row.view.prefix, row)).collect();
        Self { me, ring, is_given_up, rows, heard: BTreeMap::new() }
    }

    /// This node; `None` while it has no place in the ring.
    pub fn me(&self) -> Option<NodeIndex> {
        self.me
    }

    /// The ring.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// The newest layout.
    pub fn layout(&self) -> &Arc<Layout> {
        self.ring.newest()
    }

    /// The rows, by partition.
    pub fn rows(&self) -> impl Iterator<Item = (u32, &Standing)> {
        self.rows.iter().map(|(partition, row)| (*partition, row))
    }

    /// The row of a partition.
    pub fn row(&self, partition: u32) -> Option<&Standing> {
        self.rows.get(&partition)
    }

    /// Whether this node holds records of a partition, whether or not it is to keep them.
    pub fn holds(&self, partition: u32) -> bool {
        self.rows.get(&partition).is_some_and(|row| !row.is_moved)
    }

    /// The view to speak of a partition under: the row's here, else what was heard, else the oldest that may be right, which is
    /// corrected by whoever knows better.
    pub fn view(&self, partition: u32) -> View {
        let known = self.rows.get(&partition).map(|row| row.view).or_else(|| self.heard.get(&partition).copied());
        known.unwrap_or_else(|| self.layout().view(partition))
    }

    /// How a row stands now, as the store says; `false` if nothing that anybody decides by has changed.
    pub fn note(&mut self, row: Standing) -> bool {
        if row.view.bits != self.layout().partition_bits {
            return false;
        }
        let decisive = |row: Standing| (row.view, row.full, row.is_moved, row.copied == u64::MAX);
        let before = self.rows.insert(row.view.prefix, row);
        before.map(decisive) != Some(decisive(row))
    }

    /// A row of this node has this view now; `false` if that is nothing new.
    pub fn note_view(&mut self, view: View) -> bool {
        if view.bits != self.layout().partition_bits {
            return false;
        }
        let row = self.rows.entry(view.prefix).or_insert(Standing::new(View { lo: 0, hi: 0, ..view }));
        if row.view.covers(&view) {
            return false;
        }
        row.view = row.view.join(&view);
        true
    }

    /// Another node has this view of a partition; `true` if the row here lags behind it and should learn it.
    pub fn hear(&mut self, view: View) -> bool {
        if view.bits != self.layout().partition_bits {
            return false;
        }
        match self.rows.get(&view.prefix) {
            Some(row) => !row.view.covers(&view),
            None => {
                let heard = self.heard.entry(view.prefix).or_insert(view);
                *heard = heard.join(&view);
                false
            }
        }
    }

    /// The configurations that a view calls active, the oldest first; or the layout that must be fetched to tell.
    pub fn configurations(&self, view: &View) -> Result<Vec<OwnerSet>, Missing> {
        self.ring.configurations(&view.first_key().id(), view).ok_or_else(|| self.missing(view))
    }

    /// The owners of a partition under the oldest active configuration: those whose copies are complete, and who are compared with each
    /// other. None if the layout is not here.
    pub fn settled_owners(&self, view: &View) -> Vec<NodeIndex> {
        let oldest = View { hi: view.lo, ..*view };
        let found = self.ring.configurations(&oldest.first_key().id(), &oldest);
        found.and_then(|found| found.into_iter().next()).map(|set| set.owners).unwrap_or_default()
    }

    /// The others this node compares a partition with: those whose copies are complete, if its own is.
    pub fn partners(&self, partition: u32) -> Vec<NodeIndex> {
        let (Some(me), Some(row)) = (self.me, self.rows.get(&partition)) else { return Vec::new() };
        let owners = self.settled_owners(&row.view);
        if row.is_moved || !owners.contains(&me) || self.is_given_up() {
            return Vec::new();
        }
        owners.into_iter().filter(|owner| *owner != me && !self.is_gone(*owner)).collect()
    }

    /// Whether nobody is to count on a node any more.
    pub fn is_gone(&self, node: NodeIndex) -> bool {
        self.layout().member(node).is_none_or(|member| matches!(member.state, MemberState::Lost | MemberState::Gone))
    }

    /// Whether nobody counts on what this node has. It may be out of date by deletions that nobody keeps for it: it hands nothing over.
    pub fn is_given_up(&self) -> bool {
        self.is_given_up && !is_on(Bug::LostHandsOver)
    }

    /// Which layout a view can't be understood without.
    fn missing(&self, view: &View) -> Missing {
        let oldest = self.ring.layouts().next().map_or(self.ring.epoch(), |layout| layout.epoch);
        let newer = view.hi > self.ring.epoch();
        Missing { epoch: if newer { self.ring.epoch() + 1 } else { oldest.saturating_sub(1).max(1) } }
    }
}

/// Whether a node was given up for lost. A layout that calls it gone, or knows nothing of it, does not say how it went; but one that left
/// had handed over all it held before.
fn is_given_up(me: Option<NodeIndex>, ring: &Ring, rows: &[Standing]) -> bool {
    let was_lost = |me: NodeIndex, id: NodeId| {
        let mut known = ring.layouts().filter_map(|layout| layout.member(me));
        known.any(|member| member.id == id && member.state == MemberState::Lost)
    };
    let holds_something = || rows.iter().any(|row| !row.is_moved);
    match me.and_then(|me| Some((me, ring.newest().member(me)?))) {
        Some((me, member)) => match member.state {
            MemberState::Active | MemberState::Leaving => false,
            MemberState::Lost => true,
            MemberState::Gone => holds_something() || was_lost(me, member.id),
        },
        None => holds_something(),
    }
}
