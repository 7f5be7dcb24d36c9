//! The first copy of a partition at a new owner: page by page from somebody who owns it, in the order of the keys. No quorum rests on it;
//! it only leaves little to be merged once the partition is fenced ([`super::fill`]).
//!
//! A source that fails is followed by another one, which goes on where it stopped. How far the copy has come is remarked in the row,
//! so another process goes on there too.

use alloc::{collections::VecDeque, vec::Vec};
use core::mem;

use bytes::Bytes;

use super::{Active, Doing, Trouble, standing_of};
use crate::{
    bug::{Bug, is_on},
    holdings::Holdings,
    ident::StoreKey,
    layout::{NodeIndex, View},
    peer::{MoveAnswer, MoveAsk, MoveQuestion, Standing},
    replica::{MoveOperation, WriteOperation, WriteOutcome},
    round::{Answer, Ask, End, Merged, Next, merged},
};

/// Bytes of records of one page: little enough to wait for and to hold twice, much enough to be worth a round.
const PAGE_BYTES_MAX: u32 = 1 << 20;

/// Records merged in one round: a few of a store's group commits.
const MERGES_MAX: usize = 1024;

/// The first copy of one partition.
#[derive(Debug)]
pub struct Copy {
    active: Active,
    /// Whom to copy from, the best first.
    sources: Vec<NodeIndex>,
    /// Everything up to this key is merged here.
    cursor: Option<StoreKey>,
    /// Fetched and not yet merged.
    waiting: VecDeque<(StoreKey, Bytes)>,
    /// The source has more than what was fetched.
    more: bool,
    phase: Phase,
    report: Report,
    trouble: Option<Trouble>,
}

/// How far a copy is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records here, those included that were here before this attempt.
    pub records: u64,
    /// About how many the source has; 0 while that is unknown.
    pub records_total: u64,
    /// Bytes of records that came.
    pub bytes: u64,
    /// Records here that can't be verified: they must be rebuilt.
    pub corrupt: Vec<StoreKey>,
}

#[derive(Debug)]
enum Phase {
    /// Nothing is asked.
    Idle,
    /// The sources are asked how they stand.
    Locating,
    /// These are being merged, and the next page is fetched.
    Moving { merging: Vec<(StoreKey, Bytes)>, remarks: bool, fetches: bool },
    /// That everything is copied is being remarked.
    Ending,
}

impl Copy {
    /// A copy of a partition that goes on where this node's row says, from any of these sources.
    pub fn new(active: Active, row: &Standing, sources: Vec<NodeIndex>) -> Self {
        Self {
            active,
            sources,
            cursor: resumed(row.copied),
            waiting: VecDeque::new(),
            more: true,
            phase: Phase::Idle,
            report: Report { records: row.records, ..Report::default() },
            trouble: None,
        }
    }

    /// The partition.
    pub fn view(&self) -> &View {
        &self.active.view
    }

    /// How far it is.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What it does.
    pub fn doing(&self) -> Doing {
        Doing::Copying(self.sources.first().copied())
    }

    /// Why it failed.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Goes on after a round, given its answers in order; or begins, given none.
    pub fn next(&mut self, answers: Vec<Answer>, holdings: &Holdings) -> Next {
        match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => self.locate(),
            Phase::Locating => {
                self.located(&answers);
                self.go_on(holdings)
            }
            Phase::Moving { merging, remarks, fetches } => self.moved(merging, remarks, fetches, answers, holdings),
            Phase::Ending if answers.iter().all(|answer| standing_of(answer).is_some()) => Next::End(End::Complete),
            Phase::Ending => self.fail(Trouble::Refused),
        }
    }

    fn locate(&mut self) -> Next {
        if self.sources.is_empty() {
            return self.fail(Trouble::NoSource);
        }
        self.phase = Phase::Locating;
        let ask = |&to: &NodeIndex| self.ask(to, MoveAsk::Standing);
        Next::Ask(self.sources.iter().map(ask).collect())
    }

    /// Keeps those that have the partition.
    fn located(&mut self, answers: &[Answer]) {
        let has_it =
            |answer| standing_of(answer).filter(|standing| !standing.is_moved).map(|standing| standing.records);
        let found = self.sources.iter().zip(answers).filter_map(|(source, answer)| Some((*source, has_it(answer)?)));
        let found: Vec<(NodeIndex, u64)> = found.collect();
        self.report.records_total = found.iter().map(|(_, records)| *records).max().unwrap_or(0);
        self.sources = found.into_iter().map(|(source, _)| source).collect();
    }

    /// Merges what has come and fetches what comes after it.
    fn go_on(&mut self, holdings: &Holdings) -> Next {
        let View { prefix: partition, bits, .. } = self.active.view;
        let Some(row) = holdings.row(partition).filter(|row| row.view.bits == bits) else {
            return self.fail(Trouble::Changed);
        };
        let merging: Vec<_> = self.waiting.drain(..self.waiting.len().min(MERGES_MAX)).collect();
        let below = self.cursor.as_ref().map_or(0, first_bits);
        if merging.is_empty() && !self.more {
            return self.end(row.view);
        }
        let merge = |(store_key, record): &(StoreKey, Bytes)| {
            let operation = WriteOperation::Merge { view: row.view, store_key: *store_key, record: record.clone() };
            Ask::LocalWrite { operation }
        };
        let mut asks: Vec<Ask> = merging.iter().map(merge).collect();
        let remarks = below > row.copied;
        if remarks {
            let operation = WriteOperation::Move(MoveOperation::Copied { view: row.view, below });
            asks.push(Ask::LocalWrite { operation });
        }
        let fetches = self.waiting.is_empty() && self.more;
        if fetches {
            let Some(&source) = self.sources.first() else { return self.fail(Trouble::NoSource) };
            let after = merging.last().map(|(key, _)| *key).or(self.cursor);
            asks.push(self.ask(source, MoveAsk::Range { after, bytes_max: PAGE_BYTES_MAX }));
        }
        self.phase = Phase::Moving { merging, remarks, fetches };
        Next::Ask(asks)
    }

    /// Takes in what was merged and what was fetched.
    fn moved(
        &mut self,
        merging: Vec<(StoreKey, Bytes)>,
        remarks: bool,
        fetches: bool,
        answers: Vec<Answer>,
        holdings: &Holdings,
    ) -> Next {
        let mut answers = answers.into_iter();
        let last = merging.last().map(|(key, _)| *key).or(self.cursor);
        for (store_key, _) in &merging {
            let answer = answers.next().unwrap_or(Answer::Lost);
            match merged(&answer) {
                Merged::Stored => self.report.records += 1,
                Merged::Refused if answer == Answer::Written(WriteOutcome::Corrupt) => {
                    self.report.corrupt.push(*store_key);
                }
                // It is not what it should be; the exchange after the fence asks for it again.
                Merged::Refused => {}
                Merged::Full => return self.fail(Trouble::NoRoom),
                // The row's view may have changed; the next attempt goes on here.
                Merged::Failed => return self.fail(Trouble::Changed),
            }
        }
        self.cursor = last;
        if remarks {
            answers.next();
        }
        if fetches && !self.fetched(answers.next(), last) {
            self.sources.remove(0);
            if self.sources.is_empty() {
                return self.fail(Trouble::NoSource);
            }
        }
        self.go_on(holdings)
    }

    /// Takes in a page; `false` if it is none.
    fn fetched(&mut self, answer: Option<Answer>, after: Option<StoreKey>) -> bool {
        let Some(Answer::Move(MoveAnswer::Range { records, more })) = answer else { return false };
        let View { prefix, bits, .. } = self.active.view;
        let mut before = after;
        for (key, _) in &records {
            if Some(*key) <= before || key.id().prefix(bits) != prefix {
                return false;
            }
            before = Some(*key);
        }
        if more && records.is_empty() {
            return false;
        }
        self.report.bytes += records.iter().map(|(_, record)| record.len() as u64).sum::<u64>();
        self.waiting.extend(records);
        self.more = more;
        true
    }

    fn end(&mut self, row: View) -> Next {
        self.phase = Phase::Ending;
        let operation = MoveOperation::Copied { view: row, below: u64::MAX };
        let mut operations = alloc::vec![operation];
        if is_on(Bug::CopyCountsAsFull) {
            let view = self.active.view;
            operations.extend([MoveOperation::Adopt { view }, MoveOperation::Fill { view }]);
        }
        let write = |operation| Ask::LocalWrite { operation: WriteOperation::Move(operation) };
        Next::Ask(operations.into_iter().map(write).collect())
    }

    fn ask(&self, to: NodeIndex, ask: MoveAsk) -> Ask {
        Ask::Move { to, question: MoveQuestion { view: self.active.view, ask } }
    }

    fn fail(&mut self, trouble: Trouble) -> Next {
        self.trouble = Some(trouble);
        Next::End(End::Failed)
    }
}

/// Where to go on when everything below these first bits of an identifier has been copied.
fn resumed(copied: u64) -> Option<StoreKey> {
    let last = copied.checked_sub(1)?;
    let mut key = StoreKey([u8::MAX; 32]);
    key.0[..8].copy_from_slice(&last.to_be_bytes());
    Some(key)
}

fn first_bits(key: &StoreKey) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&key.0[..8]);
    u64::from_be_bytes(first)
}
