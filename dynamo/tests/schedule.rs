//! Random schedules: real coordinators, replicas and books of hints over an in-memory store, under a scheduler that delays,
//! reorders, doubles, damages and drops messages, lets transactions fail, and kills nodes between a mint and its commit. Clients put,
//! delete, read and retry through any node; a history of what they asked and were told judges every answer (design, proof,
//! "Invariants, by name").
//!
//! One seed gives one schedule. A failing seed is named in the panic: `QUORATE_SEED=<seed>` replays it alone,
//! `QUORATE_SEEDS=<count>` runs more of them.

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

use std::{env, panic};

use sometimes::Sometimes;
use world::World;

/// Enough for every branch below to be taken dozens of times, within seconds.
const SEEDS: u64 = 1_000;
const STEPS: u32 = 4_000;

#[test]
fn whatever_the_schedule_no_acknowledged_write_is_lost_and_all_replicas_converge() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match number("QUORATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("QUORATE_SEEDS").unwrap_or(SEEDS),
    };
    let is_whole_run = seeds.end - seeds.start >= SEEDS;
    let mut sometimes = Sometimes::default();
    for seed in seeds {
        let run = panic::catch_unwind(|| {
            let mut world = World::new(seed);
            (0..STEPS).for_each(|_| world.step());
            world.heal_and_check();
            world.sometimes()
        });
        match run {
            Ok(met) => sometimes += met,
            Err(cause) => {
                eprintln!("replay with QUORATE_SEED={seed}");
                panic::resume_unwind(cause);
            }
        }
    }
    println!("{sometimes:#?}");
    if is_whole_run {
        assert_met(&sometimes);
    }
}

#[test]
fn the_same_seed_is_the_same_schedule() {
    let run = |seed| {
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step());
        world.fingerprint()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

fn assert_met(met: &Sometimes) {
    let counts = [
        ("acknowledged", met.acknowledged),
        ("failed for certain", met.failed_for_certain),
        ("failed unclear", met.failed_unclear),
        ("reads with siblings", met.reads_with_siblings),
        ("reads of deleted keys", met.reads_of_deleted),
        ("reads that must show something", met.reads_that_must_show_something),
        ("recognised retries", met.recognised_retries),
        ("minted twice", met.minted_twice),
        ("minted and lost in a crash", met.minted_and_lost_in_a_crash),
        ("acknowledged without the own commit", met.acknowledged_without_own_commit),
        ("crashes", met.crashes),
        ("acknowledged with stand-ins", met.acknowledged_with_stand_ins),
        ("acknowledged by stand-ins alone", met.acknowledged_by_stand_ins_alone),
        ("reads that counted stand-ins", met.reads_of_stand_ins),
        ("minted by stand-ins", met.minted_by_stand_ins),
        ("hints handed off", met.handed_off),
        ("repairs", met.coordinator.repairs),
        ("fetches", met.coordinator.fetches),
        ("upgrades", met.coordinator.upgrades),
        ("hedges", met.coordinator.hedges),
        ("hints", met.coordinator.hints),
        ("hints refused", met.coordinator.hints_refused),
        ("hints read", met.coordinator.hints_read),
        ("coordinated in the owners' place", met.coordinator.stood_in),
        ("damaged records", met.coordinator.corrupt),
        ("unclaimed answers", met.coordinator.unclaimed),
        ("forwarded", met.coordinator.forwarded),
        ("timeouts", met.coordinator.timeouts),
        ("overloads", met.coordinator.overloads),
        ("reads cut short", met.coordinator.unlingered),
    ];
    for (name, count) in counts {
        assert!(count >= 20, "the schedules met \"{name}\" only {count} times: they no longer test it");
    }
}
