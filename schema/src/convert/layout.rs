//! Layouts that were agreed upon, as nodes fetch them from each other, in pieces: canonical bytes, or a delta for whoever has the layout
//! before. And the changes that are staged for the next one, which every node joins with its own.

use bytes::Bytes;
use dynamo::{
    operation::Failure,
    settlement::{RUNS_MAX, Run, Testimony},
};

use super::{
    BATCH_BYTES_MAX, ReplyHeader, RequestHeader, bounded_data, decode_optional_failure, encode_failure, fixed, invalid,
    list_length, malformed, too_large,
};
use crate::peer_capnp as wire;

/// Most bytes of a layout in one reply: a frame that nobody has to wait long behind.
pub const LAYOUT_PIECE_BYTES: usize = 1 << 20;

/// Longest staged set: some thousands of changes.
pub const STAGED_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// A question for a layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayoutRequest {
    /// Which; 0 for the newest.
    pub epoch: u64,
    /// From which byte on.
    pub offset: u64,
    /// The hash of the layout before it, for a caller that has it: the answer may be what has changed since.
    pub parent_hash: Option<[u8; 16]>,
}

/// A piece of a layout, or of its difference to the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayoutPiece {
    /// Of which.
    pub epoch: u64,
    /// The newest that the node knows.
    pub newest: u64,
    /// How many bytes the layout has, or the difference.
    pub total: u64,
    /// Whether they are those of a difference ([`super::read_delta`]), and not the canonical ones of the layout.
    pub is_delta: bool,
    /// Those from the offset on.
    pub bytes: Bytes,
}

/// What a node has staged, and what a plan rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageReply {
    /// The join of both sides' changes.
    pub changes: Bytes,
    /// What the node testifies to, under the newest layout it has taken over.
    pub testimony: Testimony,
    /// Partitions there of which more than one configuration may be active.
    pub unsettled: u32,
    /// Records the node holds.
    pub records: u64,
    /// About how many bytes they have.
    pub bytes: u64,
}

impl LayoutRequest {
    /// Writes the request.
    pub fn encode(&self, header: &RequestHeader, mut wire: wire::layout_request::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        wire.set_epoch(self.epoch);
        wire.set_offset(self.offset);
        if let Some(parent_hash) = &self.parent_hash {
            wire.set_parent_hash(parent_hash);
        }
    }

    /// Reads a request.
    pub fn decode(wire: wire::layout_request::Reader<'_>) -> Result<(RequestHeader, Self), Failure> {
        let header = RequestHeader::decode(wire.get_header())?;
        let has_parent = wire.get_parent_hash().is_ok_and(|hash| !hash.is_empty());
        let parent_hash = has_parent.then(|| fixed("parentHash", wire.get_parent_hash())).transpose()?;
        Ok((header, Self { epoch: wire.get_epoch(), offset: wire.get_offset(), parent_hash }))
    }
}

impl LayoutPiece {
    /// The part of bytes that one reply has, from an offset on.
    pub fn cut(bytes: &Bytes, offset: u64) -> Bytes {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let to = bytes.len().min(from.saturating_add(LAYOUT_PIECE_BYTES));
        bytes.slice(from..to)
    }

    /// Writes the reply.
    pub fn encode(result: &Result<Self, Failure>, header: &ReplyHeader, mut wire: wire::layout_reply::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        match result {
            Ok(piece) => {
                wire.set_epoch(piece.epoch);
                wire.set_newest(piece.newest);
                wire.set_total(piece.total);
                wire.set_is_delta(piece.is_delta);
                wire.set_bytes(&piece.bytes);
            }
            Err(failure) => encode_failure(wire.init_error(), failure),
        }
    }

    /// Reads a reply.
    pub fn decode(wire: wire::layout_reply::Reader<'_>) -> Result<Self, Failure> {
        decode_optional_failure(wire.has_error(), wire.get_error())?;
        Ok(Self {
            epoch: wire.get_epoch(),
            newest: wire.get_newest(),
            total: wire.get_total(),
            is_delta: wire.get_is_delta(),
            bytes: bounded_data("bytes", wire.get_bytes(), LAYOUT_PIECE_BYTES)?,
        })
    }
}

impl StageReply {
    /// Writes the reply.
    pub fn encode(result: &Result<Self, Failure>, header: &ReplyHeader, mut wire: wire::stage_reply::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        match result {
            Ok(reply) => {
                wire.set_changes(&reply.changes);
                encode_testimony(&reply.testimony, wire.reborrow());
                wire.set_unsettled(reply.unsettled);
                wire.set_records(reply.records);
                wire.set_bytes(reply.bytes);
            }
            Err(failure) => encode_failure(wire.init_error(), failure),
        }
    }

    /// Reads a reply.
    pub fn decode(wire: wire::stage_reply::Reader<'_>) -> Result<Self, Failure> {
        decode_optional_failure(wire.has_error(), wire.get_error())?;
        Ok(Self {
            changes: bounded_data("changes", wire.get_changes(), STAGED_BYTES_MAX)?,
            testimony: decode_testimony(wire)?,
            unsettled: wire.get_unsettled(),
            records: wire.get_records(),
            bytes: wire.get_bytes(),
        })
    }
}

fn encode_testimony(testimony: &Testimony, mut wire: wire::stage_reply::Builder<'_>) {
    wire.set_epoch(testimony.epoch);
    wire.set_below(testimony.below);
    wire.set_leftovers(testimony.leftovers);
    let mut runs = wire.init_moving(list_length(testimony.unsettled.len()));
    for (at, run) in (0..).zip(&testimony.unsettled) {
        let mut wire = runs.reborrow().get(at);
        wire.set_first(run.first);
        wire.set_count(run.count);
    }
}

/// Runs that overlap or are out of order would hide one another from whoever looks partitions up in them.
fn decode_testimony(wire: wire::stage_reply::Reader<'_>) -> Result<Testimony, Failure> {
    let runs = wire.get_moving().map_err(|error| malformed("moving", error))?;
    if runs.len() as usize > RUNS_MAX {
        return Err(too_large("moving", RUNS_MAX, runs.len() as usize, "runs"));
    }
    let unsettled: Vec<Run> = runs.iter().map(|run| Run { first: run.get_first(), count: run.get_count() }).collect();
    let end = |run: &Run| run.first.checked_add(run.count).filter(|_| run.count > 0);
    let is_apart = |pair: &[Run]| end(&pair[0]).is_some_and(|end| end < pair[1].first);
    if !unsettled.windows(2).all(is_apart) || unsettled.last().is_some_and(|run| end(run).is_none()) {
        return Err(invalid("moving", "the runs are empty or out of order"));
    }
    Ok(Testimony { epoch: wire.get_epoch(), below: wire.get_below(), unsettled, leftovers: wire.get_leftovers() })
}

/// Writes a request to stage changes.
pub fn encode_stage(header: &RequestHeader, changes: &[u8], mut wire: wire::stage_request::Builder<'_>) {
    header.encode(wire.reborrow().init_header());
    wire.set_changes(changes);
}

/// Reads a request to stage changes.
pub fn decode_stage(wire: wire::stage_request::Reader<'_>) -> Result<(RequestHeader, Bytes), Failure> {
    let header = RequestHeader::decode(wire.get_header())?;
    Ok((header, bounded_data("changes", wire.get_changes(), STAGED_BYTES_MAX)?))
}
