//! What operators do with the ring, on an I/O thread: staging changes, planning and committing them, and watching data move.

use std::{rc::Rc, time::Duration};

use dynamo::{ident::NodeId, staging::Change};
use schema::convert::{self, Commit, Decision, HistoryEntry, Staging, Transfers};

use super::{Driver, jobs::broken};
use crate::Error;

impl Driver {
    /// Stages changes of the ring.
    pub(crate) async fn stage(
        self: Rc<Self>,
        node: NodeId,
        changes: Vec<Change>,
        budget: Duration,
    ) -> Result<Staging, Error> {
        self.within(budget, async {
            let mut request = self.admin(node).await?.stage_request();
            let mut wire = request.get().init_request();
            self.header(budget).encode(wire.reborrow().init_header());
            let length = u32::try_from(changes.len()).unwrap_or(u32::MAX);
            convert::encode_changes(wire.init_changes(length), &changes);
            let response = request.send().promise.await.map_err(broken)?;
            let reply = response.get().and_then(|results| results.get_reply()).map_err(broken)?;
            Staging::decode(reply).map_err(Error::from_failure)
        })
        .await
    }

    /// What is staged, and what it would do.
    pub(crate) async fn plan(self: Rc<Self>, node: NodeId, budget: Duration) -> Result<Staging, Error> {
        self.within(budget, async {
            let mut request = self.admin(node).await?.plan_request();
            self.header(budget).encode(request.get().init_request().init_header());
            let response = request.send().promise.await.map_err(broken)?;
            let reply = response.get().and_then(|results| results.get_reply()).map_err(broken)?;
            Staging::decode(reply).map_err(Error::from_failure)
        })
        .await
    }

    /// Forgets what is staged.
    pub(crate) async fn clear(self: Rc<Self>, node: NodeId, budget: Duration) -> Result<Staging, Error> {
        self.within(budget, async {
            let mut request = self.admin(node).await?.clear_request();
            self.header(budget).encode(request.get().init_request().init_header());
            let response = request.send().promise.await.map_err(broken)?;
            let reply = response.get().and_then(|results| results.get_reply()).map_err(broken)?;
            Staging::decode(reply).map_err(Error::from_failure)
        })
        .await
    }

    /// Stages the way back from the newest layout.
    pub(crate) async fn abort(self: Rc<Self>, node: NodeId, epoch: u64, budget: Duration) -> Result<Staging, Error> {
        self.within(budget, async {
            let mut request = self.admin(node).await?.abort_request();
            let mut wire = request.get().init_request();
            self.header(budget).encode(wire.reborrow().init_header());
            wire.set_epoch(epoch);
            let response = request.send().promise.await.map_err(broken)?;
            let reply = response.get().and_then(|results| results.get_reply()).map_err(broken)?;
            Staging::decode(reply).map_err(Error::from_failure)
        })
        .await
    }

    /// Has a plan decided.
    pub(crate) async fn commit(
        self: Rc<Self>,
        node: NodeId,
        commit: Commit,
        budget: Duration,
    ) -> Result<Decision, Error> {
        self.within(budget, async {
            let mut request = self.admin(node).await?.commit_request();
            let mut wire = request.get().init_request();
            self.header(budget).encode(wire.reborrow().init_header());
            commit.encode(wire);
            let response = request.send().promise.await.map_err(broken)?;
            let reply = response.get().and_then(|results| results.get_reply()).map_err(broken)?;
            Decision::decode(reply).map_err(Error::from_failure)
        })
        .await
    }

    /// The layouts that were agreed upon, as far as a node remembers.
    pub(crate) async fn history(self: Rc<Self>, node: NodeId, budget: Duration) -> Result<Vec<HistoryEntry>, Error> {
        self.within(budget, async {
            let mut request = self.admin(node).await?.history_request();
            self.header(budget).encode(request.get().init_request().init_header());
            let response = request.send().promise.await.map_err(broken)?;
            let reply = response.get().and_then(|results| results.get_reply()).map_err(broken)?;
            convert::decode_history(reply).map_err(Error::from_failure)
        })
        .await
    }

    /// The partitions that move to or from a node.
    pub(crate) async fn transfers(self: Rc<Self>, node: NodeId, budget: Duration) -> Result<Transfers, Error> {
        self.within(budget, async {
            let mut request = self.admin(node).await?.transfers_request();
            self.header(budget).encode(request.get().init_request().init_header());
            let response = request.send().promise.await.map_err(broken)?;
            let reply = response.get().and_then(|results| results.get_reply()).map_err(broken)?;
            Transfers::decode(reply).map_err(Error::from_failure)
        })
        .await
    }

    /// Has a node take no new operations, or take them again.
    pub(crate) async fn drain(self: Rc<Self>, node: NodeId, undo: bool, budget: Duration) -> Result<u64, Error> {
        self.within(budget, async {
            let mut request = self.admin(node).await?.drain_request();
            let mut wire = request.get().init_request();
            self.header(budget).encode(wire.reborrow().init_header());
            wire.set_undo(undo);
            let response = request.send().promise.await.map_err(broken)?;
            let reply = response.get().and_then(|results| results.get_reply()).map_err(broken)?;
            convert::decode_drained(reply).map_err(Error::from_failure)
        })
        .await
    }
}
