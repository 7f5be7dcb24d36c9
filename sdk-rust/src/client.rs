//! The client: a handle that can be cloned and shared freely, over I/O threads of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dynamo::{
    ident::{BUCKET_DEFAULT, OpId},
    layout::{Layout, NodeIndex},
    operation::{Consistency, Operation},
};
use schema::convert::Status;

use crate::{
    Batch, Bucket, Builder, Completer, Delete, DeleteEntry, Error, Exists, Explanation, Found, Get, IntoBytes, Put,
    PutEntry, Scan, Stats, Stored, core::Shared, request::Defaults,
};

/// A client of one cluster.
///
/// It finds the cluster from any address, learns which node owns what, and sends each operation straight to an owner; while
/// a call to a node is under way, operations for that node gather and leave together. Clones share everything; the I/O
/// threads end when the last clone is gone or [`Client::close`] was called.
#[derive(Clone)]
pub struct Client {
    bucket: Bucket,
}

/// What the clones of a client share. The last one that goes closes the client.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Client {
    /// Connects to the cluster that one of `endpoints` belongs to: `host:port`, several separated by commas.
    pub async fn connect(endpoints: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder().endpoints(endpoints.as_ref()).connect().await
    }

    /// A client with other settings than the usual ones.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let defaults = Defaults { consistency: Consistency::default(), timeout: shared.config.timeout };
        Self { bucket: Bucket::new(Arc::new(Handle { shared }), BUCKET_DEFAULT, defaults) }
    }

    /// A bucket by name. Its requests may have defaults of their own.
    pub fn bucket(&self, name: &str) -> Bucket {
        self.bucket.named(name)
    }

    /// Reads a key of the default bucket: `None` when it has no values.
    pub fn get(&self, key: impl IntoBytes) -> Get {
        self.bucket.get(key)
    }

    /// Writes a value in the default bucket. Without a context it replaces what its coordinator holds at that moment.
    pub fn put(&self, key: impl IntoBytes, value: impl IntoBytes) -> Put {
        self.bucket.put(key, value)
    }

    /// Deletes a key of the default bucket. Without a context it deletes what a read at its level sees.
    pub fn delete(&self, key: impl IntoBytes) -> Delete {
        self.bucket.delete(key)
    }

    /// Whether a key of the default bucket has values; moves none.
    pub fn exists(&self, key: impl IntoBytes) -> Exists {
        self.bucket.exists(key)
    }

    /// Reads many keys of the default bucket, with a result for each.
    pub fn get_many<K: IntoBytes>(&self, keys: impl IntoIterator<Item = K>) -> Batch<Option<Found>> {
        self.bucket.get_many(keys)
    }

    /// Writes many values in the default bucket, with a result for each; see [`Bucket::put_many`].
    pub fn put_many<E: Into<PutEntry>>(&self, entries: impl IntoIterator<Item = E>) -> Batch<Stored> {
        self.bucket.put_many(entries)
    }

    /// Deletes many keys of the default bucket, with a result for each; see [`Bucket::delete_many`].
    pub fn delete_many<E: Into<DeleteEntry>>(&self, entries: impl IntoIterator<Item = E>) -> Batch<Stored> {
        self.bucket.delete_many(entries)
    }

    /// Reads a key of the default bucket, merges its values, and writes the result in their place; see [`Bucket::update`].
    pub async fn update<V: IntoBytes>(
        &self,
        key: impl IntoBytes,
        merge: impl FnMut(&[bytes::Bytes]) -> V,
    ) -> Result<Stored, Error> {
        self.bucket.update(key, merge).await
    }

    /// The keys of the default bucket, partition by partition.
    pub fn scan(&self) -> Scan {
        self.bucket.scan()
    }

    /// The keys of every bucket, partition by partition.
    pub fn scan_all(&self) -> Scan {
        self.bucket.scan().all_buckets()
    }

    /// The layout that is followed now: nodes, partitions, owners.
    pub fn ring(&self) -> Arc<Layout> {
        self.shared().layout()
    }

    /// Where a key of the default bucket lives, and who would coordinate it now.
    pub async fn explain(&self, key: impl IntoBytes) -> Result<Explanation, Error> {
        self.bucket.explain(key).await
    }

    /// What this client has done and how it sees the nodes.
    pub async fn stats(&self) -> Result<Stats, Error> {
        crate::view::stats(self.shared()).await
    }

    /// How long each node takes to answer, by position in [`Client::ring`].
    pub async fn ping(&self) -> Vec<(NodeIndex, Result<Duration, Error>)> {
        let layout = self.ring();
        let count = u16::try_from(layout.members.len()).unwrap_or(u16::MAX);
        let ping = |at| async move { (NodeIndex(at), self.ping_node(NodeIndex(at)).await) };
        futures_util::future::join_all((0..count).map(ping)).await
    }

    /// How long one node takes to answer.
    pub async fn ping_node(&self, node: NodeIndex) -> Result<Duration, Error> {
        let (id, budget) = (self.member(node)?, self.shared().config.timeout);
        self.shared().on_thread(0, move |driver| driver.ping(id, budget)).await?
    }

    /// How one node is, as it says itself.
    pub async fn status(&self, node: NodeIndex) -> Result<Status, Error> {
        self.node(node).status().await
    }

    /// Takes no more operations, waits until those that were taken have ended (none outlives its timeout), and closes the
    /// connections. Other clones are closed with this one.
    pub async fn close(&self) {
        let ended = self.shared().ended();
        self.shared().close();
        let _ = ended.await;
    }

    /// The core under every form of call: takes an operation in and calls `completer` with `token` when it has ended. The
    /// client chooses the operation's id, and the value's hash if there is none. An error means that nothing was done.
    pub fn submit(
        &self,
        operation: Operation,
        deadline: Instant,
        token: u64,
        completer: Arc<dyn Completer>,
    ) -> Result<OpId, Error> {
        self.shared().submit(operation, deadline, token, completer)
    }

    /// Ends an operation that was submitted, if it has not ended: its completer is not called any more, unless it is being
    /// called at this moment. A write that was sent may still be carried out.
    pub fn cancel(&self, operation: OpId) {
        self.shared().cancel(operation);
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.bucket.handle().shared
    }

    pub(crate) fn own_bucket(&self) -> &Bucket {
        &self.bucket
    }

    fn member(&self, node: NodeIndex) -> Result<dynamo::ident::NodeId, Error> {
        let layout = self.ring();
        let member = layout.member(node).ok_or_else(|| Error::invalid(format!("the ring has no node {}", node.0)))?;
        Ok(member.id)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let layout = self.ring();
        formatter
            .debug_struct("Client")
            .field("epoch", &layout.epoch)
            .field("nodes", &layout.members.len())
            .finish_non_exhaustive()
    }
}
