//! From a consistency level, or explicit r, w and n, to numbers: how many owners are used and how many of them must answer
//! (design, quorum, "Levels").

use alloc::format;

use crate::{
    bug::{self, Bug},
    layout::{BucketProperties, Level},
    operation::{Consistency, ErrorCode, Failure},
    quorum::majority,
};

/// How many owners of a configuration must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// So many, or all if there are fewer.
    Number(u8),
    /// More than half, as [`majority`] has it beside lost ones.
    Majority,
    /// All.
    All,
}

/// What an operation asks of replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    /// Owners in use: the first so many of the preference list, or all. Not N for all: while N changes, a configuration has another.
    pub(super) owners: usize,
    /// Replicas that must give their record before a read is answered.
    pub(super) read: Wanted,
    /// Replicas that must have a write on disk before it is acknowledged.
    pub(super) write: Wanted,
    /// Whether stand-ins count beside owners: level `available`.
    pub(super) is_sloppy: bool,
}

impl Wanted {
    /// The number for a configuration with so many owners in use, at least a majority if it `is_raised`. A new owner is FULL when it has
    /// merged a majority of each older configuration, so it has all that majorities wrote and no more; and who writes to fewer, or reads
    /// from fewer, while two configurations are active, could miss it for good. `lost` owners beside them were given up.
    pub(super) fn of(self, owners: u8, lost: u8, is_raised: bool) -> u8 {
        let majority = majority(usize::from(owners), usize::from(lost)) as u8;
        let asked = match self {
            Self::Number(number) => number.min(owners),
            Self::Majority => majority,
            Self::All => owners,
        };
        if is_raised && !bug::is_on(Bug::NoRaiseWhileJoint) { asked.max(majority) } else { asked }
    }
}

impl Demand {
    /// What `asked` means for a bucket with these properties, under a layout with `replicas` slots a partition (N).
    ///
    /// The request's r and w go before its level, and both before the bucket's. An r or w that N allows and the owners
    /// there are can't meet is lowered to their number; the receipt shows it.
    pub(super) fn resolve(asked: &Consistency, bucket: &BucketProperties, replicas: u8) -> Result<Self, Failure> {
        let level = asked.level.unwrap_or(bucket.level);
        let n = if asked.n == 0 { replicas } else { asked.n };
        if n > replicas || asked.r > n || asked.w > n {
            return Err(too_much(asked, replicas));
        }
        let usual = match level {
            Level::One => Wanted::Number(1),
            Level::Available | Level::Quorum => Wanted::Majority,
            Level::All => Wanted::All,
        };
        let wanted = |asked_number: u8, bucket_number: u8| match (asked_number, asked.level, bucket_number) {
            (1.., _, _) => Wanted::Number(asked_number),
            (0, None, 1..) => Wanted::Number(bucket_number),
            (0, Some(_), _) | (0, None, 0) => usual,
        };
        let is_sloppy = level == Level::Available || bug::is_on(Bug::StandInCountsForQuorum);
        let (read, write) = (wanted(asked.r, bucket.r), wanted(asked.w, bucket.w));
        let owners = if n == replicas { usize::MAX } else { usize::from(n) };
        Ok(Self { owners, read, write, is_sloppy })
    }
}

fn too_much(asked: &Consistency, replicas: u8) -> Failure {
    let Consistency { level: _, r, w, n } = asked;
    Failure::with_message(
        ErrorCode::InvalidRequest,
        format!(
            "r={r} w={w} n={n} asks for more than there is: the layout has N={replicas}, and r and w can't exceed n; nothing was done"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::{Demand, Wanted};
    use crate::{
        layout::{BucketProperties, Level},
        operation::{Consistency, ErrorCode},
    };

    /// In numbers, for a key with so many owners.
    fn resolve(level: Option<Level>, [r, w, n]: [u8; 3], owners: usize) -> Result<(usize, u8, u8), ErrorCode> {
        let bucket = BucketProperties { r: 1, w: 3, ..BucketProperties::default() };
        let demand = Demand::resolve(&Consistency { level, r, w, n }, &bucket, 3).map_err(|failure| failure.code)?;
        let in_use = demand.owners.min(owners);
        let number = |wanted: Wanted| wanted.of(in_use as u8, 0, false);
        Ok((in_use, number(demand.read), number(demand.write)))
    }

    #[test]
    fn levels_are_one_a_majority_or_all_of_the_owners_in_use() {
        assert_eq!(resolve(Some(Level::One), [0; 3], 3), Ok((3, 1, 1)));
        assert_eq!(resolve(Some(Level::Quorum), [0; 3], 3), Ok((3, 2, 2)));
        assert_eq!(resolve(Some(Level::All), [0; 3], 3), Ok((3, 3, 3)));
        assert_eq!(resolve(Some(Level::Quorum), [0; 3], 2), Ok((2, 2, 2)));
        assert_eq!(resolve(Some(Level::Quorum), [0; 3], 1), Ok((1, 1, 1)));
        assert_eq!(resolve(Some(Level::All), [0, 0, 2], 3), Ok((2, 2, 2)));
        assert_eq!(resolve(Some(Level::Available), [0; 3], 3), Ok((3, 2, 2)));
        assert_eq!(resolve(Some(Level::Available), [0; 3], 1), Ok((1, 1, 1)));
    }

    #[test]
    fn the_request_goes_before_the_bucket_and_numbers_before_levels() {
        assert_eq!(resolve(None, [0; 3], 3), Ok((3, 1, 3)));
        assert_eq!(resolve(None, [2, 0, 0], 3), Ok((3, 2, 3)));
        assert_eq!(resolve(Some(Level::All), [0, 1, 0], 3), Ok((3, 3, 1)));
    }

    #[test]
    fn numbers_above_the_owners_there_are_are_lowered_and_those_above_n_refused() {
        assert_eq!(resolve(None, [3, 3, 0], 2), Ok((2, 2, 2)));
        assert_eq!(resolve(None, [4, 0, 0], 3), Err(ErrorCode::InvalidRequest));
        assert_eq!(resolve(None, [0, 4, 0], 3), Err(ErrorCode::InvalidRequest));
        assert_eq!(resolve(None, [0, 0, 4], 3), Err(ErrorCode::InvalidRequest));
        assert_eq!(resolve(None, [3, 0, 2], 3), Err(ErrorCode::InvalidRequest));
    }

    #[test]
    fn stand_ins_count_at_the_level_available_alone_whatever_the_numbers_are() {
        let bucket = BucketProperties { level: Level::Available, ..BucketProperties::default() };
        let is_sloppy = |level, w| {
            let consistency = Consistency { level, w, ..Consistency::default() };
            Demand::resolve(&consistency, &bucket, 3).unwrap().is_sloppy
        };
        for level in [Level::One, Level::Quorum, Level::All, Level::Available] {
            for w in 0..4 {
                assert_eq!(is_sloppy(Some(level), w), level == Level::Available);
                assert!(is_sloppy(None, w), "the bucket says so");
            }
        }
        assert_eq!(resolve(Some(Level::Available), [1, 3, 0], 2), Ok((2, 1, 2)));
    }

    #[test]
    fn while_several_configurations_are_active_a_majority_of_each_is_the_least() {
        for owners in 1..=7 {
            let majority = owners / 2 + 1;
            assert_eq!(Wanted::Number(1).of(owners, 0, true), majority);
            assert_eq!(Wanted::Majority.of(owners, 0, true), majority);
            assert_eq!(Wanted::All.of(owners, 0, true), owners);
            assert_eq!(Wanted::Number(7).of(owners, 0, true), owners);
            assert_eq!(Wanted::Number(1).of(owners, 0, false), 1);
            assert_eq!(Wanted::Majority.of(owners, 0, false), owners / 2 + 1);
        }
    }
}
