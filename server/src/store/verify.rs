//! The scrub: reads a whole shard, page by page, and compares it with what its rows say. Checksums inside records show
//! what is damaged; only the sums in the rows show what is *missing*, because a damaged page can lose keys without any
//! error.

use std::{collections::BTreeMap, ops::ControlFlow};

use dynamo::{ident::StoreKey, record, replica::PartitionRow};

use super::{
    Store,
    pages::Pages,
    shard::{Shard, first_key, last_key},
    tables::{PARTITIONS, RECORDS, Tables, parse_partition_key},
};

/// Damaged keys that a report names; the count goes on.
const KEYS_NAMED_MAX: usize = 100;

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records that verify.
    pub sound: u64,
    /// Records that don't.
    pub damaged: u64,
    /// Records that the rows count and nobody finds.
    pub missing: u64,
    /// Records that no row counts.
    pub surplus: u64,
    /// Partitions in which something is wrong, also where the counts agree and only the sums differ.
    pub partitions_wrong: u64,
    /// Partitions.
    pub partitions: u64,
    /// Partitions whose rows are unsure of their sums, because records were rebuilt; they are about to be counted.
    pub partitions_unsure: u64,
    /// Partitions that could not be looked at, for want of a snapshot say; nothing is known of them.
    pub partitions_unread: u64,
    /// Some of the damaged keys.
    pub damaged_keys: Vec<StoreKey>,
    /// What is wrong with pages and rows, or why something could not be looked at. Behind a damaged page a partition is not read any further.
    pub errors: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damaged == 0 && self.partitions_unread == 0 && self.errors.is_empty() && !self.has_losses()
    }

    /// Whether more is wrong than records that are known to be damaged.
    fn has_losses(&self) -> bool {
        self.missing > 0 || self.surplus > 0 || self.partitions_wrong > 0
    }

    fn add(&mut self, other: Self) {
        self.sound += other.sound;
        self.damaged += other.damaged;
        self.missing += other.missing;
        self.surplus += other.surplus;
        self.partitions_wrong += other.partitions_wrong;
        self.partitions += other.partitions;
        self.partitions_unsure += other.partitions_unsure;
        self.partitions_unread += other.partitions_unread;
        let room = KEYS_NAMED_MAX.saturating_sub(self.damaged_keys.len());
        self.damaged_keys.extend(other.damaged_keys.into_iter().take(room));
        self.errors.extend(other.errors);
    }
}

impl Store {
    /// Reads everything and says what is wrong, from a snapshot per partition, so that nothing is held back for long. A
    /// shard that has lost records or can't be listed counts as damaged from now on: it is no longer written, and what is
    /// not found there counts as unreadable. Damaged records alone don't condemn their shard; they are known for what they
    /// are.
    pub fn verify(&self) -> Report {
        let mut report = Report::default();
        for shard in self.shards() {
            report.add(verify_shard(shard));
        }
        report
    }
}

fn verify_shard(shard: &Shard) -> Report {
    let mut report = Report::default();
    let places: BTreeMap<(u8, u32), ()> = shard.views().keys().map(|place| (*place, ())).collect();
    for (bits, prefix) in places.into_keys() {
        match Pages::of(&shard.tables.env, &shard.tables.file) {
            Ok(pages) => report.add(verify_partition(&pages, prefix, bits)),
            Err(error) => {
                report.partitions_unread += 1;
                report.errors.push(format!("partition {prefix:#x}/{bits}: {error}"));
            }
        }
    }
    match Pages::of(&shard.tables.env, &shard.tables.file) {
        Ok(pages) => match count_strays(&pages) {
            Ok(strays) => report.surplus += strays,
            Err(error) => {
                report.partitions_wrong += 1;
                report.errors.push(error);
            }
        },
        Err(error) => report.errors.push(format!("counting all records: {error}")),
    }
    if report.has_losses() {
        let Report { missing, surplus, partitions_wrong, .. } = &report;
        shard.damaged(format!(
            "a scrub found {partitions_wrong} partitions wrong, {missing} records missing, {surplus} too many"
        ));
    }
    report
}

fn verify_partition(pages: &Pages<'_>, prefix: u32, bits: u8) -> Report {
    let (first, last) = (first_key(prefix, bits), last_key(prefix, bits));
    let mut report = Report { partitions: 1, ..Report::default() };
    let mut sum = 0_u128;
    let (mut is_malformed, mut misplaced) = (false, 0_u64);
    let walked = pages.table(RECORDS).and_then(|tree| {
        pages.walk(&tree, Some(&first.0), &mut |key, record| {
            let Ok(key) = <[u8; 32]>::try_from(key).map(StoreKey) else {
                is_malformed = true;
                return ControlFlow::Break(());
            };
            if key > last {
                return ControlFlow::Break(());
            }
            match (record::verify(&key, record), is_misplaced(&key, record)) {
                (Ok(digest), false) => {
                    report.sound += 1;
                    sum = sum.wrapping_add(digest);
                }
                (Ok(_) | Err(_), is_misplaced) => {
                    report.damaged += 1;
                    report.damaged_keys.push(key);
                    misplaced += u64::from(is_misplaced);
                }
            }
            ControlFlow::Continue(())
        })
    });
    let mut note = |what: &dyn std::fmt::Display| report.errors.push(format!("partition {prefix:#x}/{bits}: {what}"));
    if let Err(error) = walked {
        note(&error);
    } else if is_malformed {
        note(&"a key has a wrong length");
    }
    if misplaced > 0 {
        note(&format_args!("{misplaced} records stand under keys that are not theirs"));
    }
    let row = match row_of(pages, prefix, bits) {
        Ok(row) => row,
        Err(error) => {
            note(&error);
            report.partitions_wrong = 1;
            return report;
        }
    };
    report.partitions_unsure = u64::from(row.forgotten > 0);
    let records = report.sound + report.damaged;
    report.missing = row.records.saturating_sub(records);
    report.surplus = records.saturating_sub(row.records);
    // What a damaged record adds is unknown, and what one has added that was rebuilt since, until it is counted again.
    let is_sum_wrong = report.damaged == 0 && row.forgotten == 0 && sum != row.sum;
    report.partitions_wrong = u64::from(row.records != records || is_sum_wrong || !report.errors.is_empty());
    report
}

/// Whether a record is a sound one of another key. Then the key in the page was damaged, and a read of its true key finds
/// nothing: that is a loss. A record's checksum does not show it, because it is seeded with a part of the key only.
fn is_misplaced(key: &StoreKey, record: &[u8]) -> bool {
    record::claimed_key(record).is_some_and(|claimed| claimed != *key && record::verify(&claimed, record).is_ok())
}

/// The row of a partition as of now.
pub(super) fn read_row(tables: &Tables, (bits, prefix): (u8, u32)) -> Result<PartitionRow, String> {
    let pages = Pages::of(&tables.env, &tables.file).map_err(|error| error.to_string())?;
    row_of(&pages, prefix, bits)
}

fn row_of(pages: &Pages<'_>, prefix: u32, bits: u8) -> Result<PartitionRow, String> {
    let key = super::tables::partition_key(prefix, bits);
    let mut found = None;
    let tree = pages.table(PARTITIONS).map_err(|error| error.to_string())?;
    let visit = &mut |at: &[u8], row: &[u8]| {
        found = (at == key).then(|| PartitionRow::decode(prefix, bits, row));
        ControlFlow::Break(())
    };
    pages.walk(&tree, Some(&key), visit).map_err(|error| error.to_string())?;
    found.ok_or("its row is gone")?.map_err(|error| format!("its row can't be used: {error:?}"))
}

/// Records that lie in no partition this shard has a row for.
fn count_strays(pages: &Pages<'_>) -> Result<u64, String> {
    let mut counted = Ok(0_u64);
    let tree = pages.table(PARTITIONS).map_err(|error| error.to_string())?;
    let visit = &mut |key: &[u8], row: &[u8]| {
        let row = parse_partition_key(key).and_then(|(prefix, bits)| PartitionRow::decode(prefix, bits, row).ok());
        match (&mut counted, row) {
            (Ok(counted), Some(row)) => *counted += row.records,
            (Ok(_), None) => counted = Err("a partition's row can't be used".to_owned()),
            (Err(_), _) => {}
        }
        ControlFlow::Continue(())
    };
    pages.walk(&tree, None, visit).map_err(|error| error.to_string())?;
    let all = pages.table(RECORDS).map_err(|error| error.to_string())?.entries;
    Ok(all.saturating_sub(counted?))
}
