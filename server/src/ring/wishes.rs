//! Which layouts somebody showed that this node does not have, and who did: told by any thread without waiting, taken in by
//! the one task that fetches. However often an epoch is heard of, it is one wish.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Mutex, PoisonError},
};

use dynamo::ident::NodeId;
use tokio::sync::Notify;

/// Most nodes that are remembered as knowing more: one of them is asked, the others are for when it does not answer.
const SOURCES_MAX: usize = 16;

/// Wishes for layouts.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    wish: Mutex<Wish>,
    wake: Notify,
}

/// The newest layout that was heard of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Its epoch.
    pub(crate) epoch: u64,
    /// Who may have it.
    pub(crate) sources: BTreeSet<NodeId>,
}

impl Wishes {
    /// The layout of this epoch is wanted, and may be had there.
    pub(crate) fn wish(&self, epoch: u64, from: Option<NodeId>) {
        let is_new = {
            let wish = &mut *self.wish.lock().unwrap_or_else(PoisonError::into_inner);
            let is_newer = epoch > wish.epoch;
            if is_newer {
                *wish = Wish { epoch, sources: BTreeSet::new() };
            }
            let has_room = epoch == wish.epoch && wish.sources.len() < SOURCES_MAX;
            is_newer | from.is_some_and(|from| has_room && wish.sources.insert(from))
        };
        if is_new {
            self.wake.notify_one();
        }
    }

    /// Waits for something new to be wished.
    pub(crate) async fn told(&self) {
        self.wake.notified().await;
    }

    /// Takes in what is wished.
    pub(crate) fn take(&self) -> Wish {
        mem::take(&mut *self.wish.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dynamo::ident::NodeId;

    use super::{Wish, Wishes};

    #[test]
    fn the_newest_epoch_is_wished_for_from_those_who_showed_it() {
        let wishes = Wishes::default();
        wishes.wish(3, Some(NodeId(1)));
        wishes.wish(5, Some(NodeId(2)));
        wishes.wish(5, Some(NodeId(3)));
        wishes.wish(4, Some(NodeId(4)));
        assert_eq!(wishes.take(), Wish { epoch: 5, sources: BTreeSet::from([NodeId(2), NodeId(3)]) });
        assert_eq!(wishes.take(), Wish::default());
    }
}
