//! How operations fail: each failure says what happened, whether anything may have been applied, and what to do.

use alloc::{format, string::String};

use super::{flight::Head, route::Route};
use crate::{
    operation::{ErrorCode, Failure},
    peer::PeerResult,
};

/// How long a client that was refused for load should stay away, in milliseconds: a few batches' time, so that the queue
/// has moved when it comes back.
const OVERLOAD_RETRY_AFTER_MS: u32 = 20;

/// Why replicas that did not count did not, as far as it matters to the client: the most telling reason so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble(Option<ErrorCode>);

impl Trouble {
    /// Adds a reason.
    pub(super) fn add(&mut self, code: ErrorCode) {
        if self.0.is_none_or(|known| weight(code) > weight(known)) {
            self.0 = Some(code);
        }
    }
}

impl Trouble {
    /// Whether a replica left a record behind because its batch asked for too much at once.
    pub(super) fn is_too_large(self) -> bool {
        self.0 == Some(ErrorCode::TooLarge)
    }
}

/// Whether any other node would refuse for the same reason, so that nobody can stand in for the one that did.
pub(super) fn is_final(code: ErrorCode) -> bool {
    weight(code) >= weight(ErrorCode::StaleView)
}

/// Reasons that name a cause, and so a remedy, go before reasons that only name a symptom.
fn weight(code: ErrorCode) -> u8 {
    match code {
        ErrorCode::InvalidRequest | ErrorCode::TooLarge | ErrorCode::TooManySiblings => 9,
        ErrorCode::StaleView => 8,
        ErrorCode::WrongCluster | ErrorCode::Unauthenticated | ErrorCode::Forbidden => 7,
        ErrorCode::Corrupt => 6,
        ErrorCode::StorageFull => 5,
        ErrorCode::Internal | ErrorCode::Unsupported => 4,
        ErrorCode::Overloaded => 3,
        ErrorCode::ShuttingDown => 2,
        ErrorCode::QuorumTimeout => 1,
        ErrorCode::Unavailable => 0,
    }
}

/// The reason in an answer that counts for nothing. An answer of a kind that was not asked for is a peer's bug.
pub(super) fn reason(answer: &PeerResult) -> ErrorCode {
    match answer {
        PeerResult::Stale(_) => ErrorCode::StaleView,
        PeerResult::Corrupt => ErrorCode::Corrupt,
        PeerResult::Failed(failure) => match failure.code {
            // What stands between two nodes; to the client it only means that one of them can't be had.
            ErrorCode::Unauthenticated | ErrorCode::Forbidden | ErrorCode::WrongCluster | ErrorCode::Unsupported => {
                ErrorCode::Unavailable
            }
            code @ (ErrorCode::Internal
            | ErrorCode::InvalidRequest
            | ErrorCode::TooLarge
            | ErrorCode::TooManySiblings
            | ErrorCode::Unavailable
            | ErrorCode::QuorumTimeout
            | ErrorCode::Overloaded
            | ErrorCode::Corrupt
            | ErrorCode::StaleView
            | ErrorCode::StorageFull
            | ErrorCode::ShuttingDown) => code,
        },
        PeerResult::Record(_) | PeerResult::Digest(_) | PeerResult::Absent | PeerResult::Stored => ErrorCode::Internal,
    }
}

/// What an operation lacked when it failed.
pub(super) struct Shortfall<'r> {
    /// Answers needed, and answers that counted.
    pub(super) need_and_got: (u8, u8),
    /// The most telling reason of those that did not count.
    pub(super) trouble: Trouble,
    /// Whether a write may have been stored somewhere; `None` for a read.
    pub(super) maybe_applied: Option<bool>,
    /// Whom it asked.
    pub(super) route: &'r Route,
}

impl Shortfall<'_> {
    /// Too many replicas failed.
    pub(super) fn lost(&self) -> Failure {
        let code = self.trouble.0.unwrap_or(ErrorCode::Unavailable);
        let (what, advice) = match code {
            ErrorCode::Unavailable | ErrorCode::QuorumTimeout => {
                ("too few replicas can be reached", "try again later or ask for fewer replicas")
            }
            ErrorCode::StaleView => ("a replica has another view of the partition", "fetch the ring and try again"),
            ErrorCode::Corrupt => {
                ("a replica holds a record it can't verify", "try again when it is repaired or ask for fewer replicas")
            }
            ErrorCode::StorageFull => ("a replica has no space left", "free space or add nodes; reads go on"),
            ErrorCode::Overloaded => ("a replica is overloaded", "wait and try again"),
            ErrorCode::ShuttingDown => ("a replica is shutting down", "try again at another node"),
            ErrorCode::TooLarge if self.maybe_applied.is_none() => {
                ("the batch finds more than fits into one reply", "ask for this key in a smaller batch")
            }
            ErrorCode::InvalidRequest | ErrorCode::TooLarge | ErrorCode::TooManySiblings => {
                ("a replica refused the request", "look at that node's log before asking again")
            }
            ErrorCode::Internal
            | ErrorCode::Unsupported
            | ErrorCode::Unauthenticated
            | ErrorCode::Forbidden
            | ErrorCode::WrongCluster => {
                ("a replica failed in a way that should not happen", "look at that node's log")
            }
        };
        self.failure(code, what, advice)
    }

    /// Time was up.
    pub(super) fn timeout(&self) -> Failure {
        self.failure(
            ErrorCode::QuorumTimeout,
            "too few replicas answered in time",
            "try again with the same operation id",
        )
    }

    fn failure(&self, code: ErrorCode, what: &str, advice: &str) -> Failure {
        let (need, got) = self.need_and_got;
        let applied = match self.maybe_applied {
            None => "nothing was to be written",
            Some(false) => "nothing was written",
            Some(true) => "the write may have been stored and may still appear",
        };
        let mut failure =
            Failure::with_message(code, format!("{what} ({got} of {need} needed answers); {applied}; {advice}"));
        failure.maybe_applied = self.maybe_applied.unwrap_or(false);
        failure.retryable |= code == ErrorCode::TooLarge && self.maybe_applied.is_none();
        failure.need = need;
        failure.got = got;
        failure.owners = self.route.nodes(self.route.owners());
        failure
    }
}

/// This node may not forward, and owns nothing of the key.
pub(super) fn not_an_owner(head: &Head) -> Failure {
    stale(
        head,
        format!(
            "this node does not own the key and the request was forwarded already; {}, fetch the ring and ask an owner",
            done(head)
        ),
    )
}

/// Nobody counts on what this node would keep in the owners' place.
pub(super) fn no_stand_in(head: &Head) -> Failure {
    stale(
        head,
        format!(
            "this node has no place in the ring, or was given up for lost; {}, fetch the ring and ask another node",
            done(head)
        ),
    )
}

/// A replica named a view that no layout explains, or it can't be known who the owners are.
pub(super) fn unexplained(head: &Head) -> Failure {
    stale(head, format!("the layouts do not say who owns the key; {}, look at this node's log", done(head)))
}

/// The partition's owners have changed more often than an operation can bear.
pub(super) fn restless(head: &Head) -> Failure {
    let times = head.renewals;
    stale(
        head,
        format!(
            "the key's owners changed again after the operation had started anew {times} times; {}, try again with the same operation id",
            done(head)
        ),
    )
}

/// This node minted the version without an operation id and is no owner any more: whoever minted it once more would make it two.
pub(super) fn disowned(head: &Head) -> Failure {
    stale(
        head,
        format!(
            "this node stopped being an owner of the key while it wrote; {}, read before writing again",
            done(head)
        ),
    )
}

/// A replica knows of a layout that could not be fetched in time.
pub(super) fn uninformed(head: &Head) -> Failure {
    stale(
        head,
        format!(
            "a replica knows a newer layout, which this node could not fetch in time; {}, try again, here or at another node",
            done(head)
        ),
    )
}

fn stale(head: &Head, message: String) -> Failure {
    let owners = head.route.nodes(head.route.owners());
    let maybe_applied = head.maybe_applied;
    Failure { owners, maybe_applied, ..Failure::with_message(ErrorCode::StaleView, message) }
}

fn done(head: &Head) -> &'static str {
    if head.maybe_applied { "the write may have been stored and may still appear" } else { "nothing was done" }
}

/// Too many operations wait.
pub(super) fn overloaded() -> Failure {
    let message = "too many operations are waiting at this node; nothing was done, wait and try again";
    Failure { retry_after_ms: OVERLOAD_RETRY_AFTER_MS, ..Failure::new(ErrorCode::Overloaded, message) }
}

/// The deadline had passed before anything was done.
pub(super) fn expired() -> Failure {
    Failure::new(ErrorCode::QuorumTimeout, "the request's time was over when it arrived; nothing was done, allow more")
}
