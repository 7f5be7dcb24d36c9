//! What an operation did, and whether it may end as it does: by a list of owner sets and a list of who did what under which view, without
//! a look at how the coordinator decides.

use std::collections::{BTreeMap, BTreeSet};

use dynamo::{
    layout::{Level, View},
    operation::{Action, Outcome, Reply},
};

use crate::layouts::Chain;

/// An operation that is asked for.
pub(crate) struct Asked {
    pub(crate) level: Level,
    /// n, or 0.
    pub(crate) in_use: u8,
    /// N, as its coordinator knew it when it began.
    pub(crate) replicas: u8,
    pub(crate) action: Action,
    pub(crate) hops: u8,
    /// The epoch that its coordinator knew when it began.
    pub(crate) epoch: u64,
    /// By view: who gave the record, or said that there is none.
    pub(crate) read: BTreeMap<View, BTreeSet<u16>>,
    /// By view: who has the write on disk.
    pub(crate) written: BTreeMap<View, BTreeSet<u16>>,
    /// Writes that were sent and have not been refused in the coordinator's hearing.
    pub(crate) unrefused: usize,
    pub(crate) is_forwarded: bool,
    pub(crate) views: BTreeSet<View>,
}

impl Asked {
    /// Whether the operation may end so. The view under which it succeeded, if it did here.
    pub(crate) fn judge(&self, reply: &Reply, chain: &Chain, known: u64) -> Result<Option<View>, String> {
        if self.is_forwarded {
            return Ok(None);
        }
        match &reply.outcome {
            Outcome::Failed(failure) => {
                let has_written = self.written.values().any(|nodes| !nodes.is_empty());
                if has_written && !failure.maybe_applied {
                    return Err(format!("denies what it wrote: {failure:?}"));
                }
                if failure.maybe_applied && self.unrefused == 0 {
                    return Err(format!("claims to have written what all refused: {failure:?}"));
                }
                Ok(None)
            }
            Outcome::Found { .. } | Outcome::NotFound { .. } => self.reached(&self.read, Some(reply), chain, known),
            Outcome::Stored { .. } => {
                if matches!(self.action, Action::Delete { .. }) {
                    self.reached(&self.read, None, chain, known)?;
                }
                self.reached(&self.written, Some(reply), chain, known)
            }
        }
    }

    /// The one view under which a quorum of every active configuration did its part.
    fn reached(
        &self,
        done: &BTreeMap<View, BTreeSet<u16>>,
        reply: Option<&Reply>,
        chain: &Chain,
        known: u64,
    ) -> Result<Option<View>, String> {
        if self.level == Level::Available {
            return Ok(None);
        }
        for (view, nodes) in done {
            for epoch in self.epoch..=known {
                let needs = self.needs(view, &chain.lost(epoch), chain);
                let is_enough = needs.iter().all(|(owners, need)| owners.intersection(nodes).count() >= *need);
                let most = needs.iter().map(|(_, need)| *need).max();
                let fits = reply.is_none_or(|Reply { receipt, .. }| {
                    receipt.answered.iter().all(|node| nodes.contains(&node.0))
                        && receipt.stand_ins == 0
                        && Some(usize::from(receipt.need)) == most
                        && (self.epoch..=known).contains(&receipt.epoch)
                });
                if most.is_some() && is_enough && fits {
                    return Ok(Some(*view));
                }
            }
        }
        let needs = |view: &View| {
            (self.epoch..=known).map(|epoch| self.needs(view, &chain.lost(epoch), chain)).collect::<Vec<_>>()
        };
        let wanted: Vec<_> = done.keys().map(needs).collect();
        Err(format!("{:?} n={} ended with {reply:?} after {done:?}, which wanted {wanted:?}", self.level, self.in_use))
    }

    /// What a view asks of every configuration: of whom, and how many.
    fn needs(&self, view: &View, lost: &BTreeSet<u16>, chain: &Chain) -> Vec<(BTreeSet<u16>, usize)> {
        let names = chain.names(view.lo, view.hi);
        let is_joint = names.len() > 1;
        let mut needs = Vec::new();
        for name in names {
            let owners: BTreeSet<u16> = chain.configurations[&name].difference(lost).copied().collect();
            let in_use = match self.in_use {
                1.. if !is_joint && self.in_use < self.replicas => owners.len().min(usize::from(self.in_use)),
                _ => owners.len(),
            };
            // Two majorities meet, and one meets what remains of any majority there was before owners were given up.
            let all = if in_use == owners.len() { chain.configurations[&name].len() } else { in_use };
            let remains = (all / 2 + 1).saturating_sub(all - in_use).max(1);
            let majority = (in_use / 2 + 1).max((in_use + 1).saturating_sub(remains));
            let need = match self.level {
                Level::One if !is_joint => 1,
                Level::One | Level::Quorum | Level::Available => majority,
                Level::All => in_use,
            };
            if !owners.is_empty() {
                needs.push((owners, need));
            }
        }
        needs
    }
}
