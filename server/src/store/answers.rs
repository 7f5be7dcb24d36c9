//! The answers a group owes. Whatever happens to the writer, every write it has taken is answered exactly once: those that
//! have no outcome when the group is dropped, by a panic say, are answered as unknown.

use std::sync::Arc;

use dynamo::replica::{Minted, WriteOutcome};

use super::{Completion, CompletionQueue, Progress, Submission, error, queue::Batch};

/// Answers owed to the workers of one group. Writes are numbered in the order they came.
pub(super) struct Answers {
    owed: Vec<Owed>,
    queues: Vec<Arc<CompletionQueue>>,
}

struct Owed {
    queue: usize,
    /// `None` when nobody waits: a repair.
    token: Option<u64>,
    minted: Option<Minted>,
    is_shown: bool,
    outcome: Option<WriteOutcome>,
}

impl Answers {
    /// Splits batches into what is to be done, numbered, and the answers owed for it.
    pub(super) fn new<O>(batches: Vec<Batch<O>>) -> (Self, Vec<(usize, O)>) {
        let mut answers = Self { owed: Vec::new(), queues: Vec::new() };
        let mut operations = Vec::new();
        for Batch { completions, submissions, .. } in batches {
            let known = answers.queues.iter().position(|queue| Arc::ptr_eq(queue, &completions));
            let queue = known.unwrap_or_else(|| {
                answers.queues.push(completions);
                answers.queues.len() - 1
            });
            for Submission { token, operation } in submissions {
                operations.push((answers.owed.len(), operation));
                answers.owed.push(Owed { queue, token, minted: None, is_shown: false, outcome: None });
            }
        }
        (answers, operations)
    }

    /// Notes what a write minted, to be shown before the commit.
    pub(super) fn mint(&mut self, number: usize, minted: &Minted) {
        let owed = &mut self.owed[number];
        if owed.token.is_some() {
            owed.minted = Some(minted.clone());
        }
    }

    /// Forgets what was minted: its transaction was aborted.
    pub(super) fn forget_minted(&mut self) {
        self.owed.iter_mut().for_each(|owed| owed.minted = None);
    }

    /// Shows the workers what was minted. What is minted again, after an abort, is not shown again.
    pub(super) fn show_minted(&mut self) {
        self.deliver(|owed| {
            let minted = owed.minted.take().filter(|_| !owed.is_shown)?;
            owed.is_shown = true;
            Some(Progress::Minted(minted))
        });
    }

    /// Whether any worker has been shown something of this group.
    pub(super) fn has_shown(&self) -> bool {
        self.owed.iter().any(|owed| owed.is_shown)
    }

    /// Notes how a write ended.
    pub(super) fn end(&mut self, number: usize, outcome: WriteOutcome) {
        self.owed[number].outcome = Some(outcome);
    }

    /// Gives every write that has none this outcome.
    pub(super) fn end_rest(&mut self, outcome: &WriteOutcome) {
        for owed in self.owed.iter_mut().filter(|owed| owed.outcome.is_none()) {
            owed.outcome = Some(outcome.clone());
        }
    }

    /// Hands what `progress` finds to the workers, each woken at most once.
    fn deliver(&mut self, mut progress: impl FnMut(&mut Owed) -> Option<Progress>) {
        let mut lists: Vec<Vec<Completion>> = self.queues.iter().map(|_| Vec::new()).collect();
        for owed in &mut self.owed {
            if let (Some(progress), Some(token)) = (progress(owed), owed.token) {
                lists[owed.queue].push(Completion { token, progress });
            }
        }
        for (queue, list) in self.queues.iter().zip(lists) {
            if !list.is_empty() {
                queue.deliver(list.into_iter());
            }
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        let unknown = || WriteOutcome::Refused(error::unknown("its writer ended"));
        self.deliver(|owed| Some(Progress::Finished(owed.outcome.take().unwrap_or_else(unknown))));
    }
}
