//! What gossip knows, for the rest of the node to read: written by the gossip thread, a plain number for each node.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use dynamo::layout::NodeIndex;

use super::swim::{Standing, Tally};
use crate::counters::Count;

/// What is known of all nodes.
#[derive(Debug)]
pub(crate) struct Board {
    standings: Vec<AtomicU8>,
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
    /// Where nothing is known of any of so many nodes.
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            standings: (0..nodes).map(|_| AtomicU8::new(0)).collect(),
            is_running: AtomicBool::new(false),
            has_twin: AtomicBool::new(false),
            tally: Tallies::default(),
        }
    }

    /// What the members say about a node, if they know it.
    pub(crate) fn standing(&self, node: NodeIndex) -> Option<Standing> {
        match self.standings.get(usize::from(node.0))?.load(Ordering::Relaxed) {
            1 => Some(Standing::Alive),
            2 => Some(Standing::Suspect),
            3 => Some(Standing::Down),
            _ => None,
        }
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

    pub(super) fn set_standing(&self, node: NodeIndex, standing: Standing) {
        let number = match standing {
            Standing::Alive => 1,
            Standing::Suspect => 2,
            Standing::Down => 3,
        };
        if let Some(known) = self.standings.get(usize::from(node.0)) {
            known.store(number, Ordering::Relaxed);
        }
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
