//! What waits to be done here: records that can't be verified, and nodes for which hints are kept.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::StewardConfig;
use crate::{
    bug::{Bug, is_on},
    handoff::Report,
    ident::{NodeId, StoreKey},
    round::{End, HintTarget},
    tick::Tick,
};

/// Most unreadable records that are remembered: 8 MB of keys. A node with more of them finds the rest by its next scrub.
pub const UNREADABLE_MAX: usize = 100_000;

/// What waits.
#[derive(Debug)]
pub(super) struct Backlog {
    /// How often the rebuild of each unreadable record has failed.
    unreadable: BTreeMap<StoreKey, u32>,
    /// When which of them is to be tried; one at work is not here.
    rebuilds: BTreeSet<(Tick, StoreKey)>,
    forgotten: u64,
    /// For whom hints were seen.
    targets: BTreeMap<NodeId, Target>,
    /// When to look again; `None` while somebody looks.
    look_at: Option<Tick>,
    /// When the next look is due after one that ends now.
    looks_every_ms: u64,
}

/// Somebody for whom hints are kept.
#[derive(Clone, Copy, Debug, Default)]
struct Target {
    /// They are being delivered.
    is_served: bool,
    /// Some were refused, and all are left alone until then.
    rests_until: Tick,
}

impl Backlog {
    pub(super) fn new(config: &StewardConfig, now: Tick) -> Self {
        Self {
            unreadable: BTreeMap::new(),
            rebuilds: BTreeSet::new(),
            forgotten: 0,
            targets: BTreeMap::new(),
            look_at: Some(now),
            looks_every_ms: config.hints_every_ms,
        }
    }

    /// How many records are known to be unreadable.
    pub(super) fn unreadable(&self) -> usize {
        self.unreadable.len()
    }

    /// How many were not remembered.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Remembers an unreadable record; `false` if it is known already.
    pub(super) fn add_unreadable(&mut self, now: Tick, store_key: StoreKey) -> bool {
        if self.unreadable.contains_key(&store_key) {
            return false;
        }
        if self.unreadable.len() >= UNREADABLE_MAX {
            self.forgotten += 1;
            return false;
        }
        self.unreadable.insert(store_key, 0);
        self.rebuilds.insert((now, store_key))
    }

    /// When the next rebuild is due.
    pub(super) fn next_rebuild(&self) -> Option<Tick> {
        self.rebuilds.first().map(|(due, _)| *due)
    }

    /// A rebuild that is due, to be followed by [`Backlog::rebuilt`] or [`Backlog::rebuild_failed`].
    pub(super) fn take_rebuild(&mut self, now: Tick) -> Option<StoreKey> {
        self.next_rebuild().filter(|due| *due <= now)?;
        self.rebuilds.pop_first().map(|(_, store_key)| store_key)
    }

    /// A record can be read again.
    pub(super) fn rebuilt(&mut self, store_key: &StoreKey) {
        self.unreadable.remove(store_key);
    }

    /// A rebuild failed; it is tried again, ever more rarely.
    pub(super) fn rebuild_failed(&mut self, now: Tick, store_key: StoreKey, config: &StewardConfig) {
        let Some(failures) = self.unreadable.get_mut(&store_key) else { return };
        let wait_ms = (config.retry_min_ms << (*failures).min(16)).min(config.retry_max_ms);
        *failures += 1;
        self.rebuilds.insert((now.after(wait_ms), store_key));
    }

    /// Somebody came back: what failed may succeed now.
    pub(super) fn retry_now(&mut self, now: Tick) {
        let waiting = core::mem::take(&mut self.rebuilds);
        self.rebuilds = waiting.into_iter().map(|(due, store_key)| (due.min(now), store_key)).collect();
        self.look_now(now);
    }

    /// Looks for hints at once, unless somebody is looking.
    pub(super) fn look_now(&mut self, now: Tick) {
        self.look_at = self.look_at.map(|look_at| look_at.min(now));
    }

    /// When to look for hints.
    pub(super) fn next_look(&self) -> Option<Tick> {
        self.look_at
    }

    /// Whether to look for hints now; to be followed by [`Backlog::looked`].
    pub(super) fn take_look(&mut self, now: Tick) -> bool {
        self.look_at.take_if(|look_at| *look_at <= now).is_some()
    }

    /// Somebody has looked for hints, and perhaps was told for whom there are some.
    pub(super) fn looked(&mut self, now: Tick, targets: Option<Vec<HintTarget>>) {
        self.look_at = Some(now.after(self.looks_every_ms));
        let Some(targets) = targets else { return };
        let before = core::mem::take(&mut self.targets);
        self.targets.extend(before.iter().filter(|(_, target)| target.is_served));
        for HintTarget { target, objects } in targets {
            if objects > 0 {
                self.targets.insert(target, before.get(&target).copied().unwrap_or_default());
            }
        }
    }

    /// Whether hints are kept for anybody, as far as is known.
    pub(super) fn has_hints(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Those whose hints can be delivered now and are not being delivered; to be followed by [`Backlog::handoff_ended`].
    pub(super) fn take_targets(&mut self, now: Tick, can: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
        let mut taken = Vec::new();
        for (id, target) in &mut self.targets {
            if !target.is_served && target.rests_until <= now && can(*id) {
                target.is_served = true;
                taken.push(*id);
            }
        }
        taken
    }

    /// Lets no target rest any more.
    pub(super) fn forgive(&mut self) {
        self.targets.values_mut().for_each(|target| target.rests_until = Tick(0));
    }

    /// A delivery has ended. When some hints were refused for reasons of their own, or nothing could be delivered because none of
    /// them can be read, another delivery at once would end as this one did.
    pub(super) fn handoff_ended(
        &mut self,
        now: Tick,
        target: NodeId,
        end: End,
        report: Report,
        config: &StewardConfig,
    ) {
        if is_on(Bug::HandoffGivesUp) && end == End::Failed {
            return;
        }
        if end == End::Failed {
            // The node rests already; with the next look it is tried again.
            self.targets.remove(&target);
        } else if report.refused == 0 && report.delivered > 0 {
            // What was kept meanwhile.
            self.targets.remove(&target);
            self.look_now(now);
        } else if let Some(target) = self.targets.get_mut(&target) {
            *target = Target { is_served: false, rests_until: now.after(config.retry_max_ms) };
        }
    }
}
