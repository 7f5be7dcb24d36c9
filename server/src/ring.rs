//! The ring from a node's point of view while it changes: layouts are fetched from those who have them, and other nodes are
//! asked what only concerns the ring. What a layout means for data is the business of [`crate::store`] and
//! [`crate::steward`].

pub(crate) mod adopting;
pub(crate) mod announcing;
pub(crate) mod committing;
mod electing;
mod fetching;
mod gathering;
pub(crate) mod parting;
pub(crate) mod peers;
pub(crate) mod planning;
mod proposing;
pub(crate) mod pulling;
mod staged;
mod telling;
mod wishes;
pub(crate) mod words;

use dynamo::layout::MemberState;

pub(crate) use self::{
    electing::Vote,
    fetching::Fetches,
    staged::{StagedHere, staging_failure},
    telling::Tellings,
    wishes::Wishes,
};

/// Whether a node in this state is asked what concerns the ring: one that is given up for lost, or gone, has no say.
fn is_asked(state: MemberState) -> bool {
    match state {
        MemberState::Active | MemberState::Leaving => true,
        MemberState::Lost | MemberState::Gone => false,
    }
}
