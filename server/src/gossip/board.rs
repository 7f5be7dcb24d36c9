//! What gossip knows, for the rest of the node to read: written by the gossip thread, read when somebody asks for a status.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use dynamo::ident::NodeId;

use super::swim::{Standing, Tally};
use crate::counters::Count;

/// What is known of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Board {
    standings: Mutex<BTreeMap<NodeId, Standing>>,
    is_running: AtomicBool,
    has_twin: AtomicBool,
    tally: Tallies,
}

/// The tally and the node's own health, as counters.
#[derive(Debug, Default)]
struct Tallies {
    packets_out: Count,
    bytes_out: Count,
    packets_in: Count,
    dropped: Count,
    deaths: Count,
    renewals: Count,
    patience: Count,
}

impl Board {
    /// What the members say about a node, if they know it.
    pub(crate) fn standing(&self, node: NodeId) -> Option<Standing> {
        self.standings().get(&node).copied()
    }

    /// Whether this node takes part.
    pub(crate) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Relaxed)
    }

    /// Whether another process was heard under this node's name.
    pub(crate) fn has_twin(&self) -> bool {
        self.has_twin.load(Ordering::Relaxed)
    }

    /// Name, number and meaning of what is counted.
    pub(crate) fn counters(&self) -> [(&'static str, u64, &'static str); 7] {
        let Tallies { packets_out, bytes_out, packets_in, dropped, deaths, renewals, patience } = &self.tally;
        [
            ("gossip_packets_out", packets_out.read(), "gossip packets sent"),
            ("gossip_bytes_out", bytes_out.read(), "bytes of those, without the network's own"),
            ("gossip_packets_in", packets_in.read(), "gossip packets received and read"),
            (
                "gossip_packets_dropped",
                dropped.read(),
                "gossip packets dropped: forged, copied, too long, malformed, or of a stranger",
            ),
            ("gossip_deaths", deaths.read(), "nodes that the members declared down"),
            ("gossip_renewals", renewals.read(), "how often this node was declared down while it was alive"),
            (
                "gossip_patience",
                patience.read(),
                "by how much this node stretches its patience now because it was slow itself; 1 is usual",
            ),
        ]
    }

    pub(super) fn set_standing(&self, node: NodeId, standing: Standing) {
        self.standings().insert(node, standing);
    }

    /// Forgets nodes that have left the ring.
    pub(super) fn retain(&self, is_member: impl Fn(NodeId) -> bool) {
        self.standings().retain(|node, _| is_member(*node));
    }

    pub(super) fn set_running(&self, is_running: bool) {
        self.is_running.store(is_running, Ordering::Relaxed);
    }

    /// Returns whether it is the first time.
    pub(super) fn set_twin(&self) -> bool {
        !self.has_twin.swap(true, Ordering::Relaxed)
    }

    pub(super) fn publish(&self, tally: &Tally, patience: u32) {
        let Tally { packets_out, bytes_out, packets_in, deaths, renewals, .. } = *tally;
        self.tally.packets_out.set(packets_out);
        self.tally.bytes_out.set(bytes_out);
        self.tally.packets_in.set(packets_in);
        self.tally.dropped.set(tally.dropped());
        self.tally.deaths.set(deaths);
        self.tally.renewals.set(renewals);
        self.tally.patience.set(u64::from(patience));
    }

    fn standings(&self) -> MutexGuard<'_, BTreeMap<NodeId, Standing>> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    /// The word for it in a status.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Down => "down",
        }
    }
}
