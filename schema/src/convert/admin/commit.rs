//! Committing a plan, and the changes of the ring that were committed before.

use dynamo::operation::Failure;

use super::{
    super::{ReplyHeader, decode_optional_failure, encode_failure, fixed, list_length, malformed, too_large},
    lenient_texts, set_texts,
};
use crate::admin_capnp as wire;

/// Most entries of a history that are read: a ring that changes every day for eleven years.
const HISTORY_MAX: u32 = 4096;

/// A plan that is to be decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The epoch it would be.
    pub epoch: u64,
    /// Its hash.
    pub plan: [u8; 16],
    /// Go on although partitions lose the majority of their copies.
    pub accept_loss: bool,
}

/// What came of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The epoch that is decided now.
    pub epoch: u64,
    /// The hash of its layout.
    pub hash: [u8; 16],
    /// It is another change than the one that was to be committed, of which nothing was done.
    pub is_conflict: bool,
    /// What the decided layout changed, in words.
    pub changes: Vec<String>,
}

/// A layout that was agreed upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Its epoch.
    pub epoch: u64,
    /// Its hash.
    pub hash: [u8; 16],
    /// When the node learned of it, in milliseconds since 1970; `None` where it does not know.
    pub learned_ms: Option<u64>,
    /// How many nodes it has that are not gone.
    pub nodes: u32,
    /// There are 2^`partition_bits` partitions.
    pub partition_bits: u8,
    /// N.
    pub replicas: u8,
    /// What it changed, in words.
    pub changes: Vec<String>,
    /// Partitions whose owners it changed.
    pub changed_partitions: u32,
}

impl Commit {
    /// Writes it; the header is written apart.
    pub fn encode(&self, mut wire: wire::commit_request::Builder<'_>) {
        wire.set_epoch(self.epoch);
        wire.set_plan(&self.plan);
        wire.set_accept_loss(self.accept_loss);
    }

    /// Reads it.
    pub fn decode(wire: wire::commit_request::Reader<'_>) -> Result<Self, Failure> {
        Ok(Self { epoch: wire.get_epoch(), plan: fixed("plan", wire.get_plan())?, accept_loss: wire.get_accept_loss() })
    }
}

impl Decision {
    /// Writes it, or why there is none, with the header.
    pub fn encode(decision: &Result<Self, Failure>, header: &ReplyHeader, mut wire: wire::commit_reply::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        match decision {
            Ok(decision) => {
                wire.set_epoch(decision.epoch);
                wire.set_hash(&decision.hash);
                wire.set_conflict(decision.is_conflict);
                set_texts(wire.init_changes(list_length(decision.changes.len())), &decision.changes);
            }
            Err(failure) => encode_failure(wire.init_error(), failure),
        }
    }

    /// Reads it.
    pub fn decode(wire: wire::commit_reply::Reader<'_>) -> Result<Self, Failure> {
        decode_optional_failure(wire.has_error(), wire.get_error())?;
        Ok(Self {
            epoch: wire.get_epoch(),
            hash: fixed("hash", wire.get_hash())?,
            is_conflict: wire.get_conflict(),
            changes: lenient_texts("changes", wire.get_changes())?,
        })
    }
}

/// Writes a history, the oldest first, or why there is none, with the header.
pub fn encode_history(
    history: &Result<Vec<HistoryEntry>, Failure>,
    header: &ReplyHeader,
    mut wire: wire::history_reply::Builder<'_>,
) {
    header.encode(wire.reborrow().init_header());
    let entries = match history {
        Ok(entries) => entries,
        Err(failure) => return encode_failure(wire.init_error(), failure),
    };
    let mut list = wire.init_entries(list_length(entries.len()));
    for (at, entry) in (0..).zip(entries) {
        let mut wire = list.reborrow().get(at);
        wire.set_epoch(entry.epoch);
        wire.set_hash(&entry.hash);
        wire.set_learned_ms(entry.learned_ms.unwrap_or(0));
        wire.set_nodes(entry.nodes);
        wire.set_partition_bits(entry.partition_bits);
        wire.set_replicas(entry.replicas);
        wire.set_changed_partitions(entry.changed_partitions);
        set_texts(wire.init_changes(list_length(entry.changes.len())), &entry.changes);
    }
}

/// Reads a history.
pub fn decode_history(wire: wire::history_reply::Reader<'_>) -> Result<Vec<HistoryEntry>, Failure> {
    decode_optional_failure(wire.has_error(), wire.get_error())?;
    let entries = wire.get_entries().map_err(|error| malformed("entries", error))?;
    if entries.len() > HISTORY_MAX {
        return Err(too_large("entries", HISTORY_MAX as usize, entries.len() as usize, "layouts"));
    }
    let entry = |entry: wire::history_entry::Reader<'_>| {
        Ok(HistoryEntry {
            epoch: entry.get_epoch(),
            hash: fixed("entries.hash", entry.get_hash())?,
            learned_ms: Some(entry.get_learned_ms()).filter(|learned_ms| *learned_ms > 0),
            nodes: entry.get_nodes(),
            partition_bits: entry.get_partition_bits(),
            replicas: entry.get_replicas(),
            changes: lenient_texts("entries.changes", entry.get_changes())?,
            changed_partitions: entry.get_changed_partitions(),
        })
    };
    entries.iter().map(entry).collect()
}
