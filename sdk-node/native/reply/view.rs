//! What looking into a client and at its cluster gives, as bytes: explanations, statistics, pings, events.

use bytes::BufMut;
use quorate::{
    Explanation, NodeIndex, NodeStats, Stats,
    bridge::{Event, Pinged},
};

use super::{Kind, Writer};

impl Writer {
    pub(super) fn explanation(&mut self, explanation: &Explanation) -> Kind {
        self.text(Some(&explanation.id.to_string()));
        self.bytes.put_u32_le(explanation.partition);
        self.bytes.put_u64_le(explanation.view.lo);
        self.bytes.put_u64_le(explanation.view.hi);
        self.bytes.put_u64_le(explanation.epoch);
        self.coordinator(explanation, explanation.read_coordinator);
        self.coordinator(explanation, explanation.write_coordinator);
        self.nodes(&explanation.owners);
        Kind::Explanation
    }

    pub(super) fn stats(&mut self, stats: &Stats) -> Kind {
        let counts = [
            stats.succeeded,
            stats.failed,
            stats.cancelled,
            stats.retries,
            stats.calls,
            stats.operations_sent,
            stats.disconnects,
            stats.refreshes,
            stats.in_flight as u64,
            stats.waiting as u64,
            stats.retry_tokens.into(),
        ];
        // Counters that a client reaches in its life stay far below 2^53.
        counts.into_iter().for_each(|count| self.bytes.put_f64_le(count as f64));
        self.bytes.put_u64_le(stats.epoch);
        self.nodes(&stats.nodes);
        Kind::Stats
    }

    pub(super) fn pings(&mut self, pings: Vec<Pinged>) -> Kind {
        self.count(pings.len());
        for pinged in pings {
            self.text(Some(&pinged.name));
            self.part(|writer| match pinged.took {
                Ok(took) => {
                    writer.milliseconds(took);
                    Kind::Done
                }
                Err(error) => writer.error(&error),
            });
        }
        Kind::Pings
    }

    pub(super) fn event(&mut self, event: &Event) -> Kind {
        match event {
            Event::Topology { epoch, generation } => {
                self.bytes.put_u64_le(*epoch);
                self.bytes.put_u64_le(*generation);
                Kind::Topology
            }
            Event::NodeUp { name, node } => {
                self.text(Some(name));
                self.text(Some(&node.to_string()));
                Kind::NodeUp
            }
            Event::NodeDown { name, node } => {
                self.text(Some(name));
                self.text(Some(&node.to_string()));
                Kind::NodeDown
            }
        }
    }

    fn nodes(&mut self, nodes: &[NodeStats]) {
        self.count(nodes.len());
        for node in nodes {
            self.text(Some(&node.name));
            self.bytes.put_u8(node.connected.into());
            self.bytes.put_u8(node.usable.into());
            self.bytes.put_u32_le(node.in_flight);
            self.milliseconds(node.latency);
            self.bytes.put_u8(node.load);
        }
    }

    fn coordinator(&mut self, explanation: &Explanation, coordinator: Option<NodeIndex>) {
        let owner = |node: NodeIndex| explanation.owners.iter().find(|owner| owner.node == node);
        self.text(coordinator.and_then(owner).map(|owner| owner.name.as_str()));
    }
}
