//! Questions about partitions that move and their answers, in batches between nodes.
//!
//! What bounds an answer is the bytes of records that whoever asked is ready to take, and that a reply was read at all.

use bytes::Bytes;
use dynamo::{
    ident::StoreKey,
    operation::Failure,
    peer::{MoveAnswer, MoveAsk, MoveQuestion, Standing},
};

use super::{
    decode_failure, encode_failure, fixed, invalid, list_length, malformed,
    peer::{broken, decode_view, encode_view},
    too_large,
};
use crate::peer_capnp as wire;

/// Most questions of one call.
pub const MOVE_QUESTIONS_MAX: usize = 1024;

/// Most bytes of records that one call may ask for, all its questions together, unless a single record is longer: as much as any
/// batch has.
pub const MOVE_BYTES_MAX: u32 = super::BATCH_BYTES_MAX as u32;

/// Reads the questions of a call. One that breaks the contract has its own failure; too many are refused as a whole.
pub fn decode_move_questions(
    questions: capnp::struct_list::Reader<'_, wire::move_question::Owned>,
) -> Result<Vec<Result<MoveQuestion, Failure>>, Failure> {
    let count = questions.len() as usize;
    if count > MOVE_QUESTIONS_MAX {
        return Err(too_large("questions", MOVE_QUESTIONS_MAX, count, "questions"));
    }
    Ok(questions.iter().map(question).collect())
}

/// Writes questions into a list of the same length.
pub fn encode_move_questions<'a>(
    mut list: capnp::struct_list::Builder<'_, wire::move_question::Owned>,
    questions: impl IntoIterator<Item = &'a MoveQuestion>,
) {
    for (at, MoveQuestion { view, ask }) in (0..list.len()).zip(questions) {
        let mut wire = list.reborrow().get(at);
        encode_view(wire.reborrow().init_view(), view);
        match ask {
            MoveAsk::Standing => wire.set_standing(()),
            MoveAsk::Adopt => wire.set_adopt(()),
            MoveAsk::Range { after, bytes_max } => {
                let mut range = wire.init_range();
                range.set_after(after.as_ref().map_or(&[], |after| &after.0));
                range.set_bytes_max(*bytes_max);
            }
        }
    }
}

/// Reads the answers to `expected` questions: exactly so many, in their order. A single error for several questions speaks for
/// all of them. Records longer than `record_bytes_max` are none.
pub fn decode_move_answers(
    answers: capnp::struct_list::Reader<'_, wire::move_answer::Owned>,
    expected: usize,
    record_bytes_max: usize,
) -> Result<Vec<MoveAnswer>, Failure> {
    let count = answers.len() as usize;
    if count != expected {
        if count == 1
            && let Ok(wire::move_answer::Error(Ok(error))) = answers.get(0).which()
        {
            return Err(decode_failure(error));
        }
        return Err(broken(format!("{count} answers came for {expected} questions")));
    }
    // A message may point to the same records many times: what may be copied out of it is bounded for all answers together.
    let mut bytes_left = super::BATCH_BYTES_MAX + record_bytes_max;
    let read = |wire| answer(wire, record_bytes_max, &mut bytes_left).unwrap_or_else(MoveAnswer::Failed);
    Ok(answers.iter().map(read).collect())
}

/// Writes answers into a list of the same length.
pub fn encode_move_answers<'a>(
    mut list: capnp::struct_list::Builder<'_, wire::move_answer::Owned>,
    answers: impl IntoIterator<Item = &'a MoveAnswer>,
) {
    for (at, answer) in (0..list.len()).zip(answers) {
        let mut wire = list.reborrow().get(at);
        match answer {
            MoveAnswer::Standing(standing) => encode_standing(wire.init_standing(), standing),
            MoveAnswer::Unknown => wire.set_unknown(()),
            MoveAnswer::Range { records, more } => {
                let mut range = wire.init_range();
                range.set_more(*more);
                let mut list = range.init_records(list_length(records.len()));
                for (at, (store_key, record)) in (0..list.len()).zip(records) {
                    let mut entry = list.reborrow().get(at);
                    entry.set_store_key(&store_key.0);
                    entry.set_record(record);
                }
            }
            MoveAnswer::Failed(failure) => encode_failure(wire.init_error(), failure),
        }
    }
}

/// How many bytes of records an answer brings, for whoever must keep within [`MOVE_BYTES_MAX`].
pub fn move_answer_bytes(answer: &MoveAnswer) -> usize {
    match answer {
        MoveAnswer::Range { records, .. } => records.iter().map(|(_, record)| ENTRY_BYTES + record.len()).sum(),
        MoveAnswer::Standing(_) | MoveAnswer::Unknown | MoveAnswer::Failed(_) => 0,
    }
}

/// What a record brings along in a message: its store key, and the pointers to both.
const ENTRY_BYTES: usize = 32 + 16;

fn question(question: wire::move_question::Reader<'_>) -> Result<MoveQuestion, Failure> {
    let view = decode_view(question.get_view())?;
    let ask = match question.which() {
        Ok(wire::move_question::Standing(())) => MoveAsk::Standing,
        Ok(wire::move_question::Adopt(())) => MoveAsk::Adopt,
        Ok(wire::move_question::Range(range)) => {
            let range = range.map_err(|error| malformed("range", error))?;
            let after = range.get_after().map_err(|error| malformed("range.after", error))?;
            let after = match after.len() {
                0 => None,
                _ => Some(StoreKey(fixed("range.after", Ok(after))?)),
            };
            MoveAsk::Range { after, bytes_max: range.get_bytes_max().min(MOVE_BYTES_MAX) }
        }
        Err(unknown) => return Err(invalid("question", format_args!("kind {} is unknown to this node", unknown.0))),
    };
    Ok(MoveQuestion { view, ask })
}

fn answer(
    wire: wire::move_answer::Reader<'_>,
    record_bytes_max: usize,
    bytes_left: &mut usize,
) -> Result<MoveAnswer, Failure> {
    let unreadable = |error: capnp::Error| broken(error.to_string());
    match wire.which() {
        Ok(wire::move_answer::Standing(standing)) => {
            decode_standing(standing.map_err(unreadable)?).map(MoveAnswer::Standing)
        }
        Ok(wire::move_answer::Unknown(())) => Ok(MoveAnswer::Unknown),
        Ok(wire::move_answer::Range(range)) => {
            let range = range.map_err(unreadable)?;
            let list = range.get_records().map_err(unreadable)?;
            let mut records: Vec<(StoreKey, Bytes)> = Vec::new();
            for entry in list.iter() {
                let store_key = StoreKey(
                    fixed("storeKey", entry.get_store_key()).map_err(|failure| broken(failure.message.into_owned()))?,
                );
                if records.last().is_some_and(|(last, _)| *last >= store_key) {
                    return Err(broken("keys that do not ascend".to_owned()));
                }
                let record = entry.get_record().map_err(unreadable)?;
                if record.is_empty() || record.len() > record_bytes_max {
                    return Err(broken(format!("record: {} bytes, 1 to {record_bytes_max} are read", record.len())));
                }
                *bytes_left = bytes_left
                    .checked_sub(record.len())
                    .ok_or_else(|| broken("more bytes of records than were asked for".to_owned()))?;
                records.push((store_key, Bytes::copy_from_slice(record)));
            }
            Ok(MoveAnswer::Range { records, more: range.get_more() })
        }
        Ok(wire::move_answer::Error(error)) => Ok(MoveAnswer::Failed(error.map_or_else(unreadable, decode_failure))),
        Err(unknown) => Err(broken(format!("answers of kind {} are unknown here", unknown.0))),
    }
}

fn encode_standing(mut wire: wire::standing::Builder<'_>, standing: &Standing) {
    encode_view(wire.reborrow().init_view(), &standing.view);
    wire.set_full(standing.full);
    wire.set_is_moved(standing.is_moved);
    wire.set_records(standing.records);
    wire.set_copied(standing.copied);
}

fn decode_standing(wire: wire::standing::Reader<'_>) -> Result<Standing, Failure> {
    let view = decode_view(wire.get_view()).map_err(|failure| broken(failure.message.into_owned()))?;
    Ok(Standing {
        view,
        full: wire.get_full(),
        is_moved: wire.get_is_moved(),
        records: wire.get_records(),
        copied: wire.get_copied(),
    })
}
