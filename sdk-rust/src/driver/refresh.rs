//! Keeping the layout fresh: when a node shows a newer epoch, and every now and then. One refresh at a time for the whole
//! client, a little later than its cause, and never backwards.

use std::{
    rc::Rc,
    sync::{PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use dynamo::{
    layout::{Layout, delta::Delta},
    operation::Failure,
};
use schema::{
    convert::{PartialLayout, RequestHeader},
    kv_capnp::{kv, ring_reply},
};
use tokio::{task::spawn_local, time::timeout};

use super::{Driver, bootstrap::find_cluster, call::milliseconds};
use crate::{Error, engine::link::LinkId, random::Random};

/// A refresh starts up to so much after its cause: clients that learn of a new epoch together do not ask together. Nothing fails
/// meanwhile: a node that has lost a partition forwards.
const JITTER: Duration = Duration::from_millis(500);

/// Pause between two refreshes.
const SPACING: Duration = Duration::from_millis(100);

/// The pause doubles so often at most while refreshes bring nothing newer than what is here: a node that shows an epoch and can't or
/// won't send its layout is not asked ten times a second by every client.
const DOUBLINGS_MAX: u32 = 6;

impl Driver {
    /// A node knows a layout of this epoch: fetch it from there, unless somebody is about to.
    pub(super) fn refresh_from(self: &Rc<Self>, link: LinkId, epoch: u64) {
        // Another I/O thread may have fetched it already.
        if self.shared.layout().epoch >= epoch {
            return;
        }
        let Some(pause) = self.begin_refresh() else { return };
        let driver = Rc::clone(self);
        spawn_local(async move {
            let mut random = Random::from_system();
            let jitter = Duration::from_micros(random.below(JITTER.as_micros() as u64));
            tokio::time::sleep(pause + jitter).await;
            let is_newer = driver.refresh(link).await;
            driver.end_refresh(is_newer);
        });
    }

    /// Asks some node every now and then, for a client that hears from none. One that can reach none asks where it once began: the nodes
    /// that it knows may all have moved.
    pub(super) async fn refresh_now_and_then(self: Rc<Self>) {
        let mut random = Random::from_system();
        loop {
            let interval = self.shared.config.refresh_interval;
            let jitter = Duration::from_millis(random.below(interval.as_millis() as u64 / 4 + 1));
            tokio::time::sleep(interval + jitter).await;
            let (up, is_lost) = {
                let engine = self.engine.borrow();
                let up: Vec<LinkId> = engine.members().filter(|(_, link, _)| link.is_up()).map(|(id, ..)| id).collect();
                let is_lost = up.is_empty() && engine.members().any(|(_, link, _)| link.is_down());
                (up, is_lost)
            };
            let chosen = up.get(random.below(up.len().max(1) as u64) as usize);
            if (chosen.is_none() && !is_lost) || self.begin_refresh().is_none() {
                continue;
            }
            match chosen {
                Some(link) => _ = self.refresh(*link).await,
                None => self.begin_anew().await,
            }
            // Nothing newer is what it expects to find.
            self.end_refresh(true);
        }
    }

    /// Asks a node for what it knows better than this client. Says whether it does.
    async fn refresh(&self, link: LinkId) -> bool {
        let kv = {
            let connections = self.connections.borrow();
            // Whoever showed the newer layout may be gone; then some other node is as good.
            connections.get(&link).or_else(|| connections.values().next()).map(|connection| connection.kv.clone())
        };
        let Some(kv) = kv else { return false };
        self.shared.refreshes.fetch_add(1, Ordering::Relaxed);
        let have = self.shared.layout();
        match timeout(self.shared.config.timeout, fetch(&kv, Some(&have), self.shared.config.timeout)).await {
            Ok(Ok(Some(layout))) => return self.follow(layout, have.epoch),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the layout could not be refreshed"),
            Err(_) => tracing::warn!("the layout could not be refreshed in time"),
        }
        false
    }

    async fn begin_anew(&self) {
        match find_cluster(&self.shared.config).await {
            Ok(layout) => _ = self.follow(layout, self.shared.layout().epoch),
            Err(error) => tracing::debug!(%error, "none of the addresses that the client was given answers"),
        }
    }

    fn follow(&self, layout: Layout, had: u64) -> bool {
        let epoch = layout.epoch;
        let is_other = epoch == had && layout.hash() != self.shared.layout().hash();
        let is_newer = self.shared.publish(layout);
        if is_newer {
            tracing::debug!(epoch, "the layout was refreshed");
        } else if is_other {
            tracing::warn!(epoch, "two layouts have the same epoch; keeping the one that was here first");
        }
        is_newer
    }

    /// Says how long the refresh that this begins has to wait; `None` while there is one.
    fn begin_refresh(&self) -> Option<Duration> {
        let mut state = self.shared.refresh.lock().unwrap_or_else(PoisonError::into_inner);
        let not_before = state.not_before.unwrap_or_else(Instant::now);
        let is_first = !std::mem::replace(&mut state.running, true);
        is_first.then(|| not_before.saturating_duration_since(Instant::now()))
    }

    fn end_refresh(&self, was_worth_it: bool) {
        let mut state = self.shared.refresh.lock().unwrap_or_else(PoisonError::into_inner);
        state.running = false;
        state.fruitless = if was_worth_it { 0 } else { state.fruitless.saturating_add(1) };
        state.not_before = Some(Instant::now() + SPACING * (1 << state.fruitless.min(DOUBLINGS_MAX)));
    }
}

/// Fetches a layout, as its difference to `have` where the node offers that, otherwise with all its pages; `None` when the node has none
/// newer than `have`.
pub(super) async fn fetch(kv: &kv::Client, have: Option<&Layout>, budget: Duration) -> Result<Option<Layout>, Error> {
    let mut answer = ask(kv, have, true, &[], budget, PartialLayout::decode).await?;
    if let (Answer::Delta(delta), Some(have)) = (&answer, have) {
        match delta.apply(have) {
            Ok(layout) => return Ok(Some(layout)),
            Err(error) => tracing::warn!(%error, "the whole layout is fetched instead"),
        }
        answer = ask(kv, Some(have), false, &[], budget, PartialLayout::decode).await?;
    }
    let mut partial = match answer {
        Answer::Unchanged => return Ok(None),
        Answer::Delta(_) => return Err(Error::internal("a node answered with a difference that was not asked for")),
        Answer::Ring(partial) => partial,
    };
    loop {
        let missing = partial.missing();
        if missing.is_empty() {
            return partial.complete().map(Some).map_err(Error::from_failure);
        }
        let more = ask(kv, None, false, &missing, budget, |ring| partial.add_pages(ring)).await?;
        if !matches!(more, Answer::Ring(())) || partial.missing().len() == missing.len() {
            return Err(Error::internal("a node did not send the pages of its layout that were asked for"));
        }
    }
}

/// What a node says when it is asked for its layout.
enum Answer<T> {
    /// It has the same.
    Unchanged,
    Delta(Box<Delta>),
    /// The layout itself, or some of its pages.
    Ring(T),
}

async fn ask<T>(
    kv: &kv::Client,
    have: Option<&Layout>,
    deltas: bool,
    pages: &[u32],
    budget: Duration,
    read: impl FnOnce(schema::kv_capnp::ring::Reader<'_>) -> Result<T, Failure>,
) -> Result<Answer<T>, Error> {
    let unusable = |error: capnp::Error| Error::connection(format!("the layout could not be fetched: {error}"));
    let mut request = kv.ring_request();
    {
        let mut wire = request.get().init_request();
        RequestHeader { budget_ms: milliseconds(budget), ..Default::default() }.encode(wire.reborrow().init_header());
        if let Some(have) = have {
            wire.set_have_epoch(have.epoch);
            wire.set_have_hash(&have.hash());
            wire.set_deltas(deltas);
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
        Ok(ring_reply::Unchanged(())) => Ok(Answer::Unchanged),
        Ok(ring_reply::Delta(delta)) => {
            let delta = schema::convert::decode_delta(delta.map_err(unusable)?).map_err(Error::from_failure)?;
            Ok(Answer::Delta(Box::new(delta)))
        }
        Ok(ring_reply::Ring(ring)) => read(ring.map_err(unusable)?).map(Answer::Ring).map_err(Error::from_failure),
        Err(unknown) => Err(Error::internal(format!("a node answered with a layout of unknown kind {}", unknown.0))),
    }
}
