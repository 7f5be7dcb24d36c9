//! Datagrams through a proxy: passed on, late, or lost. A node sends from the port it listens on, by which it is recognised;
//! what it sends is passed on from the proxy before it, so that it comes from the address by which the receiver knows it, and
//! an answer finds its way back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{net::UdpSocket, time::sleep};

use super::{End, Shared};

/// Longest datagram: what IP carries.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Before another try when nothing could be received: a node that is away makes the kernel say so here.
const PAUSE: Duration = Duration::from_millis(1);

/// Passes on what is sent to a node, for ever.
pub(super) async fn relay(shared: Arc<Shared>, node: usize, sockets: Arc<[UdpSocket]>) {
    /// Counts the datagrams of all links: which one is lost need not be random.
    static DATAGRAMS: AtomicU32 = AtomicU32::new(0);
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok((count, sender)) = sockets[node].recv_from(&mut buffer).await else {
            sleep(PAUSE).await;
            continue;
        };
        let known = shared.listen.iter().position(|listen| *listen == sender);
        let (from, through) = (known.map_or(End::Clients, End::Node), known.unwrap_or(node));
        let weather = *shared.weather(from, End::Node(node)).borrow();
        let is_lost = weather.breaks_one_in > 0
            && DATAGRAMS.fetch_add(1, Ordering::Relaxed).is_multiple_of(weather.breaks_one_in);
        if weather.is_cut || is_lost {
            continue;
        }
        let (bytes, to, sockets) = (buffer[..count].to_vec(), shared.listen[node], Arc::clone(&sockets));
        tokio::spawn(async move {
            sleep(weather.delay).await;
            sockets[through].send_to(&bytes, to).await
        });
    }
}
