//! The way of one operation: which owners it uses, in which order, under which view, and who stands in for those that fail.

use alloc::vec::Vec;

use super::{call::Ask, demand::Demand, flight::Shared};
use crate::{
    bug::{self, Bug},
    ident::StoreKey,
    layout::{Layout, NodeIndex, View},
    operation::{ErrorCode, Failure},
    peer::{PeerAction, PeerOperation},
    quorum::{Configuration, PLACES_MAX, Place, Places, Quorums},
};

/// The nodes an operation uses, none of them twice: the owners in use, then stand-ins as they are needed. If this node is one
/// of the owners it stands first; the others follow it in the order of the preference list and around its end, so that the
/// owners of a partition spread the reads they ask of each other evenly. If it coordinates in the owners' place, it stands
/// before them all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    nodes: [NodeIndex; PLACES_MAX],
    count: u8,
    /// Where owners stand; everyone else is a stand-in.
    owners: Places,
    /// Whether the first is this node.
    is_mine: bool,
    /// How many owners the key has, used or not.
    pub(super) replicas: u8,
    /// What every call of the operation carries, and what its answers count under.
    pub(super) view: View,
}

impl Route {
    /// The first `demand.owners` owners of the key, seen from `me`.
    pub(super) fn new(layout: &Layout, me: Option<NodeIndex>, store_key: &StoreKey, demand: &Demand) -> Self {
        let partition = layout.partition(&store_key.id());
        let owners = layout.owners(partition);
        let in_use = demand.owners.min(PLACES_MAX);
        let mine = owners.clone().take(in_use).position(|owner| Some(owner) == me);
        let mut nodes = [NodeIndex(0); PLACES_MAX];
        let mut replicas = 0;
        let first = mine.unwrap_or(0);
        for (at, owner) in owners.enumerate() {
            replicas += 1;
            if at < in_use {
                nodes[if at < first { at + in_use - first } else { at - first }] = owner;
            }
        }
        let (count, view) = (in_use as u8, layout.view(partition));
        Self { nodes, count, owners: Places::first(in_use), is_mine: mine.is_some(), replicas, view }
    }

    /// The same way for `me`, which is no owner and coordinates in their place. Seven owners leave room for it.
    #[must_use]
    pub(super) fn standing_in(mut self, me: NodeIndex) -> Self {
        self.dismiss();
        let owners = usize::from(self.count);
        self.nodes.copy_within(0..owners, 1);
        self.nodes[0] = me;
        self.count += 1;
        self.owners = Places::first(owners + 1);
        self.owners.remove(Place::FIRST);
        self.is_mine = true;
        self
    }

    /// Takes the next stand-in into use: the first node alive, in the order the layout gives, that is not in use yet. `None`
    /// when nobody is left, and when the layout has changed since: its numbers mean other nodes.
    pub(super) fn recruit(&mut self, shared: &mut Shared) -> Option<Place> {
        let place = Place::new(usize::from(self.count))?;
        if shared.layout().epoch != self.view.hi {
            return None;
        }
        let is_new = |node: &&NodeIndex| !self.uses(**node) || bug::is_on(Bug::CountOneNodeTwice);
        self.nodes[place.index()] = *shared.stand_ins(self.view.prefix).iter().find(is_new)?;
        self.count += 1;
        Some(place)
    }

    /// Lets all stand-ins go but this node.
    pub(super) fn dismiss(&mut self) {
        self.count = self.owners.len() + u8::from(self.is_standing_in());
    }

    /// Whether this node coordinates, and then at [`Place::FIRST`].
    pub(super) fn is_mine(&self) -> bool {
        self.is_mine
    }

    /// Whether this node coordinates and is no owner.
    pub(super) fn is_standing_in(&self) -> bool {
        self.is_mine && !self.owners.contains(Place::FIRST)
    }

    /// Whether a place is this node.
    pub(super) fn is_me(&self, place: Place) -> bool {
        self.is_mine && place == Place::FIRST
    }

    /// The node at a place.
    pub(super) fn node(&self, place: Place) -> NodeIndex {
        self.nodes[place.index()]
    }

    /// All places.
    pub(super) fn places(&self) -> Places {
        Places::first(usize::from(self.count))
    }

    /// Where owners stand.
    pub(super) fn owners(&self) -> Places {
        self.owners
    }

    /// Where stand-ins stand.
    pub(super) fn stand_ins(&self) -> Places {
        self.places().without(self.owners)
    }

    /// The nodes at these places.
    pub(super) fn nodes(&self, places: Places) -> Vec<NodeIndex> {
        let mut nodes = Vec::with_capacity(usize::from(places.len()));
        nodes.extend(places.iter().map(|place| self.node(place)));
        nodes
    }

    /// The quorums of an operation that needs `need` answers of owners, or of this node if it stands in for them. One
    /// configuration is active for now: while the ring changes there will be one for each layout from the view's `lo` to its `hi`.
    pub(super) fn quorums(&self, need: u8) -> Result<Quorums, Failure> {
        let active = [Configuration { places: self.owners, need }];
        let mut quorums = Quorums::new(self.view, &active).ok_or_else(|| {
            Failure::new(ErrorCode::Internal, "the operation needs more answers than it has owners; nothing was done")
        })?;
        if self.is_standing_in() {
            quorums.admit(Place::FIRST);
        }
        Ok(quorums)
    }

    /// What a read asks of the node at a place: an owner for its record, a stand-in for what it keeps.
    pub(super) fn read(&self, store_key: StoreKey, place: Place, ask: Ask) -> PeerOperation {
        let action = match ask {
            Ask::Whole if self.owners.contains(place) => PeerAction::Read,
            Ask::Whole => PeerAction::ReadHint,
            Ask::Digest => PeerAction::Digest,
        };
        PeerOperation { view: self.view, store_key, action }
    }

    fn uses(&self, node: NodeIndex) -> bool {
        self.nodes[..usize::from(self.count)].contains(&node)
    }
}
