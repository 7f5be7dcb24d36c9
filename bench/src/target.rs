//! A cluster as the target of a load: the client's core, `submit` and a completer, without a future's allocation for each
//! operation.
//!
//! Each slot of the load has at most one operation under way, so the slot's number is the operation's token, and one
//! completer with a place for each slot serves the whole run.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate::{
    Action, Address, Basis, Client, Completer, Consistency, Error, NodeIndex, OpId, Operation, Outcome, Reply, Stats,
};

use crate::{load::Target, measure::Ended, report::Stores, slots::Slot};

/// How the target is reached.
#[derive(Clone, Debug)]
pub struct Access {
    /// Addresses of nodes.
    pub endpoints: Vec<String>,
    /// The bucket that is loaded.
    pub bucket: String,
    /// How many replicas each operation waits for.
    pub consistency: Consistency,
    /// How long one operation may take.
    pub timeout: Duration,
    /// Operations in flight at most.
    pub in_flight: usize,
    /// The client's I/O threads.
    pub io_threads: usize,
}

/// A cluster under load.
#[derive(Debug)]
pub struct ClusterTarget {
    client: Client,
    bucket: Bytes,
    consistency: Consistency,
    timeout: Duration,
    places: Arc<Places>,
}

/// How many calls the client has made for how many operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls {
    calls: u64,
    operations: u64,
    /// Attempts beyond the first.
    pub retries: u64,
}

impl Calls {
    /// Operations sent since `earlier`.
    pub fn operations_since(&self, earlier: &Self) -> u64 {
        self.operations.saturating_sub(earlier.operations)
    }

    /// Operations in an average call since `earlier`.
    pub fn batch_since(&self, earlier: &Self) -> f64 {
        let calls = self.calls.saturating_sub(earlier.calls);
        if calls == 0 { 0.0 } else { self.operations.saturating_sub(earlier.operations) as f64 / calls as f64 }
    }
}

/// How many commits the nodes have made for how many writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Commits {
    commits: u64,
    writes: u64,
}

impl Commits {
    /// Writes in an average commit since `earlier`.
    pub fn group_since(&self, earlier: &Self) -> f64 {
        let commits = self.commits.saturating_sub(earlier.commits);
        if commits == 0 { 0.0 } else { self.writes.saturating_sub(earlier.writes) as f64 / commits as f64 }
    }
}

impl ClusterTarget {
    /// Connects.
    pub async fn connect(access: &Access) -> Result<Self, Error> {
        let client = Client::builder()
            .endpoints(&access.endpoints.join(","))
            .name(concat!("quorate-bench/", env!("CARGO_PKG_VERSION")))
            .timeout(access.timeout)
            .in_flight(access.in_flight)
            .io_threads(access.io_threads)
            .connect()
            .await?;
        Ok(Self {
            client,
            bucket: Bytes::copy_from_slice(access.bucket.as_bytes()),
            consistency: access.consistency,
            timeout: access.timeout,
            places: Arc::new(Places((0..access.in_flight).map(|_| Mutex::default()).collect())),
        })
    }

    /// What the client has sent so far.
    pub async fn calls(&self) -> Result<Calls, Error> {
        let Stats { calls, operations_sent, retries, .. } = self.client.stats().await?;
        Ok(Calls { calls, operations: operations_sent, retries })
    }

    /// How many nodes the ring has, and on how many of them a key stands.
    pub fn stores(&self) -> Stores {
        let ring = self.client.ring();
        Stores { nodes: ring.members.len(), replicas: usize::from(ring.replicas) }
    }

    /// Commits of all nodes that answer, and the writes in them.
    pub async fn commits(&self) -> Commits {
        let mut commits = Commits::default();
        for (node, _) in (0..).zip(&self.client.ring().members) {
            let Ok(status) = self.client.status(NodeIndex(node)).await else { continue };
            for counter in status.counters {
                match counter.name.as_str() {
                    "store_commits" => commits.commits += counter.value,
                    "store_writes" => commits.writes += counter.value,
                    _ => {}
                }
            }
        }
        commits
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.client.close().await;
    }

    async fn submit(&self, slot: Slot, key: Bytes, action: Action) -> Result<Reply, Error> {
        let address = Address::new(self.bucket.clone(), key);
        let operation = Operation { address, consistency: self.consistency, action };
        let deadline = Instant::now() + self.timeout;
        self.client.submit(operation, deadline, slot as u64, self.places.clone())?;
        self.places.take(slot).await
    }
}

impl Target for ClusterTarget {
    async fn read(&self, slot: Slot, key: Bytes, value_bytes: usize) -> Ended {
        match self.submit(slot, key, Action::Get { without_values: false }).await {
            Ok(Reply { outcome: Outcome::Found { siblings, .. }, .. }) => match siblings.as_slice() {
                [one] if one.value.len() == value_bytes => Ended::Well,
                [_] => Ended::Wrong("length"),
                _ => Ended::Wrong("siblings"),
            },
            Ok(Reply { outcome: Outcome::NotFound { .. }, .. }) => Ended::Wrong("not_found"),
            Ok(Reply { outcome: Outcome::Stored { .. } | Outcome::Failed(_), .. }) => Ended::Failed("internal"),
            Err(error) => Ended::Failed(error.code()),
        }
    }

    async fn write(&self, slot: Slot, key: Bytes, value: Bytes) -> Ended {
        let action =
            Action::Put { value, hash: None, basis: Basis::Local, op_id: OpId::NONE, seen_clock: 0, ttl_ms: 0 };
        match self.submit(slot, key, action).await {
            Ok(Reply { outcome: Outcome::Stored { .. }, .. }) => Ended::Well,
            Ok(Reply { .. }) => Ended::Failed("internal"),
            Err(error) => Ended::Failed(error.code()),
        }
    }
}

/// Where the results of all slots arrive.
#[derive(Debug)]
struct Places(Box<[Mutex<Place>]>);

/// A result that has arrived, or who waits for it.
#[derive(Debug, Default)]
struct Place {
    result: Option<Result<Reply, Error>>,
    waker: Option<Waker>,
}

impl Places {
    async fn take(&self, slot: Slot) -> Result<Reply, Error> {
        poll_fn(|context| {
            let mut place = self.0[slot].lock().unwrap_or_else(PoisonError::into_inner);
            match place.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    if !place.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                        place.waker = Some(context.waker().clone());
                    }
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Completer for Places {
    fn complete(&self, token: u64, result: Result<Reply, Error>) {
        let mut place = self.0[token as usize].lock().unwrap_or_else(PoisonError::into_inner);
        place.result = Some(result);
        if let Some(waker) = &place.waker {
            waker.wake_by_ref();
        }
    }
}
