//! The writer of the hints: one thread, the only one that changes them, by the rules of a shard's writer ([`crate::store`]).
//! Nothing is answered as kept before the commit has returned; after a commit that failed nothing is ever committed here again;
//! every operation that was taken is answered once.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use dynamo::{
    hint::{Book, HintOperation},
    operation::{ErrorCode, Failure},
    replica::WriteOutcome,
};

use super::{
    rows::{Changes, HintRowsError, LmdbHintRows},
    shared::{NAME, Shared},
};
use crate::store::{
    GROUP_BYTES_MAX,
    aborted::{self, Aborted},
    answers::Answers,
    error,
    queue::{Group, Payload},
    space::{Ballast, DELETES_AT_ONCE, Full, Need, Pressure, Space},
};

/// Operations of one group: at this size the flushes cost less than the pages, and nobody waits long for those who came with
/// him. A shard takes more at once, but hints come at the rate of the few nodes that are away.
const GROUP_OPERATIONS_MAX: usize = 1_024;

/// How often an idle writer looks whether the ballast can be had again.
const IDLE: Duration = Duration::from_secs(5);

/// A share of the disk does not grow by itself; targets that come back empty it within seconds.
const FULL_RETRY_MS: u32 = 1_000;

/// The thread that writes hints.
pub(super) struct HintWriter {
    pub(super) shared: Arc<Shared>,
    pub(super) book: Book,
    pub(super) space: Space,
    pub(super) ballast: Arc<Ballast>,
}

/// An operation with the number of the answer it is owed.
type Numbered = (usize, HintOperation);

impl HintWriter {
    /// Works until the queue is closed and empty. If it panics, which is a bug, the hints have failed: what was taken is answered
    /// as unknown, and what waits or comes as refused.
    pub(super) fn run_guarded(self) {
        let shared = Arc::clone(&self.shared);
        if panic::catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
            shared.health.failed(NAME, "their writer panicked");
            while let Some(group) = shared.queue.take(GROUP_OPERATIONS_MAX, GROUP_BYTES_MAX, IDLE) {
                let (mut answers, _) = Answers::new(group.batches);
                answers.end_rest(&WriteOutcome::Refused(error::stopped("its writer panicked")));
            }
        }
    }

    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        while let Some(group) = shared.queue.take(GROUP_OPERATIONS_MAX, GROUP_BYTES_MAX, IDLE) {
            self.serve(group);
        }
    }

    fn serve(&mut self, group: Group<HintOperation>) {
        let (mut answers, mut operations) = Answers::new(group.batches);
        if let Some(outcome) = aborted::refusal(&self.shared.health) {
            answers.end_rest(&outcome);
            return;
        }
        if operations.is_empty() {
            self.ballast.restore();
            return;
        }
        // Neighbouring names share pages. The sort is stable: operations under one name stay in the order they came.
        operations.sort_by_key(|(_, operation)| (target(operation), *operation.store_key()));
        match self.commit(&mut answers, &operations) {
            Ok(()) => {}
            Err(Aborted::Full) => self.commit_in_parts(&mut answers, &operations),
            Err(aborted) => answers.end_rest(&aborted.outcome(NAME, &self.shared.health)),
        }
    }

    /// There is no room for the group as a whole: what makes room goes first, a little at a time and with the ballast's help;
    /// then the rest, each as far as there is room.
    fn commit_in_parts(&mut self, answers: &mut Answers, operations: &[Numbered]) {
        answers.forget_minted();
        let has_shown = answers.has_shown();
        let (drops, others): (Vec<_>, Vec<_>) =
            operations.iter().cloned().partition(|(_, operation)| is_drop(operation));
        for part in drops.chunks(DELETES_AT_ONCE) {
            let mut ended = self.commit(answers, part);
            if matches!(ended, Err(Aborted::Full)) && self.ballast.release() {
                ended = self.commit(answers, part);
            }
            self.end_part(answers, part, ended);
        }
        if has_shown {
            // Versions that were shown must not be minted again: nobody knows whether they happened.
            let refused = WriteOutcome::Refused(error::full_after_showing());
            self.note_refused(&others);
            return others.iter().for_each(|(number, _)| answers.end(*number, refused.clone()));
        }
        for part in others.chunks(DELETES_AT_ONCE) {
            let ended = self.commit(answers, part);
            self.end_part(answers, part, ended);
        }
    }

    fn end_part(&self, answers: &mut Answers, part: &[Numbered], ended: Result<(), Aborted>) {
        let outcome = match (ended, aborted::refusal(&self.shared.health)) {
            (Ok(()), _) => return,
            (Err(_), Some(refusal)) => refusal,
            (Err(Aborted::Full), None) => {
                self.note_refused(part);
                WriteOutcome::Refused(if answers.has_shown() { error::full_after_showing() } else { full() })
            }
            (Err(aborted), None) => aborted.outcome(NAME, &self.shared.health),
        };
        answers.forget_minted();
        part.iter().for_each(|(number, _)| answers.end(*number, outcome.clone()));
    }

    /// Applies and commits operations. On failure none of them has been answered.
    fn commit(&mut self, answers: &mut Answers, operations: &[Numbered]) -> Result<(), Aborted> {
        let shared = Arc::clone(&self.shared);
        let mut rows = LmdbHintRows::begin(&shared).map_err(Aborted::by_engine)?;
        let survey = self.space.survey(&shared.tables.env, &shared.tables.all(), rows.transaction());
        let survey = survey.map_err(Aborted::by_engine)?;
        let need = Need {
            writes: operations.len() as u64,
            bytes: operations.iter().map(|(_, operation)| operation.payload_bytes() as u64).sum(),
            is_delete: operations.iter().all(|(_, operation)| is_drop(operation)),
        };
        if !need.is_delete && survey.pressure() == Pressure::Hard {
            return Err(Aborted::Full);
        }
        self.space.prepare(&survey, &need).map_err(|Full| Aborted::Full)?;

        let mut batch = self.book.begin();
        for (number, operation) in operations {
            if let Some(minted) = batch.apply(&mut rows, operation.clone()).map_err(aborted_by_rows)? {
                answers.mint(*number, minted);
            }
        }
        let staged = batch.stage(&mut rows).map_err(aborted_by_rows)?;
        answers.show_minted();
        shared.announce(rows.aside());
        let began = Instant::now();
        let changes = rows.commit().map_err(Aborted::by_commit)?;
        let outcomes = staged.committed();
        shared.publish(self.book.usages().collect(), &changes.aside);
        self.count(&changes, began.elapsed());
        for ((number, operation), outcome) in operations.iter().zip(outcomes) {
            self.count_outcome(operation, &outcome);
            answers.end(*number, outcome);
        }
        Ok(())
    }

    fn count(&self, changes: &Changes, took: Duration) {
        let gauges = &self.shared.gauges;
        gauges.delivered.fetch_add(changes.delivered, Ordering::Relaxed);
        if changes.is_any {
            gauges.commits.fetch_add(1, Ordering::Relaxed);
            gauges.commit_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    fn count_outcome(&self, operation: &HintOperation, outcome: &WriteOutcome) {
        if is_drop(operation) {
            return;
        }
        match outcome {
            WriteOutcome::Stored | WriteOutcome::Minted(_) => {
                self.shared.gauges.kept.fetch_add(1, Ordering::Relaxed);
            }
            WriteOutcome::Refused(_) | WriteOutcome::Corrupt | WriteOutcome::Stale(_) | WriteOutcome::Moved { .. } => {
                self.shared.note_refused(target(operation));
            }
        }
    }

    fn note_refused(&self, operations: &[Numbered]) {
        for (_, operation) in operations.iter().filter(|(_, operation)| !is_drop(operation)) {
            self.shared.note_refused(target(operation));
        }
    }
}

fn target(operation: &HintOperation) -> dynamo::ident::NodeId {
    match operation {
        HintOperation::Keep { target, .. }
        | HintOperation::Mint { target, .. }
        | HintOperation::Drop { target, .. } => *target,
    }
}

/// Whether an operation makes room.
fn is_drop(operation: &HintOperation) -> bool {
    match operation {
        HintOperation::Drop { .. } => true,
        HintOperation::Keep { .. } | HintOperation::Mint { .. } => false,
    }
}

fn aborted_by_rows(error: HintRowsError) -> Aborted {
    Aborted::by(error.trouble(), &error)
}

/// Nothing was done: the pages that hints may use are used.
fn full() -> Failure {
    let message = "this node has no room for more hints (their share of its disk, or the disk itself, is full); nothing was \
                   done, another node may stand in";
    Failure { retry_after_ms: FULL_RETRY_MS, ..Failure::new(ErrorCode::StorageFull, message) }
}
