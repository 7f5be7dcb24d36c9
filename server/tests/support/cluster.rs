//! Nodes in this process, on loopback ports and temporary directories, and a client made of nothing but the schema.

#[path = "../../../tests/src/ports.rs"]
mod ports;

use std::{
    future::Future,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{
    ident::OpId,
    layout::Level,
    operation::{Action, Address, Basis, Consistency, ErrorCode, Operation, Outcome, Reply},
};
use schema::{
    admin_capnp::admin,
    convert::{
        Held, HelloReply, HelloRequest, Inspection, RepairRun, RepairStatus, RequestHeader, Role, Status,
        decode_replies, decode_reply, decode_status, encode_inspect, encode_operation, encode_operations,
    },
    kv_capnp::{self, kv},
    node_capnp::node,
};
use server::{RunningNode, config::Source};
use tempfile::TempDir;
use tokio::net::TcpStream;
use wire::{ConnectionHandle, Limits};

/// Nothing in these tests takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a cluster shall be.
pub struct Options {
    pub nodes: usize,
    pub replicas: u8,
    pub settings: Vec<(&'static str, String)>,
}

/// Nodes and their directories.
pub struct Cluster {
    pub addresses: Vec<SocketAddr>,
    pub directory: TempDir,
    nodes: Vec<Option<RunningNode>>,
    options: Options,
}

impl Cluster {
    /// Starts nodes with N = 3 and two workers each.
    pub fn start(nodes: usize) -> Self {
        Self::start_with(Options { nodes, replicas: 3, settings: Vec::new() })
    }

    pub fn start_with(options: Options) -> Self {
        let addresses = ports::free_addresses(options.nodes);
        let nodes = (0..options.nodes).map(|_| None).collect();
        let mut cluster = Self { addresses, directory: tempfile::tempdir().unwrap(), nodes, options };
        for node in 0..cluster.nodes.len() {
            cluster.start_node(node);
        }
        cluster
    }

    /// Starts a node that does not run.
    pub fn start_node(&mut self, node: usize) {
        assert!(self.nodes[node].is_none());
        self.nodes[node] = Some(RunningNode::start(self.source(node).load().unwrap()).unwrap());
    }

    /// Drains and stops a node.
    pub fn stop_node(&mut self, node: usize) {
        self.nodes[node].take().unwrap().stop().unwrap();
    }

    /// Ends a node without draining it.
    pub fn end_node(&mut self, node: usize) {
        self.nodes[node].take().unwrap().end().unwrap();
    }

    /// Takes a node out, so that a test can stop it elsewhere.
    pub fn take_node(&mut self, node: usize) -> RunningNode {
        self.nodes[node].take().unwrap()
    }

    /// The settings of a node.
    pub fn source(&self, node: usize) -> Source {
        let members = self.addresses.iter().enumerate();
        let members: Vec<String> =
            members.map(|(at, address)| format!("{{ name = \"n{at}\", address = \"{address}\" }}")).collect();
        let data = self.directory.path().join(format!("n{node}"));
        let mut source = Source::defaults()
            .set("name", format!("n{node}"))
            .set("listen", self.addresses[node].to_string())
            .set("data", data.to_str().unwrap())
            .set("workers", "2")
            .set("cluster.secret", "a secret for tests only")
            .set("cluster.replicas", self.options.replicas.to_string())
            .set("cluster.members", format!("[{}]", members.join(", ")));
        for (key, value) in &self.options.settings {
            source = source.set(*key, value);
        }
        source
    }

    pub async fn client(&self, node: usize) -> Client {
        Client::connect(self.addresses[node]).await
    }

    /// Waits until a node sees all others up on all its workers.
    pub async fn settle(&self, node: usize) {
        let client = self.client(node).await;
        until(async || client.status().await.peers.iter().all(|peer| peer.state == "up")).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.iter_mut().filter_map(Option::take) {
            let _ = node.end();
        }
    }
}

/// A client that knows the schema and nothing else.
pub struct Client {
    pub kv: kv::Client,
    pub admin: admin::Client,
    pub node: node::Client,
    pub hello: HelloReply,
    pub connection: ConnectionHandle,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let request = HelloRequest { protocol_min: 1, protocol_max: 1, client: "test".into(), ..Default::default() };
        Self::introduce(address, &request).await.unwrap()
    }

    pub async fn introduce(address: SocketAddr, hello: &HelloRequest) -> Result<Self, dynamo::operation::Failure> {
        let (node, connection) = open(address).await;
        let mut request = node.hello_request();
        hello.encode(request.get().init_request());
        let response = request.send().promise.await.unwrap();
        let reply = response.get().unwrap().get_reply().unwrap();
        let hello = HelloReply::decode(reply)?;
        Ok(Self { kv: reply.get_kv().unwrap(), admin: reply.get_admin().unwrap(), node, hello, connection })
    }

    /// Executes operations in one call.
    pub async fn execute(&self, operations: &[Operation]) -> Vec<Reply> {
        self.try_execute(operations, 0).await.unwrap()
    }

    pub async fn try_execute(
        &self,
        operations: &[Operation],
        budget_ms: u32,
    ) -> Result<Vec<Reply>, dynamo::operation::Failure> {
        let mut request = self.kv.execute_request();
        let mut wire = request.get().init_request();
        RequestHeader { budget_ms, ..Default::default() }.encode(wire.reborrow().init_header());
        encode_operations(wire.init_operations(operations.len() as u32), operations);
        let response = request.send().promise.await.unwrap();
        let results = response.get().unwrap().get_reply().unwrap().get_results().unwrap();
        decode_replies(results, operations.len())
    }

    pub async fn one(&self, operation: Operation) -> Reply {
        match self.try_execute(std::slice::from_ref(&operation), 0).await {
            Ok(mut replies) => replies.pop().unwrap(),
            Err(failure) => Reply { outcome: Outcome::Failed(failure), receipt: Default::default() },
        }
    }

    /// Executes an operation by the call of its own kind.
    pub async fn alone(&self, operation: &Operation) -> Reply {
        let mut message = capnp::message::Builder::new_default();
        let mut built = message.init_root::<kv_capnp::operation::Builder<'_>>();
        encode_operation(built.reborrow(), operation);
        match built.into_reader().which().unwrap() {
            kv_capnp::operation::Get(get) => {
                let mut request = self.kv.get_request();
                request.get().init_request().set_get(get.unwrap()).unwrap();
                let response = request.send().promise.await.unwrap();
                decode_reply(response.get().unwrap().get_reply().unwrap().get_result().unwrap())
            }
            kv_capnp::operation::Put(put) => {
                let mut request = self.kv.put_request();
                request.get().init_request().set_put(put.unwrap()).unwrap();
                let response = request.send().promise.await.unwrap();
                decode_reply(response.get().unwrap().get_reply().unwrap().get_result().unwrap())
            }
            kv_capnp::operation::Delete(delete) => {
                let mut request = self.kv.delete_request();
                request.get().init_request().set_delete(delete.unwrap()).unwrap();
                let response = request.send().promise.await.unwrap();
                decode_reply(response.get().unwrap().get_reply().unwrap().get_result().unwrap())
            }
        }
    }

    pub async fn status(&self) -> Status {
        let response = self.kv.status_request().send().promise.await.unwrap();
        decode_status(response.get().unwrap().get_reply().unwrap()).unwrap()
    }

    /// How the node's repairs stand.
    pub async fn repairs(&self) -> RepairStatus {
        let response = self.admin.repair_status_request().send().promise.await.unwrap();
        RepairStatus::decode(response.get().unwrap().get_reply().unwrap()).unwrap()
    }

    /// Has the node repair at once.
    pub async fn repair(&self, run: RepairRun) {
        let mut request = self.admin.repair_run_request();
        run.encode(request.get().init_request());
        request.send().promise.await.unwrap();
    }

    /// What the node holds under a key.
    pub async fn held(&self, key: &str) -> Held {
        let mut request = self.admin.inspect_request();
        encode_inspect(request.get().init_request(), &address(key));
        let response = request.send().promise.await.unwrap();
        Inspection::decode(response.get().unwrap().get_reply().unwrap()).unwrap().held
    }

    pub async fn counter(&self, name: &str) -> u64 {
        let counters = self.status().await.counters;
        counters.iter().find(|counter| counter.name == name).unwrap_or_else(|| panic!("no counter {name}")).value
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.close();
    }
}

/// A connection whose caller has not introduced itself.
pub async fn open(address: SocketAddr) -> (node::Client, ConnectionHandle) {
    let stream = TcpStream::connect(address).await.unwrap();
    wire::connect(stream, Limits::client(16 << 20), wire::Budget::new(256 << 20))
}

/// Runs a test on a runtime that may run local tasks, and fails it when it hangs.
pub fn local<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("the test hangs") });
}

/// Waits until something is so.
pub async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE / 2, "it never became so");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn address(key: &str) -> Address {
    Address::new(Bytes::from_static(b"default"), Bytes::copy_from_slice(key.as_bytes()))
}

pub fn get(key: &str) -> Operation {
    Operation {
        address: address(key),
        consistency: Consistency::default(),
        action: Action::Get { without_values: false },
    }
}

pub fn put(key: &str, value: &[u8], basis: Basis) -> Operation {
    let action = Action::Put {
        value: Bytes::copy_from_slice(value),
        hash: None,
        basis,
        op_id: OpId::NONE,
        seen_clock: 0,
        ttl_ms: 0,
    };
    Operation { address: address(key), consistency: Consistency::default(), action }
}

pub fn delete(key: &str, basis: Basis) -> Operation {
    let action = Action::Delete { basis, op_id: OpId::NONE, seen_clock: 0 };
    Operation { address: address(key), consistency: Consistency::default(), action }
}

pub fn at(level: Level, mut operation: Operation) -> Operation {
    operation.consistency.level = Some(level);
    operation
}

/// The values a get found, sorted; empty for none.
pub fn values(reply: &Reply) -> Vec<Vec<u8>> {
    match &reply.outcome {
        Outcome::Found { siblings, .. } => {
            let mut values: Vec<Vec<u8>> = siblings.iter().map(|sibling| sibling.value.to_vec()).collect();
            values.sort();
            values
        }
        Outcome::NotFound { .. } => Vec::new(),
        Outcome::Stored { .. } | Outcome::Failed(_) => panic!("not the answer to a get: {reply:?}"),
    }
}

/// The context of a reply.
pub fn context(reply: &Reply) -> Bytes {
    match &reply.outcome {
        Outcome::Found { context, .. } | Outcome::NotFound { context } => context.clone(),
        Outcome::Stored { context: Some(context), .. } => context.clone(),
        Outcome::Stored { context: None, .. } | Outcome::Failed(_) => panic!("no context: {reply:?}"),
    }
}

pub fn is_stored(reply: &Reply) -> bool {
    matches!(reply.outcome, Outcome::Stored { .. })
}

/// The code of a reply that failed.
pub fn code(reply: &Reply) -> Option<ErrorCode> {
    match &reply.outcome {
        Outcome::Failed(failure) => Some(failure.code),
        Outcome::Found { .. } | Outcome::NotFound { .. } | Outcome::Stored { .. } => None,
    }
}

/// A client's introduction with another range of versions.
pub fn versions(protocol_min: u16, protocol_max: u16) -> HelloRequest {
    HelloRequest { protocol_min, protocol_max, client: "test".into(), role: Role::Client, ..Default::default() }
}
