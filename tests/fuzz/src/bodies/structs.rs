//! Messages of the schema: any words are a message to Cap'n Proto, so any bytes are tried as every struct that is read from
//! another process.

use capnp::{
    Word,
    message::{Reader, ReaderOptions, SegmentArray},
};
use schema::{admin_capnp, convert, kv_capnp, node_capnp, peer_capnp};

/// Longest value and record here: the limits must be met, not large.
const BYTES_MAX: usize = 4096;

/// Pointers that are followed, as far as a node follows them.
const NESTING: i32 = 32;

/// A decoder of one struct; what it makes of the message is of no interest, only that it comes back.
type Decoder = fn(&Message<'_>) -> capnp::Result<()>;

type Message<'m> = Reader<SegmentArray<'m>>;

/// Every struct that comes from another process.
const DECODERS: &[Decoder] = &[
    |message| tried(convert::HelloRequest::decode(message.get_root::<node_capnp::hello_request::Reader<'_>>()?)),
    |message| tried(convert::HelloReply::decode(message.get_root::<node_capnp::hello_reply::Reader<'_>>()?)),
    |message| {
        let request = message.get_root::<kv_capnp::execute_request::Reader<'_>>()?;
        drop(convert::RequestHeader::decode(request.get_header()));
        tried(convert::decode_operations(request.get_operations()?, BYTES_MAX))
    },
    |message| tried(convert::decode_get(message.get_root::<kv_capnp::get::Reader<'_>>()?)),
    |message| tried(convert::decode_put(message.get_root::<kv_capnp::put::Reader<'_>>()?, BYTES_MAX)),
    |message| tried(convert::decode_delete(message.get_root::<kv_capnp::delete::Reader<'_>>()?)),
    |message| {
        let reply = message.get_root::<kv_capnp::execute_reply::Reader<'_>>()?;
        let results = reply.get_results()?;
        convert::ReplyHeader::decode(reply.get_header());
        let expected = (results.len() as usize).min(convert::BATCH_OPERATIONS_MAX);
        tried(convert::decode_replies(results, expected))
    },
    |message| {
        let ring = message.get_root::<kv_capnp::ring::Reader<'_>>()?;
        let Ok(partial) = convert::PartialLayout::decode(ring) else { return Ok(()) };
        partial.missing();
        tried(partial.complete())
    },
    |message| tried(convert::decode_scan(message.get_root::<kv_capnp::scan_request::Reader<'_>>()?)),
    |message| tried(convert::decode_scan_page(message.get_root::<kv_capnp::scan_reply::Reader<'_>>()?)),
    |message| tried(convert::decode_status(message.get_root::<kv_capnp::status_reply::Reader<'_>>()?)),
    |message| {
        let request = message.get_root::<peer_capnp::peer_request::Reader<'_>>()?;
        tried(convert::decode_peer_operations(request.get_operations()?, BYTES_MAX))
    },
    |message| {
        let reply = message.get_root::<peer_capnp::peer_reply::Reader<'_>>()?;
        let results = reply.get_results()?;
        let expected = (results.len() as usize).min(convert::BATCH_OPERATIONS_MAX);
        drop(convert::decode_positions(reply.get_positions()));
        tried(convert::decode_peer_results(results, expected, BYTES_MAX))
    },
    |message| {
        let request = message.get_root::<peer_capnp::tree_request::Reader<'_>>()?;
        tried(convert::decode_tree_questions(request.get_questions()?))
    },
    |message| {
        let reply = message.get_root::<peer_capnp::tree_reply::Reader<'_>>()?;
        let answers = reply.get_answers()?;
        let expected = (answers.len() as usize).min(convert::TREE_QUESTIONS_MAX);
        tried(convert::decode_tree_answers(answers, expected))
    },
    |message| tried(convert::RepairRun::decode(message.get_root::<admin_capnp::repair_run_request::Reader<'_>>()?)),
    |message| tried(convert::RepairStatus::decode(message.get_root::<admin_capnp::repair_status_reply::Reader<'_>>()?)),
    |message| tried(convert::decode_inspect(message.get_root::<admin_capnp::inspect_request::Reader<'_>>()?)),
    |message| tried(convert::Inspection::decode(message.get_root::<admin_capnp::inspect_reply::Reader<'_>>()?)),
    |message| tried(convert::decode_reap(message.get_root::<admin_capnp::reap_request::Reader<'_>>()?)),
    |message| tried(convert::decode_reaped(message.get_root::<admin_capnp::reap_reply::Reader<'_>>()?)),
    |message| {
        let request = message.get_root::<admin_capnp::stage_request::Reader<'_>>()?;
        tried(convert::decode_changes(request.get_changes()?))
    },
    |message| tried(convert::Staging::decode(message.get_root::<admin_capnp::plan_reply::Reader<'_>>()?)),
    |message| tried(convert::Commit::decode(message.get_root::<admin_capnp::commit_request::Reader<'_>>()?)),
    |message| tried(convert::Decision::decode(message.get_root::<admin_capnp::commit_reply::Reader<'_>>()?)),
    |message| tried(convert::decode_history(message.get_root::<admin_capnp::history_reply::Reader<'_>>()?)),
    |message| tried(convert::Transfers::decode(message.get_root::<admin_capnp::transfers_reply::Reader<'_>>()?)),
    |message| tried(convert::decode_drained(message.get_root::<admin_capnp::drain_reply::Reader<'_>>()?)),
    |message| tried(convert::decode_delta(message.get_root::<kv_capnp::ring_delta::Reader<'_>>()?)),
    |message| {
        let request = message.get_root::<peer_capnp::move_request::Reader<'_>>()?;
        tried(convert::decode_move_questions(request.get_questions()?))
    },
    |message| {
        let answers = message.get_root::<peer_capnp::move_reply::Reader<'_>>()?.get_answers()?;
        let expected = (answers.len() as usize).min(convert::BATCH_OPERATIONS_MAX);
        tried(convert::decode_move_answers(answers, expected, BYTES_MAX))
    },
    |message| {
        tried(convert::BallotRequest::decode_prepare(message.get_root::<peer_capnp::prepare_request::Reader<'_>>()?))
    },
    |message| {
        tried(convert::BallotRequest::decode_accept(message.get_root::<peer_capnp::accept_request::Reader<'_>>()?))
    },
    |message| tried(convert::decode_ballot_answer(message.get_root::<peer_capnp::ballot_reply::Reader<'_>>()?)),
    |message| tried(convert::LayoutRequest::decode(message.get_root::<peer_capnp::layout_request::Reader<'_>>()?)),
    |message| tried(convert::LayoutPiece::decode(message.get_root::<peer_capnp::layout_reply::Reader<'_>>()?)),
    |message| tried(convert::decode_stage(message.get_root::<peer_capnp::stage_request::Reader<'_>>()?)),
    |message| tried(convert::StageReply::decode(message.get_root::<peer_capnp::stage_reply::Reader<'_>>()?)),
];

/// What came of it, which nobody wants to know.
fn tried<T>(_: T) -> capnp::Result<()> {
    Ok(())
}

/// A message as every struct. The first byte says where it is cut into two segments, if at all.
pub fn structs(bytes: &[u8]) {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let mut words = Word::allocate_zeroed_vec(bytes.len().div_ceil(8));
    Word::words_to_bytes_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    let bytes = Word::words_to_bytes(&words);
    let (first, second) = bytes.split_at((usize::from(cut) * 8).min(bytes.len()));
    let segments: &[&[u8]] = if first.is_empty() { &[bytes] } else { &[first, second] };
    let mut options = ReaderOptions::new();
    options.nesting_limit(NESTING);
    for decoder in DECODERS {
        // Each with limits of its own, as if it alone had come.
        let message = Reader::new(SegmentArray::new(segments), options);
        let _ = decoder(&message);
    }
}
