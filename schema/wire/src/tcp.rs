//! Sockets as both sides want them.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

/// How long sent bytes may stay unacknowledged before the kernel gives the connection up: a peer that lost its power says nothing.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection may be idle before the kernel asks whether the other side is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// Connections that wait to be accepted: a burst of a thousand clients starting together fits.
const BACKLOG: i32 = 4096;

/// Listens on `address` so that several workers can each listen on the same one; the kernel spreads connections over them.
///
/// # Errors
/// What the operating system says: the address is in use, or not ours.
pub fn listen_reuseport(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Sets what every connection wants: no delay for small frames (the writer coalesces), and an end for peers that vanished.
///
/// # Errors
/// What the operating system says; the socket is then already broken.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_IDLE))
}
