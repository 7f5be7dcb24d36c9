//! Free loopback ports for nodes that are about to start.
//!
//! Between choosing a port and a node's listening on it lies a moment in which another cluster could choose the same one;
//! and because nodes listen with SO_REUSEPORT, both would then listen, and clients would meet the one or the other. So a
//! port is reserved for as long as the cluster lives, by a socket with its number in the kernel's abstract name space.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    ops::RangeInclusive,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixListener},
    },
};

/// The first port that is tried: the one where commands look for a node by default.
const PORT_FIRST: u16 = 7601;

/// How often other ports are tried when somebody else is quicker.
const TRIES: usize = 100;

/// Where ports are looked for that must not be given to anybody while nobody listens on them: above the well-known ones and
/// those of `quorate dev`, below those that Linux gives to outgoing connections.
const LASTING: RangeInclusive<u16> = 10_000..=31_999;

/// A port that no other cluster of this kind takes meanwhile.
#[derive(Debug)]
pub(super) struct Reserved {
    pub(super) address: SocketAddr,
    _name: UnixListener,
}

/// Ports nobody listens on now: 7601 and the following ones if they are all free, else whichever the system chooses.
pub(super) fn reserve(count: u16) -> io::Result<Vec<Reserved>> {
    let wanted: io::Result<_> = (PORT_FIRST..PORT_FIRST + count).map(|port| reserve_address(loopback(port))).collect();
    wanted.or_else(|_| (0..count).map(|_| reserve_any()).collect())
}

/// The port after this one if nobody listens there now, else whichever the system chooses.
pub(super) fn reserve_after(port: u16) -> io::Result<Reserved> {
    let next = port.checked_add(1).filter(|next| *next > PORT_FIRST);
    next.and_then(|next| reserve_address(loopback(next)).ok()).map_or_else(reserve_any, Ok)
}

/// Ports that stay free for their owner while it is down and comes back.
pub(super) fn reserve_lasting(count: usize) -> io::Result<Vec<Reserved>> {
    let drawn = getrandom::u32().map_err(|error| io::Error::other(error.to_string()))?;
    let width = LASTING.len() as u32;
    // Each process begins elsewhere, so that they seldom meet.
    let candidates = (0..width).map(|step| *LASTING.start() + (drawn.wrapping_add(step) % width) as u16);
    let free = |port| {
        let reserved = reserve_address(loopback(port)).ok()?;
        UdpSocket::bind(reserved.address).ok().map(|_| reserved)
    };
    let reserved: Vec<Reserved> = candidates.filter_map(free).take(count).collect();
    if reserved.len() < count {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("there are no {count} free ports in {LASTING:?}"),
        ));
    }
    Ok(reserved)
}

/// Reserves one address, if nobody listens there and nobody else has reserved it.
pub(super) fn reserve_address(address: SocketAddr) -> io::Result<Reserved> {
    let name = UnixListener::bind_addr(&UnixAddr::from_abstract_name(format!("quorate-local-{address}"))?)?;
    TcpListener::bind(address)?;
    Ok(Reserved { address, _name: name })
}

fn reserve_any() -> io::Result<Reserved> {
    let mut tries = 0;
    loop {
        let address = TcpListener::bind(loopback(0))?.local_addr()?;
        tries += 1;
        match reserve_address(address) {
            Err(_) if tries < TRIES => {}
            reserved => return reserved,
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// For tests that give a port back and want the same one again: the tests of one process run at the same time, and all of
/// them are given the first free ports.
#[cfg(test)]
pub(super) fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::TcpListener};

    use super::{LASTING, alone, reserve, reserve_address, reserve_lasting};

    #[test]
    fn no_port_is_given_out_twice() {
        let _alone = alone();
        let (first, second) = (reserve(5).unwrap(), reserve(5).unwrap());
        let addresses: BTreeSet<_> = first.iter().chain(&second).map(|port| port.address).collect();
        assert_eq!(addresses.len(), 10);
        assert!(reserve_address(first[0].address).is_err());
        let address = first[0].address;
        drop(first);
        assert!(reserve_address(address).is_ok());
    }

    #[test]
    fn lasting_ports_are_none_that_a_connection_could_get() {
        let (first, second) = (reserve_lasting(6).unwrap(), reserve_lasting(6).unwrap());
        let ports: BTreeSet<_> = first.iter().chain(&second).map(|port| port.address.port()).collect();
        assert_eq!(ports.len(), 12);
        assert!(ports.iter().all(|port| LASTING.contains(port)));
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_reserved() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(reserve_address(taken.local_addr().unwrap()).is_err());
    }
}
