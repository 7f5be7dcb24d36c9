//! The mistakes in the bug bank that electors and proposers can make, each caught by the random schedules that find nothing
//! without them. A program of its own, because a switched bug is on for the whole process.

#[path = "agreement/world.rs"]
mod world;

use dynamo::bug::{Bug, switch};
use world::{Plans, World};

/// Schedules that may be tried for one bug.
const SEEDS: u64 = 1_500;

#[test]
fn every_bug_of_electors_and_proposers_is_caught_by_a_schedule() {
    let mut plans = Plans::default();
    for bug in [Bug::TwoLayoutsForOneEpoch, Bug::ElectorForgets, Bug::AcceptBelowPromise] {
        switch(Some(bug));
        let caught = (0..SEEDS).find_map(|seed| World::new(seed, &mut plans).run().map(|what| (seed, what)));
        switch(None);
        let (seed, what) = caught.unwrap_or_else(|| panic!("{bug:?} was not caught"));
        assert!(what.contains("two layouts") || what.contains("nothing was said"), "{bug:?}, seed {seed}: {what}");
        println!("{bug:?}: seed {seed}, {what}");
    }
}
