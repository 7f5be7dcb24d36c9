//! The writer of a node's hints: the real book, in transactions of its own.

use dynamo::{
    coordinator::Input,
    hint::{HintKey, HintOperation},
    ident::NodeId,
    operation::{ErrorCode, Failure},
    peer::PeerResult,
    replica::WriteOutcome,
};

use super::{World, queue::Event, ring::number, shelf::Shelf, store::Origin};
use crate::{invariant::Invariant, plan::Fault};

/// A transaction of hints whose commit has not returned.
#[derive(Debug)]
pub(super) struct Keeping {
    shelf: Shelf,
    outcomes: Vec<(Origin, WriteOutcome)>,
}

impl World {
    /// Puts an operation on hints to those that wait.
    pub(super) fn submit_hint(&mut self, node: usize, origin: Origin, operation: HintOperation) {
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        process.hint_queue.push_back((origin, operation));
        self.arm_keeper(node);
    }

    fn arm_keeper(&mut self, node: usize) {
        let wait_us = self.random.around(60);
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        if process.is_keeper_due || process.keeping.is_some() || process.hint_queue.is_empty() {
            return;
        }
        process.is_keeper_due = true;
        let incarnation = process.incarnation;
        self.queue.push(self.now_us + wait_us, Event::WriteHints { node, incarnation });
    }

    pub(super) fn write_hints(&mut self, node: usize) {
        let aborts = self.nodes[node].is_full || self.befalls(Fault::CommitFailure);
        let shows = self.random.chance(850);
        let mut shelf = self.nodes[node].shelf.clone();
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        process.is_keeper_due = false;
        if process.keeping.is_some() || process.hint_queue.is_empty() {
            return;
        }
        let incarnation = process.incarnation;
        let group: Vec<(Origin, HintOperation)> = process.hint_queue.drain(..).collect();
        let mut batch = process.book.begin();
        let (mut shown, mut origins) = (Vec::new(), Vec::new());
        for (origin, operation) in group {
            let before = shelf.clone();
            let Ok(minted) = batch.apply(&mut shelf, operation.clone());
            let minted = minted.cloned();
            if let (Some(minted), Origin::Here(Some(call)), true) = (&minted, &origin, shows) {
                shown.push((*call, minted.clone()));
            }
            self.figures.sometimes.minted_by_stand_in += u64::from(minted.is_some());
            judge(&mut self.oracle, &operation, minted.as_ref(), &before, &shelf);
            origins.push(origin);
        }
        if aborts {
            drop(batch);
            let maybe_applied = !shown.is_empty();
            let failure = Failure { maybe_applied, ..Failure::new(ErrorCode::StorageFull, "no room for hints") };
            for (call, minted) in shown {
                self.drive(node, Input::Minted { call, minted });
            }
            for origin in origins {
                self.ended(node, origin, WriteOutcome::Refused(failure.clone()));
            }
        } else {
            let Ok(staged) = batch.stage(&mut shelf);
            let outcomes = origins.into_iter().zip(staged.committed()).collect();
            process.keeping = Some(Keeping { shelf, outcomes });
            let took_us = 300 + self.random.around(1_500) + 1_000 * self.nodes[node].slow_ms;
            self.queue.push(self.now_us + took_us, Event::CommitHints { node, incarnation });
            for (call, minted) in shown {
                self.drive(node, Input::Minted { call, minted });
            }
        }
        self.arm_keeper(node);
    }

    pub(super) fn commit_hints(&mut self, node: usize) {
        let Some(Keeping { shelf, outcomes }) =
            self.nodes[node].process.as_mut().and_then(|process| process.keeping.take())
        else {
            return;
        };
        self.put_shelf(node, shelf);
        for (origin, outcome) in outcomes {
            let is_overflow =
                matches!(&outcome, WriteOutcome::Refused(failure) if failure.code == ErrorCode::StorageFull);
            self.figures.sometimes.hints_overflowed += u64::from(is_overflow);
            self.ended(node, origin, outcome);
        }
        self.arm_keeper(node);
    }

    /// A crash while a commit of hints was under way: it may have reached the disk.
    pub(super) fn crash_hints(&mut self, node: usize, keeping: Option<Keeping>) {
        if let Some(Keeping { shelf, .. }) = keeping.filter(|_| self.random.chance(500)) {
            self.put_shelf(node, shelf);
        }
    }

    /// A committed transaction takes the place of what was durable.
    fn put_shelf(&mut self, node: usize, shelf: Shelf) {
        let before = std::mem::replace(&mut self.nodes[node].shelf, shelf);
        let after = &self.nodes[node].shelf;
        for (name, hint) in &after.hints {
            if before.hints.get(name) != Some(hint) {
                let key = self.oracle.number(&name.store_key);
                self.oracle.hinted(node, key, hint);
                self.figures.sometimes.hints_kept += 1;
            }
        }
        let gone: Vec<(HintKey, bytes::Bytes)> = before
            .hints
            .into_iter()
            .filter(|(name, _)| !after.hints.contains_key(name) && !after.aside.contains_key(name))
            .collect();
        for (name, hint) in gone {
            let key = self.oracle.number(&name.store_key);
            self.figures.sometimes.hints_delivered += 1;
            let target = self.index_of(name.target);
            self.oracle.dropped(key, &hint, target);
            self.part(key, self.nodes[node].ring.epoch());
        }
    }

    pub(super) fn index_of(&self, node: NodeId) -> usize {
        number(node)
    }

    /// What a node keeps of a key; damaged hints must be answered as such.
    pub(super) fn read_hints(&mut self, node: usize, operation: &dynamo::peer::PeerOperation) -> PeerResult {
        let shelf = &self.nodes[node].shelf;
        let result = shelf.read(operation);
        let of_key = |name: &HintKey| name.store_key == operation.store_key;
        let damaged = shelf.aside.keys().any(of_key)
            || self.nodes[node].rotten_hints.iter().any(|name| of_key(name) && shelf.hints.contains_key(name));
        if damaged && matches!(result, PeerResult::Record(_) | PeerResult::Absent) {
            self.oracle.broken(Invariant::I10, || format!("n{node} can't read a hint, and answers {result:?}"));
        }
        result
    }
}

/// Looks at what the book did.
fn judge(
    oracle: &mut crate::oracle::Oracle,
    operation: &HintOperation,
    minted: Option<&dynamo::replica::Minted>,
    before: &Shelf,
    after: &Shelf,
) {
    let key = oracle.number(operation.store_key());
    let name = |target: NodeId, view: &dynamo::layout::View| HintKey::new(target, view, *operation.store_key());
    match operation {
        HintOperation::Keep { target, view, record, .. } => {
            let Some(name) = name(*target, view) else { return };
            if before.hints.get(&name) != after.hints.get(&name) && after.hints.contains_key(&name) {
                oracle.merged(key, before.hints.get(&name), record, after.hints.get(&name));
            }
        }
        HintOperation::Mint { write, .. } => {
            let hints = before.hints.iter().filter(|(name, _)| name.store_key == *operation.store_key());
            let all: Vec<bytes::Bytes> = hints.map(|(_, hint)| hint.clone()).collect();
            if let Some(minted) = minted {
                oracle.minted(key, write, &all, minted);
            }
        }
        HintOperation::Drop { .. } => {}
    }
}
