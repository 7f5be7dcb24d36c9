//! The ring from a node's point of view while it changes: layouts are fetched from those who have them, and other nodes are
//! asked what only concerns the ring. What a layout means for data is the business of [`crate::store`] and
//! [`crate::steward`].

pub(crate) mod adopting;
pub(crate) mod peers;
pub(crate) mod pulling;
mod wishes;

pub(crate) use self::wishes::Wishes;
