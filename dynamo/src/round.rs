//! Rounds: how background repair talks to stores, hash trees, hints and other nodes.
//!
//! [`exchange`](crate::exchange), [`handoff`](crate::handoff) and [`rebuild`](crate::rebuild) are conversations. Each says all
//! that it wants to know next at once, and goes on when every part of it has been answered or given up. So what belongs
//! together travels together, nobody counts answers but the [`steward`](crate::steward), and what can be throttled is a round.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::{
    hint::{HintKey, HintOperation},
    ident::NodeId,
    layout::NodeIndex,
    operation::{ErrorCode, Failure},
    peer::{MoveAnswer, MoveQuestion, PeerAction, PeerOperation, PeerResult, TreeAnswer, TreeQuestion},
    replica::{MoveOperation, WriteOperation, WriteOutcome},
    tick::Tick,
};

/// One thing that is asked. What answers it is named at each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Of another node's hash tree: [`Answer::Tree`].
    Tree {
        /// Whom.
        to: NodeIndex,
        /// What.
        question: TreeQuestion,
    },
    /// Of another node's replica: [`Answer::Peer`].
    Peer {
        /// Whom.
        to: NodeIndex,
        /// What.
        operation: PeerOperation,
    },
    /// Of another node, about a partition that moves: [`Answer::Move`].
    Move {
        /// Whom.
        to: NodeIndex,
        /// What.
        question: MoveQuestion,
    },
    /// How this node's own replica stands with a partition: [`Answer::Move`].
    LocalStanding {
        /// How many bits.
        bits: u8,
        /// Which partition.
        prefix: u32,
    },
    /// To fetch a layout that this node lacks. Answered at once by [`Answer::NotSent`]: what comes of it, comes as the steward's
    /// `Input::Ring`. Of an epoch that is known here, its rows are to be made sure of once more.
    WantLayout {
        /// Which.
        epoch: u64,
    },
    /// Of the hash tree here: [`Answer::Tree`].
    LocalTree {
        /// What.
        question: TreeQuestion,
    },
    /// A `Read` or `Digest` of the store here, from a snapshot: [`Answer::Peer`].
    LocalRead {
        /// What.
        operation: PeerOperation,
    },
    /// Of the store's writer here: [`Answer::Written`] after the commit.
    LocalWrite {
        /// What.
        operation: WriteOperation,
    },
    /// For whom hints are kept here: [`Answer::Targets`].
    HintTargets,
    /// The hints kept here for one node, in their order: [`Answer::Hints`].
    HintScan {
        /// For whom.
        target: NodeId,
        /// Only those after this one.
        after: Option<HintKey>,
        /// At most so many.
        records_max: u32,
        /// At most so many bytes of records, unless the first alone is longer.
        bytes_max: u32,
    },
    /// A change of the hints kept here: [`Answer::Written`] after the commit.
    LocalHint {
        /// What.
        operation: HintOperation,
    },
}

/// What became of an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What a hash tree says.
    Tree(TreeAnswer),
    /// What a replica says.
    Peer(PeerResult),
    /// What a replica says of a partition that moves.
    Move(MoveAnswer),
    /// How a local write ended.
    Written(WriteOutcome),
    /// For whom hints are kept.
    Targets(Vec<HintTarget>),
    /// Hints.
    Hints(HintPage),
    /// It was not sent: nothing was done.
    NotSent,
    /// It was sent and no answer will come: nobody knows what was done.
    Lost,
}

/// Somebody for whom hints are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HintTarget {
    /// Who.
    pub target: NodeId,
    /// How many objects.
    pub objects: u64,
}

/// A hint as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Under what.
    pub key: HintKey,
    /// The object, as a record.
    pub record: Bytes,
}

/// Some of the hints for one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HintPage {
    /// In their order. Those that can't be verified are left out.
    pub hints: Vec<Hint>,
    /// Where to go on; `None` when there are no more.
    pub after: Option<HintKey>,
}

/// How a conversation goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// With a round: at least one ask, at most [`ROUND_ASKS_MAX`].
    Ask(Vec<Ask>),
    /// With nothing before this time.
    Wait(Tick),
    /// It is over.
    End(End),
}

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything was done.
    Complete,
    /// A node could not be reached or was not able to: to be tried again later.
    Failed,
    /// One side's part of the store can't take part until somebody looks after it. Others with the same node are not concerned,
    /// and trying again soon would only keep them waiting.
    Unfit,
}

/// Most asks of one round.
pub const ROUND_ASKS_MAX: usize = 4096;

/// What one ask or answer costs at least, in units of work: a look at a store, a place in a message.
const UNIT: u64 = 1;

/// So many bytes cost as much again.
const UNIT_BYTES: usize = 4096;

impl Ask {
    /// What it costs the node that asks, in units of work, beside its answer.
    pub fn cost(&self) -> u64 {
        match self {
            Self::Tree { .. }
            | Self::Move { .. }
            | Self::LocalTree { .. }
            | Self::LocalRead { .. }
            | Self::LocalHint { .. } => UNIT,
            Self::HintScan { .. } | Self::HintTargets | Self::LocalStanding { .. } | Self::WantLayout { .. } => 0,
            Self::Peer { operation, .. } => match &operation.action {
                PeerAction::Read | PeerAction::Digest | PeerAction::ReadHint => UNIT,
                PeerAction::Merge(record) | PeerAction::Hint { record, .. } => weight(record.len()),
            },
            Self::LocalWrite { operation } => match operation {
                WriteOperation::Merge { record, .. } => weight(record.len()),
                WriteOperation::Rebuild { record, .. } => weight(record.as_ref().map_or(0, Bytes::len)),
                WriteOperation::Move(MoveOperation::Drop { records_max, .. }) => u64::from(*records_max),
                WriteOperation::Mint { .. } | WriteOperation::Reap { .. } | WriteOperation::Move(_) => UNIT,
            },
        }
    }
}

impl Answer {
    /// What it cost beyond its ask.
    pub fn cost(&self) -> u64 {
        /// What a sum and a key take in a message.
        const SUM_BYTES: usize = 16;
        const KEY_BYTES: usize = 64;
        let bytes = match self {
            Self::Tree(TreeAnswer::Children(children)) => children.len() * SUM_BYTES,
            Self::Tree(TreeAnswer::Keys { keys, .. }) => keys.len() * KEY_BYTES,
            Self::Peer(PeerResult::Record(record)) => record.len(),
            Self::Move(MoveAnswer::Range { records, .. }) => {
                records.iter().map(|(_, record)| KEY_BYTES + record.len()).sum()
            }
            Self::Hints(page) => page.hints.iter().map(|hint| hint.record.len()).sum(),
            Self::Tree(TreeAnswer::Sum(_) | TreeAnswer::Stale(_) | TreeAnswer::Failed(_))
            | Self::Peer(
                PeerResult::Digest(_)
                | PeerResult::Absent
                | PeerResult::Stored
                | PeerResult::Stale(_)
                | PeerResult::Corrupt
                | PeerResult::Failed(_),
            )
            | Self::Move(MoveAnswer::Standing(_) | MoveAnswer::Unknown | MoveAnswer::Failed(_))
            | Self::Written(_)
            | Self::Targets(_)
            | Self::NotSent
            | Self::Lost => 0,
        };
        (bytes / UNIT_BYTES) as u64
    }
}

/// How a merge that was sent somewhere ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// It is durable there.
    Stored,
    /// This one object was refused, the next may not be.
    Refused,
    /// There is no room for it.
    Full,
    /// The other side can't or won't now.
    Failed,
}

/// Reads the answer to a merge, local or not.
pub(crate) fn merged(answer: &Answer) -> Merged {
    match answer {
        Answer::Written(WriteOutcome::Stored) | Answer::Peer(PeerResult::Stored) => Merged::Stored,
        Answer::Written(WriteOutcome::Corrupt) | Answer::Peer(PeerResult::Corrupt) => Merged::Refused,
        Answer::Written(WriteOutcome::Refused(failure)) | Answer::Peer(PeerResult::Failed(failure)) => refusal(failure),
        Answer::Written(WriteOutcome::Minted(_) | WriteOutcome::Stale(_) | WriteOutcome::Moved { .. })
        | Answer::Peer(PeerResult::Record(_) | PeerResult::Digest(_) | PeerResult::Absent | PeerResult::Stale(_))
        | Answer::Tree(_)
        | Answer::Move(_)
        | Answer::Targets(_)
        | Answer::Hints(_)
        | Answer::NotSent
        | Answer::Lost => Merged::Failed,
    }
}

/// Whether a failure speaks of the object that was sent or of whoever refused it.
fn refusal(failure: &Failure) -> Merged {
    match failure.code {
        ErrorCode::InvalidRequest | ErrorCode::TooLarge | ErrorCode::TooManySiblings | ErrorCode::Corrupt => {
            Merged::Refused
        }
        ErrorCode::StorageFull => Merged::Full,
        ErrorCode::Internal
        | ErrorCode::Unavailable
        | ErrorCode::QuorumTimeout
        | ErrorCode::Overloaded
        | ErrorCode::Unsupported
        | ErrorCode::Unauthenticated
        | ErrorCode::Forbidden
        | ErrorCode::StaleView
        | ErrorCode::ShuttingDown
        | ErrorCode::WrongCluster => Merged::Failed,
    }
}

fn weight(bytes: usize) -> u64 {
    UNIT + (bytes / UNIT_BYTES) as u64
}
