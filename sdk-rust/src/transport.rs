//! A connection to one node: dial, introduce ourselves, and hold the capabilities that gives. The only file that knows which
//! RPC transport is used.

use std::{io, time::Duration};

use dynamo::ident::NodeId;
use schema::{
    admin_capnp::admin,
    convert::{HelloReply, HelloRequest, Role},
    kv_capnp::kv,
    node_capnp::{PROTOCOL_VERSION, node},
};
use tokio::{net::TcpStream, time::timeout};
use wire::{Budget, ConnectionHandle, Limits};

use crate::Error;

/// The longest value a node may be configured for; replies that hold one must be accepted before any node said its limit.
const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A connection that was greeted. It ends when this is dropped.
pub(crate) struct Connection {
    pub(crate) node: node::Client,
    pub(crate) kv: kv::Client,
    /// `None` from a node that is too old to have it.
    pub(crate) admin: Option<admin::Client>,
    pub(crate) hello: HelloReply,
    handle: Closing,
}

/// Closes the connection when it is dropped.
struct Closing(ConnectionHandle);

/// Who is expected at the other end; a client that knows no layout yet expects nobody in particular.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) cluster: u128,
    pub(crate) node: NodeId,
}

/// Opens a connection to one of `addresses`, in their order, and says hello. `budget` bounds the bytes of replies that are being
/// read.
pub(crate) async fn connect(
    addresses: &[String],
    name: &str,
    expected: Option<Expected>,
    connect_timeout: Duration,
    budget: &Budget,
) -> Result<Connection, Error> {
    let mut problem = Error::connection("the node has no address");
    for address in addresses {
        match timeout(connect_timeout, open(address, name, budget)).await {
            // Another node may have the address by now, and the one that is wanted a different one of these.
            Ok(Ok(connection)) => match check(&connection.hello, expected, address) {
                Ok(()) => return Ok(connection),
                Err(error) => problem = error,
            },
            Ok(Err(error)) => problem = error,
            Err(_) => problem = Error::connection(format!("{address}: no answer within {connect_timeout:?}")),
        }
    }
    Err(problem)
}

async fn open(address: &str, name: &str, budget: &Budget) -> Result<Connection, Error> {
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidInput => Error::connection(format!("{address}: {error}, host:port is wanted")),
        _ => Error::connection(format!("{address}: {error}")),
    };
    let stream = TcpStream::connect(address).await.map_err(refused)?;
    wire::tune(&stream).map_err(refused)?;
    let (node, handle) = wire::connect::<node::Client>(stream, Limits::client(VALUE_BYTES_MAX), budget.clone());
    let handle = Closing(handle);
    let unusable = |error: capnp::Error| {
        let reason = handle.0.reason().map_or_else(|| error.to_string(), |reason| reason.to_string());
        Error::connection(format!("{address}: {reason}"))
    };
    let mut request = node.hello_request();
    let hello = HelloRequest { protocol_min: PROTOCOL_VERSION, protocol_max: PROTOCOL_VERSION, ..introduction(name) };
    hello.encode(request.get().init_request());
    let response = request.send().promise.await.map_err(unusable)?;
    let reply = response.get().and_then(|results| results.get_reply()).map_err(unusable)?;
    let hello = HelloReply::decode(reply).map_err(Error::from_failure)?;
    let kv = reply.get_kv().map_err(unusable)?;
    let admin = if reply.has_admin() { Some(reply.get_admin().map_err(unusable)?) } else { None };
    Ok(Connection { node, kv, admin, hello, handle })
}

fn introduction(name: &str) -> HelloRequest {
    HelloRequest { client: name.to_owned(), role: Role::Client, ..HelloRequest::default() }
}

fn check(hello: &HelloReply, expected: Option<Expected>, address: &str) -> Result<(), Error> {
    let Some(expected) = expected else { return Ok(()) };
    if hello.cluster != expected.cluster {
        return Err(Error::wrong_cluster(format!("{address} belongs to another cluster")));
    }
    if hello.node != expected.node {
        let message = format!("{address} is node {}, not {} as the layout says", hello.node, expected.node);
        return Err(Error::wrong_cluster(message));
    }
    Ok(())
}

impl Connection {
    /// The handle by which the connection's end can be awaited.
    pub(crate) fn handle(&self) -> ConnectionHandle {
        self.handle.0.clone()
    }

    /// Whether the connection has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.handle.0.reason().is_some()
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}
