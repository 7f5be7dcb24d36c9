//! A cluster on this machine: real node processes of this very executable, on loopback ports, with generated
//! configurations. For `quorate dev`, `quorate bench --start` and `quorate testkit`; not a way to run a service.
//!
//! No node outlives the command. Each holds the reading end of a pipe whose writing end only this process has; however this
//! process ends, even by SIGKILL, the kernel closes it and the node drains and exits (`serve --until-stdin-closes`).

mod directory;
pub mod links;
mod parent;
mod ports;
mod process;

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

pub use directory::Setup;
use directory::{Directory, NodeFiles};
use links::Links;
pub(super) use parent::end_when_stdin_closes;
use process::Node;
pub use process::State;

use super::exit::{CommandError, Exit};

/// Most nodes on one machine: each has its threads, store and ports.
pub const NODES_MAX: u16 = 99;

/// A running cluster; dropping it ends its nodes. Nodes are numbered from 0.
#[derive(Debug)]
pub struct LocalCluster {
    nodes: Vec<Node>,
    links: Option<Links>,
    serve_arguments: Vec<String>,
    directory: Directory,
}

/// A node as others may know it.
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it is reached.
    pub address: SocketAddr,
    /// Its process, the last one if it has none.
    pub process: u32,
    /// Its data directory.
    pub data: &'a Path,
    /// The file it logs to.
    pub log: &'a Path,
}

impl LocalCluster {
    /// Starts the nodes and waits until each accepts connections; `started` is told about each that does.
    pub async fn start(setup: &Setup, mut started: impl FnMut(&str, &str, Duration)) -> Result<Self, CommandError> {
        let directory = Directory::prepare(setup)?;
        let links = setup.is_proxied.then(|| proxies(&directory)).transpose()?;
        let began = Instant::now();
        let serve_arguments = setup.serve_arguments.clone();
        // A node that calls another too early finds nobody, and then takes its time to call again. With the links cut it waits.
        links.iter().for_each(|links| links.partition(&[]));
        let mut cluster = Self { nodes: Vec::new(), links, serve_arguments, directory };
        for (at, files) in cluster.directory.nodes.clone().into_iter().enumerate() {
            let process = cluster.spawn(at, &files)?;
            cluster.nodes.push(Node::new(files, process));
        }
        for node in &mut cluster.nodes {
            node.wait_until_serving(began).await?;
            started(&node.files.name, &node.files.address.to_string(), began.elapsed());
        }
        cluster.links.iter().for_each(Links::heal);
        Ok(cluster)
    }

    /// Kills a node as a power switch would.
    pub fn kill(&mut self, at: usize) -> Result<(), CommandError> {
        self.nodes[at].kill()?;
        self.forget_process(at);
        Ok(())
    }

    /// Starts another node, which asks the ring that is reached at these addresses to be let in, perhaps in the place of a node of this
    /// name, and waits until it serves. Its number.
    pub async fn add(&mut self, through: &[String], replaces: Option<&str>) -> Result<usize, CommandError> {
        let (at, files) = (self.nodes.len(), self.directory.add(through, replaces)?);
        let process = self.spawn(at, &files)?;
        self.nodes.push(Node::new(files, process));
        self.wait_until_serving(at).await?;
        Ok(at)
    }

    /// Starts a node again that has ended, and waits until it serves.
    pub async fn start_again(&mut self, at: usize) -> Result<(), CommandError> {
        self.begin_again(at)?;
        self.wait_until_serving(at).await
    }

    /// Starts a node again that has ended, without waiting for it.
    pub fn begin_again(&mut self, at: usize) -> Result<(), CommandError> {
        let process = self.spawn(at, &self.nodes[at].files)?;
        let node = &mut self.nodes[at];
        *node = Node::new(node.files.clone(), process);
        Ok(())
    }

    /// Waits until a node that was started accepts connections.
    pub async fn wait_until_serving(&mut self, at: usize) -> Result<(), CommandError> {
        self.nodes[at].wait_until_serving(Instant::now()).await
    }

    /// Tells a node to drain and end, without waiting for it.
    pub fn terminate(&mut self, at: usize) -> Result<(), CommandError> {
        Ok(self.nodes[at].terminate()?)
    }

    /// Waits for a node that was told to end, and kills it when it takes too long.
    pub async fn wait_until_ended(&mut self, at: usize) -> Result<ExitStatus, CommandError> {
        let status = self.nodes[at].wait_until_ended().await?;
        self.forget_process(at);
        Ok(status)
    }

    /// Stops a node's clock, and waits until it stands.
    pub async fn pause(&mut self, at: usize) -> Result<(), CommandError> {
        self.nodes[at].pause().await
    }

    /// Lets a paused node go on.
    pub fn resume(&mut self, at: usize) -> Result<(), CommandError> {
        Ok(self.nodes[at].resume()?)
    }

    /// What a node's process does.
    pub fn state(&mut self, at: usize) -> Result<State, CommandError> {
        Ok(self.nodes[at].state()?)
    }

    /// The end of what a node has logged, at most so many bytes of it.
    pub fn log_end(&self, at: usize, bytes: u64) -> Result<String, CommandError> {
        let log = &self.nodes[at].files.log;
        process::log_end(log, bytes).map_err(|error| CommandError::file("read", log, &error))
    }

    /// The proxies, if the cluster has some.
    pub fn links(&self) -> Option<&Links> {
        self.links.as_ref()
    }

    /// The number of a node.
    pub fn position(&self, name: &str) -> Result<usize, CommandError> {
        let position = self.nodes.iter().position(|node| node.files.name == name);
        position.ok_or_else(|| CommandError::new(Exit::Failed, format!("this cluster has no node {name}")))
    }

    /// The nodes by their numbers.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = NodeView<'_>> {
        self.nodes.iter().map(|Node { files: NodeFiles { name, address, data, log, .. }, process, .. }| NodeView {
            name,
            address: *address,
            process: process.id(),
            data,
            log,
        })
    }

    /// Where the nodes are reached.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes().map(|node| node.address.to_string()).collect()
    }

    /// The processes of the nodes.
    pub fn processes(&self) -> Vec<u32> {
        self.nodes().map(|node| node.process).collect()
    }

    /// Where everything of the cluster stands.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Whether the directory goes away with the cluster.
    pub fn is_temporary(&self) -> bool {
        self.directory.is_temporary()
    }

    /// An error that tells about the first node that has ended, if one has without being killed.
    pub fn check(&mut self) -> Result<(), CommandError> {
        self.nodes.iter_mut().filter(|node| !node.is_killed).try_for_each(Node::check)
    }

    /// Tells the nodes to drain and end, and waits for them. What is returned keeps a temporary directory from going away.
    pub async fn stop(mut self) -> Result<Self, CommandError> {
        self.nodes.iter_mut().try_for_each(Node::terminate)?;
        for node in &mut self.nodes {
            node.wait_until_ended().await?;
        }
        self.nodes.clear();
        Ok(self)
    }

    /// The number of a process that has ended may soon be a client's.
    fn forget_process(&self, at: usize) {
        if let Some(links) = &self.links {
            links.set_process(at, None);
        }
    }

    fn spawn(&self, at: usize, files: &NodeFiles) -> Result<Child, CommandError> {
        let start = || process::spawn(files, &self.serve_arguments);
        match &self.links {
            Some(links) => links.start_process(at, start, Child::id),
            None => start(),
        }
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        // All are told before any is waited for. Both fail only when the process has been waited for already.
        for node in &mut self.nodes {
            let _ = node.process.kill();
        }
        for node in &mut self.nodes {
            let _ = node.process.wait();
        }
    }
}

fn proxies(directory: &Directory) -> Result<Links, CommandError> {
    let all = directory.nodes.iter().chain(&directory.spare);
    let (listen, addresses): (Vec<_>, Vec<_>) = all.map(|node| (node.listen, node.address)).unzip();
    Links::at(&listen, &addresses)
        .map_err(|error| CommandError::new(Exit::Failed, format!("can't listen in front of the nodes: {error}")))
}
