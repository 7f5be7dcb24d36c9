//! Levelling keys that were seen to differ twice: what the other side has is read there and merged here, then what it lacks is
//! sent to it; or only one of the two. Records are moved in pieces of a bounded size, whatever their number and length.

use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;

use super::{Direction, Report};
use crate::{
    bug::{Bug, is_on},
    ident::StoreKey,
    layout::{NodeIndex, View},
    operation::ErrorCode,
    peer::{PeerAction, PeerOperation, PeerResult},
    record,
    replica::{WriteOperation, WriteOutcome},
    round::{Answer, Ask, End, Merged, Next, merged},
};

/// Keys of the first piece, before anything is known of their records' length: so many of the longest are bearable.
const PIECE_FIRST: usize = 8;

/// Keys of a piece at most.
const PIECE_MAX: usize = 512;

/// Bytes of records a piece should have: little enough to wait for, much enough to be worth a round.
const PIECE_BYTES: usize = 1 << 20;

/// A key that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) store_key: StoreKey,
    /// The digest of the record here, if there is one.
    pub(super) here: Option<u128>,
    /// The digest of the record at the other side, if there is one.
    pub(super) there: Option<u128>,
}

/// Keys on their way to being level.
#[derive(Debug)]
pub(super) struct Transfer {
    view: View,
    peer: NodeIndex,
    direction: Direction,
    /// Those yet to be moved, the next one last.
    waiting: Vec<Difference>,
    /// How many keys the next piece has.
    piece: usize,
    stage: Stage,
}

/// How far the present piece is.
#[derive(Debug)]
enum Stage {
    /// These are being read: there if there is one, else here.
    Reading(Vec<Difference>),
    /// These were sent to be merged where they lacked.
    Merging(Vec<Move>),
    /// These are merged here, and are read again to see whether the other side lacks something of the merge.
    Rereading(Vec<Merge>),
    /// So many are sent to be merged there.
    Pushing,
}

/// A record that was sent to be merged.
#[derive(Debug)]
enum Move {
    /// Here; with what the other side holds, if there was a record here before and it is to have the merge.
    Pull(Option<Merge>),
    /// There.
    Push,
}

/// A key of which both sides had a record, merged here.
#[derive(Debug)]
struct Merge {
    store_key: StoreKey,
    /// The digest of the record here before.
    before: u128,
    /// The other side's record.
    there: Bytes,
}

impl Transfer {
    pub(super) fn new(view: View, peer: NodeIndex, direction: Direction, waiting: Vec<Difference>) -> Self {
        Self { view, peer, direction, waiting, piece: PIECE_FIRST, stage: Stage::Pushing }
    }

    /// Goes on after a round, or begins, given no answers.
    pub(super) fn next(&mut self, answers: Vec<Answer>, report: &mut Report) -> Next {
        match mem::replace(&mut self.stage, Stage::Pushing) {
            Stage::Reading(asked) => self.read(asked, answers, report),
            Stage::Merging(moves) => self.merged(moves, &answers, report),
            Stage::Rereading(merges) => self.reread(merges, answers, report),
            Stage::Pushing => {
                if !answers.iter().all(|answer| count(answer, &mut report.pushed, &mut report.refused)) {
                    return Next::End(End::Failed);
                }
                self.begin_piece()
            }
        }
    }

    fn begin_piece(&mut self) -> Next {
        if self.waiting.is_empty() {
            return Next::End(End::Complete);
        }
        let asked = self.waiting.split_off(self.waiting.len().saturating_sub(self.piece));
        let asks = asked.iter().map(|difference| {
            let operation = self.operation(difference.store_key, PeerAction::Read);
            if self.takes(difference) { Ask::Peer { to: self.peer, operation } } else { Ask::LocalRead { operation } }
        });
        let asks = asks.collect();
        self.stage = Stage::Reading(asked);
        Next::Ask(asks)
    }

    /// Sends what was read where it lacks.
    fn read(&mut self, asked: Vec<Difference>, answers: Vec<Answer>, report: &mut Report) -> Next {
        let (mut asks, mut moves, mut bytes, mut left) = (Vec::new(), Vec::new(), 0, 0);
        for (difference, answer) in asked.into_iter().zip(answers) {
            let Difference { store_key, here, .. } = difference;
            match answer {
                Answer::Peer(PeerResult::Record(record)) => {
                    bytes += record.len();
                    if self.takes(&difference) {
                        report.bytes += record.len() as u64;
                        let before = here.filter(|_| self.direction == Direction::Both);
                        let merge = before.map(|before| Merge { store_key, before, there: record.clone() });
                        moves.push(Move::Pull(merge));
                        let operation = WriteOperation::Merge { view: self.view, store_key, record };
                        asks.push(Ask::LocalWrite { operation });
                    } else if !is_on(Bug::ExchangeOnlyPulls) {
                        moves.push(Move::Push);
                        let operation = self.operation(store_key, PeerAction::Merge(record));
                        asks.push(Ask::Peer { to: self.peer, operation });
                    }
                }
                Answer::Peer(PeerResult::Corrupt) if !self.takes(&difference) => report.corrupt.push(store_key),
                // The other side's own scrub and reads tell it; and what is gone by now needs no levelling.
                Answer::Peer(PeerResult::Corrupt | PeerResult::Absent) => report.refused += 1,
                Answer::Peer(PeerResult::Failed(failure)) if failure.code == ErrorCode::TooLarge && self.piece > 1 => {
                    left += 1;
                    self.waiting.push(difference);
                }
                Answer::Peer(PeerResult::Failed(failure)) if failure.code == ErrorCode::TooLarge => report.refused += 1,
                Answer::Peer(_)
                | Answer::Tree(_)
                | Answer::Move(_)
                | Answer::Written(_)
                | Answer::Targets(_)
                | Answer::Hints(_)
                | Answer::NotSent
                | Answer::Lost => return Next::End(End::Failed),
            }
        }
        self.fit_piece(bytes, left);
        self.ask(asks, Stage::Merging(moves))
    }

    fn merged(&mut self, moves: Vec<Move>, answers: &[Answer], report: &mut Report) -> Next {
        let mut merges = Vec::new();
        for (moved, answer) in moves.into_iter().zip(answers) {
            let mut stored = 0;
            if !count(answer, &mut stored, &mut report.refused) {
                return Next::End(End::Failed);
            }
            match moved {
                Move::Pull(None) => report.pulled += stored,
                Move::Push => report.pushed += stored,
                // Whether the merge changed anything here, the next look at it tells.
                Move::Pull(Some(merge)) if stored > 0 => merges.push(merge),
                Move::Pull(Some(merge)) if *answer == Answer::Written(WriteOutcome::Corrupt) => {
                    report.corrupt.push(merge.store_key);
                }
                Move::Pull(Some(_)) => {}
            }
        }
        let read = |merge: &Merge| Ask::LocalRead { operation: self.operation(merge.store_key, PeerAction::Read) };
        let asks = merges.iter().map(read).collect();
        self.ask(asks, Stage::Rereading(merges))
    }

    /// Sends a merge to the other side unless the other side's record is that merge.
    fn reread(&mut self, merges: Vec<Merge>, answers: Vec<Answer>, report: &mut Report) -> Next {
        let mut asks = Vec::new();
        for (merge, answer) in merges.into_iter().zip(answers) {
            match answer {
                Answer::Peer(PeerResult::Record(record)) => {
                    report.pulled += u64::from(record::digest(&record) != merge.before);
                    if record == merge.there || is_on(Bug::ExchangeOnlyPulls) {
                        continue;
                    }
                    let operation = self.operation(merge.store_key, PeerAction::Merge(record));
                    asks.push(Ask::Peer { to: self.peer, operation });
                }
                Answer::Peer(PeerResult::Corrupt) => report.corrupt.push(merge.store_key),
                Answer::Peer(PeerResult::Failed(failure)) if failure.code == ErrorCode::TooLarge => report.refused += 1,
                Answer::Peer(_)
                | Answer::Tree(_)
                | Answer::Move(_)
                | Answer::Written(_)
                | Answer::Targets(_)
                | Answer::Hints(_)
                | Answer::NotSent
                | Answer::Lost => return Next::End(End::Failed),
            }
        }
        self.ask(asks, Stage::Pushing)
    }

    /// Whether what the other side has is wanted here.
    fn takes(&self, difference: &Difference) -> bool {
        difference.there.is_some() && self.direction != Direction::Give
    }

    /// Asks, or goes on at once if there is nothing to ask.
    fn ask(&mut self, asks: Vec<Ask>, stage: Stage) -> Next {
        if asks.is_empty() {
            return self.begin_piece();
        }
        self.stage = stage;
        Next::Ask(asks)
    }

    fn operation(&self, store_key: StoreKey, action: PeerAction) -> PeerOperation {
        PeerOperation { view: self.view, store_key, action }
    }

    /// As many keys next time as would have the wanted size if they are like these; fewer at once if some were left behind.
    fn fit_piece(&mut self, bytes: usize, left: usize) {
        let fitting = (self.piece * PIECE_BYTES / bytes.max(1)).clamp(1, (self.piece * 2).min(PIECE_MAX));
        self.piece = if left > 0 { fitting.min(self.piece.div_ceil(2)) } else { fitting };
    }
}

/// Counts how a merge ended; `false` if nothing more makes sense with the other side now.
fn count(answer: &Answer, stored: &mut u64, refused: &mut u64) -> bool {
    match merged(answer) {
        Merged::Stored => *stored += 1,
        // Whoever is full may still give what the other side lacks.
        Merged::Refused | Merged::Full => *refused += 1,
        Merged::Failed => return false,
    }
    true
}
