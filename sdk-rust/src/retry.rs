//! What to do when an attempt failed: a pure table, so that it can be read as one.
//!
//! A write is never sent again under a new operation id; under the same one a node recognises it. So the question is only
//! where to go next and how long to wait, and whether there is any point.

use std::time::Duration;

use dynamo::{
    layout::NodeIndex,
    operation::{ErrorCode, Failure},
};

use crate::{random::Random, routing::Kind};

/// First and longest pause before the same node is asked again.
const PAUSE_BASE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// First pause when a node said that it has too much to do.
const PAUSE_BASE_OVERLOADED: Duration = Duration::from_millis(100);

/// How often everything in flight may be retried at once from a full budget: when a node freezes, all that was sent to it is first
/// asked of it again, then of another node, and none of it shall fail for that. What goes on failing lives on refunds, one retry in
/// fourteen operations.
const BUDGET_RETRIES_PER_OPERATION: u32 = 2;

/// A retry after an attempt that cost a node work, and one after a refusal.
const BUDGET_COST_UNCLEAR: u32 = 14;
const BUDGET_COST_REFUSED: u32 = 5;

/// How an attempt ended without success.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// It never left: no connection.
    NotSent,
    /// It was sent, and no answer came in time: nobody knows what became of it.
    Late,
    /// It was sent, and the connection broke before the answer: nobody knows either.
    Broken,
    /// A node answered with an error.
    Refused(Failure),
}

impl Trouble {
    /// Whether a node said that it has too much to do.
    pub(crate) fn is_overload(&self) -> bool {
        match self {
            Self::Refused(failure) => failure.code == ErrorCode::Overloaded,
            Self::NotSent | Self::Late | Self::Broken => false,
        }
    }

    /// Whether the node said where else to go: it serves, but with another layout than ours.
    pub(crate) fn owners(&self) -> &[NodeIndex] {
        match self {
            Self::Refused(failure) if failure.code == ErrorCode::StaleView => &failure.owners,
            Self::Refused(_) | Self::NotSent | Self::Late | Self::Broken => &[],
        }
    }

    /// Whether a write may have been stored.
    pub(crate) fn may_have_applied(&self) -> bool {
        match self {
            Self::NotSent => false,
            Self::Late | Self::Broken => true,
            Self::Refused(failure) => failure.maybe_applied,
        }
    }
}

/// Where to go next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nowhere: tell the application.
    GiveUp,
    /// To the same node again.
    Same { cost: u32 },
    /// To another node.
    Other { cost: u32 },
    /// To the same node, in a batch of its own: its answer did not fit beside others.
    Alone,
}

/// The table. `repeats` counts how often this operation has already gone to the same node again.
pub(crate) fn next(kind: Kind, trouble: &Trouble, repeats: u32) -> Next {
    let failure = match trouble {
        Trouble::NotSent => return Next::Other { cost: 0 },
        Trouble::Late | Trouble::Broken => {
            return match kind {
                Kind::Write if repeats == 0 => Next::Same { cost: BUDGET_COST_UNCLEAR },
                Kind::Read | Kind::Write => Next::Other { cost: BUDGET_COST_UNCLEAR },
            };
        }
        Trouble::Refused(failure) => failure,
    };
    match failure.code {
        ErrorCode::TooLarge if failure.retryable && kind == Kind::Read => Next::Alone,
        _ if !failure.retryable => Next::GiveUp,
        // The node has done nothing and will not do anything: like one that could not be reached. Every node of a cluster may be
        // restarted in turn, and no operation shall pay for that.
        ErrorCode::ShuttingDown if !failure.maybe_applied => Next::Other { cost: 0 },
        ErrorCode::Overloaded | ErrorCode::ShuttingDown => Next::Other { cost: BUDGET_COST_REFUSED },
        ErrorCode::Unavailable | ErrorCode::StaleView | ErrorCode::StorageFull | ErrorCode::Corrupt => {
            Next::Other { cost: BUDGET_COST_REFUSED }
        }
        ErrorCode::QuorumTimeout => match kind {
            Kind::Read => Next::Other { cost: BUDGET_COST_UNCLEAR },
            Kind::Write if repeats == 0 => Next::Same { cost: BUDGET_COST_UNCLEAR },
            Kind::Write => Next::GiveUp,
        },
        ErrorCode::Unauthenticated | ErrorCode::WrongCluster => Next::Other { cost: BUDGET_COST_REFUSED },
        ErrorCode::Internal
        | ErrorCode::InvalidRequest
        | ErrorCode::TooLarge
        | ErrorCode::TooManySiblings
        | ErrorCode::Unsupported
        | ErrorCode::Forbidden => Next::GiveUp,
    }
}

/// How long to wait before the same node is asked again, or any when all have been: full jitter, so that clients which failed
/// together do not come back together.
pub(crate) fn pause(trouble: &Trouble, attempt: u32, random: &mut Random) -> Duration {
    let (base, at_least_ms) = match trouble {
        Trouble::Refused(failure) if failure.code == ErrorCode::Overloaded => {
            (PAUSE_BASE_OVERLOADED, failure.retry_after_ms)
        }
        Trouble::Refused(failure) => (PAUSE_BASE, failure.retry_after_ms),
        Trouble::NotSent | Trouble::Late | Trouble::Broken => (PAUSE_BASE, 0),
    };
    let longest = base.saturating_mul(1 << attempt.min(10)).min(PAUSE_MAX);
    let jitter = Duration::from_micros(random.below(longest.as_micros() as u64 + 1));
    Duration::from_millis(at_least_ms.into()).min(PAUSE_MAX) + jitter
}

/// Tokens that retries cost and successes bring back, so that retries stay a small part of the traffic when most of it fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    tokens: u32,
    capacity: u32,
}

impl Budget {
    /// A full budget for a client that has at most so many operations in flight.
    pub(crate) fn full(in_flight: usize) -> Self {
        let operations = u32::try_from(in_flight).unwrap_or(u32::MAX);
        let capacity = operations.saturating_mul(BUDGET_RETRIES_PER_OPERATION * BUDGET_COST_UNCLEAR);
        Self { tokens: capacity, capacity }
    }

    /// Pays for a retry, if there is enough.
    pub(crate) fn spend(&mut self, cost: u32) -> bool {
        let enough = self.tokens >= cost;
        if enough {
            self.tokens -= cost;
        }
        enough
    }

    pub(crate) fn refund(&mut self) {
        self.tokens = (self.tokens + 1).min(self.capacity);
    }

    pub(crate) fn tokens(self) -> u32 {
        self.tokens
    }
}

#[cfg(test)]
mod tests;
