//! How sockets are set up: options that make a dead peer noticed, small messages leave at once, and several workers
//! share one port. Only this file knows `socket2`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

/// A connection without traffic is probed after this time, so that a machine that vanished is noticed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Time between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Probes without an answer after which the peer counts as gone.
const KEEPALIVE_PROBES: u32 = 3;
/// Sent data that nobody acknowledges. Longer than the stall limits of this crate, which give the better reason.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that wait to be accepted: a burst of reconnecting clients after a restart.
const BACKLOG: i32 = 1024;

/// Sets the options that every connection should have: no delay for small messages, keepalive probes, and an upper
/// bound on the time that sent data may stay unacknowledged.
///
/// # Errors
/// Those of the operating system; the stream is still usable then.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

/// Listens on `address` in a way that lets several listeners of this process share the port: the kernel deals out new
/// connections among them. Call it inside a tokio runtime.
///
/// # Errors
/// Those of the operating system, with the address in the text.
pub fn listen_reuseport(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address).map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted node must get its port back although connections of its predecessor linger in the kernel.
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
