//! How a node parts with a partition that it owns under no active configuration any more: it gives the new owners what they lack of what it
//! has, and then deletes it, some records at a time. Nothing that was acknowledged by a majority is lacking there; but a write that
//! only this node took is.
//!
//! A majority of the new owners must have merged all of it; those that can't be reached get it from them.

use alloc::{boxed::Box, vec::Vec};
use core::mem;

use super::{Active, Doing, Trouble, standing_of};
use crate::{
    bug::{Bug, is_on},
    exchange::Exchange,
    ident::StoreKey,
    layout::{NodeIndex, View},
    replica::{MoveOperation, WriteOperation, WriteOutcome},
    round::{Answer, Ask, End, Next},
    tick::Tick,
};

/// Records deleted in one transaction: a few milliseconds of a store's writer, for which clients wait too.
const DROP_RECORDS_MAX: u32 = 512;

/// One attempt to part with a partition.
#[derive(Debug)]
pub struct Leave {
    active: Active,
    /// Owners yet to be given what they lack, the next one last.
    waiting: Vec<NodeIndex>,
    /// Those that have all of it.
    given: Vec<NodeIndex>,
    phase: Phase,
    report: Report,
    trouble: Option<Trouble>,
}

/// What an attempt did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Objects given to others.
    pub given: u64,
    /// Records here when it began.
    pub records: u64,
    /// Records here that can't be verified, which are given to nobody.
    pub corrupt: Vec<StoreKey>,
}

#[derive(Debug)]
enum Phase {
    /// Nothing is asked.
    Idle,
    /// This node writes that the configurations it belonged to are retired.
    Adopting,
    /// One of the new owners is given what it lacks.
    Giving(Box<Exchange>),
    /// Records are being deleted.
    Deleting,
}

impl Leave {
    /// An attempt, to be made only if this node belongs to none of these configurations.
    pub fn new(active: Active) -> Self {
        let waiting = active.newest().to_vec();
        let (phase, report) = (Phase::Idle, Report::default());
        Self { active, waiting, given: Vec::new(), phase, report, trouble: None }
    }

    /// The partition.
    pub fn view(&self) -> &View {
        &self.active.view
    }

    /// What it did.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What it does.
    pub fn doing(&self) -> Doing {
        match &self.phase {
            Phase::Giving(exchange) => Doing::Giving(exchange.peer()),
            Phase::Idle | Phase::Adopting | Phase::Deleting => Doing::Deleting,
        }
    }

    /// Why it failed.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Goes on after a round, given its answers in order; or begins, or wakes up, given none.
    pub fn next(&mut self, now: Tick, answers: Vec<Answer>) -> Next {
        match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => {
                self.phase = Phase::Adopting;
                Next::Ask(alloc::vec![write(MoveOperation::Adopt { view: self.active.view })])
            }
            Phase::Adopting => match answers.first().and_then(standing_of) {
                Some(standing) if standing.view == self.active.view => {
                    self.report.records = standing.records;
                    self.give(now)
                }
                Some(_) | None => self.fail(Trouble::Changed),
            },
            Phase::Giving(exchange) => self.go_on(now, exchange, answers),
            Phase::Deleting => match answers.first() {
                Some(Answer::Written(WriteOutcome::Moved { more: false, .. })) => Next::End(End::Complete),
                Some(Answer::Written(WriteOutcome::Moved { more: true, .. })) => self.delete(),
                Some(_) | None => self.fail(Trouble::Changed),
            },
        }
    }

    /// Gives to the next one; when there is none left, a majority must have all.
    fn give(&mut self, now: Tick) -> Next {
        if self.report.records == 0 || is_on(Bug::LeaverDeletesBeforeHandover) {
            return self.delete();
        }
        if let Some(peer) = self.waiting.pop() {
            return self.go_on(now, Box::new(Exchange::give(self.active.view, peer)), Vec::new());
        }
        if self.active.are_enough_of_newest(&self.given) {
            return self.delete();
        }
        let missing = self.active.newest().iter().copied().filter(|owner| !self.given.contains(owner)).collect();
        self.fail(Trouble::NoMajority { epoch: self.active.view.hi, missing })
    }

    fn go_on(&mut self, now: Tick, mut exchange: Box<Exchange>, answers: Vec<Answer>) -> Next {
        match exchange.next(now, answers) {
            Next::End(end) => {
                let report = exchange.report();
                self.report.given += report.pushed;
                if end == End::Complete && report.is_merged_there() {
                    self.given.push(exchange.peer());
                }
                self.give(now)
            }
            next @ (Next::Ask(_) | Next::Wait(_)) => {
                self.phase = Phase::Giving(exchange);
                next
            }
        }
    }

    fn delete(&mut self) -> Next {
        self.phase = Phase::Deleting;
        Next::Ask(alloc::vec![write(MoveOperation::Drop { view: self.active.view, records_max: DROP_RECORDS_MAX })])
    }

    fn fail(&mut self, trouble: Trouble) -> Next {
        self.trouble = Some(trouble);
        Next::End(End::Failed)
    }
}

fn write(operation: MoveOperation) -> Ask {
    Ask::LocalWrite { operation: WriteOperation::Move(operation) }
}
