//! Faults strike, and end. None of them destroys what the cluster promised to survive: before a copy is destroyed the oracle is asked
//! whether another owner holds all of it. Then every loss is a bug.

use std::{collections::BTreeSet, sync::Arc};

use dynamo::{
    bug::{self, Bug},
    layout::{NodeIndex, View},
    ring::Ring,
};

use super::{World, disk::Disk, network::flipped, queue::Event, ring::number, shelf::Shelf};
use crate::plan::Fault;

/// The end of a fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mend {
    /// One hears the other again.
    Join { from: usize, to: usize },
    /// A disk has space again.
    Room(usize),
    /// A disk is as fast as before.
    Speed(usize),
    /// A node is restarted.
    Restart(usize),
}

impl World {
    pub(super) fn schedule_strike(&mut self, fault: Fault) {
        let rate = self.plan.faults.rate(fault);
        if rate > 0 {
            let at_us = self.now_us + self.random.around(u64::from(rate) * 1_000);
            self.queue.push(at_us, Event::Strike(fault));
        }
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        if !self.is_stormy {
            return;
        }
        self.schedule_strike(fault);
        let node = self.random.index(self.plan.nodes);
        if self.nodes[node].is_away() && !fault.is_ring() {
            return;
        }
        let has_struck = match fault {
            Fault::Crash => self.crash(node),
            Fault::Pause => self.pause(node),
            Fault::Cut => self.cut_pair(node, true),
            Fault::OneWayCut => self.cut_pair(node, false),
            Fault::Isolate => self.isolate(node),
            Fault::Clog => self.clog(node),
            Fault::DiskFull => self.fill_disk(node),
            Fault::SlowDisk => self.slow_disk(node),
            Fault::BitRot | Fault::Forget => self.rot(node, fault),
            Fault::Wipe => self.wipe(node),
            Fault::Restore => self.restore(node),
            Fault::ClockJump => self.jump_clock(node),
            Fault::Join
            | Fault::Leave
            | Fault::Replace
            | Fault::Reweight
            | Fault::Abort
            | Fault::DoubleCommit
            | Fault::ChangeN
            | Fault::DoubleQ
            | Fault::GiveUp => self.administrate(fault),
            Fault::Loss
            | Fault::Duplicate
            | Fault::Reorder
            | Fault::Damage
            | Fault::CommitFailure
            | Fault::ClockDrift => false,
        };
        if has_struck {
            self.figures.faults += 1;
            self.figures.struck[fault as usize] += 1;
            self.trace.line(self.now_us, || format!("fault: {} at n{node}", fault.name()));
        }
    }

    pub(super) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Join { from, to } => self.network.join(from, to),
            Mend::Room(node) => self.nodes[node].is_full = false,
            Mend::Speed(node) => self.nodes[node].slow_ms = 0,
            Mend::Restart(node) => {
                self.stop(node);
                self.start(node);
            }
        }
    }

    fn later(&mut self, low_ms: u64, high_ms: u64, event: Event) {
        let at_us = self.now_us + 1_000 * self.random.between(low_ms, high_ms);
        self.queue.push(at_us, event);
    }

    fn crash(&mut self, node: usize) -> bool {
        if self.nodes[node].process.is_none() {
            return false;
        }
        self.stop(node);
        self.later(50, 5_000, Event::Start(node));
        true
    }

    fn pause(&mut self, node: usize) -> bool {
        let until_us = self.now_us + 1_000 * self.random.between(100, 5_000);
        self.nodes[node].paused_until_us = self.nodes[node].paused_until_us.max(until_us);
        self.nodes[node].resumed_us = self.nodes[node].paused_until_us;
        true
    }

    fn cut_pair(&mut self, node: usize, both: bool) -> bool {
        let other = self.random.index(self.plan.nodes + self.plan.clients);
        if other == node {
            return false;
        }
        let (from, to) = if self.random.chance(500) { (node, other) } else { (other, node) };
        self.cut_for_a_while(from, to, both);
        true
    }

    fn cut_for_a_while(&mut self, from: usize, to: usize, both: bool) {
        let at_us = self.now_us + 1_000 * self.random.between(100, 6_000);
        self.cut_until(from, to, both, at_us);
    }

    fn cut_until(&mut self, from: usize, to: usize, both: bool, at_us: u64) {
        self.network.cut(from, to);
        self.queue.push(at_us, Event::Mend(Mend::Join { from, to }));
        if both {
            self.network.cut(to, from);
            self.queue.push(at_us, Event::Mend(Mend::Join { from: to, to: from }));
        }
    }

    /// A node, with or without the clients, on its own side of a cut.
    fn isolate(&mut self, node: usize) -> bool {
        let parties = if self.random.chance(500) { self.plan.nodes } else { self.plan.nodes + self.plan.clients };
        for other in (0..parties).filter(|other| *other != node) {
            self.cut_for_a_while(node, other, true);
        }
        true
    }

    /// No other node hears this one, or is heard by it, for so long; clients may.
    pub(super) fn cut_off(&mut self, node: usize, for_us: u64) {
        for other in (0..self.plan.nodes).filter(|other| *other != node) {
            self.cut_until(node, other, true, self.now_us + for_us);
        }
    }

    fn clog(&mut self, node: usize) -> bool {
        let other = self.random.index(self.plan.nodes + self.plan.clients);
        let until_us = self.now_us + 1_000 * self.random.between(100, 3_000);
        self.network.clog(node, other, until_us);
        other != node
    }

    fn fill_disk(&mut self, node: usize) -> bool {
        self.nodes[node].is_full = true;
        self.later(300, 4_000, Event::Mend(Mend::Room(node)));
        true
    }

    fn slow_disk(&mut self, node: usize) -> bool {
        self.nodes[node].slow_ms = self.random.between(10, 400);
        self.later(500, 5_000, Event::Mend(Mend::Speed(node)));
        true
    }

    fn jump_clock(&mut self, node: usize) -> bool {
        let range = *self.random.pick(&[300, 5_000, 3_600_000]);
        self.nodes[node].wall_offset_ms = self.random.between(0, 2 * range) as i64 - range as i64;
        true
    }

    /// Destroys a node's record of a key, if nothing is lost by it that was promised.
    fn rot(&mut self, node: usize, fault: Fault) -> bool {
        if self.random.chance(200) && self.rot_hint(node) {
            return true;
        }
        let key = self.random.index(self.plan.keys);
        let store_key = self.oracle.address(key).store_key;
        let Some(record) = self.nodes[node].disk.records.get(&store_key).cloned() else { return false };
        if !self.may_destroy(node, key) {
            return false;
        }
        let record = match fault {
            Fault::Forget => bytes::Bytes::new(),
            _ => flipped(&record, self.random.draw()),
        };
        self.nodes[node].disk.records.insert(store_key, record);
        self.nodes[node].unreadable.insert(key);
        self.oracle.destroyed(node, key);
        true
    }

    /// Destroys a hint, if owners hold all of it.
    fn rot_hint(&mut self, node: usize) -> bool {
        let count = self.nodes[node].shelf.hints.len();
        if count == 0 || self.nodes[node].process.as_ref().is_some_and(|process| process.keeping.is_some()) {
            return false;
        }
        let at = self.random.index(count);
        let Some((name, hint)) = self.nodes[node].shelf.hints.iter().nth(at) else { return false };
        let (name, hint) = (*name, hint.clone());
        let key = self.oracle.number(&name.store_key);
        let sound = self.sound(key);
        let is_sound = |owner: usize| sound.contains(&owner);
        if self.nodes[node].rotten_hints.contains(&name) || !self.oracle.is_held(key, &hint, is_sound) {
            return false;
        }
        let damaged = flipped(&hint, self.random.draw());
        self.nodes[node].shelf.hints.insert(name, damaged);
        self.nodes[node].rotten_hints.insert(name);
        self.figures.sometimes.rotten_hints += 1;
        true
    }

    /// The nodes whose copies of a key count, will count, and can be read.
    fn sound(&self, key: usize) -> BTreeSet<usize> {
        let is_there = |node: &usize| !self.nodes[*node].is_out && !self.doomed.contains(node);
        (0..self.plan.nodes).filter(|node| is_there(node) && !self.nodes[*node].unreadable.contains(&key)).collect()
    }

    /// One copy of a key at a time, and only one that other owners can make good.
    fn may_destroy(&self, node: usize, key: usize) -> bool {
        let sound = self.sound(key);
        let is_sound = |owner: usize| sound.contains(&owner);
        self.oracle.holders(key).into_iter().all(is_sound) && self.oracle.may_destroy(node, key, is_sound)
    }

    fn may_lose_directory(&mut self, node: usize) -> bool {
        let is_ring_fixed = !self.plan.faults.change_ring();
        let is_first = self.nodes.iter().all(|node| !node.is_out) || !is_ring_fixed;
        if !is_ring_fixed && !self.survives_without(node) {
            return false;
        }
        let hints: Vec<_> = self.nodes[node].shelf.hints.iter().map(|(name, hint)| (*name, hint.clone())).collect();
        let are_held = hints.iter().all(|(name, hint)| {
            let key = self.oracle.number(&name.store_key);
            let sound = self.sound(key);
            let is_sound = |owner: usize| owner != node && sound.contains(&owner);
            self.nodes[node].rotten_hints.contains(name) || self.oracle.is_held(key, hint, is_sound)
        });
        let is_quiet = self.nodes[node].process.as_ref().is_none_or(|process| process.keeping.is_none());
        is_first && are_held && is_quiet && (0..self.plan.keys).all(|key| self.may_destroy(node, key))
    }

    /// A data directory is emptied. The node is a stranger then and stays away; what comes back, comes under a new identity.
    fn wipe(&mut self, node: usize) -> bool {
        if !self.may_lose_directory(node) {
            return false;
        }
        self.stop(node);
        self.lose_directory(node, Disk::default());
        true
    }

    /// First a copy of a directory is made; later it takes the directory's place. Peers notice by its position.
    fn restore(&mut self, node: usize) -> bool {
        let Some(copy) = self.nodes[node].copy.take() else {
            self.nodes[node].copy = Some(self.nodes[node].disk.clone());
            return false;
        };
        if copy.position == self.nodes[node].disk.position || !self.may_lose_directory(node) {
            self.nodes[node].copy = Some(copy);
            return false;
        }
        self.stop(node);
        self.lose_directory(node, copy);
        true
    }

    pub(super) fn lose_directory(&mut self, node: usize, disk: Disk) {
        self.nodes[node].disk = disk;
        self.nodes[node].unreadable.clear();
        self.nodes[node].shelf = Shelf::default();
        (0..self.plan.keys).for_each(|key| self.oracle.destroyed(node, key));
        self.nodes[node].promises = None;
        if bug::is_on(Bug::WipedKeepsIdentity) {
            return self.later(50, 1_000, Event::Start(node));
        }
        self.nodes[node].is_out = true;
    }

    /// Whether a majority of every configuration that may be active is there without a node: what is lost beyond that is an operator's
    /// decision, and nothing is promised of it.
    pub(super) fn survives_without(&self, node: usize) -> bool {
        let mut layouts = self.decided.values();
        let Some(first) = layouts.next() else { return false };
        let mut ring = Ring::new(Arc::clone(first));
        if layouts.any(|layout| ring.push(Arc::clone(layout)).is_err()) {
            return false;
        }
        let newest = Arc::clone(ring.newest());
        let is_lost = |owner: &NodeIndex| {
            let owner = newest.member(*owner).map_or(usize::MAX, |member| number(member.id));
            owner == node || self.oracle.is_given_up(owner) || self.nodes.get(owner).is_none_or(|owner| owner.is_out)
        };
        (0..newest.partitions()).all(|partition| {
            let settled = newest.settled_view(partition);
            let key = settled.first_key();
            let rows = self.nodes.iter().filter(|node| !node.is_out);
            let rows = rows.filter_map(|node| node.disk.row_of(&key, settled.bits));
            let lo = rows.filter(|row| !row.is_moved).map(|row| row.view.lo).min().unwrap_or(1);
            let sets = ring.configurations(&key.id(), &View { lo: lo.min(settled.hi), ..settled });
            sets.is_some_and(|sets| {
                sets.iter().all(|set| 2 * set.owners.iter().filter(|owner| is_lost(owner)).count() < set.owners.len())
            })
        })
    }
}
