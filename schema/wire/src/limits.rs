//! The bounds of one connection. Everything the other side decides has one.

use std::time::Duration;

/// The bound on a batch of operations; one value may be larger.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// A legal message doubled: a message in several segments wastes part of each, and structs have pointers and padding.
const FRAME_PER_MESSAGE: usize = 2;

/// Room for what stands around the operations.
const ENVELOPE_BYTES: usize = 64 << 10;

/// The bounds of one connection.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest frame in bytes.
    pub frame_bytes: usize,
    /// Largest frame before [`crate::ConnectionHandle::admit`]: whoever has not said hello needs a few hundred bytes.
    pub frame_bytes_before_hello: usize,
    /// Most segments of a frame. A stock writer makes nine for 768 KiB; the format's own implementations stop at 512.
    pub segments: usize,
    /// Calls from the other side that are not answered yet; at the bound reading stops, and goes on when one is answered. Enough to
    /// keep both ends busy, few enough that one connection can't hold a worker's memory.
    pub calls_in_flight: usize,
    /// Calls that the other side has not finished. An honest side finishes each when it has the answer, but the message that
    /// says so stands behind all calls it has sent before: as many as it keeps in flight. More is an attack or a bug.
    pub answers_unfinished: usize,
    /// Bytes queued for the other side; above, it is not reading and the connection ends. Must hold the largest frame.
    pub outgoing_bytes: usize,
    /// How long the other side may read nothing while bytes wait for it.
    pub outgoing_stall: Duration,
    /// How long a frame may take from its first byte to its last: a slow drip must not hold a buffer for ever.
    pub frame_timeout: Duration,
    /// How long the other side may take until [`crate::ConnectionHandle::admit`]; `None` where it is known from the start.
    pub hello_timeout: Option<Duration>,
}

/// Messages up to this size need no permit of the budget: they are no bigger than what a connection costs anyway.
pub(crate) const FREE_BYTES: usize = 1024;

impl Limits {
    /// For a connection that a node accepts. `value_bytes_max` is the largest value it stores.
    pub fn server(value_bytes_max: usize) -> Self {
        let frame_bytes = FRAME_PER_MESSAGE * BATCH_BYTES_MAX.max(value_bytes_max) + ENVELOPE_BYTES;
        Self {
            frame_bytes,
            frame_bytes_before_hello: 16 << 10,
            segments: 512,
            calls_in_flight: 256,
            answers_unfinished: 1 << 16,
            outgoing_bytes: frame_bytes + (4 << 20),
            outgoing_stall: Duration::from_secs(10),
            frame_timeout: Duration::from_secs(10),
            hello_timeout: Some(Duration::from_secs(5)),
        }
    }

    /// For a connection that this side opens: it has chosen whom to talk to, so the other side is known from the start, and it may
    /// queue as many of its own requests as it likes.
    pub fn client(value_bytes_max: usize) -> Self {
        let server = Self::server(value_bytes_max);
        Self { frame_bytes_before_hello: server.frame_bytes, outgoing_bytes: 64 << 20, hello_timeout: None, ..server }
    }
}
