//! The ring of each node: the layouts it knows, durably, how it hears of newer ones and fetches them, and how its rows, its coordinator
//! and its steward follow. Positions in the ring are the layouts' business; in the simulation a node is a number for ever, and an
//! identity is that number and one.

use std::sync::Arc;

use dynamo::{
    coordinator::Input,
    ident::NodeId,
    layout::{Layout, MemberState, NodeIndex, View},
    replica::{Adoption, PartitionRow},
    ring::{Misfit, Ring},
    steward,
};

use super::{
    World,
    queue::{Body, Event, Message, Party},
};
use crate::invariant::Invariant;

/// How often a node tells another which layout it knows.
const GOSSIP_EVERY_US: u64 = 300_000;

/// How long it takes until a layout that is wanted is asked for.
const WANT_US: u64 = 2_000;

/// The identity of a node.
pub(super) fn identity(node: usize) -> NodeId {
    NodeId(node as u128 + 1)
}

/// The node with an identity.
pub(super) fn number(id: NodeId) -> usize {
    (id.0 as usize).wrapping_sub(1)
}

impl World {
    /// The position of a node, as another knows it.
    pub(super) fn position(&self, viewer: usize, node: usize) -> Option<NodeIndex> {
        self.nodes[viewer].ring.newest().index_of(identity(node))
    }

    /// The node at a position, as another knows it.
    pub(super) fn number_at(&self, viewer: usize, index: NodeIndex) -> Option<usize> {
        let newest = self.nodes[viewer].ring.newest();
        newest.member(index).map(|member| number(member.id)).filter(|node| *node < self.plan.nodes)
    }

    /// The newest layout that anybody decided.
    pub(super) fn newest(&self) -> &Arc<Layout> {
        self.decided.last_key_value().map_or(self.nodes[0].ring.newest(), |(_, layout)| layout)
    }

    /// A node learns of a layout that was decided. What follows from it does so in its own time.
    pub(super) fn learn(&mut self, node: usize, layout: &Arc<Layout>) {
        if self.nodes[node].process.is_none() {
            return;
        }
        self.note_decided(node, layout);
        let mut ring = Ring::clone(&self.nodes[node].ring);
        let learned = match ring.push(Arc::clone(layout)) {
            Err(Misfit::Old) => ring.prepend(Arc::clone(layout)),
            learned => learned,
        };
        if learned.is_err() {
            return;
        }
        self.trace.line(self.now_us, || format!("n{node} learns layout {}", layout.epoch));
        self.figures.sometimes.layouts_learned += 1;
        self.nodes[node].ring = Arc::new(ring);
        self.follow(node);
    }

    /// One layout for one epoch, whoever learns of it.
    fn note_decided(&mut self, node: usize, layout: &Arc<Layout>) {
        match self.decided.get(&layout.epoch) {
            None => {
                let lost = self.oracle.decided(layout);
                self.figures.sometimes.layouts_decided += 1;
                self.decided.insert(layout.epoch, Arc::clone(layout));
                self.given_up(&lost);
            }
            Some(known) if known == layout => {}
            Some(_) => {
                let epoch = layout.epoch;
                self.oracle.broken(Invariant::I11, || format!("n{node} knows another layout for epoch {epoch}"));
            }
        }
    }

    /// Brings a node's rows in line with its ring, then tells its coordinator and its steward. A transaction that is under way ends
    /// first.
    pub(super) fn follow(&mut self, node: usize) {
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        if process.committing.is_some() || process.has_failed {
            process.is_follow_due = true;
            return;
        }
        process.is_follow_due = false;
        let ring = Arc::clone(&self.nodes[node].ring);
        let me = self.position(node, node);
        if let Some(me) = me {
            let adoption = Adoption::new(Ring::clone(&ring), me);
            let rows = self.nodes[node].disk.decoded_rows();
            let due = adoption.due(&rows);
            if !due.is_empty() {
                self.adopt_rows(node, &adoption, &rows, &due);
            }
        }
        self.tell_ring(node, me, ring);
    }

    fn adopt_rows(&mut self, node: usize, adoption: &Adoption, rows: &[PartitionRow], due: &[(u8, u32)]) {
        let state = &mut self.nodes[node];
        let Some(process) = state.process.as_mut() else { return };
        let mut transaction = state.disk.begin();
        let mut batch = process.replica.begin();
        let Ok(is_whole) = batch.adopt(&mut transaction, adoption, due);
        let Ok(staged) = batch.stage(&mut transaction);
        staged.committed();
        let changes = transaction.finish();
        if !is_whole {
            let counted = |row: &PartitionRow| {
                let View { prefix, bits, .. } = row.view;
                let records =
                    self.nodes[node].disk.records.keys().filter(|key| key.id().prefix(bits) == prefix).count();
                (prefix, bits, row.records, records)
            };
            let counted: Vec<_> =
                rows.iter().map(counted).filter(|(_, _, said, found)| *said != *found as u64).collect();
            self.oracle.broken(Invariant::I9, || {
                format!("n{node} lost records of a partition that is split (prefix, bits, said, found): {counted:?}")
            });
        }
        self.apply(node, &changes);
    }

    fn tell_ring(&mut self, node: usize, me: Option<NodeIndex>, ring: Arc<Ring>) {
        let tick = self.nodes[node].tick(self.now_us);
        let rows = self.nodes[node].disk.decoded_rows();
        let standings = rows.iter().map(PartitionRow::standing).collect();
        let mut effects = Vec::new();
        if let Some(process) = self.nodes[node].process.as_mut() {
            process.coordinator.set_ring(tick, me, Arc::clone(&ring), &mut effects);
        }
        self.carry_out_all(node, effects);
        for row in &rows {
            self.drive(node, Input::View { view: row.view });
        }
        self.tell_steward(node, steward::Input::Ring { me, ring, rows: standings });
        // Who was away before it had a position.
        for peer in 0..self.plan.nodes {
            let is_away = self.nodes[node].process.as_ref().is_some_and(|process| process.peers[peer].is_away);
            if is_away {
                self.peer_state(node, peer, false);
            }
        }
    }

    /// A node tells another, now and then, which layout it knows.
    pub(super) fn gossip(&mut self, node: usize) {
        let Some(process) = self.nodes[node].process.as_ref() else { return };
        let incarnation = process.incarnation;
        let at_us = self.now_us + self.random.around(GOSSIP_EVERY_US);
        self.queue.push(at_us, Event::Gossip { node, incarnation });
        let to = self.random.index(self.plan.nodes);
        if to != node && self.nodes[to].process.is_some() {
            let epoch = self.nodes[node].ring.epoch();
            self.tell(node, to, Body::Gossip { epoch });
        }
    }

    /// Another node knows a layout.
    pub(super) fn hear_gossip(&mut self, node: usize, from: Party, epoch: u64) {
        let mine = self.nodes[node].ring.epoch();
        if epoch > mine {
            self.tell(node, from, Body::AskLayout { epoch: mine + 1 });
        }
    }

    /// A node lacks a layout: whoever may have it is asked.
    /// A node has a layout fetched, unless it does so already: a wish that is told twice is one, or a node that follows for each of them
    /// and wishes again would have more and more.
    pub(super) fn wish_for(&mut self, node: usize, epoch: u64) {
        let Some(incarnation) = self.nodes[node].process.as_ref().map(|process| process.incarnation) else { return };
        if self.wishes.insert((node, incarnation, epoch)) {
            self.queue.push(self.now_us + WANT_US, Event::WantLayout { node, incarnation, epoch });
        }
    }

    pub(super) fn want_layout(&mut self, node: usize, epoch: u64) {
        if self.nodes[node].ring.layout(epoch).is_some() {
            return self.follow(node);
        }
        let epoch = epoch.min(self.nodes[node].ring.epoch() + 1);
        let others: Vec<usize> =
            (0..self.plan.nodes).filter(|other| *other != node && !self.nodes[*other].is_away()).collect();
        if !others.is_empty() {
            let to = *self.random.pick(&others);
            self.tell(node, to, Body::AskLayout { epoch });
        }
    }

    pub(super) fn serve_layout(&mut self, node: usize, from: Party, epoch: u64) {
        if let Some(layout) = self.nodes[node].ring.layout(epoch).cloned() {
            let newest = self.nodes[node].ring.epoch();
            self.tell(node, from, Body::Layout { layout, newest });
        }
    }

    /// A layout arrives, and perhaps it is not the last.
    pub(super) fn hear_layout(&mut self, node: usize, from: Party, layout: &Arc<Layout>, newest: u64) {
        self.fetched(node, layout);
        self.learn(node, layout);
        self.hear_gossip(node, from, newest);
    }

    fn tell(&mut self, node: usize, to: Party, body: Body) {
        self.send(Message { from: node, to, incarnation: 0, doubled: false, body });
    }

    /// Whether a node takes part in the newest layout.
    pub(super) fn is_member(&self, node: usize) -> bool {
        let newest = self.newest();
        let member = newest.index_of(identity(node)).and_then(|index| newest.member(index));
        member.is_some_and(|member| member.state != MemberState::Gone)
    }
}
