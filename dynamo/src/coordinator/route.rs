//! The way of one operation: which owners it uses, in which order, and under which view.

use alloc::vec::Vec;

use super::{call::Ask, demand::Demand};
use crate::{
    ident::StoreKey,
    layout::{Layout, NodeIndex, View},
    operation::{ErrorCode, Failure},
    peer::{PeerAction, PeerOperation},
    quorum::{Configuration, PLACES_MAX, Place, Places, Quorums},
};

/// The owners an operation uses. If this node is one of them it stands first; the others follow it in the order of the
/// preference list and around its end, so that the owners of a partition spread the reads they ask of each other evenly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    nodes: [NodeIndex; PLACES_MAX],
    count: u8,
    /// Whether the first is this node.
    is_mine: bool,
    /// How many owners the key has, used or not.
    pub(super) replicas: u8,
    /// What every call of the operation carries, and what its answers count under.
    pub(super) view: View,
}

impl Route {
    /// The first `demand.owners` owners of the key, seen from `me`.
    pub(super) fn new(layout: &Layout, me: NodeIndex, store_key: &StoreKey, demand: &Demand) -> Self {
        let partition = layout.partition(&store_key.id());
        let owners = layout.owners(partition);
        let in_use = demand.owners.min(PLACES_MAX);
        let mine = owners.clone().take(in_use).position(|owner| owner == me);
        let mut nodes = [me; PLACES_MAX];
        let mut replicas = 0;
        let first = mine.unwrap_or(0);
        for (at, owner) in owners.enumerate() {
            replicas += 1;
            if at < in_use {
                nodes[if at < first { at + in_use - first } else { at - first }] = owner;
            }
        }
        Self { nodes, count: in_use as u8, is_mine: mine.is_some(), replicas, view: layout.view(partition) }
    }

    /// Whether this node is among the owners in use, and then at [`Place::FIRST`].
    pub(super) fn is_mine(&self) -> bool {
        self.is_mine
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

    /// The nodes at these places.
    pub(super) fn nodes(&self, places: Places) -> Vec<NodeIndex> {
        let mut nodes = Vec::with_capacity(usize::from(places.len()));
        nodes.extend(places.iter().map(|place| self.node(place)));
        nodes
    }

    /// The quorums of an operation that needs `need` answers. One configuration is active for now: while the ring changes
    /// there will be one for each layout from the view's `lo` to its `hi`.
    pub(super) fn quorums(&self, need: u8) -> Result<Quorums, Failure> {
        Quorums::new(self.view, &[Configuration { places: self.places(), need }]).ok_or_else(|| {
            Failure::new(ErrorCode::Internal, "the operation needs more answers than it has owners; nothing was done")
        })
    }

    /// What a read asks of a replica.
    pub(super) fn read(&self, store_key: StoreKey, ask: Ask) -> PeerOperation {
        let action = match ask {
            Ask::Whole => PeerAction::Read,
            Ask::Digest => PeerAction::Digest,
        };
        PeerOperation { view: self.view, store_key, action }
    }
}
