//! What random schedules ran into. A test in which these never happen proves nothing, so each must.

use std::ops::AddAssign;

use dynamo::coordinator::Counters;

/// What schedules ran into.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sometimes {
    pub(crate) acknowledged: u64,
    pub(crate) failed_for_certain: u64,
    pub(crate) failed_unclear: u64,
    pub(crate) reads_with_siblings: u64,
    pub(crate) reads_of_deleted: u64,
    pub(crate) reads_that_must_show_something: u64,
    pub(crate) recognised_retries: u64,
    pub(crate) minted_twice: u64,
    pub(crate) minted_and_lost_in_a_crash: u64,
    pub(crate) acknowledged_without_own_commit: u64,
    pub(crate) crashes: u64,
    pub(crate) acknowledged_with_stand_ins: u64,
    pub(crate) acknowledged_by_stand_ins_alone: u64,
    pub(crate) reads_of_stand_ins: u64,
    pub(crate) minted_by_stand_ins: u64,
    pub(crate) handed_off: u64,
    pub(crate) coordinator: Counters,
}

impl AddAssign for Sometimes {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.failed_for_certain += other.failed_for_certain;
        self.failed_unclear += other.failed_unclear;
        self.reads_with_siblings += other.reads_with_siblings;
        self.reads_of_deleted += other.reads_of_deleted;
        self.reads_that_must_show_something += other.reads_that_must_show_something;
        self.recognised_retries += other.recognised_retries;
        self.minted_twice += other.minted_twice;
        self.minted_and_lost_in_a_crash += other.minted_and_lost_in_a_crash;
        self.acknowledged_without_own_commit += other.acknowledged_without_own_commit;
        self.crashes += other.crashes;
        self.acknowledged_with_stand_ins += other.acknowledged_with_stand_ins;
        self.acknowledged_by_stand_ins_alone += other.acknowledged_by_stand_ins_alone;
        self.reads_of_stand_ins += other.reads_of_stand_ins;
        self.minted_by_stand_ins += other.minted_by_stand_ins;
        self.handed_off += other.handed_off;
        let (sum, more) = (&mut self.coordinator, other.coordinator);
        sum.repairs += more.repairs;
        sum.fetches += more.fetches;
        sum.upgrades += more.upgrades;
        sum.hedges += more.hedges;
        sum.hints += more.hints;
        sum.hints_refused += more.hints_refused;
        sum.hints_read += more.hints_read;
        sum.stood_in += more.stood_in;
        sum.corrupt += more.corrupt;
        sum.unclaimed += more.unclaimed;
        sum.forwarded += more.forwarded;
        sum.timeouts += more.timeouts;
        sum.overloads += more.overloads;
        sum.unlingered += more.unlingered;
    }
}
