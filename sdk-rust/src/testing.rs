//! A cluster of real nodes for the tests of an application, which can be killed, frozen, separated and healed (feature
//! `testing`). The nodes are processes of the server itself, run by its command `quorate testkit`; nothing is imitated here.
//!
//! ```no_run
//! # async fn test() -> Result<(), Box<dyn std::error::Error>> {
//! use quorate::testing::LocalCluster;
//!
//! let cluster = LocalCluster::start(3)?;
//! let db = cluster.client().await?;
//! db.put("key", "value").await?;
//! cluster.kill(&[0])?;
//! assert_eq!(db.get("key").await?.unwrap().value()?, "value");
//! # Ok(())
//! # }
//! ```
//!
//! However the test ends, even by SIGKILL, the nodes end with it and their data is removed. Methods block for milliseconds (a
//! restart a little longer), so they may be called from any thread and inside any runtime.

mod binary;
mod process;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};

pub use self::binary::binary;
use self::process::Testkit;
use crate::{Client, Error};

/// The cluster could not be started, or did not do what it was told; the text says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LocalClusterError(String);

/// How a cluster shall be.
#[derive(Clone, Debug)]
#[must_use]
pub struct LocalClusterBuilder {
    nodes: usize,
    replicas: Option<u8>,
    settings: Vec<String>,
    directory: Option<PathBuf>,
    binary: Option<PathBuf>,
}

/// A cluster on this machine. It ends when this value is dropped, and with this process. Nodes are numbered from 0.
#[derive(Debug)]
pub struct LocalCluster {
    testkit: Mutex<Testkit>,
    nodes: Vec<NodeStatus>,
}

/// One node and its process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its name, by which receipts and errors speak of it.
    pub name: String,
    /// Where clients and the other nodes reach it.
    pub address: String,
    /// The id of its process, while it has one.
    pub process: Option<u32>,
    /// What the process does.
    pub state: NodeState,
    /// Its data directory.
    pub data: PathBuf,
    /// The file it logs to.
    pub log: PathBuf,
}

/// What a node's process does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// It runs.
    Running,
    /// Its clock stands still: it neither answers nor hangs up.
    Paused,
    /// It has ended, and so.
    Ended(String),
}

/// All nodes, and who can reach whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The nodes by their numbers.
    pub nodes: Vec<NodeStatus>,
    /// The groups of a partition and which of them the clients are in; `None` while everybody reaches everybody.
    pub groups: Option<(Vec<Vec<usize>>, usize)>,
}

impl LocalClusterBuilder {
    /// How many nodes; 3.
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// N: how many owners a key has; 3.
    pub fn replicas(mut self, replicas: u8) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// A setting of every node, written as in the configuration file: `set("deadlines.default_ms", 500)`.
    pub fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.settings.push(format!("{key}={value}"));
        self
    }

    /// Where the data stands and stays, for the next cluster of that directory; a temporary folder otherwise.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// The server's binary, otherwise found by [`binary`].
    pub fn binary(mut self, binary: impl Into<PathBuf>) -> Self {
        self.binary = Some(binary.into());
        self
    }

    /// Starts the nodes and waits until all serve.
    pub fn start(self) -> Result<LocalCluster, LocalClusterError> {
        let executable = self.binary.map_or_else(binary, Ok)?;
        let mut command = Command::new(executable);
        command.arg("testkit").arg("--nodes").arg(self.nodes.to_string());
        if let Some(replicas) = self.replicas {
            command.arg("--replicas").arg(replicas.to_string());
        }
        if let Some(directory) = self.directory {
            command.arg("--dir").arg(directory);
        }
        for setting in self.settings {
            command.arg("--set").arg(setting);
        }
        let (testkit, ready) = Testkit::start(command)?;
        Ok(LocalCluster { testkit: Mutex::new(testkit), nodes: nodes(&ready)? })
    }
}

impl LocalCluster {
    /// Starts so many nodes and waits until all serve.
    pub fn start(nodes: usize) -> Result<Self, LocalClusterError> {
        Self::builder().nodes(nodes).start()
    }

    /// A cluster of three nodes, unless something else is said.
    pub fn builder() -> LocalClusterBuilder {
        LocalClusterBuilder { nodes: 3, replicas: None, settings: Vec::new(), directory: None, binary: None }
    }

    /// A client of this cluster, with the defaults of [`Client::connect`].
    pub async fn client(&self) -> Result<Client, Error> {
        Client::connect(&self.endpoints()).await
    }

    /// The addresses of all nodes, comma-separated, as [`Client::connect`] and `QUORATE_ENDPOINTS` take them.
    pub fn endpoints(&self) -> String {
        self.nodes.iter().map(|node| node.address.as_str()).collect::<Vec<_>>().join(",")
    }

    /// The address of a node.
    pub fn address(&self, node: usize) -> &str {
        &self.nodes[node].address
    }

    /// The name of a node, by which receipts and errors speak of it.
    pub fn name(&self, node: usize) -> &str {
        &self.nodes[node].name
    }

    /// Where a node keeps its data.
    pub fn data(&self, node: usize) -> &Path {
        &self.nodes[node].data
    }

    /// Ends nodes as a power switch would: no drain, no flush.
    pub fn kill(&self, nodes: &[usize]) -> Result<(), LocalClusterError> {
        self.command(json!({ "do": "kill", "nodes": nodes })).map(drop)
    }

    /// Ends nodes in order: they finish what they have begun.
    pub fn stop(&self, nodes: &[usize]) -> Result<(), LocalClusterError> {
        self.command(json!({ "do": "stop", "nodes": nodes })).map(drop)
    }

    /// Starts nodes again on the data they have and waits until they serve; those that still run are stopped first.
    pub fn restart(&self, nodes: &[usize]) -> Result<(), LocalClusterError> {
        self.command(json!({ "do": "restart", "nodes": nodes })).map(drop)
    }

    /// Stops the clocks of nodes: they neither answer nor hang up.
    pub fn pause(&self, nodes: &[usize]) -> Result<(), LocalClusterError> {
        self.command(json!({ "do": "pause", "nodes": nodes })).map(drop)
    }

    /// Lets paused nodes go on.
    pub fn resume(&self, nodes: &[usize]) -> Result<(), LocalClusterError> {
        self.command(json!({ "do": "resume", "nodes": nodes })).map(drop)
    }

    /// Starts another node and has it join the ring, and waits until it holds its part of the data. Its number.
    pub fn add_node(&mut self) -> Result<usize, LocalClusterError> {
        self.change(json!({ "do": "add" }))
    }

    /// Has a node hand over what it holds and leave the ring, and ends it. It keeps its number.
    pub fn remove_node(&mut self, node: usize) -> Result<(), LocalClusterError> {
        self.command(json!({ "do": "remove", "node": node })).map(drop)
    }

    /// Kills a node, removes its data, and has a new node take its place, as after the loss of a machine. The number of the new one.
    pub fn replace_node(&mut self, node: usize) -> Result<usize, LocalClusterError> {
        self.change(json!({ "do": "replace", "node": node }))
    }

    /// Lets only those of the same group reach each other, until [`LocalCluster::heal`] or another partition: `clients` is the
    /// group in which all clients are; a node in no group is alone. Connections stay open and carry nothing, as in a network
    /// that loses everything.
    pub fn partition(&self, groups: &[&[usize]], clients: usize) -> Result<(), LocalClusterError> {
        self.command(json!({ "do": "partition", "groups": groups, "clients": clients })).map(drop)
    }

    /// Lets everybody reach everybody again; what was under way arrives late.
    pub fn heal(&self) -> Result<(), LocalClusterError> {
        self.command(json!({ "do": "heal" })).map(drop)
    }

    /// What a node has logged; of a long log the last MiB.
    pub fn log(&self, node: usize) -> Result<String, LocalClusterError> {
        let answer = self.command(json!({ "do": "log", "node": node }))?;
        Ok(answer["log"].as_str().unwrap_or_default().to_owned())
    }

    /// How the nodes are, and who can reach whom.
    pub fn status(&self) -> Result<Status, LocalClusterError> {
        let answer = self.command(json!({ "do": "status" }))?;
        let groups = answer.get("groups").cloned().and_then(|groups| serde_json::from_value(groups).ok());
        let clients = answer.get("clients").and_then(Value::as_u64).and_then(|clients| usize::try_from(clients).ok());
        Ok(Status { nodes: nodes(&answer)?, groups: groups.zip(clients) })
    }

    /// A command after which there is one more node.
    fn change(&mut self, line: Value) -> Result<usize, LocalClusterError> {
        let answer = self.command(line)?;
        self.nodes = nodes(&answer)?;
        Ok(self.nodes.len() - 1)
    }

    fn command(&self, line: Value) -> Result<Value, LocalClusterError> {
        // A command that panicked half way has left nothing that a later one trusts: answers are told apart by their numbers.
        self.testkit.lock().unwrap_or_else(PoisonError::into_inner).command(line)
    }
}

fn nodes(answer: &Value) -> Result<Vec<NodeStatus>, LocalClusterError> {
    let nodes = answer.get("nodes").and_then(Value::as_array);
    let nodes = nodes.and_then(|nodes| nodes.iter().map(node).collect());
    nodes.ok_or_else(|| LocalClusterError(format!("quorate testkit speaks another version of its protocol: {answer}")))
}

fn node(fields: &Value) -> Option<NodeStatus> {
    let text = |name: &str| fields.get(name)?.as_str().map(str::to_owned);
    let state = match text("state")?.as_str() {
        "running" => NodeState::Running,
        "paused" => NodeState::Paused,
        "ended" => NodeState::Ended(text("ended")?),
        _ => return None,
    };
    Some(NodeStatus {
        name: text("name")?,
        address: text("address")?,
        process: fields.get("process")?.as_u64().and_then(|process| u32::try_from(process).ok()),
        state,
        data: text("data")?.into(),
        log: text("log")?.into(),
    })
}
