//! Replies that wait for callers who read slowly, or not at all. Each connection is bounded by the transport; this bounds all of
//! them together, or a thousand callers who ask for a lot and read nothing would take a node's memory one by one.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use dynamo::operation::{ErrorCode, Failure, Outcome, Reply};
use wire::ConnectionHandle;

/// Replies below this are not counted: a connection holds no more of them than it may have waiting anyway.
const SMALL_BYTES: usize = 16 << 10;

/// What a result takes beside its values, about.
const RESULT_BYTES: usize = 256;

/// How long a caller whose reply found no room should stay away: what waits is read by then, or its readers are gone.
const RETRY_AFTER_MS: u32 = 100;

/// The bytes of large replies that are on their way out, and how many there may be.
#[derive(Debug)]
pub(crate) struct Backlog {
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// The part of it that one reply takes.
#[derive(Debug)]
struct Claim {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Backlog {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), bytes_max })
    }

    /// Waits until a connection has room for these replies, and counts them until they are sent. Where the node has no room,
    /// values are left out, and their operations told to try again.
    pub(super) async fn make_room(self: &Arc<Self>, connection: &ConnectionHandle, replies: &mut [Reply]) {
        let bytes = replies.iter().map(reply_bytes).sum();
        if bytes < SMALL_BYTES {
            return;
        }
        match self.claim(bytes) {
            Some(claim) => {
                connection.outgoing_room().await;
                tokio::task::spawn_local(claim.last(connection.clone()));
            }
            None => replies.iter_mut().filter(|reply| has_value(reply)).for_each(leave_out),
        }
    }

    fn claim(self: &Arc<Self>, bytes: usize) -> Option<Claim> {
        let taken = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let claim = Claim { backlog: Arc::clone(self), bytes };
        // The first reply always goes, however large it is.
        (taken == 0 || taken + bytes <= self.bytes_max).then_some(claim)
    }
}

impl Claim {
    /// Keeps the claim until the connection's queue has shrunk, or the connection has ended.
    async fn last(self, connection: ConnectionHandle) {
        // The reply is queued when its handler returns, which is after this task was made and before it runs again.
        tokio::task::yield_now().await;
        connection.outgoing_room().await;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.backlog.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn reply_bytes(reply: &Reply) -> usize {
    RESULT_BYTES
        + match &reply.outcome {
            Outcome::Found { siblings, .. } => siblings.iter().map(|sibling| sibling.value.len()).sum(),
            Outcome::NotFound { .. } | Outcome::Stored { .. } | Outcome::Failed(_) => 0,
        }
}

fn has_value(reply: &Reply) -> bool {
    matches!(reply.outcome, Outcome::Found { .. })
}

fn leave_out(reply: &mut Reply) {
    let message =
        "too many replies of this node wait for callers who do not read them; wait retryAfterMs and try again";
    reply.outcome =
        Outcome::Failed(Failure { retry_after_ms: RETRY_AFTER_MS, ..Failure::new(ErrorCode::Overloaded, message) });
}

#[cfg(test)]
mod tests {
    use super::Backlog;

    #[test]
    fn claims_are_bounded_together_but_one_may_be_larger_when_it_is_alone() {
        let backlog = Backlog::new(100);
        let large = backlog.claim(1_000).unwrap();
        assert!(backlog.claim(1).is_none());
        drop(large);
        let claims: Vec<_> = (0..4).map(|_| backlog.claim(25).unwrap()).collect();
        assert!(backlog.claim(25).is_none());
        drop(claims);
        assert!(backlog.claim(100).is_some());
    }
}
