//! `Node`: the first capability a connection gets. `hello` says who calls, and hands out what that caller may use.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use capnp::Error;
use capnp_rpc::new_client;
use dynamo::{
    ident::NodeId,
    operation::{ErrorCode, Failure},
};
use schema::{
    convert::{BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX, HelloReply, HelloRequest, NodeLimits, PeerIntroduction, Role},
    node_capnp::{PROTOCOL_VERSION, node},
};
use wire::{ConnectionHandle, Limits};

use super::{Arrival, admin::Admin, kv::Kv, peer::Peer};
use crate::{
    node::{Claim, Known, Node, Process, Stranger, peer_proof},
    worker::{Driver, Share},
};

/// The oldest protocol version this node speaks.
const PROTOCOL_OLDEST: u16 = 1;

/// How long a client that found no place should stay away: connections live for seconds at least.
const FULL_RETRY_AFTER_MS: u32 = 1_000;

/// What it calls itself.
pub(crate) const SOFTWARE: &str = concat!("quorate/", env!("CARGO_PKG_VERSION"));

/// Who is at the other end of a connection, as far as the node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Nobody has said.
    Stranger,
    /// An application.
    Client,
    /// Another node; one that the ring does not have may want to join it, or has left it.
    Peer(NodeId),
}

/// The `Node` of one connection.
pub(crate) struct Introduction {
    driver: Rc<Driver>,
    connection: RefCell<Option<ConnectionHandle>>,
    caller: Cell<Caller>,
    /// Which process of a peer.
    process: Cell<Process>,
}

impl Introduction {
    /// For a connection that has just been accepted; it counts as a stranger's until `hello`.
    pub(crate) fn new(driver: Rc<Driver>) -> Rc<Self> {
        driver.counters.strangers.one();
        Rc::new(Self {
            driver,
            connection: RefCell::new(None),
            caller: Cell::new(Caller::Stranger),
            process: Cell::default(),
        })
    }

    /// Says which connection it is for.
    pub(crate) fn belongs_to(&self, connection: ConnectionHandle) {
        *self.connection.borrow_mut() = Some(connection);
    }

    /// Admits the caller, or says why not.
    fn meet(&self, request: &HelloRequest) -> Result<(u16, Caller), Failure> {
        let node = &self.driver.node;
        let protocol = negotiate(request)?;
        if self.caller.get() != Caller::Stranger {
            return Err(Failure::new(ErrorCode::InvalidRequest, "hello was called before on this connection"));
        }
        let caller = match request.role {
            Role::Client if node.is_full_of_clients() => return Err(full()),
            Role::Client => Caller::Client,
            Role::Peer | Role::PeerBulk => {
                let peer = self.recognise(request)?;
                let known = self.driver.known();
                if let Some(place) = known.place_of(peer) {
                    node.heard(&known, place);
                }
                Caller::Peer(peer)
            }
        };
        Ok((protocol, caller))
    }

    fn recognise(&self, request: &HelloRequest) -> Result<NodeId, Failure> {
        let node = &self.driver.node;
        let missing = || Failure::new(ErrorCode::InvalidRequest, "peer: a node introduces itself with this field");
        let peer = request.peer.as_ref().ok_or_else(missing)?;
        let known = Arc::clone(&self.driver.known());
        check_peer(node, &known, peer, &request.credentials)?;
        check_only_ring(node, &known, peer)?;
        self.driver.hear_epoch(peer.epoch, Some(peer.node));
        let process = Process(peer.process);
        if known.place_of(peer.node).is_some() {
            meet(node, peer.node, &Claim { directory: peer.directory, process, positions: &peer.positions })?;
        }
        self.process.set(process);
        Ok(peer.node)
    }

    /// Hangs up on a process after which another one of its node introduced itself. As a rule it is dead. If it lives, it calls
    /// again, is refused, and learns that it is not the only one.
    fn check_latest(&self, peer: NodeId) {
        let is_latest = self.driver.node.acquaintances.is_latest(peer, self.process.get());
        if let (false, Some(connection)) = (is_latest, self.connection.borrow().as_ref()) {
            connection.close();
        }
    }

    fn admit(&self, caller: Caller, wire: schema::node_capnp::hello_reply::Builder<'_>) {
        let (driver, mut wire) = (&self.driver, wire);
        let node = &driver.node;
        driver.counters.strangers.subtract(1);
        self.caller.set(caller);
        let admission = &node.config.admission;
        let (budget, share) = match caller {
            Caller::Stranger | Caller::Client => {
                driver.counters.clients.one();
                let most = (admission.operations_per_connection_max, admission.bytes_per_connection_max);
                (&node.budgets.clients, self.share(&node.clients, most))
            }
            Caller::Peer(_) => {
                driver.counters.peers.one();
                (&node.budgets.peers, self.share(&node.peers, (usize::MAX, usize::MAX)))
            }
        };
        let Some(connection) = self.connection.borrow().clone() else { return };
        connection.admit(budget.clone());
        wire.set_admin(new_client(Admin::new(Rc::clone(driver), connection.clone())));
        wire.set_kv(new_client(Kv::new(Rc::clone(driver), Rc::clone(&share), connection)));
        if let Caller::Peer(index) = caller {
            wire.set_peer(new_client(Peer::new(Rc::clone(driver), share, index)));
        }
    }

    fn share(&self, room: &Arc<crate::worker::Room>, (operations, bytes): (usize, usize)) -> Rc<Share> {
        Share::new(Arc::clone(room), Arc::clone(&self.driver.counters), operations, bytes)
    }
}

impl Drop for Introduction {
    fn drop(&mut self) {
        let counters = &self.driver.counters;
        match self.caller.get() {
            Caller::Stranger => counters.strangers.subtract(1),
            Caller::Client => counters.clients.subtract(1),
            Caller::Peer(peer) => {
                counters.peers.subtract(1);
                // It, or its way here, or this node itself was away. Asking at once tells this node which, and a node that
                // gave this one up that it is back.
                let place = self.driver.known().place_of(peer);
                if let Some(place) = place {
                    self.driver.doubt(place);
                }
            }
        }
    }
}

impl node::Server for Introduction {
    async fn hello(self: Rc<Self>, params: node::HelloParams, mut wire: node::HelloResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let node = &self.driver.node;
        let request = HelloRequest::decode(params.get()?.get_request()?);
        let met = request.and_then(|request| {
            let met = arrival.check_serving().and_then(|()| self.meet(&request));
            if let Err(failure) = &met {
                let (role, client) = (request.role, &request.client);
                tracing::warn!(?role, client, code = ?failure.code, "hello refused: {}", failure.message);
            }
            met
        });
        let header = arrival.reply_header(&node.clients);
        let mut reply = wire.get().init_reply();
        match met {
            Ok((protocol, caller)) => {
                introduction(node, header, protocol).encode(reply.reborrow());
                self.admit(caller, reply);
            }
            Err(failure) => {
                self.driver.counters.hellos_refused.one();
                HelloReply::encode_refusal(&header, &failure, reply);
            }
        }
        Ok(())
    }

    async fn ping(self: Rc<Self>, _: node::PingParams, mut wire: node::PingResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        if let Caller::Peer(peer) = self.caller.get() {
            let known = Arc::clone(&self.driver.known());
            // What is remembered of the processes of one that was taken out of the ring is of the time before.
            if let Some(place) = known.place_of(peer) {
                self.driver.node.heard(&known, place);
                self.check_latest(peer);
            }
        }
        arrival.reply_header(&self.driver.node.clients).encode(wire.get().init_reply().init_header());
        Ok(())
    }
}

/// What the node says about itself.
fn introduction(node: &Node, header: schema::convert::ReplyHeader, protocol: u16) -> HelloReply {
    HelloReply {
        header,
        protocol,
        server: SOFTWARE.to_owned(),
        cluster: node.layout().cluster,
        node: node.id,
        name: node.config.name.clone(),
        directory: node.directory,
        positions: node.positions_at_start.clone(),
        process: node.acquaintances.me().0,
        limits: NodeLimits {
            key_bytes_max: dynamo::ident::KEY_BYTES_MAX as u32,
            value_bytes_max: node.config.value_bytes_max,
            batch_operations_max: BATCH_OPERATIONS_MAX as u32,
            batch_bytes_max: BATCH_BYTES_MAX as u32,
            calls_in_flight_max: Limits::server(node.config.value_bytes_max as usize).calls_in_flight as u32,
        },
    }
}

fn full() -> Failure {
    Failure {
        retry_after_ms: FULL_RETRY_AFTER_MS,
        ..Failure::new(
            ErrorCode::Overloaded,
            "this node has as many client connections as admission.connections_max allows; ask another one",
        )
    }
}

/// The highest version both speak.
fn negotiate(request: &HelloRequest) -> Result<u16, Failure> {
    let (lowest, highest) = (request.protocol_min.max(PROTOCOL_OLDEST), request.protocol_max.min(PROTOCOL_VERSION));
    if lowest <= highest {
        return Ok(highest);
    }
    Err(Failure::with_message(
        ErrorCode::Unsupported,
        format!(
            "this node speaks protocol versions {PROTOCOL_OLDEST} to {PROTOCOL_VERSION}, the caller {} to {}; update the \
             older of the two",
            request.protocol_min, request.protocol_max
        ),
    ))
}

/// Whether a node that introduces itself is who it says, and works under the same layout.
fn check_peer(node: &Node, known: &Known, peer: &PeerIntroduction, credentials: &[u8]) -> Result<(), Failure> {
    let wrong = |message: &str| Err(Failure::with_message(ErrorCode::WrongCluster, message.to_owned()));
    if peer.cluster != known.layout().cluster {
        return wrong("this node belongs to a cluster of another name; compare cluster.name");
    }
    // Compared in constant time, so that a proof can't be guessed byte by byte.
    let proof = peer_proof(&node.config.cluster.secret, peer.cluster, peer.node, peer.directory);
    let is_proven = <[u8; 32]>::try_from(credentials).is_ok_and(|shown| blake3::Hash::from_bytes(shown) == proof);
    if !is_proven {
        let message = "the proof of membership is wrong; compare cluster.secret of both nodes";
        return Err(Failure::new(ErrorCode::Unauthenticated, message));
    }
    if peer.node == node.id {
        return wrong("the calling node has this node's name; every node needs a name of its own");
    }
    // Also one that this node has left behind: whoever works under another one of the same epoch is of another history.
    let is_other = known.ring.layout(peer.epoch).is_some_and(|layout| match layout.epoch == known.ring.epoch() {
        true => peer.layout_hash != known.layout_hash,
        false => peer.layout_hash != layout.hash(),
    });
    if is_other {
        return wrong(
            "the two nodes have different layouts of the same epoch; if they were just founded, compare [cluster] and [buckets] of \
             both files",
        );
    }
    Ok(())
}

/// A node that is alone in its ring has decided every change of it. Whoever shows it a later one is of another ring of the same name and
/// secret, into which this node was once taken: it lost its directory, and founded a ring of its own where it should have joined.
fn check_only_ring(node: &Node, known: &Known, peer: &PeerIntroduction) -> Result<(), Failure> {
    let is_alone = known.me.is_some() && known.others().next().is_none();
    if !is_alone || peer.epoch <= known.ring.epoch() {
        return Ok(());
    }
    let failure = Failure::with_message(
        ErrorCode::WrongCluster,
        format!(
            "there is a ring of this name at epoch {}, and this node has founded another one, at epoch {}. Stop it, and let it enter \
             that ring with an empty directory: quorate serve --join HOST:PORT, and --replace NAME if it was in it before",
            peer.epoch,
            known.ring.epoch()
        ),
    );
    node.give_up(&failure);
    Err(failure)
}

/// Remembers who a node is, or refuses it because it must have forgotten something.
pub(crate) fn meet(node: &Node, peer: NodeId, claim: &Claim<'_>) -> Result<(), Failure> {
    node.acquaintances.meet(&node.store, peer, claim).map_err(|stranger| {
        let code = match stranger {
            // Nothing else of `hello` is answered so: the node it is said to stops. Were it to go on, clients that still take it for the
            // owner it was would be told at level `one` that nothing is there.
            Stranger::OtherDirectory { .. } | Stranger::OldCopy { .. } | Stranger::Superseded { .. } => {
                ErrorCode::Corrupt
            }
            Stranger::Forgetful(_) => ErrorCode::Internal,
        };
        let known = node.known();
        Failure::with_message(code, format!("node {} is refused: {stranger}", known.name_of(peer)))
    })
}
