//! The network that comes with `capnp-rpc`, set up as its own examples do: buffered in both directions.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;
use futures_util::io::{AsyncRead, AsyncWrite, BufReader, BufWriter};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::spawn_local;

use crate::echo_capnp::echo;
use crate::service::Service;

/// Serves echo on loopback as long as the runtime lives.
pub(crate) fn serve() -> SocketAddr {
    let listener = wire::listen_reuseport(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let address = listener.local_addr().expect("an address");
    spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            wire::tune(&stream).expect("options");
            let object: echo::Client = capnp_rpc::new_client(Service { handle: Rc::default(), shared: Rc::default() });
            spawn_local(RpcSystem::new(network(stream, Side::Server), Some(object.client)));
        }
    });
    address
}

pub(crate) fn connect(stream: TcpStream) -> echo::Client {
    let mut system = RpcSystem::new(network(stream, Side::Client), None);
    let client = system.bootstrap(Side::Server);
    spawn_local(system);
    client
}

fn network(stream: TcpStream, side: Side) -> Box<VatNetwork<BufReader<Reader>>> {
    let (reader, writer) = stream.into_split();
    let writer = BufWriter::new(Writer(writer));
    Box::new(VatNetwork::new(BufReader::new(Reader(reader)), writer, side, capnp::message::ReaderOptions::default()))
}

/// tokio's traits as those of `futures`.
struct Reader(OwnedReadHalf);

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(bytes);
        ready!(Pin::new(&mut self.0).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

struct Writer(OwnedWriteHalf);

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
