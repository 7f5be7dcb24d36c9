//! The hints of the nodes: a writer of their own, what is asked of it, and their delivery, which is the steward's work and
//! is done here in its simplest form, one hint at a time.

use bytes::Bytes;
use dynamo::{
    coordinator::Input,
    hint::{HintKey, HintOperation, answer_read},
    layout::View,
    operation::{ErrorCode, Failure},
    peer::{PeerOperation, PeerResult},
    record,
    replica::{WriteOperation, WriteOutcome},
};

use super::{Caller, Message, Origin, World, store::ended};

impl World {
    /// The writer of a node's hints takes what waits for it into a transaction. What was minted and shown in one that
    /// fails is never applied again.
    pub(super) fn write_hints(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(process) = node.process.as_mut().filter(|process| process.keeping.is_none()) else { return };
        if process.hints.is_empty() {
            return;
        }
        let fails = self.has_faults && self.random.chance(60);
        let mut disk = node.hints.clone();
        let mut batch = process.book.begin();
        let mut minted = Vec::new();
        for (origin, operation) in &process.hints {
            let Ok(shown) = batch.apply(&mut disk, operation.clone());
            if let (Some(shown), Origin::Here(Caller { call: Some(call), .. }), HintOperation::Mint { write, .. }) =
                (shown, origin, operation)
            {
                let dots = self.minted.entry(write.op_id).or_default();
                self.sometimes.minted_by_stand_ins += u64::from(!shown.retried);
                dots.extend(shown.dot);
                minted.push((*call, shown.clone()));
            }
        }
        if fails {
            drop(batch);
            let failure =
                Failure { maybe_applied: !minted.is_empty(), ..Failure::new(ErrorCode::StorageFull, "no space") };
            for (origin, _) in process.hints.drain(..) {
                self.network.push(ended(origin, WriteOutcome::Refused(failure.clone())));
            }
        } else {
            let Ok(staged) = batch.stage(&mut disk);
            let origins = process.hints.drain(..).map(|(origin, _)| origin);
            process.keeping = Some((disk, origins.zip(staged.committed()).collect()));
        }
        for (call, minted) in minted {
            if self.random.chance(800) {
                self.input(at, Input::Minted { call, minted });
            }
        }
    }

    /// The commit of a node's hints returns.
    pub(super) fn commit_hints(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some((disk, outcomes)) = node.process.as_mut().and_then(|process| process.keeping.take()) else {
            return;
        };
        node.hints = disk;
        for (origin, outcome) in outcomes {
            match origin {
                Origin::Here(_) => self.network.push(ended(origin, outcome)),
                Origin::Peer(_) => self.send(ended(origin, outcome)),
                Origin::Handoff(..) => unreachable!("hints are handed off to replicas"),
            }
        }
    }

    /// A node sends one of its hints to whom it is for.
    pub(super) fn hand_off(&mut self, at: usize) {
        let Some(process) = &self.nodes[at].process else { return };
        let hints = &self.nodes[at].hints.hints;
        if hints.is_empty() {
            return;
        }
        let caller = Caller { node: at, incarnation: process.incarnation, call: None, doubled: false };
        let (key, record) = hints.iter().nth(self.random.below(hints.len())).expect("it is below their number");
        let (key, record) = (*key, record.clone());
        self.send(Message::Handoff { from: caller, key, record });
    }

    /// The target of a hint takes it in.
    pub(super) fn take_handoff(&mut self, from: Caller, key: HintKey, record: Bytes) {
        let target = self.layout.index_of(key.target).expect("hints are for nodes there are");
        let Some(process) = &mut self.nodes[usize::from(target.0)].process else { return };
        let (view, store_key) = (view_of(&key), key.store_key);
        let digest = record::verify(&store_key, &record).expect("hints are sound");
        process.queue.push((Origin::Handoff(from, key, digest), WriteOperation::Merge { view, store_key, record }));
    }

    /// The target has it on its disk: the hint may go, if it is still this one.
    pub(super) fn handed_off(&mut self, to: Caller, key: HintKey, digest: u128) {
        if !self.is_same_process(to) {
            return;
        }
        let process = self.nodes[to.node].process.as_mut().expect("it is the same process");
        let (target, view, store_key) = (key.target, view_of(&key), key.store_key);
        process.hints.push((Origin::Here(to), HintOperation::Drop { target, view, store_key, digest }));
        self.sometimes.handed_off += 1;
    }

    /// What a node keeps of a key for its owners.
    pub(super) fn read_hints(&self, at: usize, operation: &PeerOperation) -> PeerResult {
        let of_key = |(key, hint): (&HintKey, &Bytes)| (key.store_key == operation.store_key).then(|| hint.clone());
        let hints = self.nodes[at].hints.hints.iter().filter_map(of_key);
        answer_read(&operation.view, &operation.store_key, hints, false)
    }

    /// How many hints there are.
    pub(super) fn kept(&self) -> usize {
        self.nodes.iter().map(|node| node.hints.hints.len()).sum()
    }
}

fn view_of(key: &HintKey) -> View {
    View { prefix: key.prefix, bits: key.bits, lo: 1, hi: 1 }
}
