//! What nodes ask of each other about partitions that move, and questions that know more than a row: those wait until the row has
//! caught up.

use dynamo::{
    coordinator::{CallId, Input, PeerCall},
    layout::View,
    operation::{ErrorCode, Failure},
    peer::{MoveAnswer, MoveAsk, MoveQuestion, PeerOperation, Standing, TreeQuestion},
    replica::{MoveOperation, PartitionRow, WriteOperation, WriteOutcome},
    round::Answer,
    steward,
};

use super::{
    World,
    queue::{Body, Caller, Message, Party},
    store::Origin,
};
use crate::invariant::Invariant;

/// Who waits until a row has caught up with what was asked.
#[derive(Clone, Debug)]
pub(super) enum Waiting {
    /// This node's coordinator, to read.
    Read { call: CallId, operation: PeerOperation },
    /// A peer, to read.
    Peer { from: Party, incarnation: u64, call: Option<Caller>, operation: PeerOperation },
    /// A peer's steward, to ask a hash tree.
    Tree { from: Party, incarnation: u64, call: CallId, question: TreeQuestion },
    /// A peer's steward, to have it known.
    Move { from: Party, incarnation: u64, call: CallId },
}

impl World {
    /// Whether a row knows less than a view of as many bits.
    pub(super) fn is_behind(&self, node: usize, view: &View) -> bool {
        let row = self.nodes[node].disk.row_of(&view.first_key(), view.bits);
        row.is_some_and(|row| row.view.bits == view.bits && !row.view.covers(view) && !row.is_moved)
    }

    /// Whether a node must fetch layouts before it can understand a view.
    pub(super) fn lacks_layouts(&self, node: usize, view: &View) -> bool {
        let ring = &self.nodes[node].ring;
        view.hi > ring.epoch() || view.bits > ring.newest().partition_bits
    }

    /// Lets a row learn what somebody who waits knows.
    pub(super) fn catch_up(&mut self, node: usize, view: View, waiting: Waiting) {
        self.figures.sometimes.caught_up += 1;
        let adopt = WriteOperation::Move(MoveOperation::Adopt { view });
        self.submit(node, Origin::Waiting(Box::new(waiting)), adopt);
    }

    /// The row has caught up, or could not.
    pub(super) fn caught_up(&mut self, node: usize, waiting: Waiting, outcome: WriteOutcome) {
        match waiting {
            Waiting::Read { call, operation } => {
                let result = self.read(node, &operation);
                self.drive(node, Input::LocalRead { call, result });
            }
            Waiting::Peer { from, incarnation, call, operation } => {
                let result = self.read(node, &operation);
                if let Some(call) = call {
                    self.answer(node, (from, incarnation, call), PeerCall::Answered(result));
                }
            }
            Waiting::Tree { from, incarnation, call, question } => {
                let answer = self.nodes[node].disk.answer_tree(&question);
                let body = Body::AnswerTree { call, answer };
                self.send(Message { from: node, to: from, incarnation, doubled: false, body });
            }
            Waiting::Move { from, incarnation, call } => {
                let answer = match outcome {
                    WriteOutcome::Moved { standing, .. } => MoveAnswer::Standing(standing),
                    WriteOutcome::Refused(failure) => MoveAnswer::Failed(failure),
                    WriteOutcome::Stale(view) => self.standing(node, &view),
                    WriteOutcome::Stored | WriteOutcome::Minted(_) | WriteOutcome::Corrupt => {
                        MoveAnswer::Failed(Failure::new(ErrorCode::Internal, "a step of a move ended as a write"))
                    }
                };
                self.answer_move(node, (from, incarnation, call), answer);
            }
        }
    }

    /// How a node stands with a partition, which it knows nothing of when it has larger or smaller ones: a part of one does not speak for
    /// the whole.
    pub(super) fn standing(&self, node: usize, view: &View) -> MoveAnswer {
        let row = self.nodes[node].disk.row_of(&view.first_key(), view.bits);
        let row = row.filter(|row| (row.view.bits, row.view.prefix) == (view.bits, view.prefix));
        row.map_or(MoveAnswer::Unknown, |row| MoveAnswer::Standing(row.standing()))
    }

    /// A peer's steward asks about a partition that moves.
    pub(super) fn serve_move(
        &mut self,
        node: usize,
        (from, incarnation, call): (Party, u64, CallId),
        question: MoveQuestion,
    ) {
        let MoveQuestion { view, ask } = question;
        let answer = match ask {
            MoveAsk::Standing => self.standing(node, &view),
            MoveAsk::Adopt => {
                let waiting = Waiting::Move { from, incarnation, call };
                return self.catch_up(node, view, waiting);
            }
            MoveAsk::Range { after, bytes_max } => {
                let (records, more) = self.nodes[node].disk.range(&view, after, bytes_max);
                MoveAnswer::Range { records, more }
            }
        };
        self.answer_move(node, (from, incarnation, call), answer);
    }

    fn answer_move(&mut self, node: usize, (to, incarnation, call): (Party, u64, CallId), answer: MoveAnswer) {
        let body = Body::AnswerMove { call, answer };
        self.send(Message { from: node, to, incarnation, doubled: false, body });
    }

    pub(super) fn hear_move(&mut self, node: usize, peer: Party, call: CallId, answer: MoveAnswer) {
        self.end_call(node, peer, Caller::Steward(call), true);
        self.tell_steward(node, steward::Input::Answer { call, answer: Answer::Move(answer) });
    }

    /// Rows changed durably: the oracle judges what they say, coordinator and steward are told of new views.
    pub(super) fn rows_changed(&mut self, node: usize, rows: &[Result<PartitionRow, (u8, u32)>]) {
        for row in rows {
            let (bits, prefix) = row.as_ref().map_or_else(|place| *place, |row| (row.view.bits, row.view.prefix));
            let keys: Vec<usize> = (0..self.oracle.keys())
                .filter(|key| self.oracle.address(*key).store_key.id().prefix(bits) == prefix)
                .collect();
            if let Ok(row) = row {
                let records = &self.nodes[node].disk.records;
                let found = records.keys().filter(|key| key.id().prefix(bits) == prefix).count() as u64;
                if found != row.records {
                    self.oracle.broken(Invariant::I9, || {
                        format!("n{node}'s row of partition {prefix} of {bits} bits counts {} records, and {found} are there", row.records)
                    });
                }
            }
            for key in keys {
                // A partition that was split: its children say what is true now.
                if row.is_err() && self.nodes[node].disk.row_of(&self.oracle.address(key).store_key, bits).is_some() {
                    continue;
                }
                self.oracle.row(node, key, row.as_ref().ok(), self.nodes[node].ring.epoch());
            }
        }
    }

    /// Tells coordinator and steward of views that have changed.
    pub(super) fn tell_views(&mut self, node: usize, views: Vec<View>) {
        for view in views {
            self.drive(node, Input::View { view });
            self.tell_steward(node, steward::Input::View { view });
        }
    }

    /// Every row of a node, for its steward.
    pub(super) fn standings(&self, node: usize) -> Vec<Standing> {
        self.nodes[node].disk.decoded_rows().iter().map(PartitionRow::standing).collect()
    }
}
