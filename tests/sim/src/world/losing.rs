//! Nodes are given up for lost: those whose directory is lost, those that are away and come back later, and some that are well. Plan and
//! decision are those of every other change ([`super::deciding`]); what may be lost by them is the oracle's business.

use std::sync::Arc;

use dynamo::{
    layout::{Member, MemberState, SLOT_EMPTY},
    staging::Change,
};

use super::{
    World,
    disk::Disk,
    queue::Event,
    ring::{identity, number},
};
use crate::{
    oracle::{Dots, KeyNumber},
    plan::Fault,
};

/// How long a node is away that is given up because of it, at least and at most, in milliseconds: long enough to be believed dead, and
/// in most runs not longer than they last.
const AWAY_MS: (u64, u64) = (2_000, 25_000);

/// Of a thousand nodes that are away when they are given up, so many never come back.
const DEAD: u32 = 400;

/// Of a thousand nodes that are given up, so many whose places others are to take.
const REPLACED: u32 = 600;

/// Of a thousand times that an operator accepts losses, so many that two nodes are given up at once.
const IN_PAIRS: u32 = 300;

impl World {
    /// An administrator gives a node up, and perhaps another one with it.
    pub(super) fn give_up(&mut self) -> bool {
        // `repair status` names records that can't be read: while another copy may be the last good one, an operator waits.
        let counts = |node: &usize| !self.nodes[*node].is_out && !self.oracle.is_given_up(*node);
        if (0..self.plan.nodes).filter(counts).any(|node| !self.nodes[node].unreadable.is_empty()) {
            return false;
        }
        let mut is_safe = true;
        let count = 1 + usize::from(self.plan.accepts_loss && self.random.chance(IN_PAIRS));
        let mut lost: Vec<usize> = Vec::new();
        for _ in 0..count {
            let Some(node) = self.somebody_to_give_up(&lost) else { break };
            is_safe &= self.survives_without(node);
            lost.push(node);
        }
        let there: Vec<usize> = (0..self.plan.nodes)
            .filter(|node| self.nodes[*node].process.is_some() && self.is_member(*node) && !lost.contains(node))
            .collect();
        if lost.is_empty() || there.is_empty() {
            return false;
        }
        let office = *self.random.pick(&there);
        let layout = Arc::clone(self.nodes[office].ring.newest());
        let (mut changes, doomed) = (Vec::new(), lost.clone());
        for node in lost {
            self.go_away(node);
            let index = layout.index_of(identity(node));
            let Some(member) = index.and_then(|index| layout.member(index)).cloned() else { continue };
            if member.state == MemberState::Active && self.random.chance(REPLACED) {
                changes.extend(self.replacement(&layout, &member));
            }
            changes.push(Change::Lost(member.id));
        }
        self.doomed.extend(doomed);
        // Who loses nothing knowingly does not give up one of two that are left, the other of whom is dead: no plan can know that.
        if !is_safe && !self.plan.accepts_loss {
            self.planned(office, &changes);
            return false;
        }
        self.propose(office, &changes)
    }

    /// Whether operators give nodes up, whatever is lost by it.
    pub(super) fn gives_up(&self) -> bool {
        self.plan.accepts_loss && self.plan.faults.rate(Fault::GiveUp) > 0
    }

    /// A node that the ring can't come to rest without, once so much was given up beside it, and whose directory is lost: `ring transfers`
    /// names it.
    pub(super) fn hopeless(&self) -> Option<Member> {
        let is_hopeless = |member: &&Member| match member.state {
            MemberState::Active | MemberState::Leaving => self.nodes[number(member.id)].is_out,
            MemberState::Lost | MemberState::Gone => false,
        };
        self.newest().members.iter().find(is_hopeless).cloned()
    }

    /// An operator does what `ring transfers` says.
    pub(super) fn give_up_at_last(&mut self, member: &Member) {
        if let Some(office) = self.last_office() {
            self.propose(office, &[Change::Lost(member.id)]);
        }
    }

    /// A member that can be given up: half of the time one whose directory is lost, if there is one.
    fn somebody_to_give_up(&mut self, but: &[usize]) -> Option<usize> {
        let newest = Arc::clone(self.newest());
        let may_be_lost = |member: &&Member| match member.state {
            MemberState::Active | MemberState::Leaving => !but.contains(&number(member.id)),
            MemberState::Lost | MemberState::Gone => false,
        };
        let members: Vec<usize> = newest.members.iter().filter(may_be_lost).map(|member| number(member.id)).collect();
        let out: Vec<usize> = members.iter().copied().filter(|node| self.nodes[*node].is_out).collect();
        let from = if !out.is_empty() && self.random.chance(500) { out } else { members };
        (!from.is_empty()).then(|| *self.random.pick(&from))
    }

    /// Why an operator gives it up: it has crashed, or nobody reaches it; or for no reason that can be seen from here.
    fn go_away(&mut self, node: usize) {
        let away_us = 1_000 * self.random.between(AWAY_MS.0, AWAY_MS.1);
        match self.random.below(3) {
            0 if self.nodes[node].process.is_some() => {
                self.stop(node);
                self.queue.push(self.now_us + away_us, Event::Start(node));
            }
            1 => self.cut_off(node, away_us),
            _ => {}
        }
    }

    /// These were given up by a layout of which somebody knows now. Some are dead, and their disks with them.
    pub(super) fn given_up(&mut self, lost: &[usize]) {
        if lost.is_empty() {
            return;
        }
        for node in lost {
            self.figures.sometimes.given_up += 1;
            self.figures.sometimes.given_up_alive += u64::from(self.nodes[*node].process.is_some());
            self.trace.line(self.now_us, || format!("n{node} is given up"));
        }
        (0..self.plan.keys).for_each(|key| self.part(key, 0));
        for &node in lost {
            if self.nodes[node].process.is_none() && !self.nodes[node].is_out && self.random.chance(DEAD) {
                self.trace.line(self.now_us, || format!("n{node} is dead"));
                self.lose_directory(node, Disk::default());
            }
        }
    }

    /// Copies of a key are gone or count no more, and whoever parted with them knew the layouts up to `epoch`: the oracle looks at what
    /// is left.
    pub(super) fn part(&mut self, key: KeyNumber, epoch: u64) {
        if !self.oracle.has_losses() {
            return;
        }
        let store_key = self.oracle.address(key).store_key;
        let mut hinted = vec![Dots::default(); self.plan.nodes];
        for (node, dots) in self.nodes.iter().zip(&mut hinted) {
            for (_, hint) in node.shelf.hints.iter().filter(|(name, _)| name.store_key == store_key) {
                dots.unite(&self.oracle.understand(key, hint).unwrap_or_default());
            }
        }
        self.oracle.part(key, &hinted, epoch);
    }

    /// Whether owners that were given up still stand in the newest layout, because partitions could not be moved again then.
    pub(super) fn has_lost_owners(&self) -> bool {
        let newest = self.newest();
        let is_lost = |slot: &u16| {
            let member = newest.members.get(usize::from(*slot));
            *slot != SLOT_EMPTY && member.is_none_or(|member| member.state != MemberState::Active)
        };
        newest.slots.iter().any(is_lost)
    }

    /// Whether a node was given up and has nothing to say any more: it is dead, or knows it.
    pub(super) fn is_done_with(&self, node: usize) -> bool {
        let newest = self.nodes[node].ring.newest();
        let member = newest.index_of(identity(node)).and_then(|index| newest.member(index));
        let knows = member.is_none_or(|member| matches!(member.state, MemberState::Lost | MemberState::Gone));
        self.oracle.is_given_up(node) && (self.nodes[node].is_out || knows)
    }
}
