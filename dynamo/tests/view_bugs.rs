//! The mistakes in the bug bank that a coordinator can make while partitions move, each caught by the random schedules that find nothing
//! without them. A program of its own, because a switched bug is on for the whole process.

// The schedules count what they meet; here nobody reads it.
#![allow(dead_code)]

#[path = "views/judging.rs"]
mod judging;
#[path = "views/layouts.rs"]
mod layouts;
#[path = "schedule/random.rs"]
mod random;
#[path = "views/sometimes.rs"]
mod sometimes;
#[path = "views/world.rs"]
mod world;

use dynamo::bug::{Bug, switch};

/// Schedules that may be tried for one bug.
const SEEDS: u64 = 4_000;

#[test]
fn every_bug_of_coordinators_under_moving_views_is_caught_by_a_schedule() {
    assert_eq!(first_caught(None, 1_000), None, "without a bug nothing is found");
    let bugs = [
        Bug::ReadNewestOnly,
        Bug::WriteNewestOnly,
        Bug::KeepAcksAcrossViews,
        Bug::NoRaiseWhileJoint,
        Bug::CountOtherView,
        Bug::DenyPartialWrite,
    ];
    for bug in bugs {
        let caught = first_caught(Some(bug), SEEDS);
        println!("{bug:?}: {caught:?}");
        assert!(caught.is_some(), "{bug:?} was not caught");
    }
}

/// The first seed whose schedule finds something, and what.
fn first_caught(bug: Option<Bug>, seeds: u64) -> Option<(u64, String)> {
    switch(bug);
    let found = (0..seeds).find_map(|seed| world::run(seed).err().map(|why| (seed, why)));
    switch(None);
    found
}
