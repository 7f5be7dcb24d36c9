//! Between the wire contract and the protocol's own types, in both directions. This is the only code that knows both.
//!
//! Decoding trusts nothing: whatever bytes arrive, the work and the memory are bounded by the limits named here, and what
//! breaks the contract becomes a [`Failure`] that names the field, the limit and what came instead. Nothing here panics on
//! input and nothing decides what an operation means; that is the coordinator's business.
//!
//! A batch is copied once: all keys, values and contexts go into one buffer, of which every decoded operation holds slices.
//! So a batch of 1,024 gets costs a handful of allocations, and its memory lives as long as any slice of it.

mod admin;
mod ballot;
mod failure;
mod gather;
mod header;
mod hello;
mod layout;
mod moving;
mod operation;
mod peer;
mod reply;
mod ring;
mod status;
mod tree;

use std::fmt::Display;

use bytes::Bytes;
use dynamo::operation::{ErrorCode, Failure};

pub use admin::{
    Commit, Decision, Extremes, Held, HintBacklog, HistoryEntry, INSPECT_BYTES_MAX, Inspection, PlanNode, PlanReport,
    Reap, RepairRun, RepairStatus, RepairTask, Staging, TRANSFERS_MAX, Transfer, Transfers, decode_changes,
    decode_drained, decode_history, decode_inspect, decode_reap, decode_reaped, encode_changes, encode_drained,
    encode_history, encode_inspect, encode_reap, encode_reaped,
};
pub use ballot::{BALLOT_LAYOUT_BYTES_MAX, BallotRequest, decode_ballot_answer, encode_ballot_answer};
pub use failure::{decode_failure, decode_optional_failure, encode_failure, error_code};
pub use header::{ReplyHeader, RequestHeader};
pub use hello::{HelloReply, HelloRequest, NodeLimits, PeerIntroduction, Role, decode_positions, encode_positions};
pub use layout::{
    LAYOUT_PIECE_BYTES, LayoutPiece, LayoutRequest, STAGED_BYTES_MAX, StageReply, decode_stage, encode_stage,
};
pub use moving::{
    MOVE_BYTES_MAX, MOVE_QUESTIONS_MAX, decode_move_answers, decode_move_questions, encode_move_answers,
    encode_move_questions, move_answer_bytes,
};
pub use operation::{
    decode_delete, decode_get, decode_operations, decode_put, encode_operation, encode_operations, operation_bytes,
};
pub use peer::{
    decode_peer_operations, decode_peer_results, encode_peer_operations, encode_peer_results, peer_operation_bytes,
};
pub use reply::{decode_replies, decode_reply, encode_replies, encode_reply};
pub use ring::{PartialLayout, decode_delta, encode_delta, encode_ring, read_delta, write_delta};
pub use status::{
    Counter, PeerStatus, SCAN_LIMIT_MAX, Scan, ScanKey, ScanPage, Status, decode_scan, decode_scan_page, decode_status,
    encode_scan, encode_scan_page, encode_status,
};
pub use tree::{
    TREE_KEYS_MAX, TREE_QUESTIONS_MAX, decode_tree_answers, decode_tree_questions, encode_tree_answers,
    encode_tree_questions, tree_answer_keys,
};

/// Most operations of one batch: beyond a thousand the call no longer gets cheaper per operation, only later.
pub const BATCH_OPERATIONS_MAX: usize = 1024;

/// Most bytes of keys, values, contexts and bucket names in one batch of several operations: it keeps a frame small enough
/// not to hold up the frames behind it. An operation that travels alone may be as large as its own limits allow.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest context token: 256 entries of 16 bytes, 128 hashes of 8 and the seal fit with room to grow.
pub const CONTEXT_BYTES_MAX: usize = 8 * 1024;

/// Longest text that is kept of a message, a name or an address that came over the wire.
pub const TEXT_BYTES_MAX: usize = 1024;

fn malformed(field: &'static str, problem: impl Display) -> Failure {
    Failure::with_message(ErrorCode::InvalidRequest, format!("{field}: malformed ({problem}); nothing was done"))
}

fn invalid(field: &'static str, problem: impl Display) -> Failure {
    Failure::with_message(ErrorCode::InvalidRequest, format!("{field}: {problem}; nothing was done"))
}

fn too_large(field: &'static str, limit: usize, got: usize, unit: &'static str) -> Failure {
    Failure::with_message(
        ErrorCode::TooLarge,
        format!("{field}: {got} {unit}, but at most {limit} are allowed; nothing was done"),
    )
}

/// Exactly 16 bytes, as a number with the big end first.
fn sixteen(field: &'static str, data: capnp::Result<&[u8]>) -> Result<u128, Failure> {
    fixed(field, data).map(u128::from_be_bytes)
}

/// Exactly `LENGTH` bytes.
fn fixed<const LENGTH: usize>(field: &'static str, data: capnp::Result<&[u8]>) -> Result<[u8; LENGTH], Failure> {
    let data = data.map_err(|error| malformed(field, error))?;
    data.try_into().map_err(|_| invalid(field, format_args!("{} bytes instead of {LENGTH}", data.len())))
}

/// Text for people: what is not UTF-8 is replaced, what is too long is cut.
fn lenient_text(text: capnp::Result<capnp::text::Reader<'_>>) -> String {
    match text {
        Ok(text) => String::from_utf8_lossy(&text.as_bytes()[..text.len().min(TEXT_BYTES_MAX)]).into_owned(),
        Err(_) => String::new(),
    }
}

/// Text that identifies something, and so must be UTF-8 and short.
fn strict_text(field: &'static str, text: capnp::Result<capnp::text::Reader<'_>>) -> Result<String, Failure> {
    let text = text.map_err(|error| malformed(field, error))?;
    if text.len() > TEXT_BYTES_MAX {
        return Err(too_large(field, TEXT_BYTES_MAX, text.len(), "bytes"));
    }
    text.to_string().map_err(|error| malformed(field, error))
}

/// Data of a bounded length, copied.
fn bounded_data(field: &'static str, data: capnp::Result<&[u8]>, bytes_max: usize) -> Result<Bytes, Failure> {
    let data = data.map_err(|error| malformed(field, error))?;
    if data.len() > bytes_max {
        return Err(too_large(field, bytes_max, data.len(), "bytes"));
    }
    Ok(Bytes::copy_from_slice(data))
}

/// How long a list may be made: Cap'n Proto counts in 32 bits, and everything here is bounded far below.
fn list_length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
