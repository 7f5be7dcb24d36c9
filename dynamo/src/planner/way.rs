//! Whether every partition keeps a majority of owners on the way from one layout to the next, where some nodes are silent.
//!
//! While a partition moves, an operation at `quorum` needs a majority of every configuration that may be active: of those it moves from
//! and, before they are retired, of the one it moves to. A node that is only silent counts for all that; one that is given up does not.

use alloc::vec::Vec;

use super::Past;
use crate::{
    layout::{Layout, Member, MemberState, NodeIndex},
    quorum::majority,
    settlement::Proven,
};

/// Partitions, as the next layout divides them, where operations at `quorum` fail as long as the silent nodes stay silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unavailable {
    /// Already now, before anything changes.
    pub now: u32,
    /// At some time on the way to the next layout, or at its end. What is unavailable now and made available by the change (its silent
    /// owners are given up) is none of these.
    pub on_the_way: u32,
}

/// Counts the partitions that silence leaves without a majority, now and on the way to the next layout.
pub fn unavailable<'a>(
    past: impl Into<Past<'a>>,
    proven: &Proven,
    next: &Layout,
    is_silent: impl Fn(&Member) -> bool,
) -> Unavailable {
    let past = past.into();
    let old = past.newest();
    let (now, then) = (Roll::new(old, &is_silent), Roll::new(next, &is_silent));
    let mut unavailable = Unavailable::default();
    if !now.is_anyone_silent() && !then.is_anyone_silent() {
        return unavailable;
    }
    for partition in 0..next.partitions() {
        let before = partition >> (next.partition_bits - old.partition_bits);
        let active: Vec<Vec<NodeIndex>> = past.configurations(before, past.oldest(before, proven)).flatten().collect();
        let lacks = |roll: &Roll| active.iter().any(|owners| !roll.has_majority(owners.iter().copied()));
        unavailable.now += u32::from(lacks(&now));
        unavailable.on_the_way += u32::from(lacks(&then) || !then.has_majority(next.owners(partition)));
    }
    unavailable
}

/// Whom a quorum can count on, by place in the ring.
struct Roll(Vec<Standing>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Answers,
    Silent,
    /// Given up: nobody waits for it.
    Lost,
}

impl Roll {
    fn new(layout: &Layout, is_silent: impl Fn(&Member) -> bool) -> Self {
        let standing = |member: &Member| match member.state {
            MemberState::Active | MemberState::Leaving if is_silent(member) => Standing::Silent,
            MemberState::Active | MemberState::Leaving => Standing::Answers,
            MemberState::Lost | MemberState::Gone => Standing::Lost,
        };
        Self(layout.members.iter().map(standing).collect())
    }

    fn is_anyone_silent(&self) -> bool {
        self.0.contains(&Standing::Silent)
    }

    fn has_majority(&self, owners: impl Iterator<Item = NodeIndex>) -> bool {
        let (mut answering, mut silent, mut lost) = (0, 0, 0);
        for owner in owners {
            // Whoever is cut off at the end of the list is gone.
            match self.0.get(usize::from(owner.0)).copied().unwrap_or(Standing::Lost) {
                Standing::Answers => answering += 1,
                Standing::Silent => silent += 1,
                Standing::Lost => lost += 1,
            }
        }
        answering >= majority(answering + silent, lost)
    }
}
