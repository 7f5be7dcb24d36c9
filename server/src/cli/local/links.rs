//! The links of a cluster, to be cut, slowed down and broken: in front of every node stands a proxy for its TCP connections
//! and one for its datagrams, at the address by which everybody knows it. A proxy finds out which process called, and so
//! there is weather of its own for every direction between two nodes, and between clients and nodes.
//!
//! A cut link behaves as a network does that carries nothing: connections stay open, bytes wait, and when the link is healed
//! they arrive late, as TCP would have sent them again. Datagrams are lost.

mod datagrams;
mod origin;
mod streams;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use tokio::{
    runtime,
    sync::{oneshot, watch},
};

/// How often another port is tried when the one for TCP is not free for datagrams.
const PORT_TRIES: usize = 50;

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// A node, by its number.
    Node(usize),
    /// All clients together.
    Clients,
}

/// How it goes from one end to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Nothing arrives.
    pub is_cut: bool,
    /// Everything arrives so much later.
    pub delay: Duration,
    /// Of so many chunks of a stream one breaks its connection instead of arriving, and one of as many datagrams is lost; 0: none.
    pub breaks_one_in: u32,
    /// When it changes, open connections break.
    breaks: u64,
}

/// The proxies of a cluster. Dropping it ends them.
#[derive(Debug)]
pub struct Links {
    advertised: Vec<SocketAddr>,
    shared: Arc<Shared>,
    /// The thread that carries everything lives as long as this.
    _alive: oneshot::Sender<()>,
}

/// What the proxies know.
#[derive(Debug)]
struct Shared {
    /// Where the nodes listen.
    listen: Vec<SocketAddr>,
    /// The process of each node, while it has one.
    processes: Mutex<Vec<Option<u32>>>,
    /// For each pair of ends, the weather from the first to the second.
    weather: Vec<Vec<watch::Sender<Weather>>>,
}

impl Links {
    /// Proxies before nodes that listen at `listen`, at addresses that the system chooses.
    pub fn new(listen: &[SocketAddr]) -> io::Result<Self> {
        Self::start(listen, (0..listen.len()).map(|_| bind_any()).collect::<Result<_, _>>()?)
    }

    /// The same at addresses that are known already, one for each node.
    pub fn at(listen: &[SocketAddr], advertised: &[SocketAddr]) -> io::Result<Self> {
        Self::start(listen, advertised.iter().map(|address| bind(*address)).collect::<Result<_, _>>()?)
    }

    fn start(listen: &[SocketAddr], proxies: Vec<(TcpListener, UdpSocket)>) -> io::Result<Self> {
        let ends = listen.len() + 1;
        let row = || (0..ends).map(|_| watch::Sender::new(Weather::default())).collect();
        let shared = Arc::new(Shared {
            listen: listen.to_vec(),
            processes: Mutex::new(vec![None; listen.len()]),
            weather: (0..ends).map(|_| row()).collect(),
        });
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let origins = origin::start(&shared)?;
        let context = runtime.enter();
        let (mut advertised, mut sockets) = (Vec::new(), Vec::new());
        for (node, (streams, datagrams)) in proxies.into_iter().enumerate() {
            advertised.push(streams.local_addr()?);
            sockets.push(tokio::net::UdpSocket::from_std(datagrams)?);
            let streams = tokio::net::TcpListener::from_std(streams)?;
            runtime.spawn(streams::accept(Arc::clone(&shared), node, streams, origins.clone()));
        }
        let sockets: Arc<[_]> = sockets.into();
        for node in 0..listen.len() {
            runtime.spawn(datagrams::relay(Arc::clone(&shared), node, Arc::clone(&sockets)));
        }
        drop(context);
        let (alive, ended) = oneshot::channel::<()>();
        // Nothing is ever sent: the wait is over when the sender goes, and with the runtime go all its tasks.
        thread::Builder::new().name("links".to_owned()).spawn(move || runtime.block_on(ended).ok())?;
        Ok(Self { advertised, shared, _alive: alive })
    }

    /// The addresses by which the nodes are to be known.
    pub fn advertised(&self) -> &[SocketAddr] {
        &self.advertised
    }

    /// Says which process a node is from now on.
    pub fn set_process(&self, node: usize, process: Option<u32>) {
        self.shared.processes.lock().unwrap_or_else(PoisonError::into_inner)[node] = process;
    }

    /// Starts a node's process: whoever asks meanwhile who called is told when the process is known, so that no call of the
    /// new process can be taken for a client's.
    pub fn start_process<T, E>(
        &self,
        node: usize,
        start: impl FnOnce() -> Result<T, E>,
        id: impl FnOnce(&T) -> u32,
    ) -> Result<T, E> {
        let mut processes = self.shared.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let started = start()?;
        processes[node] = Some(id(&started));
        Ok(started)
    }

    /// Changes the weather from one end to another.
    pub fn change(&self, from: End, to: End, change: impl FnOnce(&mut Weather)) {
        self.shared.weather(from, to).send_modify(change);
    }

    /// Cuts both directions between two ends.
    pub fn cut(&self, one: End, other: End) {
        self.change(one, other, |weather| weather.is_cut = true);
        self.change(other, one, |weather| weather.is_cut = true);
    }

    /// Breaks all open connections between two ends.
    pub fn break_connections(&self, one: End, other: End) {
        self.change(one, other, |weather| weather.breaks += 1);
        self.change(other, one, |weather| weather.breaks += 1);
    }

    /// Cuts every link between ends that are not in the same group, and joins those within one. An end that is in none is
    /// alone. What stays as it is, is not disturbed.
    pub fn partition(&self, groups: &[Vec<End>]) {
        let group = |end: End| groups.iter().position(|group| group.contains(&end));
        for from in self.ends() {
            for to in self.ends().filter(|to| *to != from) {
                let is_cut = group(from).is_none() || group(from) != group(to);
                self.change(from, to, |weather| weather.is_cut = is_cut);
            }
        }
    }

    /// Fair weather everywhere.
    pub fn heal(&self) {
        for weather in self.shared.weather.iter().flatten() {
            weather.send_modify(|weather| *weather = Weather { breaks: weather.breaks, ..Weather::default() });
        }
    }

    /// All ends: the nodes and the clients.
    pub fn ends(&self) -> impl Iterator<Item = End> + use<> {
        (0..self.advertised.len()).map(End::Node).chain([End::Clients])
    }
}

impl Shared {
    fn weather(&self, from: End, to: End) -> &watch::Sender<Weather> {
        &self.weather[self.place(from)][self.place(to)]
    }

    fn place(&self, end: End) -> usize {
        match end {
            End::Node(node) => node,
            End::Clients => self.listen.len(),
        }
    }
}

/// A port of the system's choice for both streams and datagrams.
fn bind_any() -> io::Result<(TcpListener, UdpSocket)> {
    let mut tries = 0;
    loop {
        match bind((Ipv4Addr::LOCALHOST, 0).into()) {
            Err(_) if tries < PORT_TRIES => tries += 1,
            bound => return bound,
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<(TcpListener, UdpSocket)> {
    let streams = TcpListener::bind(address)?;
    let datagrams = UdpSocket::bind(streams.local_addr()?)?;
    streams.set_nonblocking(true)?;
    datagrams.set_nonblocking(true)?;
    Ok((streams, datagrams))
}
