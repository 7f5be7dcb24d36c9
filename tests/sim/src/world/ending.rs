//! The second phase: the storm is over, what can run runs, and within a bounded time every owner must hold the same bytes and nothing
//! may be left to repair.

use std::collections::BTreeSet;

use dynamo::{
    layout::Level,
    operation::{Action, Consistency, Operation},
};

use super::{World, queue::Event};
use crate::invariant::Invariant;

/// How long the cluster may take to come to rest after the last fault, before anything is compared.
const REST_MS: u64 = 8_000;

/// How long one read of the end may take.
const READ_MS: u64 = 4_000;

impl World {
    /// Heals everything but what is lost for good, and demands convergence.
    pub(super) fn converge(&mut self) {
        self.trace.line(self.now_us, || "the storm is over".to_owned());
        self.heal();
        self.run_for(REST_MS);
        for key in 0..self.plan.keys {
            // Owners that once forgot that an operation was replaced may differ in a twin after one merge, never after two.
            (0..2).for_each(|_| self.read_everywhere(key));
        }
        self.run_for(1_000);
        self.judge_end();
        let repairs = self.repairs();
        for key in 0..self.plan.keys {
            self.read_everywhere(key);
        }
        self.run_for(1_000);
        if self.repairs() != repairs {
            self.oracle.broken(Invariant::I9, || "something was repaired although all owners are equal".to_owned());
        }
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

    fn run_for(&mut self, duration_ms: u64) {
        let until_us = self.now_us + duration_ms * 1_000;
        self.queue.push(until_us, Event::Mend(super::Mend::Room(0)));
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
        let operation = Operation { address, consistency, action: Action::Get { without_values: false } };
        self.clients[0].last = None;
        self.submit_operation(0, operation, false, READ_MS);
        self.advance_client(0);
        while self.clients[0].last.is_none() && self.oracle.violation().is_none() {
            self.step();
        }
        if !matches!(self.clients[0].last, Some(Ok(_))) {
            self.oracle.broken(Invariant::I12, || format!("key {key} can't be read although all its owners are well"));
        }
    }

    /// The owners of a key that hold a record they can read.
    fn owners_left(&self, key: usize) -> Vec<usize> {
        let is_left = |owner: &usize| !self.nodes[*owner].is_out && !self.nodes[*owner].unreadable.contains(&key);
        self.oracle.owners(key).iter().copied().filter(is_left).collect()
    }

    fn repairs(&self) -> u64 {
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        processes.map(|process| process.coordinator.counters()).map(|counters| counters.repairs + counters.fetches).sum()
    }

    fn judge_end(&mut self) {
        for key in 0..self.plan.keys {
            let owners = self.owners_left(key);
            let store_key = self.oracle.address(key).store_key;
            let records: BTreeSet<_> = owners.iter().map(|&at| self.nodes[at].disk.records.get(&store_key)).collect();
            if records.len() > 1 {
                self.oracle.broken(Invariant::I9, || format!("the owners {owners:?} of key {key} hold different records"));
            }
            self.oracle.judge_end(key, &owners);
        }
    }
}
