//! One conversation that runs: the task, and the round whose answers it waits for.

use alloc::vec::Vec;
use core::mem;

use super::{backlog::Backlog, moving::Move};
use crate::{
    exchange::Exchange,
    handoff::Handoff,
    holdings::Holdings,
    layout::View,
    rebuild::Rebuild,
    replica::{MoveOperation, WriteOperation},
    round::{Answer, Ask, End, Next},
    tick::Tick,
};

/// What a conversation is about.
#[derive(Debug)]
pub(super) enum Task {
    /// For whom hints are kept.
    Survey,
    /// See [`Exchange`].
    Exchange(Exchange),
    /// See [`Handoff`].
    Handoff(Handoff),
    /// See [`Rebuild`].
    Rebuild(Rebuild),
    /// A step of a partition's move.
    Move(Move),
    /// The row here is to know this view too, which another node knows.
    Learn { view: View, is_asked: bool },
    /// A layout is wanted.
    Want { epoch: u64, is_asked: bool },
}

/// A conversation and what it waits for.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) task: Task,
    waits: Waits,
}

#[derive(Debug)]
enum Waits {
    /// To be taken further, with these answers.
    Ready(Vec<Answer>),
    /// For a time.
    Until(Tick),
    /// For answers.
    For { round: u64, answers: Vec<Option<Answer>>, missing: usize, deadline: Tick },
}

/// Hints may be the only copies of what they hold, an unreadable record is one copy less, and a partition that moves keeps two
/// configurations busy: when there is little to spend, they get four times as much for it as exchanges, which only look for what
/// nobody knows of.
const URGENT_DISCOUNT: u64 = 4;

impl Task {
    /// By what its cost is divided.
    pub(super) fn discount(&self) -> u64 {
        match self {
            Self::Survey | Self::Exchange(_) => 1,
            Self::Handoff(_) | Self::Rebuild(_) | Self::Move(_) | Self::Learn { .. } | Self::Want { .. } => {
                URGENT_DISCOUNT
            }
        }
    }
}

impl Work {
    /// A conversation that has not begun.
    pub(super) fn new(task: Task) -> Self {
        Self { task, waits: Waits::Ready(Vec::new()) }
    }

    /// When it is to be looked at although nothing was answered.
    pub(super) fn deadline(&self) -> Option<Tick> {
        match self.waits {
            Waits::Ready(_) => None,
            Waits::Until(until) => Some(until),
            Waits::For { deadline, .. } => Some(deadline),
        }
    }

    /// Waits for the answers of a round.
    pub(super) fn wait_for(&mut self, round: u64, asks: usize, deadline: Tick) {
        let answers = (0..asks).map(|_| None).collect();
        self.waits = Waits::For { round, answers, missing: asks, deadline };
    }

    /// Waits for a time.
    pub(super) fn wait_until(&mut self, until: Tick) {
        self.waits = Waits::Until(until);
    }

    /// Takes in one answer, of which there is only one for each ask; `true` if it was the last.
    pub(super) fn put(&mut self, at: usize, answer: Answer) -> bool {
        let Waits::For { answers, missing, .. } = &mut self.waits else { return false };
        match answers.get_mut(at) {
            Some(empty @ None) => *empty = Some(answer),
            Some(Some(_)) | None => return false,
        }
        *missing -= 1;
        if *missing == 0 {
            let answers = mem::take(answers).into_iter().flatten().collect();
            self.waits = Waits::Ready(answers);
        }
        matches!(self.waits, Waits::Ready(_))
    }

    /// Ends the wait: what was not answered counts as lost. Returns the round that was waited for.
    pub(super) fn give_up(&mut self) -> Option<u64> {
        match mem::replace(&mut self.waits, Waits::Ready(Vec::new())) {
            Waits::Ready(_) | Waits::Until(_) => None,
            Waits::For { round, answers, .. } => {
                let answers = answers.into_iter().map(|answer| answer.unwrap_or(Answer::Lost)).collect();
                self.waits = Waits::Ready(answers);
                Some(round)
            }
        }
    }

    /// The answers of the round that has ended.
    pub(super) fn take_answers(&mut self) -> Vec<Answer> {
        match &mut self.waits {
            Waits::Ready(answers) => mem::take(answers),
            Waits::Until(_) | Waits::For { .. } => Vec::new(),
        }
    }

    /// Takes it further.
    pub(super) fn next(&mut self, now: Tick, answers: Vec<Answer>, holdings: &Holdings, backlog: &mut Backlog) -> Next {
        match &mut self.task {
            Task::Survey => survey(now, answers, backlog),
            Task::Exchange(exchange) => exchange.next(now, answers),
            Task::Handoff(handoff) => handoff.next(answers, holdings),
            Task::Rebuild(rebuild) => rebuild.next(answers),
            Task::Move(step) => step.next(now, answers, holdings),
            Task::Learn { view, is_asked } => {
                let operation = WriteOperation::Move(MoveOperation::Adopt { view: *view });
                once(is_asked, Ask::LocalWrite { operation })
            }
            Task::Want { epoch, is_asked } => once(is_asked, Ask::WantLayout { epoch: *epoch }),
        }
    }
}

/// A conversation of one question, whose answer is taken by the steward itself.
fn once(is_asked: &mut bool, ask: Ask) -> Next {
    if mem::replace(is_asked, true) { Next::End(End::Complete) } else { Next::Ask(alloc::vec![ask]) }
}

fn survey(now: Tick, answers: Vec<Answer>, backlog: &mut Backlog) -> Next {
    match answers.into_iter().next() {
        None => Next::Ask(alloc::vec![Ask::HintTargets]),
        Some(Answer::Targets(targets)) => {
            backlog.looked(now, Some(targets));
            Next::End(End::Complete)
        }
        Some(
            Answer::Tree(_)
            | Answer::Peer(_)
            | Answer::Move(_)
            | Answer::Written(_)
            | Answer::Hints(_)
            | Answer::NotSent
            | Answer::Lost,
        ) => {
            backlog.looked(now, None);
            Next::End(End::Failed)
        }
    }
}
