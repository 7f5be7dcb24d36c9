//! The bug bank against the world of [`relocation`](relocation.rs): each mistake that can be made in moving a partition is switched on, and
//! some seed must find it. Needs the feature `bug-bank`.

#[path = "relocation/clients.rs"]
mod clients;
#[path = "relocation/layouts.rs"]
mod layouts;
#[path = "support/node.rs"]
mod node;
#[path = "relocation/random.rs"]
mod random;
#[path = "relocation/runs.rs"]
mod runs;
#[path = "relocation/serving.rs"]
mod serving;
#[path = "relocation/tree.rs"]
mod tree;
#[path = "relocation/world.rs"]
mod world;

use dynamo::bug::{Bug, switch};

use layouts::Changes;
use runs::{Plan, run};

/// A mistake that is not seen by then is not found. The one that hides best shows in one seed of a hundred.
const SEEDS_MAX: u64 = 1_000;

/// The first seed that finds a mistake, and nothing without it.
fn found(bug: Bug, changes: Changes) -> Option<u64> {
    let breaks = |seed: &u64, bug| {
        switch(bug);
        let is_broken = !run(*seed, Plan { changes, kills: false }).violations.is_empty();
        switch(None);
        is_broken
    };
    (0..SEEDS_MAX).find(|seed| breaks(seed, Some(bug)) && !breaks(seed, None))
}

// One test, because the switch is the whole process's.
#[test]
fn every_mistake_in_moving_a_partition_is_found() {
    let replaces = Changes { replaces: true, resizes: false, doubles: false };
    let resizes = Changes { resizes: true, ..replaces };
    let bugs = [
        (Bug::RetireOnOneFull, replaces),
        (Bug::NoFence, replaces),
        (Bug::FullWithOne, replaces),
        (Bug::SyncBeforeFence, replaces),
        (Bug::RetireWithoutAllWhenNChanges, resizes),
        (Bug::LeaverDeletesBeforeHandover, replaces),
        (Bug::CopyCountsAsFull, replaces),
    ];
    let found = bugs.map(|(bug, changes)| (bug, found(bug, changes)));
    println!("first seeds: {found:?}");
    let missed: Vec<_> = found.iter().filter(|(_, seed)| seed.is_none()).collect();
    assert!(missed.is_empty(), "not found within {SEEDS_MAX} seeds: {missed:?}");
}
