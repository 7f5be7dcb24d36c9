//! From a consistency level, or explicit r, w and n, to numbers: how many owners are used and how many of them must answer
//! (design, quorum, "Levels").

use alloc::format;

use crate::{
    bug::{self, Bug},
    layout::{BucketProperties, Level},
    operation::{Consistency, ErrorCode, Failure},
};

/// What an operation asks of replication, in numbers that can be met by the owners there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    /// Owners in use: the first so many of the preference list.
    pub(super) owners: usize,
    /// Replicas that must give their record before a read is answered.
    pub(super) read: u8,
    /// Replicas that must have a write on disk before it is acknowledged.
    pub(super) write: u8,
    /// Whether stand-ins count beside owners: level `available`.
    pub(super) is_sloppy: bool,
}

impl Demand {
    /// What `asked` means for a bucket with these properties, under a layout with `replicas` slots a partition (N), for a
    /// key that has `owners` owners (at most N; fewer while there are fewer nodes).
    ///
    /// The request's r and w go before its level, and both before the bucket's. An r or w that N allows and the owners
    /// there are can't meet is lowered to their number; the receipt shows it.
    pub(super) fn resolve(
        asked: &Consistency,
        bucket: &BucketProperties,
        replicas: u8,
        owners: usize,
    ) -> Result<Self, Failure> {
        let level = asked.level.unwrap_or(bucket.level);
        let n = if asked.n == 0 { replicas } else { asked.n };
        if n > replicas || asked.r > n || asked.w > n {
            return Err(too_much(asked, replicas));
        }
        let owners = owners.min(usize::from(n));
        let Ok(in_use @ 1..) = u8::try_from(owners) else {
            return Err(Failure::new(
                ErrorCode::Unavailable,
                "no node owns this key under the layout; nothing was done, wait until the ring has nodes",
            ));
        };
        let usual = match level {
            Level::One => 1,
            Level::Available | Level::Quorum => in_use / 2 + 1,
            Level::All => in_use,
        };
        let number = |asked_number: u8, bucket_number: u8| match (asked_number, asked.level, bucket_number) {
            (1.., _, _) => asked_number.min(in_use),
            (0, None, 1..) => bucket_number.min(in_use),
            (0, Some(_), _) | (0, None, 0) => usual,
        };
        let is_sloppy = level == Level::Available || bug::is_on(Bug::StandInCountsForQuorum);
        Ok(Self { owners, read: number(asked.r, bucket.r), write: number(asked.w, bucket.w), is_sloppy })
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
    use super::Demand;
    use crate::{
        layout::{BucketProperties, Level},
        operation::{Consistency, ErrorCode},
    };

    fn resolve(level: Option<Level>, [r, w, n]: [u8; 3], owners: usize) -> Result<(usize, u8, u8), ErrorCode> {
        let bucket = BucketProperties { r: 1, w: 3, ..BucketProperties::default() };
        let demand = Demand::resolve(&Consistency { level, r, w, n }, &bucket, 3, owners);
        demand.map(|demand| (demand.owners, demand.read, demand.write)).map_err(|failure| failure.code)
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
            Demand::resolve(&consistency, &bucket, 3, 3).unwrap().is_sloppy
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
    fn a_key_without_owners_is_unavailable() {
        assert_eq!(resolve(None, [0; 3], 0), Err(ErrorCode::Unavailable));
    }
}
