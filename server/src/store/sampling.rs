//! How much the records are, from their number and the size of a few of them: adding all up would mean reading all, and the pages that
//! they take are filled by half or wholly, as it happens.

use super::{Store, shard::Shard};

/// Records that are looked at in each shard. Values of one kind are told to some percent by so many; and should each be a read from a
/// disk, an operator who asks for a plan still waits no more than a moment.
const SAMPLES: u64 = 32;

impl Store {
    /// About how many bytes the records have, tombstones included; what can't be read counts for nothing.
    pub fn record_bytes(&self) -> u64 {
        self.shards().filter_map(record_bytes).sum()
    }
}

/// Identifiers are spread evenly, so records at even distances are as good as random ones.
fn record_bytes(shard: &Shard) -> Option<u64> {
    let transaction = shard.tables.env.read_txn().ok()?;
    let records = &shard.tables.records;
    let length = |(key, record): (&[u8], &[u8])| (key.len() + record.len()) as u64;
    let count = records.len(&transaction).ok()?;
    if count <= SAMPLES {
        return records.iter(&transaction).ok()?.map(|entry| entry.ok().map(length)).sum();
    }
    let (first, _) = records.first(&transaction).ok()??;
    let (last, _) = records.last(&transaction).ok()??;
    let (first, last) = (position(first), position(last));
    let mut bytes = 0;
    for sample in 0..SAMPLES {
        let at = first + (last - first) / SAMPLES * sample;
        bytes += length(records.get_greater_than_or_equal_to(&transaction, &at.to_be_bytes()).ok()??);
    }
    u64::try_from(u128::from(bytes) * u128::from(count) / u128::from(SAMPLES)).ok()
}

/// Where a key stands among all there can be.
fn position(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |head| u64::from_be_bytes(*head))
}
