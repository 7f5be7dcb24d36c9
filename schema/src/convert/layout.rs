//! Layouts that were agreed upon, as nodes fetch them from each other: canonical bytes, in pieces. And the changes that are staged
//! for the next one, which every node joins with its own.

use bytes::Bytes;
use dynamo::operation::Failure;

use super::{BATCH_BYTES_MAX, ReplyHeader, RequestHeader, bounded_data, decode_optional_failure, encode_failure};
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
}

/// A piece of a layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayoutPiece {
    /// Of which.
    pub epoch: u64,
    /// The newest that the node knows.
    pub newest: u64,
    /// How many bytes the layout has.
    pub total: u64,
    /// Those from the offset on.
    pub bytes: Bytes,
}

/// What a node has staged, and what a plan rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageReply {
    /// The join of both sides' changes.
    pub changes: Bytes,
    /// The newest epoch the node has taken over.
    pub epoch: u64,
    /// Partitions there of which more than one configuration may be active.
    pub unsettled: u32,
    /// Records the node holds.
    pub records: u64,
    /// Bytes they occupy.
    pub bytes: u64,
}

impl LayoutRequest {
    /// Writes the request.
    pub fn encode(&self, header: &RequestHeader, mut wire: wire::layout_request::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        wire.set_epoch(self.epoch);
        wire.set_offset(self.offset);
    }

    /// Reads a request.
    pub fn decode(wire: wire::layout_request::Reader<'_>) -> Result<(RequestHeader, Self), Failure> {
        let header = RequestHeader::decode(wire.get_header())?;
        Ok((header, Self { epoch: wire.get_epoch(), offset: wire.get_offset() }))
    }
}

impl LayoutPiece {
    /// The piece of a layout's bytes from an offset on.
    pub fn cut(epoch: u64, newest: u64, layout: &[u8], offset: u64) -> Self {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(layout.len());
        let to = layout.len().min(from.saturating_add(LAYOUT_PIECE_BYTES));
        Self { epoch, newest, total: layout.len() as u64, bytes: Bytes::copy_from_slice(&layout[from..to]) }
    }

    /// Writes the reply.
    pub fn encode(result: &Result<Self, Failure>, header: &ReplyHeader, mut wire: wire::layout_reply::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        match result {
            Ok(piece) => {
                wire.set_epoch(piece.epoch);
                wire.set_newest(piece.newest);
                wire.set_total(piece.total);
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
                wire.set_epoch(reply.epoch);
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
            epoch: wire.get_epoch(),
            unsettled: wire.get_unsettled(),
            records: wire.get_records(),
            bytes: wire.get_bytes(),
        })
    }
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
