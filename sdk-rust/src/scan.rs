//! Scans: every key of a bucket, partition by partition, in the order of their identifiers.
//!
//! A scan asks owners for the keys they hold and unites what they say. At level `one` a single owner of each partition is
//! asked; at stronger levels as many as a read waits for, and each key is then read at that level, so that what one owner
//! missed is not missed and what was deleted is not shown. When an owner fails, or has records that it can't verify, another
//! takes its place where it stopped ([`pieces`]).
//!
//! While the ring changes, a new owner of a partition says that it is still arriving there, and former owners that it has gone. Then
//! others are asked; and where too few can tell it for the moment, the scan waits for the newer layout, or until enough has arrived, as
//! long as an operation may take. It goes on behind the last key that it gave out, under whatever number the partition has by then.
//!
//! At level `available` as many owners are united as can be reached, up to a majority and at least one. Stand-ins are not
//! asked: what only they hold is missed until they have handed it over.

mod pieces;

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{
    ident::NodeId,
    layout::{Layout, Level},
    operation::{Action, Address, Consistency, Operation},
};
use futures_util::{Stream, StreamExt, stream};
use schema::convert::{Scan as Question, ScanPage};

use crate::{Bucket, Error, Found, Lookup, driver::jobs::NoPiece};
use pieces::Partition;

/// How long a scan waits before it looks at the ring again.
const RING_PAUSE: Duration = Duration::from_millis(100);

/// A scan. A stream of keys; it ends after the first error. Where too few owners can verify their records it ends with
/// [`Error::Corrupt`]: no key is left out in silence.
#[must_use = "a scan does nothing unless it is polled"]
pub struct Scan {
    bucket: Bucket,
    all_buckets: bool,
    values: bool,
    deleted: bool,
    first_partition: u32,
    consistency: Consistency,
    running: Option<Running>,
}

/// The scan once it has begun.
type Running = Pin<Box<dyn Stream<Item = Result<Scanned, Error>> + Send>>;

/// A key that a scan came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Its bucket.
    pub bucket: String,
    /// The key.
    pub key: Bytes,
    /// How many live versions it has.
    pub siblings: usize,
    /// Bytes of its live values together.
    pub value_bytes: u64,
    /// Its values, when they were asked for.
    pub found: Option<Found>,
}

impl Scan {
    pub(crate) fn new(bucket: Bucket) -> Self {
        let consistency = bucket.defaults().consistency;
        Self {
            bucket,
            all_buckets: false,
            values: false,
            deleted: false,
            first_partition: 0,
            consistency,
            running: None,
        }
    }

    /// Also reads the values.
    pub fn values(mut self) -> Self {
        self.values = true;
        self
    }

    /// Instead of the keys with live values, those that have none: tombstones, and values that have expired, as the owners that
    /// were asked tell it. For operators.
    pub fn deleted(mut self) -> Self {
        self.deleted = true;
        self
    }

    /// Begins with this partition of the ring: for going on where an earlier scan came to. Keys come in the order of
    /// [`Address::store_key`], whatever the number of partitions is.
    pub fn first_partition(mut self, partition: u32) -> Self {
        self.first_partition = partition;
        self
    }

    /// How many owners' keys are united, and the level at which keys are read: [`Level::One`] is quick and may miss what its
    /// owners missed, [`Level::Available`] goes on with the owners there are and may miss what only others or stand-ins
    /// hold; the usual level is the bucket's.
    pub fn level(mut self, level: Level) -> Self {
        self.consistency.level = Some(level);
        self
    }

    /// Unites the keys of so many owners, and reads from as many, whatever the level says.
    pub fn r(mut self, replicas: u8) -> Self {
        self.consistency.r = replicas;
        self
    }

    /// Reads keys with only the first `replicas` owners of each.
    pub fn n(mut self, replicas: u8) -> Self {
        self.consistency.n = replicas;
        self
    }

    /// Keys of every bucket.
    pub(crate) fn all_buckets(mut self) -> Self {
        self.all_buckets = true;
        self
    }

    fn start(&self) -> Running {
        let plan = Plan {
            bucket: self.bucket.clone(),
            only: (!self.all_buckets).then(|| String::from_utf8_lossy(self.bucket.name_bytes()).into_owned()),
            values: self.values,
            deleted: self.deleted,
            consistency: self.consistency,
            layout: self.bucket.handle().shared.layout(),
            failed: Vec::new(),
            waits_until: None,
        };
        let first = self.first_partition.min(plan.layout.partitions());
        let pieces = stream::try_unfold((plan, first, None), move |(plan, partition, open)| async move {
            let mut plan: Plan = plan;
            let mut open: Option<Partition> = open;
            let mut partition: u32 = partition;
            loop {
                let mut current = match open.take() {
                    Some(current) => current,
                    None if partition == plan.layout.partitions() => return Ok(None),
                    None => {
                        partition += 1;
                        Partition::new(&plan, partition - 1)
                    }
                };
                let keys = match current.next(&mut plan).await {
                    Ok(keys) => keys,
                    Err(interrupted) => {
                        plan.wait_out(interrupted).await?;
                        let again = current.again(&plan);
                        (partition, open) = (again.number() + 1, Some(again));
                        continue;
                    }
                };
                plan.waits_until = None;
                if !keys.is_empty() {
                    let found = plan.read(keys).await?;
                    return Ok(Some((found, (plan, partition, Some(current)))));
                }
            }
        });
        Box::pin(
            pieces
                .map(|piece: Result<Vec<Scanned>, Error>| match piece {
                    Ok(keys) => stream::iter(keys.into_iter().map(Ok).collect::<Vec<_>>()),
                    Err(error) => stream::iter(vec![Err(error)]),
                })
                .flatten(),
        )
    }
}

impl Stream for Scan {
    type Item = Result<Scanned, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.running.is_none() {
            self.running = Some(self.start());
        }
        match &mut self.running {
            Some(running) => running.as_mut().poll_next(context),
            None => Poll::Ready(None),
        }
    }
}

/// What a scan wants.
struct Plan {
    bucket: Bucket,
    only: Option<String>,
    values: bool,
    deleted: bool,
    consistency: Consistency,
    layout: std::sync::Arc<Layout>,
    /// Nodes that have failed to answer: they are asked last, or every partition would wait for them again.
    failed: Vec<NodeId>,
    /// How long the scan may wait for the ring, since it has found nobody for its next piece.
    waits_until: Option<Instant>,
}

/// Nobody has told the next piece.
struct Interrupted {
    /// Whether that may pass by itself, because the ring changes.
    may_pass: bool,
    error: Error,
}

/// A key as one owner tells it.
struct Told {
    address: Address,
    siblings: u16,
    value_bytes: u64,
}

impl Plan {
    /// How many owners must tell their keys.
    fn owners_needed(&self, owners: usize) -> usize {
        let level = self.level();
        let by_level = match level {
            Level::One => 1,
            Level::Available | Level::Quorum => owners / 2 + 1,
            Level::All => owners,
        };
        match usize::from(self.consistency.r) {
            0 => by_level,
            r => r.min(owners),
        }
        .max(1)
    }

    fn level(&self) -> Level {
        let of_bucket = || self.only.as_ref().map(|name| self.layout.bucket(name).level).unwrap_or_default();
        self.consistency.level.unwrap_or_else(of_bucket)
    }

    /// Reads keys as far as the scan wants it: their values, or whether they are live at its level.
    async fn read(&self, keys: Vec<Told>) -> Result<Vec<Scanned>, Error> {
        if self.deleted {
            let deleted = keys.into_iter().filter(|key| key.siblings == 0);
            return Ok(deleted.map(|key| key.into_scanned(None)).collect());
        }
        let as_told = !self.values && self.level() == Level::One && self.consistency.r <= 1;
        if as_told {
            let live = keys.into_iter().filter(|key| key.siblings > 0);
            return Ok(live.map(|key| key.into_scanned(None)).collect());
        }
        let action = Action::Get { without_values: !self.values };
        let operations = keys.iter().map(|key| {
            Ok(Operation {
                address: key.address.clone(),
                consistency: Consistency { w: 0, ..self.consistency },
                action: action.clone(),
            })
        });
        let answers = self.bucket.batch(operations, |reply| Lookup::from_reply(reply).map(Lookup::found)).await;
        let mut scanned = Vec::with_capacity(keys.len());
        for (key, found) in keys.into_iter().zip(answers) {
            if let Some(found) = found? {
                scanned.push(key.into_scanned(Some(found)));
            }
        }
        if !self.values {
            scanned.iter_mut().for_each(|key| key.found = None);
        }
        Ok(scanned)
    }

    /// Whether a piece may rest on fewer owners than are needed, when no more can be reached.
    fn takes_what_is_there(&self) -> bool {
        self.level() == Level::Available && self.consistency.r == 0
    }

    async fn ask(&self, node: NodeId, partition: u32, cursor: Bytes, limit: u32) -> Result<ScanPage, NoPiece> {
        let bucket = self.only.clone();
        let question = Question { bucket, partition, cursor, limit, with_tombstones: self.deleted };
        let (budget, epoch) = (self.bucket.defaults().timeout, self.layout.epoch);
        let shared = &self.bucket.handle().shared;
        shared.on_thread(0, move |driver| driver.scan(node, epoch, question, budget)).await?
    }

    /// Waits a moment and looks at the ring again, if that may help; the error if it can't, or has not for too long.
    async fn wait_out(&mut self, interrupted: Interrupted) -> Result<(), Error> {
        let now = Instant::now();
        let until = *self.waits_until.get_or_insert(now + self.bucket.defaults().timeout);
        if !interrupted.may_pass || now >= until {
            return Err(interrupted.error);
        }
        let shared = &self.bucket.handle().shared;
        shared.on_thread(0, |_| tokio::time::sleep(RING_PAUSE)).await?;
        self.layout = shared.layout();
        Ok(())
    }
}

impl Told {
    fn into_scanned(self, found: Option<Found>) -> Scanned {
        let (siblings, value_bytes) = match &found {
            Some(found) => {
                (found.siblings().len(), found.siblings().iter().map(|sibling| u64::from(sibling.value_bytes)).sum())
            }
            None => (self.siblings.into(), self.value_bytes),
        };
        let bucket = String::from_utf8_lossy(&self.address.bucket).into_owned();
        Scanned { bucket, key: self.address.key, siblings, value_bytes, found }
    }
}
