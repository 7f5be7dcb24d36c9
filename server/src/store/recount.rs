//! Counting a partition whose row is unsure, while it is written to: in pieces, and a piece that has changed since is counted again.
//! When no piece is left, the pieces together are the partition as it is now.

use std::{collections::BTreeMap, time::Duration};

use dynamo::{ident::StoreKey, merkle::Change, peer::TreePath, replica::Counted};

use super::{
    listing::{Measure, list},
    tables::Tables,
};

/// Records of one piece: less than a millisecond, for which writes wait.
const PIECE_RECORDS: usize = 256;

/// The time of one piece, should the records be long.
const PIECE_TIME_MAX: Duration = Duration::from_millis(5);

/// The count of one partition.
#[derive(Debug)]
pub(super) struct Recount {
    place: (u8, u32),
    /// Pieces that are counted: the last key by the first, and what was there.
    done: BTreeMap<StoreKey, (StoreKey, Counted)>,
    /// Pieces, by their first and last key, that are to be counted.
    left: Vec<(StoreKey, StoreKey)>,
}

/// How far a count has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to count.
    Counting,
    /// This is what there is.
    Counted(Counted),
    /// A record can't be read. The count must begin anew when it can.
    Unreadable,
}

impl Recount {
    /// A count that begins now.
    pub(super) fn new((bits, prefix): (u8, u32)) -> Self {
        let range = TreePath::of_partition(prefix, bits);
        Self { place: (bits, prefix), done: BTreeMap::new(), left: vec![(range.first_key(), range.last_key())] }
    }

    /// Which partition it counts.
    pub(super) fn place(&self) -> (u8, u32) {
        self.place
    }

    /// Notes that records have changed: what was counted around them must be again.
    pub(super) fn changed(&mut self, changes: &[Change]) {
        for change in changes {
            let exactly = TreePath { prefix: change.at, bits: 64 };
            let (first, last) = (exactly.first_key(), exactly.last_key());
            let touched = |(piece, (end, _)): (&StoreKey, &(StoreKey, Counted))| (*end >= first).then_some(*piece);
            // A piece ends where the next begins, so only the last few that begin before can reach this far.
            while let Some(piece) = self.done.range(..=last).next_back().and_then(touched) {
                if let Some((end, _)) = self.done.remove(&piece) {
                    self.left.push((piece, end));
                }
            }
        }
    }

    /// Counts one piece.
    pub(super) fn step(&mut self, tables: &Tables) -> Result<Step, String> {
        let Some((first, last)) = self.left.pop() else {
            let pieces = self.done.values().map(|(_, counted)| counted);
            return Ok(Step::Counted(pieces.fold(Counted::default(), |sum, piece| Counted {
                records: sum.records + piece.records,
                deleted: sum.deleted + piece.deleted,
                sum: sum.sum.wrapping_add(piece.sum),
            })));
        };
        let measure = Measure { keys: PIECE_RECORDS, time: PIECE_TIME_MAX, is_deleted_counted: true };
        let listing = list(tables, first, last, measure)?;
        let mut counted = Counted { deleted: listing.deleted, ..Counted::default() };
        for (_, digest) in &listing.keys {
            let Some(digest) = digest else { return Ok(Step::Unreadable) };
            counted.records += 1;
            counted.sum = counted.sum.wrapping_add(*digest);
        }
        let end = listing.keys.last().map(|(key, _)| *key).filter(|_| listing.next.is_some());
        self.done.insert(first, (end.unwrap_or(last), counted));
        self.left.extend(listing.next.map(|next| (next, last)));
        Ok(Step::Counting)
    }
}
