//! Where each known mistake of the bank can be made so that it shows: in a ring that stays as it is, in one that changes, in one that
//! suffers more of something than others; or in another program.

use dynamo::bug::Bug;

use crate::{
    invariant::Invariant,
    plan::{Fault, Plan},
};

/// Mistakes that another program notices: they cost something and break nothing while everything else works, for whoever lacks something
/// gets it in the end by other ways.
pub(super) const ELSEWHERE: &[(Bug, &str)] =
    &[(Bug::ExchangeOnlyPulls, "background_bugs"), (Bug::RepairWithFirst, "schedule_bugs")];

/// Mistakes that can be made only while owners change, each with what happens more often in its runs than in others, as mean times between
/// two in milliseconds.
const MOVING: &[(Bug, &[(Fault, u32)])] = &[
    (Bug::CountOtherView, &[]),
    (Bug::AcceptOldView, &[]),
    (Bug::AcceptOldLo, &[]),
    (Bug::ViewWithoutBits, &[(Fault::DoubleQ, 6_000)]),
    (Bug::EarlyDeletion, &[]),
    (Bug::MovedRowForgotten, &[]),
    (Bug::ReapBesideFormerOwner, &[]),
    (Bug::ReadNewestOnly, &[]),
    (Bug::WriteNewestOnly, &[]),
    (Bug::KeepAcksAcrossViews, &[]),
    (Bug::NoRaiseWhileJoint, &[]),
    (Bug::TwoLayoutsForOneEpoch, &[(Fault::DoubleCommit, 3_000)]),
    (Bug::ElectorForgets, &[(Fault::DoubleCommit, 3_000), (Fault::Crash, 3_000)]),
    (Bug::AcceptBelowPromise, &[(Fault::DoubleCommit, 3_000)]),
    (Bug::NoFence, &[]),
    (Bug::FullWithOne, &[]),
    (Bug::RetireOnOneFull, &[]),
    (Bug::SyncBeforeFence, &[]),
    (Bug::RetireWithoutAllWhenNChanges, &[(Fault::ChangeN, 6_000)]),
    (Bug::LeaverDeletesBeforeHandover, &[]),
    (Bug::CopyCountsAsFull, &[]),
];

/// The plan of a seed in which a mistake can be made.
pub(super) fn plan(bug: Bug, seed: u64) -> Plan {
    let Some((_, stress)) = MOVING.iter().find(|(other, _)| *other == bug) else { return Plan::new(seed) };
    let mut plan = Plan::changing(seed);
    stress.iter().for_each(|(fault, rate)| plan.faults.set(*fault, *rate));
    plan
}

/// Whether a mistake is made in rings that change.
pub(super) fn is_moving(bug: Bug) -> bool {
    MOVING.iter().any(|(other, _)| *other == bug)
}

/// Whether this broken invariant shows a mistake. A ring that changes and does not come to rest in its time may be late for many reasons, in
/// a run that is another one from the mistake on: that is not enough.
pub(super) fn shows(bug: Bug, invariant: Invariant) -> bool {
    !(is_moving(bug) && invariant == Invariant::I9)
}
