//! Hinted handoff (paper, section 4.6): delivering the hints that are kept here for one node.
//!
//! Page by page: the hints are sent to their target, and those that it has made durable are deleted here, each only if it is
//! still the very object that was sent. When the target no longer owns a hint's partition, every present owner must have
//! acknowledged it, because the hint may be the only copy. Delivery ends when the target fails and loses nothing by it: what
//! was not deleted is found again by the next one. Hints never expire.

use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;

use crate::{
    bug::{Bug, is_on},
    hint::{HintKey, HintOperation},
    holdings::Holdings,
    ident::{NodeId, StoreKey},
    layout::{NodeIndex, View},
    peer::{PeerAction, PeerOperation},
    record,
    replica::{WriteOperation, WriteOutcome},
    round::{Answer, Ask, End, Hint, HintPage, Merged, Next, merged},
};

/// Hints of one page: a few times what a group commit takes at once.
const PAGE_RECORDS_MAX: u32 = 256;

/// Bytes of records of one page.
const PAGE_BYTES_MAX: u32 = 1 << 20;

/// One delivery of the hints for one node.
#[derive(Debug)]
pub struct Handoff {
    target: NodeId,
    after: Option<HintKey>,
    phase: Phase,
    report: Report,
}

/// What a delivery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Hints that every node they had to reach holds durably now.
    pub delivered: u64,
    /// Hints that were refused for reasons of their own; they are kept.
    pub refused: u64,
    /// Hints that were sent to somebody who could not take any; they are kept.
    pub failed: u64,
}

#[derive(Debug)]
enum Phase {
    /// Nothing is asked.
    Idle,
    /// A page of hints is being read.
    Scanning,
    /// A page of hints was sent.
    Sending(Vec<Sent>),
    /// What was delivered is being deleted. `is_last` ends the delivery after it, because somebody failed.
    Dropping { is_last: bool },
}

/// A hint that was sent.
#[derive(Debug)]
struct Sent {
    key: HintKey,
    digest: u128,
    /// To how many nodes.
    recipients: usize,
}

impl Handoff {
    /// A delivery of the hints that are kept here for `target`.
    pub fn new(target: NodeId) -> Self {
        Self { target, after: None, phase: Phase::Idle, report: Report::default() }
    }

    /// For whom.
    pub fn target(&self) -> NodeId {
        self.target
    }

    /// What it did so far.
    pub fn report(&self) -> Report {
        self.report
    }

    /// Goes on after a round, given its answers in order; or begins, given none.
    pub fn next(&mut self, answers: Vec<Answer>, holdings: &Holdings) -> Next {
        match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => self.scan(),
            Phase::Scanning => match answers.into_iter().next() {
                Some(Answer::Hints(page)) => self.send(page, holdings),
                Some(
                    Answer::Tree(_)
                    | Answer::Peer(_)
                    | Answer::Move(_)
                    | Answer::Written(_)
                    | Answer::Targets(_)
                    | Answer::NotSent
                    | Answer::Lost,
                )
                | None => Next::End(End::Failed),
            },
            Phase::Sending(sent) => self.sent(sent, &answers),
            Phase::Dropping { is_last } => self.dropped(is_last, &answers),
        }
    }

    fn scan(&mut self) -> Next {
        self.phase = Phase::Scanning;
        let (target, after) = (self.target, self.after);
        let (records_max, bytes_max) = (PAGE_RECORDS_MAX, PAGE_BYTES_MAX);
        Next::Ask(alloc::vec![Ask::HintScan { target, after, records_max, bytes_max }])
    }

    /// Sends a page of hints to whom they are for.
    fn send(&mut self, page: HintPage, holdings: &Holdings) -> Next {
        let is_last_page = page.after.is_none();
        self.after = page.after;
        let (mut asks, mut sent) = (Vec::new(), Vec::new());
        for Hint { key, record } in page.hints {
            let Ok(digest) = record::verify(&key.store_key, &record) else {
                self.report.refused += 1;
                continue;
            };
            let partition = holdings.layout().partition(&key.store_key.id());
            let view = holdings.view(partition);
            let before = asks.len();
            for to in self.recipients(partition, holdings) {
                let is_here = Some(to) == holdings.me();
                asks.push(merge(to, is_here, view, key.store_key, record.clone()));
            }
            if is_on(Bug::DropHintOnSend) {
                asks.push(drop_hint(key, digest));
            }
            sent.push(Sent { key, digest, recipients: asks.len() - before });
        }
        if asks.is_empty() {
            return if is_last_page { Next::End(End::Complete) } else { self.scan() };
        }
        self.phase = Phase::Sending(sent);
        Next::Ask(asks)
    }

    /// Deletes what everybody it had to reach holds.
    fn sent(&mut self, sent: Vec<Sent>, answers: &[Answer]) -> Next {
        let (mut asks, mut rest, mut is_last) = (Vec::new(), answers, false);
        for Sent { key, digest, recipients } in sent {
            let (mine, others) = rest.split_at(recipients.min(rest.len()));
            rest = others;
            // Nobody to deliver to is no delivery: the hint may be the only copy.
            let is_delivered = recipients > 0
                && mine.len() == recipients
                && mine.iter().all(|answer| merged(answer) == Merged::Stored);
            if is_delivered || is_on(Bug::DropHintOnAnyAnswer) {
                asks.push(drop_hint(key, digest));
                continue;
            }
            let is_failure = mine.iter().any(|answer| matches!(merged(answer), Merged::Failed | Merged::Full));
            is_last |= is_failure;
            *(if is_failure { &mut self.report.failed } else { &mut self.report.refused }) += 1;
        }
        if asks.is_empty() {
            return if is_last { Next::End(End::Failed) } else { self.go_on() };
        }
        self.phase = Phase::Dropping { is_last };
        Next::Ask(asks)
    }

    fn dropped(&mut self, is_last: bool, answers: &[Answer]) -> Next {
        let are_stored = answers.iter().map(|answer| *answer == Answer::Written(WriteOutcome::Stored));
        let stored = are_stored.filter(|is_stored| *is_stored).count();
        self.report.delivered += stored as u64;
        // A hint that is delivered and can't be deleted is delivered again, which changes nothing at the target.
        if is_last || stored < answers.len() { Next::End(End::Failed) } else { self.go_on() }
    }

    /// The next page, if the last one was not the end.
    fn go_on(&mut self) -> Next {
        if self.after.is_none() { Next::End(End::Complete) } else { self.scan() }
    }

    /// Who must hold a hint of a partition before it may be deleted.
    fn recipients(&self, partition: u32, holdings: &Holdings) -> Vec<NodeIndex> {
        let layout = holdings.layout();
        // Whose copies were given up is sent nothing: a hint for it goes to the other owners.
        let owners: Vec<NodeIndex> = layout.owners(partition).filter(|owner| !holdings.is_gone(*owner)).collect();
        match layout.index_of(self.target) {
            Some(target) if owners.contains(&target) => alloc::vec![target],
            Some(_) | None => owners,
        }
    }
}

fn merge(to: NodeIndex, is_here: bool, view: View, store_key: StoreKey, record: Bytes) -> Ask {
    if is_here {
        return Ask::LocalWrite { operation: WriteOperation::Merge { view, store_key, record } };
    }
    Ask::Peer { to, operation: PeerOperation { view, store_key, action: PeerAction::Merge(record) } }
}

/// The view only names the partition that the hint was kept under: its shelf knows no epochs.
fn drop_hint(key: HintKey, digest: u128) -> Ask {
    let HintKey { target, bits, prefix, store_key } = key;
    let view = View { prefix, bits, lo: 0, hi: 0 };
    Ask::LocalHint { operation: HintOperation::Drop { target, view, store_key, digest } }
}
