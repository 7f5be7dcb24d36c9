//! Which layout may follow another (design, ring): the rules between two layouts, as [`super::check`] has those within one. An
//! elector checks them before it accepts a layout, a node before it follows one, and the planner after it planned one.

use alloc::string::String;
use core::fmt;

use super::{
    Layout, MemberState, NodeIndex,
    spans::{Span, Spans},
};

/// Why a layout may not follow another. Nothing was changed; it must not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SuccessionError {
    /// It is of another cluster or generation, its epoch is not the next one, or its parent is another layout.
    Parent,
    /// It has fewer partitions.
    PartitionBits,
    /// A node's place was given to another although it may still be looked for there, or a place is missing.
    Place(NodeIndex),
    /// A node came back although its copies were given up, or it has left.
    Departed(String),
    /// Of the electors that remain active, it keeps none.
    Electors,
    /// A partition's owners changed and its span does not say so, or the span forgets owners that may still be asked.
    Span(u32),
}

impl Layout {
    /// Whether this layout may follow `old`. Both have passed [`Layout::check`].
    pub fn check_after(&self, old: &Self) -> Result<(), SuccessionError> {
        let is_next = old.epoch.checked_add(1) == Some(self.epoch) && self.parent_hash == old.hash();
        if self.cluster != old.cluster || self.generation != old.generation || !is_next {
            return Err(SuccessionError::Parent);
        }
        if self.partition_bits < old.partition_bits {
            return Err(SuccessionError::PartitionBits);
        }
        self.check_places(old)?;
        let remains =
            |elector: &&NodeIndex| self.member(**elector).is_some_and(|member| member.state == MemberState::Active);
        let mut remaining = old.electors.iter().filter(remains).peekable();
        if remaining.peek().is_some() && !remaining.any(|elector| self.electors.contains(elector)) {
            return Err(SuccessionError::Electors);
        }
        self.check_spans(old)
    }

    /// The spans of this layout's partitions if it follows `old`: owners that are others, or not as many, are there since now.
    /// `is_settled` says of which partitions of `old` it is proven that nothing but the newest configuration is active.
    pub(crate) fn spans_after(&self, old: &Self, is_settled: impl Fn(u32) -> bool) -> Spans {
        let doublings = self.partition_bits - old.partition_bits;
        Spans::from_partitions((0..self.partitions()).map(|partition| {
            let is_settled = is_settled(partition >> doublings);
            self.span_after(old, partition, is_settled)
        }))
    }

    fn span_after(&self, old: &Self, partition: u32, is_settled: bool) -> Span {
        let parent = partition >> (self.partition_bits - old.partition_bits);
        let before = old.spans.of(parent);
        Span {
            since: if self.keeps_owners(old, partition) { before.since } else { self.epoch },
            oldest: if is_settled { before.since } else { before.oldest },
        }
    }

    /// Whether a partition has the owners that it, or the one it is a part of, has under `old`, in whatever order.
    pub(crate) fn keeps_owners(&self, old: &Self, partition: u32) -> bool {
        let parent = partition >> (self.partition_bits - old.partition_bits);
        old.owners(parent).count() == self.owners(partition).count()
            && self.owners(partition).all(|owner| old.owners(parent).any(|before| before == owner))
    }

    /// Nodes keep their places; those of nodes that were gone in `old` may be given away.
    fn check_places(&self, old: &Self) -> Result<(), SuccessionError> {
        for (at, before) in (0..).map(NodeIndex).zip(&old.members) {
            let is_free = before.state == MemberState::Gone;
            let Some(now) = self.member(at) else {
                if is_free {
                    continue;
                }
                return Err(SuccessionError::Place(at));
            };
            if now.id != before.id && !is_free {
                return Err(SuccessionError::Place(at));
            }
            let may_become = match before.state {
                MemberState::Active => now.state != MemberState::Gone,
                MemberState::Leaving => true,
                MemberState::Lost => matches!(now.state, MemberState::Lost | MemberState::Gone),
                MemberState::Gone => now.id != before.id || now.state == MemberState::Gone,
            };
            if !may_become {
                return Err(SuccessionError::Departed(now.name.clone()));
            }
        }
        Ok(())
    }

    /// Each partition was settled under `old`, or is not known to have been; what is proven of it is not for the layouts to show.
    fn check_spans(&self, old: &Self) -> Result<(), SuccessionError> {
        let is_right = |partition: u32| {
            let span = self.spans.of(partition);
            [false, true].into_iter().any(|is_settled| span == self.span_after(old, partition, is_settled))
        };
        (0..self.partitions())
            .find(|partition| !is_right(*partition))
            .map_or(Ok(()), |at| Err(SuccessionError::Span(at)))
    }
}

impl fmt::Display for SuccessionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the layout can't be the next one: ")?;
        match self {
            Self::Parent => formatter.write_str("it was planned for another one than the newest; plan again"),
            Self::PartitionBits => formatter.write_str("it has fewer partitions"),
            Self::Place(NodeIndex(at)) => write!(formatter, "the node at position {at} is no longer there"),
            Self::Departed(name) => write!(formatter, "node {name:?} has left for good or is sent away too soon"),
            Self::Electors => formatter.write_str("it keeps none of the electors that remain"),
            Self::Span(partition) => {
                write!(formatter, "it does not say rightly since when partition {partition} has its owners")
            }
        }
    }
}

impl core::error::Error for SuccessionError {}
