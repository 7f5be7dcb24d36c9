//! Agreement on the next layout under random trouble: no epoch ever has two layouts, nobody is told that nothing was done when
//! something was, and when the trouble is over somebody gets an answer. Also each elector by itself.

#[path = "agreement/electors.rs"]
mod electors;
#[path = "agreement/world.rs"]
mod world;

use world::{Plans, World};

/// Runs of the random schedules: a few seconds.
const SEEDS: u64 = 1_500;

#[test]
fn no_epoch_has_two_layouts_whatever_happens_to_electors_proposers_and_messages() {
    let mut plans = Plans::default();
    for seed in 0..SEEDS {
        assert_eq!(World::new(seed, &mut plans).run(), None, "seed {seed}");
    }
}
