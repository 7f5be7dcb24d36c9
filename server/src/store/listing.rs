//! Listing a range of a shard: its keys with the digests of their records, all verified, a short snapshot at a time. For hash trees
//! and for the scrub, which want to know what is there and not what it says.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use dynamo::{ident::StoreKey, peer::TreePath, record};

use super::{
    SCAN_TIME_MAX,
    pages::Pages,
    tables::{RECORDS, Tables},
};

/// How often a listing looks at the clock.
const KEYS_PER_LOOK: usize = 32;

/// What a range holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// The keys in order; those whose records can't be read have no digest.
    pub(super) keys: Vec<(StoreKey, Option<u128>)>,
    /// Where to go on, if there was more than was to be listed.
    pub(super) next: Option<StoreKey>,
    /// A record stands under a key that is not its own: the key in the page was damaged, and a read of the true one finds nothing.
    pub(super) is_misplaced: bool,
    /// Records without a live version, if they were to be counted.
    pub(super) deleted: u64,
}

/// How much of a range is listed at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    pub(super) keys: usize,
    pub(super) time: Duration,
    /// Whether records without a live version are counted, which takes a look inside.
    pub(super) is_deleted_counted: bool,
}

impl Measure {
    /// As many keys, and as long as any snapshot may live.
    pub(super) fn keys(keys: usize) -> Self {
        Self { keys, time: SCAN_TIME_MAX, is_deleted_counted: false }
    }
}

/// Lists the keys from `first` to `last`.
pub(super) fn list(tables: &Tables, first: StoreKey, last: StoreKey, measure: Measure) -> Result<Listing, String> {
    let pages = Pages::of(&tables.env, &tables.file).map_err(|error| error.to_string())?;
    let (began, mut listing, mut is_malformed) = (Instant::now(), Listing::default(), false);
    let walked = pages.table(RECORDS).and_then(|tree| {
        pages.walk(&tree, Some(&first.0), &mut |key, record| {
            let Ok(key) = <[u8; 32]>::try_from(key).map(StoreKey) else {
                is_malformed = true;
                return ControlFlow::Break(());
            };
            if key > last {
                return ControlFlow::Break(());
            }
            let count = listing.keys.len();
            let is_late = count % KEYS_PER_LOOK == KEYS_PER_LOOK - 1 && began.elapsed() > measure.time;
            if count >= measure.keys || is_late {
                listing.next = Some(key);
                return ControlFlow::Break(());
            }
            listing.add(key, record, measure.is_deleted_counted);
            ControlFlow::Continue(())
        })
    });
    match walked {
        Ok(_) if !is_malformed => Ok(listing),
        Ok(_) => Err("a key has a wrong length".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Lists all of a range, in as many snapshots as it takes; up to `keys_max` and then what is over. What changes in between may or may
/// not be seen, except by the shard's writer, for which nothing changes.
pub(super) fn list_all(tables: &Tables, range: &TreePath, keys_max: usize) -> Result<Listing, String> {
    let mut all = Listing { next: Some(range.first_key()), ..Listing::default() };
    while let Some(first) = all.next.filter(|_| all.keys.len() < keys_max) {
        let room = (keys_max - all.keys.len()).min(super::SCAN_RECORDS_MAX);
        let listing = list(tables, first, range.last_key(), Measure::keys(room))?;
        all.keys.extend(listing.keys);
        all.next = listing.next;
        all.is_misplaced |= listing.is_misplaced;
    }
    Ok(all)
}

impl Listing {
    /// How many of the records can't be read.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = StoreKey> {
        self.keys.iter().filter(|(_, digest)| digest.is_none()).map(|(key, _)| *key)
    }

    fn add(&mut self, key: StoreKey, record: &[u8], is_deleted_counted: bool) {
        let digest = if is_deleted_counted {
            record::summary(&key, record).map(|summary| {
                self.deleted += u64::from(summary.live == 0);
                summary.digest
            })
        } else {
            record::verify(&key, record)
        };
        // Its checksum alone does not show it, because that is seeded with a part of the key only.
        let claimed = record::claimed_key(record);
        let is_misplaced = claimed.is_some_and(|claimed| claimed != key && record::verify(&claimed, record).is_ok());
        self.is_misplaced |= is_misplaced;
        self.keys.push((key, digest.ok().filter(|_| !is_misplaced)));
    }
}
