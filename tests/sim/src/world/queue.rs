//! The one event queue: what happens next, in the order of time and, at the same time, in the order in which it was decided.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use dynamo::{
    acceptor::{Ballot, BallotAnswer},
    coordinator::{CallId, ForwardFailed, PeerCall},
    ident::StoreKey,
    layout::Layout,
    operation::{Operation, Reply},
    peer::{MoveAnswer, MoveQuestion, PeerOperation, TreeAnswer, TreeQuestion},
};

use super::{Mend, deciding::BallotQuestion};
use crate::plan::Fault;

/// Nodes come first, then clients.
pub(super) type Party = usize;

/// What happens.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A message arrives.
    Arrive(Message),
    /// A client begins its next operation.
    Turn(usize),
    /// A client's machine wanted to be woken.
    WakeClient(usize),
    /// A client's attempt to connect ends.
    Dialled { client: usize, node: usize },
    /// A client's connection is given up.
    Broken { client: usize, node: usize },
    /// A node's coordinator or steward wanted to be woken.
    WakeNode { node: usize, incarnation: u64 },
    /// A node's writer looks at what waits.
    Write { node: usize, incarnation: u64 },
    /// The commit of a node's transaction returns.
    Commit { node: usize, incarnation: u64 },
    /// The same for its hints.
    WriteHints { node: usize, incarnation: u64 },
    /// The same for its hints.
    CommitHints { node: usize, incarnation: u64 },
    /// A node's steward is told of records that can't be read.
    Report { node: usize, incarnation: u64 },
    /// A node reads all its records.
    Scrub { node: usize, incarnation: u64 },
    /// A call to a peer has taken too long.
    Overdue { node: usize, incarnation: u64, call: Caller },
    /// A node tries whether a peer that it thinks is away can be reached.
    Probe { node: usize, incarnation: u64, peer: usize },
    /// A node tells another which layout it knows.
    Gossip { node: usize, incarnation: u64 },
    /// A node's steward or coordinator wants a layout.
    WantLayout { node: usize, incarnation: u64, epoch: u64 },
    /// A message that a node could not understand yet is looked at again.
    ServeAgain { node: usize, incarnation: u64, message: Box<Message> },
    /// A node's process starts.
    Start(usize),
    /// An operator looks for a deleted key to remove for good.
    LookToReap,
    /// A node is told to remove a record, if it is still this one.
    Reap { node: usize, store_key: StoreKey, digest: u128 },
    /// A fault strikes, and will strike again.
    Strike(Fault),
    /// A fault ends.
    Mend(Mend),
    /// Nothing; time has come this far.
    Rest,
}

/// Who in a process made a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Caller {
    /// Its coordinator.
    Coordinator(CallId),
    /// Its steward.
    Steward(CallId),
}

/// Something on its way.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) from: Party,
    pub(super) to: Party,
    /// The process that sent a request, or that an answer is for.
    pub(super) incarnation: u64,
    /// Whether another copy is on its way, so that this one's refusal says nothing about the other.
    pub(super) doubled: bool,
    pub(super) body: Body,
}

/// What a message says.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// A client's call.
    Call { call: u64, operations: Vec<Operation>, budget_ms: u64 },
    /// The answer to one.
    Replies { call: u64, replies: Vec<Reply>, epoch: u64 },
    /// A connection was closed by the other side.
    Closed,
    /// What a node asks of another's replica.
    Ask { call: Option<Caller>, operation: PeerOperation },
    /// How that ended.
    Answer { call: Caller, result: PeerCall },
    /// What a node asks of another's hash trees.
    AskTree { call: CallId, question: TreeQuestion },
    /// What those say.
    AnswerTree { call: CallId, answer: TreeAnswer },
    /// What a node's steward asks of another about a partition that moves.
    AskMove { call: CallId, question: MoveQuestion },
    /// What that says.
    AnswerMove { call: CallId, answer: MoveAnswer },
    /// The newest layout of a node.
    Gossip { epoch: u64 },
    /// A node lacks a layout.
    AskLayout { epoch: u64 },
    /// A layout, and the newest that its sender knows.
    Layout { layout: Arc<Layout>, newest: u64 },
    /// An elector is asked.
    Ballot(BallotQuestion),
    /// It answers.
    BallotAnswer { proposing: u64, ballot: Ballot, answer: BallotAnswer },
    /// An operation handed on by a node that does not own its key.
    Forward { call: CallId, operation: Box<Operation>, budget_ms: u64 },
    /// How that ended.
    Forwarded { call: CallId, result: Box<Result<Reply, ForwardFailed>> },
}

/// An event with its place in the order.
#[derive(Debug)]
struct Due {
    at_us: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at_us, self.number) == (other.at_us, other.number)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    due: BinaryHeap<Reverse<Due>>,
    pushed: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at_us: u64, event: Event) {
        self.pushed += 1;
        self.due.push(Reverse(Due { at_us, number: self.pushed, event }));
    }

    /// Whether a message about a key is on its way.
    pub(super) fn mentions(&self, store_key: &StoreKey) -> bool {
        self.due.iter().any(|Reverse(due)| match &due.event {
            Event::Arrive(message) => message.body.is_about(store_key),
            Event::ServeAgain { message, .. } => message.body.is_about(store_key),
            _ => false,
        })
    }

    pub(super) fn pop(&mut self) -> Option<(u64, Event)> {
        self.due.pop().map(|Reverse(due)| (due.at_us, due.event))
    }
}

impl Event {
    /// A number that tells kinds of events apart in the trace, and whom it concerns.
    pub(super) fn code(&self) -> (u64, u64) {
        match self {
            Self::Arrive(message) => (1 + message.body.code(), (message.from as u64) << 8 | message.to as u64),
            Self::Turn(client) => (20, *client as u64),
            Self::WakeClient(client) => (21, *client as u64),
            Self::Dialled { client, node } => (22, (*client as u64) << 8 | *node as u64),
            Self::Broken { client, node } => (36, (*client as u64) << 8 | *node as u64),
            Self::WakeNode { node, .. } => (23, *node as u64),
            Self::Write { node, .. } => (24, *node as u64),
            Self::Commit { node, .. } => (25, *node as u64),
            Self::WriteHints { node, .. } => (31, *node as u64),
            Self::CommitHints { node, .. } => (32, *node as u64),
            Self::Report { node, .. } => (33, *node as u64),
            Self::Scrub { node, .. } => (34, *node as u64),
            Self::Overdue { node, .. } => (26, *node as u64),
            Self::Gossip { node, .. } => (39, *node as u64),
            Self::WantLayout { node, epoch, .. } => (41, epoch << 8 | *node as u64),
            Self::ServeAgain { node, .. } => (40, *node as u64),
            Self::Probe { node, peer, .. } => (27, (*node as u64) << 8 | *peer as u64),
            Self::Start(node) => (28, *node as u64),
            Self::Strike(fault) => (29, *fault as u64),
            Self::Mend(_) => (30, 0),
            Self::Rest => (35, 0),
            Self::LookToReap => (37, 0),
            Self::Reap { node, .. } => (38, *node as u64),
        }
    }

    /// The node in whose process this happens: it waits while that process stands still.
    pub(super) fn node(&self, nodes: usize) -> Option<usize> {
        match self {
            Self::Arrive(message) if message.to < nodes => Some(message.to),
            Self::WakeNode { node, .. }
            | Self::Write { node, .. }
            | Self::Commit { node, .. }
            | Self::WriteHints { node, .. }
            | Self::CommitHints { node, .. }
            | Self::Report { node, .. }
            | Self::Scrub { node, .. }
            | Self::Overdue { node, .. }
            | Self::Probe { node, .. }
            | Self::Gossip { node, .. }
            | Self::WantLayout { node, .. }
            | Self::ServeAgain { node, .. } => Some(*node),
            Self::Arrive(_)
            | Self::Turn(_)
            | Self::WakeClient(_)
            | Self::Dialled { .. }
            | Self::Broken { .. }
            | Self::Start(_)
            | Self::Strike(_)
            | Self::Mend(_)
            | Self::LookToReap
            | Self::Reap { .. }
            | Self::Rest => None,
        }
    }
}

impl Body {
    /// Whether it may be about a key; answers do not say.
    fn is_about(&self, store_key: &StoreKey) -> bool {
        match self {
            Self::Call { operations, .. } => operations.iter().any(|one| one.address.store_key == *store_key),
            Self::Ask { operation, .. } => operation.store_key == *store_key,
            Self::Forward { operation, .. } => operation.address.store_key == *store_key,
            Self::Answer { .. } | Self::Forwarded { .. } | Self::Replies { .. } => true,
            Self::Closed
            | Self::AskTree { .. }
            | Self::AnswerTree { .. }
            | Self::AskMove { .. }
            | Self::Gossip { .. }
            | Self::AskLayout { .. }
            | Self::Layout { .. }
            | Self::Ballot(_)
            | Self::BallotAnswer { .. } => false,
            Self::AnswerMove { answer, .. } => matches!(answer, MoveAnswer::Range { .. }),
        }
    }

    fn code(&self) -> u64 {
        match self {
            Self::Call { .. } => 0,
            Self::Replies { .. } => 1,
            Self::Closed => 2,
            Self::Ask { .. } => 3,
            Self::Answer { .. } => 4,
            Self::Forward { .. } => 5,
            Self::Forwarded { .. } => 6,
            Self::AskTree { .. } => 7,
            Self::AnswerTree { .. } => 8,
            Self::AskMove { .. } => 9,
            Self::AnswerMove { .. } => 10,
            Self::Gossip { .. } => 11,
            Self::AskLayout { .. } => 12,
            Self::Layout { .. } => 13,
            Self::Ballot(_) => 14,
            Self::BallotAnswer { .. } => 15,
        }
    }
}
