//! How often the schedules met what they are there to meet.

use std::ops::AddAssign;

/// So often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sometimes {
    pub(crate) succeeded: u64,
    pub(crate) succeeded_in_several_configurations: u64,
    pub(crate) succeeded_after_starting_again: u64,
    pub(crate) succeeded_without_the_lost: u64,
    pub(crate) succeeded_after_a_doubling: u64,
    pub(crate) succeeded_across_a_change_of_n: u64,
    pub(crate) parked: u64,
    pub(crate) renewed: u64,
    pub(crate) forwarded: u64,
    pub(crate) stood_in: u64,
    pub(crate) failed: u64,
}

impl AddAssign for Sometimes {
    fn add_assign(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.succeeded_in_several_configurations += other.succeeded_in_several_configurations;
        self.succeeded_after_starting_again += other.succeeded_after_starting_again;
        self.succeeded_without_the_lost += other.succeeded_without_the_lost;
        self.succeeded_after_a_doubling += other.succeeded_after_a_doubling;
        self.succeeded_across_a_change_of_n += other.succeeded_across_a_change_of_n;
        self.parked += other.parked;
        self.renewed += other.renewed;
        self.forwarded += other.forwarded;
        self.stood_in += other.stood_in;
        self.failed += other.failed;
    }
}

impl Sometimes {
    /// The rarest of them.
    pub(crate) fn rarest(&self) -> u64 {
        let Self {
            succeeded,
            succeeded_in_several_configurations,
            succeeded_after_starting_again,
            succeeded_without_the_lost,
            succeeded_after_a_doubling,
            succeeded_across_a_change_of_n,
            parked,
            renewed,
            forwarded,
            stood_in,
            failed,
        } = *self;
        let met = [
            succeeded,
            succeeded_in_several_configurations,
            succeeded_after_starting_again,
            succeeded_without_the_lost,
            succeeded_after_a_doubling,
            succeeded_across_a_change_of_n,
            parked,
            renewed,
            forwarded,
            stood_in,
            failed,
        ];
        met.into_iter().min().unwrap_or(0)
    }
}
