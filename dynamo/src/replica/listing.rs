//! What the records of a range tell without being decoded: how a replica counts a partition that comes to be by a split, and what it
//! deletes of one that was handed over.

use crate::{ident::StoreKey, record};

/// A record of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub store_key: StoreKey,
    /// Its digest, and whether it has no live version; `None` if it can't be read.
    pub outline: Option<(u128, bool)>,
}

impl Listed {
    /// A record as its head describes it: for those who look at so many that they must not touch the values. A damaged one may pass for
    /// sound, so whoever uses this compares the sum of all with what it should be.
    pub fn outlined(store_key: StoreKey, bytes: &[u8]) -> Self {
        Self { store_key, outline: record::outline(bytes) }
    }

    /// A record that has been verified.
    pub fn verified(store_key: StoreKey, bytes: &[u8]) -> Self {
        let summary = record::summary(&store_key, bytes).ok();
        Self { store_key, outline: summary.map(|summary| (summary.digest, summary.live == 0)) }
    }
}

/// What somebody counted who has read a whole partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many records.
    pub records: u64,
    /// How many of them have no live version.
    pub deleted: u64,
    /// Their digests, added up.
    pub sum: u128,
}

/// What was counted of a partition that comes to be by a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    /// Its records; of those that can't be read, only how many there are.
    pub counted: Counted,
    /// How many of them can't be read.
    pub unreadable: u64,
}

impl Planted {
    /// Counts one more.
    pub fn add(&mut self, listed: &Listed) {
        self.counted.records += 1;
        match listed.outline {
            Some((digest, is_deleted)) => {
                self.counted.sum = self.counted.sum.wrapping_add(digest);
                self.counted.deleted += u64::from(is_deleted);
            }
            None => self.unreadable += 1,
        }
    }
}
