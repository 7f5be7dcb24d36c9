//! The mistakes in the bug bank that coordinators and books of hints can make, each caught by the random schedules that find
//! nothing without them. A program of its own, because a switched bug is on for the whole process.

// The schedules count what they meet; here nobody reads it.
#![allow(dead_code)]

#[path = "schedule/clients.rs"]
mod clients;
#[path = "support/hints.rs"]
mod hints;
#[path = "schedule/history.rs"]
mod history;
#[path = "support/node.rs"]
mod node;
#[path = "schedule/random.rs"]
mod random;
#[path = "schedule/sometimes.rs"]
mod sometimes;
#[path = "schedule/world.rs"]
mod world;

use std::panic;

use dynamo::bug::{Bug, switch};
use sometimes::Sometimes;
use world::World;

/// Schedules that may be tried for one bug.
const SEEDS: u64 = 2_000;
const STEPS: u32 = 4_000;

#[test]
fn every_bug_of_coordinators_and_books_is_caught_by_a_schedule() {
    panic::set_hook(Box::new(|_| {}));
    assert_eq!(first_caught(None, 100), None, "without a bug nothing is found");
    let bugs = [
        Bug::AcknowledgeBeforeDurable,
        Bug::CountOneNodeTwice,
        Bug::CountRefusedHint,
        Bug::StandInCountsForQuorum,
        Bug::ReadQuorumOfOne,
        Bug::RepairWithFirst,
        Bug::ErrorReadAsAbsent,
        Bug::PutReturnsWholeContext,
        Bug::DeleteCoversNothing,
        Bug::SucceedAtDeadline,
        Bug::DenyPartialWrite,
        Bug::TakeOthersAnswer,
        Bug::StandInKeepsActor,
        Bug::StandInForgetsItsHints,
        Bug::ReplaceHint,
        Bug::DropChangedHint,
    ];
    let mut missed = Vec::new();
    for bug in bugs {
        match first_caught(Some(bug), SEEDS) {
            Some((seed, why)) => println!("{bug:?}: seed {seed}: {}", why.chars().take(160).collect::<String>()),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// The first seed whose schedule fails with this bug, and why.
fn first_caught(bug: Option<Bug>, seeds: u64) -> Option<(u64, String)> {
    switch(bug);
    let caught = (0..seeds).find_map(|seed| {
        let run = panic::catch_unwind(|| {
            let mut world = World::new(seed);
            (0..STEPS).for_each(|_| world.step());
            world.heal_and_check();
        });
        let text = |cause: Box<dyn std::any::Any + Send>| cause.downcast_ref::<String>().cloned().unwrap_or_default();
        run.err().map(|cause| (seed, text(cause)))
    });
    switch(None);
    caught
}
