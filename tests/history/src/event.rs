//! One line of a history: a process begins an operation, or learns how it ended, or a replica is looked at in the end.

use serde::{Deserialize, Serialize};

/// A line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Microseconds since the history began, on one clock for all processes.
    pub time_us: u64,
    /// Who: a process does one operation at a time. In the lines of [`Stage::Final`] the number of a replica.
    pub process: u32,
    /// What it wants.
    pub op: Kind,
    /// Of which key.
    pub key: String,
    /// Where the operation stands.
    pub stage: Stage,
    /// Whether the level promises that a read which begins after a write was acknowledged sees it: `quorum` or `all`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strict: bool,
    /// Of writes: their id, unique in the history. A delete has one too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Of writes: what they replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// Of answered reads and of replicas: the ids of the values there are, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<u64>,
    /// Of answers: a hash of the context that came with them, by which a later write of the same process names what it saw. Of
    /// replicas: a hash of the stored bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

/// What an operation wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Read the values of a key.
    Get,
    /// Write a value.
    Put,
    /// Remove the values of a key.
    Delete,
}

/// Where an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// It begins.
    Invoke,
    /// It ended well: a write is acknowledged.
    Ok,
    /// It ended with an error, and nothing was or will be done.
    Fail,
    /// It ended with an error, and a write may have been done or may still be.
    Unclear,
    /// No operation: what a replica holds when all is over and healed.
    Final,
}

/// What a write replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Nothing: it adds a version.
    Beside,
    /// Whatever its coordinator held, which the client does not know.
    Local,
    /// What an answer with this context had shown to the same process.
    Context(String),
}

impl Event {
    /// A line with nothing but what every line has.
    pub fn new(time_us: u64, process: u32, op: Kind, key: impl Into<String>, stage: Stage) -> Self {
        let key = key.into();
        Self {
            time_us,
            process,
            op,
            key,
            stage,
            strict: false,
            id: None,
            basis: None,
            values: Vec::new(),
            context: None,
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}
