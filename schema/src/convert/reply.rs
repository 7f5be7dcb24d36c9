//! Replies to clients: results with their receipts, alone and in batches.

use std::ops::Range;

use dynamo::operation::{ErrorCode, Failure, Outcome, Receipt, Reply, Sibling};

use super::{
    BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX, CONTEXT_BYTES_MAX, decode_failure, encode_failure,
    failure::{decode_receipt, encode_receipt},
    gather::{Gather, Gathered, Span},
    list_length,
    operation::{halves, whole},
};
use crate::kv_capnp as wire;

/// Most siblings that are read from one result: the limit of an object, once for each of the replicas a merge may unite.
const SIBLINGS_MAX: usize = 128 * 7;

/// Most bytes of a reply's values, keys and contexts: no frame is larger.
const REPLY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A guess at the bytes of one result: a small value and its context.
const RESULT_BYTES_EXPECTED: usize = 192;

/// Writes the results of a batch into a list of the same length. A thousand gets may find more than a frame can carry:
/// values beyond [`BATCH_BYTES_MAX`] stay behind, and their results are errors that ask for a smaller batch. The first value
/// always goes, so that a get that is asked alone is answered.
pub fn encode_replies<'a>(
    mut list: capnp::struct_list::Builder<'_, wire::result::Owned>,
    replies: impl IntoIterator<Item = &'a Reply>,
) {
    let mut bytes_left = BATCH_BYTES_MAX;
    for (at, reply) in (0..list.len()).zip(replies) {
        let result = list.reborrow().get(at);
        let bytes = found_bytes(reply);
        if bytes > bytes_left && bytes_left < BATCH_BYTES_MAX {
            encode_failure(result.init_error(), &left_behind(bytes));
        } else {
            bytes_left = bytes_left.saturating_sub(bytes);
            encode_reply(result, reply);
        }
    }
}

/// Writes one result.
pub fn encode_reply(mut result: wire::result::Builder<'_>, reply: &Reply) {
    if reply.receipt != Receipt::default() {
        encode_receipt(result.reborrow().init_receipt(), &reply.receipt);
    }
    match &reply.outcome {
        Outcome::Found { siblings, context } => {
            let mut found = result.init_found();
            found.set_context(context);
            let mut list = found.init_siblings(list_length(siblings.len()));
            for (at, sibling) in (0..).zip(siblings) {
                encode_sibling(list.reborrow().get(at), sibling);
            }
        }
        Outcome::NotFound { context } => {
            let mut not_found = result.init_not_found();
            if !context.is_empty() {
                not_found.set_context(context);
            }
        }
        Outcome::Stored { context, siblings, clock } => {
            let mut stored = result.init_stored();
            if let Some(context) = context {
                stored.set_context(context);
            }
            stored.set_siblings(*siblings);
            stored.set_clock(*clock);
        }
        Outcome::Failed(failure) => encode_failure(result.init_error(), failure),
    }
}

/// Reads the results of a batch of `expected` operations: exactly so many replies, in their order. A node that refused the
/// whole batch sent a single error, which speaks for all of them.
pub fn decode_replies(
    results: capnp::struct_list::Reader<'_, wire::result::Owned>,
    expected: usize,
) -> Result<Vec<Reply>, Failure> {
    let count = results.len() as usize;
    if count == expected {
        return Ok(decode_all(results.iter(), count));
    }
    if count == 1
        && let Outcome::Failed(failure) = decode_reply(results.get(0)).outcome
    {
        return Err(failure);
    }
    Err(broken(format!("{count} results came for {expected} operations")))
}

/// Reads one result.
pub fn decode_reply(result: wire::result::Reader<'_>) -> Reply {
    let mut replies = decode_all(std::iter::once(result), 1);
    replies.pop().unwrap_or_else(|| failed(broken("no result".to_owned())))
}

fn decode_all<'a>(results: impl Iterator<Item = wire::result::Reader<'a>>, count: usize) -> Vec<Reply> {
    let bytes_expected = count.min(BATCH_OPERATIONS_MAX) * RESULT_BYTES_EXPECTED;
    let mut reading =
        Reading { gather: Gather::new(REPLY_BYTES_MAX, bytes_expected), siblings: Vec::with_capacity(count) };
    let drafts: Vec<(Draft, Receipt)> =
        results.map(|result| (reading.result(result).unwrap_or_else(Draft::Failed), receipt(result))).collect();
    let (gathered, siblings) = (reading.gather.finish(), reading.siblings);
    drafts.into_iter().map(|(draft, receipt)| Reply { outcome: draft.finish(&gathered, &siblings), receipt }).collect()
}

/// An outcome whose byte strings and siblings still are places in what the batch shares.
enum Draft {
    Found { siblings: Range<usize>, context: Span },
    NotFound { context: Span },
    Stored { context: Option<Span>, siblings: u16, clock: u64 },
    Failed(Failure),
}

struct DraftSibling {
    value: Span,
    value_bytes: u32,
    clock: u64,
    hash: u128,
}

impl Draft {
    fn finish(self, bytes: &Gathered, all: &[DraftSibling]) -> Outcome {
        match self {
            Self::Found { siblings, context } => {
                let siblings = all[siblings].iter().map(|sibling| sibling.finish(bytes)).collect();
                Outcome::Found { siblings, context: bytes.slice(context) }
            }
            Self::NotFound { context } => Outcome::NotFound { context: bytes.slice(context) },
            Self::Stored { context, siblings, clock } => {
                Outcome::Stored { context: context.map(|context| bytes.slice(context)), siblings, clock }
            }
            Self::Failed(failure) => Outcome::Failed(failure),
        }
    }
}

impl DraftSibling {
    fn finish(&self, bytes: &Gathered) -> Sibling {
        let Self { value, value_bytes, clock, hash } = *self;
        Sibling { value: bytes.slice(value), value_bytes, clock, hash }
    }
}

/// The state of reading a batch.
struct Reading {
    gather: Gather,
    siblings: Vec<DraftSibling>,
}

impl Reading {
    fn result(&mut self, result: wire::result::Reader<'_>) -> Result<Draft, Failure> {
        match result.which() {
            Ok(wire::result::Found(found)) => self.found(found.map_err(unreadable)?),
            Ok(wire::result::NotFound(not_found)) => {
                Ok(Draft::NotFound { context: self.context(not_found.map_err(unreadable)?.get_context())? })
            }
            Ok(wire::result::Stored(stored)) => {
                let stored = stored.map_err(unreadable)?;
                let context = match stored.has_context() {
                    true => Some(self.context(stored.get_context())?),
                    false => None,
                };
                Ok(Draft::Stored { context, siblings: stored.get_siblings(), clock: stored.get_clock() })
            }
            Ok(wire::result::Error(error)) => Err(error.map_or_else(unreadable, decode_failure)),
            Err(unknown) => Err(broken(format!("results of kind {} are unknown here", unknown.0))),
        }
    }

    fn found(&mut self, found: wire::found::Reader<'_>) -> Result<Draft, Failure> {
        let list = found.get_siblings().map_err(unreadable)?;
        let (first, count) = (self.siblings.len(), list.len() as usize);
        if !(1..=SIBLINGS_MAX).contains(&count) {
            return Err(broken(format!("found.siblings: {count} entries instead of 1 to {SIBLINGS_MAX}")));
        }
        for sibling in list.iter() {
            let draft = DraftSibling {
                value: self.add(sibling.get_value().map_err(unreadable)?)?,
                value_bytes: sibling.get_value_bytes(),
                clock: sibling.get_clock(),
                hash: whole(sibling.get_hash_high(), sibling.get_hash_low()),
            };
            self.siblings.push(draft);
        }
        Ok(Draft::Found { siblings: first..first + count, context: self.context(found.get_context())? })
    }

    fn context(&mut self, context: capnp::Result<&[u8]>) -> Result<Span, Failure> {
        let context = context.map_err(unreadable)?;
        if context.len() > CONTEXT_BYTES_MAX {
            let got = context.len();
            return Err(broken(format!("context: {got} bytes, but at most {CONTEXT_BYTES_MAX} are allowed")));
        }
        self.add(context)
    }

    fn add(&mut self, bytes: &[u8]) -> Result<Span, Failure> {
        self.gather
            .add(bytes)
            .map_err(|got| broken(format!("{got} bytes of results, but at most {REPLY_BYTES_MAX} are read")))
    }
}

fn receipt(result: wire::result::Reader<'_>) -> Receipt {
    match result.has_receipt() {
        true => result.get_receipt().map_or_else(|_| Receipt::default(), decode_receipt),
        false => Receipt::default(),
    }
}

fn found_bytes(reply: &Reply) -> usize {
    match &reply.outcome {
        Outcome::Found { siblings, .. } => siblings.iter().map(|sibling| sibling.value.len()).sum(),
        Outcome::NotFound { .. } | Outcome::Stored { .. } | Outcome::Failed(_) => 0,
    }
}

fn left_behind(bytes: usize) -> Failure {
    let message = format!("the values found do not fit into one reply; ask for these {bytes} bytes in a smaller batch");
    Failure { retryable: true, ..Failure::with_message(ErrorCode::TooLarge, message) }
}

fn encode_sibling(mut wire: wire::sibling::Builder<'_>, sibling: &Sibling) {
    if !sibling.value.is_empty() {
        wire.set_value(&sibling.value);
    }
    wire.set_value_bytes(sibling.value_bytes);
    wire.set_clock(sibling.clock);
    let (high, low) = halves(sibling.hash);
    wire.set_hash_high(high);
    wire.set_hash_low(low);
}

fn unreadable(error: capnp::Error) -> Failure {
    broken(error.to_string())
}

/// An answer that breaks the contract: nobody knows what the node did.
fn broken(problem: String) -> Failure {
    Failure {
        maybe_applied: true,
        ..Failure::with_message(ErrorCode::Internal, format!("the node's reply can't be understood: {problem}"))
    }
}

fn failed(failure: Failure) -> Reply {
    Reply { outcome: Outcome::Failed(failure), receipt: Receipt::default() }
}
