//! What is proven to be at rest when the next layout is planned (design, ring): of which partitions the older configurations are retired,
//! and which nodes that leave have nothing left to hand over. Partition by partition and node by node, so that what can't come to rest
//! somewhere does not hold up what has come to rest everywhere else.
//!
//! A node testifies to what it durably knows ([`Testimony`]); whoever plans keeps what was proven by it ([`Proven`]). How a partition
//! comes to rest is the business of [`crate::relocation`].

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use crate::{
    layout::{Layout, NodeIndex},
    peer::Standing,
};

/// Most runs in a testimony: more than a node of any balanced ring owns partitions. What does not fit is not testified to.
pub const RUNS_MAX: usize = 4_096;

/// So many neighbouring partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first of them.
    pub first: u32,
    /// How many there are, at least 1.
    pub count: u32,
}

/// What a node says of the partitions it owns by the newest layout it knows, and of what it has yet to hand over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Testimony {
    /// The epoch of that layout.
    pub epoch: u64,
    /// It speaks of partitions below this one; of the others it says nothing.
    pub below: u32,
    /// Those it owns of which it does not know that all but the newest configuration are retired, in order.
    pub unsettled: Vec<Run>,
    /// Partitions that it does not own and still has records of; hints that it keeps count as one once it owns nothing.
    pub leftovers: u32,
}

impl Testimony {
    /// What the node `me` can say, given all its rows and whether it keeps hints for others.
    pub fn new(me: Option<NodeIndex>, layout: &Layout, rows: &[Standing], has_hints: bool) -> Self {
        let held = rows.iter().filter(|row| !row.is_moved);
        // A partition may have several rows, where a store is divided into more parts than there are partitions.
        let mut lows: BTreeMap<u32, u64> = BTreeMap::new();
        for row in held.clone().filter(|row| row.view.bits == layout.partition_bits) {
            lows.entry(row.view.prefix).and_modify(|lo| *lo = row.view.lo.min(*lo)).or_insert(row.view.lo);
        }
        let owns = |partition: u32| me.is_some_and(|me| layout.owners(partition).any(|owner| owner == me));
        // Who has no place can't say anything of partitions.
        let below = if me.is_some() { layout.partitions() } else { 0 };
        let mut testimony = Self { epoch: layout.epoch, below, ..Self::default() };
        let mut owned = 0_u32;
        for partition in (0..layout.partitions()).filter(|partition| owns(*partition)) {
            owned += 1;
            let is_settled = lows.get(&partition).is_some_and(|lo| *lo >= layout.spans.of(partition).since);
            if !is_settled && !testimony.add(partition) {
                testimony.below = partition;
                break;
            }
        }
        let is_left = |row: &&Standing| row.view.bits != layout.partition_bits || !owns(row.view.prefix);
        let left = held.filter(is_left).count() + usize::from(owned == 0 && has_hints);
        testimony.leftovers = u32::try_from(left).unwrap_or(u32::MAX);
        testimony
    }

    fn add(&mut self, partition: u32) -> bool {
        let is_full = self.unsettled.len() == RUNS_MAX;
        match self.unsettled.last_mut() {
            Some(run) if run.first + run.count == partition => run.count += 1,
            Some(_) | None if is_full => return false,
            Some(_) | None => self.unsettled.push(Run { first: partition, count: 1 }),
        }
        true
    }

    /// Whether it says that a partition is settled, should the node own it.
    fn vouches_for(&self, partition: u32) -> bool {
        let after = self.unsettled.partition_point(|run| run.first <= partition);
        let run = after.checked_sub(1).and_then(|at| self.unsettled.get(at));
        partition < self.below && run.is_none_or(|run| partition - run.first >= run.count)
    }
}

/// What is proven under a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proven {
    /// Nothing that the layout does not say itself.
    Nothing,
    /// Nothing moves any more, and nobody has anything left to hand over.
    Everything,
    /// What nodes have testified to.
    Heard(Heard),
}

/// What was testified to, for one layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    epoch: u64,
    /// By partition: whether its newest configuration alone is active.
    settled: Vec<bool>,
    /// The nodes that said anything.
    present: BTreeSet<NodeIndex>,
    /// The nodes that have nothing left to hand over.
    empty: BTreeSet<NodeIndex>,
}

impl Heard {
    /// Nothing but what the layout says itself.
    pub fn new(layout: &Layout) -> Self {
        let settled = (0..layout.partitions()).map(|partition| layout.spans.of(partition).is_settled());
        Self { epoch: layout.epoch, settled: settled.collect(), present: BTreeSet::new(), empty: BTreeSet::new() }
    }

    /// Takes the testimony of a node under the same layout.
    ///
    /// For a partition the word of one owner is enough: it calls it settled when its row durably knows that the older configurations are
    /// retired, and no row ever takes that for granted. A node that has not followed to this layout proves nothing under it.
    pub fn hear(&mut self, layout: &Layout, node: NodeIndex, testimony: &Testimony) {
        self.present.insert(node);
        if testimony.epoch != self.epoch || layout.epoch != self.epoch {
            return;
        }
        for (partition, settled) in (0..).zip(&mut self.settled).filter(|(_, settled)| !**settled) {
            *settled = testimony.vouches_for(partition) && layout.owners(partition).any(|owner| owner == node);
        }
        if testimony.leftovers == 0 {
            self.empty.insert(node);
        }
    }
}

impl Proven {
    /// Whether all configurations of a partition but the newest are known to be retired.
    pub fn is_settled(&self, partition: u32) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Heard(heard) => heard.settled.get(partition as usize).copied().unwrap_or(false),
        }
    }

    /// Whether that is known of every partition of a layout.
    pub fn are_settled(&self, layout: &Layout) -> bool {
        (0..layout.partitions()).all(|partition| self.is_settled(partition))
    }

    /// Whether a node was asked, and did not answer.
    pub fn is_silent(&self, node: NodeIndex) -> bool {
        match self {
            Self::Nothing | Self::Everything => false,
            Self::Heard(heard) => !heard.present.contains(&node),
        }
    }

    /// Whether a node is known to have nothing left to hand over.
    pub fn is_empty(&self, node: NodeIndex) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Heard(heard) => heard.empty.contains(&node),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{sync::Arc, vec, vec::Vec};

    use super::{Heard, Proven, RUNS_MAX, Run, Testimony};
    use crate::{
        layout::{
            Layout, NodeIndex, View,
            spans::{Span, Spans},
        },
        peer::Standing,
    };

    fn layout(bits: u8, owner: impl Fn(u32) -> u16) -> Arc<Layout> {
        Arc::new(Layout {
            cluster: 1,
            generation: 0,
            epoch: 5,
            parent_hash: [0; 16],
            electors: Vec::new(),
            members: Vec::new(),
            partition_bits: bits,
            replicas: 1,
            slots: (0..1 << bits).map(owner).collect(),
            buckets: Default::default(),
            spans: Spans::uniform(Span { since: 4, oldest: 2 }),
        })
    }

    fn row(prefix: u32, bits: u8, lo: u64) -> Standing {
        Standing::new(View { prefix, bits, lo, hi: 4 })
    }

    #[test]
    fn an_owner_vouches_for_what_its_row_knows_and_for_nothing_else() {
        let layout = layout(2, |partition| u16::from(partition == 3));
        let rows = [row(0, 2, 4), row(1, 2, 2), row(3, 2, 4)];
        let testimony = Testimony::new(Some(NodeIndex(0)), &layout, &rows, true);
        // Partition 2 has no row here, and 3 is another's: what is left of it is to be handed over.
        assert_eq!(testimony.unsettled, [Run { first: 1, count: 2 }]);
        assert_eq!((testimony.leftovers, testimony.below), (1, 4));
        let mut heard = Heard::new(&layout);
        heard.hear(&layout, NodeIndex(0), &testimony);
        let proven = Proven::Heard(heard.clone());
        let settled: Vec<bool> = (0..4).map(|partition| proven.is_settled(partition)).collect();
        assert_eq!(settled, [true, false, false, false]);
        assert!(!proven.is_empty(NodeIndex(0)) && !proven.are_settled(&layout));
        heard.hear(&layout, NodeIndex(1), &Testimony { epoch: 4, below: 4, ..Testimony::default() });
        let more = Proven::Heard(heard);
        assert!((0..4).all(|partition| proven.is_settled(partition) == more.is_settled(partition)));
        assert!(!more.is_empty(NodeIndex(1)), "a node that is behind proves nothing");
        assert!(proven.is_silent(NodeIndex(1)) && !more.is_silent(NodeIndex(1)));
    }

    #[test]
    fn one_that_owns_nothing_is_empty_only_without_records_and_hints() {
        let layout = layout(1, |_| 0);
        let leftovers =
            |rows: &[Standing], has_hints| Testimony::new(Some(NodeIndex(1)), &layout, rows, has_hints).leftovers;
        let moved = Standing { is_moved: true, ..row(0, 1, 4) };
        assert_eq!(leftovers(&[moved], false), 0);
        assert_eq!(leftovers(&[moved], true), 1);
        assert_eq!(leftovers(&[moved, row(1, 1, 4)], false), 1);
        // A row that has not followed a division yet is of a partition that nobody owns by that number.
        assert_eq!(leftovers(&[row(0, 0, 4)], false), 1);
    }

    #[test]
    fn what_does_not_fit_is_not_testified_to() {
        let layout = layout(14, |_| 0);
        let rows: Vec<Standing> = (0..1 << 14).step_by(2).map(|prefix| row(prefix, 14, 4)).collect();
        let testimony = Testimony::new(Some(NodeIndex(0)), &layout, &rows, false);
        assert_eq!((testimony.unsettled.len(), testimony.below), (RUNS_MAX, 2 * RUNS_MAX as u32 + 1));
        assert!(testimony.vouches_for(0) && !testimony.vouches_for(1) && !testimony.vouches_for(1 << 13 | 2));
        assert_eq!(vec![testimony.unsettled[1]], [Run { first: 3, count: 1 }]);
    }
}
