//! What a worker counts: how clients' operations ended, and what its coordinator says of itself.

use dynamo::{
    coordinator::Coordinator,
    operation::{Action, Failure, Operation, Outcome},
};

use super::Driver;

/// What a client's operation was, for counting how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    Put,
    Delete,
    Invalid,
}

impl Driver {
    /// Counts how a client's operation ended.
    pub(super) fn count(&self, kind: Kind, outcome: &Outcome) {
        let counters = &self.counters;
        let counter = match (kind, outcome) {
            (Kind::Invalid, _) => &counters.operations_invalid,
            (Kind::Get, Outcome::Found { .. }) => &counters.gets_found,
            (Kind::Get, Outcome::NotFound { .. }) => &counters.gets_not_found,
            (Kind::Get, Outcome::Stored { .. } | Outcome::Failed(_)) => &counters.gets_failed,
            (Kind::Put, Outcome::Stored { .. }) => &counters.puts_stored,
            (Kind::Put, Outcome::Found { .. } | Outcome::NotFound { .. } | Outcome::Failed(_)) => &counters.puts_failed,
            (Kind::Delete, Outcome::Stored { .. }) => &counters.deletes_stored,
            (Kind::Delete, Outcome::Found { .. } | Outcome::NotFound { .. } | Outcome::Failed(_)) => {
                &counters.deletes_failed
            }
        };
        counter.one();
    }

    /// Makes the coordinator's own counts visible to `status`.
    pub(super) fn publish(&self, coordinator: &Coordinator) {
        let counted = coordinator.counters();
        let counters = &self.counters;
        counters.forwards.set(counted.forwarded);
        counters.repairs.set(counted.repairs);
        counters.read_fetches.set(counted.fetches);
        counters.read_hedges.set(counted.hedges);
        counters.read_hedges_withheld.set(counted.hedges_withheld);
        counters.hints_sent.set(counted.hints);
        counters.hints_lost.set(counted.hints_refused);
        counters.hint_reads.set(counted.hints_read);
        counters.stood_in.set(counted.stood_in);
        counters.lingers_cut_short.set(counted.unlingered);
        counters.quorum_timeouts.set(counted.timeouts);
        // Others count these too, so only what is new is added.
        counters.corrupt_records.add(counted.corrupt - self.corrupt_published.replace(counted.corrupt));
    }
}

/// What an operation is, or that it is none.
pub(super) fn kind(operation: &Result<Operation, Failure>) -> Kind {
    match operation {
        Err(_) => Kind::Invalid,
        Ok(operation) => match operation.action {
            Action::Get { .. } => Kind::Get,
            Action::Put { .. } => Kind::Put,
            Action::Delete { .. } => Kind::Delete,
        },
    }
}
