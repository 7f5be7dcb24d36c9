//! The first thing a node does that shall enter a ring which others founded: it asks one of them for the layout. It has no
//! directory yet, and founds one only when it knows for which ring; who it is, it has drawn by lot.

use std::{
    net::ToSocketAddrs,
    time::{Duration, Instant},
};

use dynamo::{
    ident::NodeId,
    layout::{Layout, MemberState},
    operation::{ErrorCode, Failure},
};
use schema::{
    convert::{HelloReply, HelloRequest, LayoutPiece, LayoutRequest, PeerIntroduction, RequestHeader, Role},
    node_capnp::{PROTOCOL_VERSION, node},
    peer_capnp::peer,
};
use tokio::{
    net::TcpStream,
    runtime,
    time::{sleep, timeout},
};

use super::{
    error::ServeError,
    founding::{cluster_id, peer_proof},
};
use crate::{config::Config, service::SOFTWARE};

/// How long to try before giving up: nodes that are started together need seconds until the first one listens.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two rounds of attempts.
const PAUSE: Duration = Duration::from_millis(300);

/// How long one node may take to tell its layout.
const ATTEMPT: Duration = Duration::from_secs(5);

/// What messages may occupy meanwhile: the pieces of one layout.
const BUDGET_BYTES: usize = 16 << 20;

/// Longest layout that is taken; see [`crate::ring::fetching`].
const LAYOUT_BYTES_MAX: u64 = 64 << 20;

/// Why one attempt failed.
enum Trouble {
    /// Somebody may answer later.
    Passing(String),
    /// Trying again would not help.
    Lasting(String),
}

/// The newest layout of the ring that a node shall enter, from the first of the configured addresses that tells it.
pub(super) fn newest_layout(config: &Config, me: NodeId) -> Result<Layout, ServeError> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(runtime::LocalOptions::default())
        .map_err(ServeError::System)?;
    let layout = runtime.block_on(ask_until_told(config, me)).map_err(ServeError::Join)?;
    check_fit(config, &layout).map_err(ServeError::Join)?;
    Ok(layout)
}

async fn ask_until_told(config: &Config, me: NodeId) -> Result<Layout, String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut reasons = Vec::new();
        for address in &config.join.through {
            let told = timeout(ATTEMPT, ask(config, me, address)).await;
            match told.unwrap_or_else(|_| Err(Trouble::Passing("no answer in time".to_owned()))) {
                Ok(layout) => return Ok(layout),
                Err(Trouble::Lasting(why)) => return Err(format!("{address}: {why}")),
                Err(Trouble::Passing(why)) => reasons.push(format!("{address}: {why}")),
            }
        }
        if Instant::now() >= until {
            return Err(format!("none of the given nodes told its layout: {}", reasons.join("; ")));
        }
        sleep(PAUSE).await;
    }
}

/// Asks one node for its newest layout.
async fn ask(config: &Config, me: NodeId, address: &str) -> Result<Layout, Trouble> {
    let passing = |error: std::io::Error| Trouble::Passing(error.to_string());
    let resolved = address.to_socket_addrs().map_err(passing)?.next();
    let resolved = resolved.ok_or_else(|| Trouble::Passing("the name has no address".to_owned()))?;
    let stream = TcpStream::connect(resolved).await.map_err(passing)?;
    wire::tune(&stream).map_err(passing)?;
    let limits = wire::Limits::client(config.value_bytes_max as usize);
    let (client, connection): (node::Client, _) = wire::connect(stream, limits, wire::Budget::new(BUDGET_BYTES));
    let layout = converse(config, me, &client).await;
    connection.close();
    layout
}

async fn converse(config: &Config, me: NodeId, client: &node::Client) -> Result<Layout, Trouble> {
    let lost = |error: capnp::Error| Trouble::Passing(error.to_string());
    let mut request = client.hello_request();
    introduction(config, me).encode(request.get().init_request());
    let response = request.send().promise.await.map_err(lost)?;
    let reply = response.get().and_then(|response| response.get_reply()).map_err(lost)?;
    HelloReply::decode(reply).map_err(refused)?;
    let peer = reply.get_peer().map_err(lost)?;
    let mut bytes: Vec<u8> = Vec::new();
    let mut epoch = 0;
    loop {
        let piece = piece(&peer, LayoutRequest { epoch, offset: bytes.len() as u64, parent_hash: None }).await?;
        if piece.total > LAYOUT_BYTES_MAX || (epoch != 0 && piece.epoch != epoch) {
            return Err(Trouble::Lasting("it told something that is no layout".to_owned()));
        }
        epoch = piece.epoch;
        bytes.extend_from_slice(&piece.bytes);
        if bytes.len() as u64 >= piece.total {
            break;
        }
        if piece.bytes.is_empty() {
            return Err(Trouble::Passing("a part of its layout did not come".to_owned()));
        }
    }
    Layout::decode(&bytes).map_err(|error| Trouble::Lasting(error.to_string()))
}

async fn piece(peer: &peer::Client, question: LayoutRequest) -> Result<LayoutPiece, Trouble> {
    let lost = |error: capnp::Error| Trouble::Passing(error.to_string());
    let mut request = peer.layout_request();
    question.encode(&RequestHeader::default(), request.get().init_request());
    let response = request.send().promise.await.map_err(lost)?;
    let reply = response.get().and_then(|response| response.get_reply()).map_err(lost)?;
    LayoutPiece::decode(reply).map_err(refused)
}

/// What a node says that has no directory and no layout yet.
fn introduction(config: &Config, me: NodeId) -> HelloRequest {
    let cluster = cluster_id(&config.cluster.name);
    let proof = peer_proof(&config.cluster.secret, cluster, me, 0);
    HelloRequest {
        protocol_min: PROTOCOL_VERSION,
        protocol_max: PROTOCOL_VERSION,
        client: SOFTWARE.to_owned(),
        role: Role::PeerBulk,
        credentials: bytes::Bytes::copy_from_slice(proof.as_bytes()),
        peer: Some(PeerIntroduction {
            cluster,
            node: me,
            directory: 0,
            epoch: 0,
            layout_hash: [0; 16],
            positions: Vec::new(),
            process: 0,
        }),
    }
}

/// A cluster of another name or secret stays one; what else a node says may pass.
fn refused(failure: Failure) -> Trouble {
    let why = failure.message.into_owned();
    match failure.code {
        ErrorCode::WrongCluster | ErrorCode::Unauthenticated | ErrorCode::Forbidden | ErrorCode::Unsupported => {
            Trouble::Lasting(why)
        }
        ErrorCode::Internal
        | ErrorCode::InvalidRequest
        | ErrorCode::TooLarge
        | ErrorCode::TooManySiblings
        | ErrorCode::Unavailable
        | ErrorCode::QuorumTimeout
        | ErrorCode::Overloaded
        | ErrorCode::Corrupt
        | ErrorCode::StaleView
        | ErrorCode::StorageFull
        | ErrorCode::ShuttingDown => Trouble::Passing(why),
    }
}

/// Whether the ring has room for what the node calls itself, and whom it shall replace.
fn check_fit(config: &Config, layout: &Layout) -> Result<(), String> {
    let present =
        |name: &str| layout.members.iter().any(|member| member.name == name && member.state != MemberState::Gone);
    if present(&config.name) {
        return Err(format!(
            "the ring has a node named {0:?} already. Give this one another name; if {0:?} has lost its data directory, let it be \
             replaced: quorate serve --name NEW --join HOST:PORT --replace {0}",
            config.name
        ));
    }
    let replaces = &config.join.replaces;
    if !replaces.is_empty() && !present(replaces) {
        return Err(format!("the ring has no node named {replaces:?} that could be replaced; see `quorate ring show`"));
    }
    Ok(())
}
