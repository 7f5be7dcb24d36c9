//! The ring as a node knows it while it changes (paper, sections 4.8 and 4.9; design, ring): the layouts that were agreed upon, as
//! far back as any partition may still have owners by them.
//!
//! A node's position means the same node in all of them: places are given to others only when nothing names them any more
//! ([`crate::layout::MemberState::Gone`]).

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use crate::{
    ident::Id,
    layout::{Layout, MemberState, NodeIndex, View},
};

/// The layouts of a ring, without a gap. There is always at least one.
#[derive(Clone, Debug)]
pub struct Ring {
    layouts: BTreeMap<u64, Arc<Layout>>,
    newest: Arc<Layout>,
}

/// The owners of a partition under one layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerSet {
    /// Its name: the epoch of the layout that introduced it.
    pub epoch: u64,
    /// Its nodes in order of preference, those included that are given up for lost.
    pub owners: Vec<NodeIndex>,
}

/// A layout does not fit behind the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It is of another cluster, or its parent is not the newest layout here.
    Stranger,
    /// Layouts between the newest here and this one are missing.
    Gap {
        /// The first that is missing.
        wanted: u64,
    },
    /// It is not newer than what is here.
    Old,
}

impl Ring {
    /// A ring of one layout.
    pub fn new(layout: Arc<Layout>) -> Self {
        Self { layouts: BTreeMap::from([(layout.epoch, Arc::clone(&layout))]), newest: layout }
    }

    /// The layout everybody should know by now.
    pub fn newest(&self) -> &Arc<Layout> {
        &self.newest
    }

    /// The epoch of the newest layout.
    pub fn epoch(&self) -> u64 {
        self.newest.epoch
    }

    /// The layout of an epoch.
    pub fn layout(&self, epoch: u64) -> Option<&Arc<Layout>> {
        self.layouts.get(&epoch)
    }

    /// All layouts, the oldest first.
    pub fn layouts(&self) -> impl DoubleEndedIterator<Item = &Arc<Layout>> {
        self.layouts.values()
    }

    /// Takes the next layout.
    pub fn push(&mut self, layout: Arc<Layout>) -> Result<(), Misfit> {
        let newest = &self.newest;
        if layout.cluster != newest.cluster || layout.generation != newest.generation {
            return Err(Misfit::Stranger);
        }
        if layout.epoch <= newest.epoch {
            return Err(Misfit::Old);
        }
        if layout.epoch > newest.epoch + 1 {
            return Err(Misfit::Gap { wanted: newest.epoch + 1 });
        }
        if layout.parent_hash != newest.hash() {
            return Err(Misfit::Stranger);
        }
        self.newest = Arc::clone(&layout);
        self.layouts.insert(layout.epoch, layout);
        Ok(())
    }

    /// Puts the layout before the oldest one in front of it, for somebody who came later and has to know whom a partition belonged to.
    pub fn prepend(&mut self, layout: Arc<Layout>) -> Result<(), Misfit> {
        let Some((&oldest, first)) = self.layouts.first_key_value() else { return Err(Misfit::Stranger) };
        if layout.epoch >= oldest {
            return Err(Misfit::Old);
        }
        if layout.epoch + 1 < oldest {
            return Err(Misfit::Gap { wanted: oldest - 1 });
        }
        if layout.cluster != first.cluster || layout.hash() != first.parent_hash {
            return Err(Misfit::Stranger);
        }
        self.layouts.insert(layout.epoch, layout);
        Ok(())
    }

    /// The oldest epoch that must be known to find every configuration that may be active.
    pub fn oldest_wanted(&self) -> u64 {
        let oldest = self.newest.spans.runs().iter().map(|run| run.span.oldest).min();
        oldest.unwrap_or(self.newest.epoch).min(self.newest.epoch)
    }

    /// Forgets layouts older than an epoch; never the newest.
    pub fn forget_before(&mut self, epoch: u64) {
        self.layouts = self.layouts.split_off(&epoch.min(self.newest.epoch));
    }

    /// The configurations that a view calls active for an id, the oldest first. `None` when the layouts to tell are not here: they must
    /// be fetched.
    pub fn configurations(&self, id: &Id, view: &View) -> Option<Vec<OwnerSet>> {
        let mut found = Vec::new();
        let mut epoch = view.hi;
        loop {
            let layout = self.layouts.get(&epoch)?;
            let partition = layout.partition(id);
            // A view is named after spans, so `hi` names a configuration that this very layout introduced.
            if layout.spans.of(partition).since != epoch {
                return None;
            }
            found.push(OwnerSet { epoch, owners: layout.owners(partition).collect() });
            if epoch <= view.lo {
                break;
            }
            let before = self.layouts.get(&(epoch - 1))?;
            epoch = before.spans.of(before.partition(id)).since;
            if epoch < view.lo {
                return None;
            }
        }
        found.reverse();
        Some(found)
    }

    /// Whether a node is given up for lost: no quorum waits for it.
    pub fn is_lost(&self, node: NodeIndex) -> bool {
        self.newest.member(node).is_some_and(|member| member.state == MemberState::Lost)
    }
}
