//! Questions to hash trees and their answers, in batches between nodes.
//!
//! An answer is small in a message and larger here, and a message may point to the same list many times: what bounds an
//! answer is how many sums and keys it brings altogether.

use dynamo::{
    ident::StoreKey,
    operation::Failure,
    peer::{TreeAnswer, TreeAsk, TreePath, TreeQuestion, TreeSum},
};

use super::{
    decode_failure, encode_failure, fixed, invalid, list_length,
    operation::{halves, whole},
    peer::{broken, decode_view, encode_view},
    too_large,
};
use crate::peer_capnp as wire;

/// Most questions of one call.
pub const TREE_QUESTIONS_MAX: usize = 1024;

/// Most keys of all answers to one call together: 4 MiB of a message, as much as any batch has.
pub const TREE_KEYS_MAX: usize = 65_536;

/// How many ranges a range is divided into.
const CHILDREN: usize = 256;

/// How many bits a path can have.
const PATH_BITS_MAX: u8 = 64;

/// Reads the questions of a call. One that breaks the contract has its own failure; too many are refused as a whole.
pub fn decode_tree_questions(
    questions: capnp::struct_list::Reader<'_, wire::tree_question::Owned>,
) -> Result<Vec<Result<TreeQuestion, Failure>>, Failure> {
    let count = questions.len() as usize;
    if count > TREE_QUESTIONS_MAX {
        return Err(too_large("questions", TREE_QUESTIONS_MAX, count, "questions"));
    }
    Ok(questions.iter().map(question).collect())
}

/// Writes questions into a list of the same length.
pub fn encode_tree_questions<'a>(
    mut list: capnp::struct_list::Builder<'_, wire::tree_question::Owned>,
    questions: impl IntoIterator<Item = &'a TreeQuestion>,
) {
    for (at, TreeQuestion { view, path, ask }) in (0..list.len()).zip(questions) {
        let mut wire = list.reborrow().get(at);
        encode_view(wire.reborrow().init_view(), view);
        wire.set_path(path.prefix);
        wire.set_path_bits(path.bits);
        match ask {
            TreeAsk::Sum => wire.set_sum(()),
            TreeAsk::Children => wire.set_children(()),
            TreeAsk::Keys(most) => wire.set_keys(*most),
        }
    }
}

/// Reads the answers to `expected` questions: exactly so many, in their order. A single error for several questions speaks
/// for all of them.
pub fn decode_tree_answers(
    answers: capnp::struct_list::Reader<'_, wire::tree_answer::Owned>,
    expected: usize,
) -> Result<Vec<TreeAnswer>, Failure> {
    let count = answers.len() as usize;
    if count != expected {
        if count == 1
            && let Ok(wire::tree_answer::Error(Ok(error))) = answers.get(0).which()
        {
            return Err(decode_failure(error));
        }
        return Err(broken(format!("{count} answers came for {expected} questions")));
    }
    let mut keys_left = TREE_KEYS_MAX;
    let read = |wire| answer(wire, &mut keys_left).unwrap_or_else(TreeAnswer::Failed);
    Ok(answers.iter().map(read).collect())
}

/// Writes answers into a list of the same length.
pub fn encode_tree_answers<'a>(
    mut list: capnp::struct_list::Builder<'_, wire::tree_answer::Owned>,
    answers: impl IntoIterator<Item = &'a TreeAnswer>,
) {
    for (at, answer) in (0..list.len()).zip(answers) {
        let mut wire = list.reborrow().get(at);
        match answer {
            TreeAnswer::Sum(sum) => encode_sum(wire.init_sum(), sum),
            TreeAnswer::Children(children) => {
                let mut list = wire.init_children(list_length(children.len()));
                for (at, child) in (0..list.len()).zip(children) {
                    encode_sum(list.reborrow().get(at), child);
                }
            }
            TreeAnswer::Keys { keys, more } => {
                wire.set_more(*more);
                let mut list = wire.init_keys(list_length(keys.len()));
                for (at, (store_key, digest)) in (0..list.len()).zip(keys) {
                    let mut entry = list.reborrow().get(at);
                    entry.set_store_key(&store_key.0);
                    let (high, low) = halves(*digest);
                    let mut digest = entry.init_digest();
                    digest.set_high(high);
                    digest.set_low(low);
                }
            }
            TreeAnswer::Stale(view) => encode_view(wire.init_stale(), view),
            TreeAnswer::Failed(failure) => encode_failure(wire.init_error(), failure),
        }
    }
}

/// How many keys an answer brings, for whoever must keep within [`TREE_KEYS_MAX`].
pub fn tree_answer_keys(answer: &TreeAnswer) -> usize {
    match answer {
        TreeAnswer::Keys { keys, .. } => keys.len(),
        TreeAnswer::Sum(_) | TreeAnswer::Children(_) | TreeAnswer::Stale(_) | TreeAnswer::Failed(_) => 0,
    }
}

fn question(question: wire::tree_question::Reader<'_>) -> Result<TreeQuestion, Failure> {
    let view = decode_view(question.get_view())?;
    let path = TreePath { prefix: question.get_path(), bits: question.get_path_bits() };
    if path.bits > PATH_BITS_MAX || path.bits < view.bits {
        let (bits, least) = (path.bits, view.bits);
        return Err(invalid("pathBits", format_args!("{bits}, but a path into this partition has {least} to 64 bits")));
    }
    let beyond = u64::MAX.checked_shr(u32::from(path.bits)).unwrap_or(0);
    let partition = path.prefix.checked_shr(64 - u32::from(view.bits)).unwrap_or(0);
    if path.prefix & beyond != 0 || partition != u64::from(view.prefix) {
        return Err(invalid("path", "it has more bits than pathBits says, or leads into another partition"));
    }
    let ask = match question.which() {
        Ok(wire::tree_question::Sum(())) => TreeAsk::Sum,
        Ok(wire::tree_question::Children(())) if path.bits > PATH_BITS_MAX - 8 => {
            return Err(invalid("children", format_args!("a path of {} bits has none", path.bits)));
        }
        Ok(wire::tree_question::Children(())) => TreeAsk::Children,
        Ok(wire::tree_question::Keys(most)) => TreeAsk::Keys(most),
        Err(unknown) => return Err(invalid("question", format_args!("kind {} is unknown to this node", unknown.0))),
    };
    Ok(TreeQuestion { view, path, ask })
}

fn answer(wire: wire::tree_answer::Reader<'_>, keys_left: &mut usize) -> Result<TreeAnswer, Failure> {
    let unreadable = |error: capnp::Error| broken(error.to_string());
    match wire.which() {
        Ok(wire::tree_answer::Sum(sum)) => Ok(TreeAnswer::Sum(decode_sum(sum.map_err(unreadable)?))),
        Ok(wire::tree_answer::Children(children)) => {
            let children = children.map_err(unreadable)?;
            if children.len() as usize != CHILDREN {
                return Err(broken(format!("{} children instead of {CHILDREN}", children.len())));
            }
            Ok(TreeAnswer::Children(children.iter().map(decode_sum).collect()))
        }
        Ok(wire::tree_answer::Keys(keys)) => {
            let keys = keys.map_err(unreadable)?;
            let count = keys.len() as usize;
            *keys_left = keys_left
                .checked_sub(count)
                .ok_or_else(|| broken(format!("more than {TREE_KEYS_MAX} keys came at once")))?;
            let mut read: Vec<(StoreKey, u128)> = Vec::with_capacity(count);
            for key in keys.iter() {
                let store_key = StoreKey(
                    fixed("storeKey", key.get_store_key()).map_err(|failure| broken(failure.message.into_owned()))?,
                );
                if read.last().is_some_and(|(last, _)| *last >= store_key) {
                    return Err(broken("keys that do not ascend".to_owned()));
                }
                let digest = key.get_digest().map_err(unreadable)?;
                read.push((store_key, whole(digest.get_high(), digest.get_low())));
            }
            Ok(TreeAnswer::Keys { keys: read, more: wire.get_more() })
        }
        Ok(wire::tree_answer::Stale(view)) => {
            decode_view(view).map(TreeAnswer::Stale).map_err(|failure| broken(failure.message.into_owned()))
        }
        Ok(wire::tree_answer::Error(error)) => Ok(TreeAnswer::Failed(error.map_or_else(unreadable, decode_failure))),
        Err(unknown) => Err(broken(format!("answers of kind {} are unknown here", unknown.0))),
    }
}

fn decode_sum(sum: wire::tree_sum::Reader<'_>) -> TreeSum {
    TreeSum { count: sum.get_count(), sum: sum.get_sum() }
}

fn encode_sum(mut wire: wire::tree_sum::Builder<'_>, sum: &TreeSum) {
    wire.set_count(sum.count);
    wire.set_sum(sum.sum);
}
