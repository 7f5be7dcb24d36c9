//! The writer of a shard: one thread, the only one that changes the shard. It takes whatever waits, applies it in one
//! transaction, commits once, and answers all (group commit): the commit's two disk flushes are what a write costs, and
//! sharing them is what makes writes cheap.
//!
//! Obligations: nothing is answered as stored before the commit has returned; after a commit that failed nothing is ever
//! committed here again, because what the disk holds is unknown; every write that was taken is answered once.

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use dynamo::{
    merkle::NODE_BYTES,
    record,
    replica::{DELETIONS_MAX, MoveOperation, Replica, WriteOperation, WriteOutcome},
    version::Content,
};

use super::{
    aborted::{self, Aborted},
    answers::Answers,
    error,
    queue::{Group, Payload, Wanted},
    recount::Recount,
    rows::{CHECKPOINT_CHANGES, CHECKPOINT_NODES, LmdbRows, RowsError},
    shard::{self, Committed, Shard},
    space::{Ballast, DELETES_AT_ONCE, Full, Need, Pressure, Space, Survey},
};

/// Writes of one group: at 64 the flushes still weigh as much as the pages, at some thousands the pages are almost
/// everything. LMDB keeps memory for as many pages as its largest transaction changed, so this is also 16 MiB a shard.
pub const GROUP_WRITES_MAX: usize = 4_096;

/// Bytes of one group: they are in memory until the commit.
pub const GROUP_BYTES_MAX: usize = 16 << 20;

/// Groups that take longer than this are made smaller, so that nobody waits long for those who came with him.
const GROUP_TIME_MAX: Duration = Duration::from_millis(100);

/// Groups are not made smaller than this: the flushes would then be all there is.
const GROUP_WRITES_MIN: usize = 64;

/// How often an idle writer looks at the space.
const IDLE: Duration = Duration::from_secs(5);

/// The thread that writes a shard.
pub(super) struct Writer {
    pub(super) shard: Arc<Shard>,
    pub(super) replica: Replica,
    pub(super) space: Space,
    pub(super) ballast: Arc<Ballast>,
    /// Partitions whose rows are unsure of what they have added up, and how often they have forgotten something.
    pub(super) unsure: BTreeMap<(u8, u32), u64>,
    /// Those of them where a record could not be read when they had forgotten so often.
    pub(super) blocked: BTreeMap<(u8, u32), u64>,
    /// One of them, while it is counted.
    pub(super) recount: Option<Recount>,
    /// Off only where the cost of hash trees is measured.
    pub(super) is_fed: bool,
}

/// An operation with the number of the answer it is owed.
type Numbered = (usize, WriteOperation);

impl Writer {
    /// Works until the queue is closed and empty. If the writer panics, which is a bug, the shard has failed: what was taken
    /// is answered as unknown, and what waits or comes as refused.
    pub(super) fn run_guarded(self) {
        let shard = Arc::clone(&self.shard);
        if panic::catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
            shard.health.failed(shard::name(shard.number), "its writer panicked");
            while let Some(group) = shard.queue.take(GROUP_WRITES_MAX, GROUP_BYTES_MAX, IDLE) {
                let (mut answers, _) = Answers::new(group.batches);
                answers.end_rest(&WriteOutcome::Refused(error::stopped("its writer panicked")));
            }
        }
    }

    fn run(mut self) {
        let mut writes_max = GROUP_WRITES_MAX;
        let shard = Arc::clone(&self.shard);
        self.notice_unsure(shard.views().values());
        let mut patience = Duration::ZERO;
        while let Some(group) = shard.queue.take(writes_max.min(self.writes_max()), GROUP_BYTES_MAX, patience) {
            let (began, writes) = (Instant::now(), group.writes);
            self.serve(group);
            let took = began.elapsed();
            if took > GROUP_TIME_MAX {
                writes_max = (writes / 2).max(GROUP_WRITES_MIN);
            } else if took < GROUP_TIME_MAX / 2 {
                writes_max = (writes_max * 2).min(GROUP_WRITES_MAX);
            }
            patience = if self.keep_up() { Duration::ZERO } else { IDLE };
        }
        self.close();
    }

    fn writes_max(&self) -> usize {
        let survey = self
            .shard
            .tables
            .env
            .read_txn()
            .and_then(|read| self.space.survey(&self.shard.tables.env, &self.shard.tables.all(), &read));
        survey.map_or(GROUP_WRITES_MIN, |survey| survey.writes_max())
    }

    fn serve(&mut self, group: Group<WriteOperation>) {
        for Wanted { rows, answer } in group.adoptions {
            // Whoever asked may be gone; the rows are there all the same.
            let _ = answer.send(self.adopt(&rows));
        }
        let (mut answers, mut operations) = Answers::new(group.batches);
        if let Some(outcome) = self.refusal() {
            answers.end_rest(&outcome);
            return;
        }
        if operations.is_empty() {
            self.ballast.restore();
            return;
        }
        // Neighbouring keys share pages. The sort is stable: writes of one key stay in the order they came.
        operations.sort_by_key(|(_, operation)| operation.store_key());
        match self.commit(&mut answers, &operations, Pressure::Free) {
            Ok(()) => {}
            Err(Aborted::Full) => self.commit_deletes(&mut answers, operations),
            Err(aborted) => answers.end_rest(&self.outcome_of(aborted)),
        }
    }

    /// There is no room for a group: what makes room goes on, a little at a time and with the ballast's help; the rest is
    /// refused.
    fn commit_deletes(&mut self, answers: &mut Answers, operations: Vec<Numbered>) {
        answers.forget_minted();
        let (deletes, others): (Vec<_>, Vec<_>) =
            operations.into_iter().partition(|(_, operation)| is_admitted(Pressure::Hard, operation));
        let refused = if answers.has_shown() { error::full_after_showing() } else { error::full() };
        for (number, _) in others {
            answers.end(number, WriteOutcome::Refused(refused.clone()));
        }
        for some in deletes.chunks(DELETES_AT_ONCE) {
            let mut ended = self.commit(answers, some, Pressure::Hard);
            if matches!(ended, Err(Aborted::Full)) && self.ballast.release() {
                answers.forget_minted();
                ended = self.commit(answers, some, Pressure::Hard);
            }
            if let Err(aborted) = ended {
                answers.forget_minted();
                let outcome = match aborted {
                    Aborted::Full if answers.has_shown() => WriteOutcome::Refused(error::full_after_showing()),
                    aborted => self.outcome_of(aborted),
                };
                some.iter().for_each(|(number, _)| answers.end(*number, outcome.clone()));
            }
            if let Some(outcome) = self.refusal() {
                return answers.end_rest(&outcome);
            }
        }
    }

    /// What every write is told while the shard accepts none.
    pub(super) fn refusal(&self) -> Option<WriteOutcome> {
        aborted::refusal(&self.shard.health)
    }

    pub(super) fn outcome_of(&self, aborted: Aborted) -> WriteOutcome {
        aborted.outcome(shard::name(self.shard.number), &self.shard.health)
    }

    /// Applies and commits a group, admitting what may be written under at least this pressure. On success and on failure
    /// alike, what was not admitted has been answered.
    fn commit(&mut self, answers: &mut Answers, operations: &[Numbered], least: Pressure) -> Result<(), Aborted> {
        let shard = Arc::clone(&self.shard);
        let mut rows = LmdbRows::begin(&shard.tables).map_err(Aborted::by_engine)?;
        let survey = self
            .space
            .survey(&shard.tables.env, &shard.tables.all(), rows.transaction())
            .map_err(Aborted::by_engine)?;
        self.gauge(&survey);
        let pressure = survey.pressure().max(least);
        let (admitted, refused): (Vec<_>, Vec<_>) =
            operations.iter().partition(|(_, operation)| is_admitted(pressure, operation));
        for (number, _) in refused {
            answers.end(*number, WriteOutcome::Refused(error::full()));
        }
        if admitted.is_empty() {
            return Ok(());
        }
        let need = Need {
            writes: admitted.iter().map(|(_, operation)| writes_of(operation)).sum(),
            bytes: admitted.iter().map(|(_, operation)| operation.payload_bytes() as u64).sum::<u64>()
                + checkpoint_bytes(admitted.len(), pressure),
            is_delete: admitted.iter().all(|(_, operation)| is_admitted(Pressure::Hard, operation)),
        };
        self.space.prepare(&survey, &need).map_err(|Full| Aborted::Full)?;

        rows.feed(self.is_fed);
        let mut batch = self.replica.begin();
        for (number, operation) in &admitted {
            if let Some(minted) = batch.apply(&mut rows, operation.clone()).map_err(aborted_by_rows)? {
                answers.mint(*number, minted);
            }
        }
        let staged = batch.stage(&mut rows).map_err(aborted_by_rows)?;
        rows.keep_log(&shard.forest(), nodes_max(pressure)).map_err(Aborted::by_engine)?;
        answers.show_minted();
        let committing = shard.committing();
        let committed = commit(rows, &shard)?;
        shard.publish(&committed);
        drop(committing);
        shard.gauges.writes.fetch_add(admitted.len() as u64, Ordering::Relaxed);
        for ((number, _), outcome) in admitted.into_iter().zip(staged.committed()) {
            answers.end(*number, outcome);
        }
        self.written(&committed);
        Ok(())
    }

    fn gauge(&self, survey: &Survey) {
        let gauges = &self.shard.gauges;
        gauges.live_bytes.store(survey.live_bytes, Ordering::Relaxed);
        gauges.capacity_bytes.store(survey.capacity_bytes, Ordering::Relaxed);
        gauges.set_pressure(survey.pressure());
    }
}

pub(super) fn commit(rows: LmdbRows<'_>, shard: &Shard) -> Result<Committed, Aborted> {
    let (began, has_changes) = (Instant::now(), rows.has_changes());
    let committed = rows.commit().map_err(Aborted::by_commit)?;
    if has_changes {
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        shard.gauges.commit_us.fetch_add(took, Ordering::Relaxed);
        shard.gauges.commits.fetch_add(1, Ordering::Relaxed);
    }
    Ok(committed)
}

/// Nodes of hash trees that a commit stores when it is its turn: where there is hardly any room, as few as keep the log short.
fn nodes_max(pressure: Pressure) -> usize {
    match pressure {
        Pressure::Free | Pressure::Soft => CHECKPOINT_NODES,
        Pressure::Hard => 1,
    }
}

/// Bytes of the nodes that a group of so many writes may have to store.
fn checkpoint_bytes(writes: usize, pressure: Pressure) -> u64 {
    let times = writes as u64 / CHECKPOINT_CHANGES + 1;
    match pressure {
        Pressure::Free | Pressure::Soft => times * CHECKPOINT_NODES as u64 * NODE_BYTES as u64,
        // Room for one is always left.
        Pressure::Hard => 0,
    }
}

/// How many records an operation may write.
fn writes_of(operation: &WriteOperation) -> u64 {
    match operation {
        WriteOperation::Move(MoveOperation::Drop { records_max, .. }) => u64::from((*records_max).min(DELETIONS_MAX)),
        WriteOperation::Move(_)
        | WriteOperation::Merge { .. }
        | WriteOperation::Mint { .. }
        | WriteOperation::Rebuild { .. }
        | WriteOperation::Reap { .. } => 1,
    }
}

/// Whether a write may go on under a pressure: deletes always, because they make room.
fn is_admitted(pressure: Pressure, operation: &WriteOperation) -> bool {
    match (pressure, operation) {
        (Pressure::Free, _) => true,
        // A reap makes room, and a rebuild brings back what was acknowledged once.
        // The steps of a move take a row each, and at the end they make room too.
        (_, WriteOperation::Reap { .. } | WriteOperation::Rebuild { .. } | WriteOperation::Move(_)) => true,
        (_, WriteOperation::Mint { write, .. }) => matches!(write.content, Content::Tombstone),
        (Pressure::Soft, WriteOperation::Merge { .. }) => true,
        (Pressure::Hard, WriteOperation::Merge { store_key, record, .. }) => {
            record::summary(store_key, record).is_ok_and(|summary| summary.live == 0)
        }
    }
}

pub(super) fn aborted_by_rows(error: RowsError) -> Aborted {
    Aborted::by(error.trouble(), &error)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dynamo::{
        ident::OpId,
        layout::View,
        operation::Address,
        record,
        replica::{MintBasis, Write, WriteOperation},
        version::{Actor, Content, Dot, Object, Version, put::Seen},
    };

    use super::{Pressure, is_admitted};

    #[test]
    fn the_fuller_the_store_the_less_is_admitted_and_deletes_always_are() {
        let address = Address::new(Bytes::from_static(b"default"), Bytes::from_static(b"k"));
        let view = View { prefix: 0, bits: 0, lo: 1, hi: 1 };
        let value = Content::Value { bytes: Bytes::from_static(b"v"), hash: 1 };
        let mint = |content: &Content| {
            let (content, basis) = (content.clone(), MintBasis::Local);
            let write = Write { content, basis, op_id: OpId::NONE, seen_clock: 0, wall_ms: 0, expires: 0 };
            WriteOperation::Mint { view, address: address.clone(), write }
        };
        let merge = |content: &Content| {
            let (mut object, dot) = (Object::new(), Dot { actor: Actor(1), seq: 1 });
            let version = Version { dot, op_id: OpId::NONE, clock: 0, expires: 0, content: content.clone() };
            object.put(&Seen::default(), version);
            let record = Bytes::from(record::encode(&address, &object));
            WriteOperation::Merge { view, store_key: address.store_key, record }
        };
        let admitted = |operation: &WriteOperation| {
            [Pressure::Free, Pressure::Soft, Pressure::Hard].map(|pressure| is_admitted(pressure, operation))
        };
        assert_eq!(admitted(&mint(&value)), [true, false, false]);
        assert_eq!(admitted(&merge(&value)), [true, true, false]);
        assert_eq!(admitted(&mint(&Content::Tombstone)), [true, true, true]);
        assert_eq!(admitted(&merge(&Content::Tombstone)), [true, true, true]);
    }
}
