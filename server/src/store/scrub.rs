//! Verifying a partition while it is written to, a little at a time: every record's checksum, and range by range whether what is there is
//! what was counted into the hash tree when it was written. The tree is fed by the writes and not by the records, so it knows of keys
//! that a damaged page has lost without any error; and the trees together must hold as many records as the rows say.

use dynamo::{
    ident::StoreKey,
    merkle::term,
    peer::{TreePath, TreeSum},
};

use super::{
    SCAN_RECORDS_MAX, ScanError, Store,
    listing::{Listing, list_all},
    shard::{Shard, first_key, last_key, shard_of},
    verify::read_row,
};

/// How often a range is looked at again because it was written to meanwhile. One with a node has few keys, and is read in well
/// under a millisecond.
const ATTEMPTS_MAX: u32 = 8;

/// Keys of one range up to which it is compared. Longer ones are about to get nodes of their own.
const RANGE_KEYS_MAX: usize = 64 * SCAN_RECORDS_MAX;

/// What a step has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubStep {
    /// Records that verify.
    pub verified: u64,
    /// Keys of those that don't.
    pub unreadable: Vec<StoreKey>,
    /// Records are missing, or there are some that were never written. The shard counts as damaged from now on.
    pub is_missing: bool,
    /// Where to go on; `None` at the end of the partition.
    pub next: Option<StoreKey>,
}

impl Store {
    /// Verifies the next ranges of a partition behind `after`, or from its beginning: about as many records as a chunk of a scan has.
    pub fn scrub_partition(&self, prefix: u32, bits: u8, after: Option<StoreKey>) -> Result<ScrubStep, ScanError> {
        let mut step = ScrubStep::default();
        let shards = self.identity().shards;
        let end = last_key(prefix, bits);
        let mut at = match after.map(|after| TreePath::around(&after, 64).behind()) {
            None => TreePath::around(&first_key(prefix, bits), 64).prefix,
            Some(Some(at)) => at,
            Some(None) => return Ok(step),
        };
        loop {
            let shard = self.shard(shard_of(&TreePath { prefix: at, bits: 64 }.first_key(), shards));
            let Some((range, _)) = shard.forest().leaf((bits, prefix), at) else {
                // The node holds no such partition, so there is nothing to find.
                return Ok(step);
            };
            let place = (bits, prefix);
            shard.scrub(&range, place, &mut step).map_err(|what| ScanError { after, what })?;
            step.next = Some(range.last_key()).filter(|last| *last < end);
            let records = step.verified as usize + step.unreadable.len();
            match range.behind() {
                Some(next) if step.next.is_some() && records < SCAN_RECORDS_MAX => at = next,
                Some(_) | None if step.next.is_some() => return Ok(step),
                Some(_) | None => {
                    step.is_missing |= shard.contradicts_row(place).map_err(|what| ScanError { after, what })?;
                    return Ok(step);
                }
            }
        }
    }
}

impl Shard {
    /// Verifies one range and compares it with the tree.
    fn scrub(&self, range: &TreePath, place: (u8, u32), step: &mut ScrubStep) -> Result<(), String> {
        let mut is_doubted = false;
        for _ in 0..ATTEMPTS_MAX {
            let before = self.expected(range, place);
            let listing = list_all(&self.tables, range, RANGE_KEYS_MAX).map_err(|what| self.damaged(what))?;
            let Some(expected) = before.filter(|_| listing.next.is_none()) else { break };
            let agrees = agrees(&listing, expected);
            // A commit may have been between the disk and the tree when the range was listed.
            if !agrees && !self.wait_published() || before != self.expected(range, place) {
                continue;
            }
            if agrees || is_doubted {
                step.add(&listing);
                step.is_missing |= !agrees;
                if !agrees {
                    let (found, counted) = (listing.keys.len(), expected.count);
                    self.lost(
                        place,
                        format!("{found} records from {:#x}/{} on, {counted} counted", range.prefix, range.bits),
                    );
                }
                return Ok(());
            }
            is_doubted = true;
        }
        // Busy: its records are verified all the same, and the next scrub compares.
        step.add(&list_all(&self.tables, range, RANGE_KEYS_MAX).map_err(|what| self.damaged(what))?);
        Ok(())
    }

    /// Compares what a tree holds with what the partition's row says; whether they contradict each other.
    fn contradicts_row(&self, place: (u8, u32)) -> Result<bool, String> {
        for _ in 0..ATTEMPTS_MAX {
            let before = self.forest().total(place);
            let row = read_row(&self.tables, place).map_err(|what| self.damaged(what))?;
            let Some(total) = before.filter(|total| total.count != row.records) else { return Ok(false) };
            if self.wait_published() && before == self.forest().total(place) {
                self.lost(place, format!("{} records counted, and the row says {}", total.count, row.records));
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn lost(&self, (bits, prefix): (u8, u32), what: String) {
        self.damaged(format!("a scrub of partition {prefix:#x}/{bits} found records missing: {what}"));
    }

    /// What the tree says of a range, unless it has parts now or waits to be counted.
    fn expected(&self, range: &TreePath, place: (u8, u32)) -> Option<TreeSum> {
        let forest = self.forest();
        let (leaf, sum) = forest.leaf(place, range.prefix)?;
        (leaf == *range && forest.is_counted(&(place, leaf))).then_some(sum)
    }
}

/// Whether a range holds what was counted into it. Of records that can't be read, only the number.
fn agrees(listing: &Listing, expected: TreeSum) -> bool {
    let mut sum = 0_u64;
    for (key, digest) in &listing.keys {
        sum = sum.wrapping_add(digest.map_or(0, |digest| term(key, digest)));
    }
    let is_readable = listing.unreadable().next().is_none();
    let is_sum_right = !is_readable || sum == expected.sum;
    !listing.is_misplaced && listing.keys.len() as u64 == expected.count && is_sum_right
}

impl ScrubStep {
    fn add(&mut self, listing: &Listing) {
        let before = self.unreadable.len();
        self.unreadable.extend(listing.unreadable());
        self.verified += (listing.keys.len() - (self.unreadable.len() - before)) as u64;
    }
}
