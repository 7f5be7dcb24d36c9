//! Operations on replicas and their answers, in batches between nodes.

use dynamo::{
    ident::{NodeId, StoreKey},
    layout::View,
    operation::{ErrorCode, Failure},
    peer::{PeerAction, PeerOperation, PeerResult},
};

use super::{
    BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX, decode_failure, encode_failure, fixed,
    gather::{Gather, Span},
    invalid, malformed,
    operation::{halves, whole},
    sixteen, too_large,
};
use crate::peer_capnp as wire;

/// What an operation brings along beside its record: the view and the store key.
const OPERATION_BYTES: usize = 64;

/// Reads a batch. As with clients' batches, an operation that breaks the contract has its own failure, and a batch that is
/// too large is refused as a whole.
pub fn decode_peer_operations(
    operations: capnp::struct_list::Reader<'_, wire::peer_operation::Owned>,
    record_bytes_max: usize,
) -> Result<Vec<Result<PeerOperation, Failure>>, Failure> {
    let count = operations.len() as usize;
    if count > BATCH_OPERATIONS_MAX {
        return Err(too_large("operations", BATCH_OPERATIONS_MAX, count, "operations"));
    }
    let bytes_max = if count <= 1 { record_bytes_max } else { BATCH_BYTES_MAX };
    let mut gather = Gather::new(bytes_max, 0);
    let mut drafts = Vec::with_capacity(count);
    for operation in operations.iter() {
        drafts.push(peer_operation(&mut gather, operation, record_bytes_max));
        if let Some(got) = gather.refused() {
            return Err(too_large("operations", bytes_max, got, "bytes"));
        }
    }
    let bytes = gather.finish();
    let finish = |(view, store_key, action): (View, StoreKey, DraftAction)| PeerOperation {
        view,
        store_key,
        action: match action {
            DraftAction::Read => PeerAction::Read,
            DraftAction::Digest => PeerAction::Digest,
            DraftAction::Merge(record) => PeerAction::Merge(bytes.slice(record)),
            DraftAction::ReadHint => PeerAction::ReadHint,
            DraftAction::Hint(target, record) => PeerAction::Hint { target, record: bytes.slice(record) },
        },
    };
    Ok(drafts.into_iter().map(|draft| draft.map(finish)).collect())
}

/// Reads the results of `expected` operations: exactly so many, in their order. As with clients, a single error for several
/// operations speaks for all of them.
pub fn decode_peer_results(
    results: capnp::struct_list::Reader<'_, wire::peer_result::Owned>,
    expected: usize,
    record_bytes_max: usize,
) -> Result<Vec<PeerResult>, Failure> {
    let count = results.len() as usize;
    if count != expected {
        if count == 1
            && let Ok(wire::peer_result::Error(Ok(error))) = results.get(0).which()
        {
            return Err(decode_failure(error));
        }
        return Err(broken(format!("{count} results came for {expected} operations")));
    }
    // A reply is as large as the records it brings; what bounds it is that the frame was read at all.
    let mut gather = Gather::new(count.saturating_mul(record_bytes_max), 0);
    let drafts: Vec<Draft> = results
        .iter()
        .map(|result| peer_result(&mut gather, result, record_bytes_max))
        .map(|draft| draft.unwrap_or_else(|failure| Draft::Whole(PeerResult::Failed(failure))))
        .collect();
    let bytes = gather.finish();
    let finish = |draft| match draft {
        Draft::Record(span) => PeerResult::Record(bytes.slice(span)),
        Draft::Whole(result) => result,
    };
    Ok(drafts.into_iter().map(finish).collect())
}

/// Writes a batch into a list of the same length.
pub fn encode_peer_operations<'a>(
    mut list: capnp::struct_list::Builder<'_, wire::peer_operation::Owned>,
    operations: impl IntoIterator<Item = &'a PeerOperation>,
) {
    for (at, operation) in (0..list.len()).zip(operations) {
        let mut wire = list.reborrow().get(at);
        encode_view(wire.reborrow().init_view(), &operation.view);
        wire.set_store_key(&operation.store_key.0);
        match &operation.action {
            PeerAction::Read => wire.set_read(()),
            PeerAction::Digest => wire.set_digest(()),
            PeerAction::Merge(record) => wire.set_merge(record),
            PeerAction::ReadHint => wire.set_read_hint(()),
            PeerAction::Hint { target, record } => {
                let mut hint = wire.init_hint();
                hint.set_target(&target.0.to_be_bytes());
                hint.set_record(record);
            }
        }
    }
}

/// Writes results into a list of the same length.
pub fn encode_peer_results<'a>(
    mut list: capnp::struct_list::Builder<'_, wire::peer_result::Owned>,
    results: impl IntoIterator<Item = &'a PeerResult>,
) {
    for (at, result) in (0..list.len()).zip(results) {
        let mut wire = list.reborrow().get(at);
        match result {
            PeerResult::Record(record) => wire.set_record(record),
            PeerResult::Digest(digest) => {
                let (high, low) = halves(*digest);
                let mut digest = wire.init_digest();
                digest.set_high(high);
                digest.set_low(low);
            }
            PeerResult::Absent => wire.set_absent(()),
            PeerResult::Stored => wire.set_stored(()),
            PeerResult::Stale(view) => encode_view(wire.init_stale(), view),
            PeerResult::Corrupt => wire.set_corrupt(()),
            PeerResult::Failed(failure) => encode_failure(wire.init_error(), failure),
        }
    }
}

/// What an operation counts towards [`BATCH_BYTES_MAX`], at most.
pub fn peer_operation_bytes(operation: &PeerOperation) -> usize {
    OPERATION_BYTES
        + match &operation.action {
            PeerAction::Read | PeerAction::Digest | PeerAction::ReadHint => 0,
            PeerAction::Merge(record) | PeerAction::Hint { record, .. } => record.len(),
        }
}

enum DraftAction {
    Read,
    Digest,
    Merge(Span),
    ReadHint,
    Hint(NodeId, Span),
}

enum Draft {
    Record(Span),
    Whole(PeerResult),
}

fn peer_operation(
    gather: &mut Gather,
    operation: wire::peer_operation::Reader<'_>,
    record_bytes_max: usize,
) -> Result<(View, StoreKey, DraftAction), Failure> {
    let view = decode_view(operation.get_view())?;
    let store_key = StoreKey(fixed("storeKey", operation.get_store_key())?);
    let action = match operation.which() {
        Ok(wire::peer_operation::Read(())) => DraftAction::Read,
        Ok(wire::peer_operation::Digest(())) => DraftAction::Digest,
        Ok(wire::peer_operation::Merge(record)) => {
            let record = record.map_err(|error| malformed("merge", error))?;
            DraftAction::Merge(gather_record(gather, "merge", record, record_bytes_max)?)
        }
        Ok(wire::peer_operation::ReadHint(())) => DraftAction::ReadHint,
        Ok(wire::peer_operation::Hint(hint)) => {
            let hint = hint.map_err(|error| malformed("hint", error))?;
            let target = NodeId(sixteen("hint.target", hint.get_target())?);
            let record = hint.get_record().map_err(|error| malformed("hint.record", error))?;
            DraftAction::Hint(target, gather_record(gather, "hint.record", record, record_bytes_max)?)
        }
        Err(unknown) => return Err(invalid("operation", format_args!("kind {} is unknown to this node", unknown.0))),
    };
    Ok((view, store_key, action))
}

/// Takes in the record of an operation, if it can be one.
fn gather_record(
    gather: &mut Gather,
    field: &'static str,
    record: &[u8],
    record_bytes_max: usize,
) -> Result<Span, Failure> {
    if record.is_empty() {
        return Err(invalid(field, "0 bytes are no record"));
    }
    if record.len() > record_bytes_max {
        return Err(too_large(field, record_bytes_max, record.len(), "bytes"));
    }
    gather.add(record).map_err(|got| too_large("operations", BATCH_BYTES_MAX, got, "bytes"))
}

fn peer_result(
    gather: &mut Gather,
    result: wire::peer_result::Reader<'_>,
    record_bytes_max: usize,
) -> Result<Draft, Failure> {
    let unreadable = |error: capnp::Error| broken(error.to_string());
    let whole_result = match result.which() {
        Ok(wire::peer_result::Record(record)) => {
            let record = record.map_err(unreadable)?;
            if record.len() > record_bytes_max {
                return Err(broken(format!("record: {} bytes, at most {record_bytes_max} are read", record.len())));
            }
            let span = gather.add(record).map_err(|got| broken(format!("{got} bytes of records")))?;
            return Ok(Draft::Record(span));
        }
        Ok(wire::peer_result::Digest(digest)) => {
            let digest = digest.map_err(unreadable)?;
            PeerResult::Digest(whole(digest.get_high(), digest.get_low()))
        }
        Ok(wire::peer_result::Absent(())) => PeerResult::Absent,
        Ok(wire::peer_result::Stored(())) => PeerResult::Stored,
        Ok(wire::peer_result::Stale(view)) => PeerResult::Stale(decode_view(view)?),
        Ok(wire::peer_result::Corrupt(())) => PeerResult::Corrupt,
        Ok(wire::peer_result::Error(error)) => PeerResult::Failed(error.map_or_else(unreadable, decode_failure)),
        Err(unknown) => return Err(broken(format!("results of kind {} are unknown here", unknown.0))),
    };
    Ok(Draft::Whole(whole_result))
}

pub(super) fn encode_view(mut wire: wire::view::Builder<'_>, view: &View) {
    wire.set_prefix(view.prefix);
    wire.set_bits(view.bits);
    wire.set_lo(view.lo);
    wire.set_hi(view.hi);
}

/// A view whose prefix has more bits than it says, or whose range runs backwards, means nothing.
pub(super) fn decode_view(view: capnp::Result<wire::view::Reader<'_>>) -> Result<View, Failure> {
    let view = view.map_err(|error| malformed("view", error))?;
    let view = View { prefix: view.get_prefix(), bits: view.get_bits(), lo: view.get_lo(), hi: view.get_hi() };
    if view.bits > 32 || u64::from(view.prefix) >> view.bits != 0 {
        return Err(invalid("view", format_args!("prefix {} does not fit into {} bits", view.prefix, view.bits)));
    }
    if view.lo > view.hi {
        return Err(invalid("view", format_args!("it runs from {} back to {}", view.lo, view.hi)));
    }
    Ok(view)
}

pub(super) fn broken(problem: String) -> Failure {
    Failure {
        maybe_applied: true,
        ..Failure::with_message(ErrorCode::Internal, format!("the peer's reply can't be understood: {problem}"))
    }
}
