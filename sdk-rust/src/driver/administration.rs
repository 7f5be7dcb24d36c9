//! What operators ask of one node, on an I/O thread.

use std::{rc::Rc, time::Duration};

use dynamo::{ident::NodeId, operation::Address};
use schema::{
    admin_capnp::admin,
    convert::{self, Inspection, Reap, RepairRun, RepairStatus},
};

use super::{Driver, jobs::broken};
use crate::Error;

impl Driver {
    /// How the repairs of a node stand.
    pub(crate) async fn repair_status(self: Rc<Self>, node: NodeId, budget: Duration) -> Result<RepairStatus, Error> {
        self.within(budget, async {
            let mut request = self.admin(node).await?.repair_status_request();
            self.header(budget).encode(request.get().init_request().init_header());
            let response = request.send().promise.await.map_err(broken)?;
            let reply = response.get().and_then(|results| results.get_reply()).map_err(broken)?;
            RepairStatus::decode(reply).map_err(Error::from_failure)
        })
        .await
    }

    /// Has a node begin repairs at once.
    pub(crate) async fn repair_run(
        self: Rc<Self>,
        node: NodeId,
        run: RepairRun,
        budget: Duration,
    ) -> Result<RepairStatus, Error> {
        self.within(budget, async {
            let mut request = self.admin(node).await?.repair_run_request();
            let mut wire = request.get().init_request();
            self.header(budget).encode(wire.reborrow().init_header());
            run.encode(wire);
            let response = request.send().promise.await.map_err(broken)?;
            let reply = response.get().and_then(|results| results.get_reply()).map_err(broken)?;
            RepairStatus::decode(reply).map_err(Error::from_failure)
        })
        .await
    }

    /// What a node holds under a key.
    pub(crate) async fn inspect(
        self: Rc<Self>,
        node: NodeId,
        address: Address,
        budget: Duration,
    ) -> Result<Inspection, Error> {
        self.within(budget, async {
            let mut request = self.admin(node).await?.inspect_request();
            let mut wire = request.get().init_request();
            self.header(budget).encode(wire.reborrow().init_header());
            convert::encode_inspect(wire, &address);
            let response = request.send().promise.await.map_err(broken)?;
            let reply = response.get().and_then(|results| results.get_reply()).map_err(broken)?;
            Inspection::decode(reply).map_err(Error::from_failure)
        })
        .await
    }

    /// Removes a record that holds nothing live, if it is exactly this one.
    pub(crate) async fn reap(self: Rc<Self>, node: NodeId, reap: Reap, budget: Duration) -> Result<bool, Error> {
        self.within(budget, async {
            let mut request = self.admin(node).await?.reap_request();
            let mut wire = request.get().init_request();
            self.header(budget).encode(wire.reborrow().init_header());
            convert::encode_reap(wire, &reap);
            let response = request.send().promise.await.map_err(broken)?;
            let reply = response.get().and_then(|results| results.get_reply()).map_err(broken)?;
            convert::decode_reaped(reply).map_err(Error::from_failure)
        })
        .await
    }

    pub(super) async fn admin(self: &Rc<Self>, node: NodeId) -> Result<admin::Client, Error> {
        let too_old = || Error::unsupported("the node is too old: it offers nothing to operators");
        self.capabilities(node).await?.admin.ok_or_else(too_old)
    }
}
