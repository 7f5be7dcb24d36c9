//! Keeping one worker's connection to another node: connect, introduce, watch, and after its end try again. While there is no
//! connection, operations for the node are not sent ([`super::links`]); an introduction that succeeds is the probe that
//! closes the breaker.

use std::{pin::pin, rc::Rc, time::Duration};

use dynamo::{
    layout::{Member, NodeIndex},
    operation::{ErrorCode, Failure},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use schema::{
    convert::{HelloReply, HelloRequest, PeerIntroduction, ReplyHeader, Role},
    node_capnp::{PROTOCOL_VERSION, node},
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout},
};
use wire::{ConnectionHandle, Limits};

use super::{Driver, Trouble, breaker::SILENCE_MAX, links::Capabilities, patience::answer_within};
use crate::{
    node::{Claim, Node, Process, Visible, peer_proof},
    service,
};

/// From the first packet to the node's answer to our introduction: many round trips even across an ocean.
const INTRODUCTION_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an address is tried alone before the next one of the same node is tried beside it: a few round trips, and little of the
/// time for an introduction.
const HEAD_START: Duration = Duration::from_millis(200);

/// How often a connection is tried out when nothing else happens: a node that hangs is noticed before a client needs it.
const PING_EVERY: Duration = Duration::from_secs(5);

/// A connection that stands.
pub(crate) struct Line {
    /// The connection itself.
    pub(crate) connection: ConnectionHandle,
    /// The other node.
    pub(crate) node: node::Client,
    /// What it lets this node use.
    pub(crate) capabilities: Capabilities,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.connection.close();
    }
}

/// Why there is no connection.
pub(crate) enum NoLine {
    /// Nobody listens, or the connection ended at once.
    Refused(String),
    /// No answer in time.
    Silent,
    /// It answered, and does not want this node.
    Unwelcome(Failure),
    /// It answered, and this node does not want it.
    Unworthy(Failure),
}

/// Keeps the connection to a node, for ever.
pub(super) async fn keep(driver: Rc<Driver>, to: NodeIndex) {
    let gauge = driver.gauge(to);
    let name = driver.known().layout().member(to).map_or("?", |member| &member.name).to_owned();
    let mut told = None;
    loop {
        let trouble = match timeout(INTRODUCTION_TIMEOUT, open(&driver.node, to, Role::Peer))
            .await
            .unwrap_or(Err(NoLine::Silent))
        {
            Ok(line) => {
                tracing::info!(peer = name, "connected");
                told = None;
                gauge.set(Visible::Up);
                let capabilities = line.capabilities.clone();
                driver.change_links(|now, links| links.up(now, to, capabilities));
                let (trouble, why) = watch(&driver, to, &line).await;
                tracing::warn!(peer = name, why, "disconnected");
                trouble
            }
            Err(no_line) => {
                if let NoLine::Unwelcome(failure) = &no_line
                    && failure.code == ErrorCode::Corrupt
                {
                    driver.node.give_up(failure);
                }
                let (trouble, why) = no_line.explain();
                // Once for each reason, not once for each attempt.
                if told.as_ref() != Some(&why) {
                    tracing::warn!(peer = name, why, "no connection");
                    told = Some(why);
                }
                trouble
            }
        };
        gauge.set(Visible::Down);
        let mut wait = Duration::ZERO;
        driver.change_links(|_, links| {
            links.down(to);
            wait = links.wait(to, trouble, jitter());
        });
        tokio::select! {
            () = sleep(wait) => {}
            () = gauge.was_heard() => {}
        }
    }
}

/// Connects and introduces this node, as the one that calls for clients or as the one that repairs.
pub(crate) async fn open(node: &Node, to: NodeIndex, role: Role) -> Result<Line, NoLine> {
    let known = node.known();
    let Some(member) = known.layout().member(to) else { return Err(NoLine::Silent) };
    open_to(node, member, role).await
}

/// Connects to a node where a layout says it is, and introduces this one.
pub(crate) async fn open_to(node: &Node, member: &Member, role: Role) -> Result<Line, NoLine> {
    let addresses = node.addresses_of(member);
    let attempts = (0..).zip(&addresses).map(|(place, address)| async move {
        sleep(HEAD_START * place).await;
        open_at(node, member, address, role).await
    });
    let mut attempts: FuturesUnordered<_> = attempts.collect();
    let mut why = NoLine::Refused("the ring has no address for it".to_owned());
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(line) => return Ok(line),
            // What a node says itself tells more than that nobody is there.
            Err(no_line) if matches!(why, NoLine::Refused(_) | NoLine::Silent) => why = no_line,
            Err(_) => {}
        }
    }
    Err(why)
}

async fn open_at(node: &Node, member: &Member, address: &str, role: Role) -> Result<Line, NoLine> {
    let known = node.known();
    let refused = |error: std::io::Error| NoLine::Refused(error.to_string());
    let stream = TcpStream::connect(address).await.map_err(refused)?;
    wire::tune(&stream).map_err(refused)?;
    let limits = node.fit_records(Limits::client(node.config.value_bytes_max as usize));
    let limits = Limits { frame_bytes_before_hello: limits.frame_bytes, ..limits };
    let (client, connection): (node::Client, _) = wire::connect(stream, limits, node.budgets.replies.clone());
    let mut request = client.hello_request();
    introduction(node, role).encode(request.get().init_request());
    let lost = |error: capnp::Error| NoLine::Refused(error.to_string());
    let response = request.send().promise.await.map_err(lost)?;
    let reply = response.get().and_then(|response| response.get_reply()).map_err(lost)?;
    let hello = HelloReply::decode(reply).map_err(NoLine::Unwelcome)?;
    if hello.cluster != known.layout().cluster || hello.node != member.id {
        return Err(NoLine::Unworthy(Failure::with_message(
            ErrorCode::WrongCluster,
            format!("{address} is node {:?} of another cluster, or another node than the ring has there", hello.name),
        )));
    }
    if hello.header.epoch > known.ring.epoch() {
        node.pull(hello.header.epoch, Some(hello.node));
    }
    let process = Process(hello.process);
    let claim = Claim { directory: hello.directory, process, positions: &hello.positions };
    service::meet(node, hello.node, &claim).map_err(NoLine::Unworthy)?;
    let capabilities =
        Capabilities { process, kv: reply.get_kv().map_err(lost)?, peer: reply.get_peer().map_err(lost)? };
    Ok(Line { connection, node: client, capabilities })
}

/// What this node says about itself.
fn introduction(node: &Node, role: Role) -> HelloRequest {
    let (known, me, directory) = (node.known(), node.id, node.directory);
    let cluster = known.layout().cluster;
    let proof = peer_proof(&node.config.cluster.secret, cluster, me, directory);
    HelloRequest {
        protocol_min: PROTOCOL_VERSION,
        protocol_max: PROTOCOL_VERSION,
        client: service::SOFTWARE.to_owned(),
        role,
        credentials: bytes::Bytes::copy_from_slice(proof.as_bytes()),
        peer: Some(PeerIntroduction {
            cluster,
            node: me,
            directory,
            epoch: known.ring.epoch(),
            layout_hash: known.layout_hash,
            positions: node.positions_at_start.clone(),
            process: node.acquaintances.me().0,
        }),
    }
}

/// Waits until a connection has ended or is to be given up. Meanwhile it pings, because somebody wants to know or because
/// nobody asked for long, and gives a peer that was too slow its trial when it has rested.
async fn watch(driver: &Rc<Driver>, to: NodeIndex, line: &Line) -> (Trouble, String) {
    let (probe, gauge) = (driver.links(|links| links.probe(to)), driver.gauge(to));
    let mut next_ping = Instant::now() + PING_EVERY;
    loop {
        let mut rest = None;
        driver.change_peer(to, |now, links| rest = links.rest(now, to));
        tokio::select! {
            reason = line.connection.closed() => return (Trouble::Refused, reason.to_string()),
            () = sleep(rest.unwrap_or(PING_EVERY)), if rest.is_some() => continue,
            // A call that becomes overdue may make the peer rest; then this loop has to know until when.
            () = probe.notified() => {}
            () = gauge.was_doubted() => {}
            () = sleep_until(next_ping) => {}
        }
        if !ping(driver, to, line).await {
            return (Trouble::Silent, "it fell silent: neither calls nor pings were answered".to_owned());
        }
        next_ping = Instant::now() + PING_EVERY;
    }
}

/// Asks for a sign of life, and says whether there was one. Without any for as long as a ping takes the breaker opens, and
/// closes again with the first.
async fn ping(driver: &Rc<Driver>, to: NodeIndex, line: &Line) -> bool {
    let (began, began_tick) = (Instant::now(), driver.now());
    let patience = driver.links(|links| links.breaker(to).ping_patience());
    let mut answer = pin!(line.node.ping_request().send().promise);
    let mut answered = answer_within(patience, answer.as_mut()).await;
    let mut is_silent = false;
    if answered.is_none() {
        driver.change_peer(to, |_, links| is_silent = links.unanswered(to, began_tick));
    }
    if is_silent {
        tracing::debug!(peer = to.0, "silent");
        answered = answer_within(SILENCE_MAX.saturating_sub(patience), answer).await;
    }
    match answered {
        Some(Ok(pong)) => {
            driver.change_peer(to, |now, links| links.ponged(now, to, began.elapsed()));
            if let Ok(reply) = pong.get().and_then(|pong| pong.get_reply()) {
                let from = driver.known().layout().member(to).map(|member| member.id);
                driver.hear_epoch(ReplyHeader::decode(reply.get_header()).epoch, from);
            }
            true
        }
        // The connection has ended, which whoever watches it learns; or something else was heard meanwhile.
        Some(Err(_)) => true,
        None => !driver.links(|links| links.breaker(to).is_quiet_since(began_tick)),
    }
}

impl NoLine {
    /// What sort of trouble it is, and why in words.
    pub(crate) fn explain(self) -> (Trouble, String) {
        match self {
            Self::Refused(why) => (Trouble::Refused, why),
            Self::Silent => (Trouble::Silent, "no answer in time".to_owned()),
            Self::Unwelcome(failure) | Self::Unworthy(failure) => (Trouble::Silent, failure.message.into_owned()),
        }
    }
}

/// Any number, so that many nodes do not knock in the same instant.
pub(crate) fn jitter() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the waits are merely alike.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
