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

    /// The oldest epoch that must be known to find every configuration that may be active. Of a partition that is settled the newest layout
    /// says all, however long ago it got its owners.
    pub fn oldest_wanted(&self) -> u64 {
        let moving = self.newest.spans.runs().iter().filter(|run| !run.span.is_settled());
        moving.map(|run| run.span.oldest).min().unwrap_or(self.newest.epoch)
    }

    /// Forgets layouts older than an epoch; never the newest.
    pub fn forget_before(&mut self, epoch: u64) {
        self.layouts = self.layouts.split_off(&epoch.min(self.newest.epoch));
    }

    /// The configurations that a view calls active for an id, the oldest first. `None` when the layouts to tell are not here: they must
    /// be fetched.
    pub fn configurations(&self, id: &Id, view: &View) -> Option<Vec<OwnerSet>> {
        let set = |named: Named<'_>| OwnerSet { epoch: named.epoch, owners: named.owners().collect() };
        let mut found: Vec<OwnerSet> =
            self.active(id, view).map(|named| named.map(set)).collect::<Result<_, Untold>>().ok()?;
        found.reverse();
        Some(found)
    }

    /// The same one by one and the newest first, without a list. After an error there is nothing more.
    pub fn active<'r>(&'r self, id: &'r Id, view: &View) -> Active<'r> {
        Active { ring: self, id, lo: view.lo, next: Next::Newest(view.hi) }
    }

    /// Whether a node is given up for lost: no quorum waits for it.
    pub fn is_lost(&self, node: NodeIndex) -> bool {
        self.newest.member(node).is_some_and(|member| member.state == MemberState::Lost)
    }
}

/// A configuration by its name, and a layout under which the partition's owners are just these: they keep their name until they change.
#[derive(Clone, Copy, Debug)]
pub struct Named<'r> {
    /// Its name: the epoch of the layout that introduced it.
    pub epoch: u64,
    /// A layout under which it is the partition's configuration.
    pub layout: &'r Layout,
    /// The partition's number under that layout.
    pub partition: u32,
}

impl<'r> Named<'r> {
    /// Its nodes in order of preference.
    pub fn owners(&self) -> impl DoubleEndedIterator<Item = NodeIndex> + Clone + use<'r> {
        self.layout.owners(self.partition)
    }
}

/// Why the configurations of a view can't be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untold {
    /// A layout is not here.
    Missing {
        /// Which.
        epoch: u64,
    },
    /// The layouts are here, and the partition never had configurations of these names.
    Misnamed,
}

/// The active configurations of a view; see [`Ring::active`].
#[derive(Clone, Debug)]
pub struct Active<'r> {
    ring: &'r Ring,
    id: &'r Id,
    lo: u64,
    next: Next,
}

/// Where to look for the next configuration.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// The one of this name.
    Newest(u64),
    /// The one before the one of this name.
    Before(u64),
    /// There is no more.
    Nothing,
}

impl<'r> Iterator for Active<'r> {
    type Item = Result<Named<'r>, Untold>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = match self.next {
            Next::Newest(epoch) => self.newest(epoch),
            Next::Before(epoch) => self.before(epoch),
            Next::Nothing => return None,
        };
        self.next = match found {
            Ok(Named { epoch, .. }) if epoch > self.lo => Next::Before(epoch),
            Ok(_) | Err(_) => Next::Nothing,
        };
        Some(found)
    }
}

impl<'r> Active<'r> {
    /// The configuration of this name: by the newest layout if it is still the newest configuration, else by the layout that introduced
    /// it.
    fn newest(&self, epoch: u64) -> Result<Named<'r>, Untold> {
        let newest = self.named(&self.ring.newest);
        if newest.epoch == epoch {
            return Ok(newest);
        }
        let layout = self.ring.layouts.get(&epoch).ok_or(Untold::Missing { epoch })?;
        // A view is named after spans, so this very layout must have introduced it.
        Some(self.named(layout)).filter(|named| named.epoch == epoch).ok_or(Untold::Misnamed)
    }

    fn before(&self, epoch: u64) -> Result<Named<'r>, Untold> {
        let epoch = epoch.checked_sub(1).ok_or(Untold::Misnamed)?;
        let layout = self.ring.layouts.get(&epoch).ok_or(Untold::Missing { epoch })?;
        Some(self.named(layout)).filter(|named| named.epoch >= self.lo).ok_or(Untold::Misnamed)
    }

    fn named(&self, layout: &'r Layout) -> Named<'r> {
        let partition = layout.partition(self.id);
        Named { epoch: layout.spans.of(partition).since, layout, partition }
    }
}
