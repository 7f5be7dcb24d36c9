//! Keeping the layout fresh: when a node shows a newer epoch, and every now and then. One refresh at a time for the whole
//! client, a little later than its cause, and never backwards.

use std::{
    rc::Rc,
    sync::{PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use dynamo::{layout::Layout, operation::Failure};
use schema::{
    convert::{PartialLayout, RequestHeader},
    kv_capnp::{kv, ring_reply},
};
use tokio::{task::spawn_local, time::timeout};

use super::{Driver, call::milliseconds};
use crate::{Error, engine::link::LinkId, random::Random};

/// A refresh starts up to so much after its cause: clients that learn of a new epoch together do not ask together.
const JITTER: Duration = Duration::from_millis(50);

/// Pause between two refreshes.
const SPACING: Duration = Duration::from_millis(100);

impl Driver {
    /// A node knows a newer layout: fetch it from there, unless somebody is about to.
    pub(super) fn refresh_from(self: &Rc<Self>, link: LinkId) {
        if !self.begin_refresh() {
            return;
        }
        let driver = Rc::clone(self);
        spawn_local(async move {
            let mut random = Random::from_system();
            tokio::time::sleep(Duration::from_micros(random.below(JITTER.as_micros() as u64))).await;
            driver.refresh(link).await;
            driver.end_refresh();
        });
    }

    /// Asks some node every now and then, for a client that hears from none.
    pub(super) async fn refresh_now_and_then(self: Rc<Self>) {
        let mut random = Random::from_system();
        loop {
            let interval = self.shared.config.refresh_interval;
            let jitter = Duration::from_millis(random.below(interval.as_millis() as u64 / 4 + 1));
            tokio::time::sleep(interval + jitter).await;
            let up: Vec<LinkId> = {
                let engine = self.engine.borrow();
                engine.members().filter(|(_, link, _)| link.is_up()).map(|(id, ..)| id).collect()
            };
            let chosen = random.below(up.len() as u64) as usize;
            if let Some(link) = up.get(chosen)
                && self.begin_refresh()
            {
                self.refresh(*link).await;
                self.end_refresh();
            }
        }
    }

    async fn refresh(&self, link: LinkId) {
        let Some(kv) = self.connections.borrow().get(&link).map(|connection| connection.kv.clone()) else { return };
        self.shared.refreshes.fetch_add(1, Ordering::Relaxed);
        let have = self.shared.layout();
        match timeout(self.shared.config.timeout, fetch(&kv, Some(&have), self.shared.config.timeout)).await {
            Ok(Ok(Some(layout))) => {
                let epoch = layout.epoch;
                if self.shared.publish(layout) {
                    tracing::debug!(epoch, "the layout was refreshed");
                } else if epoch == have.epoch {
                    tracing::warn!(epoch, "two layouts have the same epoch; keeping the one that was here first");
                }
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the layout could not be refreshed"),
            Err(_) => tracing::warn!("the layout could not be refreshed in time"),
        }
    }

    fn begin_refresh(&self) -> bool {
        let mut state = self.shared.refresh.lock().unwrap_or_else(PoisonError::into_inner);
        let too_soon = state.ended.is_some_and(|ended| ended.elapsed() < SPACING);
        !too_soon && !std::mem::replace(&mut state.running, true)
    }

    fn end_refresh(&self) {
        let mut state = self.shared.refresh.lock().unwrap_or_else(PoisonError::into_inner);
        state.running = false;
        state.ended = Some(Instant::now());
    }
}

/// Fetches a layout with all its pages; `None` when the node has none newer than `have`.
pub(super) async fn fetch(kv: &kv::Client, have: Option<&Layout>, budget: Duration) -> Result<Option<Layout>, Error> {
    let Some(mut partial) = ask(kv, have, &[], budget, PartialLayout::decode).await? else {
        return Ok(None);
    };
    loop {
        let missing = partial.missing();
        if missing.is_empty() {
            return partial.complete().map(Some).map_err(Error::from_failure);
        }
        let more = ask(kv, None, &missing, budget, |ring| partial.add_pages(ring)).await?;
        if more.is_none() || partial.missing().len() == missing.len() {
            return Err(Error::internal("a node did not send the pages of its layout that were asked for"));
        }
    }
}

async fn ask<T>(
    kv: &kv::Client,
    have: Option<&Layout>,
    pages: &[u32],
    budget: Duration,
    read: impl FnOnce(schema::kv_capnp::ring::Reader<'_>) -> Result<T, Failure>,
) -> Result<Option<T>, Error> {
    let unusable = |error: capnp::Error| Error::connection(format!("the layout could not be fetched: {error}"));
    let mut request = kv.ring_request();
    {
        let mut wire = request.get().init_request();
        RequestHeader { budget_ms: milliseconds(budget), ..Default::default() }.encode(wire.reborrow().init_header());
        if let Some(have) = have {
            wire.set_have_epoch(have.epoch);
            wire.set_have_hash(&have.hash());
        }
        wire.set_pages(pages).map_err(unusable)?;
    }
    let response = request.send().promise.await.map_err(unusable)?;
    let reply = response.get().and_then(|results| results.get_reply()).map_err(unusable)?;
    match reply.which() {
        Ok(ring_reply::Error(error)) => {
            let failure = schema::convert::decode_failure(error.map_err(unusable)?);
            Err(Error::from_failure(failure))
        }
        Ok(ring_reply::Unchanged(())) => Ok(None),
        Ok(ring_reply::Delta(_)) => Err(Error::internal("a node answered with a difference that was not asked for")),
        Ok(ring_reply::Ring(ring)) => read(ring.map_err(unusable)?).map(Some).map_err(Error::from_failure),
        Err(unknown) => Err(Error::internal(format!("a node answered with a layout of unknown kind {}", unknown.0))),
    }
}
