//! The protocol by which partitions move, looked at alone (design, ring, "Moving a partition"): random schedules of fences, copies,
//! retirements and deletions under a register, and known mistakes that must be found.

mod layouts;
mod mistake;
mod mover;
mod owner;
#[path = "../schedule/random.rs"]
mod random;
mod world;

use std::time::Instant;

use mistake::Mistake;
use world::{Met, World};

/// Steps of one schedule.
const STEPS: u32 = 1_000;

/// Schedules of the usual run; `QUORATE_PROTOCOL_SCHEDULES` asks for more.
const SCHEDULES: u64 = 3_000;

/// Schedules after which a mistake counts as unnoticed, and the number of violations with which the search ends.
const SCHEDULES_MAX: u64 = 20_000;
const FOUND_ENOUGH: u64 = 10;

/// Runs one schedule; what was broken, if anything.
fn run(seed: u64, mistake: Option<Mistake>) -> (Met, Option<String>) {
    let mut world = World::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d), mistake);
    for _ in 0..STEPS {
        world.step();
        if world.broken.is_some() {
            break;
        }
    }
    (world.met, world.broken)
}

/// How many schedules break something, of how many.
fn search(run: impl Fn(u64) -> (Met, Option<String>)) -> (u64, u64) {
    let (mut found, mut schedules) = (0, 0);
    while found < FOUND_ENOUGH && schedules < SCHEDULES_MAX {
        found += u64::from(run(schedules).1.is_some());
        schedules += 1;
    }
    (found, schedules)
}

#[test]
fn a_majority_read_returns_every_majority_write_that_completed_before_it_however_owners_change() {
    let asked = std::env::var("QUORATE_PROTOCOL_SCHEDULES").ok().and_then(|count| count.parse().ok());
    let (schedules, started) = (asked.unwrap_or(SCHEDULES), Instant::now());
    let mut met = Met::default();
    for seed in 0..schedules {
        let (more, broken) = run(seed, None);
        assert_eq!(broken, None, "schedule {seed}");
        met.add(&more);
    }
    println!("{schedules} schedules in {:.1} s: {met:?}", started.elapsed().as_secs_f64());
    for (what, count) in met.named() {
        assert!(count >= schedules / 20, "only {count} {what} in {schedules} schedules");
    }
}

#[test]
fn every_known_mistake_of_the_protocol_is_found() {
    let mut missed = Vec::new();
    for mistake in Mistake::ALL {
        let (found, schedules) = search(|seed| run(seed, Some(mistake)));
        println!("{mistake:?}: found in {found} of {schedules} schedules");
        if found == 0 {
            missed.push(mistake);
        }
    }
    assert_eq!(missed, [], "not found");
}
