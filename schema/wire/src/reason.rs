//! Why a connection ended. `capnp-rpc` only ever learns that it did; this is what logs and tests look at.

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    /// The other side hung up between two frames.
    #[error("the other side closed the connection")]
    PeerClosed,
    /// This side closed it.
    #[error("closed by this side")]
    Closed,
    /// The connection broke: a reset, or an end in the middle of a frame.
    #[error("the connection broke")]
    Broken,
    /// The other side announced a frame above the limit.
    #[error("a frame of {bytes} bytes is above the limit of {limit}")]
    FrameTooLarge {
        /// What was announced.
        bytes: u64,
        /// What is allowed now.
        limit: u64,
    },
    /// The other side announced too many segments.
    #[error("a frame of {segments} segments is above the limit of {limit}")]
    TooManySegments {
        /// What was announced.
        segments: u64,
        /// What is allowed.
        limit: u64,
    },
    /// What arrived is no Cap'n Proto RPC message.
    #[error("the bytes are not a Cap'n Proto RPC message")]
    Malformed,
    /// A frame did not arrive whole in time.
    #[error("a frame did not arrive whole within its time")]
    FrameTimeout,
    /// The other side did not read.
    #[error("the other side does not read what was sent")]
    Stalled,
    /// The other side let too many answered calls stand without finishing them.
    #[error("too many answered calls were never finished")]
    TooManyAnswers,
    /// The other side did not say hello in time.
    #[error("the other side did not say hello in time")]
    HelloTimeout,
    /// A handler panicked: a bug on this side.
    #[error("a handler panicked: {detail}")]
    Panicked {
        /// What the panic said.
        detail: String,
    },
}
