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

use dynamo::{
    layout::{
        Layout,
        spans::{Span, Spans},
    },
    steward::TransferState,
};
use layouts::Changes;
use node::{Node, address, put};
use runs::{Plan, run};
use world::World;

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

/// A world of four nodes in which the fourth takes the place of the first in one of two partitions, which has this many records; and how
/// many of them fit into a page.
fn one_that_comes(standing: usize) -> (World, u64) {
    let mut world = World::new(1, 4, 3, 1);
    let mut bytes = 0;
    for at in 0..standing {
        let (address, mut scratch) = (address(&format!("standing-{at}")), Node::new(900 + at as u64));
        let record = scratch.mint(put(&address, "1")).record;
        bytes = record.len();
        world.key(address.clone());
        world.preload(&address, &record);
    }
    let per_page = 10;
    world.page_bytes_max = bytes * per_page;
    let before = world.ring.newest().clone();
    let mut slots = before.slots.clone();
    slots[0] = 3;
    let spans = Spans::from_partitions([Span { since: 2, oldest: 1 }, Span::settled(1)]);
    world.publish(Layout { epoch: 2, parent_hash: before.hash(), slots, spans, ..Layout::clone(&before) });
    (world, per_page as u64)
}

#[test]
fn a_copy_goes_on_where_the_process_before_stopped() {
    let (mut world, per_page) = one_that_comes(800);
    let records = records_of(&world, 0, 0);
    assert!(records > 300);
    let mut crashes = 0;
    for _ in 0..200 {
        world.run_for(23);
        if world.nodes[3].is_up && world.copied > 0 && world.copied < records {
            world.crash(3, 5);
            crashes += 1;
        }
    }
    assert!(crashes >= 5, "{crashes}");
    // With each process, the page that was merged and not yet remarked, the one being merged and the one being fetched come again.
    let most = records + crashes * 3 * per_page;
    assert!(world.copied <= most, "{} of {records} records travelled with {crashes} crashes", world.copied);
    world.run_for(5_000);
    assert_eq!(world.unsettled(), Vec::<String>::new());
}

#[test]
fn operators_see_how_far_a_partition_is_and_that_nothing_is_left_when_it_has_come() {
    let (mut world, _) = one_that_comes(800);
    let mut seen = Vec::new();
    for _ in 0..1_500 {
        world.run_for(1);
        let steward = &world.nodes[3].steward;
        let Some(transfer) = steward.transfers().pop() else { continue };
        assert_eq!((steward.transfers().len(), steward.unsettled()), (1, 1));
        if transfer.state == TransferState::Copying && transfer.records > 0 {
            assert!(transfer.peer.is_some() && transfer.records <= transfer.records_total, "{transfer:?}");
            assert_eq!(steward.transfer_totals().coming, 1);
        }
        if seen.last() != Some(&transfer.state) {
            seen.push(transfer.state);
        }
    }
    for state in [TransferState::Copying, TransferState::Fencing, TransferState::Levelling, TransferState::Retiring] {
        assert!(seen.contains(&state), "{seen:?}");
    }
    let newcomer = world.nodes[3].steward.transfer_totals();
    assert_eq!((newcomer.coming, newcomer.going, newcomer.unsettled), (0, 0, 0));
    assert!(newcomer.bytes_in > 0);
    assert_eq!(world.unsettled(), Vec::<String>::new());
    assert_eq!(records_of(&world, 0, 0), 0, "it was handed over and deleted");
}

/// How many records a node has of a partition.
fn records_of(world: &World, node: usize, partition: u32) -> u64 {
    let key = world.ring.newest().view(partition).first_key();
    world.nodes[node].node.disk.row_of(&key).expect("it has a row").records
}
