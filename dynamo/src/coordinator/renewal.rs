//! An operation whose view is old (design, ring, "Moving a partition"): a replica that knows a newer one refuses it and says which.
//! The operation adopts that and starts again, under new names of its calls: what was acknowledged under the old view counts for
//! nothing any more. What it has minted stays minted; the record goes to the owners under the new view, and no second version is made.
//!
//! A view says only the names of configurations. Who they are is in the layouts that were agreed upon, and if one of them is not
//! here yet, the operation waits for it.

use alloc::{sync::Arc, vec::Vec};
use core::mem;

use super::{
    Coordinator, Effect,
    admission::first_stage,
    failing,
    flight::{Flight, Head, Shared, Stage},
    route::Route,
    writing::{Writing, Written},
};
use crate::{
    bug::{self, Bug},
    layout::{NodeIndex, View},
    operation::{Action, Failure},
    quorum::CONFIGURATIONS_MAX,
    ring::{Ring, Untold},
    tick::Tick,
};

/// How often an operation starts again. Each time its view is newer; as many configurations as may be active at once can be entered and
/// left one by one in its time, which is already more than an administrator can commit while one operation lasts.
const RENEWALS_MAX: u8 = 2 * CONFIGURATIONS_MAX as u8;

/// A layout that did not come is asked for again after so many milliseconds: a few round trips, in which it comes if it comes at all.
const WANT_AGAIN_MS: u64 = 200;

impl Coordinator {
    /// Takes a ring with more layouts, or fewer that are older, in which this node stands at `me`. Operations in flight go on under the
    /// views they have, those that waited for a layout under newer ones.
    pub fn set_ring(&mut self, now: Tick, me: Option<NodeIndex>, ring: Arc<Ring>, effects: &mut Vec<Effect>) {
        self.shared.now = now;
        self.shared.set_ring(me, ring);
        let is_parked = |flight: &Flight| matches!(flight.stage, Stage::Parked(_));
        let parked: Vec<usize> =
            self.flights.iter().filter(|(_, flight)| is_parked(flight)).map(|(slot, _)| slot).collect();
        for slot in parked {
            let written = self.flights[slot].stage.take_written();
            self.go_on(slot, effects, |head, shared, effects| set_out_again(shared, head, written, effects));
        }
    }

    /// Lets an operation start again under the newest view it has heard of.
    pub(super) fn renew(&mut self, slot: usize, effects: &mut Vec<Effect>) {
        self.shared.counters.renewals += 1;
        let Flight { head, stage } = &mut self.flights[slot];
        head.maybe_applied |= stage.maybe_applied();
        let mut before = mem::replace(stage, Stage::Parked(None));
        let way_before = head.route;
        self.go_on(slot, effects, |head, shared, effects| {
            if head.renewals >= RENEWALS_MAX {
                return Err(failing::restless(head));
            }
            head.renewals += 1;
            let mut stage = set_out_again(shared, head, before.take_written(), effects)?;
            if bug::is_on(Bug::KeepAcksAcrossViews) {
                stage.keep_acknowledgements(before, &way_before, head);
            }
            Ok(stage)
        });
    }
}

/// Begins an operation under the newest view that is known; or parks it until the layouts of that view are here.
pub(super) fn set_out(shared: &mut Shared, head: &mut Head, effects: &mut Vec<Effect>) -> Result<Stage, Failure> {
    match find_way(shared, head, effects)? {
        Way::Found => first_stage(shared, head, effects),
        Way::Unknown => Ok(Stage::Parked(None)),
    }
}

/// The same for an operation that may have written something under a view before, and then goes on with that.
fn set_out_again(
    shared: &mut Shared,
    head: &mut Head,
    written: Option<Written>,
    effects: &mut Vec<Effect>,
) -> Result<Stage, Failure> {
    let Some(written) = written else { return set_out(shared, head, effects) };
    let stood_in = head.route.is_standing_in();
    match (find_way(shared, head, effects)?, shared.as_stand_in()) {
        (Way::Unknown, _) => Ok(Stage::Parked(Some(written))),
        (Way::Found, _) if head.route.is_mine() => Writing::resume(written, head, shared, effects),
        (Way::Found, Some(me)) if stood_in => {
            head.route = head.route.standing_in(me);
            Writing::resume(written, head, shared, effects)
        }
        // Another node mints it once more, and every replica recognises the two as one by their operation id.
        (Way::Found, _) if head.has_no_name() => Err(failing::disowned(head)),
        (Way::Found, _) => first_stage(shared, head, effects),
    }
}

/// Whether it is known where an operation goes.
enum Way {
    /// Its head says where.
    Found,
    /// A layout is missing, and has been asked for.
    Unknown,
}

/// Finds an operation's way under the newest view that is known. It keeps the way it has while that can't be told.
fn find_way(shared: &mut Shared, head: &mut Head, effects: &mut Vec<Effect>) -> Result<Way, Failure> {
    let layout = shared.layout();
    let partition = layout.partition(&head.operation.address.store_key.id());
    let span = layout.spans.of(partition);
    // Nothing moves, which is how it nearly always is: the newest layout says it all.
    if span.is_settled() && head.heard.is_none() && shared.known.is_empty() {
        head.route.settle(shared, partition, span.since, &head.demand);
        return Ok(Way::Found);
    }
    find_moving_way(shared, head, effects)
}

/// The same while something moves.
#[cold]
fn find_moving_way(shared: &mut Shared, head: &mut Head, effects: &mut Vec<Effect>) -> Result<Way, Failure> {
    let store_key = &head.operation.address.store_key;
    match shared.newest_view(head).and_then(|view| Route::new(shared, store_key, &head.demand, view)) {
        Ok(route) => {
            head.route = route;
            Ok(Way::Found)
        }
        Err(Untold::Missing { epoch }) => {
            shared.counters.parked += 1;
            shared.want(epoch, effects);
            Ok(Way::Unknown)
        }
        Err(Untold::Misnamed) => Err(failing::unexplained(head)),
    }
}

impl Shared {
    /// Takes note of the view that a replica says it has. True if the operation can start again under a newer one than it has now; if
    /// it only lacks a layout for that, the layout is asked for.
    pub(super) fn hear(&mut self, told: &View, head: &mut Head, effects: &mut Vec<Effect>) -> bool {
        let id = head.operation.address.store_key.id();
        if told.bits > 32 || told.lo > told.hi || id.prefix(told.bits) != told.prefix {
            return false;
        }
        let before = head.heard;
        head.heard = Some(match &before {
            Some(heard) if heard.bits > told.bits => heard.join(told),
            Some(heard) => told.join(heard),
            None => *told,
        });
        if !head.is_behind() {
            return false;
        }
        let untold = match self.newest_view(head) {
            Ok(view) => match Route::are_few(&self.config.ring, &id, &view, &self.lost) {
                Ok(true) => {
                    self.known.raise(view, &self.config.ring);
                    return true;
                }
                Ok(false) => Untold::Misnamed,
                Err(untold) => untold,
            },
            Err(untold) => untold,
        };
        match untold {
            Untold::Missing { epoch } => self.want(epoch, effects),
            // No layout will ever explain this, so it is no reason to wait for one.
            Untold::Misnamed => head.heard = before,
        }
        false
    }

    /// The newest view that an operation can begin under, by the number of partitions that the newest layout has. An error if that
    /// number has doubled meanwhile and the layout is not here.
    fn newest_view(&self, head: &Head) -> Result<View, Untold> {
        let layout = self.layout();
        let known = self.known.view(layout, layout.partition(&head.operation.address.store_key.id()));
        match &head.heard {
            Some(heard) if heard.bits > known.bits => Err(Untold::Missing { epoch: layout.epoch + 1 }),
            Some(heard) => Ok(known.join(heard)),
            None => Ok(known),
        }
    }

    /// Asks for a layout, unless it was asked for just now.
    fn want(&mut self, epoch: u64, effects: &mut Vec<Effect>) {
        let (last, when) = self.wanted;
        if last != epoch || self.now.since(when) >= WANT_AGAIN_MS {
            self.wanted = (epoch, self.now);
            effects.push(Effect::WantLayout { epoch });
        }
    }

    /// Somebody knows the layout of this epoch: asks for it if it is newer than what is here.
    pub(super) fn want_newer(&mut self, epoch: u64, effects: &mut Vec<Effect>) {
        if epoch > self.config.ring.epoch() {
            self.want(epoch, effects);
        }
    }
}

impl Head {
    /// Whether a replica has named a view that is newer than the operation's.
    pub(super) fn is_behind(&self) -> bool {
        let view = &self.route.view;
        self.heard.is_some_and(|heard| heard.bits > view.bits || !view.covers(&heard))
    }

    /// Whether it is a write that can't be recognised when it is made again.
    fn has_no_name(&self) -> bool {
        match &self.operation.action {
            Action::Get { .. } => false,
            Action::Put { op_id, .. } | Action::Delete { op_id, .. } => op_id.is_none(),
        }
    }
}

impl Stage {
    /// Whether a write may have left something somewhere.
    fn maybe_applied(&self) -> bool {
        match self {
            Self::Writing(writing) => writing.maybe_applied(),
            Self::Reading(_) | Self::Forwarding(_) | Self::Parked(_) => false,
        }
    }

    /// Takes the version that was minted out of it.
    fn take_written(&mut self) -> Option<Written> {
        match self {
            Self::Writing(writing) => writing.take_written(),
            Self::Parked(written) => written.take(),
            Self::Reading(_) | Self::Forwarding(_) => None,
        }
    }

    /// A known mistake: counts what was acknowledged under the view before.
    fn keep_acknowledgements(&mut self, before: Self, way_before: &Route, head: &Head) {
        match (self, before) {
            (Self::Writing(writing), Self::Writing(before)) => writing.keep(&before, way_before, head),
            (Self::Reading(reading), Self::Reading(before)) => reading.keep(before, way_before, head),
            (Self::Reading(_) | Self::Writing(_) | Self::Forwarding(_) | Self::Parked(_), _) => {}
        }
    }
}
