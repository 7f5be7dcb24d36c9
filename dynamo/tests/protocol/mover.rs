//! A new owner's way through fence, FULL and RETIRE as the design says it, one message at a time. Kept in memory only: whoever dies
//! begins again from its row.

use dynamo::{
    layout::{NodeIndex, View},
    peer::Standing,
    replica::MoveOperation,
    ring::OwnerSet,
};

use super::{
    mistake::Mistake,
    owner::Known,
    world::{Body, World},
};

/// How far a mover is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Reads before the fence: nothing rests on it, unless by mistake.
    Copy,
    /// Tells the older owners that there is a newer configuration.
    Fence,
    /// Reads a majority of each older configuration.
    Sync,
    /// Asks whether every owner is ready.
    Retire,
}

/// A mover.
#[derive(Clone, Debug)]
pub(crate) struct Mover {
    /// Answers to an earlier one count for nothing.
    pub(crate) number: u64,
    pub(crate) view: View,
    pub(crate) phase: Phase,
    /// Nodes as bits: told, then read, then ready.
    pub(crate) done: u16,
}

impl World {
    /// Lets a node do what comes next in its partition's move.
    pub(crate) fn move_on(&mut self, node: usize) {
        let Some(row) = self.owners[node].disk.row.filter(|row| !row.is_moved) else { return };
        let layout = self.ring.layout(self.owners[node].epoch).expect("nodes know decided layouts").clone();
        let since = layout.spans.of(0).since;
        let view = row.view.join(&View { hi: since, ..row.view });
        let is_owner = layout.owners(0).any(|owner| usize::from(owner.0) == node);
        if !is_owner || view.hi > since || view.lo == view.hi {
            self.movers.remove(&node);
            return;
        }
        if self.movers.get(&node).is_none_or(|mover| mover.view != view) {
            self.numbers += 1;
            let mover = Mover { number: self.numbers, view, phase: Phase::Copy, done: 0 };
            self.movers.insert(node, mover);
            self.owners[node].restart();
        }
        let Some(sets) = self.ring.configurations(&self.id(), &view) else { return };
        let mover = self.movers[&node].clone();
        match mover.phase {
            Phase::Copy => self.copy(node, &mover, &sets, row.full),
            Phase::Fence => self.ask_all(node, &mover, members(&sets), |number, view| Body::Adopt { number, view }),
            Phase::Sync => self.ask_all(node, &mover, members(old(&sets)), |number, view| Body::Sync { number, view }),
            Phase::Retire => {
                let newest = &sets[sets.len() - 1..];
                self.ask_all(node, &mover, members(newest), |number, _| Body::Ask { number });
            }
        }
    }

    fn copy(&mut self, node: usize, mover: &Mover, sets: &[OwnerSet], full: u64) {
        let is_ready = full >= mover.view.hi || self.is_retained(sets, node);
        if self.is_made(Mistake::CopyCountsAsFull) && !is_ready {
            // Somebody's data as it is now.
            let from = *self.random.pick(&sets[0].owners);
            let (known, view) = (self.owners[usize::from(from.0)].known(&self.register), mover.view);
            self.owners[node].adopt(view);
            self.owners[node].merge(&self.register, view, known);
            self.owners[node].step(MoveOperation::Fill { view });
        }
        let is_ready = is_ready || self.is_made(Mistake::CopyCountsAsFull);
        let phase = match (is_ready, self.mistake) {
            (true, _) => Phase::Retire,
            (false, Some(Mistake::NoFence | Mistake::SyncBeforeFence)) => Phase::Sync,
            (false, _) => Phase::Fence,
        };
        self.enter(node, phase);
    }

    fn enter(&mut self, node: usize, phase: Phase) {
        if let Some(mover) = self.movers.get_mut(&node) {
            (mover.phase, mover.done) = (phase, 0);
        }
    }

    fn ask_all(&mut self, node: usize, mover: &Mover, to: Vec<usize>, body: impl Fn(u64, View) -> Body) {
        for to in to.into_iter().filter(|to| mover.done & 1 << to == 0) {
            self.send(node, to, body(mover.number, mover.view));
        }
    }

    /// An owner was told of the newest configuration and says how it stands.
    pub(crate) fn told(&mut self, node: usize, number: u64, from: usize, standing: Standing) {
        let Some(mover) = self.heard(node, number, standing.view) else { return };
        let (view, phase) = (mover.view, mover.phase);
        let Some(sets) = self.ring.configurations(&self.id(), &view) else { return };
        let is_ready = standing.full >= view.hi || self.is_retained(&sets, from);
        match phase {
            Phase::Fence if standing.view == view => {
                if self.owners[node].adopt(view).is_some_and(|mine| mine.view == view)
                    && self.mark(node, from, old(&sets))
                {
                    let is_late = self.is_made(Mistake::SyncBeforeFence);
                    if is_late {
                        self.owners[node].step(MoveOperation::Fill { view });
                    }
                    self.enter(node, if is_late { Phase::Retire } else { Phase::Sync });
                }
            }
            Phase::Retire if is_ready => {
                self.movers.get_mut(&node).into_iter().for_each(|mover| mover.done |= 1 << from);
                let done = self.movers[&node].done;
                let newest = &sets[sets.len() - 1].owners;
                let all = newest.iter().all(|owner| done & 1 << owner.0 != 0);
                if all || self.is_made(Mistake::RetireOnOneFull) && standing.full >= view.hi {
                    self.retire(node, view, &sets);
                }
            }
            Phase::Copy | Phase::Fence | Phase::Sync | Phase::Retire => {}
        }
    }

    fn retire(&mut self, node: usize, view: View, sets: &[OwnerSet]) {
        let retired = View { lo: view.hi, ..view };
        self.owners[node].adopt(retired);
        self.movers.remove(&node);
        for to in members(sets) {
            self.send(node, to, Body::Adopt { number: 0, view: retired });
        }
    }

    /// What an old owner holds, read under the fenced view.
    pub(crate) fn synced(&mut self, node: usize, number: u64, from: usize, known: Result<Known, View>) {
        let Some(Mover { view, phase: Phase::Sync, .. }) =
            self.movers.get(&node).filter(|mover| mover.number == number)
        else {
            return;
        };
        let view = *view;
        let known = match known {
            Ok(known) => known,
            Err(theirs) => {
                self.owners[node].adopt(theirs);
                return;
            }
        };
        let Some(sets) = self.ring.configurations(&self.id(), &view) else { return };
        let is_unfenced = matches!(self.mistake, Some(Mistake::NoFence | Mistake::SyncBeforeFence));
        if is_unfenced {
            self.owners[node].adopt(view);
        }
        if self.owners[node].merge(&self.register, view, known) != Some(Ok(())) {
            return;
        }
        if self.mark(node, from, old(&sets)) || self.is_made(Mistake::FullWithOne) {
            if self.is_made(Mistake::SyncBeforeFence) {
                return self.enter(node, Phase::Fence);
            }
            self.owners[node].step(MoveOperation::Fill { view });
            self.enter(node, Phase::Retire);
        }
    }

    /// The mover a message is for, unless the sender knows a newer view: then that is adopted and the move begins again.
    fn heard(&mut self, node: usize, number: u64, theirs: View) -> Option<Mover> {
        let mover = self.movers.get(&node).filter(|mover| mover.number == number)?.clone();
        if !mover.view.covers(&theirs) {
            self.learn(node, theirs.hi);
            self.owners[node].adopt(theirs);
            return None;
        }
        Some(mover)
    }

    /// Notes a node; whether a majority of each of these configurations has been noted.
    fn mark(&mut self, node: usize, from: usize, sets: &[OwnerSet]) -> bool {
        let Some(mover) = self.movers.get_mut(&node) else { return false };
        mover.done |= 1 << from;
        let done = mover.done;
        sets.iter().all(|set| 2 * set.owners.iter().filter(|owner| done & 1 << owner.0 != 0).count() > set.owners.len())
    }

    /// Whether a node was an owner all along while their number stayed the same.
    fn is_retained(&self, sets: &[OwnerSet], node: usize) -> bool {
        let count = sets[0].owners.len();
        let is_constant = sets.iter().all(|set| set.owners.len() == count);
        let was_always = sets.iter().all(|set| set.owners.contains(&NodeIndex(node as u16)));
        was_always && (is_constant || self.is_made(Mistake::RetireWithoutAllWhenNChanges))
    }

    /// Lets a node that may not own the partition any more delete it.
    pub(crate) fn leave(&mut self, node: usize) {
        let Some(row) = self.owners[node].disk.row.filter(|row| !row.is_moved) else { return };
        let me = NodeIndex(node as u16);
        let layouts: Vec<_> =
            self.ring.layouts().filter(|layout| layout.epoch <= self.owners[node].epoch).cloned().collect();
        let newest = layouts.last().expect("a node knows a layout");
        let is_owner = newest.owners(0).any(|owner| owner == me);
        let is_past = layouts.iter().all(|layout| {
            let had_me = layout.owners(0).any(|owner| owner == me);
            !had_me || layout.spans.of(0).since < row.view.lo
        });
        let is_early = self.is_made(Mistake::EarlyDeletion) && row.view.hi == newest.spans.of(0).since;
        if !is_owner && (is_past || is_early) {
            self.owners[node].delete(row.view);
            self.met.deleted += 1;
        } else if !is_owner {
            let to = usize::from(self.random.pick(&newest.owners(0).collect::<Vec<_>>()).0);
            self.send(node, to, Body::Ask { number: 0 });
        }
    }
}

/// All configurations but the newest.
fn old(sets: &[OwnerSet]) -> &[OwnerSet] {
    &sets[..sets.len() - 1]
}

/// The nodes of all these configurations, each once.
fn members(sets: &[OwnerSet]) -> Vec<usize> {
    let mut members: Vec<usize> = sets.iter().flat_map(|set| &set.owners).map(|owner| usize::from(owner.0)).collect();
    members.sort_unstable();
    members.dedup();
    members
}
