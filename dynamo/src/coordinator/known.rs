//! Which views of partitions are known to be newer than the newest layout says: from this node's own rows, and from replicas that
//! answered that a view was old. While nothing moves there are none, and nothing is looked up.
//!
//! It is a cache and no truth: what is missing here costs an operation one round trip, after which the replica that knows better
//! has told. Nobody but the rows' own replicas ever raises a view on their own account.

use alloc::collections::BTreeMap;

use crate::{
    layout::{Layout, View},
    ring::Ring,
};

/// Most views kept: 3 MB of memory, and more partitions than one coordinator meets while they move. Beyond it the first goes, and is
/// learned again when it is needed.
const VIEWS_MAX: usize = 65_536;

/// What is known beyond the newest layout.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By the number of prefix bits and the prefix; never one that the newest layout covers.
    views: BTreeMap<(u8, u32), View>,
}

impl Known {
    /// Whether the newest layout says all that is known.
    pub(super) fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    /// The view under which an operation on a partition of the newest layout begins.
    pub(super) fn view(&self, layout: &Layout, partition: u32) -> View {
        let default = layout.view(partition);
        self.views.get(&(default.bits, partition)).map_or(default, |known| default.join(known))
    }

    /// Takes note of a view. The number of partitions may have doubled since: then it is the view of each child.
    pub(super) fn raise(&mut self, view: View, ring: &Ring) {
        let layout = ring.newest();
        let doublings = u32::from(layout.partition_bits.saturating_sub(view.bits));
        let Some(first) = view.prefix.checked_shl(doublings) else { return };
        let bits = view.bits.max(layout.partition_bits);
        for child in (first..=first | ((1 << doublings.min(31)) - 1)).take(VIEWS_MAX) {
            self.insert(View { prefix: child, bits, ..view }, layout);
        }
    }

    /// Keeps what a newer ring does not say by itself.
    pub(super) fn set_ring(&mut self, ring: &Ring) {
        for view in core::mem::take(&mut self.views).into_values() {
            self.raise(view, ring);
        }
    }

    fn insert(&mut self, view: View, layout: &Layout) {
        let place = (view.bits, view.prefix);
        let joined = self.views.get(&place).map_or(view, |known| known.join(&view));
        // A view with more bits than the newest layout waits for the layout in which the number of partitions doubled.
        if view.bits == layout.partition_bits && layout.view(view.prefix).covers(&joined) {
            self.views.remove(&place);
            return;
        }
        self.views.insert(place, joined);
        if self.views.len() > VIEWS_MAX {
            self.views.pop_first();
        }
    }
}
