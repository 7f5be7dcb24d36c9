//! Who called: the process behind a connection, as Linux tells it. All nodes know a node by the same address, since they must
//! agree on the layout, so the address that was called does not say who calls.
//!
//! Looking takes milliseconds, so it is done on a thread of its own, once for all who wait for it: nodes that connect again
//! because nobody answered in time must not make everybody wait longer.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Read,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, PoisonError, Weak, mpsc},
    thread,
};

use tokio::sync::oneshot;

use super::{End, Shared};

/// What the kernel hands out of its table at a time, and more.
const READ_BYTES: usize = 64 << 10;

/// A question: who is at the other side of this address. Unanswered if that side is gone already.
pub(super) type Question = (SocketAddr, oneshot::Sender<End>);

/// Answers questions until nobody can ask any more.
pub(super) fn start(shared: &Arc<Shared>) -> std::io::Result<mpsc::Sender<Question>> {
    let (sender, receiver) = mpsc::channel();
    let shared = Arc::downgrade(shared);
    thread::Builder::new().name("origins".to_owned()).spawn(move || answer(&shared, &receiver))?;
    Ok(sender)
}

fn answer(shared: &Weak<Shared>, receiver: &mpsc::Receiver<Question>) {
    while let Ok(first) = receiver.recv() {
        let questions: Vec<Question> = std::iter::once(first).chain(receiver.try_iter()).collect();
        let Some(shared) = shared.upgrade() else { return };
        let processes = shared.processes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        drop(shared);
        let (sockets, holders) = (sockets(), holders(&processes));
        for (caller, answer) in questions {
            if let Some(inode) = sockets.get(&caller) {
                // Whoever has given up waiting does not want to know.
                let _ = answer.send(holders.get(inode).map_or(End::Clients, |node| End::Node(*node)));
            }
        }
    }
}

/// The inodes of all TCP sockets by their local addresses.
fn sockets() -> HashMap<SocketAddr, u64> {
    let (mut table, mut buffer) = (Vec::new(), vec![0; READ_BYTES]);
    if let Ok(mut file) = File::open("/proc/net/tcp") {
        while let Ok(count @ 1..) = file.read(&mut buffer) {
            table.extend_from_slice(&buffer[..count]);
        }
    }
    let table = String::from_utf8_lossy(&table);
    table.lines().skip(1).filter_map(socket).collect()
}

/// A line of the kernel's table.
fn socket(line: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    // The address stands there as a number in the machine's own order, the port as a number.
    let address = Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes());
    let inode = fields.nth(7)?.parse().ok().filter(|inode| *inode > 0)?;
    Some(((address, u16::from_str_radix(port, 16).ok()?).into(), inode))
}

/// Which node's process holds a socket, by the sockets' inodes.
fn holders(processes: &[Option<u32>]) -> HashMap<u64, usize> {
    let mut holders = HashMap::new();
    for (node, process) in processes.iter().enumerate() {
        let Some(process) = process else { continue };
        for file in fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten() {
            let inode = fs::read_link(file.path())
                .ok()
                .and_then(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            holders.extend(inode.map(|inode| (inode, node)));
        }
    }
    holders
}
