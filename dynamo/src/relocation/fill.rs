//! How a new owner becomes FULL (design, ring, "Moving a partition"): it fences the older configurations, so that no write is acknowledged
//! any more by their owners alone, and then merges a majority of each of them, read after the fence. Whatever was acknowledged before
//! is in one of the copies it has merged; whatever is acknowledged after needs the new owners too.
//!
//! The order is everything: what was read before the fence may miss a write that was acknowledged after the reading. So whoever did not
//! say that it is fenced is not read from, and the view under which the others are read is the fenced one, which they check.

use alloc::{boxed::Box, vec::Vec};
use core::mem;

use super::{Active, Doing, Trouble, standing_of};
use crate::{
    bug::{Bug, is_on},
    exchange::Exchange,
    ident::StoreKey,
    layout::{NodeIndex, View},
    peer::{MoveAsk, MoveQuestion},
    replica::{MoveOperation, WriteOperation},
    round::{Answer, Ask, End, Next},
    tick::Tick,
};

/// One attempt to become FULL.
#[derive(Debug)]
pub struct Fill {
    me: NodeIndex,
    active: Active,
    /// What this node's row said when it began.
    row: View,
    confirm_after_ms: u64,
    /// Those that have said that they know the newest configuration.
    fenced: Vec<NodeIndex>,
    /// Those of which everything is merged here.
    merged: Vec<NodeIndex>,
    /// Those that could not be read from in full.
    failed: Vec<NodeIndex>,
    phase: Phase,
    report: Report,
    trouble: Option<Trouble>,
}

/// What an attempt did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records merged here.
    pub records: u64,
    /// Bytes of records that came.
    pub bytes: u64,
    /// Records here that can't be verified: they must be rebuilt.
    pub corrupt: Vec<StoreKey>,
}

#[derive(Debug)]
enum Phase {
    /// Nothing is asked.
    Idle,
    /// This node and these were asked to know the newest configuration.
    Fencing(Vec<NodeIndex>),
    /// What one of them has is being merged.
    Levelling(Box<Exchange>),
    /// That the partition is FULL is being written.
    Filling,
}

impl Fill {
    /// An attempt of the node `me`, whose row has the view `row`. `confirm_after_ms` is how long a write may be on its way without being
    /// taken for a difference.
    pub fn new(me: NodeIndex, active: Active, row: View, confirm_after_ms: u64) -> Self {
        Self {
            me,
            active,
            row,
            confirm_after_ms,
            fenced: Vec::new(),
            merged: alloc::vec![me],
            failed: Vec::new(),
            phase: Phase::Idle,
            report: Report::default(),
            trouble: None,
        }
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
            Phase::Idle | Phase::Fencing(_) => Doing::Fencing,
            Phase::Levelling(exchange) => Doing::Levelling(exchange.peer()),
            Phase::Filling => Doing::Levelling(self.me),
        }
    }

    /// Why it failed.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Goes on after a round, given its answers in order; or begins, or wakes up, given none.
    pub fn next(&mut self, now: Tick, answers: Vec<Answer>) -> Next {
        match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle if is_on(Bug::NoFence) || is_on(Bug::SyncBeforeFence) => {
                self.fenced = self.active.members();
                self.level(now)
            }
            Phase::Idle => self.fence(),
            Phase::Fencing(asked) => self.fence_answered(now, &asked, &answers),
            Phase::Levelling(exchange) => self.go_on(now, exchange, answers),
            Phase::Filling => match answers.first().and_then(standing_of) {
                Some(standing) if standing.full >= self.active.view.hi => Next::End(End::Complete),
                Some(_) | None => self.fail(Trouble::Changed),
            },
        }
    }

    /// Tells this node and all others of all active configurations which of them is the newest.
    fn fence(&mut self) -> Next {
        let view = self.active.view;
        let members = if is_on(Bug::NoFence) { Vec::new() } else { self.active.members() };
        let others: Vec<NodeIndex> = members.into_iter().filter(|member| *member != self.me).collect();
        let ask = |&to| Ask::Move { to, question: MoveQuestion { view, ask: MoveAsk::Adopt } };
        let mut asks = alloc::vec![write(MoveOperation::Adopt { view })];
        asks.extend(others.iter().map(ask));
        self.phase = Phase::Fencing(others);
        Next::Ask(asks)
    }

    fn fence_answered(&mut self, now: Tick, asked: &[NodeIndex], answers: &[Answer]) -> Next {
        let view = self.active.view;
        let Some((mine, others)) = answers.split_first() else { return self.fail(Trouble::Changed) };
        // Somebody has told this node of more than it knew: it begins again from there.
        if standing_of(mine).is_none_or(|standing| standing.view != view) {
            return self.fail(Trouble::Changed);
        }
        if is_on(Bug::NoFence) {
            return self.fill();
        }
        let knows = |answer| standing_of(answer).is_some_and(|standing| standing.view.covers(&view));
        let fenced = asked.iter().zip(others).filter(|(_, answer)| knows(answer)).map(|(node, _)| *node);
        self.fenced = fenced.chain([self.me]).collect();
        if let Some(trouble) = self.lacking(&self.fenced) {
            return self.fail(trouble);
        }
        if is_on(Bug::SyncBeforeFence) {
            return self.fill();
        }
        self.level(now)
    }

    /// Merges what the next one has, if another one is needed.
    fn level(&mut self, now: Tick) -> Next {
        let Some(lacking) = self.active.lacking(&self.merged).filter(|_| !self.is_enough_for_the_bug()) else {
            let is_fenced = !is_on(Bug::NoFence) && !is_on(Bug::SyncBeforeFence);
            return if is_fenced { self.fill() } else { self.fence() };
        };
        let is_free = |node: &&NodeIndex| {
            self.fenced.contains(node) && !self.merged.contains(node) && !self.failed.contains(node)
        };
        let Some(peer) = lacking.owners.iter().find(is_free).copied() else {
            let trouble = self.lacking(&self.merged).unwrap_or(Trouble::Changed);
            return self.fail(trouble);
        };
        let is_fenced = !is_on(Bug::NoFence) && !is_on(Bug::SyncBeforeFence);
        let view = if is_fenced { self.active.view } else { self.row };
        self.go_on(now, Box::new(Exchange::take(view, peer, self.confirm_after_ms)), Vec::new())
    }

    fn go_on(&mut self, now: Tick, mut exchange: Box<Exchange>, answers: Vec<Answer>) -> Next {
        match exchange.next(now, answers) {
            Next::End(end) => {
                let (report, peer) = (exchange.report(), exchange.peer());
                let is_merged = end == End::Complete && report.is_merged_here();
                self.report.records += report.pulled;
                self.report.bytes += report.bytes;
                self.report.corrupt.extend(&report.corrupt);
                if is_merged {
                    self.merged.push(peer)
                } else {
                    self.failed.push(peer)
                }
                self.level(now)
            }
            next @ (Next::Ask(_) | Next::Wait(_)) => {
                self.phase = Phase::Levelling(exchange);
                next
            }
        }
    }

    fn fill(&mut self) -> Next {
        self.phase = Phase::Filling;
        Next::Ask(alloc::vec![write(MoveOperation::Fill { view: self.active.view })])
    }

    /// What is missing when only these can be relied on.
    fn lacking(&self, nodes: &[NodeIndex]) -> Option<Trouble> {
        let set = self.active.lacking(nodes)?;
        let missing = set.owners.iter().copied().filter(|owner| !nodes.contains(owner)).collect();
        Some(Trouble::NoMajority { epoch: set.epoch, missing })
    }

    fn is_enough_for_the_bug(&self) -> bool {
        is_on(Bug::FullWithOne) && self.merged.len() > 1
    }

    fn fail(&mut self, trouble: Trouble) -> Next {
        self.trouble = Some(trouble);
        Next::End(End::Failed)
    }
}

fn write(operation: MoveOperation) -> Ask {
    Ask::LocalWrite { operation: WriteOperation::Move(operation) }
}
