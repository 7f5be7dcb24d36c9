//! The introduction: what both sides say about themselves when a connection begins.

use bytes::Bytes;
use dynamo::{ident::NodeId, operation::Failure};

use super::{
    ReplyHeader, bounded_data, decode_optional_failure, encode_failure, invalid, lenient_text, list_length, malformed,
    sixteen, too_large,
};
use crate::node_capnp as wire;

/// Longest credentials: a proof or a token, not a document.
const CREDENTIALS_BYTES_MAX: usize = 4096;

/// Most journal positions of one node: one for each shard, of which there are at most 16.
const POSITIONS_MAX: u32 = 16;

/// What a caller is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// An application.
    #[default]
    Client,
    /// Another node, foreground work.
    Peer,
    /// Another node, background work.
    PeerBulk,
}

/// What a caller says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HelloRequest {
    /// The lowest protocol version it speaks.
    pub protocol_min: u16,
    /// The highest protocol version it speaks.
    pub protocol_max: u16,
    /// Its name and version, for logs.
    pub client: String,
    /// What it is.
    pub role: Role,
    /// Proof of that.
    pub credentials: Bytes,
    /// Who it is, if it is a peer.
    pub peer: Option<PeerIntroduction>,
}

/// Who a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIntroduction {
    /// Its cluster.
    pub cluster: u128,
    /// Which node it is.
    pub node: NodeId,
    /// Which data directory it runs on.
    pub directory: u128,
    /// The epoch of its layout.
    pub epoch: u64,
    /// The hash of its layout.
    pub layout_hash: [u8; 16],
    /// How many changes each shard of its store had made durable, ever, when its process started.
    pub positions: Vec<u64>,
    /// Which process of the node; 0 where it does not say.
    pub process: u128,
}

/// What a node accepts; a request above is answered with `tooLarge`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLimits {
    /// Longest key.
    pub key_bytes_max: u32,
    /// Longest value.
    pub value_bytes_max: u32,
    /// Most operations of a batch.
    pub batch_operations_max: u32,
    /// Most bytes of a batch.
    pub batch_bytes_max: u32,
    /// Most calls in flight on one connection.
    pub calls_in_flight_max: u32,
}

/// What a node says about itself; the capabilities are added by whoever holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloReply {
    /// The usual header.
    pub header: ReplyHeader,
    /// The protocol version spoken from here on.
    pub protocol: u16,
    /// Its software and version.
    pub server: String,
    /// Its cluster.
    pub cluster: u128,
    /// Which node it is.
    pub node: NodeId,
    /// What people call it.
    pub name: String,
    /// What it accepts.
    pub limits: NodeLimits,
    /// Which data directory it runs on.
    pub directory: u128,
    /// How many changes each shard of its store had made durable, ever, when its process started; told to peers only.
    pub positions: Vec<u64>,
    /// Which process of the node; 0 where it does not say.
    pub process: u128,
}

impl HelloRequest {
    /// Writes the request.
    pub fn encode(&self, mut wire: wire::hello_request::Builder<'_>) {
        wire.set_protocol_min(self.protocol_min);
        wire.set_protocol_max(self.protocol_max);
        wire.set_client(&self.client);
        wire.set_role(match self.role {
            Role::Client => wire::Role::Client,
            Role::Peer => wire::Role::Peer,
            Role::PeerBulk => wire::Role::PeerBulk,
        });
        wire.set_credentials(&self.credentials);
        if let Some(peer) = &self.peer {
            let mut introduction = wire.init_peer();
            introduction.set_cluster(&peer.cluster.to_be_bytes());
            introduction.set_node(&peer.node.0.to_be_bytes());
            introduction.set_directory(&peer.directory.to_be_bytes());
            introduction.set_epoch(peer.epoch);
            introduction.set_layout_hash(&peer.layout_hash);
            introduction.set_process(&peer.process.to_be_bytes());
            encode_positions(introduction.init_positions(list_length(peer.positions.len())), &peer.positions);
        }
    }

    /// Reads a request.
    pub fn decode(wire: wire::hello_request::Reader<'_>) -> Result<Self, Failure> {
        let role = match wire.get_role() {
            Ok(wire::Role::Client) => Role::Client,
            Ok(wire::Role::Peer) => Role::Peer,
            Ok(wire::Role::PeerBulk) => Role::PeerBulk,
            Err(unknown) => return Err(invalid("role", format_args!("{} is unknown to this node", unknown.0))),
        };
        let peer = match wire.has_peer() {
            true => Some(introduction(wire.get_peer().map_err(|error| malformed("peer", error))?)?),
            false => None,
        };
        Ok(Self {
            protocol_min: wire.get_protocol_min(),
            protocol_max: wire.get_protocol_max(),
            client: lenient_text(wire.get_client()),
            role,
            credentials: bounded_data("credentials", wire.get_credentials(), CREDENTIALS_BYTES_MAX)?,
            peer,
        })
    }
}

impl HelloReply {
    /// Writes the reply, without its capabilities.
    pub fn encode(&self, mut wire: wire::hello_reply::Builder<'_>) {
        self.header.encode(wire.reborrow().init_header());
        wire.set_protocol(self.protocol);
        wire.set_server(&self.server);
        wire.set_cluster(&self.cluster.to_be_bytes());
        wire.set_node(&self.node.0.to_be_bytes());
        wire.set_name(&self.name);
        wire.set_directory(&self.directory.to_be_bytes());
        wire.set_process(&self.process.to_be_bytes());
        encode_positions(wire.reborrow().init_positions(list_length(self.positions.len())), &self.positions);
        let mut limits = wire.init_limits();
        limits.set_key_bytes_max(self.limits.key_bytes_max);
        limits.set_value_bytes_max(self.limits.value_bytes_max);
        limits.set_batch_operations_max(self.limits.batch_operations_max);
        limits.set_batch_bytes_max(self.limits.batch_bytes_max);
        limits.set_calls_in_flight_max(self.limits.calls_in_flight_max);
    }

    /// Writes a refusal.
    pub fn encode_refusal(header: &ReplyHeader, failure: &Failure, mut wire: wire::hello_reply::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        encode_failure(wire.init_error(), failure);
    }

    /// Reads a reply, without its capabilities; a refusal is the error.
    pub fn decode(wire: wire::hello_reply::Reader<'_>) -> Result<Self, Failure> {
        decode_optional_failure(wire.has_error(), wire.get_error())?;
        let limits = wire.get_limits().map_err(|error| malformed("limits", error))?;
        Ok(Self {
            header: ReplyHeader::decode(wire.get_header()),
            protocol: wire.get_protocol(),
            server: lenient_text(wire.get_server()),
            cluster: sixteen("cluster", wire.get_cluster())?,
            node: NodeId(sixteen("node", wire.get_node())?),
            name: lenient_text(wire.get_name()),
            limits: NodeLimits {
                key_bytes_max: limits.get_key_bytes_max(),
                value_bytes_max: limits.get_value_bytes_max(),
                batch_operations_max: limits.get_batch_operations_max(),
                batch_bytes_max: limits.get_batch_bytes_max(),
                calls_in_flight_max: limits.get_calls_in_flight_max(),
            },
            directory: sixteen("directory", wire.get_directory())?,
            positions: decode_positions(wire.get_positions())?,
            process: process(wire.has_process(), wire.get_process())?,
        })
    }
}

/// Nodes of before this field do not say.
fn process(is_said: bool, data: capnp::Result<&[u8]>) -> Result<u128, Failure> {
    if is_said { sixteen("process", data) } else { Ok(0) }
}

fn introduction(wire: wire::peer_introduction::Reader<'_>) -> Result<PeerIntroduction, Failure> {
    Ok(PeerIntroduction {
        cluster: sixteen("peer.cluster", wire.get_cluster())?,
        node: NodeId(sixteen("peer.node", wire.get_node())?),
        directory: sixteen("peer.directory", wire.get_directory())?,
        epoch: wire.get_epoch(),
        layout_hash: super::fixed("peer.layoutHash", wire.get_layout_hash())?,
        positions: decode_positions(wire.get_positions())?,
        process: process(wire.has_process(), wire.get_process())?,
    })
}

/// Writes journal positions into a list of the same length.
pub fn encode_positions(mut list: capnp::primitive_list::Builder<'_, u64>, positions: &[u64]) {
    for (at, position) in (0..list.len()).zip(positions) {
        list.set(at, *position);
    }
}

/// Reads journal positions.
pub fn decode_positions(list: capnp::Result<capnp::primitive_list::Reader<'_, u64>>) -> Result<Vec<u64>, Failure> {
    let list = list.map_err(|error| malformed("positions", error))?;
    if list.len() > POSITIONS_MAX {
        return Err(too_large("positions", POSITIONS_MAX as usize, list.len() as usize, "entries"));
    }
    Ok(list.iter().collect())
}
