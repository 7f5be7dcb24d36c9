//! Partitions move while clients read and write: random changes of a ring, one on top of the other, with messages lost, doubled and late,
//! and processes that die at every step. Whatever happens, a majority read that begins after a majority write completed returns it,
//! nothing is deleted too early, and every change ends once faults stop.

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

use layouts::Changes;
use runs::{Plan, run};

/// Seeds of each kind of run: some seconds together.
const SEEDS: u64 = 60;

const REPLACES: Changes = Changes { replaces: true, resizes: false, doubles: false };

fn all_go_well(plan: Plan) {
    let (mut done, mut changes) = (0, 0);
    for seed in 0..SEEDS {
        let outcome = run(seed, plan);
        assert!(outcome.violations.is_empty(), "seed {seed}: {:#?}", outcome.violations);
        assert!(outcome.unsettled.is_empty(), "seed {seed} does not end: {:#?}", outcome.unsettled);
        done += outcome.done;
        changes += outcome.changes;
    }
    assert!(done > 200 * SEEDS && changes > 3 * SEEDS, "{done} operations, {changes} changes");
}

#[test]
fn owners_are_replaced_and_replaced_back_and_no_read_misses_a_write() {
    all_go_well(Plan { changes: REPLACES, kills: false });
}

#[test]
fn a_node_that_dies_for_good_is_replaced() {
    all_go_well(Plan { changes: REPLACES, kills: true });
}

#[test]
fn the_number_of_replicas_changes_and_every_owner_fills_up_first() {
    all_go_well(Plan { changes: Changes { resizes: true, ..REPLACES }, kills: false });
}

#[test]
fn the_number_of_partitions_doubles_while_they_move() {
    all_go_well(Plan { changes: Changes { doubles: true, ..REPLACES }, kills: false });
}

#[test]
fn everything_changes_at_once() {
    all_go_well(Plan { changes: Changes { replaces: true, resizes: true, doubles: true }, kills: false });
}
