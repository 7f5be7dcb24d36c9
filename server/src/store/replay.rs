//! Where a shard's hash trees come from when it is opened: the stored copies of their nodes, and over them what the log says has
//! changed since. Where one of the two can't be used, or they contradict the rows, a tree is made anew from the records. Nobody writes
//! meanwhile.

use std::{collections::HashMap, ops::ControlFlow};

use dynamo::{
    ident::StoreKey,
    merkle::{Change, Tree},
    peer::TreePath,
    replica::PartitionRow,
};

use super::{
    SCAN_RECORDS_MAX,
    error::OpenError,
    forest::Forest,
    listing::{Measure, list},
    log,
    pages::Pages,
    shard::Rows,
    tables::{CHANGES, STAMP_CLOSED, TREES, Tables, parse_node_key, stamp_if_any},
};

/// The trees of a shard as it was opened.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) forest: Forest,
    /// The shard was closed at this very position.
    pub(super) is_clean: bool,
    /// What is wrong with the shard, if anything is.
    pub(super) damage: Option<String>,
}

/// Brings the trees of a shard up to its last commit. Without trust in what is stored, everything is made anew.
pub(super) fn replay(tables: &Tables, rows: &Rows, is_trusted: bool) -> Result<Replayed, OpenError> {
    let path = tables.env.path();
    let damaged = |detail: String| OpenError::Damaged { path: path.to_owned(), detail };
    let pages = Pages::of(&tables.env, &tables.file).map_err(OpenError::engine(path, "begin a transaction"))?;
    let (trees, stored) = restore(&pages, rows);
    let mut forest = Forest::at(0);
    trees.into_iter().for_each(|(place, tree)| forest.plant(place, tree));
    // A log that can't be read may have lost its end: then nobody knows what was forgotten.
    let is_read = read_log(&pages, &mut forest).map_err(damaged)?;
    drop(pages);
    let mut damage = stored.err();
    let is_trusted = is_trusted && is_read && damage.is_none();
    for (place, row) in rows {
        if is_trusted && forest.total(*place).is_some_and(|total| total.count == row.records) {
            continue;
        }
        match count(tables, *place, row) {
            Ok(tree) => forest.replant(*place, tree),
            Err(what) => drop(damage.get_or_insert(what)),
        }
    }
    forest.settle();
    let closed = closed_at(tables)?;
    if closed > Some(forest.position()) {
        return Err(damaged(format!("the log of changes ends before position {closed:?}, where the shard was closed")));
    }
    let is_clean = closed == Some(forest.position());
    Ok(Replayed { forest, is_clean, damage })
}

/// The position at which a shard was closed last, as its stamp says; `None` if it never was.
pub(super) fn closed_at(tables: &Tables) -> Result<Option<u64>, OpenError> {
    let path = tables.env.path();
    let read = tables.env.read_txn().map_err(OpenError::engine(path, "begin a transaction"))?;
    let stamp = stamp_if_any(path, &tables.stamps, &read, STAMP_CLOSED)?;
    Ok(stamp.and_then(|stamp| stamp.try_into().ok()).map(u64::from_le_bytes))
}

/// Reads the stored copies. Those that can't be used leave their tree empty, which the row will contradict.
fn restore(pages: &Pages<'_>, rows: &Rows) -> (HashMap<(u8, u32), Tree>, Result<(), String>) {
    let mut trees: HashMap<(u8, u32), Tree> = rows.keys().map(|place| (*place, Tree::new(place.1, place.0))).collect();
    let mut unusable = 0_u64;
    let walked = pages.table(TREES).and_then(|table| {
        pages.walk(&table, None, &mut |key, node| {
            let restored = parse_node_key(key).map(|range| {
                let mut owners = trees.values_mut().filter(|tree| tree.path().covers(&range));
                owners.next().map_or(Ok(()), |tree| tree.restore(&range, node))
            });
            unusable += u64::from(!matches!(restored, Some(Ok(()))));
            ControlFlow::Continue(())
        })
    });
    if unusable > 0 {
        tracing::warn!(
            nodes = unusable,
            "stored copies of hash trees can't be used; they are made anew from the records"
        );
        // Which partitions they were of may not be known either.
        trees.clear();
    }
    (trees, walked.map(drop).map_err(|error| format!("stored hash trees: {error}")))
}

/// Applies the log; whether all of it could be read. An error if there may have been more of it.
fn read_log(pages: &Pages<'_>, forest: &mut Forest) -> Result<bool, String> {
    let table = pages.table(CHANGES).map_err(|error| error.to_string())?;
    let (mut entries, mut last, mut is_read) = (0_u64, 0, true);
    let walked = pages.walk(&table, None, &mut |key, entry| {
        let Some(position) = log::position_of(key) else {
            is_read = false;
            return ControlFlow::Continue(());
        };
        entries += 1;
        match log::decode(position, entry) {
            Some(changes) if last == 0 || last + changes.len() as u64 == position => {
                let first = position + 1 - changes.len() as u64;
                changes.iter().zip(first..).for_each(|(change, position)| forest.apply_at(position, change));
            }
            Some(_) | None => is_read = false,
        }
        last = position;
        ControlFlow::Continue(())
    });
    walked.map_err(|error| format!("the log of changes: {error}"))?;
    if entries != table.entries {
        return Err(format!("the log of changes has {entries} entries, and there should be {}", table.entries));
    }
    if !is_read {
        tracing::warn!("the log of changes is damaged; all hash trees are made anew from the records");
        forest.skip_to(last);
    }
    Ok(is_read)
}

/// Makes the tree of a partition from its records, and says so if they are not what the row has counted.
fn count(tables: &Tables, (bits, prefix): (u8, u32), row: &PartitionRow) -> Result<Tree, String> {
    let range = TreePath::of_partition(prefix, bits);
    let mut tree = Tree::new(prefix, bits);
    let (mut first, mut records, mut unreadable, mut sum) = (Some(range.first_key()), 0_u64, 0_u64, 0_u128);
    while let Some(from) = first {
        let listing = list(tables, from, range.last_key(), Measure::keys(SCAN_RECORDS_MAX))?;
        if listing.is_misplaced {
            return Err(format!("partition {prefix:#x}/{bits}: a record stands under a key that is not its own"));
        }
        for (key, digest) in &listing.keys {
            records += 1;
            unreadable += u64::from(digest.is_none());
            sum = sum.wrapping_add(digest.unwrap_or(0));
            tree.apply(&counted(key, *digest), 1, &mut |_| {});
        }
        first = listing.next;
    }
    let is_sum_wrong = unreadable == 0 && row.forgotten == 0 && sum != row.sum;
    if records != row.records || is_sum_wrong {
        let expected = row.records;
        return Err(format!(
            "partition {prefix:#x}/{bits} has {records} records, and its row says {expected} and another sum"
        ));
    }
    Ok(tree)
}

/// A record that is found: one that can't be read counts, and what it adds is not known.
fn counted(key: &StoreKey, digest: Option<u128>) -> Change {
    let change = Change::of(key, None, Some(digest.unwrap_or(0)));
    Change { sum: if digest.is_some() { change.sum } else { Some(0) }, ..change }
}
