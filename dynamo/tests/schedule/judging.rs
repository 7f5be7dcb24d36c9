//! What is checked: every reply against the disks and the history, and the whole cluster after all faults have ended.

use std::collections::BTreeSet;

use bytes::Bytes;
use dynamo::{
    coordinator::{ForwardFailed, Input, RequestId},
    layout::{Level, NodeIndex},
    operation::{Action, Consistency, Operation, Outcome, Reply},
    version::SPENT_MAX,
};

use super::{Asker, Message, NODES, Node, World};
use crate::{
    clients::{Asked, KEYS, Pending, REPLICAS},
    history::Read,
};

impl World {
    pub(super) fn reply(&mut self, at: usize, request: RequestId, reply: Reply) {
        let (asker, operation, _) = self.requests.remove(&(at, request)).expect("every request is answered once");
        let receipt = &reply.receipt;
        let answered: BTreeSet<NodeIndex> = receipt.answered.iter().copied().collect();
        assert_eq!(answered.len(), receipt.answered.len(), "nobody counts twice: {reply:?}");
        let owners = self.owners_of(&operation);
        let stand_ins = answered.iter().filter(|node| !owners.contains(&usize::from(node.0))).count();
        assert_eq!(stand_ins, usize::from(receipt.stand_ins), "{reply:?}");
        let is_sloppy = operation.consistency.level == Some(Level::Available);
        assert!(stand_ins == 0 || is_sloppy, "a strict level counted a stand-in: {reply:?}");
        match &reply.outcome {
            Outcome::Stored { .. } => {
                assert!(answered.len() >= usize::from(receipt.need) && receipt.durable >= receipt.need);
                self.check_durable(&operation, &answered);
                self.sometimes.acknowledged_with_stand_ins += u64::from(stand_ins > 0);
                self.sometimes.acknowledged_by_stand_ins_alone += u64::from(stand_ins == answered.len());
                self.sometimes.acknowledged_without_own_commit += u64::from(!answered.contains(&NodeIndex(at as u16)));
            }
            Outcome::Found { .. } | Outcome::NotFound { .. } => {
                assert!(answered.len() >= usize::from(receipt.need));
                self.sometimes.reads_of_stand_ins += u64::from(stand_ins > 0);
            }
            Outcome::Failed(_) => {}
        }
        match asker {
            Asker::Client(client) => self.client_answered(client, reply),
            Asker::Forwarder(to) => {
                let is_told_by_a_copy = to.doubled && matches!(reply.outcome, Outcome::Failed(_));
                let result = if is_told_by_a_copy { Err(ForwardFailed { sent: true }) } else { Ok(reply) };
                self.send(Message::Forwarded { to, result });
            }
        }
    }

    /// Each of these nodes has the operation's version, or knows that it was overwritten, on its disk at this moment.
    pub(super) fn check_durable(&self, operation: &Operation, answered: &BTreeSet<NodeIndex>) {
        let (Action::Put { op_id, .. } | Action::Delete { op_id, .. }) = &operation.action else {
            panic!("only writes are stored");
        };
        // A forwarder passes on what an owner has checked; then the disks are those of the owner's time, and only more.
        let owners = self.owners_of(operation);
        let knows = |record: &Bytes| {
            let object = dynamo::record::decode_of(&operation.address, record).expect("records are sound");
            self.minted[op_id].iter().any(|dot| object.context.covers(*dot))
        };
        let store_key = &operation.address.store_key;
        let owns_it = |node: usize| self.nodes[node].disk.records.get(store_key).is_some_and(knows);
        for node in answered.iter().map(|node| usize::from(node.0)) {
            let hints = &self.nodes[node].hints.hints;
            let keeps_it = hints.iter().any(|(key, hint)| key.store_key == *store_key && knows(hint));
            // What a stand-in acknowledged may have been handed off since.
            let is_there = if owners.contains(&node) {
                owns_it(node)
            } else {
                keeps_it || owners.iter().any(|&owner| owns_it(owner))
            };
            assert!(is_there, "{op_id:?} was acknowledged by {node:?}, which does not have it");
        }
    }

    fn owners_of(&self, operation: &Operation) -> Vec<usize> {
        let partition = self.layout.partition(&operation.address.store_key.id());
        self.layout.owners(partition).map(|owner| usize::from(owner.0)).collect()
    }

    pub(super) fn client_answered(&mut self, client: usize, reply: Reply) {
        let Pending { asked, write, begun } = self.clients[client].pending.take().expect("it waited");
        let key = asked.key;
        let owners_read = (reply.receipt.answered.len() as u8) - reply.receipt.stand_ins;
        match (reply.outcome, write) {
            (Outcome::Found { siblings, context }, None) => {
                let text = |value: &Bytes| String::from_utf8(value.to_vec()).expect("values are text");
                let values: Vec<String> = siblings.iter().map(|sibling| text(&sibling.value)).collect();
                self.sometimes.reads_with_siblings += u64::from(values.len() > 1);
                self.client_read(
                    client,
                    &Read { key, begun, need: owners_read, replicas: REPLICAS, values: &values },
                    context,
                );
            }
            (Outcome::NotFound { context }, None) => {
                let is_written = self.history.writes.iter().any(|written| written.key == key);
                self.sometimes.reads_of_deleted += u64::from(is_written);
                self.client_read(
                    client,
                    &Read { key, begun, need: owners_read, replicas: REPLICAS, values: &[] },
                    context,
                );
            }
            (Outcome::Stored { context, .. }, Some(write)) => {
                self.sometimes.acknowledged += 1;
                let owners = reply.receipt.durable - reply.receipt.stand_ins;
                self.history.acknowledge(write, owners, self.events);
                if let Some(context) = context {
                    self.clients[client].learn(key, context, BTreeSet::from([write]));
                }
            }
            (Outcome::Failed(failure), Some(write)) => {
                let unclear = u64::from(failure.maybe_applied);
                self.sometimes.failed_unclear += unclear;
                self.sometimes.failed_for_certain += 1 - unclear;
                self.history.fail(write, failure.maybe_applied, self.events);
                if failure.retryable {
                    self.clients[client].may_retry(write, asked);
                }
            }
            (Outcome::Failed(_), None) => {}
            (outcome @ (Outcome::Found { .. } | Outcome::NotFound { .. }), Some(_))
            | (outcome @ Outcome::Stored { .. }, None) => {
                panic!("{asked:?} was answered by {outcome:?}");
            }
        }
    }

    pub(super) fn client_read(&mut self, client: usize, read: &Read<'_>, context: Bytes) {
        self.sometimes.reads_that_must_show_something +=
            u64::from(self.history.judge(read, |op_id| self.minted.get(op_id).is_some_and(|dots| dots.len() > 1)));
        let shown = self.history.shown(read.values);
        self.clients[client].learn(read.key, context, shown);
    }

    /// The node a client waited for died.
    pub(super) fn client_lost(&mut self, client: usize) {
        let Some(Pending { asked, write, .. }) = self.clients[client].pending.take() else { return };
        if let Some(write) = write {
            self.history.fail(write, true, self.events);
            self.clients[client].may_retry(write, asked);
        }
    }

    /// Ends all faults, lets everything end that is under way, hands off all hints, and demands that every replica then holds
    /// the same: one read of every key at `all` repairs what there is to repair, and after it nothing is left to do.
    pub(crate) fn heal_and_check(&mut self) {
        self.has_faults = false;
        for at in 0..NODES {
            if self.nodes[at].process.is_none() {
                self.start(at);
            }
            for node in 0..NODES as u16 {
                self.input(at, Input::PeerState { node: NodeIndex(node), reachable: true });
            }
        }
        self.settle();
        while self.kept() > 0 {
            (0..NODES).for_each(|at| self.hand_off(at));
            self.settle();
        }
        self.history.handed_off();
        for key in 0..KEYS {
            // Replicas that once had to forget that an operation was overwritten may differ in its twin after one merge;
            // merging what came of that makes them equal.
            let rounds = if self.history.overwritten(key) > SPENT_MAX { 2 } else { 1 };
            (0..rounds).for_each(|round| self.read_at_all(key, (key + round) % NODES));
        }
        let repairs = |world: &Self| -> u64 {
            let processes = world.nodes.iter().filter_map(|node| node.process.as_ref());
            processes
                .map(|process| process.coordinator.counters())
                .map(|counters| counters.repairs + counters.fetches)
                .sum()
        };
        let before = repairs(self);
        for key in 0..KEYS {
            let store_key = self.addresses[key].store_key;
            let records: BTreeSet<_> = self.owners(key).map(|at| self.nodes[at].disk.records.get(&store_key)).collect();
            assert_eq!(records.len(), 1, "the owners of key {key} hold different records after it was read at `all`");
            (0..NODES).for_each(|at| self.read_at_all(key, at));
        }
        assert_eq!(repairs(self), before, "something was repaired although all replicas are level");
    }

    pub(super) fn owners(&self, key: usize) -> impl Iterator<Item = usize> + '_ {
        let partition = self.layout.partition(&self.addresses[key].store_key.id());
        self.layout.owners(partition).map(|owner| usize::from(owner.0))
    }

    pub(super) fn read_at_all(&mut self, key: usize, at: usize) {
        self.events += 1;
        let consistency = Consistency { level: Some(Level::All), ..Consistency::default() };
        let asked = Asked { key, consistency, action: Action::Get { without_values: false } };
        self.clients[0].pending = Some(Pending { asked: asked.clone(), write: None, begun: self.events });
        let operation = Operation { address: self.addresses[key].clone(), consistency, action: asked.action };
        let deadline = self.now.after(1_000_000);
        let reads = self.sometimes.reads_that_must_show_something;
        self.request(at, Asker::Client(0), operation, 0, deadline);
        self.settle();
        assert!(self.sometimes.reads_that_must_show_something >= reads && self.clients[0].pending.is_none());
    }

    /// Runs until nothing is under way.
    pub(super) fn settle(&mut self) {
        loop {
            self.events += 1;
            let is_idle = |node: &Node| {
                node.process.as_ref().is_some_and(|process| {
                    let has_written = process.queue.is_empty() && process.committing.is_none();
                    let has_kept = process.hints.is_empty() && process.keeping.is_none();
                    has_written && has_kept && process.coordinator.in_flight() == 0
                })
            };
            if self.network.is_empty() && self.requests.is_empty() && self.nodes.iter().all(is_idle) {
                return;
            }
            self.now = self.now.after(1);
            self.fire_deadlines();
            self.deliver();
            for at in 0..NODES {
                self.write(at);
                self.commit(at);
                self.write_hints(at);
                self.commit_hints(at);
            }
            assert!(self.events < 10_000_000, "it never ends: {:?}", self.network);
        }
    }
}
