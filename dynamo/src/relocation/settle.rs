//! Retiring the older configurations of a partition: when every owner under the newest one is FULL, or has owned it all along, the newest
//! one alone is active from now on. Anybody who sees that may say so, and what was said once stays true; so nobody is special, and
//! whoever dies in between is followed by the next one that looks.
//!
//! Those who do not look learn it when they are told, when they ask, or when somebody refuses what they send under the older view.

use alloc::vec::Vec;
use core::mem;

use super::{Active, Doing, Trouble, standing_of};
use crate::{
    layout::{NodeIndex, View},
    peer::{MoveAsk, MoveQuestion, Standing},
    replica::{MoveOperation, WriteOperation},
    round::{Answer, Ask, End, Next},
};

/// One look at the owners of a partition's newest configuration, and what follows from it.
#[derive(Debug)]
pub struct Settle {
    me: NodeIndex,
    active: Active,
    phase: Phase,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
enum Phase {
    /// Nothing is asked.
    Idle,
    /// The owners of the newest configuration are asked how they stand.
    Asking,
    /// This node is writing that the older ones are retired.
    Retiring,
    /// All others are told.
    Telling,
}

impl Settle {
    /// A look by the node `me`.
    pub fn new(me: NodeIndex, active: Active) -> Self {
        Self { me, active, phase: Phase::Idle, trouble: None }
    }

    /// The partition.
    pub fn view(&self) -> &View {
        &self.active.view
    }

    /// What it does.
    pub fn doing(&self) -> Doing {
        match self.phase {
            Phase::Idle | Phase::Asking => Doing::Asking,
            Phase::Retiring | Phase::Telling => Doing::Retiring,
        }
    }

    /// Why the older configurations could not be retired.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Goes on after a round, given its answers in order; or begins, given none.
    pub fn next(&mut self, answers: &[Answer]) -> Next {
        match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => self.look(),
            Phase::Asking => self.decide(answers),
            Phase::Retiring => self.tell(answers),
            Phase::Telling => Next::End(End::Complete),
        }
    }

    fn look(&mut self) -> Next {
        let view = self.active.view;
        let ask = |&to: &NodeIndex| {
            if to == self.me {
                return Ask::LocalStanding { bits: view.bits, prefix: view.prefix };
            }
            Ask::Move { to, question: MoveQuestion { view, ask: MoveAsk::Standing } }
        };
        let asks: Vec<Ask> = self.active.newest().iter().map(ask).collect();
        if asks.is_empty() {
            return self.fail(Trouble::NotFull(Vec::new()));
        }
        self.phase = Phase::Asking;
        Next::Ask(asks)
    }

    fn decide(&mut self, answers: &[Answer]) -> Next {
        let answered = self.active.newest().iter().zip(answers);
        let standings: Vec<(NodeIndex, Standing)> =
            answered.filter_map(|(node, answer)| Some((*node, standing_of(answer)?))).collect();
        if !self.active.can_retire(&standings) {
            let missing = self.active.not_full(&standings);
            return self.fail(Trouble::NotFull(missing));
        }
        self.phase = Phase::Retiring;
        let operation = WriteOperation::Move(MoveOperation::Adopt { view: self.active.settled_view() });
        Next::Ask(alloc::vec![Ask::LocalWrite { operation }])
    }

    fn tell(&mut self, answers: &[Answer]) -> Next {
        if answers.first().and_then(standing_of).is_none() {
            return self.fail(Trouble::Refused);
        }
        let view = self.active.settled_view();
        let others = self.active.members().into_iter().filter(|member| *member != self.me);
        let asks: Vec<Ask> =
            others.map(|to| Ask::Move { to, question: MoveQuestion { view, ask: MoveAsk::Adopt } }).collect();
        if asks.is_empty() {
            return Next::End(End::Complete);
        }
        self.phase = Phase::Telling;
        Next::Ask(asks)
    }

    fn fail(&mut self, trouble: Trouble) -> Next {
        self.trouble = Some(trouble);
        Next::End(End::Failed)
    }
}
