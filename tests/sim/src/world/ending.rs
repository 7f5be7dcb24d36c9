//! The second phase: the storm is over, what can run runs, and within a bounded time every owner must hold the same bytes, no hint
//! may be left whose target is there, every unreadable record must be rebuilt, and nothing may be left to repair.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

use dynamo::{
    hint::HintKey,
    layout::{Level, Member, MemberState},
    operation::{Action, Consistency, Operation},
    staging::Change,
    steward::Input,
};

use super::{World, queue::Event, ring::number};
use crate::{invariant::Invariant, oracle::Dots};

/// How long the cluster may take to become level after the last fault, without a single read: the longest time between two exchanges
/// of a partition with each of its owners, retries and returns on top.
const LEVEL_MS: u64 = 300_000;

/// How long changes of the ring may take after the last fault, the replacement of what was lost included.
const SETTLE_MS: u64 = 300_000;

/// How long it is watched whether anything is still repaired.
const WATCH_MS: u64 = 8_000;

/// How often a read of the end is tried.
const READS_MAX: u32 = 12;

/// How long one read of the end may take.
const READ_MS: u64 = 4_000;

impl World {
    /// Heals everything but what is lost for good, and demands convergence.
    pub(super) fn converge(&mut self) {
        self.trace.line(self.now_us, || "the storm is over".to_owned());
        self.heal();
        if self.plan.faults.change_ring() && !self.settle() {
            return;
        }
        let until_us = self.now_us + LEVEL_MS * 1_000;
        self.run_for(4_000);
        while !self.is_level() && self.now_us < until_us && self.oracle.violation().is_none() {
            self.run_for(1_000);
        }
        self.judge_end();
        let repairs = self.repairs();
        for node in 0..self.plan.nodes {
            self.tell_steward(node, Input::Run { exchange: true, hints: true });
        }
        for key in 0..self.plan.keys {
            self.read_everywhere(key);
        }
        self.run_for(WATCH_MS);
        if self.repairs() != repairs {
            self.oracle.broken(Invariant::I9, || "something was repaired although all owners are equal".to_owned());
        }
    }

    /// Whatever was lost is replaced, whatever moves arrives, and within a bounded time nobody holds what it does not own. `false` if the
    /// ring can't be changed any more, and then no more can be asked of it: most of its electors are destroyed, as may happen to two
    /// nodes, of which one decides for both; or the last copy of a record is damaged, as may happen where one node remains.
    fn settle(&mut self) -> bool {
        let until_us = self.now_us + SETTLE_MS * 1_000;
        self.run_for(2_000);
        while self.oracle.violation().is_none()
            && !(self.lost_member().is_none()
                && !self.has_lost_owners()
                && self.is_settled()
                && self.strays().is_none())
        {
            if self.now_us > until_us {
                let what = self.unsettled();
                self.oracle.broken(Invariant::I9, || what);
                return true;
            }
            if !self.can_be_changed() {
                return false;
            }
            if self.lost_member().is_some() || self.has_lost_owners() {
                self.make_good(self.lost_member());
            } else if let Some(member) = self.hopeless() {
                self.give_up_at_last(&member);
            }
            self.run_for(2_000);
        }
        self.can_be_changed()
    }

    fn can_be_changed(&mut self) -> bool {
        let Some(why) = self.unchangeable() else { return true };
        self.figures.sometimes.unchangeable += 1;
        self.trace.line(self.now_us, || format!("{why}, and the ring stays as it is"));
        false
    }

    /// Why nobody can be asked to change the ring any more.
    fn unchangeable(&self) -> Option<String> {
        let newest = self.newest();
        let electors = newest.electors.iter().filter_map(|elector| newest.member(*elector));
        let destroyed = electors.filter(|member| self.nodes[number(member.id)].is_out).count();
        if 2 * destroyed >= newest.electors.len() {
            return Some("most electors are destroyed".to_owned());
        }
        // Damage that nobody had noticed when the last other owner left: a partition is not read in full any more.
        let counts = |node: usize| !self.nodes[node].is_out && !self.oracle.is_given_up(node);
        let is_damaged =
            |key: usize| (0..self.plan.nodes).any(|node| counts(node) && self.nodes[node].unreadable.contains(&key));
        let last = (0..self.plan.keys).find(|key| is_damaged(*key) && self.oracle.is_beyond_repair(*key, counts));
        last.map(|key| format!("the last copy of key {key} is damaged"))
    }

    /// A member whose directory is lost and that the ring still counts on.
    pub(super) fn lost_member(&self) -> Option<Member> {
        let is_lost = |member: &&Member| member.state == MemberState::Active && self.nodes[number(member.id)].is_out;
        self.newest().members.iter().find(is_lost).cloned()
    }

    /// Puts another node in the place of one that is lost, or does without it if there is none; and moves what had to stay with owners that
    /// were given up.
    fn make_good(&mut self, lost: Option<Member>) {
        let newest = Arc::clone(self.newest());
        let Some(office) = self.last_office() else { return };
        let gives_up = self.gives_up();
        let Some(lost) = lost else {
            self.propose(office, &[]);
            return;
        };
        let mut changes = self.replacement(&newest, &lost);
        if changes.is_empty() {
            changes = vec![Change::Leave(lost.id)];
        }
        // Where too much waits for it already, an operator is told to give it up, and does if nothing is lost by that.
        if gives_up || !self.propose(office, &changes) {
            changes.push(Change::Lost(lost.id));
            self.propose(office, &changes);
        }
    }

    /// The node by which changes are made at the end. The newest layout may be known to those alone who are lost: then the electors tell
    /// whoever proposes another one.
    pub(super) fn last_office(&self) -> Option<usize> {
        let is_left = |node: &usize| self.nodes[*node].process.is_some() && !self.oracle.is_given_up(*node);
        let is_there = |node: &usize| is_left(node) && self.is_member(*node);
        let known = |node: &usize| (self.nodes[*node].ring.epoch(), Reverse(*node));
        (0..self.plan.nodes).filter(is_there).max_by_key(known)
    }

    /// A node that holds what it does not own.
    fn strays(&self) -> Option<String> {
        (0..self.plan.keys).find_map(|key| {
            let (owners, store_key) = (self.oracle.owners(key), self.oracle.address(key).store_key);
            let is_stray = |node: &usize| {
                !owners.contains(node)
                    && !self.nodes[*node].is_out
                    && !self.oracle.is_given_up(*node)
                    && self.nodes[*node].disk.records.contains_key(&store_key)
            };
            let stray = (0..self.plan.nodes).find(is_stray)?;
            Some(format!("n{stray} holds key {key}, which {owners:?} own"))
        })
    }

    /// What keeps the ring from being settled, in words.
    fn unsettled(&self) -> String {
        let newest = self.newest();
        let mut what = vec![format!("layout {} is not settled after {SETTLE_MS} ms", newest.epoch)];
        what.extend(self.lost_member().map(|member| format!("{} is lost", member.name)));
        for (number, node) in self.nodes.iter().enumerate().filter(|(_, node)| !node.is_away()) {
            let epoch = node.ring.epoch();
            let unsettled = node.process.as_ref().map_or(u32::MAX, |process| process.steward.unsettled());
            if unsettled > 0 || epoch != newest.epoch {
                let transfers = node.process.as_ref().map(|process| process.steward.transfers());
                what.push(format!("n{number} knows {epoch}, {unsettled} partitions are unsettled: {transfers:?}"));
            }
        }
        what.extend(self.strays());
        what.join("; ")
    }

    fn heal(&mut self) {
        self.is_stormy = false;
        self.network.heal();
        for node in 0..self.plan.nodes {
            let healed = &mut self.nodes[node];
            healed.is_full = false;
            healed.slow_ms = 0;
            healed.wall_offset_ms = 0;
            if healed.process.as_ref().is_some_and(|process| process.has_failed) {
                self.stop(node);
            }
            self.start(node);
        }
    }

    pub(super) fn run_for(&mut self, duration_ms: u64) {
        let until_us = self.now_us + duration_ms * 1_000;
        self.queue.push(until_us, Event::Rest);
        while self.now_us < until_us && self.oracle.violation().is_none() {
            self.step();
        }
    }

    /// A read that asks all owners that are left, and waits for it.
    fn read_everywhere(&mut self, key: usize) {
        let left = self.owners_left(key).len() as u8;
        if left == 0 || self.oracle.violation().is_some() {
            return;
        }
        let consistency = Consistency { level: Some(Level::Quorum), r: left, w: 0, n: 0 };
        let address = self.oracle.address(key).clone();
        // Clients leave a node that was silent alone for up to half a minute.
        for _ in 0..READS_MAX {
            let operation =
                Operation { address: address.clone(), consistency, action: Action::Get { without_values: false } };
            self.clients[0].last = None;
            self.submit_operation(0, operation, false, READ_MS);
            self.advance_client(0);
            while self.clients[0].last.is_none() && self.oracle.violation().is_none() {
                self.step();
            }
            if matches!(self.clients[0].last, Some(Ok(_))) {
                return;
            }
            self.run_for(READ_MS);
            // A client that reaches none of the nodes it knows asks its endpoints.
            if let Some(office) = self.last_office() {
                self.serve_client_layout(office, self.plan.nodes);
            }
        }
        self.oracle.broken(Invariant::I12, || format!("key {key} can't be read although all its owners are well"));
    }

    /// The owners of a key that are there.
    fn owners_left(&self, key: usize) -> Vec<usize> {
        let owners = self.oracle.owners(key).iter().copied();
        owners.filter(|&owner| !self.nodes[owner].is_out && !self.oracle.is_given_up(owner)).collect()
    }

    /// What repairs there have been: by reads and by exchanges. Delivering hints is no repair.
    fn repairs(&self) -> u64 {
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        processes
            .map(|process| {
                let counters = process.coordinator.counters();
                counters.repairs + counters.fetches + process.steward.status().exchange.repaired
            })
            .sum()
    }

    /// Whether all owners of a key hold the same bytes.
    fn is_key_level(&self, key: usize) -> bool {
        let owners = self.owners_left(key);
        let store_key = self.oracle.address(key).store_key;
        let records: BTreeSet<_> = owners.iter().map(|&at| self.nodes[at].disk.records.get(&store_key)).collect();
        records.len() <= 1 && owners.iter().all(|&owner| !self.nodes[owner].unreadable.contains(&key))
    }

    /// Hints whose targets are there and that can be read: who keeps how many, and for whom.
    fn hints_left(&self) -> Vec<(usize, usize)> {
        let left = |(at, node): (usize, &super::Node)| {
            let is_left =
                |name: &&HintKey| !self.nodes[number(name.target)].is_out && !node.rotten_hints.contains(name);
            node.shelf.hints.keys().filter(is_left).map(|name| (at, number(name.target))).collect::<Vec<_>>()
        };
        let is_left = |(at, node): &(usize, &super::Node)| !node.is_out && !self.oracle.is_given_up(*at);
        self.nodes.iter().enumerate().filter(is_left).flat_map(left).collect()
    }

    fn is_level(&self) -> bool {
        self.hints_left().is_empty() && (0..self.plan.keys).all(|key| self.is_key_level(key))
    }

    fn judge_end(&mut self) {
        if self.oracle.violation().is_some() {
            return;
        }
        for key in 0..self.plan.keys {
            let owners = self.owners_left(key);
            if !self.is_key_level(key) {
                let unreadable: Vec<&usize> =
                    owners.iter().filter(|&&owner| self.nodes[owner].unreadable.contains(&key)).collect();
                let what = format!("the owners {owners:?} of key {key} differ; unreadable at {unreadable:?}");
                self.oracle.broken(Invariant::I9, || what);
            }
            for &owner in &owners {
                let record = self.nodes[owner].disk.records.get(&self.oracle.address(key).store_key).cloned();
                record.iter().for_each(|record| self.oracle.check_twins(key, record));
            }
            let stranded = self.stranded(key);
            self.oracle.judge_end(key, &owners, &stranded);
        }
        let hints = self.hints_left();
        if !hints.is_empty() {
            self.oracle.broken(Invariant::I9, || {
                let hints: Vec<String> = hints.iter().map(|(at, target)| format!("n{at} for n{target}")).collect();
                format!("hints were not delivered although their targets are there: {}", hints.join(", "))
            });
        }
        for node in 0..self.plan.nodes {
            let is_left = !self.nodes[node].is_out && !self.oracle.is_given_up(node);
            if is_left && !self.nodes[node].disk.has_true_trees() {
                self.oracle.broken(Invariant::I9, || format!("n{node}'s hash trees are not those of its records"));
            }
        }
    }

    /// What is kept for nodes that will not come back.
    fn stranded(&mut self, key: usize) -> Dots {
        let store_key = self.oracle.address(key).store_key;
        let mut hints = Vec::new();
        let is_left = |(at, node): &(usize, &super::Node)| !node.is_out && !self.oracle.is_given_up(*at);
        for (_, node) in self.nodes.iter().enumerate().filter(is_left) {
            let of_key = node.shelf.hints.iter().filter(|(name, _)| name.store_key == store_key);
            hints.extend(
                of_key.filter(|(name, _)| self.nodes[number(name.target)].is_out).map(|(_, hint)| hint.clone()),
            );
        }
        let mut stranded = Dots::default();
        for hint in hints {
            stranded.unite(&self.oracle.understand(key, &hint).unwrap_or_default());
        }
        stranded
    }
}
