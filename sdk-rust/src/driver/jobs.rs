//! Rare work on an I/O thread, beside the operations: scans, status, pings, and looking at the machine.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use dynamo::{
    ident::{Id, NodeId},
    layout::NodeIndex,
    operation::{ErrorCode, Failure},
};
use schema::{
    admin_capnp::admin,
    convert::{self, ReplyHeader, RequestHeader, Scan, ScanPage, Status},
    kv_capnp::kv,
    node_capnp::node,
};
use tokio::{
    sync::oneshot,
    task::spawn_local,
    time::{sleep, timeout},
};

use super::{Driver, call::milliseconds};
use crate::{
    Error,
    core::Shared,
    engine::{Counts, Effect},
    routing::{Kind, Route},
};

/// How often a job looks whether its connection has come.
const CONNECTION_POLL: Duration = Duration::from_millis(2);

/// What one I/O thread knows of a node.
#[derive(Clone, Debug)]
pub(crate) struct NodeView {
    pub(crate) connected: bool,
    pub(crate) usable: bool,
    pub(crate) in_flight: u32,
    pub(crate) latency_micros: f32,
    pub(crate) load: u8,
}

/// What one I/O thread has done and has before it.
#[derive(Clone, Debug)]
pub(crate) struct ThreadView {
    pub(crate) counts: Counts,
    pub(crate) in_flight: usize,
    pub(crate) waiting: usize,
    pub(crate) budget_tokens: u32,
    pub(crate) nodes: Vec<NodeView>,
}

/// What a node offers on one connection.
pub(super) struct Capabilities {
    pub(super) node: node::Client,
    pub(super) kv: kv::Client,
    pub(super) admin: Option<admin::Client>,
}

/// A node gave no piece of a scan.
#[derive(Debug)]
pub(crate) struct NoPiece {
    pub(crate) because: Because,
    pub(crate) error: Error,
}

/// What kind of reason it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Because {
    /// The partition has not yet arrived there.
    Arriving,
    /// The ring is not as this client knows it.
    Moved,
    /// Any other.
    Other,
}

impl Because {
    fn of(failure: &Failure) -> Self {
        if failure.code == ErrorCode::StaleView {
            Self::Moved
        } else if failure.code == ErrorCode::Unavailable && !failure.owners.is_empty() {
            Self::Arriving
        } else {
            Self::Other
        }
    }
}

impl From<Error> for NoPiece {
    fn from(error: Error) -> Self {
        Self { because: Because::Other, error }
    }
}

impl Shared {
    /// Does `work` on an I/O thread.
    pub(crate) async fn on_thread<T, F>(
        &self,
        thread: usize,
        work: impl FnOnce(Rc<Driver>) -> F + Send + 'static,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let accepted = self.queues[thread].push_job(Box::new(move |driver| {
            spawn_local(async move { drop(sender.send(work(driver).await)) });
        }));
        if !accepted {
            return Err(Error::closed());
        }
        receiver.await.map_err(|_| Error::closed())
    }
}

impl Driver {
    /// A piece of a scan from one node, which is asked by the numbers that partitions have in the layout of `epoch`.
    pub(crate) async fn scan(
        self: Rc<Self>,
        node: NodeId,
        epoch: u64,
        scan: Scan,
        budget: Duration,
    ) -> Result<ScanPage, NoPiece> {
        let piece = self.within(budget, async {
            let kv = self.capabilities(node).await?.kv;
            let mut request = kv.scan_request();
            let mut wire = request.get().init_request();
            RequestHeader { epoch, ..self.header(budget) }.encode(wire.reborrow().init_header());
            convert::encode_scan(wire, &scan);
            let response = request.send().promise.await.map_err(broken)?;
            let reply = response.get().and_then(|results| results.get_reply()).map_err(broken)?;
            let known = ReplyHeader::decode(reply.get_header()).epoch;
            if let Some(link) = self.engine.borrow().find(node) {
                self.refresh_from(link, known);
            }
            Ok(convert::decode_scan_page(reply))
        });
        match piece.await {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(failure)) => Err(NoPiece { because: Because::of(&failure), error: Error::from_failure(failure) }),
            Err(error) if self.engine.borrow().find(node).is_none() => Err(NoPiece { because: Because::Moved, error }),
            Err(error) => Err(NoPiece { because: Because::Other, error }),
        }
    }

    /// How a node is.
    pub(crate) async fn status(self: Rc<Self>, node: NodeId, budget: Duration) -> Result<Status, Error> {
        self.within(budget, async {
            let kv = self.capabilities(node).await?.kv;
            let mut request = kv.status_request();
            self.header(budget).encode(request.get().init_request().init_header());
            let response = request.send().promise.await.map_err(broken)?;
            let reply = response.get().and_then(|results| results.get_reply()).map_err(broken)?;
            convert::decode_status(reply).map_err(Error::from_failure)
        })
        .await
    }

    /// How long a node takes to answer when it has nothing to do.
    pub(crate) async fn ping(self: Rc<Self>, node: NodeId, budget: Duration) -> Result<Duration, Error> {
        self.within(budget, async {
            let node = self.capabilities(node).await?.node;
            let started = Instant::now();
            let mut request = node.ping_request();
            request.get().init_request();
            request.send().promise.await.map_err(broken)?;
            Ok(started.elapsed())
        })
        .await
    }

    /// What this thread has done and sees.
    pub(crate) fn view(&self) -> ThreadView {
        let engine = self.engine.borrow();
        let (in_flight, waiting) = engine.load();
        let nodes = engine
            .members()
            .map(|(_, link, health)| NodeView {
                connected: link.is_up(),
                usable: health.usable,
                in_flight: health.in_flight,
                latency_micros: health.latency_micros,
                load: health.load,
            })
            .collect();
        ThreadView { counts: engine.counts, in_flight, waiting, budget_tokens: engine.budget_tokens(), nodes }
    }

    /// Where a read and a write of an identifier would go now.
    pub(crate) fn coordinators(&self, id: &Id) -> (Option<NodeIndex>, Option<NodeIndex>) {
        let mut engine = self.engine.borrow_mut();
        let mut ask = |kind| engine.would_go_to(Route { id, kind, owners_used: 0, stand_ins: true, tried: &[] });
        (ask(Kind::Read), ask(Kind::Write))
    }

    /// The capabilities of a node, on a connection that is opened if there is none.
    pub(super) async fn capabilities(self: &Rc<Self>, node: NodeId) -> Result<Capabilities, Error> {
        let gone = || Error::connection("the node is no part of the layout any more");
        let link = {
            let mut engine = self.engine.borrow_mut();
            let link = engine.find(node).ok_or_else(gone)?;
            if engine.want_connection(Instant::now(), link) {
                engine.effects.push(Effect::Connect(link));
            }
            link
        };
        self.perform();
        loop {
            if let Some(connection) = self.connections.borrow().get(&link) {
                return Ok(Capabilities {
                    node: connection.node.clone(),
                    kv: connection.kv.clone(),
                    admin: connection.admin.clone(),
                });
            }
            if self.engine.borrow().link(link).is_down() {
                let name = self.engine.borrow().link(link).name.clone();
                return Err(Error::connection(format!("{name} can't be reached")));
            }
            sleep(CONNECTION_POLL).await;
        }
    }

    pub(super) fn header(&self, budget: Duration) -> RequestHeader {
        let epoch = self.engine.borrow().layout().epoch;
        RequestHeader { epoch, budget_ms: milliseconds(budget), ..Default::default() }
    }

    pub(super) async fn within<T>(
        &self,
        budget: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match timeout(budget, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::timeout(format!("no answer within {budget:?}"))),
        }
    }
}

pub(super) fn broken(error: capnp::Error) -> Error {
    Error::connection_lost(format!("the connection broke before the answer came: {error}"))
}
