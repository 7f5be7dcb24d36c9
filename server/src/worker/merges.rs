//! The replica's side of one worker: what other nodes ask of this one, and repairs of this node's own records. Reads are
//! answered from a snapshot at once, merges and hints go to the store's writers and are answered when they are durable.
//!
//! No coordinator takes part: whoever asked counts the answers.

use std::{cell::RefCell, mem, rc::Rc, sync::Arc};

use dynamo::{
    hint::HintOperation,
    ident::{NodeId, StoreKey},
    layout::{NodeIndex, View},
    operation::{ErrorCode, Failure},
    peer::{PeerAction, PeerOperation, PeerResult},
    replica::{WriteOperation, WriteOutcome},
};

use super::{
    Driver,
    admission::Admitted,
    batches::{Batches, Results, Ticket},
    reading::read_all,
};
use crate::{
    counters::Counters,
    node::Node,
    ring::adopting,
    store::{Completion, CompletionQueue, HintSubmission, Progress, Rejected, Submission},
};

/// What other nodes have asked and is not answered yet.
pub(crate) struct Merges {
    node: Arc<Node>,
    counters: Arc<Counters>,
    completions: Arc<CompletionQueue>,
    waiting: RefCell<Batches<PeerResult, Admitted>>,
    repairs: RefCell<Vec<Vec<Submission>>>,
}

impl Merges {
    pub(super) fn new(node: Arc<Node>, number: usize) -> Self {
        let repairs = RefCell::new((0..node.store.identity().shards).map(|_| Vec::new()).collect());
        let (counters, completions) = (Arc::clone(&node.counters[number]), CompletionQueue::new());
        Self { node, counters, completions, waiting: RefCell::new(Batches::new()), repairs }
    }

    /// Carries out another node's operations, at least one, and returns the results now or later.
    pub(crate) fn execute(
        driver: &Rc<Driver>,
        operations: Vec<Result<PeerOperation, Failure>>,
        admitted: Admitted,
    ) -> Results<PeerResult> {
        let merges = &driver.merges;
        merges.counters.peer_batches_in.one();
        merges.counters.peer_operations_in.add(operations.len() as u64);
        let waiting = &mut *merges.waiting.borrow_mut();
        let call = waiting.begin(operations.len(), admitted);
        let ring = Arc::clone(&driver.known().ring);
        let (mut ready, mut ahead) = (Vec::with_capacity(operations.len()), Vec::new());
        for (at, operation) in operations.into_iter().enumerate() {
            let ticket = call.ticket(at);
            match operation {
                Err(failure) => waiting.put(ticket, PeerResult::Failed(failure)),
                // Its sender knows a newer ring.
                Ok(operation) if adopting::is_ahead(&operation.view, &ring) => ahead.push((ticket, operation)),
                Ok(operation) => ready.push((ticket, operation)),
            }
        }
        ahead.extend(merges.begin(waiting, ready));
        if !ahead.is_empty() {
            tokio::task::spawn_local(Self::begin_level(Rc::clone(driver), ahead));
        }
        waiting.results(call)
    }

    /// Begins operations whose senders know more than this node did, once it knows as much.
    async fn begin_level(driver: Rc<Driver>, ahead: Vec<(Ticket, PeerOperation)>) {
        let mut views: Vec<View> = ahead.iter().map(|(_, operation)| operation.view).collect();
        views.sort_unstable();
        views.dedup();
        for view in views {
            if let Err(failure) = adopting::adopt(&driver.node, view).await {
                tracing::debug!(?view, why = %failure.message, "a view could not be adopted");
            }
        }
        let ring = driver.node.ring();
        let (merges, mut waiting) = (&driver.merges, driver.merges.waiting.borrow_mut());
        // Also what is to be written: nothing may be stored under a view whose layouts are not here. What is refused for another reason
        // is told which view this node has.
        let (mut behind, level): (Vec<_>, Vec<_>) =
            ahead.into_iter().partition(|(_, operation)| adopting::is_ahead(&operation.view, &ring));
        behind.extend(merges.begin(&mut waiting, level));
        for (ticket, operation) in behind {
            let message = "this node could not come level with the sender's view; nothing was done, ask it again later";
            tracing::debug!(view = ?operation.view, "{message}");
            waiting.put(ticket, PeerResult::Failed(Failure::new(ErrorCode::StaleView, message)));
        }
    }

    /// Begins operations. Reads whose senders know more than this node are handed back.
    fn begin(
        &self,
        waiting: &mut Batches<PeerResult, Admitted>,
        operations: Vec<(Ticket, PeerOperation)>,
    ) -> Vec<(Ticket, PeerOperation)> {
        let (mut reads, mut hints, mut behind) = ((Vec::new(), Vec::new()), Vec::new(), Vec::new());
        let mut submissions: Vec<Vec<Submission>> =
            (0..self.node.store.identity().shards).map(|_| Vec::new()).collect();
        for (ticket, operation) in operations {
            match operation {
                PeerOperation { view, store_key, action: PeerAction::Merge(record) } => {
                    let operation = WriteOperation::Merge { view, store_key, record };
                    submissions[self.node.store.shard_of(&store_key)]
                        .push(Submission { token: Some(ticket.0), operation });
                }
                PeerOperation { view, store_key, action: PeerAction::Hint { target, record } } => {
                    match self.check_hint(&view, &store_key, target) {
                        Ok(()) => {
                            let operation = HintOperation::Keep { view, target, store_key, record };
                            hints.push(HintSubmission { token: Some(ticket.0), operation });
                        }
                        Err(failure) => waiting.put(ticket, PeerResult::Failed(failure)),
                    }
                }
                operation @ PeerOperation {
                    action: PeerAction::Read | PeerAction::Digest | PeerAction::ReadHint,
                    ..
                } => {
                    reads.0.push(ticket);
                    reads.1.push(operation);
                }
            }
        }
        if !reads.0.is_empty() {
            let mut results = Vec::with_capacity(reads.0.len());
            read_all(&self.node, &reads.1, &mut results);
            for ((ticket, operation), result) in reads.0.into_iter().zip(reads.1).zip(results) {
                if adopting::is_behind(&self.node, &operation, &result) {
                    behind.push((ticket, operation));
                } else {
                    waiting.put(ticket, self.counted(result));
                }
            }
        }
        for (shard, submissions) in submissions.into_iter().enumerate().filter(|(_, some)| !some.is_empty()) {
            if let Err(refused) = self.node.store.submit(shard, &self.completions, submissions) {
                put_refused(waiting, refused);
            }
        }
        if !hints.is_empty()
            && let Err(refused) = self.node.store.hints().submit(&self.completions, hints)
        {
            put_refused(waiting, refused);
        }
        behind
    }

    /// Whether this node may keep a hint of a key for `target`. An owner must not: its answer to the write itself counts
    /// already. And what is kept for a node that does not own the key, nobody would ask for.
    fn check_hint(&self, view: &View, store_key: &StoreKey, target: NodeId) -> Result<(), Failure> {
        let known = self.node.known();
        let (id, layout) = (store_key.id(), known.layout());
        // While a partition moves, whoever owns it under any active configuration may be counted for itself.
        let owners: Vec<NodeIndex> = match known.ring.configurations(&id, view) {
            Some(configurations) => configurations.into_iter().flat_map(|set| set.owners).collect(),
            None => layout.owners(layout.partition(&id)).collect(),
        };
        let is_owned = |node: Option<NodeIndex>| node.is_some_and(|node| owners.contains(&node));
        if is_owned(known.me) || !is_owned(known.place_of(target)) {
            let message = "this node can't stand in for that one: it owns the key itself, or the other does not; nothing was \
                           done, fetch the ring";
            return Err(Failure::new(ErrorCode::StaleView, message));
        }
        Ok(())
    }

    /// Takes in a repair of this node's own record.
    pub(super) fn repair(&self, operation: WriteOperation) {
        let shard = self.node.store.shard_of(&operation.store_key());
        self.repairs.borrow_mut()[shard].push(Submission { token: None, operation });
    }

    /// Hands the repairs taken in to the store. What it has no room for is dropped: a later read finds it again.
    pub(super) fn submit_repairs(&self) {
        for (shard, repairs) in self.repairs.borrow_mut().iter_mut().enumerate().filter(|(_, some)| !some.is_empty()) {
            if let Err(refused) = self.node.store.submit(shard, &self.completions, mem::take(repairs)) {
                self.counters.repairs_dropped.add(refused.submissions.len() as u64);
            }
        }
    }

    /// Waits for the store's answers, for ever.
    pub(crate) async fn complete(driver: Rc<Driver>) {
        let merges = &driver.merges;
        let mut completions = Vec::new();
        loop {
            merges.completions.arrived().await;
            merges.completions.drain(&mut completions);
            let mut waiting = merges.waiting.borrow_mut();
            for Completion { token, progress } in completions.drain(..) {
                match progress {
                    Progress::Minted(_) => {}
                    Progress::Finished(outcome) => {
                        waiting.put(Ticket(token), merges.counted(result(outcome)));
                    }
                }
            }
        }
    }

    fn counted(&self, result: PeerResult) -> PeerResult {
        match &result {
            PeerResult::Stale(_) => self.counters.stale_views.one(),
            PeerResult::Corrupt => self.counters.corrupt_records.one(),
            PeerResult::Record(_)
            | PeerResult::Digest(_)
            | PeerResult::Absent
            | PeerResult::Stored
            | PeerResult::Failed(_) => {}
        }
        result
    }
}

/// Answers what a writer did not take in.
fn put_refused<O>(waiting: &mut Batches<PeerResult, Admitted>, refused: Rejected<O>) {
    for token in refused.submissions.into_iter().filter_map(|submission| submission.token) {
        waiting.put(Ticket(token), PeerResult::Failed(refused.failure.clone()));
    }
}

/// The outcome of a merge, or of a hint, as its sender learns it.
fn result(outcome: WriteOutcome) -> PeerResult {
    match outcome {
        WriteOutcome::Stored => PeerResult::Stored,
        WriteOutcome::Stale(view) => PeerResult::Stale(view),
        WriteOutcome::Corrupt => PeerResult::Corrupt,
        WriteOutcome::Refused(failure) => PeerResult::Failed(failure),
        WriteOutcome::Minted(_) | WriteOutcome::Moved { .. } => PeerResult::Failed(Failure {
            maybe_applied: true,
            ..Failure::new(ErrorCode::Internal, "a merge was answered as something else; please report this")
        }),
    }
}
