//! One node as a whole: what its workers share, how it starts, and how it ends.
//!
//! It starts in this order: the layout is planned from the configuration, the data directory is opened or founded and
//! compared with it, the partitions are adopted, the workers listen. It ends in the other: nothing new is accepted, what is in
//! flight ends (within a bound), connections close, the store closes.

mod acquaintances;
mod budgets;
mod deciding;
mod deltas;
mod draining;
mod error;
mod founding;
mod gauges;
mod joining;
mod known;
mod running;

use std::{
    io,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dynamo::{
    ident::NodeId,
    layout::{Layout, NodeIndex},
    operation::Failure,
    ring::Ring,
    tick::Tick,
    token::TokenKey,
};
use tokio::sync::watch;

use crate::{
    config::Config,
    counters::Counters,
    gossip::{Board, News},
    ring::{Fetches, StagedHere, Tellings, Vote, Wishes},
    service::Backlog,
    steward,
    store::{Store, StoreConfig},
    worker::{Inquiries, Room},
};

pub use error::ServeError;
pub use running::{RunningNode, run};

#[cfg(test)]
pub(crate) use self::founding::first_layout;
pub(crate) use self::{
    acquaintances::{Acquaintances, Claim, Process, Stranger},
    budgets::Budgets,
    founding::peer_proof,
    gauges::{PeerGauge, Visible},
    known::Known,
};

/// What other nodes may have in flight here, in operations: all their coordinators' work for this replica. Beyond it they are
/// told so and count this replica as failing.
const PEER_OPERATIONS_MAX: usize = 262_144;

/// The same in bytes; see [`crate::config::Admission::bytes_max`] for clients.
const PEER_BYTES_MAX: usize = 128 << 20;

/// Large replies that may wait for their readers, in bytes, all connections together: what a slow network takes in a second, and with
/// what a thousand connections occupy by themselves still less than 64 MiB.
const BACKLOG_BYTES_MAX: usize = 16 << 20;

/// Bytes waiting to be sent at which a connection's next call has to wait: some sendings' worth, so that the line never runs
/// dry, and little enough to be held for thousands of connections that do not read.
pub(crate) const PAUSE_BYTES: usize = 128 << 10;

/// How often a draining node looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// What the node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Serving.
    Serving,
    /// Refusing what is new, ending what is in flight.
    Draining,
    /// Ended.
    Stopped,
}

/// What all workers share.
pub(crate) struct Node {
    /// How it is configured.
    pub(crate) config: Config,
    /// Who this node is, for ever.
    pub(crate) id: NodeId,
    /// The ring as it is now.
    known: watch::Sender<Arc<Known>>,
    /// Whoever takes in a layout holds this meanwhile.
    deciding: Mutex<()>,
    /// The longest record that is read from another node; follows the ring.
    record_bytes_max: AtomicUsize,
    /// Which data directory it runs on.
    pub(crate) directory: u128,
    /// The cluster's key for context tokens.
    pub(crate) token_key: TokenKey,
    /// The store.
    pub(crate) store: Store,
    /// When it started; ticks count from here.
    pub(crate) started: Instant,
    /// The counters of each worker.
    pub(crate) counters: Vec<Arc<Counters>>,
    /// How long clients' calls take, by worker.
    pub(crate) pulses: Vec<steward::Pulse>,
    /// The way to background repair.
    pub(crate) steward: steward::Handle,
    /// What clients may have in flight.
    pub(crate) clients: Arc<Room>,
    /// What other nodes may have in flight.
    pub(crate) peers: Arc<Room>,
    /// The nodes that have introduced themselves.
    pub(crate) acquaintances: Acquaintances,
    /// How many changes each shard of the store had made durable, ever, when this process started.
    pub(crate) positions_at_start: Vec<u64>,
    /// Bytes of received messages, by who sent them.
    pub(crate) budgets: Budgets,
    /// Large replies on their way out.
    pub(crate) backlog: Arc<Backlog>,
    /// Where each worker is asked what it does.
    pub(crate) inquiries: Inquiries,
    /// What the members tell each other.
    pub(crate) gossip: Board,
    /// Open connections.
    pub(crate) connections: AtomicUsize,
    stage: watch::Sender<Stage>,
    has_failed: watch::Sender<bool>,
    /// Which layouts are to be fetched.
    pub(crate) wishes: Wishes,
    /// What was fetched of them.
    pub(crate) fetches: Fetches,
    /// The layouts as others are told them.
    pub(crate) tellings: Tellings,
    /// The changes of the ring that are staged here.
    pub(crate) staged_here: StagedHere,
    /// What it has promised as an elector.
    pub(crate) vote: Vote,
    /// An operator drained it.
    sends_clients_away: AtomicBool,
    /// Why another node refused this one for good.
    refusal: OnceLock<String>,
}

/// A number that no other process draws.
fn random() -> Result<u64, ServeError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| ServeError::System(io::Error::other(error)))?;
    Ok(u64::from_le_bytes(bytes))
}

impl Node {
    fn open(config: Config) -> Result<Self, ServeError> {
        let (id, founding) = match Store::recognise(&config.data)? {
            Some(identity) => (identity.node, None),
            None => founding::found(&config)?,
        };
        let store = Store::open(&StoreConfig {
            directory: config.data.clone(),
            cluster: founding::cluster_id(&config.cluster.name),
            node: id,
            founding,
            shards: (config.shards > 0).then_some(config.shards),
            max_bytes: (config.max_bytes > 0).then_some(config.max_bytes),
            value_bytes_max: u64::from(config.value_bytes_max),
            is_filesystem_forced: false,
        })?;
        let unusable = |detail: String| ServeError::Layout { path: config.data.clone(), detail };
        let ring = deciding::recall(&store).map_err(unusable)?;
        founding::check_name(ring.newest(), id, &config)?;
        let acquaintances = Acquaintances::recall(&store, random()?)?;
        let workers = config.worker_count();
        let known = Known::first(Arc::new(ring), id, workers);
        let node = Self {
            id,
            record_bytes_max: AtomicUsize::new(record_bytes_max(&config, &known)),
            directory: u128::from_be_bytes(store.identity().directory),
            token_key: founding::token_key(&config.cluster.secret),
            started: Instant::now(),
            counters: (0..workers).map(|_| Arc::default()).collect(),
            pulses: (0..workers).map(|_| steward::Pulse::default()).collect(),
            steward: steward::Handle::default(),
            clients: Arc::new(Room::new(config.admission.operations_max, config.admission.bytes_max)),
            peers: Arc::new(Room::new(PEER_OPERATIONS_MAX, PEER_BYTES_MAX)),
            acquaintances,
            positions_at_start: store.positions(),
            budgets: Budgets::new(&config),
            backlog: Backlog::new(BACKLOG_BYTES_MAX),
            inquiries: Inquiries::new(workers),
            gossip: Board::default(),
            connections: AtomicUsize::new(0),
            stage: watch::Sender::new(Stage::Serving),
            has_failed: watch::Sender::new(false),
            wishes: Wishes::default(),
            fetches: Fetches::default(),
            tellings: Tellings::default(),
            staged_here: StagedHere::default(),
            vote: Vote::default(),
            sends_clients_away: AtomicBool::new(false),
            refusal: OnceLock::new(),
            known: watch::Sender::new(Arc::new(known)),
            deciding: Mutex::new(()),
            store,
            config,
        };
        node.adopt(&node.known()).map_err(ServeError::Adopt)?;
        node.say_where_it_stands();
        Ok(node)
    }

    /// The ring as it is now. For what is done per connection or less often: workers keep their own.
    pub(crate) fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.borrow())
    }

    /// Tells of changes of the ring.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Known>> {
        self.known.subscribe()
    }

    /// The layouts of the ring.
    pub(crate) fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.known.borrow().ring)
    }

    /// This node's place in the ring, if it has one.
    pub(crate) fn me(&self) -> Option<NodeIndex> {
        self.known.borrow().me
    }

    /// The newest layout.
    pub(crate) fn layout(&self) -> Arc<Layout> {
        Arc::clone(self.known.borrow().layout())
    }

    /// Now, in milliseconds since the node started.
    pub(crate) fn now(&self) -> Tick {
        Tick(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The longest record that is read from another node.
    pub(crate) fn record_bytes_max(&self) -> usize {
        self.record_bytes_max.load(Ordering::Relaxed)
    }

    /// Limits of a connection that may carry records between nodes. For clients they are the same: what those send is bounded
    /// by their budget before it is decoded, and by the bounds of a batch after.
    pub(crate) fn fit_records(&self, limits: wire::Limits) -> wire::Limits {
        /// What stands around a record in a message.
        const ENVELOPE_BYTES: usize = 64 << 10;
        let frame_bytes = limits.frame_bytes.max(self.record_bytes_max() + ENVELOPE_BYTES);
        let outgoing_bytes = limits.outgoing_bytes.max(frame_bytes);
        wire::Limits { frame_bytes, outgoing_bytes, ..limits }
    }

    /// What the node is doing, now and later.
    pub(crate) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Whether new requests are to be refused.
    pub(crate) fn is_draining(&self) -> bool {
        *self.stage.borrow() != Stage::Serving
    }

    /// Another node called: it is alive, so workers and the steward try to reach it, if they do not.
    pub(crate) fn heard(&self, known: &Known, node: NodeIndex) {
        if known.heard(node) {
            self.steward.heard(node);
        }
    }

    /// Whether it shall take part in gossip; alone as well, for others may come.
    pub(crate) fn gossips(&self) -> bool {
        self.config.gossip.enabled
    }

    /// The members say that another node is down. Workers with a connection to it see for themselves, at once and not with the
    /// next client's call; what they see is what counts.
    pub(crate) fn doubt(&self, node: NodeIndex) {
        self.known().gauges(node).for_each(PeerGauge::doubt);
    }

    /// A process of another node says how far its store has come.
    pub(crate) fn hear_positions(&self, known: &Known, node: NodeIndex, process: Process, positions: &[u64]) {
        if let Some(member) = known.layout().member(node) {
            self.acquaintances.heard(member.id, process, positions);
        }
    }

    /// Another node refuses this one, and has a reason that does not go away: positions never go back and starts are counted, so
    /// one that remembers better is proof enough. What this node has acknowledged before may be missing here, so it stops.
    pub(crate) fn give_up(&self, failure: &Failure) {
        if self.refusal.set(failure.message.to_string()).is_ok() {
            tracing::error!("{}", failure.message);
        }
        self.failed();
    }

    /// Somebody knows the layout of an epoch that this node does not: it is to be fetched, from there at first.
    pub(crate) fn pull(&self, epoch: u64, from: Option<NodeId>) {
        self.wishes.wish(epoch, from);
    }

    /// Takes in what another node says about itself.
    pub(crate) fn learn(&self, node: NodeId, news: &News) {
        self.acquaintances.heard(node, Process(news.process), &news.positions);
        let known = self.known();
        if news.epoch > known.ring.epoch() {
            self.pull(news.epoch, Some(node));
        } else if news.epoch == known.ring.epoch() && news.layout_hash != known.layout_hash {
            tracing::warn!(%node, "has another layout of the same epoch; compare [cluster] and [buckets] of both files");
        }
    }

    /// Stops the node because it can't go on.
    pub(crate) fn failed(&self) {
        self.has_failed.send_replace(true);
        self.stage.send_replace(Stage::Stopped);
    }

    /// Lets nothing new in.
    fn drain(&self) {
        self.stage.send_if_modified(|stage| {
            let is_serving = *stage == Stage::Serving;
            if is_serving {
                *stage = Stage::Draining;
            }
            is_serving
        });
    }

    /// Waits until nothing is in flight, within the configured bound.
    async fn drained(&self) {
        let until = Instant::now() + Duration::from_millis(u64::from(self.config.deadlines.drain_ms));
        loop {
            let in_flight = self.operations_in_flight();
            if in_flight == 0 {
                return;
            }
            if Instant::now() >= until {
                tracing::warn!(
                    in_flight,
                    "gave up waiting for operations in flight; their clients do not get an answer"
                );
                return;
            }
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }

    /// Takes a place for a connection, if there is one.
    pub(crate) fn take_place(&self) -> bool {
        let taken = self.connections.fetch_add(1, Ordering::Relaxed);
        if taken < self.config.admission.connections_max {
            return true;
        }
        self.leave_place();
        false
    }

    /// Whether only the places are left that other nodes need: each worker of each of them and its steward keep a connection, and a node that
    /// is crowded with clients must stay reachable for the others.
    pub(crate) fn is_full_of_clients(&self) -> bool {
        let clients: u64 = self.counters.iter().map(|counters| counters.clients.read()).sum();
        // Half of the places at most, where the cluster is larger than they were made for.
        let most = self.config.admission.connections_max;
        let reserved = (self.known().others().count() * (self.counters.len() + 1)).min(most / 2);
        clients >= (most - reserved) as u64
    }

    /// Gives the place of a connection back.
    pub(crate) fn leave_place(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The longest record that is read from another node: an object as it may become when every owner's part of it is merged, each
/// holding as much as one node lets in.
fn record_bytes_max(config: &Config, known: &Known) -> usize {
    let object_bytes = schema::convert::BATCH_BYTES_MAX.max(config.value_bytes_max as usize);
    let replicas = known.ring.layouts().map(|layout| layout.replicas).max().unwrap_or_default();
    (usize::from(replicas) + 1) * object_bytes
}
