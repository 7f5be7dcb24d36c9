//! What the steward asks of this node itself: its hash trees, its store, its hints. Reads run on the steward's own thread, in
//! pieces of one round; writes go through the store's writers like anybody's.

use std::{mem, sync::Arc};

use dynamo::{
    coordinator::CallId,
    hint::{HintKey, HintOperation},
    ident::NodeId,
    peer::PeerOperation,
    replica::WriteOutcome,
    round::{Answer, Hint, HintPage, HintTarget},
    steward::round_of,
};

use crate::{
    node::Node,
    store::{CompletionQueue, HintSubmission, Submission},
    worker::read_all,
};

/// What is asked of this node and not done yet.
#[derive(Default)]
pub(super) struct Local {
    reads: Vec<(CallId, PeerOperation)>,
    writes: Vec<Vec<Submission>>,
    hints: Vec<HintSubmission>,
}

/// An answer and whom it is for.
pub(super) type Answered = (CallId, Answer);

impl Local {
    /// Nothing is asked.
    pub(super) fn new(shards: usize) -> Self {
        Self { writes: (0..shards).map(|_| Vec::new()).collect(), ..Self::default() }
    }

    /// Takes in a read.
    pub(super) fn read(&mut self, call: CallId, operation: PeerOperation) {
        self.reads.push((call, operation));
    }

    /// Takes in a write.
    pub(super) fn write(&mut self, shard: usize, submission: Submission) {
        self.writes[shard].push(submission);
    }

    /// Takes in a change of the hints.
    pub(super) fn hint(&mut self, call: CallId, operation: HintOperation) {
        self.hints.push(HintSubmission { token: Some(call.0), operation });
    }

    /// Does what was taken in. Reads are answered now; writes are answered in the queues, unless they are refused.
    pub(super) fn carry_out(
        &mut self,
        node: &Node,
        writes: &Arc<CompletionQueue>,
        hints: &Arc<CompletionQueue>,
        answers: &mut Vec<Answered>,
    ) {
        // What a batch of reads may bring is bounded, so one round's must not crowd out another's.
        for round in self.reads.chunk_by(|(one, _), (other, _)| round_of(*one) == round_of(*other)) {
            let operations: Vec<PeerOperation> = round.iter().map(|(_, operation)| operation.clone()).collect();
            let mut results = Vec::with_capacity(operations.len());
            read_all(node, &operations, &mut results);
            answers.extend(round.iter().map(|(call, _)| *call).zip(results.into_iter().map(Answer::Peer)));
        }
        self.reads.clear();
        let refused = |token: u64, failure| (CallId(token), Answer::Written(WriteOutcome::Refused(failure)));
        for (shard, submissions) in self.writes.iter_mut().enumerate().filter(|(_, some)| !some.is_empty()) {
            if let Err(rejected) = node.store.submit(shard, writes, mem::take(submissions)) {
                let tokens = rejected.submissions.into_iter().filter_map(|submission| submission.token);
                answers.extend(tokens.map(|token| refused(token, rejected.failure.clone())));
            }
        }
        if !self.hints.is_empty()
            && let Err(rejected) = node.store.hints().submit(hints, mem::take(&mut self.hints))
        {
            let tokens = rejected.submissions.into_iter().filter_map(|submission| submission.token);
            answers.extend(tokens.map(|token| refused(token, rejected.failure.clone())));
        }
    }
}

/// For whom this node keeps hints.
pub(super) fn targets(node: &Node) -> Answer {
    let target = |(target, usage): (NodeId, dynamo::hint::HintUsage)| HintTarget { target, objects: usage.records };
    Answer::Targets(node.store.hints().backlog().into_iter().map(target).collect())
}

/// Some of the hints this node keeps for a target.
pub(super) fn scan(node: &Node, target: NodeId, after: Option<HintKey>, records: u32, bytes: u32) -> Answer {
    match node.store.hints().scan(target, after, records as usize, bytes as usize) {
        Ok(kept) => {
            let hints: Vec<Hint> = kept.into_iter().map(|(key, record)| Hint { key, record }).collect();
            let after = hints.last().map(|hint| hint.key);
            Answer::Hints(HintPage { hints, after })
        }
        Err(failure) => {
            tracing::warn!(why = %failure.message, "hints can't be read");
            Answer::NotSent
        }
    }
}
