//! A node's writer: takes what waits into one transaction, applies it with the real replica, and answers when the commit has returned.
//! Transactions take time, may fail in both ways, and are lost in a crash.

use bytes::Bytes;
use dynamo::{
    coordinator::{CallId, Input, PeerCall},
    operation::{ErrorCode, Failure},
    record,
    replica::{Minted, Rows, WriteOperation, WriteOutcome},
};

use super::{
    World,
    background::told,
    disk::Changes,
    moving::Waiting,
    queue::{Caller, Event, Party},
};
use crate::{invariant::Invariant, plan::Fault};

/// Who waits for a write.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// This node's coordinator, or nobody.
    Here(Option<CallId>),
    /// Somebody who asked under a view that this node's row must know first.
    Waiting(Box<Waiting>),
    /// This node's steward.
    Steward(CallId),
    /// A peer.
    Peer { node: Party, incarnation: u64, call: Option<Caller>, doubled: bool },
}

/// A transaction whose commit has not returned.
#[derive(Debug)]
pub(super) struct Committing {
    pub(super) changes: Changes,
    outcomes: Vec<(Origin, WriteOutcome)>,
}

/// What applying a group came to.
struct Applied {
    changes: Changes,
    outcomes: Vec<(Origin, WriteOutcome)>,
    /// Mints that are shown before the commit.
    shown: Vec<(CallId, Minted)>,
    /// What the oracle has to look at.
    notes: Vec<Note>,
}

/// An operation with the records before and after it.
struct Note {
    operation: WriteOperation,
    outcome: WriteOutcome,
    before: Option<Bytes>,
    after: Option<Bytes>,
}

impl World {
    /// Puts a write to those that wait.
    pub(super) fn submit(&mut self, node: usize, origin: Origin, operation: WriteOperation) {
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        process.queue.push_back((origin, operation));
        self.arm_writer(node);
    }

    fn arm_writer(&mut self, node: usize) {
        let wait_us = self.random.around(60);
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        if process.is_write_due || process.committing.is_some() || process.queue.is_empty() {
            return;
        }
        process.is_write_due = true;
        let incarnation = process.incarnation;
        self.queue.push(self.now_us + wait_us, Event::Write { node, incarnation });
    }

    /// The writer takes what waits into a transaction.
    pub(super) fn write(&mut self, node: usize) {
        let fails = self.befalls(Fault::CommitFailure);
        let shows = self.random.chance(850);
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        process.is_write_due = false;
        if process.committing.is_some() {
            return;
        }
        let count = process.queue.len().min(self.plan.limits.group_writes_max);
        let group: Vec<(Origin, WriteOperation)> = process.queue.drain(..count).collect();
        if group.is_empty() || process.has_failed {
            return self.refuse_all(node, group.into_iter().map(|(origin, _)| origin), stopped(false));
        }
        let is_full = self.nodes[node].is_full;
        let applied = self.apply_group(node, group, fails || is_full, shows);
        for note in &applied.notes {
            self.judge(node, note);
        }
        let has_shown = !applied.shown.is_empty();
        for (call, minted) in applied.shown {
            self.drive(node, Input::Minted { call, minted });
        }
        let incarnation = self.nodes[node].process.as_ref().map_or(0, |process| process.incarnation);
        if is_full {
            self.figures.sometimes.full += 1;
            let failure = Failure { maybe_applied: has_shown, ..Failure::new(ErrorCode::StorageFull, "no space") };
            self.refuse_all(node, applied.outcomes.into_iter().map(|(origin, _)| origin), failure);
        } else if fails {
            self.fail_commit(node, applied.changes, applied.outcomes);
        } else {
            let took_us = 300 + self.random.around(1_500) + 1_000 * self.nodes[node].slow_ms;
            let committing = Committing { changes: applied.changes, outcomes: applied.outcomes };
            if let Some(process) = self.nodes[node].process.as_mut() {
                process.committing = Some(committing);
            }
            self.queue.push(self.now_us + took_us, Event::Commit { node, incarnation });
        }
        self.arm_writer(node);
    }

    /// Applies a group in one transaction, which is then given up if `aborts`.
    fn apply_group(&mut self, node: usize, group: Vec<(Origin, WriteOperation)>, aborts: bool, shows: bool) -> Applied {
        let node = &mut self.nodes[node];
        let process = node.process.as_mut().expect("only a running process writes");
        let mut transaction = node.disk.begin();
        let mut batch = process.replica.begin();
        let (mut shown, mut notes, mut origins) = (Vec::new(), Vec::new(), Vec::new());
        for (origin, operation) in group {
            let key = operation.store_key();
            let Ok(before) = transaction.record(&key);
            let Ok(minted) = batch.apply(&mut transaction, operation.clone());
            let minted = minted.cloned();
            if let (Some(minted), Origin::Here(Some(call)), true) = (&minted, &origin, shows) {
                shown.push((*call, minted.clone()));
            }
            let Ok(after) = transaction.record(&key);
            let outcome = minted.map_or(WriteOutcome::Stored, WriteOutcome::Minted);
            notes.push(Note { operation, outcome, before, after });
            origins.push(origin);
        }
        if aborts {
            // Rows and records stand in it together: it may have reached the disk all the same.
            let Ok(staged) = batch.stage(&mut transaction);
            drop(staged);
            let outcomes = origins.into_iter().map(|origin| (origin, WriteOutcome::Stored)).collect();
            return Applied { changes: transaction.finish(), outcomes, shown, notes };
        }
        let Ok(staged) = batch.stage(&mut transaction);
        let outcomes: Vec<_> = origins.into_iter().zip(staged.committed()).collect();
        notes.iter_mut().zip(&outcomes).for_each(|(note, (_, outcome))| note.outcome = outcome.clone());
        Applied { changes: transaction.finish(), outcomes, shown, notes }
    }

    /// Looks at what the replica did.
    fn judge(&mut self, node: usize, note: &Note) {
        let Note { operation, outcome, before, after } = note;
        if matches!(operation, WriteOperation::Move(_)) {
            // It is of no key; what it does to rows and records is judged when it is durable.
            return;
        }
        let key = self.oracle.number(&operation.store_key());
        // An earlier operation of the group may have rebuilt it.
        let is_unreadable =
            before.as_ref().is_some_and(|before| record::verify(&operation.store_key(), before).is_err());
        match (operation, outcome) {
            (WriteOperation::Mint { write, .. }, WriteOutcome::Minted(minted)) => {
                if is_unreadable {
                    self.oracle.broken(Invariant::I10, || format!("n{node} mints on a record it can't read"));
                }
                self.trace.line(self.now_us, || format!("n{node} mints {:?} of key {key}", minted.dot));
                let before: Vec<Bytes> = before.iter().cloned().collect();
                self.oracle.minted(key, write, &before, minted);
            }
            (WriteOperation::Merge { record, .. }, WriteOutcome::Stored) if before != after => {
                if is_unreadable {
                    self.oracle.broken(Invariant::I10, || format!("n{node} merges into a record it can't read"));
                }
                self.oracle.merged(key, before.as_ref(), record, after.as_ref());
            }
            (WriteOperation::Rebuild { record, .. }, WriteOutcome::Stored) if before != after => {
                self.figures.sometimes.rebuilt += 1;
                self.trace.line(self.now_us, || format!("n{node} rebuilds key {key}"));
                if let Some(record) = record {
                    let before = before.as_ref().filter(|_| !is_unreadable);
                    self.oracle.merged(key, before, record, after.as_ref());
                }
            }
            (_, WriteOutcome::Corrupt) => self.found_corrupt(node, operation.store_key()),
            _ => {}
        }
    }

    /// The commit failed. Whether it reached the disk nobody knows, and the node takes no more writes until it is started again.
    fn fail_commit(&mut self, node: usize, changes: Changes, outcomes: Vec<(Origin, WriteOutcome)>) {
        self.figures.faults += 1;
        self.figures.sometimes.failed_commits += 1;
        self.trace.line(self.now_us, || format!("n{node}'s commit fails"));
        if self.random.chance(500) {
            self.apply(node, &changes);
        }
        if let Some(process) = self.nodes[node].process.as_mut() {
            process.has_failed = true;
        }
        self.refuse_all(node, outcomes.into_iter().map(|(origin, _)| origin), stopped(true));
        let at_us = self.now_us + self.random.between(200_000, 3_000_000);
        self.queue.push(at_us, Event::Mend(super::Mend::Restart(node)));
    }

    /// The commit has returned.
    pub(super) fn commit(&mut self, node: usize) {
        let Some(Committing { changes, outcomes }) =
            self.nodes[node].process.as_mut().and_then(|process| process.committing.take())
        else {
            return;
        };
        self.apply(node, &changes);
        for (origin, outcome) in outcomes {
            self.ended(node, origin, outcome);
        }
        if self.nodes[node].process.as_ref().is_some_and(|process| process.is_follow_due) {
            self.follow(node);
        }
        self.arm_writer(node);
    }

    /// Makes changes durable.
    pub(super) fn apply(&mut self, node: usize, changes: &Changes) {
        self.nodes[node].disk.apply(changes);
        for (store_key, record) in &changes.records {
            let key = self.oracle.number(store_key);
            self.nodes[node].unreadable.remove(&key);
            self.oracle.committed(node, key, record.as_ref());
            if record.is_none() {
                self.part(key, self.nodes[node].ring.epoch());
            }
        }
        let rows = changes.rows();
        let now = self.nodes[node].disk.views();
        let before = std::mem::replace(&mut self.nodes[node].views, now);
        self.rows_changed(node, &rows);
        let views = rows.into_iter().flatten().map(|row| row.view);
        let views = views.filter(|view| before.get(&(view.bits, view.prefix)) != Some(view)).collect();
        self.tell_views(node, views);
    }

    /// What a node's rows say when it begins.
    pub(super) fn note_rows(&mut self, node: usize) {
        self.nodes[node].views = self.nodes[node].disk.views();
        let rows: Vec<_> = self.nodes[node].disk.decoded_rows().into_iter().map(Ok).collect();
        self.rows_changed(node, &rows);
    }

    fn refuse_all(&mut self, node: usize, origins: impl Iterator<Item = Origin>, failure: Failure) {
        let origins: Vec<Origin> = origins.collect();
        for origin in origins {
            self.ended(node, origin, WriteOutcome::Refused(failure.clone()));
        }
    }

    /// Tells whoever waits for a write how it ended.
    pub(super) fn ended(&mut self, node: usize, origin: Origin, outcome: WriteOutcome) {
        match origin {
            Origin::Here(Some(call)) => self.drive(node, Input::LocalWrite { call, outcome }),
            Origin::Here(None) | Origin::Peer { call: None, .. } => {}
            Origin::Waiting(waiting) => self.caught_up(node, *waiting, outcome),
            Origin::Steward(call) => self.steward_wrote(node, call, outcome),
            Origin::Peer { node: to, incarnation, call: Some(call), doubled } => {
                // The refusal of one copy says nothing about the other.
                let is_unclear = doubled && outcome != WriteOutcome::Stored;
                let result = if is_unclear { PeerCall::Lost } else { told(outcome) };
                self.answer(node, (to, incarnation, call), result);
            }
        }
    }
}

fn stopped(maybe_applied: bool) -> Failure {
    Failure { maybe_applied, ..Failure::new(ErrorCode::Unavailable, "the store has stopped") }
}
