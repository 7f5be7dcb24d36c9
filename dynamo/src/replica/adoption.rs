//! Following the ring: which partitions a node has rows for, and what they say at least, once it knows a layout (design, ring, "Moving a
//! partition"). A partition that comes to this node gets the row of a *learner*, which counts for nobody yet. One that leaves keeps its
//! row. When the number of partitions was doubled, rows are split.
//!
//! Only facts that a layout proves are taken from it: which configurations this node belongs to, and that those before a span's oldest
//! are retired. That a newer configuration is active is never concluded from a layout: that takes a fence.

use core::ops::RangeInclusive;

use alloc::vec::Vec;

use super::{Batch, Counted, PartitionRow, Place, Replica, Rows};
use crate::{
    ident::StoreKey,
    layout::{NodeIndex, View},
    peer::TreePath,
    ring::Ring,
};

/// What a node's rows, or those of one of its store's shards, have to follow.
#[derive(Clone, Debug)]
pub struct Adoption {
    /// The ring as the node knows it now.
    pub ring: Ring,
    /// Which of its members the node is.
    pub me: NodeIndex,
    /// The keys whose partitions are meant; all of them, unless the store is divided.
    pub keys: RangeInclusive<StoreKey>,
}

impl Adoption {
    /// For a store that is not divided.
    pub fn new(ring: Ring, me: NodeIndex) -> Self {
        Self { ring, me, keys: StoreKey([0; 32])..=StoreKey([0xff; 32]) }
    }

    /// The places of rows that do not follow the ring yet, `rows` being all there are: of larger partitions those that are to be split,
    /// then those that are to be brought in line.
    ///
    /// Most partitions of a large ring are no business of a node. So beside its rows, only those are looked at that the newest layout
    /// gives it, and of older layouts only what is told of partitions that move.
    pub fn due(&self, rows: &[PartitionRow]) -> Vec<Place> {
        let bits = self.ring.newest().partition_bits;
        let parents = rows.iter().map(|row| (row.view.bits, row.view.prefix)).filter(|(of, _)| *of < bits);
        let mut due: Vec<Place> = parents.collect();
        let children = in_order(due.iter().flat_map(|parent| self.children(*parent)));
        let mut known: Vec<&PartitionRow> = rows.iter().filter(|row| row.view.bits == bits).collect();
        known.sort_unstable_by_key(|row| row.view.prefix);
        let row_of = |prefix: u32| known.binary_search_by_key(&prefix, |row| row.view.prefix).ok().map(|at| known[at]);
        let held = known.iter().map(|row| row.view.prefix);
        let concerned = in_order(held.chain(self.owned()).chain(self.moving()).chain(children.iter().copied()));
        // What a child's row will say is not known before it is there.
        let is_due =
            |prefix: &u32| children.binary_search(prefix).is_ok() || self.followed(*prefix, row_of(*prefix)).is_some();
        due.extend(concerned.into_iter().filter(is_due).map(|prefix| (bits, prefix)));
        due
    }

    /// The partitions that the newest layout gives the node.
    fn owned(&self) -> impl Iterator<Item = u32> + '_ {
        let newest = self.ring.newest();
        self.partitions(newest.partition_bits)
            .filter(|partition| newest.owners(*partition).any(|owner| owner == self.me))
    }

    /// The partitions of which older configurations may be active.
    fn moving(&self) -> impl Iterator<Item = u32> + '_ {
        let newest = self.ring.newest();
        let (runs, mine) = (newest.spans.runs(), self.partitions(newest.partition_bits));
        let ends = runs.iter().skip(1).map(|run| run.first).chain([newest.partitions()]);
        let moving = runs.iter().zip(ends).filter(|(run, _)| !run.span.is_settled());
        moving.flat_map(move |(run, end)| run.first.max(*mine.start())..end.min(mine.end().saturating_add(1)))
    }

    /// The partitions of as many bits as the ring has that a larger one is made of, as far as they are meant.
    fn children(&self, (bits, prefix): Place) -> RangeInclusive<u32> {
        let all = TreePath::of_partition(prefix, bits);
        let (first, last) = (all.first_key().max(*self.keys.start()), all.last_key().min(*self.keys.end()));
        let bits = self.ring.newest().partition_bits;
        first.id().prefix(bits)..=last.id().prefix(bits)
    }

    /// The row of a partition as the ring wants it, if that is another than the one there is.
    fn followed(&self, prefix: u32, row: Option<&PartitionRow>) -> Option<PartitionRow> {
        let oldest = self.ring.newest().view(prefix);
        let owned = self.newest_owned(&oldest);
        let Some(row) = row else {
            let learner = PartitionRow { owned, ..PartitionRow::new(oldest) };
            return (owned >= oldest.lo).then_some(learner);
        };
        let mut followed = PartitionRow { view: row.view.join(&oldest), owned: row.owned.max(owned), ..*row };
        if row.is_moved && owned >= followed.view.lo {
            // It comes back. What it was FULL of is gone.
            (followed.is_moved, followed.full, followed.copied) = (false, 0, 0);
        }
        (followed != *row).then_some(followed)
    }

    /// The newest configuration of a partition that this node belongs to, among those that are known; 0 for none.
    fn newest_owned(&self, view: &View) -> u64 {
        let id = view.first_key().id();
        let named = self.ring.layouts().rev().find_map(|layout| {
            let partition = layout.partition(&id);
            let is_mine = layout.owners(partition).any(|owner| owner == self.me);
            is_mine.then(|| layout.spans.of(partition).since)
        });
        named.unwrap_or(0)
    }

    /// The partitions of so many bits that these keys fall into.
    fn partitions(&self, bits: u8) -> RangeInclusive<u32> {
        self.keys.start().id().prefix(bits)..=self.keys.end().id().prefix(bits)
    }
}

/// Each once, in ascending order.
fn in_order(prefixes: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut prefixes: Vec<u32> = prefixes.collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes
}

impl Batch<'_> {
    /// Brings those rows in line with the ring that are due ([`Adoption::due`]); before anything else is done in the transaction. `false`
    /// if a partition that is to be split has not as many records as its row says: some are lost, and the transaction must be aborted.
    ///
    /// A split reads the heads of all records of the partition, once: some millions a second, during which nothing is written.
    pub fn adopt<R: Rows>(&mut self, rows: &mut R, adoption: &Adoption, due: &[Place]) -> Result<bool, R::Error> {
        let bits = adoption.ring.newest().partition_bits;
        for &place in due.iter().filter(|(of, _)| *of < bits) {
            if !self.split(rows, place, adoption)? {
                return Ok(false);
            }
        }
        for &place in due.iter().filter(|(of, _)| *of == bits) {
            let row = self.guard.replica.row(rows, place)?.copied();
            if let Some(followed) = adoption.followed(place.1, row.as_ref()) {
                if row.is_none_or(|row| row.is_moved != followed.is_moved) {
                    self.guard.replica.actors.retire(place);
                }
                self.put(place, followed);
            }
        }
        Ok(true)
    }

    /// Puts children in the place of a row. They know what their parent knew, count their own records, and mint under actors of their own.
    fn split<R: Rows>(&mut self, rows: &mut R, parent: Place, adoption: &Adoption) -> Result<bool, R::Error> {
        let Some(row) = self.guard.replica.row(rows, parent)?.copied() else { return Ok(true) };
        let bits = adoption.ring.newest().partition_bits;
        self.guard.replica.forget(parent);
        rows.uproot(parent.1, parent.0)?;
        let mut children = Vec::new();
        let mut total = Counted::default();
        for prefix in adoption.children(parent) {
            let planted = rows.plant(prefix, bits)?;
            let Counted { records, deleted, sum } = planted.counted;
            total.records += records;
            total.deleted += deleted;
            total.sum = total.sum.wrapping_add(sum);
            let view = View { prefix, bits, ..row.view };
            children.push(PartitionRow {
                view,
                last: None,
                records,
                deleted,
                sum,
                forgotten: planted.unreadable,
                ..row
            });
        }
        // The heads were not verified: where one was damaged, the sums of all do not add up, and are made anew from the whole records.
        let adds_up = (total.deleted, total.sum) == (row.deleted, row.sum);
        let is_unsure = row.forgotten > 0 || !adds_up;
        for mut child in children {
            child.forgotten = child.forgotten.max(u64::from(is_unsure));
            self.put((bits, child.view.prefix), child);
        }
        Ok(total.records == row.records)
    }

    fn put(&mut self, place: Place, row: PartitionRow) {
        self.guard.changed.insert(place);
        self.guard.replica.partitions.insert(place, row);
    }
}

impl Replica {
    /// Knows a partition no more.
    pub(super) fn forget(&mut self, place: Place) {
        self.actors.retire(place);
        self.partitions.remove(&place);
    }
}

#[cfg(test)]
mod tests {
    use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

    use proptest::{collection::vec as list, prelude::*};

    use super::{super::PartitionRow, Adoption};
    use crate::{
        ident::StoreKey,
        layout::{
            Layout, NodeIndex, View,
            spans::{Span, Spans},
        },
        ring::Ring,
    };

    const BITS: u8 = 4;

    /// The next layout: partition by partition whether it gets other owners, of four, and whether the older ones are retired.
    fn next(old: &Layout, changes: &[(bool, u16, bool)]) -> Layout {
        let (mut slots, mut spans, epoch) = (old.slots.clone(), Vec::new(), old.epoch + 1);
        for (at, (changes, first, settles)) in changes.iter().enumerate() {
            let span = old.spans.of(at as u32);
            let oldest = if *settles { span.since } else { span.oldest };
            spans.push(Span { since: if *changes { epoch } else { span.since }, oldest });
            if *changes {
                // Another set of two neighbours in a circle of four than the one before.
                let first = (slots[2 * at] + 1 + first % 3) % 4;
                slots[2 * at..2 * at + 2].copy_from_slice(&[first, (first + 1) % 4]);
            }
        }
        Layout { epoch, parent_hash: old.hash(), slots, spans: Spans::from_partitions(spans), ..old.clone() }
    }

    fn first() -> Layout {
        Layout {
            cluster: 1,
            generation: 0,
            epoch: 1,
            parent_hash: [0; 16],
            electors: Vec::new(),
            members: Vec::new(),
            partition_bits: BITS,
            replicas: 2,
            slots: (0..1 << BITS).flat_map(|at| [at % 4, (at + 1) % 4]).collect(),
            buckets: BTreeMap::new(),
            spans: Spans::settled(1),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn all_that_is_due_is_found_without_looking_at_every_partition(
            changes in list(list(any::<(bool, u16, bool)>(), 1 << BITS), 0..4),
            held in list(proptest::option::of((1..5_u64, 0..3_u64, 0..5_u64, any::<bool>())), 1 << BITS),
            forgotten in 0..3_u64,
            is_half in any::<bool>(),
        ) {
            let mut ring = Ring::new(Arc::new(first()));
            for changes in &changes {
                ring.push(Arc::new(next(ring.newest(), changes))).unwrap();
            }
            ring.forget_before(ring.oldest_wanted().min(forgotten));
            let row = |(prefix, held): (u32, &Option<(u64, u64, u64, bool)>)| {
                let (lo, more, owned, is_moved) = (*held)?;
                let view = View { prefix, bits: BITS, lo, hi: lo + more };
                Some(PartitionRow { owned, is_moved, ..PartitionRow::new(view) })
            };
            let half = StoreKey([0; 32])..=StoreKey([0x7f; 32]);
            let adoption = Adoption::new(ring, NodeIndex(0));
            let adoption = if is_half { Adoption { keys: half, ..adoption } } else { adoption };
            let meant = adoption.partitions(BITS);
            let rows: Vec<PartitionRow> = (0..).zip(&held).filter_map(row).filter(|row| meant.contains(&row.view.prefix)).collect();
            let row_of = |prefix: u32| rows.iter().find(|row| row.view.prefix == prefix);
            let is_due = |prefix: &u32| adoption.followed(*prefix, row_of(*prefix)).is_some();
            let expected: Vec<(u8, u32)> = meant.clone().filter(is_due).map(|prefix| (BITS, prefix)).collect();
            prop_assert_eq!(adoption.due(&rows), expected);
        }
    }

    #[test]
    fn a_partition_that_came_and_went_unseen_is_due_until_its_older_owners_are_retired() {
        // The owners of partition 2 are 2 and 3, then 3 and 0, then 1 and 2.
        let moves = |more: u16| (0..1 << BITS).map(|at| (at == 2, more, false)).collect::<Vec<_>>();
        let mut ring = Ring::new(Arc::new(first()));
        for more in [0, 1] {
            ring.push(Arc::new(next(ring.newest(), &moves(more)))).unwrap();
        }
        let is_due = |ring: &Ring| Adoption::new(ring.clone(), NodeIndex(0)).due(&[]).contains(&(BITS, 2));
        assert!(is_due(&ring));
        ring.push(Arc::new(next(ring.newest(), &[(false, 0, true); 1 << BITS]))).unwrap();
        assert!(!is_due(&ring));
    }
}
