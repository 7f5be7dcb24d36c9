//! Since when each partition has had the owners it has (design, ring, "Moving a partition"): what names its configurations.
//!
//! A configuration of a partition is its set of owners, named by the epoch of the layout that introduced it. A layout that
//! changes other partitions only leaves the name as it is, so a change of the ring concerns nobody but those whose data moves.

use alloc::{vec, vec::Vec};

/// Most configurations that may be active for a partition: one being left, one being entered, its abort, and one of slack for a
/// replacement decided before that was finished everywhere. Whoever plans refuses a fifth.
pub const CONFIGURATIONS_MAX: usize = 4;

/// What a layout knows of a partition's configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The epoch of the layout that gave the partition the owners it has under this one.
    pub since: u64,
    /// The oldest configuration that may still be active: when the layout was agreed upon, all before it were known to be retired.
    pub oldest: u64,
}

impl Span {
    /// The span of a partition nobody but its present owners ever had, since this epoch.
    pub fn settled(epoch: u64) -> Self {
        Self { since: epoch, oldest: epoch }
    }

    /// Whether no configuration but the newest was active when the layout was agreed upon.
    pub fn is_settled(&self) -> bool {
        self.since == self.oldest
    }
}

/// So many neighbouring partitions with one span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanRun {
    /// The first of them; they end where the next run begins.
    pub first: u32,
    /// Their span.
    pub span: Span,
}

/// The spans of all partitions of a layout, in runs: a ring that was never changed has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spans(Vec<SpanRun>);

impl Spans {
    /// The same span everywhere.
    pub fn uniform(span: Span) -> Self {
        Self(vec![SpanRun { first: 0, span }])
    }

    /// Every partition has had its owners since this epoch, and nobody else ever: a ring that was never changed.
    pub fn settled(epoch: u64) -> Self {
        Self::uniform(Span::settled(epoch))
    }

    /// Spans by runs, which must be in order; neighbours that are equal are joined. Nothing is checked: [`super::Layout::check`]
    /// does that.
    pub fn from_runs(runs: impl IntoIterator<Item = SpanRun>) -> Self {
        let mut joined: Vec<SpanRun> = Vec::new();
        for run in runs {
            if joined.last().is_none_or(|last| last.span != run.span) {
                joined.push(run);
            }
        }
        Self(joined)
    }

    /// Spans partition by partition, from the first on.
    pub fn from_partitions(spans: impl IntoIterator<Item = Span>) -> Self {
        Self::from_runs((0..).zip(spans).map(|(first, span)| SpanRun { first, span }))
    }

    /// The span of a partition. One beyond the last has the last one's; of no runs at all, nothing is known to be retired.
    pub fn of(&self, partition: u32) -> Span {
        let at = self.0.partition_point(|run| run.first <= partition);
        at.checked_sub(1).and_then(|at| self.0.get(at)).map_or(Span { since: 1, oldest: 1 }, |run| run.span)
    }

    /// The runs, in order.
    pub fn runs(&self) -> &[SpanRun] {
        &self.0
    }

    /// Whether every partition has one active configuration.
    pub fn are_settled(&self) -> bool {
        self.0.iter().all(|run| run.span.is_settled())
    }

    /// Whether these can be the spans of so many partitions under a layout of this epoch.
    pub(super) fn check(&self, partitions: u32, epoch: u64) -> bool {
        let starts = self.0.first().is_some_and(|run| run.first == 0);
        let ordered = self.0.windows(2).all(|pair| pair[0].first < pair[1].first && pair[0].span != pair[1].span);
        let fits = |run: &SpanRun| {
            let Span { since, oldest } = run.span;
            run.first < partitions && 1 <= oldest && oldest <= since && since <= epoch
        };
        starts && ordered && self.0.iter().all(fits)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::{Span, SpanRun, Spans};

    #[test]
    fn spans_are_found_by_partition_and_equal_neighbours_are_joined() {
        let (old, new) = (Span::settled(1), Span { since: 3, oldest: 1 });
        let spans = Spans::from_partitions([old, old, new, new, old]);
        assert_eq!(spans.runs().len(), 3);
        assert_eq!((0..5).map(|partition| spans.of(partition)).collect::<Vec<_>>(), [old, old, new, new, old]);
        assert!(spans.check(5, 3) && !spans.check(5, 2) && !spans.check(4, 3));
        assert!(!spans.are_settled() && Spans::uniform(old).are_settled());
    }

    #[test]
    fn runs_that_contradict_a_layout_are_noticed() {
        let run = |first, since, oldest| SpanRun { first, span: Span { since, oldest } };
        assert!(!Spans::from_runs([]).check(4, 9));
        assert!(!Spans::from_runs([run(1, 1, 1)]).check(4, 9));
        assert!(!Spans::from_runs([run(0, 1, 2)]).check(4, 9));
        assert!(!Spans::from_runs([run(0, 1, 0)]).check(4, 9));
        assert!(!Spans::from_runs([run(0, 1, 1), run(0, 2, 2)]).check(4, 9));
    }
}
