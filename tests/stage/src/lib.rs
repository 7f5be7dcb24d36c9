//! A stage: a small cluster of fake nodes inside a test or in a process of its own. Every node serves the real interface on a
//! real port, all of them from one map in memory, and each does to calls what its script says, and remembers what it saw.
//!
//! Not a model of a node: nothing is replicated, nothing is durable, and levels mean nothing. What it shows is a client: where
//! its operations go, how often, under which ids, and what it tells its application.

mod map;
mod node;
pub mod notation;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use dynamo::{
    ident::{BUCKET_DEFAULT, Id, NodeId},
    layout::{Layout, Member, MemberState, NodeIndex},
    operation::{Failure, Operation, Reply},
};

pub use map::Map;
pub use node::Node;

/// What a node does with a call.
#[derive(Clone, Debug)]
pub enum Act {
    /// Carries it out and answers.
    Serve,
    /// The same, a little later.
    ServeAfter(Duration),
    /// Does nothing and answers every operation with this.
    Fail(Failure),
    /// Does nothing and answers with one error for all.
    Refuse(Failure),
    /// Does nothing and answers every operation with this.
    Answer(Box<Reply>),
    /// Does nothing and never answers.
    Hang,
    /// Carries it out, then hangs up without an answer.
    ServeAndHangUp,
    /// Does nothing and hangs up.
    HangUp,
    /// Carries it out and damages the values on the way.
    Damage,
}

/// An operation as a node saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it was.
    pub operation: Operation,
    /// The call it came in, counted by its node.
    pub call: usize,
    /// How long the client would wait.
    pub budget_ms: u32,
    /// When it came.
    pub at: Instant,
}

/// Decides about each call.
pub type Script = Box<dyn FnMut(&[Operation]) -> Act + Send>;

/// What a test and a node have in common.
pub struct Control {
    /// What the node does with calls.
    pub script: Mutex<Script>,
    /// What it has seen.
    pub seen: Mutex<Vec<Seen>>,
    /// The layout it tells.
    pub layout: Mutex<Layout>,
    /// How often it was asked for the layout.
    pub ring_calls: Mutex<usize>,
    /// How often it was asked for the keys of a partition.
    pub scan_calls: Mutex<usize>,
    /// Whether it refuses to tell keys.
    pub scan_fails: Mutex<bool>,
    /// Whether it never answers pings and questions for the keys of a partition.
    pub silent: Mutex<bool>,
    /// The data.
    pub map: Arc<Map>,
}

/// The fake nodes of one cluster.
pub struct Cluster {
    /// The nodes, by their position in the layout.
    pub nodes: Vec<Node>,
    /// The data of all of them.
    pub map: Arc<Map>,
}

impl Cluster {
    /// `count` nodes, each in a zone of its own, three owners for each key.
    pub fn start(count: u16) -> Self {
        let map = Arc::new(Map::default());
        let listeners: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
        let layout = layout(&addresses, 1);
        let nodes = (0..count)
            .zip(listeners)
            .map(|(at, listener)| Node::start(NodeIndex(at), listener, Arc::clone(&map), layout.clone()));
        Self { nodes: nodes.collect(), map }
    }

    /// Where the nodes listen, separated by commas.
    pub fn endpoints(&self) -> String {
        self.nodes.iter().map(|node| node.address.as_str()).collect::<Vec<_>>().join(",")
    }

    /// The nodes that own a key of the default bucket, the first preferred.
    pub fn owners(&self, key: &str) -> Vec<usize> {
        self.owners_of(BUCKET_DEFAULT, key)
    }

    /// The nodes that own a key, the first preferred.
    pub fn owners_of(&self, bucket: &str, key: &str) -> Vec<usize> {
        let layout = self.nodes[0].control.layout.lock().unwrap();
        let id = Id::of(bucket.as_bytes(), key.as_bytes());
        layout.owners(layout.partition(&id)).map(|node| usize::from(node.0)).collect()
    }

    /// What all nodes have seen.
    pub fn seen(&self) -> Vec<Seen> {
        self.nodes.iter().flat_map(|node| node.control.seen.lock().unwrap().clone()).collect()
    }

    /// A node by its position.
    pub fn node(&self, at: usize) -> &Node {
        &self.nodes[at]
    }

    /// Gives every node this layout.
    pub fn publish(&self, layout: &Layout) {
        self.nodes.iter().for_each(|node| *node.control.layout.lock().unwrap() = layout.clone());
    }
}

/// A layout of one node for each address.
pub fn layout(addresses: &[String], epoch: u64) -> Layout {
    let count = addresses.len() as u16;
    let replicas = count.min(3);
    let member = |(at, address): (u16, &String)| Member {
        id: NodeId(u128::from(at) + 1),
        name: format!("n{at}"),
        zone: format!("z{at}"),
        weight: 1,
        addresses: vec![address.clone()],
        state: MemberState::Active,
    };
    let slot = |at: u16| (at / replicas + at % replicas) % count;
    Layout {
        cluster: 77,
        generation: 0,
        epoch,
        parent_hash: [0; 16],
        electors: vec![NodeIndex(0)],
        members: (0..).zip(addresses).map(member).collect(),
        partition_bits: 6,
        replicas: replicas as u8,
        slots: (0..replicas * 64).map(slot).collect(),
        buckets: Default::default(),
        spans: dynamo::layout::spans::Spans::settled(epoch),
    }
}
