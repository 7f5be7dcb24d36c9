//! Moving a partition to new owners while it serves (paper, sections 4.8 and 4.9; design, ring, "Moving a partition"): what one node
//! has to do about one of its partitions, and the conversations it does it by.
//!
//! A node that shall own a partition copies it from somebody who does ([`copy`]); then it fences the older owners and merges a majority
//! of each of their configurations ([`fill`]), after which it is FULL. Whoever sees that all new owners are FULL, or owned it all
//! along, retires the older configurations ([`settle`]). A node that owns a partition under no active configuration any more hands
//! over what only it has, and deletes it ([`leave`]).
//!
//! Which of these is next follows from this node's row and the ring alone ([`step`]), so nothing is lost with a process, and nothing
//! has to be told apart: a node that joins, one in the place of a dead one, an abort, a change on top of another, another number of
//! replicas are all the same to it. When to do it is the [`steward`](crate::steward)'s business.

mod active;
pub mod copy;
pub mod fill;
pub mod leave;
pub mod settle;

pub use active::Active;

use alloc::vec::Vec;

use crate::{
    bug::{Bug, is_on},
    holdings::Holdings,
    layout::{NodeIndex, View},
    peer::{MoveAnswer, Standing},
    replica::WriteOutcome,
    round::Answer,
};

/// What a node has to do next about a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: one configuration is active, and the node belongs to it; or it has nothing to do with the partition, or was given up.
    Rest,
    /// A layout is missing without which nobody can tell.
    Fetch {
        /// Its epoch.
        epoch: u64,
    },
    /// Its row says that it has handed the partition over, and by the ring it is to have it: the row must be made anew.
    Revive,
    /// Copy what it is to own.
    Copy(Active),
    /// Become FULL.
    Fill(Active),
    /// See whether the older configurations can be retired.
    Settle(Active),
    /// Hand over what only it may have, and delete the partition.
    Leave(Active),
}

/// What a conversation about a partition does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Copying, from this node.
    Copying(Option<NodeIndex>),
    /// Telling the older owners of the newer configuration.
    Fencing,
    /// Merging what this node has.
    Levelling(NodeIndex),
    /// Asking the new owners how they stand.
    Asking,
    /// Telling everybody that the older configurations are active no more.
    Retiring,
    /// Giving this node what only this one may have.
    Giving(NodeIndex),
    /// Deleting.
    Deleting,
}

/// Why a partition does not go on. With the next attempt it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// None of those who have the partition answers, or all have failed.
    NoSource,
    /// There is no room here.
    NoRoom,
    /// What this node's row says has changed meanwhile: it begins again from there.
    Changed,
    /// This node's store refused a step.
    Refused,
    /// Too few of a configuration could be asked, or could be read from in full.
    NoMajority {
        /// The configuration.
        epoch: u64,
        /// Its members that are missing.
        missing: Vec<NodeIndex>,
    },
    /// These owners do not have everything yet, or did not say so.
    NotFull(Vec<NodeIndex>),
    /// A layout is missing here.
    NoLayout(u64),
}

/// What this node has to do next about a partition.
pub fn step(holdings: &Holdings, partition: u32) -> Step {
    let (Some(me), Some(row)) = (holdings.me(), holdings.row(partition)) else { return Step::Rest };
    if holdings.is_given_up() {
        return Step::Rest;
    }
    let layout = holdings.layout();
    let span = layout.spans.of(partition);
    let owns = layout.owners(partition).any(|owner| owner == me);
    match (row.is_moved, owns) {
        (true, true) => return Step::Revive,
        (true, false) => return Step::Rest,
        (false, _) => {}
    }
    // That those before `oldest` are retired was proven before the layout was agreed upon.
    let view = row.view.join(&View { lo: span.oldest, hi: span.since, ..row.view });
    let active = match Active::new(holdings, view) {
        Ok(active) => active,
        Err(missing) => return Step::Fetch { epoch: missing.epoch },
    };
    if !owns {
        let is_owner_still = active.includes(me) && !is_on(Bug::EarlyDeletion);
        return if is_owner_still { Step::Settle(active) } else { Step::Leave(active) };
    }
    if row.view == view && view.lo == view.hi {
        return Step::Rest;
    }
    if row.full >= view.hi || active.has_kept(me) {
        return Step::Settle(active);
    }
    let has_none = active.oldest().is_some_and(|set| !set.owners.contains(&me));
    // Of a partition whose former owners were all given up there is nothing to copy, and nobody to wait for.
    let has_source = active.older().iter().any(|set| set.owners.iter().any(|owner| *owner != me));
    if has_none && has_source && row.copied < u64::MAX { Step::Copy(active) } else { Step::Fill(active) }
}

/// How a node stands, if that is what it answered.
fn standing_of(answer: &Answer) -> Option<Standing> {
    match answer {
        Answer::Move(MoveAnswer::Standing(standing)) | Answer::Written(WriteOutcome::Moved { standing, .. }) => {
            Some(*standing)
        }
        Answer::Move(MoveAnswer::Unknown | MoveAnswer::Range { .. } | MoveAnswer::Failed(_))
        | Answer::Written(_)
        | Answer::Tree(_)
        | Answer::Peer(_)
        | Answer::Targets(_)
        | Answer::Hints(_)
        | Answer::NotSent
        | Answer::Lost => None,
    }
}
