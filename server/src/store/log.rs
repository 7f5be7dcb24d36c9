//! The log of a shard: what every commit changed in the hash trees, written in the commit's own transaction. Replayed when the store is
//! opened, over the stored copies of the trees' nodes; what all copies have is dropped.
//!
//! Changes are numbered from 1 on, and the number of the last is the shard's *position*. It never goes back: the last entry stays whatever
//! else is dropped, so a directory whose position went back is an old copy. The log holds no keys, only what a sum needs.
//!
//! An entry, under the position of its last change: `format u8 = 1 | xxh3-64 over the changes, seeded by that position | n × { first
//! 64 bits of the id u64, what is added to the sum u64, kind u8 }`, integers little end first. A kind is 1 + the records that there
//! are more, and 4 more if what is added is unknown.

use dynamo::merkle::Change;
use heed::{PutFlags, RwTxn};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::tables::Table;

/// Changes of one entry: two entries of this size fill a page, and a longer one would need pages of its own.
const ENTRY_CHANGES_MAX: usize = 110;

/// Entries that one transaction drops: some milliseconds.
const DROPS_MAX: usize = 4_096;

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 9;
const CHANGE_BYTES: usize = 17;
const KIND_UNKNOWN: u8 = 4;

/// Writes changes behind the position of the last one.
pub(super) fn append(
    table: &Table,
    transaction: &mut RwTxn<'_>,
    mut position: u64,
    changes: &[Change],
) -> heed::Result<()> {
    for changes in changes.chunks(ENTRY_CHANGES_MAX) {
        position += changes.len() as u64;
        table.put_with_flags(transaction, PutFlags::APPEND, &position.to_be_bytes(), &encode(position, changes))?;
    }
    Ok(())
}

/// Drops entries without any change from `needed` on, up to a bound, and never the last one there is.
pub(super) fn drop_before(table: &Table, transaction: &mut RwTxn<'_>, needed: u64) -> heed::Result<()> {
    let mut droppable = Vec::new();
    let mut entries = table.iter(transaction)?.peekable();
    while let Some(entry) = entries.next() {
        let key = entry?.0;
        let is_last = entries.peek().is_none();
        if is_last || droppable.len() == DROPS_MAX || position_of(key).is_none_or(|position| position >= needed) {
            break;
        }
        droppable.push(key.to_vec());
    }
    drop(entries);
    for key in droppable {
        table.delete(transaction, &key)?;
    }
    Ok(())
}

/// The position an entry's key stands for.
pub(super) fn position_of(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// The changes of an entry; `None` if it is not what was written.
pub(super) fn decode(position: u64, entry: &[u8]) -> Option<Vec<Change>> {
    let (head, body) = entry.split_at_checked(HEAD_BYTES)?;
    if head[0] != FORMAT || head[1..] != xxh3_64_with_seed(body, position).to_le_bytes() || body.is_empty() {
        return None;
    }
    body.chunks(CHANGE_BYTES).map(decode_change).collect()
}

fn encode(position: u64, changes: &[Change]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(HEAD_BYTES + changes.len() * CHANGE_BYTES);
    entry.push(FORMAT);
    entry.extend_from_slice(&[0; HEAD_BYTES - 1]);
    for change in changes {
        entry.extend_from_slice(&change.at.to_le_bytes());
        entry.extend_from_slice(&change.sum.unwrap_or(0).to_le_bytes());
        let kind = (change.count + 1).unsigned_abs();
        entry.push(if change.sum.is_some() { kind } else { kind | KIND_UNKNOWN });
    }
    let checksum = xxh3_64_with_seed(&entry[HEAD_BYTES..], position);
    entry[1..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
    entry
}

fn decode_change(bytes: &[u8]) -> Option<Change> {
    let (at, rest) = bytes.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let [kind] = *rest else { return None };
    let count = match kind & !KIND_UNKNOWN {
        0 => -1,
        1 => 0,
        2 => 1,
        _ => return None,
    };
    let sum = (kind & KIND_UNKNOWN == 0).then_some(u64::from_le_bytes(*sum));
    Some(Change { at: u64::from_le_bytes(*at), count, sum })
}

#[cfg(test)]
mod tests {
    use dynamo::merkle::Change;

    use super::{decode, encode};

    #[test]
    fn an_entry_survives_its_encoding_and_no_flipped_bit_does() {
        let changes: Vec<Change> = [(1, Some(7)), (0, Some(u64::MAX)), (-1, Some(0)), (0, None), (-1, None)]
            .into_iter()
            .enumerate()
            .map(|(at, (count, sum))| Change { at: at as u64 * 3, count, sum })
            .collect();
        let entry = encode(9, &changes);
        assert_eq!(decode(9, &entry), Some(changes));
        assert_eq!(decode(8, &entry), None);
        for bit in 0..8 * entry.len() {
            let mut flipped = entry.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(9, &flipped), None);
        }
        for length in 0..entry.len() {
            assert_eq!(decode(9, &entry[..length]), None);
        }
    }
}
