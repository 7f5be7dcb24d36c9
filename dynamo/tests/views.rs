//! A coordinator while partitions move: random chains of layouts, replicas whose views move on, late and lost letters. An operation ends
//! well only with a quorum in every active configuration, all under one view; it denies nothing that it wrote; and it ends in time.

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

use sometimes::Sometimes;

const SEEDS: u64 = 4_000;

#[test]
fn however_views_move_an_operation_ends_with_quorums_in_all_configurations_under_one_view() {
    let mut sometimes = Sometimes::default();
    for seed in 0..SEEDS {
        sometimes += world::run(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    println!("{sometimes:#?}");
    assert!(sometimes.rarest() > 20, "{sometimes:#?}");
}
