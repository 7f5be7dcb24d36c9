//! Hinted handoff (paper, section 4.6), the coordinator's part: which stand-in keeps a write for which owner, and which owners
//! nobody keeps it for yet. Delivering hints is the steward's part, keeping them [`crate::hint`]'s.

use crate::quorum::{PLACES_MAX, Place, Places};

/// Who keeps a write for whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Substitutes {
    /// By the stand-in's place: the owner it keeps the write for.
    targets: [Place; PLACES_MAX],
    /// Owners for which a stand-in was asked and has not failed.
    kept: Places,
    /// Owners that did not answer in time; they may still.
    silent: Places,
    /// Owners that no stand-in can replace: they refused in a way that others would repeat.
    fenced: Places,
}

impl Substitutes {
    /// Nobody stands in for anyone.
    pub(super) fn new() -> Self {
        Self { targets: [Place::FIRST; PLACES_MAX], kept: Places::NONE, silent: Places::NONE, fenced: Places::NONE }
    }

    /// From now on `stand_in` keeps the write for `owner`.
    pub(super) fn assign(&mut self, stand_in: Place, owner: Place) {
        self.targets[stand_in.index()] = owner;
        self.kept.insert(owner);
    }

    /// The owner that `stand_in` keeps the write for.
    pub(super) fn target(&self, stand_in: Place) -> Place {
        self.targets[stand_in.index()]
    }

    /// The stand-in does not keep it, or nobody knows: its owner needs another.
    pub(super) fn failed(&mut self, stand_in: Place) {
        self.kept.remove(self.target(stand_in));
    }

    /// The owner, or the stand-in that keeps the write for it, is slow: another is needed.
    pub(super) fn is_silent(&mut self, owner: Place) {
        self.silent.insert(owner);
        self.kept.remove(owner);
    }

    /// Nobody shall stand in for this owner.
    pub(super) fn fence(&mut self, owner: Place) {
        self.fenced.insert(owner);
    }

    /// Those of the owners that lack the write and failed, or are silent, for whom nobody keeps it.
    pub(super) fn unkept(&self, lacking: Places, failed: Places) -> Places {
        lacking.intersection(failed.union(self.silent)).without(self.kept).without(self.fenced)
    }
}
