//! Clients that coordinate their own operations, by the rule and by nothing else: an operation is done with a majority of every configuration
//! that its view calls active, all of which acknowledged it under exactly that view. Each key has one writer, who counts; so a reader knows
//! the least number it must see.

use std::collections::BTreeMap;

use bytes::Bytes;
use dynamo::{
    layout::{NodeIndex, View},
    peer::{PeerAction, PeerOperation, PeerResult},
    ring::OwnerSet,
    round::Answer,
};

use crate::{
    node::{Node, put},
    world::{Party, Request, World, number},
};

/// An operation that is not done by then is given up.
const DEADLINE_MS: u64 = 400;

/// So many of a thousand members are not asked at first, so that what is acknowledged is often held by no more than it must be.
const SPARED_PERMILLE: u64 = 400;

/// So many of a thousand reads are of a key that somebody writes: the others have nothing to miss.
const WRITTEN_PERMILLE: u64 = 800;

/// Who did not answer is asked again after so long.
const RETRY_MS: u64 = 40;

/// What a client does when it is woken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// Begins the next operation, unless one is under way.
    Begin,
    /// Asks again, or gives up.
    Retry { attempt: u64 },
}

/// A client.
pub(crate) struct Client {
    /// The key it writes; a reader has none, and reads any.
    key: Option<usize>,
    /// Where its versions are minted.
    scratch: Node,
    /// The last number it has written.
    last: u64,
    /// What it knows of the views of keys.
    views: BTreeMap<usize, View>,
    operation: Option<Operation>,
    attempts: u64,
    /// Does not begin anything any more.
    pub(crate) rests: bool,
    /// Operations that were done.
    pub(crate) done: u64,
    pub(crate) failed: u64,
}

struct Operation {
    key: usize,
    /// The record and its number; a read has none.
    write: Option<(Bytes, u64)>,
    /// The number that was acknowledged before it began.
    least: u64,
    view: View,
    sets: Vec<OwnerSet>,
    acknowledged: BTreeMap<NodeIndex, u64>,
    deadline: u64,
    attempt: u64,
}

impl Client {
    /// Whether it writes.
    pub(crate) fn writes(&self) -> bool {
        self.key.is_some()
    }

    /// The writer of a key, or a reader of all.
    pub(crate) fn new(key: Option<usize>, nonce: u64) -> Self {
        Self {
            key,
            scratch: Node::new(nonce),
            last: 0,
            views: BTreeMap::new(),
            operation: None,
            attempts: 0,
            rests: false,
            done: 0,
            failed: 0,
        }
    }
}

impl World {
    /// A client, which begins at once.
    pub(crate) fn admit(&mut self, client: Client) {
        self.clients.push(client);
        self.wake_client(self.clients.len() - 1, 0, Event::Begin);
    }

    pub(crate) fn client_acts(&mut self, client: usize, event: Event) {
        match event {
            Event::Begin => self.begin(client),
            Event::Retry { attempt } => {
                let Some(operation) = &self.clients[client].operation else { return };
                if operation.attempt != attempt {
                    return;
                }
                if operation.deadline <= self.now {
                    self.clients[client].failed += 1;
                    return self.end(client);
                }
                self.ask(client, 0);
            }
        }
    }

    pub(crate) fn client_heard(&mut self, client: usize, attempt: u64, member: NodeIndex, answer: Answer) {
        let Some(operation) = &mut self.clients[client].operation else { return };
        if operation.attempt != attempt {
            return;
        }
        let key = operation.key;
        match answer {
            Answer::Peer(PeerResult::Stored) => drop(operation.acknowledged.insert(member, 0)),
            Answer::Peer(PeerResult::Absent) => drop(operation.acknowledged.insert(member, 0)),
            Answer::Peer(PeerResult::Record(record)) => {
                operation.acknowledged.insert(member, number(&self.keys[key], &record));
            }
            Answer::Peer(PeerResult::Stale(view)) => {
                let mine = operation.view;
                let newest = if view.bits > mine.bits { view } else { mine };
                let lo = mine.lo.max(view.lo);
                let view = View { lo, hi: mine.hi.max(view.hi).max(lo), ..newest };
                return self.attempt(client, view);
            }
            _ => return,
        }
        self.finish(client);
    }

    fn begin(&mut self, client: usize) {
        if self.clients[client].operation.is_some() || self.clients[client].rests {
            return;
        }
        let key = self.clients[client].key;
        let key = key.unwrap_or_else(|| self.any_key());
        let address = self.keys[key].clone();
        let write = self.clients[client].key.map(|_| {
            let client = &mut self.clients[client];
            client.last += 1;
            (client.scratch.mint(put(&address, &client.last.to_string())).record, client.last)
        });
        let view = self.first_view(client, key);
        if let Some((record, _)) = write.as_ref().filter(|_| self.random.happens(100)) {
            // A write that one node took and nobody acknowledged: the next one has it in its past.
            let sets = self.ring.configurations(&address.store_key.id(), &view).expect("all layouts are known");
            let member = *self.random.pick(&self.random.clone().pick(&sets).owners);
            let action = PeerAction::Merge(record.clone());
            let operation = PeerOperation { view, store_key: address.store_key, action };
            let from = Party::Client { client, attempt: 0, member };
            self.send(from, usize::from(member.0), Request::Peer(operation));
            return self.end(client);
        }
        let operation = Operation {
            key,
            write,
            least: self.acknowledged[key],
            view,
            sets: Vec::new(),
            acknowledged: BTreeMap::new(),
            deadline: self.now + DEADLINE_MS,
            attempt: 0,
        };
        self.clients[client].operation = Some(operation);
        self.attempt(client, view);
    }

    /// A key for a reader.
    fn any_key(&mut self) -> usize {
        let written: Vec<usize> = self.clients.iter().filter_map(|client| client.key).collect();
        if !written.is_empty() && self.random.happens(WRITTEN_PERMILLE) {
            return *self.random.pick(&written);
        }
        self.random.below(self.keys.len() as u64) as usize
    }

    /// What a client assumes: what it learned, or what some layout says, however old.
    fn first_view(&mut self, client: usize, key: usize) -> View {
        let known = self.clients[client].views.get(&key).copied();
        if let Some(view) = known.filter(|_| !self.random.happens(150)) {
            return view;
        }
        let epoch = 1 + self.random.below(self.ring.epoch());
        let layout = self.ring.layout(epoch).expect("all layouts are known");
        layout.view(layout.partition(&self.keys[key].store_key.id()))
    }

    /// Asks everybody whom a view calls an owner, and counts from nothing.
    fn attempt(&mut self, client: usize, view: View) {
        let Some(operation) = &self.clients[client].operation else { return };
        let key = operation.key;
        let id = self.keys[key].store_key.id();
        let sets = self.ring.configurations(&id, &view).unwrap_or_else(|| panic!("no configurations for {view:?}"));
        let client_now = &mut self.clients[client];
        client_now.attempts += 1;
        client_now.views.insert(key, view);
        let attempt = client_now.attempts;
        if let Some(operation) = &mut client_now.operation {
            (operation.view, operation.sets, operation.attempt) = (view, sets, attempt);
            operation.acknowledged.clear();
        }
        self.ask(client, SPARED_PERMILLE);
    }

    fn ask(&mut self, client: usize, spared_permille: u64) {
        let Some(operation) = &self.clients[client].operation else { return };
        let attempt = operation.attempt;
        let action = operation.write.as_ref().map_or(PeerAction::Read, |(record, _)| PeerAction::Merge(record.clone()));
        let store_key = self.keys[operation.key].store_key;
        let request = Request::Peer(PeerOperation { view: operation.view, store_key, action });
        let mut members: Vec<NodeIndex> = operation.sets.iter().flat_map(|set| &set.owners).copied().collect();
        members.sort_unstable();
        members.dedup();
        members.retain(|member| !operation.acknowledged.contains_key(member));
        for member in members {
            if self.random.happens(spared_permille) {
                continue;
            }
            self.send(Party::Client { client, attempt, member }, usize::from(member.0), request.clone());
        }
        self.wake_client(client, RETRY_MS, Event::Retry { attempt });
    }

    /// Ends the operation if every configuration has given its majority.
    fn finish(&mut self, client: usize) {
        let Some(operation) = &self.clients[client].operation else { return };
        let is_done = operation.sets.iter().all(|set| {
            let owners: Vec<&NodeIndex> = set.owners.iter().filter(|owner| !self.ring.is_lost(**owner)).collect();
            let present = owners.iter().filter(|owner| operation.acknowledged.contains_key(**owner)).count();
            present > owners.len() / 2
        });
        if !is_done {
            return;
        }
        let seen = operation.acknowledged.values().copied().max().unwrap_or(0);
        match &operation.write {
            Some((_, number)) => {
                let acknowledged = &mut self.acknowledged[operation.key];
                *acknowledged = (*acknowledged).max(*number);
            }
            None if seen < operation.least => {
                let Operation { key, view, acknowledged, least, sets, .. } = operation;
                let text = format!(
                    "at {} key {key} read {seen} < {least} under {view:?} {sets:?} from {acknowledged:?}",
                    self.now
                );
                self.violations.push(text);
            }
            None => {}
        }
        self.clients[client].done += 1;
        self.end(client);
    }

    fn end(&mut self, client: usize) {
        self.clients[client].operation = None;
        // Now and then a writer rests for so long that what it wrote last has to outlive a change.
        let rests_long = self.clients[client].key.is_some() && self.random.happens(200);
        let pause_ms = if rests_long { 200 + self.random.below(1_000) } else { self.random.below(20) };
        self.wake_client(client, pause_ms, Event::Begin);
    }
}
