//! The ring as this node knows it at one moment, with everything that is kept by the nodes' positions: one unchangeable
//! piece, so that whoever holds it sees positions, owners and gauges that belong together. A change of the ring makes
//! another one; workers keep the latest themselves and look for no lock in between.

use std::sync::Arc;

use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState, NodeIndex},
    ring::Ring,
};

use super::{PeerGauge, Visible, deltas::Deltas};

/// The ring at one moment.
#[derive(Debug)]
pub(crate) struct Known {
    /// The layouts.
    pub(crate) ring: Arc<Ring>,
    /// The hash of the newest.
    pub(crate) layout_hash: [u8; 16],
    /// This node's place in the newest; `None` before it is taken in, and after it has left.
    pub(crate) me: Option<NodeIndex>,
    /// How each worker sees each node.
    gauges: Vec<Vec<Arc<PeerGauge>>>,
    /// What has changed since earlier layouts.
    pub(super) deltas: Deltas,
}

impl Known {
    /// What node `id` knows when it starts with so many workers.
    pub(super) fn first(ring: Arc<Ring>, id: NodeId, workers: usize) -> Self {
        let nodes = ring.newest().members.len();
        let row = || std::iter::repeat_with(Arc::default).take(nodes).collect();
        Self {
            layout_hash: ring.newest().hash(),
            me: place(ring.newest(), id),
            gauges: std::iter::repeat_with(row).take(workers).collect(),
            deltas: Deltas::default(),
            ring,
        }
    }

    /// What it knows when the ring has changed. A node that kept its place keeps its gauges.
    pub(super) fn next(&self, ring: Arc<Ring>, id: NodeId) -> Self {
        let (old, new) = (self.layout(), ring.newest());
        let keep = |row: &Vec<Arc<PeerGauge>>| -> Vec<Arc<PeerGauge>> {
            let gauge = |(at, member): (usize, &Member)| match row.get(at) {
                Some(gauge) if old.members[at].id == member.id => Arc::clone(gauge),
                Some(_) | None => Arc::default(),
            };
            new.members.iter().enumerate().map(gauge).collect()
        };
        let gauges = self.gauges.iter().map(keep).collect();
        Self { layout_hash: new.hash(), me: place(new, id), gauges, deltas: Deltas::default(), ring }
    }

    /// The newest layout.
    pub(crate) fn layout(&self) -> &Arc<Layout> {
        self.ring.newest()
    }

    /// All nodes with a place in the ring but this one.
    pub(crate) fn others(&self) -> impl Iterator<Item = (NodeIndex, &Member)> {
        let members = (0..).map(NodeIndex).zip(&self.layout().members);
        members.filter(|(index, member)| Some(*index) != self.me && member.state != MemberState::Gone)
    }

    /// The place of a node in the newest layout.
    pub(crate) fn place_of(&self, node: NodeId) -> Option<NodeIndex> {
        place(self.layout(), node)
    }

    /// What people call a node.
    pub(crate) fn name_of(&self, node: NodeId) -> &str {
        let member = self.layout().index_of(node).and_then(|index| self.layout().member(index));
        member.map_or("?", |member| &member.name)
    }

    /// How a worker sees a node.
    pub(crate) fn gauge(&self, worker: usize, node: NodeIndex) -> Option<&Arc<PeerGauge>> {
        self.gauges.get(worker)?.get(usize::from(node.0))
    }

    /// How all workers see a node.
    pub(crate) fn gauges(&self, node: NodeIndex) -> impl Iterator<Item = &PeerGauge> + Clone {
        self.gauges.iter().filter_map(move |worker| worker.get(usize::from(node.0))).map(|gauge| &**gauge)
    }

    /// Another node called: it is alive. Workers that are pausing before they try to reach it again try at once. Returns whether
    /// there are any.
    pub(crate) fn heard(&self, node: NodeIndex) -> bool {
        let mut down = self.gauges(node).filter(|gauge| gauge.visible() == Visible::Down).peekable();
        let is_down = down.peek().is_some();
        down.for_each(PeerGauge::heard);
        is_down
    }

    /// The partitions this node owns by the newest layout.
    pub(crate) fn owned_partitions(&self) -> impl Iterator<Item = u32> + '_ {
        let layout = self.layout();
        let is_mine = |partition: &u32| layout.owners(*partition).any(|owner| Some(owner) == self.me);
        (0..layout.partitions()).filter(is_mine)
    }
}

/// The place of a node that has not left.
fn place(layout: &Layout, node: NodeId) -> Option<NodeIndex> {
    let index = layout.index_of(node)?;
    layout.member(index).filter(|member| member.state != MemberState::Gone).map(|_| index)
}
