//! The words in which the ring is changed through [`crate::Node`]; applications need none of them.

pub use dynamo::staging::{Change, Subject};
pub use schema::convert::{
    Commit, Decision, Extremes, HistoryEntry, PlanNode, PlanReport, Staging, Transfer, Transfers,
};
