//! Answering questions to hash trees: from memory, or from the records of a range that memory does not tell apart.

use dynamo::{
    ident::StoreKey,
    merkle::{self, KEYS_MAX},
    operation::{ErrorCode, Failure},
    peer::{TreeAnswer, TreeAsk, TreeQuestion},
    replica::Refusal,
};

use super::{
    Store,
    listing::list_all,
    shard::{Shard, place, row_of, shard_of},
};

/// Records that are read for the sum of a range which has no node yet although it should.
const SUM_KEYS_MAX: usize = 16 * KEYS_MAX as usize;

impl Store {
    /// Answers a question: data first, view after. Reads records only below what memory holds, and then not many.
    pub fn tree(&self, question: &TreeQuestion) -> TreeAnswer {
        let shards = self.identity().shards;
        let [first, last] = [question.path.first_key(), question.path.last_key()].map(|key| shard_of(&key, shards));
        if first != last {
            let message = "the partition is kept in several parts here; compare ranges with more bits";
            return TreeAnswer::Failed(Failure::new(ErrorCode::Unsupported, message));
        }
        let shard = self.shard(first);
        let answer = answer(shard, question);
        let views = shard.views();
        match merkle::check(row_of(&views, &question.path.first_key(), question.view.bits), question) {
            Ok(()) => answer,
            Err(Refusal::Stale(view)) => TreeAnswer::Stale(view),
            Err(Refusal::Behind(_)) => {
                let message =
                    "this node has not learned of the sender's view; nothing was compared, ask it again later";
                TreeAnswer::Failed(Failure::new(ErrorCode::StaleView, message))
            }
            Err(Refusal::Failed(failure)) => TreeAnswer::Failed(failure),
        }
    }

    /// The positions of the shards, in order. They never go back, unless the directory is replaced by an older copy of itself.
    pub fn positions(&self) -> Vec<u64> {
        self.shards().map(Shard::position).collect()
    }

    /// Whether the store was not closed in order when it was written last: something that was in flight then may be missing here.
    pub fn was_unclean(&self) -> bool {
        self.shards().any(|shard| !shard.was_clean)
    }

    /// Whether nothing is known to be wrong with the shard of a key as a whole.
    pub fn is_sound(&self, store_key: &StoreKey) -> bool {
        self.shard(self.shard_of(store_key)).health.is_sound()
    }

    /// Bytes of memory that the hash trees take, about.
    pub fn tree_bytes(&self) -> usize {
        self.shards().map(|shard| shard.forest().memory_bytes()).sum()
    }
}

fn answer(shard: &Shard, question: &TreeQuestion) -> TreeAnswer {
    let TreeQuestion { view, path, ask } = question;
    if !shard.health.is_sound() {
        let message = "this part of the node's store is damaged or has failed; compare with other owners";
        return TreeAnswer::Failed(Failure::new(ErrorCode::Corrupt, message));
    }
    if path.bits < view.bits || !path.is_sound() {
        // Whoever checks the question next will say so.
        return TreeAnswer::Failed(Failure::new(ErrorCode::InvalidRequest, "no such path; nothing was compared"));
    }
    if let Some(answer) = shard.forest().answer(place(view), path, *ask) {
        return answer;
    }
    let most = match ask {
        TreeAsk::Sum | TreeAsk::Children => SUM_KEYS_MAX,
        TreeAsk::Keys(most) => (*most).min(KEYS_MAX) as usize,
    };
    match list_all(&shard.tables, path, most) {
        Ok(listing) => {
            let keys =
                listing.keys.into_iter().map(|(key, digest)| (key, digest.unwrap_or(merkle::UNREADABLE))).collect();
            merkle::answer_of(path, *ask, merkle::Listing { keys, more: listing.next.is_some() })
        }
        Err(what) => {
            let message =
                format!("this node's store could not be read ({}); nothing was compared", shard.damaged(what));
            TreeAnswer::Failed(Failure::with_message(ErrorCode::Unavailable, message))
        }
    }
}
