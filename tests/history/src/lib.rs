//! What clients did to a store and what it answered, as a history in lines of JSON, and the checker that says whether the
//! store kept its word. One format for real processes, the simulator and clients in any language: nothing here knows how a
//! history came about, and nothing here talks to a store.
//!
//! Every write has a number of its own, its *id*, and the value that is written says it. So a value that comes back names
//! the write it came from, and the checker needs no model of the store: an acknowledged write must be found in the end, or
//! a later write must have replaced it knowingly.

mod checker;
mod event;
mod text;

pub use checker::{Report, Rules, Violation, ViolationKind, check};
pub use event::{Basis, Event, Kind, Stage};
pub use text::{ParseError, parse, print};
