//! The scrub: reads a whole shard and compares it with what its rows say. Checksums inside records show what is damaged;
//! only the sums in the rows show what is *missing*, because a damaged page can lose keys without any error.

use std::ops::Bound;

use dynamo::{
    ident::StoreKey,
    record,
    replica::{PartitionRow, RowError},
};
use heed::{RoTxn, WithoutTls};

use super::{
    Store,
    bounds::Bounds,
    shard::{Shard, first_key, last_key},
    tables::parse_partition_key,
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
    /// Some of the damaged keys.
    pub damaged_keys: Vec<StoreKey>,
    /// What LMDB or a row's checksum said.
    pub errors: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damaged == 0
            && self.missing == 0
            && self.surplus == 0
            && self.partitions_wrong == 0
            && self.errors.is_empty()
    }

    fn add(&mut self, other: Self) {
        self.sound += other.sound;
        self.damaged += other.damaged;
        self.missing += other.missing;
        self.surplus += other.surplus;
        self.partitions_wrong += other.partitions_wrong;
        self.partitions += other.partitions;
        let room = KEYS_NAMED_MAX.saturating_sub(self.damaged_keys.len());
        self.damaged_keys.extend(other.damaged_keys.into_iter().take(room));
        self.errors.extend(other.errors);
    }
}

impl Store {
    /// Reads everything and says what is wrong. Takes a snapshot per partition, so that nothing is held back for long.
    /// What has lost records or can't be listed counts as damaged from now on: it is no longer written, and what is not
    /// found there counts as unreadable. Damaged records alone don't condemn their shard; they are known as what they are.
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
    let partitions: Vec<(u32, u8)> = {
        let rows = shard.views();
        let mut places: Vec<_> = rows.keys().map(|(bits, prefix)| (*prefix, *bits)).collect();
        places.sort_unstable();
        places
    };
    for (prefix, bits) in partitions {
        let part = verify_partition(shard, prefix, bits).unwrap_or_else(|error| {
            let errors = vec![format!("partition {prefix:#x}/{bits}: {error}")];
            Report { partitions: 1, partitions_wrong: 1, errors, ..Report::default() }
        });
        report.add(part);
    }
    match count_strays(shard) {
        Ok(strays) => report.surplus += strays,
        Err(error) => report.errors.push(format!("counting all records: {error}")),
    }
    if report.partitions_wrong > 0 || report.surplus > 0 || !report.errors.is_empty() {
        let Report { missing, surplus, partitions_wrong, .. } = &report;
        let what =
            format!("a scrub found {partitions_wrong} partitions wrong, {missing} records missing, {surplus} too many");
        shard.health.damaged(shard.number, what);
    }
    report
}

fn verify_partition(shard: &Shard, prefix: u32, bits: u8) -> Result<Report, String> {
    let transaction = shard.tables.env.read_txn().map_err(|error| error.to_string())?;
    let bounds = shard.bounds();
    let mut report = Report { partitions: 1, ..Report::default() };
    let (records, sum) = walk(shard, &transaction, &bounds, (prefix, bits), &mut report)?;
    let row = read_row(shard, &transaction, &bounds, prefix, bits)?;
    report.missing = row.records.saturating_sub(records);
    report.surplus = records.saturating_sub(row.records);
    // Of a damaged record the sum is unknown, so it can say something only about partitions without one.
    let is_sum_wrong = report.damaged == 0 && sum != row.sum;
    report.partitions_wrong = u64::from(row.records != records || is_sum_wrong);
    Ok(report)
}

/// How many records a partition has, and the sum of the digests of those that verify.
fn walk(
    shard: &Shard,
    transaction: &RoTxn<'_, WithoutTls>,
    bounds: &Bounds,
    (prefix, bits): (u32, u8),
    report: &mut Report,
) -> Result<(u64, u128), String> {
    let (first, last) = (first_key(prefix, bits), last_key(prefix, bits));
    let (mut records, mut sum, mut before) = (0_u64, 0_u128, None);
    let range = (Bound::Included(&first.0[..]), Bound::Included(&last.0[..]));
    for entry in shard.tables.records.range(transaction, &range).map_err(|error| error.to_string())? {
        let (key, record) = entry.map_err(|error| error.to_string())?;
        let key = StoreKey(key.try_into().map_err(|_| "a key has a wrong length".to_owned())?);
        if !bounds.admit(record) {
            return Err(format!("the record of {key:?} lies outside of the file"));
        }
        // A damaged branch can lead round in a circle: keys that don't ascend would never end.
        if before.replace(key).is_some_and(|before| before >= key) {
            return Err(format!("the keys around {key:?} are not in order"));
        }
        records += 1;
        match record::verify(&key, record) {
            Ok(digest) => {
                report.sound += 1;
                sum = sum.wrapping_add(digest);
            }
            Err(_) => {
                report.damaged += 1;
                report.damaged_keys.push(key);
            }
        }
    }
    Ok((records, sum))
}

fn read_row(
    shard: &Shard,
    transaction: &RoTxn<'_, WithoutTls>,
    bounds: &Bounds,
    prefix: u32,
    bits: u8,
) -> Result<PartitionRow, String> {
    let key = super::tables::partition_key(prefix, bits);
    let row = shard.tables.partitions.get(transaction, &key).map_err(|error| error.to_string())?;
    let row = row.filter(|row| bounds.admit(row)).ok_or("its row is gone")?;
    PartitionRow::decode(prefix, bits, row).map_err(|error| format!("its row can't be used: {error:?}"))
}

/// Records that lie in no partition this shard has a row for.
fn count_strays(shard: &Shard) -> Result<u64, String> {
    let transaction = shard.tables.env.read_txn().map_err(|error| error.to_string())?;
    let bounds = shard.bounds();
    let mut counted = 0;
    for entry in shard.tables.partitions.iter(&transaction).map_err(|error| error.to_string())? {
        let (key, row) = entry.map_err(|error| error.to_string())?;
        let (prefix, bits) = parse_partition_key(key).ok_or("a partition's row has a malformed key")?;
        let row = Some(row).filter(|row| bounds.admit(row)).ok_or(RowError::Damaged);
        let row = row.and_then(|row| PartitionRow::decode(prefix, bits, row));
        counted += row.map_err(|error| format!("the row of {prefix:#x}/{bits}: {error:?}"))?.records;
    }
    let all = shard.tables.records.len(&transaction).map_err(|error| error.to_string())?;
    Ok(all.saturating_sub(counted))
}
