//! What one connection may cost this process. Every figure has its reason beside it; the presets are the only places
//! that choose them.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The bound on a batch of operations, apart from the one value that may be larger.
const LARGEST_BATCH_BYTES: usize = 4 * MIB;

/// A legal message doubled: room for the pointers and padding that an unfavourable message has on top of its data.
const FRAME_PER_MESSAGE: usize = 2;

/// Room for what stands around the operations.
const ENVELOPE_BYTES: usize = 64 * KIB;

/// A `hello` is a few hundred bytes; a long token still fits.
const FRAME_BEFORE_HELLO_BYTES: usize = 16 * KIB;

/// The most segments that a Cap'n Proto stream may announce; a builder that doubles its segments needs fewer than 32
/// for any legal frame.
const SEGMENTS: usize = 512;

/// Enough to keep a core busy with single calls; more parallelism comes from batches and more connections.
const CALLS_IN_FLIGHT: usize = 256;

/// An answer with capabilities, or one that failed, stays until the peer says that it is finished with it, and that
/// stands behind all calls that the peer has sent before: as many as it likes to have on their way. Each occupies about
/// half a KiB.
const ANSWERS_UNFINISHED: usize = 4096;

/// A session holds the bootstrap object and the few that `hello` returned.
const CAPABILITIES: usize = 64;

/// The RPC envelope has 4 levels (message, return, payload, content); the deepest structs of the contract have 6.
const NESTING: i32 = 16;

/// Replies that wait for a peer that reads slowly, besides one largest frame. Beyond this the peer costs more than it
/// is worth.
const OUTGOING_BYTES: usize = 4 * MIB;

/// Beyond a quarter of what a peer may leave unread, more of its calls would only add to the pile.
const OUTGOING_PAUSE_BYTES: usize = OUTGOING_BYTES / 4;

/// A client's own requests that wait to be written: the node may be busy and rightly not read for a while.
const CLIENT_OUTGOING_BYTES: usize = 64 * MIB;

/// Longer than any pause that a loaded network or a garbage collector makes.
const STALL: Duration = Duration::from_secs(10);

/// Enough for a handshake over a bad line, too short to hold sockets for nothing.
const HELLO: Duration = Duration::from_secs(5);

/// The bounds of one connection. Start from [`Limits::server`] or [`Limits::client`] and change fields as needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest frame (segment table and body), in bytes, that is received after [`crate::ConnectionHandle::admit`].
    pub frame_bytes: usize,
    /// The same before it: what an unknown peer can make this side hold. At most `frame_bytes`.
    pub frame_bytes_before_hello: usize,
    /// The most segments in one frame.
    pub segments: usize,
    /// How many levels of pointers a decoder follows, the RPC envelope included. Protects the stack.
    pub nesting: i32,
    /// Calls of the peer that are being carried out at the same time. At this number reading pauses: nothing is lost,
    /// and TCP makes the peer wait.
    pub calls_in_flight: usize,
    /// Calls of the peer that are running, or answered while the peer has not said that it is finished with the answer.
    /// No waiting on this side can make these fewer, so beyond this number the connection is dropped.
    pub answers_unfinished: usize,
    /// Capabilities in one received message, and capabilities exported to the peer at the same time.
    pub capabilities: usize,
    /// Bytes that may wait to be written; beyond, the connection is dropped. Must hold the largest frame.
    pub outgoing_bytes: usize,
    /// Bytes waiting to be written at which no further call is taken in until the peer has read some.
    pub outgoing_pause_bytes: usize,
    /// While bytes wait to be written, the peer must take a fair amount of them (64 KiB, or all) in this time.
    pub outgoing_stall: Duration,
    /// From the first byte of a frame to its last.
    pub frame_timeout: Duration,
    /// From the start of the connection to [`crate::ConnectionHandle::admit`]; `None` where nobody is to be admitted.
    pub hello_timeout: Option<Duration>,
}

impl Limits {
    /// For a connection that a node accepts. `value_bytes_max` is the largest value it stores.
    pub fn server(value_bytes_max: usize) -> Self {
        let frame_bytes = FRAME_PER_MESSAGE * LARGEST_BATCH_BYTES.max(value_bytes_max) + ENVELOPE_BYTES;
        Self {
            frame_bytes,
            frame_bytes_before_hello: FRAME_BEFORE_HELLO_BYTES,
            segments: SEGMENTS,
            nesting: NESTING,
            calls_in_flight: CALLS_IN_FLIGHT,
            answers_unfinished: ANSWERS_UNFINISHED,
            capabilities: CAPABILITIES,
            outgoing_bytes: OUTGOING_BYTES + frame_bytes,
            outgoing_pause_bytes: OUTGOING_PAUSE_BYTES,
            outgoing_stall: STALL,
            frame_timeout: STALL,
            hello_timeout: Some(HELLO),
        }
    }

    /// For a connection that this process opens to a node, as a client or as a peer: it chose whom to talk to, so it is
    /// admitted from the start, never pauses its own calls, and may queue more.
    pub fn client(value_bytes_max: usize) -> Self {
        let server = Self::server(value_bytes_max);
        Self {
            frame_bytes_before_hello: server.frame_bytes,
            outgoing_bytes: CLIENT_OUTGOING_BYTES,
            outgoing_pause_bytes: usize::MAX,
            hello_timeout: None,
            ..server
        }
    }
}
