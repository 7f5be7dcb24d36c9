//! Anti-entropy (paper, section 4.7): bringing one partition level with one other owner, by hash trees.
//!
//! Both sides' sums are compared from the partition downwards: its sum, the sums of 256 ranges, of 256 ranges of each of those
//! that differ, and as soon as a range has few keys, its keys with their digests. So a partition that is level costs one sum,
//! and a difference costs one path down. What differs is looked at a second time a moment later, because a write that is on
//! its way is no difference; then what the other side has is read from it and merged here, and what it lacks is sent to it to
//! be merged there. Nothing is ever overwritten or deleted: a key that only one side has was not deleted on the other, or the
//! tombstone would stand there.
//!
//! Who leaves a partition only gives ([`Exchange::give`]): what it lacks is nothing to it any more. Who comes only takes
//! ([`Exchange::take`]): whether the other side is able to store anything is nothing to it.
//!
//! Whom to compare with and when is the [`steward`](crate::steward)'s business.

use alloc::vec::Vec;
use core::mem;

use crate::{
    ident::StoreKey,
    layout::{NodeIndex, View},
    operation::ErrorCode,
    peer::{PeerAction, PeerOperation, PeerResult, TreeAnswer, TreeQuestion},
    round::{Answer, Ask, End, Next},
    tick::Tick,
};

mod compare;
mod transfer;

use compare::{Comparison, Range};
use transfer::{Difference, Transfer};

/// Ranges compared in one round: their answers are at most half a megabyte.
const RANGES_PER_ROUND: usize = 64;

/// So many keys that differ are confirmed and levelled before more are looked for, which bounds the memory of an exchange.
const DIFFERING_MAX: usize = 1024;

/// An exchange of one partition with one other owner.
#[derive(Debug)]
pub struct Exchange {
    view: View,
    peer: NodeIndex,
    confirm_after_ms: u64,
    direction: Direction,
    /// Ranges yet to be compared, the next one last.
    ranges: Vec<Range>,
    /// Keys that differed when they were compared.
    differing: Vec<StoreKey>,
    phase: Phase,
    report: Report,
}

/// Which way objects go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// Each side is given what it lacks.
    Both,
    /// This side takes.
    Take,
    /// This side gives.
    Give,
}

/// What an exchange found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Objects that were behind or missing here and were merged.
    pub pulled: u64,
    /// Objects that were behind or missing at the other owner and were merged there.
    pub pushed: u64,
    /// Objects that differed and could not be moved, for reasons of their own; found again next time.
    pub refused: u64,
    /// Records here that can't be verified: they must be rebuilt.
    pub corrupt: Vec<StoreKey>,
    /// Objects of the other owner that can't be verified there, so that nothing is known of them.
    pub unread: u64,
    /// Bytes of records that were read from the other owner.
    pub bytes: u64,
}

impl Report {
    /// Whether everything the other owner has is merged here.
    pub fn is_merged_here(&self) -> bool {
        self.refused == 0 && self.unread == 0 && self.corrupt.is_empty()
    }

    /// Whether everything that can be read here is merged at the other owner.
    pub fn is_merged_there(&self) -> bool {
        self.refused == 0 && self.unread == 0
    }
}

#[derive(Debug)]
enum Phase {
    /// Ranges are to be compared; these have been asked for, each here and there.
    Comparing(Vec<Range>),
    /// What differs rests before it is looked at again.
    Resting,
    /// These have been asked for again, each here and there.
    Confirming(Vec<StoreKey>),
    /// What still differed is being moved.
    Moving(Transfer),
}

impl Exchange {
    /// An exchange of the partition of `view` with `peer`. `confirm_after_ms` is how long a write may be on its way between
    /// owners without being taken for a difference.
    pub fn new(view: View, peer: NodeIndex, confirm_after_ms: u64) -> Self {
        Self {
            view,
            peer,
            confirm_after_ms,
            direction: Direction::Both,
            ranges: alloc::vec![Range::whole(&view)],
            differing: Vec::new(),
            phase: Phase::Comparing(Vec::new()),
            report: Report::default(),
        }
    }

    /// An exchange that only gives `peer` what it lacks. Nobody writes here any more, so nothing is on its way.
    pub fn give(view: View, peer: NodeIndex) -> Self {
        Self { direction: Direction::Give, ..Self::new(view, peer, 0) }
    }

    /// An exchange that only takes what is lacking here.
    pub fn take(view: View, peer: NodeIndex, confirm_after_ms: u64) -> Self {
        Self { direction: Direction::Take, ..Self::new(view, peer, confirm_after_ms) }
    }

    /// What it found and did so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The other owner.
    pub fn peer(&self) -> NodeIndex {
        self.peer
    }

    /// The partition.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Goes on after a round, given its answers in order; or begins, or wakes up, given none.
    pub fn next(&mut self, now: Tick, answers: Vec<Answer>) -> Next {
        match mem::replace(&mut self.phase, Phase::Resting) {
            Phase::Comparing(asked) => self.compared(now, asked, answers),
            Phase::Resting => self.confirm(),
            Phase::Confirming(asked) => self.confirmed(asked, &answers),
            Phase::Moving(transfer) => self.moved(transfer, answers),
        }
    }

    /// Takes in what was compared, and compares on.
    fn compared(&mut self, now: Tick, asked: Vec<Range>, answers: Vec<Answer>) -> Next {
        let mut answers = answers.into_iter();
        for range in asked {
            let (Some(Answer::Tree(here)), Some(Answer::Tree(there))) = (answers.next(), answers.next()) else {
                return Next::End(End::Failed);
            };
            if is_unfit(&here) || is_unfit(&there) {
                return Next::End(End::Unfit);
            }
            let mut comparison = Comparison { ranges: &mut self.ranges, differing: &mut self.differing };
            if comparison.compare(&self.view, range, here, there).is_err() {
                return Next::End(End::Failed);
            }
        }
        if self.differing.len() >= DIFFERING_MAX || (self.ranges.is_empty() && !self.differing.is_empty()) {
            return Next::Wait(now.after(self.confirm_after_ms));
        }
        self.compare()
    }

    fn compare(&mut self) -> Next {
        if self.ranges.is_empty() {
            return Next::End(End::Complete);
        }
        let asked = self.ranges.split_off(self.ranges.len().saturating_sub(RANGES_PER_ROUND));
        let (view, to) = (self.view, self.peer);
        let asks = asked.iter().flat_map(|range| {
            let question = TreeQuestion { view, path: range.path, ask: range.ask };
            [Ask::LocalTree { question }, Ask::Tree { to, question }]
        });
        let asks = asks.collect();
        self.phase = Phase::Comparing(asked);
        Next::Ask(asks)
    }

    /// Looks a second time at what differs.
    fn confirm(&mut self) -> Next {
        let rest = self.differing.split_off(self.differing.len().min(DIFFERING_MAX));
        let asked = mem::replace(&mut self.differing, rest);
        let to = self.peer;
        let asks = asked.iter().flat_map(|store_key| {
            let operation = PeerOperation { view: self.view, store_key: *store_key, action: PeerAction::Digest };
            [Ask::LocalRead { operation: operation.clone() }, Ask::Peer { to, operation }]
        });
        let asks = asks.collect();
        self.phase = Phase::Confirming(asked);
        Next::Ask(asks)
    }

    fn confirmed(&mut self, asked: Vec<StoreKey>, answers: &[Answer]) -> Next {
        let mut differences = Vec::new();
        for (store_key, pair) in asked.into_iter().zip(answers.chunks(2)) {
            let [Answer::Peer(here), Answer::Peer(there)] = pair else {
                return Next::End(End::Failed);
            };
            if *here == PeerResult::Corrupt {
                self.report.corrupt.push(store_key);
            }
            match (standing(here), standing(there)) {
                (Err(Unknown::Failed), _) | (_, Err(Unknown::Failed)) => return Next::End(End::Failed),
                (Ok(None), Ok(_)) if self.direction == Direction::Give => {}
                (Ok(_), Ok(None)) if self.direction == Direction::Take => {}
                (Ok(here), Ok(there)) if here != there => {
                    differences.push(Difference { store_key, here, there });
                }
                (_, Err(Unknown::Corrupt)) => self.report.unread += 1,
                (Ok(_), Ok(_)) | (Err(Unknown::Corrupt), Ok(_)) => {}
            }
        }
        self.moved(Transfer::new(self.view, self.peer, self.direction, differences), Vec::new())
    }

    fn moved(&mut self, mut transfer: Transfer, answers: Vec<Answer>) -> Next {
        match transfer.next(answers, &mut self.report) {
            Next::End(End::Complete) if !self.differing.is_empty() => self.confirm(),
            Next::End(End::Complete) => self.compare(),
            next @ Next::Ask(_) => {
                self.phase = Phase::Moving(transfer);
                next
            }
            next @ (Next::End(End::Failed | End::Unfit) | Next::Wait(_)) => next,
        }
    }
}

/// Whether a side says that it can't compare for as long as it stays as it is.
fn is_unfit(answer: &TreeAnswer) -> bool {
    match answer {
        TreeAnswer::Failed(failure) => matches!(failure.code, ErrorCode::Corrupt | ErrorCode::Unsupported),
        TreeAnswer::Sum(_) | TreeAnswer::Children(_) | TreeAnswer::Keys { .. } | TreeAnswer::Stale(_) => false,
    }
}

/// Why it is not known what stands somewhere.
enum Unknown {
    Corrupt,
    Failed,
}

/// What stands somewhere, from the answer to a `Digest`.
fn standing(result: &PeerResult) -> Result<Option<u128>, Unknown> {
    match result {
        PeerResult::Digest(digest) => Ok(Some(*digest)),
        PeerResult::Absent => Ok(None),
        PeerResult::Corrupt => Err(Unknown::Corrupt),
        PeerResult::Record(_) | PeerResult::Stored | PeerResult::Stale(_) | PeerResult::Failed(_) => {
            Err(Unknown::Failed)
        }
    }
}
