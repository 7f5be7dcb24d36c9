//! `Admin`: what operators ask of this node alone, and what they do with the ring through it. Nothing here is fast or frequent; all of
//! it is bounded, and every answer tells what is, not what should be.

mod reshaping;

use std::{
    rc::Rc,
    time::{SystemTime, UNIX_EPOCH},
};

use capnp::Error;
use dynamo::{
    hlc,
    ident::NodeId,
    layout::View,
    operation::{Address, ErrorCode, Failure},
    peer::{PeerAction, PeerOperation, PeerResult},
    record,
    replica::{WriteOperation, WriteOutcome},
};
use schema::{
    admin_capnp::{admin, plan_reply},
    convert::{
        Commit, Decision, Held, INSPECT_BYTES_MAX, Inspection, Reap, RepairRun, RepairStatus, Staging, decode_changes,
        decode_inspect, decode_reap, encode_drained, encode_history, encode_reaped,
    },
};
use tokio::sync::Mutex;
use wire::ConnectionHandle;

use super::{Arrival, unreadable};
use crate::{
    ring::{committing, planning},
    worker::Driver,
};

/// The `Admin` of one connection.
pub(super) struct Admin {
    driver: Rc<Driver>,
    connection: ConnectionHandle,
    /// Who is inspecting.
    turn: Mutex<()>,
}

impl Admin {
    /// For a connection.
    pub(super) fn new(driver: Rc<Driver>, connection: ConnectionHandle) -> Self {
        Self { driver, connection, turn: Mutex::new(()) }
    }

    /// The view that this node's own row of the key's partition has: what is asked here is about this node, not about a quorum.
    fn view(&self, address: &Address) -> View {
        let known = self.driver.known();
        let layout = known.layout();
        let assumed = layout.view(layout.partition(&address.store_key.id()));
        self.driver.node.store.standing(assumed.bits, assumed.prefix).map_or(assumed, |standing| standing.view)
    }

    /// Everything this node holds under a key.
    async fn everything_under(&self, address: &Address) -> Result<Inspection, Failure> {
        let view = self.view(address);
        let is_owner = {
            let known = self.driver.known();
            known.layout().owners(view.prefix).any(|owner| Some(owner) == known.me)
        };
        let held = if is_owner { self.held(address, view)? } else { Held::Absent };
        let inspection = Inspection { is_owner, held, hints: self.hints(address)?, running: self.running(view).await? };
        match inspection.record_bytes() {
            bytes if bytes > INSPECT_BYTES_MAX => Err(Failure::with_message(
                ErrorCode::TooLarge,
                format!("this node holds {bytes} bytes under the key, and an answer takes at most {INSPECT_BYTES_MAX}"),
            )),
            _ => Ok(inspection),
        }
    }

    fn held(&self, address: &Address, view: View) -> Result<Held, Failure> {
        let question = PeerOperation { view, store_key: address.store_key, action: PeerAction::Read };
        let node = &self.driver.node;
        let result = node.store.snapshot().read(&question);
        if result == PeerResult::Corrupt && node.store.is_sound(&address.store_key) {
            node.steward.corrupt(address.store_key);
        }
        held(result)
    }

    /// What this node keeps of the key for others.
    fn hints(&self, address: &Address) -> Result<Vec<(NodeId, Held)>, Failure> {
        let kept = self.driver.node.store.hints().kept_of(&address.store_key)?;
        let verified = |record: bytes::Bytes| match record::verify(&address.store_key, &record) {
            Ok(_) => Held::Record(record),
            Err(_) => Held::Corrupt,
        };
        Ok(kept.into_iter().map(|(target, record)| (target, verified(record))).collect())
    }

    async fn running(&self, view: View) -> Result<u32, Failure> {
        let unknown =
            || Failure::new(ErrorCode::Overloaded, "not all workers of this node say what they do; try again");
        let running = self.driver.node.inquiries.running(view.prefix).await.ok_or_else(unknown)?;
        // A comparison or a rebuild may hold what it has read before it writes it: to an operator that is an operation too.
        let repairs = usize::from(self.driver.node.steward.works_on(view.prefix));
        Ok(u32::try_from(running + repairs).unwrap_or(u32::MAX))
    }

    /// Removes a record for good, if nothing here speaks against it. Whether something elsewhere does, whoever asks has found out.
    async fn remove(&self, reap: &Reap) -> Result<bool, Failure> {
        let view = self.view(&reap.address);
        let refused = |message: String| Failure {
            retryable: true,
            ..Failure::with_message(ErrorCode::Unavailable, format!("{message}; nothing was removed here"))
        };
        let since = self.driver.known().layout().spans.of(view.prefix).since;
        if (view.lo, view.hi) != (since, since) {
            return Err(refused("the key's partition moves, and a former owner may bring the record back".to_owned()));
        }
        match self.running(view).await? {
            0 => {}
            running => return Err(refused(format!("{running} operation(s) run here on the key's partition"))),
        }
        match self.hints(&reap.address)?.len() {
            0 => {}
            hints => return Err(refused(format!("this node keeps {hints} hint(s) for the key"))),
        }
        let store_key = reap.address.store_key;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = hlc::clock_of(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX));
        match self.driver.node.store.write(WriteOperation::Reap { view, store_key, digest: reap.digest, clock }).await?
        {
            WriteOutcome::Stored => Ok(true),
            WriteOutcome::Stale(_) => Err(refused("the partition has another view here".to_owned())),
            WriteOutcome::Corrupt => Err(refused("the record here can't be verified".to_owned())),
            WriteOutcome::Refused(failure) => Err(failure),
            WriteOutcome::Minted(_) | WriteOutcome::Moved { .. } => {
                Err(Failure::new(ErrorCode::Internal, "a reap was answered as something else; please report this"))
            }
        }
    }

    fn repairs(&self) -> RepairStatus {
        let node = &self.driver.node;
        node.steward.status(node)
    }

    /// Writes what is staged, or why nothing is.
    fn tell(&self, arrival: &Arrival<'_>, staging: Result<Staging, Failure>, wire: plan_reply::Builder<'_>) {
        let header = arrival.reply_header(&self.driver.node.clients);
        match staging {
            Ok(staging) => staging.encode(&header, wire),
            Err(failure) => Staging::encode_failure(&header, &failure, wire),
        }
    }

    fn begin_repairs(&self, run: RepairRun) -> RepairStatus {
        self.driver.node.steward.run(run);
        self.repairs()
    }
}

impl admin::Server for Admin {
    async fn repair_status(
        self: Rc<Self>,
        _: admin::RepairStatusParams,
        mut wire: admin::RepairStatusResults,
    ) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let header = arrival.reply_header(&self.driver.node.clients);
        self.repairs().encode(&header, wire.get().init_reply());
        Ok(())
    }

    async fn repair_run(
        self: Rc<Self>,
        params: admin::RepairRunParams,
        mut wire: admin::RepairRunResults,
    ) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let run = RepairRun::decode(params.get()?.get_request()?);
        let status = arrival.check_serving().map(|()| self.begin_repairs(run));
        let header = arrival.reply_header(&self.driver.node.clients);
        match status {
            Ok(status) => status.encode(&header, wire.get().init_reply()),
            Err(failure) => RepairStatus::encode_failure(&header, &failure, wire.get().init_reply()),
        }
        Ok(())
    }

    async fn inspect(
        self: Rc<Self>,
        params: admin::InspectParams,
        mut wire: admin::InspectResults,
    ) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let address = arrival.check_serving().and(decode_inspect(params.get()?.get_request()?));
        drop(params);
        // One at a time on a connection, and none before the last one's answer is on its way: an answer may have megabytes, and a
        // caller who does not read shall not have several of them made.
        let _turn = self.turn.lock().await;
        self.connection.outgoing_room().await;
        let inspection = match address {
            Ok(address) => self.everything_under(&address).await,
            Err(failure) => Err(failure),
        };
        let header = arrival.reply_header(&self.driver.node.clients);
        match inspection {
            Ok(inspection) => inspection.encode(&header, wire.get().init_reply()),
            Err(failure) => Inspection::encode_failure(&header, &failure, wire.get().init_reply()),
        }
        Ok(())
    }

    async fn reap(self: Rc<Self>, params: admin::ReapParams, mut wire: admin::ReapResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let reap = arrival.check_serving().and(decode_reap(params.get()?.get_request()?));
        drop(params);
        let reaped = match reap {
            Ok(reap) => self.remove(&reap).await,
            Err(failure) => Err(failure),
        };
        let header = arrival.reply_header(&self.driver.node.clients);
        encode_reaped(&header, &reaped, wire.get().init_reply());
        Ok(())
    }

    async fn stage(self: Rc<Self>, params: admin::StageParams, mut wire: admin::StageResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let changes = params.get()?.get_request()?.get_changes().map_err(|error| unreadable(&error));
        let changes = changes.and_then(decode_changes);
        drop(params);
        let staging = match changes {
            Ok(changes) => reshaping::stage(&self.driver.node, changes).await,
            Err(failure) => Err(failure),
        };
        self.tell(&arrival, staging, wire.get().init_reply());
        Ok(())
    }

    async fn plan(self: Rc<Self>, _: admin::PlanParams, mut wire: admin::PlanResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let staging = planning::staging(&self.driver.node).await;
        self.tell(&arrival, staging, wire.get().init_reply());
        Ok(())
    }

    async fn clear(self: Rc<Self>, _: admin::ClearParams, mut wire: admin::ClearResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let staging = reshaping::clear(&self.driver.node).await;
        self.tell(&arrival, staging, wire.get().init_reply());
        Ok(())
    }

    async fn abort(self: Rc<Self>, params: admin::AbortParams, mut wire: admin::AbortResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let epoch = params.get()?.get_request()?.get_epoch();
        drop(params);
        let staging = reshaping::abort(&self.driver.node, epoch).await;
        self.tell(&arrival, staging, wire.get().init_reply());
        Ok(())
    }

    async fn commit(self: Rc<Self>, params: admin::CommitParams, mut wire: admin::CommitResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let commit = Commit::decode(params.get()?.get_request()?);
        drop(params);
        let decision = match commit {
            Ok(commit) => committing::commit(&self.driver.node, commit).await,
            Err(failure) => Err(failure),
        };
        Decision::encode(&decision, &arrival.reply_header(&self.driver.node.clients), wire.get().init_reply());
        Ok(())
    }

    async fn history(self: Rc<Self>, _: admin::HistoryParams, mut wire: admin::HistoryResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let history = reshaping::history(&self.driver.node).await;
        encode_history(&history, &arrival.reply_header(&self.driver.node.clients), wire.get().init_reply());
        Ok(())
    }

    async fn transfers(
        self: Rc<Self>,
        _: admin::TransfersParams,
        mut wire: admin::TransfersResults,
    ) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let transfers = reshaping::transfers(&self.driver.node);
        transfers.encode(&arrival.reply_header(&self.driver.node.clients), wire.get().init_reply());
        Ok(())
    }

    async fn drain(self: Rc<Self>, params: admin::DrainParams, mut wire: admin::DrainResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let node = &self.driver.node;
        let is_undone = params.get()?.get_request()?.get_undo();
        // A node that is stopping anyway goes on stopping.
        let in_flight = if is_undone { arrival.check_serving() } else { Ok(()) }.map(|()| {
            node.send_clients_away(!is_undone);
            node.operations_in_flight()
        });
        encode_drained(&in_flight, &arrival.reply_header(&node.clients), wire.get().init_reply());
        Ok(())
    }
}

fn held(result: PeerResult) -> Result<Held, Failure> {
    match result {
        PeerResult::Record(record) => Ok(Held::Record(record)),
        PeerResult::Absent => Ok(Held::Absent),
        PeerResult::Corrupt => Ok(Held::Corrupt),
        PeerResult::Failed(failure) => Err(failure),
        PeerResult::Stale(_) => {
            Err(Failure::new(ErrorCode::StaleView, "the partition has another view here; try again"))
        }
        PeerResult::Digest(_) | PeerResult::Stored => {
            Err(Failure::new(ErrorCode::Internal, "a read was answered like another operation; please report this"))
        }
    }
}
