//! The operator, who removes keys for good that everybody agrees are deleted (design, data, "Deletes and TTL"): every owner is there and
//! holds the same record, nobody keeps a hint for it, and no operation on it is under way.

use bytes::Bytes;
use dynamo::{
    bug::{self, Bug},
    ident::StoreKey,
    record,
    replica::WriteOperation,
};

use super::{World, queue::Event, store::Origin};

/// How often the operator looks.
const LOOK_EVERY_MS: u64 = 1_500;

impl World {
    pub(super) fn look_to_reap(&mut self) {
        if !self.is_stormy {
            return;
        }
        self.queue.push(self.now_us + LOOK_EVERY_MS * 1_000, Event::LookToReap);
        let key = self.random.index(self.plan.keys);
        let store_key = self.oracle.address(key).store_key;
        let Some((owners, record)) = self.agreed(key, &store_key) else { return };
        let Ok(digest) = record::verify(&store_key, &record) else { return };
        if !self.oracle.is_deleted(key, &record) {
            return;
        }
        self.figures.sometimes.reaped += 1;
        self.trace.line(self.now_us, || format!("the operator reaps key {key} at {owners:?}"));
        self.oracle.reaped(key, &record);
        for node in owners {
            let at_us = self.now_us + self.random.between(1_000, 300_000);
            self.queue.push(at_us, Event::Reap { node, store_key, digest });
        }
    }

    pub(super) fn reap(&mut self, node: usize, store_key: StoreKey, digest: u128) {
        let row = self.nodes[node].disk.row_of(&store_key, self.newest().partition_bits);
        let Some(view) = row.map(|row| row.view) else { return };
        self.submit(node, Origin::Here(None), WriteOperation::Reap { view, store_key, digest, clock: 0 });
    }

    /// The owners of a key and the record they all hold, if nothing speaks against removing it.
    fn agreed(&self, key: usize, store_key: &StoreKey) -> Option<(Vec<usize>, Bytes)> {
        let mut owners = self.oracle.owners(key).to_vec();
        // Whoever was given up is not asked, once it can't but know it.
        let is_stray = |node: usize| !owners.contains(&node) && !self.is_done_with(node);
        let has_others = |node: usize| is_stray(node) && self.nodes[node].disk.records.contains_key(store_key);
        let may_come_back = || (0..self.plan.nodes).any(has_others) || !self.is_settled();
        if self.plan.faults.change_ring() && may_come_back() && !bug::is_on(Bug::ReapBesideFormerOwner) {
            return None;
        }
        if bug::is_on(Bug::ReapWithOwnerAway) {
            owners.retain(|&owner| self.nodes[owner].process.is_some());
        }
        let record = self.nodes[*owners.first()?].disk.records.get(store_key)?.clone();
        let is_same = |owner: &usize| self.nodes[*owner].disk.records.get(store_key) == Some(&record);
        let are_there = owners.iter().all(|&owner| self.nodes[owner].process.is_some()) && owners.iter().all(is_same);
        (are_there && self.is_quiet(store_key)).then_some((owners, record))
    }

    /// Whether no node keeps a hint of the key and none is at work on it or on anything that may be about it.
    fn is_quiet(&self, store_key: &StoreKey) -> bool {
        let has_no_hint = |node: &super::Node| {
            bug::is_on(Bug::ReapWithOwnerAway)
                || !node.shelf.hints.keys().chain(node.shelf.aside.keys()).any(|name| name.store_key == *store_key)
        };
        let prefix = store_key.id().prefix(self.newest().partition_bits);
        let is_idle = |node: &super::Node| {
            node.process.as_ref().is_none_or(|process| {
                let has_written = process.queue.is_empty() && process.committing.is_none();
                let has_kept = process.hint_queue.is_empty() && process.keeping.is_none();
                has_written && has_kept && process.coordinator.in_flight_on(prefix) == 0
            })
        };
        let is_left = |(number, _): &(usize, &super::Node)| !self.is_done_with(*number);
        self.nodes.iter().enumerate().filter(is_left).all(|(_, node)| has_no_hint(node))
            && self.nodes.iter().all(is_idle)
            && self.clients.iter().all(|client| !client.wants(store_key))
            && !self.queue.mentions(store_key)
    }
}
