//! Answering questions to a tree: from memory, or from the keys of a range that memory does not tell apart.

use alloc::{vec, vec::Vec};

use super::{FANOUT, Tree, path, term};
use crate::{
    bug::{self, Bug},
    ident::StoreKey,
    operation::{ErrorCode, Failure},
    peer::{TreeAnswer, TreeAsk, TreePath, TreeQuestion, TreeSum},
    replica::{PartitionRow, Refusal, check_read},
};

/// Most keys of one answer: what one chunk of a scan reads.
pub const KEYS_MAX: u32 = 1_000;

/// The bucket that [`Bug::SkipTreeBucket`] skips.
const SKIPPED: usize = 0x5a;

/// Stands for the digest of a record that can't be read. It is listed, for whoever compares would else take it for absent, and believe that
/// it has all that the other side holds.
pub const UNREADABLE: u128 = 0;

/// Keys of a range with the digests of their records, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The keys, from the first on.
    pub keys: Vec<(StoreKey, u128)>,
    /// There are more.
    pub more: bool,
}

/// Whether an answer that was made *before* this row was looked at may be given to a question.
pub fn check(row: Option<&PartitionRow>, question: &TreeQuestion) -> Result<(), Refusal> {
    let TreeQuestion { view, path, ask } = question;
    let partition = TreePath::of_partition(view.prefix, view.bits);
    let is_childless = matches!(ask, TreeAsk::Children) && path.child(0).is_none();
    if view.bits > 32 || !partition.is_sound() || !path.is_sound() || !partition.covers(path) || is_childless {
        let message = "the path of the question does not lead into its partition; nothing was compared";
        return Err(Refusal::Failed(Failure::new(ErrorCode::InvalidRequest, message)));
    }
    check_read(row, &path.first_key(), view)
}

/// Answers a question about a range from a listing of its keys. For sums the listing must be complete, for keys it must
/// have been made for as many as were asked for, and at most [`KEYS_MAX`].
pub fn answer_of(path: &TreePath, ask: TreeAsk, mut listing: Listing) -> TreeAnswer {
    let add = |sum: &mut TreeSum, key: &StoreKey, digest: u128| {
        sum.count += 1;
        // As in the tree: one that can't be read counts, and what it adds is not known.
        sum.sum = sum.sum.wrapping_add(if digest == UNREADABLE { 0 } else { term(key, digest) });
    };
    match ask {
        TreeAsk::Sum | TreeAsk::Children if listing.more => {
            let message = "the range has more keys than one answer may read; ask for its parts, or later";
            TreeAnswer::Failed(Failure::new(ErrorCode::Overloaded, message))
        }
        TreeAsk::Sum => {
            let mut total = TreeSum::default();
            listing.keys.iter().for_each(|(key, digest)| add(&mut total, key, *digest));
            TreeAnswer::Sum(total)
        }
        TreeAsk::Children => {
            let mut parts = vec![TreeSum::default(); FANOUT];
            for (key, digest) in &listing.keys {
                add(&mut parts[usize::from(path.part_of(path::position(key)))], key, *digest);
            }
            TreeAnswer::Children(skipping(parts))
        }
        TreeAsk::Keys(most) => {
            let most = most.min(KEYS_MAX) as usize;
            let more = listing.more || listing.keys.len() > most;
            listing.keys.truncate(most);
            TreeAnswer::Keys { keys: listing.keys, more }
        }
    }
}

impl Tree {
    /// The answer to a question about a range of this partition, if memory holds it. If not, [`answer_of`] makes it from the keys.
    pub fn answer(&self, path: &TreePath, ask: TreeAsk) -> Option<TreeAnswer> {
        match ask {
            TreeAsk::Sum => self.sum(path).map(TreeAnswer::Sum),
            TreeAsk::Children => self.node(path).map(|node| TreeAnswer::Children(skipping(node.slots()))),
            TreeAsk::Keys(_) => None,
        }
    }
}

fn skipping(mut parts: Vec<TreeSum>) -> Vec<TreeSum> {
    if bug::is_on(Bug::SkipTreeBucket) {
        parts[SKIPPED] = TreeSum::default();
    }
    parts
}
