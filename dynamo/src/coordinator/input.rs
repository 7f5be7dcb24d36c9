//! What a coordinator is told: requests, the answers to what it asked, and what changed around it.

use super::{CallId, RequestId};
use crate::{
    layout::{NodeIndex, View},
    operation::{Operation, Reply},
    peer::PeerResult,
    replica::{Minted, WriteOutcome},
    tick::Tick,
};

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client, or a node that forwards for one, asks for an operation.
    Client {
        /// The driver's number for it.
        request: RequestId,
        /// What it asks.
        operation: Operation,
        /// How many nodes have forwarded it already.
        hops: u8,
        /// When it ends, answered or not.
        deadline: Tick,
        /// Now, in milliseconds since 1970.
        now_wall_ms: u64,
    },
    /// The answer to [`super::Effect::LocalRead`].
    LocalRead {
        /// Which.
        call: CallId,
        /// What the snapshot held.
        result: PeerResult,
    },
    /// A version was minted here and is not committed yet: enough to send it to the others, not to acknowledge it.
    Minted {
        /// Which [`super::Effect::LocalWrite`] or [`super::Effect::LocalHint`].
        call: CallId,
        /// The version.
        minted: Minted,
    },
    /// The answer to [`super::Effect::LocalWrite`] or [`super::Effect::LocalHint`], after the commit.
    LocalWrite {
        /// Which.
        call: CallId,
        /// How it ended.
        outcome: WriteOutcome,
    },
    /// What became of an [`super::Effect::Peer`].
    Peer {
        /// Which.
        call: CallId,
        /// How it ended.
        result: PeerCall,
    },
    /// What became of an [`super::Effect::Forward`].
    Forwarded {
        /// Which.
        call: CallId,
        /// The other node's reply, or why there is none.
        result: Result<Reply, ForwardFailed>,
    },
    /// The driver's breaker for a peer opened or closed. Peers count as reachable until it says otherwise.
    PeerState {
        /// Which peer.
        node: NodeIndex,
        /// Whether calls to it make sense now.
        reachable: bool,
    },
    /// A row of this node says, durably, that this is the view of its partition.
    View {
        /// The row's view.
        view: View,
    },
    /// The time of [`super::Coordinator::next_deadline`] has come.
    Deadline,
}

/// What became of a call to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerCall {
    /// The peer answered.
    Answered(PeerResult),
    /// It was not sent: the peer certainly did nothing.
    NotSent,
    /// It was sent and no answer will come: nobody knows what the peer did.
    Lost,
}

/// Why a forwarded operation has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardFailed {
    /// Whether it was sent, so that the other node may have done it.
    pub sent: bool,
}
