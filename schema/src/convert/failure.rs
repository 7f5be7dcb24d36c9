//! Errors as data, levels and consistency: what nearly every message has inside.

use dynamo::{
    layout::{Level, NodeIndex},
    operation::{Consistency, ErrorCode, Failure, Receipt},
};

use super::{lenient_text, list_length, malformed};
use crate::common_capnp as wire;

/// Most nodes that are kept of a list of owners or answers: two configurations of seven owners and their stand-ins.
const NODES_LISTED_MAX: usize = 32;

/// Writes a failure.
pub fn encode_failure(mut error: wire::error::Builder<'_>, failure: &Failure) {
    error.set_code(wire_code(failure.code));
    error.set_message(&*failure.message);
    error.set_retryable(failure.retryable);
    error.set_maybe_applied(failure.maybe_applied);
    error.set_retry_after_ms(failure.retry_after_ms);
    error.set_need(failure.need);
    error.set_got(failure.got);
    if !failure.owners.is_empty() {
        encode_nodes(error.init_owners(list_length(failure.owners.len())), &failure.owners);
    }
}

/// Reads a failure. It is never an error itself: an unknown code is [`ErrorCode::Internal`], as the contract says.
pub fn decode_failure(error: wire::error::Reader<'_>) -> Failure {
    Failure {
        code: error.get_code().map_or(ErrorCode::Internal, error_code),
        message: lenient_text(error.get_message()).into(),
        retryable: error.get_retryable(),
        maybe_applied: error.get_maybe_applied(),
        retry_after_ms: error.get_retry_after_ms(),
        need: error.get_need(),
        got: error.get_got(),
        owners: decode_nodes(error.get_owners()),
    }
}

/// Reads the error field of a reply in which null means success.
pub fn decode_optional_failure(has: bool, error: capnp::Result<wire::error::Reader<'_>>) -> Result<(), Failure> {
    if !has {
        return Ok(());
    }
    Err(error.map_or_else(|problem| malformed("error", problem), decode_failure))
}

/// The protocol's code for the contract's.
pub fn error_code(code: wire::ErrorCode) -> ErrorCode {
    match code {
        wire::ErrorCode::Internal => ErrorCode::Internal,
        wire::ErrorCode::InvalidRequest => ErrorCode::InvalidRequest,
        wire::ErrorCode::TooLarge => ErrorCode::TooLarge,
        wire::ErrorCode::TooManySiblings => ErrorCode::TooManySiblings,
        wire::ErrorCode::Unavailable => ErrorCode::Unavailable,
        wire::ErrorCode::QuorumTimeout => ErrorCode::QuorumTimeout,
        wire::ErrorCode::Overloaded => ErrorCode::Overloaded,
        wire::ErrorCode::Unsupported => ErrorCode::Unsupported,
        wire::ErrorCode::Unauthenticated => ErrorCode::Unauthenticated,
        wire::ErrorCode::Forbidden => ErrorCode::Forbidden,
        wire::ErrorCode::Corrupt => ErrorCode::Corrupt,
        wire::ErrorCode::StaleView => ErrorCode::StaleView,
        wire::ErrorCode::StorageFull => ErrorCode::StorageFull,
        wire::ErrorCode::ShuttingDown => ErrorCode::ShuttingDown,
        wire::ErrorCode::WrongCluster => ErrorCode::WrongCluster,
    }
}

fn wire_code(code: ErrorCode) -> wire::ErrorCode {
    match code {
        ErrorCode::Internal => wire::ErrorCode::Internal,
        ErrorCode::InvalidRequest => wire::ErrorCode::InvalidRequest,
        ErrorCode::TooLarge => wire::ErrorCode::TooLarge,
        ErrorCode::TooManySiblings => wire::ErrorCode::TooManySiblings,
        ErrorCode::Unavailable => wire::ErrorCode::Unavailable,
        ErrorCode::QuorumTimeout => wire::ErrorCode::QuorumTimeout,
        ErrorCode::Overloaded => wire::ErrorCode::Overloaded,
        ErrorCode::Unsupported => wire::ErrorCode::Unsupported,
        ErrorCode::Unauthenticated => wire::ErrorCode::Unauthenticated,
        ErrorCode::Forbidden => wire::ErrorCode::Forbidden,
        ErrorCode::Corrupt => wire::ErrorCode::Corrupt,
        ErrorCode::StaleView => wire::ErrorCode::StaleView,
        ErrorCode::StorageFull => wire::ErrorCode::StorageFull,
        ErrorCode::ShuttingDown => wire::ErrorCode::ShuttingDown,
        ErrorCode::WrongCluster => wire::ErrorCode::WrongCluster,
    }
}

pub(super) fn encode_consistency(mut wire: wire::consistency::Builder<'_>, consistency: &Consistency) {
    wire.set_level(wire_level(consistency.level));
    wire.set_r(consistency.r);
    wire.set_w(consistency.w);
    wire.set_n(consistency.n);
}

pub(super) fn decode_consistency(
    consistency: capnp::Result<wire::consistency::Reader<'_>>,
) -> Result<Consistency, Failure> {
    let consistency = consistency.map_err(|error| malformed("consistency", error))?;
    let level = match consistency.get_level() {
        Ok(wire::Level::Bucket) => None,
        Ok(wire::Level::One) => Some(Level::One),
        Ok(wire::Level::Available) => Some(Level::Available),
        Ok(wire::Level::Quorum) => Some(Level::Quorum),
        Ok(wire::Level::All) => Some(Level::All),
        Err(unknown) => {
            return Err(super::invalid(
                "consistency.level",
                format_args!("{} is no level this side knows; it knows 0 to 4", unknown.0),
            ));
        }
    };
    Ok(Consistency { level, r: consistency.get_r(), w: consistency.get_w(), n: consistency.get_n() })
}

fn wire_level(level: Option<Level>) -> wire::Level {
    match level {
        None => wire::Level::Bucket,
        Some(Level::One) => wire::Level::One,
        Some(Level::Available) => wire::Level::Available,
        Some(Level::Quorum) => wire::Level::Quorum,
        Some(Level::All) => wire::Level::All,
    }
}

pub(super) fn encode_receipt(mut wire: wire::receipt::Builder<'_>, receipt: &Receipt) {
    wire.set_epoch(receipt.epoch);
    wire.set_need(receipt.need);
    wire.set_durable(receipt.durable);
    wire.set_stand_ins(receipt.stand_ins);
    wire.set_repaired(receipt.repaired);
    wire.set_replicas(receipt.replicas);
    if !receipt.answered.is_empty() {
        encode_nodes(wire.init_answered(list_length(receipt.answered.len())), &receipt.answered);
    }
}

pub(super) fn decode_receipt(receipt: wire::receipt::Reader<'_>) -> Receipt {
    Receipt {
        answered: decode_nodes(receipt.get_answered()),
        epoch: receipt.get_epoch(),
        need: receipt.get_need(),
        durable: receipt.get_durable(),
        stand_ins: receipt.get_stand_ins(),
        repaired: receipt.get_repaired(),
        replicas: receipt.get_replicas(),
    }
}

fn encode_nodes(mut list: capnp::primitive_list::Builder<'_, u16>, nodes: &[NodeIndex]) {
    for (at, node) in (0..).zip(nodes) {
        list.set(at, node.0);
    }
}

/// Nodes inform and are never needed to understand a reply, so a broken list is an empty one.
fn decode_nodes(list: capnp::Result<capnp::primitive_list::Reader<'_, u16>>) -> Vec<NodeIndex> {
    list.map_or_else(|_| Vec::new(), |list| list.iter().take(NODES_LISTED_MAX).map(NodeIndex).collect())
}
