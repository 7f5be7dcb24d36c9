//! A node of the checker: the real replica over one row and one record, whose transactions always commit at once.

use std::convert::Infallible;

use bytes::Bytes;
use dynamo::{
    ident::{OpId, StoreKey},
    layout::View,
    operation::Address,
    peer::{PeerAction, PeerOperation, PeerResult, Standing},
    record,
    replica::{
        Limits, Listed, MoveOperation, Nonce, PartitionRow, Planted, Replica, Rows, WriteOperation, WriteOutcome,
        answer_read,
    },
    version::{Actor, CausalContext, Content, Dot, Object, Version},
};

/// Most writes of one schedule.
pub(crate) const WRITES_MAX: usize = 12;

/// Which writes are known, as bits.
pub(crate) type Known = u16;

/// The one key of a schedule, and each write of it as a record.
pub(crate) struct Register {
    pub(crate) address: Address,
    records: Vec<Bytes>,
}

impl Register {
    pub(crate) fn new() -> Self {
        let address = Address::new(Bytes::from_static(b"default"), Bytes::from_static(b"key"));
        let records =
            (0..WRITES_MAX as u64).map(|write| Bytes::from(record::encode(&address, &object(write)))).collect();
        Self { address, records }
    }

    pub(crate) fn key(&self) -> StoreKey {
        self.address.store_key
    }
}

fn object(write: u64) -> Object {
    let dot = Dot { actor: Actor(write + 1), seq: 1 };
    let content = Content::Tombstone;
    let version = Version { dot, op_id: OpId { client: 1, sequence: write }, clock: write + 1, expires: 0, content };
    let context = CausalContext::from_entries(vec![(dot.actor, 1)]).expect("one entry ascends");
    Object { versions: vec![version], context, spent: Vec::new() }
}

/// What is durable at a node.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) row: Option<PartitionRow>,
    record: Option<Bytes>,
}

/// A node.
pub(crate) struct Owner {
    /// The newest layout it knows.
    pub(crate) epoch: u64,
    /// Its directory is gone, and so is it.
    pub(crate) is_gone: bool,
    pub(crate) disk: Disk,
    replica: Replica,
}

impl Owner {
    pub(crate) fn new(epoch: u64) -> Self {
        Self { epoch, is_gone: false, disk: Disk::default(), replica: replica() }
    }

    /// Its process starts anew.
    pub(crate) fn restart(&mut self) {
        self.replica = replica();
    }

    /// It owns the partition under a layout it has learned: it has a row from now on.
    pub(crate) fn adopt_partition(&mut self, oldest: View, is_forgetful: bool) {
        let is_new = self.disk.row.is_none_or(|row| row.is_moved);
        if !is_new {
            return;
        }
        let known = self.disk.row.filter(|_| !is_forgetful).map_or(oldest, |row| row.view.join(&oldest));
        self.disk.row = Some(PartitionRow::new(known));
        self.restart();
    }

    fn apply(&mut self, operation: WriteOperation) -> WriteOutcome {
        let mut batch = self.replica.begin();
        let Ok(_) = batch.apply(&mut self.disk, operation);
        let Ok(staged) = batch.stage(&mut self.disk);
        staged.committed().remove(0)
    }

    /// A step of the partition's move.
    pub(crate) fn step(&mut self, operation: MoveOperation) -> WriteOutcome {
        self.apply(WriteOperation::Move(operation))
    }

    /// Knows at least this view from now on.
    pub(crate) fn adopt(&mut self, view: View) -> Option<Standing> {
        match self.step(MoveOperation::Adopt { view }) {
            WriteOutcome::Moved { standing, .. } => Some(standing),
            _ => None,
        }
    }

    /// Stores writes; the replica's view if the sender's is old.
    pub(crate) fn merge(&mut self, register: &Register, view: View, known: Known) -> Option<Result<(), View>> {
        for write in (0..WRITES_MAX).filter(|write| known & 1 << write != 0) {
            let record = register.records[write].clone();
            match self.apply(WriteOperation::Merge { view, store_key: register.key(), record }) {
                WriteOutcome::Stored => {}
                WriteOutcome::Stale(mine) => return Some(Err(mine)),
                _ => return None,
            }
        }
        Some(Ok(()))
    }

    /// What it knows, if the sender's view is not old.
    pub(crate) fn read(&self, register: &Register, view: View) -> Option<Result<Known, View>> {
        let operation = PeerOperation { view, store_key: register.key(), action: PeerAction::Read };
        match answer_read(&operation, self.disk.record.as_ref(), self.disk.row.as_ref()) {
            PeerResult::Record(_) | PeerResult::Absent => Some(Ok(self.known(register))),
            PeerResult::Stale(mine) => Some(Err(mine)),
            _ => None,
        }
    }

    /// What it holds, whatever anybody's view.
    pub(crate) fn known(&self, register: &Register) -> Known {
        let Some(record) = &self.disk.record else { return 0 };
        let object = record::decode_of(&register.address, record).expect("nothing damages records here");
        object.context.iter().fold(0, |known, (actor, _)| known | 1 << (actor.0 - 1))
    }

    /// Deletes the partition.
    pub(crate) fn delete(&mut self, view: View) {
        match self.step(MoveOperation::Drop { view, records_max: 16 }) {
            WriteOutcome::Refused(_) => {
                self.disk.record = None;
                self.disk.row.iter_mut().for_each(|row| row.is_moved = true);
                self.restart();
            }
            WriteOutcome::Moved { .. } | WriteOutcome::Stale(_) => {}
            other => panic!("a deletion ended as {other:?}"),
        }
    }
}

fn replica() -> Replica {
    Replica::new(Nonce([7; 32]), Limits { value_bytes_max: 1 << 10 })
}

impl Rows for Disk {
    type Error = Infallible;

    fn record(&mut self, _: &StoreKey) -> Result<Option<Bytes>, Infallible> {
        Ok(self.record.clone())
    }

    fn put_record(&mut self, _: &StoreKey, record: &[u8]) -> Result<(), Infallible> {
        self.record = Some(Bytes::copy_from_slice(record));
        Ok(())
    }

    fn remove_record(&mut self, _: &StoreKey) -> Result<(), Infallible> {
        self.record = None;
        Ok(())
    }

    fn changed(&mut self, _: &StoreKey, _: Option<u128>, _: Option<u128>) -> Result<(), Infallible> {
        Ok(())
    }

    fn replaced_unknown(&mut self, _: &StoreKey, _: Option<u128>) -> Result<(), Infallible> {
        Ok(())
    }

    fn partition(&mut self, _: u32, _: u8) -> Result<Option<PartitionRow>, Infallible> {
        Ok(self.row)
    }

    fn put_partition(&mut self, row: &PartitionRow) -> Result<(), Infallible> {
        self.row = Some(*row);
        Ok(())
    }

    fn listed(&mut self, first: &StoreKey, last: &StoreKey, most: usize) -> Result<Vec<Listed>, Infallible> {
        let key = Register::new().key();
        let record = self.record.as_ref().filter(|_| (first..=last).contains(&&key));
        Ok(record.map(|record| Listed::verified(key, record)).into_iter().take(most).collect())
    }

    fn plant(&mut self, _: u32, _: u8) -> Result<Planted, Infallible> {
        unreachable!("the number of partitions stays what it is")
    }

    fn uproot(&mut self, _: u32, _: u8) -> Result<(), Infallible> {
        self.row = None;
        Ok(())
    }
}
