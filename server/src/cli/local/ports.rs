//! Free loopback ports for nodes that are about to start.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

/// The first port that is tried: the one where commands look for a node by default.
const PORT_FIRST: u16 = 7601;

/// Addresses nobody listens on now: 7601 and the following ones if they are all free, else whichever the system chooses.
/// Another process may take one before the node does; the node then says so and ends.
pub(super) fn free(count: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses = |listeners: Vec<TcpListener>| listeners.iter().map(TcpListener::local_addr).collect();
    match (PORT_FIRST..PORT_FIRST + count).map(listen).collect::<io::Result<Vec<_>>>() {
        Ok(listeners) => addresses(listeners),
        Err(_) => addresses((0..count).map(|_| listen(0)).collect::<io::Result<Vec<_>>>()?),
    }
}

/// Whether nobody listens on an address.
pub(super) fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::TcpListener};

    use super::{free, is_free};

    #[test]
    fn free_ports_are_distinct_and_free() {
        let addresses = free(5).unwrap();
        assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 5);
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!is_free(taken.local_addr().unwrap()));
    }
}
