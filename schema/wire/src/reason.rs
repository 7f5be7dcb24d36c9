//! Why a connection ended, as a value that the owner of the connection can count, log and act upon. The RPC layer above
//! only ever learns that the peer is gone.

use std::io;
use std::time::Duration;

/// The first thing that made a connection unusable. Later causes are consequences and are not kept.
///
/// For calls that were on their way when the connection ended, it is unknown whether they were carried out, except that
/// the peer has not seen the bytes of a call that were never written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// This side closed it, see [`crate::ConnectionHandle::close`].
    #[error("closed by this side")]
    Closed,
    /// The peer ended the stream between two frames, or said goodbye.
    #[error("closed by the peer")]
    PeerClosed,
    /// The peer ended the stream in the middle of a frame.
    #[error("the peer ended the stream inside a frame")]
    PeerClosedInFrame,
    /// The operating system reported an error on the socket.
    #[error("socket: {detail}")]
    Socket {
        /// The kind of the error.
        kind: io::ErrorKind,
        /// Its text.
        detail: String,
    },
    /// A segment table announced more than this connection may receive.
    #[error("a frame of {announced_bytes} bytes was announced, the limit is {limit_bytes}")]
    FrameTooLarge {
        /// What the segment table adds up to.
        announced_bytes: u64,
        /// The limit that held at that moment.
        limit_bytes: usize,
    },
    /// A segment table announced more segments than allowed.
    #[error("a frame of {announced} segments was announced, the limit is {limit}")]
    TooManySegments {
        /// The announced number.
        announced: u64,
        /// The limit.
        limit: usize,
    },
    /// The bytes of a frame are not a Cap'n Proto RPC message.
    #[error("not an RPC message: {detail}")]
    Malformed {
        /// What the decoder said.
        detail: String,
    },
    /// A frame was not complete in time.
    #[error("a frame was not complete {limit:?} after its first byte")]
    FrameTimeout {
        /// The limit.
        limit: Duration,
    },
    /// The peer does not read: nothing, or next to nothing, could be written for too long.
    #[error("the peer took too little of what waited for it in {limit:?}")]
    OutgoingStalled {
        /// The limit.
        limit: Duration,
    },
    /// The peer reads too slowly: more waits to be sent than this side is willing to hold.
    #[error("{queued_bytes} bytes wait to be read by the peer, the limit is {limit_bytes}")]
    OutgoingOverflow {
        /// Bytes that waited when the limit was passed.
        queued_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The peer holds more answers than allowed without saying that it is finished with them.
    #[error("{answers} calls are unfinished, the limit is {limit}")]
    TooManyAnswers {
        /// Unfinished calls.
        answers: usize,
        /// The limit.
        limit: usize,
    },
    /// One message carries more capabilities than allowed, or this side exports more to the peer than allowed.
    #[error("{count} capabilities, the limit is {limit}")]
    TooManyCapabilities {
        /// How many there would be.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The peer did not authenticate in time.
    #[error("the peer was not admitted within {limit:?}")]
    HelloTimeout {
        /// The limit.
        limit: Duration,
    },
    /// The RPC layer refused what the peer sent, or the peer aborted the connection with an error.
    #[error("RPC protocol: {detail}")]
    Protocol {
        /// What was wrong.
        detail: String,
    },
    /// Code that served this connection panicked. Other connections are not affected.
    #[error("a panic while serving the connection: {detail}")]
    Panicked {
        /// The message of the panic.
        detail: String,
    },
}

impl Reason {
    /// Whether what is queued for the peer is still worth sending: an orderly end, or an error that the peer should
    /// hear about. Otherwise the peer does not read, or is gone.
    pub(crate) fn lets_queue_drain(&self) -> bool {
        match self {
            Self::Closed
            | Self::PeerClosed
            | Self::PeerClosedInFrame
            | Self::FrameTooLarge { .. }
            | Self::TooManySegments { .. }
            | Self::Malformed { .. }
            | Self::FrameTimeout { .. }
            | Self::TooManyAnswers { .. }
            | Self::TooManyCapabilities { .. }
            | Self::HelloTimeout { .. }
            | Self::Protocol { .. }
            | Self::Panicked { .. } => true,
            Self::Socket { .. } | Self::OutgoingStalled { .. } | Self::OutgoingOverflow { .. } => false,
        }
    }

    /// What pending calls on the connection fail with: always `Disconnected`, so that `capnp-rpc` treats it as an end
    /// of the connection and not as an error to print.
    pub(crate) fn to_rpc_error(&self) -> capnp::Error {
        capnp::Error::disconnected(format!("connection lost: {self}"))
    }
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        Self::Socket { kind: error.kind(), detail: error.to_string() }
    }
}

impl From<capnp::Error> for Reason {
    fn from(error: capnp::Error) -> Self {
        Self::Malformed { detail: error.to_string() }
    }
}
