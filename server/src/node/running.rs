//! A node as a process runs it: its threads are started and ended in order, and signals drain it.

use std::{io, net::SocketAddr, sync::Arc};

use super::{Node, ServeError, Stage};
use crate::{config::Config, gossip::Gossip, steward, worker::Worker};

/// A node that runs in this process.
pub struct RunningNode {
    node: Arc<Node>,
    workers: Vec<Worker>,
    gossip: Option<Gossip>,
    steward: Option<steward::Thread>,
    address: SocketAddr,
}

/// Runs a node until SIGTERM or SIGINT, then drains it. A second signal ends it at once.
pub fn run(config: Config) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::System)?;
    // Before the node listens: whoever sees that it does may tell it to stop.
    let (mut terminate, mut interrupt) = {
        let _context = runtime.enter();
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(ServeError::System);
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?)
    };
    let running = RunningNode::start(config)?;
    let mut failed = running.node.has_failed.subscribe();
    let why = runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = failed.wait_for(|failed| *failed) => "the node can't go on",
        }
    });
    tracing::info!(why, "stopping");
    running.node.drain();
    runtime.block_on(async {
        tokio::select! {
            () = running.node.drained() => {}
            _ = terminate.recv() => tracing::warn!("told twice: stopping at once"),
            _ = interrupt.recv() => tracing::warn!("told twice: stopping at once"),
        }
    });
    running.end()
}

impl RunningNode {
    /// Starts a node in this process.
    pub fn start(config: Config) -> Result<Self, ServeError> {
        claim(config.listen).map_err(ServeError::Listen)?;
        let node = Arc::new(Node::open(config)?);
        let mut address = node.config.listen;
        let mut workers = Vec::new();
        for number in 0..node.counters.len() {
            // Where the system chose the port, all workers listen on the one it gave the first.
            let worker = match Worker::start(Arc::clone(&node), number, address) {
                Ok(worker) => worker,
                Err(error) => {
                    Self { node, workers, gossip: None, steward: None, address }.end()?;
                    return Err(ServeError::Listen(error));
                }
            };
            address = worker.address;
            workers.push(worker);
        }
        let gossip = start_gossip(&node, address);
        let known = node.known();
        let (epoch, owned) = (known.ring.epoch(), known.owned_partitions().count());
        tracing::info!(name = node.config.name, %address, epoch, partitions = owned, "serving");
        if !node.config.listen.ip().is_loopback() {
            tracing::warn!("the address is reachable without TLS or authentication of clients: trusted networks only");
        }
        match steward::Thread::start(Arc::clone(&node)) {
            Ok(steward) => Ok(Self { node, workers, gossip, steward: Some(steward), address }),
            Err(error) => {
                Self { node, workers, gossip, steward: None, address }.end()?;
                Err(ServeError::System(error))
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drains and ends it.
    pub fn stop(self) -> Result<(), ServeError> {
        self.node.drain();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(ServeError::System)?;
        runtime.block_on(self.node.drained());
        self.end()
    }

    /// Ends it at once: what is in flight gets no answer, as if the process had been killed, except that the store closes.
    pub fn end(self) -> Result<(), ServeError> {
        self.node.stage.send_replace(Stage::Stopped);
        let mut is_well = !*self.node.has_failed.borrow();
        for worker in self.workers {
            is_well &= worker.join().is_ok();
        }
        self.gossip.into_iter().for_each(Gossip::join);
        if let Some(steward) = self.steward {
            is_well &= steward.join().is_ok();
        }
        tracing::info!("stopped");
        match self.node.refusal.get() {
            Some(why) => Err(ServeError::OldCopy(why.clone())),
            None if is_well => Ok(()),
            None => Err(ServeError::Worker),
        }
    }
}

/// Starts gossip, if it is wanted. A port that is taken is no reason not to serve: what
/// gossip tells, calls tell later, and `status` says that it does not run.
fn start_gossip(node: &Arc<Node>, address: SocketAddr) -> Option<Gossip> {
    if !node.gossips() {
        return None;
    }
    let started = Gossip::start(Arc::clone(node), address);
    started
        .inspect_err(|error| tracing::error!(%address, %error, "can't listen on UDP: this node does not gossip"))
        .ok()
}

/// Makes sure that no other process listens on the address. The workers share their port among each other, and the system
/// would let another process of the same user share it too: connections would be dealt out between two nodes.
fn claim(address: SocketAddr) -> io::Result<()> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a predecessor that linger in the system are no obstacle.
    socket.set_reuse_address(true)?;
    let claimed = socket.bind(&address.into()).and_then(|()| socket.listen(1));
    claimed.map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}
