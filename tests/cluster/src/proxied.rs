//! A cluster of real nodes whose every link goes through a proxy, with the ways to do it harm and to make it whole again.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use quorate::Client;
use quorate_tests::cluster::{Cluster, Options, free_addresses};
use server::cli::local::links::{End, Links};

/// The name of the tests' clusters, from which nodes derive who they are.
pub const CLUSTER: &str = "test";

/// How long a client tries to reach nodes that have just started, on a machine that may be busy.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// A cluster behind proxies.
pub struct Proxied {
    cluster: Cluster,
    links: Links,
    nodes: usize,
}

impl Proxied {
    /// Starts nodes as `options` say, with proxies before them.
    ///
    /// # Panics
    /// When a node does not come up or no port is free.
    pub fn start(options: Options) -> Self {
        let listen = free_addresses(options.nodes);
        let links = Links::new(&listen).expect("loopback ports for proxies");
        let nodes = options.nodes;
        let options = Options { listen, advertised: links.advertised().to_vec(), ..options };
        let cluster = Cluster::start_with(&options);
        let proxied = Self { cluster, links, nodes };
        (0..nodes).for_each(|node| proxied.links.set_process(node, proxied.cluster.process_id(node)));
        // Connections that were made before the proxies knew the processes count as clients' ones.
        proxied.links.ends().for_each(|end| proxied.links.break_connections(End::Clients, end));
        proxied
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// The proxies.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Where a node keeps its data.
    pub fn data(&self, node: usize) -> &Path {
        self.cluster.data(node)
    }

    /// Where each node keeps its data.
    pub fn directories(&self) -> Vec<PathBuf> {
        (0..self.nodes).map(|node| self.data(node).to_owned()).collect()
    }

    /// Where a node itself listens, past its proxy.
    pub fn address(&self, node: usize) -> SocketAddr {
        self.cluster.address(node)
    }

    /// The addresses of all proxies, comma-separated.
    pub fn endpoints(&self) -> String {
        self.links.advertised().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// A client whose operations have `timeout` and are sent at most `attempts` times.
    ///
    /// # Panics
    /// When no node can be reached.
    pub async fn client(&self, timeout: Duration, attempts: u32) -> Client {
        let builder = Client::builder().endpoints(&self.endpoints()).timeout(timeout).attempts(attempts);
        let started = Instant::now();
        loop {
            match builder.clone().connect().await {
                Ok(client) => return client,
                Err(error) => assert!(started.elapsed() < CONNECT_TIMEOUT, "no node can be reached: {error}"),
            }
        }
    }

    /// Kills a node as SIGKILL does.
    pub fn kill(&mut self, node: usize) {
        self.links.set_process(node, None);
        self.cluster.kill(node);
    }

    /// Asks a node to end, and waits for it.
    pub fn stop(&mut self, node: usize) -> ExitStatus {
        self.links.set_process(node, None);
        self.cluster.stop(node)
    }

    /// Whether a node has a process, be it frozen.
    pub fn is_running(&self, node: usize) -> bool {
        self.cluster.process_id(node).is_some()
    }

    /// Starts a node on the data it has, and waits until it accepts connections.
    pub fn restart(&mut self, node: usize) {
        self.spawn(node);
        self.wait_until_serving(node);
    }

    /// Waits until a node that was started accepts connections.
    pub fn wait_until_serving(&mut self, node: usize) {
        self.cluster.wait_until_serving(node);
    }

    /// Starts a node on the data it has, which may end by itself.
    pub fn spawn(&mut self, node: usize) {
        self.cluster.spawn(node);
        self.links.set_process(node, self.cluster.process_id(node));
    }

    /// Waits until a node has ended by itself.
    pub fn wait_for_exit(&mut self, node: usize) -> ExitStatus {
        self.cluster.wait_for_exit(node)
    }

    /// Freezes a node.
    pub fn pause(&self, node: usize) {
        self.cluster.pause(node);
    }

    /// Lets a frozen node go on.
    pub fn resume(&self, node: usize) {
        self.cluster.resume(node);
    }

    /// Cuts a node off from all other nodes and from the clients.
    pub fn isolate(&self, node: usize) {
        let others = self.links.ends().filter(|end| *end != End::Node(node));
        others.for_each(|other| self.links.cut(End::Node(node), other));
    }

    /// Everything a node has logged.
    pub fn log(&self, node: usize) -> String {
        self.cluster.log(node)
    }

    /// Ends all nodes, one after the other, each as it does when told to.
    ///
    /// # Panics
    /// When one does not end well.
    pub fn stop_all(&mut self) {
        for node in 0..self.nodes {
            if self.is_running(node) {
                let status = self.stop(node);
                assert!(status.success(), "node {node} ended with {status}:\n{}", last_lines(&self.log(node)));
            }
        }
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
