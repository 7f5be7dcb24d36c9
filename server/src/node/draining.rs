//! Draining by an operator's word: clients are sent elsewhere, and everything that other nodes ask goes on. A node that is drained can be
//! stopped without a failed request; one that was not stopped takes operations again when it is told to.

use std::sync::atomic::Ordering;

use super::Node;

impl Node {
    /// Refuses new operations of clients from now on, or takes them again.
    pub(crate) fn send_clients_away(&self, is_away: bool) {
        let was_away = self.sends_clients_away.swap(is_away, Ordering::Relaxed);
        match (was_away, is_away) {
            (false, true) => tracing::info!("drained by an operator: clients are sent elsewhere until that is undone"),
            (true, false) => tracing::info!("takes operations again"),
            (true, true) | (false, false) => {}
        }
    }

    /// Whether new operations of clients are to be refused.
    pub(crate) fn refuses_clients(&self) -> bool {
        self.sends_clients_away.load(Ordering::Relaxed) || self.is_draining()
    }

    /// Operations that have begun here and not ended.
    pub(crate) fn operations_in_flight(&self) -> u64 {
        self.counters.iter().map(|counters| counters.operations_in_flight.read()).sum()
    }
}
