//! One shard: the store keys whose first bits are its number. Everything its writer and its readers share.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dynamo::{
    ident::StoreKey,
    layout::View,
    merkle::{Change, Tree},
    replica::{PartitionRow, WriteOperation, find_row},
};

use super::{
    bounds::Bounds,
    error::{OpenError, Trouble},
    feed::Feeds,
    forest::{Checkpoint, Forest, Place},
    health::Watch,
    pages::{PageError, Pages},
    queue::Queue,
    replay::{Replayed, replay},
    space::Pressure,
    tables::{PARTITIONS, RECORDS, Tables, parse_partition_key},
};

/// A commit that takes longer than this is not waited for.
const PUBLICATION_MAX: Duration = Duration::from_millis(100);

/// How often somebody looks who waits for one.
const PUBLICATION_LOOK: Duration = Duration::from_micros(100);

/// What is known of a partition, by bits and prefix.
pub(super) type Rows = HashMap<(u8, u32), PartitionRow>;

/// A shard that is open.
pub(super) struct Shard {
    pub(super) number: u8,
    pub(super) tables: Tables,
    pub(super) queue: Queue<WriteOperation>,
    pub(super) health: Watch,
    pub(super) gauges: Gauges,
    /// The rows as they are committed; of an entry, what is counted and the cursor of the first copy are not kept up to date. Readers
    /// compare the view after they have fetched their data, so it must not be older than what is acknowledged: the writer changes it
    /// between commit and acknowledgement.
    views: RwLock<Rows>,
    /// Who is told of views that change.
    feeds: Arc<Feeds>,
    /// As of the last commit that was acknowledged, or a later one.
    forest: RwLock<Forest>,
    /// The forest's position, for those who want nothing else.
    position: AtomicU64,
    /// Odd while a commit runs that is not published yet.
    commits: AtomicU64,
    /// Whether it was closed, and not ended otherwise, when it was written last.
    pub(super) was_clean: bool,
}

/// What a commit has made true.
#[derive(Debug, Default)]
pub(super) struct Committed {
    /// The rows it changed.
    pub(super) rows: Vec<PartitionRow>,
    /// What it changed in the hash trees.
    pub(super) changes: Vec<Change>,
    /// The nodes it stored.
    pub(super) checkpoint: Checkpoint,
    /// The partitions whose rows it removed.
    pub(super) uprooted: Vec<Place>,
    /// The trees of partitions that have come to be.
    pub(super) planted: Vec<(Place, Tree)>,
}

/// What a shard's writer tells about itself.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) commits: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) commit_us: AtomicU64,
    pub(super) live_bytes: AtomicU64,
    pub(super) capacity_bytes: AtomicU64,
    pressure: AtomicU64,
}

impl Gauges {
    pub(super) fn set_pressure(&self, pressure: Pressure) {
        self.pressure.store(pressure as u64, Ordering::Relaxed);
    }

    pub(super) fn pressure(&self) -> Pressure {
        match self.pressure.load(Ordering::Relaxed) {
            0 => Pressure::Free,
            1 => Pressure::Soft,
            _ => Pressure::Hard,
        }
    }
}

/// A commit that runs.
pub(super) struct Committing<'s> {
    shard: &'s Shard,
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        self.shard.commits.fetch_add(1, Ordering::AcqRel);
    }
}

impl Shard {
    /// Reads the rows of a shard that was just opened. A row that can't be read means that something unknown was forgotten,
    /// so it is refused; a tree with more or fewer records than its rows say is damaged, and only read.
    /// Brings its hash trees up; those of a directory whose format is `is_format_1` are made for the first time.
    pub(super) fn new(number: u8, tables: Tables, is_format_1: bool, feeds: Arc<Feeds>) -> Result<Self, OpenError> {
        let (rows, found) = read_rows(&tables)?;
        let expected = rows.values().map(|row| row.records).sum::<u64>();
        let health = Watch::default();
        if tables.is_truncated {
            health.damaged(name(number), "the file had lost its end when it was opened");
        } else if expected != found {
            health.damaged(name(number), format!("the partitions say {expected} records, the table says {found}"));
        }
        let Replayed { forest, is_clean, damage } = replay(&tables, &rows, !is_format_1)?;
        if let Some(what) = damage {
            health.damaged(name(number), what);
        }
        Ok(Self {
            number,
            tables,
            queue: Queue::default(),
            health,
            gauges: Gauges::default(),
            views: RwLock::new(rows),
            feeds,
            position: AtomicU64::new(forest.position()),
            forest: RwLock::new(forest),
            commits: AtomicU64::new(0),
            was_clean: is_clean && !is_format_1,
        })
    }

    /// The hash trees.
    pub(super) fn forest(&self) -> RwLockReadGuard<'_, Forest> {
        self.forest.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hash trees, to be changed by the writer alone.
    pub(super) fn forest_mut(&self) -> RwLockWriteGuard<'_, Forest> {
        self.forest.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many records have ever been changed here.
    pub(super) fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// The rows, to compare views with.
    pub(super) fn views(&self) -> RwLockReadGuard<'_, Rows> {
        self.views.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be held from before a commit until it is published.
    pub(super) fn committing(&self) -> Committing<'_> {
        self.commits.fetch_add(1, Ordering::AcqRel);
        Committing { shard: self }
    }

    /// Waits until what was committed before this call is published; `false` if that takes too long.
    pub(super) fn wait_published(&self) -> bool {
        let began = self.commits.load(Ordering::Acquire);
        let waited = Instant::now();
        while began % 2 == 1 && self.commits.load(Ordering::Acquire) == began {
            if waited.elapsed() > PUBLICATION_MAX {
                return false;
            }
            thread::sleep(PUBLICATION_LOOK);
        }
        true
    }

    /// Shows readers what a commit has changed. To be called before anybody is told of it.
    pub(super) fn publish(&self, committed: &Committed) {
        let is_news = !committed.uprooted.is_empty() || {
            let known = self.views();
            let differs = |row: &PartitionRow| known.get(&place(&row.view)).is_none_or(|known| known.is_news(row));
            committed.rows.iter().any(differs)
        };
        let mut forest = self.forest_mut();
        forest.stored(&committed.checkpoint);
        if is_news {
            committed.uprooted.iter().for_each(|place| forest.uproot(*place));
            committed.planted.iter().for_each(|(place, tree)| forest.graft(*place, tree.clone()));
            committed.rows.iter().for_each(|row| forest.adopt(place(&row.view)));
        }
        forest.apply(&committed.changes);
        self.position.store(forest.position(), Ordering::Release);
        drop(forest);
        if is_news {
            let mut known = self.views.write().unwrap_or_else(PoisonError::into_inner);
            let differs = |row: &&PartitionRow| known.get(&place(&row.view)).is_none_or(|known| known.view != row.view);
            let changed: Vec<View> = committed.rows.iter().filter(differs).map(|row| row.view).collect();
            for place in &committed.uprooted {
                known.remove(place);
            }
            known.extend(committed.rows.iter().map(|row| (place(&row.view), *row)));
            drop(known);
            self.feeds.tell(&changed);
        }
    }

    /// The addresses at which values may lie now.
    pub(super) fn bounds(&self) -> Bounds {
        self.tables.mapping.bounds(&self.tables.env)
    }

    /// Notes what an error of a read means.
    pub(super) fn note(&self, error: &heed::Error) -> Trouble {
        let trouble = Trouble::of(error);
        if trouble == Trouble::Damage {
            self.damaged(format!("LMDB: {error}"));
        }
        trouble
    }

    /// Notes damage, and hands back what it is.
    pub(super) fn damaged(&self, what: impl Into<String>) -> String {
        let what = what.into();
        self.health.damaged(name(self.number), &*what);
        what
    }
}

/// The row that a key's records are counted in; the number of bits it probably has is `bits`.
pub(super) fn row_of<'r>(rows: &'r Rows, store_key: &StoreKey, bits: u8) -> Option<&'r PartitionRow> {
    find_row(store_key, bits, |bits, prefix| rows.get(&(bits, prefix)))
}

/// What a shard is called in the log.
pub(super) fn name(number: u8) -> String {
    format!("shard {number}")
}

/// The shard of a key: the first bits of its id, so that a partition is not torn apart however many there are.
pub(super) fn shard_of(store_key: &StoreKey, shards: u8) -> usize {
    (usize::from(store_key.0[0]) * usize::from(shards)) >> 8
}

/// The shards that keys of a partition fall into: one, unless there are more shards than partitions.
pub(super) fn shards_of(prefix: u32, bits: u8, shards: u8) -> std::ops::RangeInclusive<usize> {
    shard_of(&first_key(prefix, bits), shards)..=shard_of(&last_key(prefix, bits), shards)
}

/// The lowest key a partition can have.
pub(super) fn first_key(prefix: u32, bits: u8) -> StoreKey {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&prefix_start(prefix, bits).to_be_bytes());
    StoreKey(key)
}

/// The highest key a partition can have.
pub(super) fn last_key(prefix: u32, bits: u8) -> StoreKey {
    let mut key = [0xff; 32];
    let below = u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
    key[..4].copy_from_slice(&(prefix_start(prefix, bits) | below).to_be_bytes());
    StoreKey(key)
}

/// The lowest key of a shard.
pub(super) fn first_key_of(number: u8, shards: u8) -> StoreKey {
    first_key(number.into(), shards.trailing_zeros() as u8)
}

/// The highest key of a shard.
pub(super) fn last_key_of(number: u8, shards: u8) -> StoreKey {
    last_key(number.into(), shards.trailing_zeros() as u8)
}

fn prefix_start(prefix: u32, bits: u8) -> u32 {
    prefix.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0)
}

pub(super) fn place(view: &View) -> (u8, u32) {
    (view.bits, view.prefix)
}

/// The rows of a shard, and how many records its table says it has.
fn read_rows(tables: &Tables) -> Result<(Rows, u64), OpenError> {
    let path = tables.env.path();
    let damaged = |detail: String| OpenError::Damaged { path: path.to_owned(), detail };
    let pages = Pages::of(&tables.env, &tables.file).map_err(OpenError::engine(path, "begin a transaction"))?;
    let by_page = |error: PageError| damaged(error.to_string());
    let mut rows = Ok(Rows::new());
    let partitions = pages.table(PARTITIONS).map_err(by_page)?;
    let visit = &mut |key: &[u8], row: &[u8]| {
        let Some((prefix, bits)) = parse_partition_key(key) else {
            rows = Err(damaged("a partition's row has a malformed key".to_owned()));
            return ControlFlow::Break(());
        };
        match (PartitionRow::decode(prefix, bits, row), &mut rows) {
            (Ok(row), Ok(rows)) => drop(rows.insert((bits, prefix), row)),
            (Err(error), _) => {
                rows = Err(damaged(format!("the row of partition {prefix:#x}/{bits}: {error:?}")));
                return ControlFlow::Break(());
            }
            (Ok(_), Err(_)) => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    };
    pages.walk(&partitions, None, visit).map_err(by_page)?;
    let rows = rows?;
    if rows.len() as u64 != partitions.entries {
        let detail =
            format!("{} rows of partitions were found, and there should be {}", rows.len(), partitions.entries);
        return Err(damaged(detail));
    }
    let records = pages.table(RECORDS).map_err(by_page)?.entries;
    Ok((rows, records))
}

#[cfg(test)]
mod tests {
    use super::{first_key, last_key, shard_of, shards_of};

    #[test]
    fn a_partition_lies_in_one_shard_when_there_are_enough_partitions() {
        for shards in [1_u8, 2, 4, 8, 16] {
            for bits in [8_u8, 10, 20] {
                for prefix in [0, 1, (1 << bits) / 2, (1 << bits) - 1] {
                    let range = shards_of(prefix, bits, shards);
                    assert_eq!(range.start(), range.end(), "{prefix:#x}/{bits} of {shards}");
                    assert_eq!(first_key(prefix, bits).id().prefix(bits), prefix);
                    assert_eq!(last_key(prefix, bits).id().prefix(bits), prefix);
                }
            }
            assert_eq!(shards_of(0, 0, shards), 0..=usize::from(shards) - 1);
            assert_eq!(shard_of(&last_key(0, 0), shards), usize::from(shards) - 1);
        }
    }

    #[test]
    fn the_shards_in_order_hold_the_keys_in_order() {
        let numbers: Vec<usize> = (0..=255).map(|first| shard_of(&first_key(first, 8), 4)).collect();
        assert!(numbers.is_sorted());
        assert_eq!((numbers[0], numbers[64], numbers[128], numbers[255]), (0, 1, 2, 3));
    }
}
