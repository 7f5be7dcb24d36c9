//! Loopback ports for nodes that a test starts, stops and starts again, reserved until the test's process ends.
//!
//! Nodes share their port among their workers, so the system would let a second node listen where another test's node is about
//! to, and clients would meet the one or the other. So a port is reserved by a socket of its number in the kernel's abstract
//! name space, as `quorate dev` does it, and taken from below the range out of which the system gives ports to connections: a
//! node that is down keeps its port.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixListener},
    },
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

/// The ports that are given out: above the well-known ones and those of `quorate dev`, below the system's own.
const PORT_FIRST: u16 = 10_000;
const PORT_LAST: u16 = 31_999;

/// What this process has reserved, and where it looks on.
static RESERVED: Mutex<(Option<u16>, Vec<UnixListener>)> = Mutex::new((None, Vec::new()));

/// Addresses that nobody listens on and no other test takes while this process lives.
///
/// # Panics
/// When there are not so many.
pub fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    let (next, held) = &mut *reserved;
    let mut port = next.unwrap_or_else(first);
    let mut addresses = Vec::with_capacity(count);
    for _ in PORT_FIRST..=PORT_LAST {
        if addresses.len() == count {
            break;
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if let Some(name) = reserve(address) {
            held.push(name);
            addresses.push(address);
        }
        port = if port == PORT_LAST { PORT_FIRST } else { port + 1 };
    }
    *next = Some(port);
    assert!(addresses.len() == count, "there are no {count} free ports from {PORT_FIRST} to {PORT_LAST}");
    addresses
}

/// Another place to begin for each process, so that they seldom meet.
fn first() -> u16 {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
    let drawn = nanoseconds.wrapping_mul(2_654_435_761).wrapping_add(std::process::id().wrapping_mul(7_919));
    PORT_FIRST + (drawn % u32::from(PORT_LAST - PORT_FIRST + 1)) as u16
}

fn reserve(address: SocketAddr) -> Option<UnixListener> {
    let name = UnixAddr::from_abstract_name(format!("quorate-local-{address}")).ok()?;
    let reserved = UnixListener::bind_addr(&name).ok()?;
    TcpListener::bind(address).ok().map(|_| reserved)
}
