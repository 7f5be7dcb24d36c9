//! The command line's only door to the client library: sessions, and failures turned into exit codes with the next step.

mod failure;
mod operators;
mod receipt;
mod reshaping;

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{
    ident::OpId,
    layout::{Layout, NodeIndex},
    operation::{Action, Address, Basis, Consistency, Operation, Outcome, Receipt, Reply, Sibling},
};
use futures_util::{Stream, StreamExt, future::join_all};
use quorate::{Client, Completer, Context, Error};
use tokio::sync::oneshot;

pub use failure::Failure;
pub use operators::{
    Answer, Content, Held, Hint, Inspection, Object, RepairRun, RepairStatus, RepairTask, Version, clock_now, sleep,
};
pub use quorate::{PeerStatus, Status as StatusAnswer};
pub use receipt::ReceiptText;
pub use reshaping::{
    Change, Commit, Decision, Extremes, HistoryEntry, PlanNode, PlanReport, Staging, Subject, Transfer, Transfers,
};

use super::{arguments::Cluster, exit::CommandError};

/// The shortest time for one attempt of an operation; a third of the whole if that is longer.
const ATTEMPT_TIMEOUT_MIN: Duration = Duration::from_millis(500);

/// How often a session looks for a newer layout when no answer shows it one: a command that waits for a change of the ring only asks what
/// says nothing of layouts.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

/// How often to look whether it has come.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Most operations under way in one session; each command has its own, smaller bound.
const IN_FLIGHT_MAX: usize = 16_384;

/// Runs a command's asynchronous part on this thread.
pub fn block_on<T>(future: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(future);
    // A thread may sit in a read of standard input; nobody waits for it.
    runtime.shutdown_background();
    result
}

/// A key in a bucket.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The key.
    pub key: &'a Bytes,
}

/// What a read found.
#[derive(Clone, Debug)]
pub enum Get {
    /// Live values, at least one.
    Found {
        /// The values.
        siblings: Vec<Sibling>,
        /// Covers them.
        context: Bytes,
        /// What it rested on.
        receipt: Receipt,
    },
    /// No live value.
    NotFound {
        /// Covers the tombstones that were seen.
        context: Bytes,
        /// What it rested on.
        receipt: Receipt,
    },
}

/// The answer to a write.
#[derive(Clone, Debug)]
pub struct Written {
    /// Covers the new version, if it stands alone.
    pub context: Option<Bytes>,
    /// How many live versions there are now.
    pub siblings: u16,
    /// The clock of the write.
    pub clock: u64,
    /// What it rested on.
    pub receipt: Receipt,
}

/// Which keys a scan lists.
#[derive(Clone, Debug)]
pub struct ScanOptions<'a> {
    /// Only this bucket; all of them if none is named.
    pub bucket: Option<&'a str>,
    /// Whether values are read, too.
    pub values: bool,
    /// The partition it begins with.
    pub first_partition: u32,
    /// How many owners are asked, and read from.
    pub consistency: Consistency,
}

/// A key that a scan came by.
#[derive(Clone, Debug)]
pub struct ScannedKey {
    /// Where it stands.
    pub address: Address,
    /// Its bucket.
    pub bucket: String,
    /// How many live values it has.
    pub siblings: usize,
    /// Bytes of its live values.
    pub value_bytes: u64,
    /// Its values, if they were asked for.
    pub values: Vec<Bytes>,
}

/// A node, and what it says of itself or why it does not.
#[derive(Debug)]
pub struct NodeStatus {
    /// Its place in the ring.
    pub index: NodeIndex,
    /// Its name in the ring.
    pub name: String,
    /// Its address there.
    pub address: String,
    /// What it says.
    pub answer: Result<StatusAnswer, Failure>,
    /// How its repairs stand, if it says.
    pub repair: Option<RepairStatus>,
}

/// A connection to a cluster.
#[derive(Debug)]
pub struct Session {
    client: Client,
    timeout: Duration,
    /// As they were named.
    endpoints: Vec<String>,
}

impl Session {
    /// Connects to the cluster that the arguments name.
    pub async fn connect(cluster: &Cluster) -> Result<Self, CommandError> {
        let client = Client::builder()
            .endpoints(&cluster.endpoints.join(","))
            .name(concat!("quorate-cli/", env!("CARGO_PKG_VERSION")))
            .timeout(cluster.timeout)
            .attempt_timeout(ATTEMPT_TIMEOUT_MIN.max(cluster.timeout / 3))
            .in_flight(IN_FLIGHT_MAX)
            .refresh_interval(REFRESH_EVERY)
            .connect()
            .await
            .map_err(Failure::from)?;
        Ok(Self { client, timeout: cluster.timeout, endpoints: cluster.endpoints.clone() })
    }

    /// Waits for what is under way and closes the connections.
    pub async fn close(&self) {
        self.client.close().await;
    }

    /// The layout that is followed now.
    pub fn layout(&self) -> Arc<Layout> {
        self.client.ring()
    }

    /// The layout of this epoch, or a newer one: a node may know one that the session has not heard of. It is waited for a moment; what
    /// is here then is better than nothing.
    pub async fn layout_since(&self, epoch: u64) -> Arc<Layout> {
        let is_here = async {
            while self.layout().epoch < epoch {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let _ = tokio::time::timeout(REFRESH_EVERY * 3, is_here).await;
        self.layout()
    }

    /// The partition of a key.
    pub fn partition(&self, key: Key<'_>) -> u32 {
        self.layout().partition(&dynamo::ident::Id::of(key.bucket.as_bytes(), key.key))
    }

    /// A receipt with the names of its nodes.
    pub fn describe(&self, receipt: &Receipt) -> ReceiptText {
        ReceiptText::new(receipt, &self.layout())
    }

    /// What a write replaces that is to be the only value of its key: exactly what stands there, or, where nothing does, whatever
    /// has come by then: the last write of a load that was cut off may be on its way still. Moves no values.
    pub async fn basis(&self, key: Key<'_>, consistency: Consistency) -> Result<Basis, Failure> {
        match self.read(key, consistency, true).await? {
            Get::Found { context, .. } => Ok(Basis::Context(context)),
            Get::NotFound { .. } => Ok(Basis::Local),
        }
    }

    /// Reads a key.
    pub async fn get(&self, key: Key<'_>, consistency: Consistency) -> Result<Get, Failure> {
        self.read(key, consistency, false).await
    }

    async fn read(&self, key: Key<'_>, consistency: Consistency, without_values: bool) -> Result<Get, Failure> {
        let reply = self.submit(key, consistency, Action::Get { without_values }).await?;
        match reply.outcome {
            Outcome::Found { siblings, context } => Ok(Get::Found { siblings, context, receipt: reply.receipt }),
            Outcome::NotFound { context } => Ok(Get::NotFound { context, receipt: reply.receipt }),
            Outcome::Stored { .. } | Outcome::Failed(_) => Err(Failure::wrong_answer(&reply.outcome)),
        }
    }

    /// Writes a value.
    pub async fn put(
        &self,
        key: Key<'_>,
        value: Bytes,
        basis: Basis,
        consistency: Consistency,
    ) -> Result<Written, Failure> {
        self.put_for(key, value, basis, consistency, None).await
    }

    /// Writes a value that expires after a time.
    pub async fn put_for(
        &self,
        key: Key<'_>,
        value: Bytes,
        basis: Basis,
        consistency: Consistency,
        ttl: Option<Duration>,
    ) -> Result<Written, Failure> {
        let ttl_ms = ttl.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1));
        let action = Action::Put { value, hash: None, basis, op_id: OpId::NONE, seen_clock: 0, ttl_ms };
        self.write(key, consistency, action).await
    }

    /// Deletes a key.
    pub async fn delete(&self, key: Key<'_>, basis: Basis, consistency: Consistency) -> Result<Written, Failure> {
        self.write(key, consistency, Action::Delete { basis, op_id: OpId::NONE, seen_clock: 0 }).await
    }

    /// Lists keys in the order of their store keys, partition by partition. Ends after the first failure.
    pub fn scan(&self, options: &ScanOptions<'_>) -> impl Stream<Item = Result<ScannedKey, Failure>> + use<> {
        scanned(self.scan_of(options))
    }

    /// Lists the keys that hold nothing live: tombstones, and values that have expired.
    pub fn scan_deleted(&self, options: &ScanOptions<'_>) -> impl Stream<Item = Result<ScannedKey, Failure>> + use<> {
        scanned(self.scan_of(options).deleted())
    }

    fn scan_of(&self, options: &ScanOptions<'_>) -> quorate::Scan {
        let mut scan = match options.bucket {
            Some(bucket) => self.client.bucket(bucket).scan(),
            None => self.client.scan_all(),
        };
        scan = scan.first_partition(options.first_partition).r(options.consistency.r);
        if let Some(level) = options.consistency.level {
            scan = scan.level(level);
        }
        if options.values {
            scan = scan.values();
        }
        scan
    }

    /// Asks every node of the ring how it is, but for those that are gone or given up for lost.
    pub async fn status(&self) -> Vec<NodeStatus> {
        let layout = self.layout();
        let present = self.present().into_iter().filter_map(|index| Some((index, layout.member(index)?)));
        join_all(present.map(|(index, member)| async move {
            let node = self.client.node(index);
            let (answer, repair) = futures_util::future::join(node.status(), node.repair_status()).await;
            NodeStatus {
                index,
                name: member.name.clone(),
                address: member.addresses.join(" "),
                answer: answer.map_err(Failure::from),
                repair: repair.ok(),
            }
        }))
        .await
    }

    async fn write(&self, key: Key<'_>, consistency: Consistency, action: Action) -> Result<Written, Failure> {
        let reply = self.submit(key, consistency, action).await?;
        match reply.outcome {
            Outcome::Stored { context, siblings, clock } => {
                Ok(Written { context, siblings, clock, receipt: reply.receipt })
            }
            Outcome::Found { .. } | Outcome::NotFound { .. } | Outcome::Failed(_) => {
                Err(Failure::wrong_answer(&reply.outcome))
            }
        }
    }

    async fn submit(&self, key: Key<'_>, consistency: Consistency, action: Action) -> Result<Reply, Failure> {
        let address = Address::new(Bytes::copy_from_slice(key.bucket.as_bytes()), key.key.clone());
        let operation = Operation { address, consistency, action };
        let (sender, receiver) = oneshot::channel();
        let completer = Arc::new(Waiting(Mutex::new(Some(sender))));
        self.client.submit(operation, Instant::now() + self.timeout, 0, completer)?;
        let reply = receiver.await.map_err(|_| Failure::closed())??;
        match reply.outcome {
            Outcome::Failed(failure) => Err(Failure::from(failure)),
            Outcome::Found { .. } | Outcome::NotFound { .. } | Outcome::Stored { .. } => Ok(reply),
        }
    }
}

/// A scan in the command line's words.
fn scanned(scan: quorate::Scan) -> impl Stream<Item = Result<ScannedKey, Failure>> {
    scan.map(|key| {
        let key = key.map_err(Failure::from)?;
        let siblings = key.found.iter().flat_map(|found| found.siblings());
        Ok(ScannedKey {
            address: Address::new(Bytes::copy_from_slice(key.bucket.as_bytes()), key.key.clone()),
            siblings: key.siblings,
            value_bytes: key.value_bytes,
            values: siblings.map(|sibling| sibling.value.clone()).collect(),
            bucket: key.bucket,
        })
    })
}

impl<'a> ScanOptions<'a> {
    /// All keys of a bucket, as the bucket's level has it.
    pub fn whole(bucket: &'a str) -> Self {
        Self { bucket: Some(bucket), values: false, first_partition: 0, consistency: Consistency::default() }
    }
}

/// Hands a result to the task that waits for it.
struct Waiting(Mutex<Option<oneshot::Sender<Result<Reply, Error>>>>);

impl Completer for Waiting {
    fn complete(&self, _token: u64, result: Result<Reply, Error>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever waited may have been interrupted.
        sender.map(|sender| sender.send(result));
    }
}

/// The layout of the cluster that the arguments name.
pub fn layout(cluster: &Cluster) -> Result<Arc<Layout>, CommandError> {
    block_on(async {
        let session = Session::connect(cluster).await?;
        let layout = session.layout();
        session.close().await;
        Ok(layout)
    })
}

/// How applications would begin, in a line for each language there is a client for.
pub fn example(endpoint: &str) -> String {
    format!(
        "quorate::Client::connect(\"{endpoint}\").await?.get(\"greeting\").await?\n\
         quorate.connect(\"{endpoint}\").get(\"greeting\")\n\
         await (await Client.connect('{endpoint}')).get('greeting')"
    )
}

/// A context as people copy it.
pub fn context_text(context: &Bytes) -> String {
    Context::from_bytes(context.clone()).map(|context| context.to_string()).unwrap_or_default()
}

/// A context from its text.
pub fn parse_context(text: &str) -> Result<Bytes, CommandError> {
    let context: Context = text.parse().map_err(|error: Error| {
        CommandError::usage(format!("--context: {}", error.message()))
            .next("copy it from `quorate kv get KEY --output json`")
    })?;
    Ok(Bytes::copy_from_slice(context.as_bytes()))
}

impl Get {
    /// What the answer rested on.
    pub fn receipt(&self) -> &Receipt {
        match self {
            Self::Found { receipt, .. } | Self::NotFound { receipt, .. } => receipt,
        }
    }
}
