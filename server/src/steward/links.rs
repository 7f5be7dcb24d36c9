//! The steward's own connections to the other nodes: foreground and bulk never share one. What leaves for one node leaves in
//! few large calls, tree questions of all conversations together, operations of one round together; while there is no
//! connection nothing is sent.

use std::{collections::VecDeque, mem, rc::Rc, time::Duration};

use dynamo::{
    coordinator::CallId,
    layout::NodeIndex,
    operation::Failure,
    peer::{MoveAnswer, MoveAsk, MoveQuestion, PeerOperation, PeerResult, TreeAnswer, TreeQuestion},
    round::Answer,
    steward::{Input, round_of},
};
use schema::convert::{
    BATCH_BYTES_MAX, RequestHeader, Role, decode_move_answers, decode_peer_results, decode_positions,
    decode_tree_answers, encode_move_questions, encode_peer_operations, encode_tree_questions, peer_operation_bytes,
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{Driver, local::Answered};
use crate::worker::{
    Capabilities,
    dialling::{self, NoLine},
};

/// Questions or operations of one call: what a peer's worker answers between two calls of its clients.
const CALL_ITEMS_MAX: usize = 128;

/// Calls in flight to one node: one travels while another is answered, and its clients' calls find a gap between them.
const CALLS_IN_FLIGHT_MAX: usize = 4;

/// After this a call counts as lost. Nobody waits for it but the steward, and a busy node may take its time.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// From the first packet to the node's answer to our introduction.
const INTRODUCTION_TIMEOUT: Duration = Duration::from_secs(1);

/// How often an idle connection is tried out, and how long that may take.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// The first and the longest wait before another attempt to connect.
const WAIT_MIN_MS: u64 = 100;
const WAIT_MAX_MS: u64 = 1_600;

/// The links to all nodes, by their places in the ring.
#[derive(Default)]
pub(super) struct Links {
    links: Vec<Link>,
    unsent: Vec<CallId>,
}

#[derive(Default)]
struct Link {
    /// What the node lets this one use, while there is a connection.
    line: Option<Capabilities>,
    questions: VecDeque<(CallId, TreeQuestion)>,
    operations: VecDeque<(CallId, PeerOperation)>,
    movements: VecDeque<(CallId, MoveQuestion)>,
    in_flight: usize,
    /// Tells whoever makes connections that the node is alive.
    heard: Rc<Notify>,
    /// Tells whoever keeps the connection to give it up.
    broken: Rc<Notify>,
}

/// A call that leaves.
pub(super) enum Outgoing {
    /// For the node's hash trees.
    Questions(NodeIndex, Capabilities, Vec<(CallId, TreeQuestion)>),
    /// For its replica.
    Operations(NodeIndex, Capabilities, Vec<(CallId, PeerOperation)>),
    /// About partitions that move.
    Movements(NodeIndex, Capabilities, Vec<(CallId, MoveQuestion)>),
}

impl Links {
    /// Makes room for so many places; those of nodes that have left stay, without a connection.
    pub(super) fn grow(&mut self, places: usize) {
        let places = places.max(self.links.len());
        self.links.resize_with(places, Link::default);
    }

    /// Lets a question leave with the next call; `false` if there is no connection.
    pub(super) fn question(&mut self, to: NodeIndex, call: CallId, question: TreeQuestion) -> bool {
        let Some(link) = self.link(to).filter(|link| link.line.is_some()) else { return false };
        link.questions.push_back((call, question));
        true
    }

    /// Lets an operation leave with the next call; `false` if there is no connection.
    pub(super) fn operation(&mut self, to: NodeIndex, call: CallId, operation: PeerOperation) -> bool {
        let Some(link) = self.link(to).filter(|link| link.line.is_some()) else { return false };
        link.operations.push_back((call, operation));
        true
    }

    /// Lets a question about a partition that moves leave with the next call; `false` if there is no connection.
    pub(super) fn movement(&mut self, to: NodeIndex, call: CallId, question: MoveQuestion) -> bool {
        let Some(link) = self.link(to).filter(|link| link.line.is_some()) else { return false };
        link.movements.push_back((call, question));
        true
    }

    /// The calls that can leave now.
    pub(super) fn depart(&mut self, departures: &mut Vec<Outgoing>) {
        for (to, link) in (0..).map(NodeIndex).zip(&mut self.links) {
            let Some(line) = &link.line else { continue };
            while link.in_flight < CALLS_IN_FLIGHT_MAX {
                let departure = if !link.questions.is_empty() {
                    let count = link.questions.len().min(CALL_ITEMS_MAX);
                    Outgoing::Questions(to, line.clone(), link.questions.drain(..count).collect())
                } else if !link.operations.is_empty() {
                    let count = operations_of_a_call(&link.operations);
                    Outgoing::Operations(to, line.clone(), link.operations.drain(..count).collect())
                } else if !link.movements.is_empty() {
                    let count = movements_of_a_call(&link.movements);
                    Outgoing::Movements(to, line.clone(), link.movements.drain(..count).collect())
                } else {
                    break;
                };
                link.in_flight += 1;
                departures.push(departure);
            }
        }
    }

    /// What was given up since the last time.
    pub(super) fn take_unsent(&mut self) -> Vec<CallId> {
        mem::take(&mut self.unsent)
    }

    /// A node is alive.
    pub(super) fn heard(&mut self, node: NodeIndex) {
        if let Some(link) = self.link(node).filter(|link| link.line.is_none()) {
            link.heard.notify_one();
        }
    }

    fn up(&mut self, node: NodeIndex, line: Capabilities) {
        if let Some(link) = self.link(node) {
            (link.line, link.in_flight) = (Some(line), 0);
        }
    }

    pub(super) fn down(&mut self, node: NodeIndex) {
        let Some(link) = self.link(node) else { return };
        link.line = None;
        let questions = mem::take(&mut link.questions).into_iter().map(|(call, _)| call);
        let operations = mem::take(&mut link.operations).into_iter().map(|(call, _)| call);
        let movements = mem::take(&mut link.movements).into_iter().map(|(call, _)| call);
        let unsent: Vec<CallId> = questions.chain(operations).chain(movements).collect();
        self.unsent.extend(unsent);
    }

    /// A call has ended; `is_timeout` if by silence.
    fn arrived(&mut self, node: NodeIndex, is_timeout: bool) {
        if let Some(link) = self.link(node) {
            link.in_flight = link.in_flight.saturating_sub(1);
            if is_timeout {
                link.broken.notify_one();
            }
        }
    }

    fn link(&mut self, node: NodeIndex) -> Option<&mut Link> {
        self.links.get_mut(usize::from(node.0))
    }
}

/// How many of the waiting operations the next call takes: those of one round, because what one call may read is bounded.
fn operations_of_a_call(waiting: &VecDeque<(CallId, PeerOperation)>) -> usize {
    let Some((first, _)) = waiting.front() else { return 0 };
    let mut bytes = 0;
    let fits = |(at, (call, operation)): &(usize, &(CallId, PeerOperation))| {
        bytes += peer_operation_bytes(operation);
        *at == 0 || (bytes <= BATCH_BYTES_MAX && round_of(*call) == round_of(*first))
    };
    waiting.iter().enumerate().take(CALL_ITEMS_MAX).take_while(fits).count()
}

/// How many of the waiting questions the next call takes: at most one of them for records, because what one call may bring is bounded.
fn movements_of_a_call(waiting: &VecDeque<(CallId, MoveQuestion)>) -> usize {
    let mut has_range = false;
    let fits = |(_, question): &&(CallId, MoveQuestion)| {
        let is_range = matches!(question.ask, MoveAsk::Range { .. });
        let fits = !(is_range && has_range);
        has_range |= is_range;
        fits
    };
    waiting.iter().take(CALL_ITEMS_MAX).take_while(fits).count()
}

impl Outgoing {
    /// Makes the call and tells how it ended.
    pub(super) async fn travel(self, driver: Rc<Driver>) {
        match self {
            Self::Questions(to, line, items) => ask(driver, to, &line, items).await,
            Self::Operations(to, line, items) => operate(driver, to, &line, items).await,
            Self::Movements(to, line, items) => ask_to_move(driver, to, &line, items).await,
        }
    }
}

async fn ask(driver: Rc<Driver>, to: NodeIndex, line: &Capabilities, items: Vec<(CallId, TreeQuestion)>) {
    let mut request = line.peer.tree_request();
    let mut wire = request.get().init_request();
    header(&driver).encode(wire.reborrow().init_header());
    encode_tree_questions(wire.init_questions(items.len() as u32), items.iter().map(|(_, question)| question));
    let asked = bytes(request.get().reborrow_as_reader().total_size());
    let (reply, count) = (request.send().promise, items.len());
    let calls = items.into_iter().map(|(call, _)| call).collect();
    let read = async {
        let response = reply.await?;
        let reply = response.get()?.get_reply()?;
        driver.count(|traffic| {
            traffic.tree_calls += 1;
            traffic.tree_bytes += asked + bytes(reply.total_size());
        });
        hear_positions(&driver, to, line, reply.get_positions());
        Ok(decode_tree_answers(reply.get_answers()?, count))
    };
    let answer = |answer: Result<TreeAnswer, Failure>| Answer::Tree(answer.unwrap_or_else(TreeAnswer::Failed));
    conclude(&driver, to, calls, read, answer).await;
}

async fn operate(driver: Rc<Driver>, to: NodeIndex, line: &Capabilities, items: Vec<(CallId, PeerOperation)>) {
    let mut request = line.peer.execute_request();
    let mut wire = request.get().init_request();
    header(&driver).encode(wire.reborrow().init_header());
    encode_peer_operations(wire.init_operations(items.len() as u32), items.iter().map(|(_, operation)| operation));
    let asked = bytes(request.get().reborrow_as_reader().total_size());
    let (reply, count, record_bytes_max) = (request.send().promise, items.len(), driver.node.record_bytes_max());
    let calls = items.into_iter().map(|(call, _)| call).collect();
    let read = async {
        let response = reply.await?;
        let reply = response.get()?.get_reply()?;
        driver.count(|traffic| {
            traffic.object_calls += 1;
            traffic.object_bytes += asked + bytes(reply.total_size());
        });
        hear_positions(&driver, to, line, reply.get_positions());
        Ok(decode_peer_results(reply.get_results()?, count, record_bytes_max))
    };
    let answer = |result: Result<PeerResult, Failure>| Answer::Peer(result.unwrap_or_else(PeerResult::Failed));
    conclude(&driver, to, calls, read, answer).await;
}

async fn ask_to_move(driver: Rc<Driver>, to: NodeIndex, line: &Capabilities, items: Vec<(CallId, MoveQuestion)>) {
    let mut request = line.peer.move_request();
    let mut wire = request.get().init_request();
    header(&driver).encode(wire.reborrow().init_header());
    encode_move_questions(wire.init_questions(items.len() as u32), items.iter().map(|(_, question)| question));
    let asked = bytes(request.get().reborrow_as_reader().total_size());
    let (reply, count, record_bytes_max) = (request.send().promise, items.len(), driver.node.record_bytes_max());
    let calls = items.into_iter().map(|(call, _)| call).collect();
    let read = async {
        let response = reply.await?;
        let reply = response.get()?.get_reply()?;
        driver.count(|traffic| {
            traffic.object_calls += 1;
            traffic.object_bytes += asked + bytes(reply.total_size());
        });
        hear_positions(&driver, to, line, reply.get_positions());
        Ok(decode_move_answers(reply.get_answers()?, count, record_bytes_max))
    };
    let answer = |answer: Result<MoveAnswer, Failure>| Answer::Move(answer.unwrap_or_else(MoveAnswer::Failed));
    conclude(&driver, to, calls, read, answer).await;
}

/// Remembers how far the other node's store is. What can't be read of it is not remembered; the rest is no worse for it.
fn hear_positions(
    driver: &Driver,
    to: NodeIndex,
    line: &Capabilities,
    positions: capnp::Result<capnp::primitive_list::Reader<'_, u64>>,
) {
    driver.node.hear_positions(
        &driver.node.known(),
        to,
        line.process,
        &decode_positions(positions).unwrap_or_default(),
    );
}

/// The size of a message.
fn bytes(size: capnp::Result<capnp::MessageSize>) -> u64 {
    size.map_or(0, |size| 8 * size.word_count)
}

fn header(driver: &Driver) -> RequestHeader {
    let budget_ms = u32::try_from(CALL_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    RequestHeader { epoch: driver.node.ring().epoch(), budget_ms, traceparent: None, hops: 0 }
}

/// Waits for a reply and tells the machine what it says of each call.
async fn conclude<T>(
    driver: &Rc<Driver>,
    to: NodeIndex,
    calls: Vec<CallId>,
    read: impl Future<Output = Result<Result<Vec<T>, Failure>, capnp::Error>>,
    answer: impl Fn(Result<T, Failure>) -> Answer,
) {
    let result = timeout(CALL_TIMEOUT, read).await;
    driver.change_links(|links| links.arrived(to, result.is_err()));
    let answers: Vec<Answered> = match result {
        Ok(Ok(Ok(results))) => calls.into_iter().zip(results.into_iter().map(|result| answer(Ok(result)))).collect(),
        Ok(Ok(Err(failure))) => calls.into_iter().map(|call| (call, answer(Err(failure.clone())))).collect(),
        Ok(Err(_)) | Err(_) => calls.into_iter().map(|call| (call, Answer::Lost)).collect(),
    };
    driver.answered(answers);
}

/// Keeps the connection to a node, for ever.
pub(super) async fn keep(driver: Rc<Driver>, to: NodeIndex) {
    let (heard, broken) = driver.change_links(|links| {
        let link = &links.links[usize::from(to.0)];
        (Rc::clone(&link.heard), Rc::clone(&link.broken))
    });
    let mut failures = 0;
    loop {
        let attempt = timeout(INTRODUCTION_TIMEOUT, dialling::open(&driver.node, to, Role::PeerBulk));
        match attempt.await.unwrap_or(Err(NoLine::Silent)) {
            Ok(line) => {
                failures = 0;
                driver.change_links(|links| links.up(to, line.capabilities.clone()));
                driver.tell([Input::PeerState { node: to, reachable: true }]);
                watch(&line, &broken).await;
                driver.change_links(|links| links.down(to));
                driver.tell([Input::PeerState { node: to, reachable: false }]);
            }
            Err(no_line) => tracing::debug!(peer = to.0, why = no_line.explain().1, "no connection for repairs"),
        }
        let wait_ms = (WAIT_MIN_MS << failures.min(8)).min(WAIT_MAX_MS);
        failures += 1;
        tokio::select! {
            () = sleep(Duration::from_millis(wait_ms / 2 + dialling::jitter() % (wait_ms / 2 + 1))) => {}
            () = heard.notified() => {}
        }
    }
}

/// Waits until a connection has ended or is to be given up.
async fn watch(line: &dialling::Line, broken: &Notify) {
    loop {
        tokio::select! {
            _ = line.connection.closed() => return,
            () = broken.notified() => return,
            () = sleep(PING_EVERY) => {
                if timeout(PING_TIMEOUT, line.node.ping_request().send().promise).await.is_err() {
                    return;
                }
            }
        }
    }
}
