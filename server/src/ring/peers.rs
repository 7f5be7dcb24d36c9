//! Other nodes, asked about the ring: for layouts that were agreed upon and for staged changes. Seldom, so the connections are
//! made when they are needed and closed with the [`Peers`] that made them; they belong to the thread that asks.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use dynamo::{
    acceptor::BallotAnswer,
    ident::NodeId,
    layout::Member,
    operation::{ErrorCode, Failure},
};
use schema::convert::{
    BallotRequest, LayoutPiece, LayoutRequest, RequestHeader, Role, StageReply, decode_ballot_answer, encode_stage,
};
use tokio::time::timeout;

use super::fetching::Source;
use crate::{
    node::Node,
    worker::dialling::{Line, NoLine, open_to},
};

/// From the first packet to the node's answer to our introduction: as for any connection between nodes.
const INTRODUCTION_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an answer may take: some flushes of a busy disk, and a megabyte over a slow line.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections of one thread for questions about the ring.
pub(crate) struct Peers {
    node: Arc<Node>,
    lines: RefCell<BTreeMap<NodeId, Rc<Line>>>,
}

impl Peers {
    /// Without connections as yet.
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node, lines: RefCell::default() }
    }

    /// Closes all connections.
    pub(crate) fn hang_up(&self) {
        self.lines.borrow_mut().clear();
    }

    /// A node that is asked for layouts.
    pub(crate) fn source<'a>(
        &'a self,
        member: &'a Member,
    ) -> Source<'a, impl AsyncFn(LayoutRequest) -> Result<LayoutPiece, Failure>> {
        let ask = async move |question| self.layout(member, question).await;
        Source { name: &member.name, ask, fetches: &self.node.fetches }
    }

    /// A piece of a layout that was agreed upon.
    pub(crate) async fn layout(&self, to: &Member, question: LayoutRequest) -> Result<LayoutPiece, Failure> {
        let line = self.line(to).await?;
        let mut request = line.capabilities.peer.layout_request();
        question.encode(&self.header(), request.get().init_request());
        let reply = self.reply(to, request.send().promise).await?;
        let reply = reply.get().and_then(|reply| reply.get_reply()).map_err(|error| self.lost(to, &error))?;
        LayoutPiece::decode(reply)
    }

    /// Joins staged changes with another node's; the reply has the join.
    pub(crate) async fn stage(&self, to: &Member, changes: &[u8]) -> Result<StageReply, Failure> {
        let line = self.line(to).await?;
        let mut request = line.capabilities.peer.stage_request();
        encode_stage(&self.header(), changes, request.get().init_request());
        let reply = self.reply(to, request.send().promise).await?;
        let reply = reply.get().and_then(|reply| reply.get_reply()).map_err(|error| self.lost(to, &error))?;
        StageReply::decode(reply)
    }

    /// Asks an elector for a promise, or to accept a layout.
    pub(crate) async fn vote(&self, to: &Member, question: &BallotRequest) -> Result<BallotAnswer, Failure> {
        let line = self.line(to).await?;
        if question.layout.is_some() {
            let mut request = line.capabilities.peer.accept_request();
            question.encode_accept(&self.header(), request.get().init_request());
            let reply = self.reply(to, request.send().promise).await?;
            let reply = reply.get().and_then(|reply| reply.get_reply()).map_err(|error| self.lost(to, &error))?;
            return decode_ballot_answer(reply);
        }
        let mut request = line.capabilities.peer.prepare_request();
        question.encode_prepare(&self.header(), request.get().init_request());
        let reply = self.reply(to, request.send().promise).await?;
        let reply = reply.get().and_then(|reply| reply.get_reply()).map_err(|error| self.lost(to, &error))?;
        decode_ballot_answer(reply)
    }

    /// The connection to a node; another one if the last has ended.
    async fn line(&self, to: &Member) -> Result<Rc<Line>, Failure> {
        let known = self.lines.borrow().get(&to.id).map(Rc::clone);
        if let Some(line) = known {
            return Ok(line);
        }
        let opened = timeout(INTRODUCTION_TIMEOUT, open_to(&self.node, to, Role::PeerBulk)).await;
        let line = Rc::new(opened.unwrap_or(Err(NoLine::Silent)).map_err(|no_line| unreachable(to, &no_line))?);
        self.lines.borrow_mut().insert(to.id, Rc::clone(&line));
        Ok(line)
    }

    /// Waits for an answer. A connection on which none came is given up.
    async fn reply<R>(&self, to: &Member, promise: capnp::capability::Promise<R, capnp::Error>) -> Result<R, Failure> {
        match timeout(CALL_TIMEOUT, promise).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(self.lost(to, &error)),
            Err(_) => {
                self.lines.borrow_mut().remove(&to.id);
                Err(unanswered(to, "it does not answer"))
            }
        }
    }

    fn lost(&self, to: &Member, error: &capnp::Error) -> Failure {
        self.lines.borrow_mut().remove(&to.id);
        unanswered(to, &error.to_string())
    }

    fn header(&self) -> RequestHeader {
        let budget_ms = u32::try_from(CALL_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
        RequestHeader { epoch: self.node.ring().epoch(), budget_ms, ..RequestHeader::default() }
    }
}

/// There is no connection: certainly nothing was done.
fn unreachable(to: &Member, no_line: &NoLine) -> Failure {
    let why = match no_line {
        NoLine::Refused(why) => why,
        NoLine::Silent => "no answer in time",
        NoLine::Unwelcome(failure) | NoLine::Unworthy(failure) => &failure.message,
    };
    let message = format!("node {} can't be reached: {why}; it was not asked", to.name);
    Failure { retryable: true, ..Failure::with_message(ErrorCode::Unavailable, message) }
}

/// It was asked, and nobody knows what it did.
fn unanswered(to: &Member, why: &str) -> Failure {
    let message =
        format!("node {} was asked and gave no answer: {why}; it may have done it, and may be asked again", to.name);
    Failure { retryable: true, maybe_applied: true, ..Failure::with_message(ErrorCode::Unavailable, message) }
}
