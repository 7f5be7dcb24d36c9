//! A budget of bytes for messages that are being worked on, shared by many connections. When it is used up, their sockets are not read,
//! and TCP pushes back; nobody is refused and nothing is dropped.
//!
//! Unauthenticated peers, clients, peers' requests and replies to our own calls get budgets of their own: if they shared one, honest clients could
//! starve, and two nodes could wait for each other for ever.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// A budget of bytes. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bytes: usize,
    used: AtomicUsize,
    freed: Notify,
}

/// A part of a budget; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Permit {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Budget {
    /// A budget of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        Self { shared: Arc::new(Shared { bytes, used: AtomicUsize::new(0), freed: Notify::new() }) }
    }

    /// Bytes in use now.
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// Waits until `bytes` are free. A message bigger than the whole budget waits until it would be the only one, so that a small
    /// budget slows down but never blocks.
    pub(crate) async fn acquire(&self, bytes: usize) -> Permit {
        loop {
            let freed = self.shared.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(permit) = self.try_acquire(bytes) {
                return permit;
            }
            freed.await;
        }
    }

    pub(crate) fn try_acquire(&self, bytes: usize) -> Option<Permit> {
        let fits = |used: usize| (used == 0 || used + bytes <= self.shared.bytes).then_some(used + bytes);
        self.shared.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, fits).ok()?;
        Some(Permit { shared: Arc::clone(&self.shared), bytes })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.bytes, Ordering::AcqRel);
        // All of them: a small message may fit where the first in line does not.
        self.shared.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn a_budget_is_given_back_and_lets_one_large_message_through() {
        let budget = Budget::new(100);
        let first = budget.try_acquire(60).expect("it is free");
        assert!(budget.try_acquire(60).is_none());
        drop(first);
        let large = budget.try_acquire(1000).expect("alone, even a larger one passes");
        assert!(budget.try_acquire(1).is_none());
        drop(large);
        assert_eq!(budget.used(), 0);
    }
}
