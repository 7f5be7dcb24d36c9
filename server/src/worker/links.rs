//! What one worker sends to the other nodes: an outbox and a breaker for each, and the calls that leave. Whether an operation
//! was certainly not sent or may have been is decided here: what never left the outbox was not sent; what was part of a call
//! that has no answer is lost, and nobody knows what became of it.
//!
//! Making and keeping the connections is the business of [`super::dialling`].

use std::{rc::Rc, time::Instant};

use capnp::capability::Promise;
use dynamo::{
    coordinator::{CallId, ForwardFailed, Input, PeerCall},
    layout::NodeIndex,
    operation::{Failure, Operation, Reply},
    peer::{PeerOperation, PeerResult},
    tick::Tick,
};
use schema::{
    convert::{
        RequestHeader, decode_peer_results, decode_replies, encode_operations, encode_peer_operations, operation_bytes,
        peer_operation_bytes,
    },
    kv_capnp::kv,
    peer_capnp::peer,
};
use tokio::{
    sync::Notify,
    time::{Duration, timeout},
};

use super::{
    Driver,
    breaker::{Breaker, Trouble},
    outbox::{Departure, Outbox, Urgency, Waiting},
};

/// After this a call counts as timed out, whatever its operations' deadlines: longer than a slow disk's flush under load,
/// shorter than a client's patience with three tries.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks another node's replica; comes back with the answer, unless it is a repair.
type Ask = (Option<CallId>, PeerOperation);

/// Asks another node's coordinator.
type Forward = (CallId, Operation);

/// A node's capabilities on this worker's connection to it.
#[derive(Clone)]
pub(super) struct Capabilities {
    pub(super) kv: kv::Client,
    pub(super) peer: peer::Client,
}

/// The links of one worker to all nodes.
pub(super) struct Links {
    links: Vec<Link>,
    /// Peers that came or went, to be told to the coordinator.
    changes: Vec<(NodeIndex, bool)>,
    /// Operations that could not be sent, to be told to the coordinator.
    unsent: Vec<Input>,
    dropped_repairs: u64,
    expired: u64,
    /// Peers for which something may be ready to leave.
    ready: Vec<NodeIndex>,
}

/// The link to one node.
struct Link {
    asks: Outbox<Ask>,
    forwards: Outbox<Forward>,
    line: Line,
    breaker: Breaker,
    /// Tells whoever keeps the connection to give it up.
    broken: Rc<Notify>,
}

/// Whether a node can be talked to.
enum Line {
    /// The first attempt to connect is under way: operations wait for it.
    Opening,
    /// Connected.
    Up(Capabilities),
    /// Not connected: operations are not sent.
    Down,
}

/// A call that leaves.
pub(super) enum Outgoing {
    /// Operations for the node's replica.
    Asks(NodeIndex, peer::Client, Departure<Ask>),
    /// Operations for the node's coordinator.
    Forwards(NodeIndex, kv::Client, Departure<Forward>),
}

/// How a call ended that has no reply.
enum NoReply {
    TimedOut,
    Lost,
}

impl Links {
    pub(super) fn new(nodes: usize) -> Self {
        let link = || Link {
            asks: Outbox::new(),
            forwards: Outbox::new(),
            line: Line::Opening,
            breaker: Breaker::default(),
            broken: Rc::new(Notify::new()),
        };
        Self {
            links: std::iter::repeat_with(link).take(nodes).collect(),
            changes: Vec::new(),
            unsent: Vec::new(),
            dropped_repairs: 0,
            expired: 0,
            ready: Vec::new(),
        }
    }

    /// Lets an operation for a replica leave with the next call.
    pub(super) fn ask(&mut self, to: NodeIndex, call: Option<CallId>, operation: PeerOperation, deadline: Tick) {
        let bytes = peer_operation_bytes(&operation);
        let urgency = if call.is_some() { Urgency::Awaited } else { Urgency::Repair };
        let waiting = Waiting { item: (call, operation), bytes, deadline };
        match self.links.get_mut(usize::from(to.0)) {
            Some(link) if !matches!(link.line, Line::Down) => {
                if let Err(item) = link.asks.push(waiting, urgency) {
                    self.ask_unsent(item);
                }
                self.ready.push(to);
            }
            Some(_) | None => self.ask_unsent(waiting.item),
        }
    }

    /// Lets an operation for a coordinator leave with the next call.
    pub(super) fn forward(&mut self, to: NodeIndex, call: CallId, operation: Operation, deadline: Tick) {
        let bytes = operation_bytes(&operation);
        let waiting = Waiting { item: (call, operation), bytes, deadline };
        match self.links.get_mut(usize::from(to.0)) {
            Some(link) if !matches!(link.line, Line::Down) => {
                if let Err(item) = link.forwards.push(waiting, Urgency::Awaited) {
                    self.forward_unsent(&item);
                }
                self.ready.push(to);
            }
            Some(_) | None => self.forward_unsent(&waiting.item),
        }
    }

    /// The calls that can leave now.
    pub(super) fn depart(&mut self, now: Tick, departures: &mut Vec<Outgoing>) {
        let (mut late_asks, mut late_forwards) = (Vec::new(), Vec::new());
        for to in self.ready.drain(..) {
            let link = &mut self.links[usize::from(to.0)];
            let Line::Up(Capabilities { kv, peer }) = &link.line else { continue };
            while let Some(departure) = link.asks.depart(now, &mut late_asks) {
                departures.push(Outgoing::Asks(to, peer.clone(), departure));
            }
            while let Some(departure) = link.forwards.depart(now, &mut late_forwards) {
                departures.push(Outgoing::Forwards(to, kv.clone(), departure));
            }
        }
        self.expired += (late_asks.len() + late_forwards.len()) as u64;
        late_asks.into_iter().for_each(|item| self.ask_unsent(item));
        late_forwards.iter().for_each(|item| self.forward_unsent(item));
    }

    /// A connection to a node stands.
    pub(super) fn up(&mut self, now: Tick, node: NodeIndex, capabilities: Capabilities) {
        let link = &mut self.links[usize::from(node.0)];
        link.breaker.connected(now);
        link.line = Line::Up(capabilities);
        self.changes.push((node, true));
        self.ready.push(node);
    }

    /// There is no connection to a node. What waited for it was not sent.
    pub(super) fn down(&mut self, node: NodeIndex) {
        let link = &mut self.links[usize::from(node.0)];
        if !matches!(link.line, Line::Down) {
            self.changes.push((node, false));
        }
        link.line = Line::Down;
        let (asks, forwards): (Vec<_>, Vec<_>) = (link.asks.give_up().collect(), link.forwards.give_up().collect());
        asks.into_iter().for_each(|item| self.ask_unsent(item));
        forwards.iter().for_each(|item| self.forward_unsent(item));
    }

    /// How long to wait before the next attempt to connect.
    pub(super) fn wait(&mut self, node: NodeIndex, trouble: Trouble, jitter: u64) -> Duration {
        self.links[usize::from(node.0)].breaker.wait(trouble, jitter)
    }

    /// What is notified when the connection to a node is to be given up.
    pub(super) fn broken(&self, node: NodeIndex) -> Rc<Notify> {
        Rc::clone(&self.links[usize::from(node.0)].broken)
    }

    /// A peer that came (`true`) or went since the last time.
    pub(super) fn next_change(&mut self) -> Option<(NodeIndex, bool)> {
        self.changes.pop()
    }

    /// The operations that were not sent since the last time.
    pub(super) fn unsent(&mut self) -> std::vec::Drain<'_, Input> {
        self.unsent.drain(..)
    }

    /// The number of repairs that were not sent since the last time.
    pub(super) fn take_dropped_repairs(&mut self) -> u64 {
        std::mem::take(&mut self.dropped_repairs)
    }

    /// The number of operations since the last time that were not sent because their deadline had passed.
    pub(super) fn take_expired(&mut self) -> u64 {
        std::mem::take(&mut self.expired)
    }

    /// A ping has ended.
    pub(super) fn pinged(&mut self, now: Tick, node: NodeIndex, is_timeout: bool) {
        let breaker = &mut self.links[usize::from(node.0)].breaker;
        if !is_timeout {
            breaker.answered(now);
        } else if breaker.timed_out(now) {
            self.links[usize::from(node.0)].broken.notify_one();
        }
    }

    /// A call of either kind has ended. Returns whether the node is suspect.
    fn ended(&mut self, now: Tick, to: NodeIndex, is_forward: bool, no_reply: Option<&NoReply>) -> bool {
        let link = &mut self.links[usize::from(to.0)];
        if is_forward {
            link.forwards.arrived()
        } else {
            link.asks.arrived()
        }
        match no_reply {
            None => link.breaker.answered(now),
            Some(NoReply::TimedOut) if link.breaker.timed_out(now) => link.broken.notify_one(),
            Some(NoReply::TimedOut | NoReply::Lost) => {}
        }
        self.ready.push(to);
        link.breaker.is_suspect()
    }

    fn ask_unsent(&mut self, (call, _): Ask) {
        match call {
            Some(call) => self.unsent.push(Input::Peer { call, result: PeerCall::NotSent }),
            None => self.dropped_repairs += 1,
        }
    }

    fn forward_unsent(&mut self, (call, _): &Forward) {
        self.unsent.push(Input::Forwarded { call: *call, result: Err(ForwardFailed { sent: false }) });
    }
}

impl Outgoing {
    /// Makes the call and reports how it ended.
    pub(super) async fn travel(self, driver: Rc<Driver>) {
        driver.counters.peer_batches_out.one();
        match self {
            Self::Asks(to, peer, departure) => ask(driver, to, &peer, departure).await,
            Self::Forwards(to, kv, departure) => forward(driver, to, &kv, departure).await,
        }
    }
}

async fn ask(driver: Rc<Driver>, to: NodeIndex, peer: &peer::Client, departure: Departure<Ask>) {
    let Departure { items, deadline } = departure;
    driver.counters.peer_operations_out.add(items.len() as u64);
    let mut request = peer.execute_request();
    let mut wire = request.get().init_request();
    header(&driver, deadline, 0).encode(wire.reborrow().init_header());
    encode_peer_operations(wire.init_operations(items.len() as u32), items.iter().map(|(_, operation)| operation));
    let calls: Vec<Option<CallId>> = items.into_iter().map(|(call, _)| call).collect();
    let (reply, count) = (request.send().promise, calls.len());
    let record_bytes_max = driver.node.record_bytes_max();
    let read = move |response: capnp::capability::Response<peer::execute_results::Owned>| {
        Ok(decode_peer_results(response.get()?.get_reply()?.get_results()?, count, record_bytes_max))
    };
    let results = conclude(&driver, to, false, reply, read).await;
    let mut results = results.map(|results| results.map(Vec::into_iter));
    let mut next = move || match &mut results {
        Ok(Ok(results)) => results.next().map_or(PeerCall::Lost, PeerCall::Answered),
        Ok(Err(failure)) => PeerCall::Answered(PeerResult::Failed(failure.clone())),
        Err(NoReply::TimedOut | NoReply::Lost) => PeerCall::Lost,
    };
    let answers = calls.into_iter().filter_map(|call| {
        let result = next();
        call.map(|call| (call, result))
    });
    driver.peer_answered(answers);
}

async fn forward(driver: Rc<Driver>, to: NodeIndex, kv: &kv::Client, departure: Departure<Forward>) {
    let Departure { items, deadline } = departure;
    driver.counters.peer_operations_out.add(items.len() as u64);
    let mut request = kv.execute_request();
    let mut wire = request.get().init_request();
    header(&driver, deadline, 1).encode(wire.reborrow().init_header());
    encode_operations(wire.init_operations(items.len() as u32), items.iter().map(|(_, operation)| operation));
    let calls: Vec<CallId> = items.into_iter().map(|(call, _)| call).collect();
    let (reply, count) = (request.send().promise, calls.len());
    let read = move |response: capnp::capability::Response<kv::execute_results::Owned>| {
        Ok(decode_replies(response.get()?.get_reply()?.get_results()?, count))
    };
    let replies = conclude(&driver, to, true, reply, read).await;
    let mut replies = replies.map(|replies| replies.map(Vec::into_iter));
    let mut next = move || -> Result<Reply, ForwardFailed> {
        match &mut replies {
            Ok(Ok(replies)) => replies.next().ok_or(ForwardFailed { sent: true }),
            Ok(Err(failure)) => Ok(super::driver::refusal(failure.clone())),
            Err(NoReply::TimedOut | NoReply::Lost) => Err(ForwardFailed { sent: true }),
        }
    };
    driver.forwarded(calls.into_iter().map(|call| (call, next())));
}

fn header(driver: &Driver, deadline: Tick, hops: u8) -> RequestHeader {
    let left_ms = deadline.since(driver.now()).max(1);
    let budget_ms = u32::try_from(left_ms).unwrap_or(u32::MAX);
    RequestHeader { epoch: driver.node.layout.epoch, budget_ms, traceparent: None, hops }
}

/// Waits for a reply, reads it, and books how the call ended.
async fn conclude<R, T>(
    driver: &Rc<Driver>,
    to: NodeIndex,
    is_forward: bool,
    reply: Promise<R, capnp::Error>,
    read: impl FnOnce(R) -> Result<Result<T, Failure>, capnp::Error>,
) -> Result<Result<T, Failure>, NoReply> {
    let began = Instant::now();
    let result = match timeout(CALL_TIMEOUT, reply).await {
        Err(_) => {
            driver.counters.peer_calls_timed_out.one();
            Err(NoReply::TimedOut)
        }
        Ok(reply) => reply.and_then(read).map_err(|error| {
            driver.counters.peer_calls_lost.one();
            tracing::debug!(peer = to.0, %error, "a call to a node has no reply");
            NoReply::Lost
        }),
    };
    let gauge = &driver.node.gauges[driver.number][usize::from(to.0)];
    if result.is_ok() {
        gauge.answered_after(began.elapsed());
    }
    driver.change_links(|now, links| {
        let is_suspect = links.ended(now, to, is_forward, result.as_ref().err());
        gauge.suspect(is_suspect);
    });
    result
}
