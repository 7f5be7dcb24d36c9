//! A small cluster inside the test: every node serves the real interface on a real port, all of them from one map in memory,
//! and each does to calls what its script says.

mod map;
mod node;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState, NodeIndex},
    operation::{Failure, Operation},
};
use quorate::{Builder, Client};

pub(crate) use map::Map;
pub(crate) use node::Node;

/// What a node does with a call.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Carries it out and answers.
    Serve,
    /// The same, a little later.
    ServeAfter(Duration),
    /// Does nothing and answers every operation with this.
    Fail(Failure),
    /// Does nothing and answers with one error for all.
    Refuse(Failure),
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
pub(crate) struct Seen {
    pub(crate) operation: Operation,
    pub(crate) call: usize,
    pub(crate) budget_ms: u32,
}

/// Decides about each call.
pub(crate) type Script = Box<dyn FnMut(&[Operation]) -> Act + Send>;

/// What a test and a node have in common.
pub(crate) struct Control {
    pub(crate) script: Mutex<Script>,
    pub(crate) seen: Mutex<Vec<Seen>>,
    pub(crate) layout: Mutex<Layout>,
    pub(crate) ring_calls: Mutex<usize>,
    pub(crate) scan_calls: Mutex<usize>,
    pub(crate) scan_fails: Mutex<bool>,
    pub(crate) map: Arc<Map>,
}

/// The cluster.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) map: Arc<Map>,
}

impl Cluster {
    /// `count` nodes, each in a zone of its own, three owners for each key.
    pub(crate) fn start(count: u16) -> Self {
        let map = Arc::new(Map::default());
        let listeners: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
        let layout = layout(&addresses, 1);
        let nodes = (0..count)
            .zip(listeners)
            .map(|(at, listener)| Node::start(NodeIndex(at), listener, Arc::clone(&map), layout.clone()));
        Self { nodes: nodes.collect(), map }
    }

    pub(crate) fn builder(&self) -> Builder {
        let endpoints: Vec<_> = self.nodes.iter().map(|node| node.address.clone()).collect();
        Client::builder().endpoints(&endpoints.join(","))
    }

    pub(crate) async fn client(&self) -> Client {
        self.builder().connect().await.unwrap()
    }

    /// The nodes that own a key, the first preferred.
    pub(crate) fn owners(&self, key: &str) -> Vec<usize> {
        let layout = self.nodes[0].control.layout.lock().unwrap();
        let id = dynamo::ident::Id::of(b"default", key.as_bytes());
        layout.owners(layout.partition(&id)).map(|node| usize::from(node.0)).collect()
    }

    /// What all nodes have seen.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.nodes.iter().flat_map(|node| node.control.seen.lock().unwrap().clone()).collect()
    }

    pub(crate) fn node(&self, at: usize) -> &Node {
        &self.nodes[at]
    }

    /// Gives every node this layout.
    pub(crate) fn publish(&self, layout: &Layout) {
        self.nodes.iter().for_each(|node| *node.control.layout.lock().unwrap() = layout.clone());
    }
}

/// A layout of one node for each address.
pub(crate) fn layout(addresses: &[String], epoch: u64) -> Layout {
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
    }
}

/// Runs a test on an executor that is not tokio's: the client must not need one.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut test = std::pin::pin!(test);
    let began = std::time::Instant::now();
    loop {
        if let std::task::Poll::Ready(result) = test.as_mut().poll(&mut context) {
            return result;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "the test hangs");
        std::thread::park_timeout(Duration::from_secs(1));
    }
}
