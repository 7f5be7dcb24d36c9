//! The stores: one writer for each node, whose transactions take time, may fail, and are lost in a crash.

use dynamo::{
    coordinator::{Input, PeerCall},
    operation::{ErrorCode, Failure},
    peer::{PeerAction, PeerOperation, PeerResult},
    replica::{PartitionRow, WriteOperation, WriteOutcome, answer_read},
};

use super::{Caller, Message, Origin, World};
use crate::node::Transaction;

impl World {
    /// The store's writer of a node takes what waits for it into a transaction. Mints are shown before the commit; the
    /// transaction may fail, and is then tried again or given up.
    pub(super) fn write(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(process) = node.process.as_mut().filter(|process| process.committing.is_none()) else { return };
        if process.queue.is_empty() {
            return;
        }
        let fails = self.has_faults && self.random.chance(60);
        let mut disk = node.disk.clone();
        let mut transaction = Transaction::begin(&mut disk);
        let mut batch = process.replica.begin();
        let mut minted = Vec::new();
        for (origin, operation) in &process.queue {
            let Ok(shown) = batch.apply(&mut transaction, operation.clone());
            if let (Some(shown), Origin::Here(Caller { call: Some(call), .. }), WriteOperation::Mint { write, .. }) =
                (shown, origin, operation)
            {
                let dots = self.minted.entry(write.op_id).or_default();
                self.sometimes.recognised_retries += u64::from(shown.retried);
                self.sometimes.minted_twice += u64::from(!shown.retried && !dots.is_empty());
                dots.extend(shown.dot);
                minted.push((*call, shown.clone()));
            }
        }
        if fails {
            drop(batch);
            if self.random.chance(500) {
                // Whatever was in the failed transaction may live on inside a record that was shown before it failed.
                let maybe_applied = !minted.is_empty();
                let failure = Failure { maybe_applied, ..Failure::new(ErrorCode::StorageFull, "no space") };
                process.queue.retain(|(origin, _)| !matches!(origin, Origin::Handoff(..)));
                for (origin, _) in process.queue.split_off(0) {
                    self.network.push(ended(origin, WriteOutcome::Refused(failure.clone())));
                }
            }
        } else {
            let Ok(staged) = batch.stage(&mut transaction);
            transaction.commit();
            let origins = process.queue.drain(..).map(|(origin, _)| origin);
            let outcomes = origins.zip(staged.committed()).collect();
            process.committing = Some((disk, outcomes));
        }
        for (call, minted) in minted {
            // A driver may also leave it out: it only saves time.
            if self.random.chance(800) {
                self.input(at, Input::Minted { call, minted });
            }
        }
    }

    /// The commit of a node's transaction returns.
    pub(super) fn commit(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some((disk, outcomes)) = node.process.as_mut().and_then(|process| process.committing.take()) else {
            return;
        };
        node.disk = disk;
        for (origin, outcome) in outcomes {
            match origin {
                Origin::Here(_) => self.network.push(ended(origin, outcome)),
                Origin::Peer(_) => self.send(ended(origin, outcome)),
                Origin::Handoff(to, key, digest) if outcome == WriteOutcome::Stored => {
                    self.send(Message::HandedOff { to, key, digest });
                }
                Origin::Handoff(..) => {}
            }
        }
    }

    pub(super) fn read(&self, at: usize, operation: &PeerOperation) -> PeerResult {
        if operation.action == PeerAction::ReadHint {
            return self.read_hints(at, operation);
        }
        let disk = &self.nodes[at].disk;
        let place = (operation.view.bits, operation.view.prefix);
        let row = disk.rows.get(&place).map(|row| PartitionRow::decode(place.1, place.0, row).expect("rows are sound"));
        answer_read(operation, disk.records.get(&operation.store_key), row.as_ref())
    }
}

/// The news that a write has ended, for whoever waits for it.
pub(super) fn ended(origin: Origin, outcome: WriteOutcome) -> Message {
    match origin {
        Origin::Here(to) => Message::LocalWritten { to, outcome },
        Origin::Peer(to) => {
            let result = match outcome {
                WriteOutcome::Stored => PeerCall::Answered(PeerResult::Stored),
                _ if to.doubled => PeerCall::Lost,
                WriteOutcome::Stale(view) => PeerCall::Answered(PeerResult::Stale(view)),
                WriteOutcome::Corrupt => PeerCall::Answered(PeerResult::Corrupt),
                WriteOutcome::Refused(failure) => PeerCall::Answered(PeerResult::Failed(failure)),
                other @ (WriteOutcome::Minted(_) | WriteOutcome::Moved { .. }) => {
                    panic!("a peer only merges: {other:?}")
                }
            };
            Message::Response { to, result }
        }
        Origin::Handoff(..) => unreachable!("nobody is told of a handoff that failed"),
    }
}
