//! What a coordinator wants done: reads and writes here, calls to others, replies.

use alloc::boxed::Box;

use super::{CallId, RequestId};
use crate::{
    hint::HintOperation,
    layout::NodeIndex,
    operation::{Operation, Reply},
    peer::PeerOperation,
    replica::WriteOperation,
    tick::Tick,
};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read here, from a snapshot, on the calling worker; answered by [`super::Input::LocalRead`].
    LocalRead {
        /// Comes back with the answer.
        call: CallId,
        /// A `Read` or `Digest` of the record, or a `ReadHint` of what this node keeps for its owners.
        operation: PeerOperation,
    },
    /// Hand to the store's writer; answered by [`super::Input::Minted`] (for a mint, as soon as it is made) and
    /// [`super::Input::LocalWrite`] (after the commit).
    LocalWrite {
        /// Comes back with the answers; `None` for a repair nobody waits for.
        call: Option<CallId>,
        /// What to write.
        operation: WriteOperation,
    },
    /// Hand to the writer of this node's hints; answered like [`Effect::LocalWrite`].
    LocalHint {
        /// Comes back with the answers; `None` for a hint nobody waits for.
        call: Option<CallId>,
        /// What to keep.
        operation: HintOperation,
    },
    /// Send to a peer; answered by [`super::Input::Peer`]. The driver groups what leaves together by peer.
    Peer {
        /// To whom.
        to: NodeIndex,
        /// Comes back with the answer; `None` for a repair nobody waits for, to be dropped first under pressure.
        call: Option<CallId>,
        /// What to ask.
        operation: PeerOperation,
    },
    /// Ask another node's `Kv` with one hop more: this node is no owner of the key. Answered by [`super::Input::Forwarded`].
    Forward {
        /// Comes back with the answer.
        call: CallId,
        /// To whom.
        to: NodeIndex,
        /// What to ask.
        operation: Box<Operation>,
        /// When it ends.
        deadline: Tick,
    },
    /// Fetch the layout of this epoch from whoever has it: an operation needs it, or somebody told of it. What comes of it is told by
    /// [`super::Coordinator::set_ring`].
    WantLayout {
        /// Which.
        epoch: u64,
    },
    /// Tell the client. Every [`super::Input::Client`] has exactly one, at its deadline at the latest.
    Reply {
        /// Which request.
        request: RequestId,
        /// How it ended.
        reply: Reply,
    },
}
