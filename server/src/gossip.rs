//! Gossip between the nodes (paper, section 4.8.2 and 4.8.3): who is alive, as the members tell each other by SWIM over UDP,
//! on the port number of the node's TCP listener, in sealed packets. Each packet also says under which layout its sender works
//! and how far its store has come.
//!
//! It is a hint and nothing more: it makes an idle worker look after a node at once instead of with its next call or attempt,
//! wakes the delivery of hints, and shows in `status`. It never decides who owns what, moves no data, and a node without it
//! only learns later what its own calls tell it. What a worker's own calls say always wins ([`crate::worker`], breaker).

mod board;
mod codec;
mod envelope;
mod health;
mod identity;
mod replays;
mod seal;
mod swim;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use dynamo::ident::NodeId;
use tokio::{
    net::UdpSocket,
    runtime,
    sync::{mpsc, watch},
};

use crate::node::{Known, Node, Stage};

pub(crate) use board::Board;
pub use envelope::News;
pub use identity::Identity;
pub use seal::Seal;
pub use swim::{Happening, Membership, PACKET_BYTES_MAX, Rhythm, Roster, Standing, Swim, Tally};

/// How often nodes that were not heard of are asked to take this one in, its own news are gathered, and the board is brought
/// up to date.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often the addresses of nodes are looked up anew: a name may come to mean another host.
const LOCATE_EVERY: Duration = Duration::from_secs(60);

/// Packets that are read before anything else is done: more than a second's worth even while half a large cluster dies.
const PACKETS_AT_ONCE: usize = 1_024;

/// A gossip thread that runs.
#[derive(Debug)]
pub(crate) struct Gossip(thread::JoinHandle<()>);

impl Gossip {
    /// Lets a node take part, over UDP on `address`. Returns when the socket is open.
    pub(crate) fn start(node: Arc<Node>, address: SocketAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        let body = move || {
            let running = WhileRunning(&node);
            running.0.gossip.set_running(true);
            let serve = || -> io::Result<()> {
                let runtime =
                    runtime::Builder::new_current_thread().enable_all().build_local(runtime::LocalOptions::default())?;
                runtime.block_on(async { Conversation::new(&node, UdpSocket::from_std(socket)?, address).last().await })
            };
            if let Err(error) = serve() {
                tracing::error!(%error, "gossip ended; the node goes on, and learns of others only by its own calls");
            }
        };
        Ok(Self(thread::Builder::new().name("gossip".to_owned()).spawn(body)?))
    }

    /// Waits until it has ended. A panic in it has been logged, and is no reason for the node to fail.
    pub(crate) fn join(self) {
        let _ = self.0.join();
    }
}

/// Says that gossip has ended, also when it ended in a panic.
struct WhileRunning<'n>(&'n Node);

impl Drop for WhileRunning<'_> {
    fn drop(&mut self) {
        self.0.gossip.set_running(false);
        if thread::panicking() {
            tracing::error!("gossip ended in a panic; the node goes on without it. Please report this with the log");
        }
    }
}

/// One node's gossip, with its socket and clock.
struct Conversation<'n> {
    node: &'n Arc<Node>,
    socket: UdpSocket,
    swim: Swim,
    located: mpsc::Receiver<(NodeId, SocketAddr)>,
    changes: watch::Receiver<Arc<Known>>,
    started: Instant,
}

impl<'n> Conversation<'n> {
    fn new(node: &'n Arc<Node>, socket: UdpSocket, address: SocketAddr) -> Self {
        let config = &node.config.gossip;
        let known = node.known();
        let others: Roster = known.others().map(|(_, member)| (member.id, None)).collect();
        let suspicion_ms = u64::from(config.suspicion_ms);
        let membership = Membership {
            me: Identity::new(node.id, address, wall_ms()),
            others: others.into(),
            seal: Seal::new(node.config.cluster.secret.bytes(), known.layout().cluster),
            rhythm: Rhythm {
                probe_every: Duration::from_millis(config.probe_every_ms.into()),
                probe_timeout: Duration::from_millis(config.probe_timeout_ms.into()),
                suspicion: (suspicion_ms > 0).then(|| Duration::from_millis(suspicion_ms)),
            },
        };
        let changes = node.changes();
        let swim = Swim::new(membership, random());
        Self { node, socket, swim, located: locate(node), changes, started: Instant::now() }
    }

    /// Goes on until the node stops.
    async fn last(mut self) -> io::Result<()> {
        let mut stage = self.node.stage();
        let mut next_look = Instant::now();
        let mut buffer = [0; PACKET_BYTES_MAX + 1];
        loop {
            self.read(&mut buffer);
            self.swim.wake(self.started.elapsed());
            if Instant::now() >= next_look {
                next_look = Instant::now() + LOOK_EVERY;
                self.look();
            }
            self.write();
            self.react();
            let due = self.swim.next_deadline().map_or(next_look, |due| next_look.min(self.started + due));
            tokio::select! {
                stopped = stage.wait_for(|stage| *stage == Stage::Stopped) => {
                    drop(stopped);
                    return Ok(());
                }
                readable = self.socket.readable() => readable?,
                Some((node, address)) = self.located.recv() => self.swim.locate(node, address),
                Ok(()) = self.changes.changed() => self.follow(),
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
    }

    /// Reads what has come, before anything is concluded from its not having come.
    fn read(&mut self, buffer: &mut [u8]) {
        for _ in 0..PACKETS_AT_ONCE {
            match self.socket.try_recv_from(buffer) {
                Ok((length, _)) => self.swim.receive(self.started.elapsed(), &buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // What a former packet met on its way; the next one has nothing to do with it.
                Err(_) => {}
            }
        }
    }

    /// Sends what is to be sent. What the system does not take is lost, as on any network.
    fn write(&mut self) {
        for (to, packet) in self.swim.outgoing() {
            let _ = self.socket.try_send_to(&packet, to);
        }
    }

    fn look(&mut self) {
        let node = self.node;
        let known = node.known();
        self.swim.tell(News {
            process: node.acquaintances.me().0,
            epoch: known.ring.epoch(),
            layout_hash: known.layout_hash,
            positions: node.store.positions(),
        });
        self.swim.join(self.started.elapsed(), random());
        for (id, standing) in self.swim.standings() {
            if known.place_of(id).is_some() {
                node.gossip.set_standing(id, standing);
            }
        }
        node.gossip.publish(&self.swim.tally(), self.swim.patience());
    }

    /// Follows a change of the ring.
    fn follow(&mut self) {
        let known = Arc::clone(&self.changes.borrow_and_update());
        self.swim.set_others(known.others().map(|(_, member)| member.id).collect());
        self.node.gossip.retain(|id| known.place_of(id).is_some());
        self.look();
    }

    fn react(&mut self) {
        let node = self.node;
        let known = node.known();
        for happening in self.swim.happenings() {
            match happening {
                Happening::Up(id) => {
                    tracing::info!(peer = known.name_of(id), "alive, as the members say");
                    if let Some(index) = known.place_of(id) {
                        node.gossip.set_standing(id, Standing::Alive);
                        node.heard(&known, index);
                        // Hints that wait for it may go, whatever the workers saw of it.
                        node.steward.heard(index);
                    }
                }
                Happening::Down(id) => {
                    tracing::warn!(peer = known.name_of(id), "down, as the members say");
                    if let Some(index) = known.place_of(id) {
                        node.gossip.set_standing(id, Standing::Down);
                        node.doubt(index);
                    }
                }
                Happening::News(id, news) => node.learn(id, &news),
                Happening::Renewed => {
                    tracing::warn!("the members said that this node is down; it told them that it is not");
                }
                Happening::Twin(address) => {
                    if node.gossip.set_twin() {
                        tracing::error!(%address, "another process uses this node's name: stop one of the two");
                    }
                }
            }
        }
    }
}

/// Looks up where the other nodes are, now and again. Its own task, since a name server may take its time.
fn locate(node: &Arc<Node>) -> mpsc::Receiver<(NodeId, SocketAddr)> {
    let (found, located) = mpsc::channel(64);
    let node = Arc::clone(node);
    let mut changes = node.changes();
    tokio::task::spawn_local(async move {
        loop {
            let known = Arc::clone(&changes.borrow_and_update());
            for (_, member) in known.others() {
                let Some(address) = member.addresses.first() else { continue };
                // A name that can't be resolved now may be another time.
                let Ok(mut addresses) = tokio::net::lookup_host(address).await else { continue };
                if let Some(address) = addresses.next()
                    && found.send((member.id, address)).await.is_err()
                {
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOCATE_EVERY) => {}
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    });
    located
}

fn wall_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// Any number: choices that other nodes shall not make alike. Without randomness they are merely alike.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
