//! The checker: whether a history keeps the promises of the design (design: proof, "Invariants, by name"), seen only from
//! outside. It looks at each key alone, since keys promise nothing about each other.
//!
//! A value is *explained* by what a reader got if it is among it, or if a chain of writes, each of which may have replaced the
//! one before, leads from it to something the reader got, or to a delete. What may have replaced what, follows from contexts
//! alone: a write under a context replaces what the answer with that context had shown, and a write without one whatever had
//! begun before it ended.

mod key;
mod reads;
mod replicas;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use crate::{Event, Kind, Stage};

use key::KeyHistory;

/// What a history is held to.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How many replicas each key must have been looked at in the end; 0 leaves out everything about the end.
    pub replicas: usize,
    /// Whether all replicas must hold the same bytes, or only the same values.
    pub bytes_equal: bool,
}

/// How a history was, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Operations that began.
    pub operations: u64,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes that may have been done.
    pub unclear: u64,
    /// Operations that were refused, and reads that failed.
    pub failed: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Keys.
    pub keys: u64,
    /// Keys that have more than one value in the end.
    pub keys_with_siblings: u64,
    /// What is wrong.
    pub violations: Vec<Violation>,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub kind: ViolationKind,
    /// Of which key.
    pub key: String,
    /// What was seen.
    pub detail: String,
}

/// Which promise was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ViolationKind {
    /// The history itself can't be: an id twice, an answer to nothing, a context nobody was given.
    Malformed,
    /// I1: an acknowledged write is in no replica, and no later write can have replaced it.
    Lost,
    /// I2: a value that nobody wrote, or that was refused, or whose write had not begun yet.
    Invented,
    /// I3 and I4: a value that a write known to be done had replaced or deleted is there all the same.
    Returned,
    /// I7: a strict read missed its own process's earlier strict write.
    OwnWriteMissed,
    /// I7: a strict read missed another process's strict write that had been acknowledged before it began.
    WriteMissed,
    /// I9: replicas hold different values or bytes.
    Diverged,
    /// A key was not looked at in the end on as many replicas as the rules demand: nothing is known of it.
    NotLookedAt,
}

/// Checks a history. Its lines may stand in any order.
pub fn check(history: &[Event], rules: &Rules) -> Report {
    let mut report = Report::default();
    let mut sorted: Vec<&Event> = history.iter().collect();
    // At the same instant an operation begins before another ends: they overlap, which promises less.
    sorted.sort_by_key(|event| (event.time_us, event.stage != Stage::Invoke));
    let mut keys: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in sorted {
        keys.entry(&event.key).or_default().push(event);
    }
    report.keys = keys.len() as u64;
    let mut ids = BTreeMap::new();
    for (name, events) in keys {
        let key = KeyHistory::new(name, &events, &mut report);
        for id in key.writes.keys() {
            if let Some(other) = ids.insert(*id, name) {
                key.accuse(&mut report, ViolationKind::Malformed, format!("id {id} is also used for {other}"));
            }
        }
        reads::check(&key, &mut report);
        if rules.replicas > 0 {
            replicas::check(&key, rules, &mut report);
        }
    }
    report
}

impl Report {
    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    fn count(&mut self, op: Kind, stage: Stage) {
        match (stage, op) {
            (Stage::Invoke, _) => self.operations += 1,
            (Stage::Ok, Kind::Get) => self.reads += 1,
            (Stage::Ok, Kind::Put | Kind::Delete) => self.acknowledged += 1,
            (Stage::Unclear, Kind::Put | Kind::Delete) => self.unclear += 1,
            (Stage::Fail, _) | (Stage::Unclear, Kind::Get) => self.failed += 1,
            (Stage::Final, _) => {}
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} operations on {} keys: {} writes acknowledged, {} unclear, {} reads, {} failed; {} keys with siblings in the \
             end; {} violations",
            self.operations,
            self.keys,
            self.acknowledged,
            self.unclear,
            self.reads,
            self.failed,
            self.keys_with_siblings,
            self.violations.len()
        )?;
        self.violations.iter().take(20).try_for_each(|violation| write!(formatter, "\n  {violation}"))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: key {}: {}", self.kind, self.key, self.detail)
    }
}
