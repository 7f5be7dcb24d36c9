//! Rebuilding a record that can't be verified (design, data, "Record on disk") from what the other owners hold.
//!
//! One owner is not enough: a write that was acknowledged by W owners, this one among them, may be missing at N − W of the
//! others. So N − W + 1 of them must answer well, W being a majority. All are asked; an owner that can't be reached, or can't
//! verify its own record, is no answer, and nothing is "absent" because of it. Too few answers leave everything as it is.

use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;

use crate::{
    bug::{Bug, is_on},
    ident::StoreKey,
    layout::{Layout, NodeIndex, View},
    operation::Address,
    peer::{PeerAction, PeerOperation, PeerResult},
    record,
    replica::WriteOperation,
    round::{Answer, Ask, End, Merged, Next, merged},
};

/// One attempt to rebuild one record.
#[derive(Debug)]
pub struct Rebuild {
    view: View,
    store_key: StoreKey,
    others: Vec<NodeIndex>,
    need: usize,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Nothing is asked.
    Idle,
    /// The other owners are asked what they hold.
    Reading,
    /// The merge is being written.
    Writing,
}

impl Rebuild {
    /// An attempt to rebuild the record under `store_key` at the node `me`.
    pub fn new(me: NodeIndex, layout: &Layout, store_key: StoreKey) -> Self {
        let partition = layout.partition(&store_key.id());
        let others: Vec<NodeIndex> = layout.owners(partition).filter(|&owner| owner != me).collect();
        let need = need(layout, partition);
        Self { view: layout.view(partition), store_key, others, need, phase: Phase::Idle }
    }

    /// Which record.
    pub fn store_key(&self) -> &StoreKey {
        &self.store_key
    }

    /// Goes on after a round, given its answers in order; or begins, given none.
    pub fn next(&mut self, answers: Vec<Answer>) -> Next {
        match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle if self.others.is_empty() => Next::End(End::Failed),
            Phase::Idle => {
                self.phase = Phase::Reading;
                let operation = PeerOperation { view: self.view, store_key: self.store_key, action: PeerAction::Read };
                let ask = |&to| Ask::Peer { to, operation: operation.clone() };
                Next::Ask(self.others.iter().map(ask).collect())
            }
            Phase::Reading => self.write(&answers),
            Phase::Writing => match answers.first().map(merged) {
                Some(Merged::Stored) => Next::End(End::Complete),
                Some(Merged::Refused | Merged::Full | Merged::Failed) | None => Next::End(End::Failed),
            },
        }
    }

    fn write(&mut self, answers: &[Answer]) -> Next {
        let good: Vec<Option<&Bytes>> = answers.iter().filter_map(holding).collect();
        if good.len() < self.need {
            return Next::End(End::Failed);
        }
        let Some(record) = merge(&self.store_key, &good) else { return Next::End(End::Failed) };
        self.phase = Phase::Writing;
        let operation = WriteOperation::Rebuild { view: self.view, store_key: self.store_key, record };
        Next::Ask(alloc::vec![Ask::LocalWrite { operation }])
    }
}

/// How many of a partition's other owners must answer well: N − W + 1, W being a majority of the N owners there are.
pub fn need(layout: &Layout, partition: u32) -> usize {
    if is_on(Bug::RebuildFromOne) {
        return 1;
    }
    let owners = layout.owners(partition).count();
    let majority = owners / 2 + 1;
    owners - majority + 1
}

/// What an owner holds, if it said so: a record, or nothing.
fn holding(answer: &Answer) -> Option<Option<&Bytes>> {
    match answer {
        Answer::Peer(PeerResult::Record(record)) => Some(Some(record)),
        Answer::Peer(PeerResult::Absent) => Some(None),
        Answer::Peer(
            PeerResult::Digest(_)
            | PeerResult::Stored
            | PeerResult::Stale(_)
            | PeerResult::Corrupt
            | PeerResult::Failed(_),
        )
        | Answer::Tree(_)
        | Answer::Written(_)
        | Answer::Targets(_)
        | Answer::Hints(_)
        | Answer::NotSent
        | Answer::Lost => is_on(Bug::RebuildCountsFailures).then_some(None),
    }
}

/// The merge of what the owners hold: `Some(None)` if all of them hold nothing, `None` if one sent what is no record of the key.
fn merge(store_key: &StoreKey, held: &[Option<&Bytes>]) -> Option<Option<Bytes>> {
    let mut merged: Option<record::Record> = None;
    for bytes in held.iter().copied().flatten() {
        let next = record::decode(store_key, bytes).ok()?;
        match &mut merged {
            None => merged = Some(next),
            Some(merged) if merged.bucket == next.bucket && merged.key == next.key => merged.object.merge(&next.object),
            Some(_) => return None,
        }
    }
    Some(merged.map(|record::Record { bucket, key, object, .. }| {
        let address = Address { store_key: *store_key, bucket, key };
        Bytes::from(record::encode(&address, &object))
    }))
}
