//! A connection to one node: dial, introduce ourselves, and hold the capabilities that gives. The only file that knows which
//! RPC transport is used.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty};
use dynamo::ident::NodeId;
use futures_util::io::{AsyncRead, AsyncWrite, BufReader, BufWriter};
use schema::{
    convert::{HelloReply, HelloRequest, Role},
    kv_capnp::kv,
    node_capnp::{PROTOCOL_VERSION, node},
};
use tokio::{
    io::ReadBuf,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use crate::Error;

/// A connection that was greeted. It ends when this is dropped.
pub(crate) struct Connection {
    pub(crate) node: node::Client,
    pub(crate) kv: kv::Client,
    pub(crate) hello: HelloReply,
    task: JoinHandle<()>,
}

/// Who is expected at the other end; a client that knows no layout yet expects nobody in particular.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) cluster: u128,
    pub(crate) node: NodeId,
}

/// Opens a connection to one of `addresses`, in their order, and says hello. The second result resolves when it ends.
pub(crate) async fn connect(
    addresses: &[String],
    name: &str,
    expected: Option<Expected>,
    connect_timeout: Duration,
) -> Result<(Connection, oneshot::Receiver<()>), Error> {
    let mut problem = Error::connection("the node has no address");
    for address in addresses {
        match timeout(connect_timeout, open(address, name)).await {
            Ok(Ok((connection, ended))) => {
                check(&connection.hello, expected, address)?;
                return Ok((connection, ended));
            }
            Ok(Err(error)) => problem = error,
            Err(_) => problem = Error::connection(format!("{address}: no answer within {connect_timeout:?}")),
        }
    }
    Err(problem)
}

async fn open(address: &str, name: &str) -> Result<(Connection, oneshot::Receiver<()>), Error> {
    let refused = |error: io::Error| Error::connection(format!("{address}: {error}"));
    let stream = TcpStream::connect(address).await.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    let (read, write) = stream.into_split();
    let network = twoparty::VatNetwork::new(
        BufReader::new(Reading(read)),
        BufWriter::new(Writing(write)),
        Side::Client,
        Default::default(),
    );
    let mut system = RpcSystem::new(Box::new(network), None);
    let node: node::Client = system.bootstrap(Side::Server);
    let (sender, ended) = oneshot::channel();
    let task = tokio::task::spawn_local(async move {
        let _ = system.await;
        let _ = sender.send(());
    });
    let guard = Guard(Some(task));
    let unusable = |error: capnp::Error| Error::connection(format!("{address}: {error}"));
    let mut request = node.hello_request();
    let hello = HelloRequest { protocol_min: PROTOCOL_VERSION, protocol_max: PROTOCOL_VERSION, ..introduction(name) };
    hello.encode(request.get().init_request());
    let response = request.send().promise.await.map_err(unusable)?;
    let reply = response.get().and_then(|results| results.get_reply()).map_err(unusable)?;
    let hello = HelloReply::decode(reply).map_err(Error::from_failure)?;
    let kv = reply.get_kv().map_err(unusable)?;
    Ok((Connection { node, kv, hello, task: guard.release() }, ended))
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
    /// Whether the other side is gone.
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends the task of a connection that was given up before it was greeted.
struct Guard(Option<JoinHandle<()>>);

impl Guard {
    fn release(mut self) -> JoinHandle<()> {
        self.0.take().unwrap_or_else(|| tokio::task::spawn_local(async {}))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

struct Reading(OwnedReadHalf);
struct Writing(OwnedWriteHalf);

impl AsyncRead for Reading {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        match tokio::io::AsyncRead::poll_read(Pin::new(&mut self.0), context, &mut buffer) {
            Poll::Ready(result) => Poll::Ready(result.map(|()| buffer.filled().len())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Writing {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        tokio::io::AsyncWrite::poll_write(Pin::new(&mut self.0), context, buffer)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        tokio::io::AsyncWrite::poll_flush(Pin::new(&mut self.0), context)
    }
    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        tokio::io::AsyncWrite::poll_shutdown(Pin::new(&mut self.0), context)
    }
}
