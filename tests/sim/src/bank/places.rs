//! Where each known mistake of the bank can be made so that it shows: in a ring that stays as it is, in one that changes, in one that
//! suffers more of something than others; or in another program.

use dynamo::bug::Bug;

use crate::{
    invariant::Invariant,
    plan::{Fault, Plan},
};

/// Why a mistake breaks no invariant in the simulator, and which other program notices it.
pub(super) struct Elsewhere {
    /// Why.
    pub(super) reason: &'static str,
    /// The test of `dynamo` that notices it.
    pub(super) program: &'static str,
}

/// Whoever lacks something gets it in the end by other ways.
const COSTS: &str = "costs something and breaks nothing while everything else works";

/// Mistakes that other programs notice.
const ELSEWHERE: &[(Bug, Elsewhere)] = &[
    (Bug::ExchangeOnlyPulls, Elsewhere { reason: COSTS, program: "background_bugs" }),
    (Bug::RepairWithFirst, Elsewhere { reason: COSTS, program: "schedule_bugs" }),
    (
        Bug::ViewWithoutBits,
        Elsewhere {
            reason: "a child has a configuration of its parent's name only while it has the same owners",
            program: "move_bugs",
        },
    ),
];

/// Mistakes that can be made only while owners change, each with what happens more often in its runs than in others, as mean times between
/// two in milliseconds.
const MOVING: &[(Bug, &[(Fault, u32)])] = &[
    (Bug::CountOtherView, &[]),
    (Bug::AcceptOldView, &[]),
    (Bug::AcceptOldLo, &[(Fault::Replace, 4_000), (Fault::Cut, 1_000)]),
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
    (Bug::MajorityOfTheRest, &[(Fault::GiveUp, 6_000)]),
    (Bug::CountLostOwner, &[(Fault::GiveUp, 6_000)]),
    (Bug::LostCountsAsMerged, &[(Fault::GiveUp, 6_000)]),
    (Bug::LostHandsOver, &[(Fault::GiveUp, 6_000)]),
    (Bug::BereftCountsAsRetired, &[(Fault::GiveUp, 6_000)]),
];

/// The plan of a seed in which a mistake can be made.
pub(super) fn plan(bug: Bug, seed: u64) -> Plan {
    let Some((_, stress)) = MOVING.iter().find(|(other, _)| *other == bug) else { return Plan::new(seed) };
    let mut plan = Plan::changing(seed);
    stress.iter().for_each(|(fault, rate)| plan.faults.set(*fault, *rate));
    plan
}

/// Which other program notices a mistake, if the simulator does not.
pub(super) fn elsewhere(bug: Bug) -> Option<&'static Elsewhere> {
    ELSEWHERE.iter().find(|(other, _)| *other == bug).map(|(_, elsewhere)| elsewhere)
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
