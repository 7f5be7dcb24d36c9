//! A bound on bytes that many connections share: what all their received messages together may occupy.
//!
//! It is not a rate limit. A message occupies its bytes until it is dropped, so a budget bounds memory and nothing else.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Messages up to this size are not charged: a connection holds at most its calls in flight of them, and counting them
/// would cost more than they occupy.
const FREE_BYTES: usize = 1024;

/// A number of bytes to be shared by received messages. Cloning gives another name for the same budget; it may be used
/// from several threads.
///
/// When it is empty, connections wait in order of arrival and do not read, so that TCP makes their peers wait. Give
/// separate budgets to unknown peers, to clients, to requests of other nodes and to the replies to own calls:
/// with a common one, clients could starve the replies that their own calls are waiting for.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    capacity_bytes: usize,
}

/// Holds a part of a [`Budget`] until it is dropped.
pub(crate) type Permit = OwnedSemaphorePermit;

impl Budget {
    /// A budget of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        // A single claim is a u32, and the semaphore has a limit of its own.
        let capacity_bytes = bytes.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(capacity_bytes)), capacity_bytes }
    }

    /// Bytes that are occupied now.
    pub fn used(&self) -> usize {
        self.capacity_bytes - self.bytes.available_permits()
    }

    /// A claim for a message of `bytes`, or `None` when it has to wait. `Some(None)` is a message that is free of charge.
    pub(crate) fn try_claim(&self, bytes: usize) -> Option<Option<Permit>> {
        if bytes <= FREE_BYTES {
            return Some(None);
        }
        let claim = self.clamp(bytes);
        Arc::clone(&self.bytes).try_acquire_many_owned(claim).ok().map(Some)
    }

    /// Waits in line for a claim.
    pub(crate) async fn claim(self, bytes: usize) -> Option<Permit> {
        let claim = self.clamp(bytes);
        // The semaphore is never closed; if it were, going uncharged is the harmless way out.
        self.bytes.acquire_many_owned(claim).await.ok()
    }

    /// A frame larger than the whole budget may pass when it is alone, or it would wait for ever.
    fn clamp(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.capacity_bytes)).unwrap_or(u32::MAX)
    }
}
