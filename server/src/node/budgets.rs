//! What received messages may occupy in memory, by who sent them.

use crate::config::Config;

use super::PEER_BYTES_MAX;

/// What received messages may occupy together, by who sent them: with one budget for all, a flood of strangers' or clients'
/// messages would keep out the replies that this node waits for.
pub(crate) struct Budgets {
    /// Those who have not introduced themselves.
    pub(crate) strangers: wire::Budget,
    /// Clients.
    pub(crate) clients: wire::Budget,
    /// Other nodes' requests.
    pub(crate) peers: wire::Budget,
    /// Other nodes' replies.
    pub(crate) replies: wire::Budget,
}

impl Budgets {
    /// Messages of strangers: a few hundred introductions at once.
    const STRANGERS_BYTES: usize = 16 << 20;

    pub(super) fn new(config: &Config) -> Self {
        // What is admitted is decoded into another copy of the same size, and several calls wait while one is admitted.
        let clients = config.admission.bytes_max;
        Self {
            strangers: wire::Budget::new(Self::STRANGERS_BYTES),
            clients: wire::Budget::new(clients),
            peers: wire::Budget::new(PEER_BYTES_MAX),
            replies: wire::Budget::new(PEER_BYTES_MAX),
        }
    }
}
