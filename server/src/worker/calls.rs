//! The calls that leave for other nodes, from the first byte to the last word about them. What was part of a call that has no
//! answer is lost: nobody knows what became of it.
//!
//! A call passes three bounds. When nothing at all has come from the node for as long as a ping may take, the node is asked for
//! a sign of life. When the call has taken longer than such calls do, the breaker counts it as overdue; an answer still counts
//! if it comes. At [`CALL_TIMEOUT`] it is lost.

use std::{pin::pin, rc::Rc, sync::Arc, time::Instant};

use capnp::capability::Promise;
use dynamo::{
    coordinator::{CallId, ForwardFailed, PeerCall},
    layout::NodeIndex,
    operation::{Failure, Reply},
    peer::PeerResult,
    tick::Tick,
};
use schema::{
    convert::{
        ReplyHeader, RequestHeader, decode_peer_results, decode_positions, decode_replies, encode_operations,
        encode_peer_operations,
    },
    kv_capnp::kv,
    peer_capnp::peer,
};
use tokio::time::Duration;

use super::{
    Driver,
    links::{Ask, Forward, Outgoing, Passage},
    outbox::Departure,
    patience::answer_within,
};
use crate::node::Process;

/// The longest life of a call to a replica, whatever its operations' deadlines: as long as a client waits by default, so that a
/// slow disk's acknowledgement still finds somebody.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long after its operations' deadline a forwarded call may still come back: the other node answers at the deadline.
const FORWARD_SLACK_MS: u64 = 1_000;

/// What kind of call it is, and so what its taking long says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// To a replica, which answers as fast as its disk.
    Ask,
    /// To a coordinator, which waits for others in its turn: that it takes long says nothing about its node.
    Forward {
        /// When its last operation ends.
        deadline: Tick,
    },
}

/// How a call ended that has no reply.
enum NoReply {
    TimedOut,
    Lost,
}

impl Outgoing {
    /// Makes the call and reports how it ended.
    pub(super) async fn travel(self, driver: Rc<Driver>) {
        driver.counters.peer_batches_out.one();
        match self {
            Self::Asks(to, process, peer, departure) => ask(driver, to, process, &peer, departure).await,
            Self::Forwards(to, kv, departure) => forward(driver, to, &kv, departure).await,
        }
    }
}

async fn ask(driver: Rc<Driver>, to: NodeIndex, process: Process, peer: &peer::Client, departure: Departure<Ask>) {
    let Departure { items, deadline } = departure;
    driver.counters.peer_operations_out.add(items.len() as u64);
    let mut request = peer.execute_request();
    let mut wire = request.get().init_request();
    header(&driver, deadline, 0).encode(wire.reborrow().init_header());
    encode_peer_operations(wire.init_operations(items.len() as u32), items.iter().map(|(_, operation)| operation));
    let calls: Vec<Option<CallId>> = items.into_iter().map(|(call, _)| call).collect();
    let (reply, count) = (request.send().promise, calls.len());
    let record_bytes_max = driver.node.record_bytes_max();
    let (hearer, of) = (Rc::clone(&driver), Arc::clone(&driver.known()));
    let read = move |response: capnp::capability::Response<peer::execute_results::Owned>| {
        let reply = response.get()?.get_reply()?;
        hearer
            .hear_epoch(ReplyHeader::decode(reply.get_header()).epoch, of.layout().member(to).map(|member| member.id));
        // What can't be read of them is not remembered; the results are no worse for it.
        let positions = decode_positions(reply.get_positions()).unwrap_or_default();
        hearer.node.hear_positions(&of, to, process, &positions);
        Ok(decode_peer_results(reply.get_results()?, count, record_bytes_max))
    };
    let results = conclude(&driver, to, Errand::Ask, reply, read).await;
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
    let (hearer, of) = (Rc::clone(&driver), Arc::clone(&driver.known()));
    let read = move |response: capnp::capability::Response<kv::execute_results::Owned>| {
        let reply = response.get()?.get_reply()?;
        hearer
            .hear_epoch(ReplyHeader::decode(reply.get_header()).epoch, of.layout().member(to).map(|member| member.id));
        Ok(decode_replies(reply.get_results()?, count))
    };
    let replies = conclude(&driver, to, Errand::Forward { deadline }, reply, read).await;
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
    RequestHeader { epoch: driver.known().ring.epoch(), budget_ms, traceparent: None, hops }
}

/// Waits for a reply, reads it, and books how the call went.
async fn conclude<R, T>(
    driver: &Rc<Driver>,
    to: NodeIndex,
    errand: Errand,
    reply: Promise<R, capnp::Error>,
    read: impl FnOnce(R) -> Result<Result<T, Failure>, capnp::Error>,
) -> Result<Result<T, Failure>, NoReply> {
    let result = match wait(driver, to, errand, reply).await {
        None => {
            driver.counters.peer_calls_timed_out.one();
            Err(NoReply::TimedOut)
        }
        Some(reply) => reply.and_then(read).map_err(|error| {
            driver.counters.peer_calls_lost.one();
            tracing::debug!(peer = to.0, %error, "a call to a node has no reply");
            NoReply::Lost
        }),
    };
    driver.change_links(|_, links| links.ended(to, errand != Errand::Ask));
    result
}

/// Waits for a reply past its bounds; `None` when it is given up.
async fn wait<R>(
    driver: &Rc<Driver>,
    to: NodeIndex,
    errand: Errand,
    reply: Promise<R, capnp::Error>,
) -> Option<Result<R, capnp::Error>> {
    let (began, began_tick) = (Instant::now(), driver.now());
    let (ping_patience, call_patience, silence) = driver.links(|links| {
        let breaker = links.breaker(to);
        (breaker.ping_patience(), breaker.call_patience(), links.silence(to))
    });
    // Armed before anything is awaited, so that no silence is missed.
    let silence = silence.notified();
    let mut reply = pin!(reply);
    let mut is_late = false;
    let mut answer = answer_within(ping_patience, reply.as_mut()).await;
    if answer.is_none() {
        driver.links(|links| links.doubt(to, began_tick));
        answer = match errand {
            Errand::Ask => answer_within(call_patience.saturating_sub(ping_patience), reply.as_mut()).await,
            Errand::Forward { deadline } => {
                let left_ms = deadline.since(driver.now()) + FORWARD_SLACK_MS;
                tokio::select! {
                    answer = answer_within(Duration::from_millis(left_ms), reply.as_mut()) => answer,
                    () = silence => None,
                }
            }
        };
    }
    if answer.is_none() && errand == Errand::Ask {
        is_late = true;
        driver.change_peer(to, |now, links| links.passed(now, to, Passage::Overdue));
        answer = answer_within(CALL_TIMEOUT.saturating_sub(began.elapsed()), reply).await;
    }
    if matches!(answer, Some(Ok(_))) {
        let round_trip = began.elapsed();
        let passage = match errand {
            Errand::Ask => Passage::Answered { round_trip, is_late },
            Errand::Forward { .. } => Passage::Heard,
        };
        driver.gauge(to).answered_after(round_trip);
        driver.change_peer(to, |now, links| links.passed(now, to, passage));
    }
    answer
}
