//! The headers that travel with every request and every reply.

use dynamo::{layout::NodeIndex, operation::Failure};

use super::malformed;
use crate::common_capnp as wire;

/// Longest trace context that is passed on: W3C's has 55 bytes today. A longer one is dropped, not refused.
const TRACEPARENT_BYTES_MAX: usize = 256;

/// Travels with every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// The layout epoch the sender routes by; 0 for none.
    pub epoch: u64,
    /// Time that remains for the request; 0 for the node's default.
    pub budget_ms: u32,
    /// W3C trace context, passed on untouched.
    pub traceparent: Option<String>,
    /// How often nodes have forwarded it.
    pub hops: u8,
}

/// Travels with every reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The layout epoch of the node that answered.
    pub epoch: u64,
    /// The node that answered.
    pub coordinator: Option<NodeIndex>,
    /// How busy it is: 0 idle, 255 about to refuse.
    pub load: u8,
    /// Microseconds from the arrival of the request to the reply.
    pub server_micros: u32,
}

impl RequestHeader {
    /// Writes the header.
    pub fn encode(&self, mut header: wire::request_header::Builder<'_>) {
        header.set_epoch(self.epoch);
        header.set_budget_ms(self.budget_ms);
        header.set_hops(self.hops);
        if let Some(traceparent) = &self.traceparent {
            header.set_traceparent(traceparent);
        }
    }

    /// Reads a header; one that is null has every field at its default.
    pub fn decode(header: capnp::Result<wire::request_header::Reader<'_>>) -> Result<Self, Failure> {
        let header = header.map_err(|error| malformed("header", error))?;
        Ok(Self {
            epoch: header.get_epoch(),
            budget_ms: header.get_budget_ms(),
            traceparent: traceparent(header),
            hops: header.get_hops(),
        })
    }
}

impl ReplyHeader {
    /// Writes the header.
    pub fn encode(&self, mut header: wire::reply_header::Builder<'_>) {
        header.set_epoch(self.epoch);
        header.set_coordinator(self.coordinator.map_or(u16::MAX, |node| node.0));
        header.set_load(self.load);
        header.set_server_micros(self.server_micros);
    }

    /// Reads a header; one that is null or broken says nothing.
    pub fn decode(header: capnp::Result<wire::reply_header::Reader<'_>>) -> Self {
        let Ok(header) = header else { return Self::default() };
        let coordinator = header.get_coordinator();
        Self {
            epoch: header.get_epoch(),
            coordinator: (coordinator != u16::MAX).then_some(NodeIndex(coordinator)),
            load: header.get_load(),
            server_micros: header.get_server_micros(),
        }
    }
}

fn traceparent(header: wire::request_header::Reader<'_>) -> Option<String> {
    if !header.has_traceparent() {
        return None;
    }
    let text = header.get_traceparent().ok()?;
    let fits = !text.is_empty() && text.len() <= TRACEPARENT_BYTES_MAX;
    if fits { text.to_string().ok() } else { None }
}
