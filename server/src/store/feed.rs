//! Who must hear when a row's view changes: the workers, whose coordinators would otherwise learn it only from a refusal. Of every
//! partition a feed holds the newest view that was not drained yet, so it is bounded by the number of partitions however slow its owner is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use dynamo::layout::View;
use tokio::sync::Notify;

use super::shard::place;

/// Where one listener learns of views.
#[derive(Debug, Default)]
pub struct ViewFeed {
    arrived: Mutex<BTreeMap<(u8, u32), View>>,
    wake: Notify,
}

impl ViewFeed {
    /// Waits until something may have arrived. To be followed by [`ViewFeed::drain`]; only one task may wait.
    pub async fn arrived(&self) {
        self.wake.notified().await;
    }

    /// Moves what has arrived to the end of `into`: of each partition its newest view.
    pub fn drain(&self, into: &mut Vec<View>) {
        let arrived = std::mem::take(&mut *self.lock());
        into.extend(arrived.into_values());
    }

    /// Takes views in and wakes the listener once. Views of one partition only grow, so the order in which they come does not matter.
    pub(super) fn tell(&self, views: impl IntoIterator<Item = View>) {
        let mut arrived = self.lock();
        for view in views {
            arrived.entry(place(&view)).and_modify(|known| *known = known.join(&view)).or_insert(view);
        }
        drop(arrived);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u8, u32), View>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All feeds of a store. Those whose owners are gone are forgotten.
#[derive(Debug, Default)]
pub(super) struct Feeds(Mutex<Vec<Weak<ViewFeed>>>);

impl Feeds {
    /// A feed that hears of everything from now on.
    pub(super) fn open(&self) -> Arc<ViewFeed> {
        let feed = Arc::new(ViewFeed::default());
        self.lock().push(Arc::downgrade(&feed));
        feed
    }

    /// Tells every feed.
    pub(super) fn tell(&self, views: &[View]) {
        if views.is_empty() {
            return;
        }
        self.lock().retain(|feed| {
            let Some(feed) = feed.upgrade() else { return false };
            feed.tell(views.iter().copied());
            true
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<ViewFeed>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
