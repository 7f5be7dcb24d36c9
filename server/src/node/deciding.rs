//! What a node does about a layout that was agreed upon: it is made durable, the store adopts the partitions it gives this node,
//! and everybody who works by the ring is told. Who agreed, and how, is none of its business; that it was agreed upon is its
//! caller's word.

use std::sync::{Arc, PoisonError};

use dynamo::{
    layout::{Layout, MemberState},
    operation::{ErrorCode, Failure},
    peer::Standing,
    ring::{Misfit, Ring},
};

use super::{Known, Node, record_bytes_max};
use crate::{
    store::{OpenError, Store},
    worker::wall_ms,
};

/// Layouts that are kept although no row here needs them, so that a node which was away for so many changes of the ring still can
/// follow them one by one.
const LAYOUTS_KEPT: u64 = 32;

impl Node {
    /// Takes in the next layout of the ring, which was agreed upon. Blocks until it is durable here and its partitions are adopted;
    /// one that is here already is no error. Whatever fails here, the layout stays agreed upon and is fetched again.
    pub(crate) fn decide(&self, layout: Layout) -> Result<(), Failure> {
        let _turn = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known();
        if layout.epoch <= known.ring.epoch() {
            return same_history(&known.ring, &layout);
        }
        layout.check().map_err(|error| refused(ErrorCode::InvalidRequest, error.to_string()))?;
        let (layout, mut ring) = (Arc::new(layout), (*known.ring).clone());
        ring.push(Arc::clone(&layout)).map_err(|misfit| misfitting(&layout, misfit))?;
        self.keep_layout(&layout)?;
        let next = known.next(Arc::new(ring), self.id);
        self.adopt(&next)?;
        self.publish(next);
        let (epoch, nodes) = (layout.epoch, layout.members.len());
        tracing::info!(epoch, nodes, "the ring has changed");
        self.say_where_it_stands();
        if let Err(failure) = self.forget() {
            // The layout is taken in all the same.
            tracing::warn!(why = %failure.message, "old layouts could not be forgotten");
        }
        Ok(())
    }

    /// Takes in a layout without those between it and the newest here, which nobody has any more. What this node owns did not change
    /// meanwhile, or is not settled: nothing is settled without a word from every owner, and layouts that lead to what is not settled are
    /// kept and fetched afterwards. All other rows here are of configurations that the layout proves retired. Blocks.
    pub(crate) fn leap(&self, layout: Layout) -> Result<(), Failure> {
        let _turn = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known();
        if layout.epoch <= known.ring.epoch() {
            return same_history(&known.ring, &layout);
        }
        layout.check().map_err(|error| refused(ErrorCode::InvalidRequest, error.to_string()))?;
        let here = known.layout();
        if (layout.cluster, layout.generation) != (here.cluster, here.generation) {
            return Err(misfitting(&layout, Misfit::Stranger));
        }
        self.keep_layout(&layout)?;
        let (before, epoch) = (known.ring.epoch(), layout.epoch);
        let next = known.next(Arc::new(Ring::new(Arc::new(layout))), self.id);
        self.adopt(&next)?;
        self.publish(next);
        tracing::warn!(
            before,
            epoch,
            "the layouts between are forgotten everywhere; this node goes on with the newest"
        );
        self.say_where_it_stands();
        Ok(())
    }

    /// Takes in a layout from before the oldest one here: somebody who came later has to know whom partitions belonged to. Blocks.
    pub(crate) fn remember(&self, layout: Layout) -> Result<(), Failure> {
        let _turn = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known();
        layout.check().map_err(|error| refused(ErrorCode::InvalidRequest, error.to_string()))?;
        let (layout, mut ring) = (Arc::new(layout), (*known.ring).clone());
        match ring.prepend(Arc::clone(&layout)) {
            Err(Misfit::Old) => return Ok(()),
            fits => fits.map_err(|misfit| misfitting(&layout, misfit))?,
        }
        // The newest may be known by the founding alone, and would then be taken for older than this one.
        self.keep_layout(known.layout())?;
        self.keep_layout(&layout)?;
        self.publish(known.next(Arc::new(ring), self.id));
        Ok(())
    }

    /// A layout is wanted. When it is here already, its rows are missing: the store is made to follow it once more, and who works with
    /// the rows is told. Blocks.
    pub(crate) fn want_layout(&self, epoch: u64) {
        let _turn = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known();
        if epoch > known.ring.epoch() {
            return self.pull(epoch, None);
        }
        match self.adopt(&known) {
            Ok(()) => self.publish(known.next(Arc::clone(&known.ring), self.id)),
            Err(failure) => {
                tracing::warn!(why = %failure.message, "the store could not follow the ring; it is tried again")
            }
        }
    }

    /// Forgets layouts that no row here needs any more, but some: they are small, and a node that was away needs them to follow. Blocks.
    pub(crate) fn forget_old_layouts(&self) -> Result<(), Failure> {
        let _turn = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget()
    }

    fn forget(&self) -> Result<(), Failure> {
        let known = self.known();
        if known.ring.layouts().next().is_none_or(|oldest| oldest.epoch + LAYOUTS_KEPT >= known.ring.epoch()) {
            return Ok(());
        }
        // A row that is settled as the newest layout says needs no other, however old its configuration is.
        let is_settled = |row: &Standing| row.view == known.layout().settled_view(row.view.prefix);
        let needed = self.rows().iter().filter(|row| !row.is_moved && !is_settled(row)).map(|row| row.view.lo).min();
        let needed = needed.unwrap_or(u64::MAX).min(known.ring.oldest_wanted());
        let before = needed.min(known.ring.epoch().saturating_sub(LAYOUTS_KEPT));
        if known.ring.layouts().next().is_none_or(|oldest| oldest.epoch >= before) {
            return Ok(());
        }
        self.store.forget_layouts_before(before).map_err(|error| unsaved(&error))?;
        let mut ring = (*known.ring).clone();
        ring.forget_before(before);
        self.publish(known.next(Arc::new(ring), self.id));
        Ok(())
    }

    fn keep_layout(&self, layout: &Layout) -> Result<(), Failure> {
        self.store.put_layout(layout.epoch, &layout.encode(), wall_ms()).map_err(|error| unsaved(&error))
    }

    /// Makes the store hold the partitions that the newest layout gives this node.
    pub(super) fn adopt(&self, known: &Known) -> Result<(), Failure> {
        known.me.map_or(Ok(()), |me| self.store.adopt(&known.ring, me).map(drop))
    }

    /// Whether this node holds everything of a partition that a single replica can be asked for: it filled up, or was an owner all along.
    pub(crate) fn is_complete(&self, known: &Known, partition: u32) -> bool {
        let bits = known.layout().partition_bits;
        let Some(row) = self.store.standing(bits, partition).filter(|row| !row.is_moved) else { return false };
        let configurations = known.ring.configurations(&row.view.first_key().id(), &row.view);
        let oldest = configurations.and_then(|sets| sets.into_iter().next());
        row.full >= row.view.hi || oldest.is_some_and(|set| known.me.is_some_and(|me| set.owners.contains(&me)))
    }

    /// Whether a layout that this node remembers had a place for it: then it has left or was replaced, and is not the one that it was. Reads
    /// the disk.
    pub(crate) fn had_a_place(&self) -> bool {
        let layouts = self.store.layouts().unwrap_or_default();
        let mut layouts = layouts.iter().filter_map(|(_, bytes)| Layout::decode(bytes).ok());
        layouts.any(|layout| layout.index_of(self.id).is_some())
    }

    /// Whether this node, which owns nothing any more, also holds nothing any more that others still need: no partition, and no hint.
    pub(crate) fn has_handed_over(&self) -> bool {
        let known = self.known();
        let layout = known.layout();
        let is_owner =
            (0..layout.partitions()).any(|partition| layout.owners(partition).any(|owner| Some(owner) == known.me));
        !is_owner
            && self.rows().iter().all(|row| row.is_moved)
            && self.store.hints().status().backlog.iter().all(|(_, kept)| kept.records == 0)
    }

    /// How every row of this node stands.
    pub(crate) fn rows(&self) -> Vec<Standing> {
        self.store.standings()
    }

    fn publish(&self, known: Known) {
        let record_bytes_max = record_bytes_max(&self.config, &known);
        self.record_bytes_max.store(record_bytes_max, std::sync::atomic::Ordering::Relaxed);
        self.known.send_replace(Arc::new(known));
    }

    /// Tells the operator when the ring has no place for this node, or soon will not have.
    pub(super) fn say_where_it_stands(&self) {
        let layout = self.layout();
        let member = layout.index_of(self.id).and_then(|index| layout.member(index));
        match member.map(|member| member.state) {
            Some(MemberState::Active) => {}
            Some(MemberState::Leaving) => tracing::warn!("this node is leaving the ring: it hands over what it holds"),
            Some(MemberState::Lost) => tracing::warn!(
                "this node was given up for lost: no quorum counts it any more. Nothing is acknowledged by it; start another one \
                 on an empty directory"
            ),
            Some(MemberState::Gone) => {
                tracing::warn!("this node has left the ring: everything it held is elsewhere, and it may be stopped");
            }
            None if self.had_a_place() => tracing::warn!(
                "this node had a place in the ring and has none any more: it may be stopped. To come back, it starts on an empty directory"
            ),
            None => tracing::info!("this node has no place in the ring yet: it waits for `quorate ring commit`"),
        }
    }
}

/// The layouts that a store has, as far back from the newest as none is missing.
pub(super) fn recall(store: &Store) -> Result<Ring, String> {
    let mut ring: Option<Ring> = None;
    for (_, bytes) in store.layouts().map_err(|error| error.to_string())? {
        let layout = Arc::new(Layout::decode(&bytes).map_err(|error| error.to_string())?);
        let follows = ring.as_mut().is_some_and(|ring| ring.push(Arc::clone(&layout)).is_ok());
        if !follows {
            ring = Some(Ring::new(layout));
        }
    }
    ring.ok_or_else(|| "there is none".to_owned())
}

/// A layout of an epoch that was decided before must be the one that was.
fn same_history(ring: &Ring, layout: &Layout) -> Result<(), Failure> {
    match ring.layout(layout.epoch) {
        Some(here) if here.hash() != layout.hash() => Err(refused(
            ErrorCode::Internal,
            format!("epoch {} was decided before, and otherwise; please report this", layout.epoch),
        )),
        Some(_) | None => Ok(()),
    }
}

fn misfitting(layout: &Layout, misfit: Misfit) -> Failure {
    let why = match misfit {
        Misfit::Stranger => "it does not follow the one before it here".to_owned(),
        Misfit::Gap { wanted } => format!("layout {wanted} is missing here"),
        Misfit::Old => "there is a newer one here".to_owned(),
    };
    refused(ErrorCode::StaleView, format!("layout {} can't be taken in: {why}", layout.epoch))
}

fn refused(code: ErrorCode, message: String) -> Failure {
    Failure::with_message(code, message)
}

fn unsaved(error: &OpenError) -> Failure {
    refused(ErrorCode::Internal, format!("the layout could not be made durable here: {error}; it is fetched again"))
}
