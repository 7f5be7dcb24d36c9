//! Who called: the process behind a connection, as Linux tells it. All nodes know a node by the same address, since they must
//! agree on the layout, so the address that was called does not say who calls.

use std::{fs, net::SocketAddr, sync::PoisonError};

use super::{End, Shared};

/// The end from which a connection comes whose other side is `caller`. Whoever is no node is a client.
pub(super) fn of(shared: &Shared, caller: SocketAddr) -> End {
    let processes = shared.processes.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(inode) = socket_at(caller) else { return End::Clients };
    let link = format!("socket:[{inode}]");
    let holds = |process: &Option<u32>| process.is_some_and(|process| holds(process, &link));
    processes.iter().position(holds).map_or(End::Clients, End::Node)
}

/// The inode of the TCP socket with this local address.
fn socket_at(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    // The kernel prints the address as a number in the machine's own order, and the port as a number.
    let wanted = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        (fields.nth(1)? == wanted).then(|| fields.nth(7).map(str::to_owned))?
    })
}

fn holds(process: u32, link: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link))
}
