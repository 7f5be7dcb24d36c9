//! Background repair as a whole (paper, sections 4.6 and 4.7): real stewards bring real replicas level without any read, say
//! when there is nothing to do, and lose no hint and no write on the way. What it costs is counted.

#[path = "support/node.rs"]
mod node;
#[path = "background/world.rs"]
mod world;

use dynamo::{
    layout::NodeIndex,
    operation::Address,
    steward::{Input, State},
};
use node::{BITS, address};
use proptest::prelude::*;
use world::{Traffic, World, layout};

const RUN_EXCHANGE: Input = Input::Run { exchange: true, hints: false };

fn key(number: usize) -> Address {
    address(&format!("key {number}"))
}

/// Three owners of everything, level, with so many keys.
fn level(keys: usize) -> World {
    let mut world = World::new(layout(3, 3), |_| {});
    for number in 0..keys {
        world.write(&[number % 3, (number + 1) % 3, (number + 2) % 3], &key(number), "first");
    }
    world
}

#[test]
fn replicas_with_random_differences_become_byte_identical_without_any_read() {
    let mut world = level(3_000);
    for number in 0..3_000 {
        match number % 100 {
            0 => world.write_at(0, &key(number), "only at the first"),
            1 => world.write_at(2, &key(number), "only at the last"),
            2 => {
                world.write_at(0, &key(number), "concurrent");
                world.write_at(1, &key(number), "siblings");
            }
            3 => world.write_at(1, &key(10_000 + number), "new at one"),
            _ => {}
        }
    }
    assert_eq!(world.differences(), 120);
    world.tell(0, RUN_EXCHANGE);
    world.run_for(20_000);
    world.tell(1, RUN_EXCHANGE);
    world.run_for(20_000);
    assert!(world.is_level(), "{} keys differ", world.differences());
    let repaired = world.repaired();
    assert!((240..=300).contains(&repaired), "two copies of each difference were behind: {repaired}");
    for node in 0..3 {
        world.tell(node, RUN_EXCHANGE);
    }
    world.run_for(20_000);
    assert_eq!(world.repaired(), repaired, "when there is nothing to repair, nothing is repaired");
    let status = world.members[0].steward.status();
    assert_eq!((status.exchange.state, status.exchange.done, status.exchange.total), (State::Idle, 32, 32));
    assert!(status.exchange.ended_at.is_some());
}

#[test]
fn a_level_partition_costs_one_sum_and_one_round_trip() {
    let mut world = level(2_000);
    world.tell(0, RUN_EXCHANGE);
    world.run_for(20_000);
    // 16 partitions with two owners each.
    assert_eq!(world.traffic, Traffic { tree_bytes: 32 * 16, object_bytes: 0, messages: 32 * 2 });
}

#[test]
fn a_difference_costs_one_path_through_the_tree_and_its_record() {
    let mut world = World::new(layout(2, 2), |_| {});
    for number in 0..40_000 {
        world.write(&[number % 2, (number + 1) % 2], &key(number), "first");
    }
    for number in 0..10 {
        world.write_at(0, &key(number * 1_000), "second");
    }
    world.tell(0, RUN_EXCHANGE);
    world.run_for(20_000);
    assert!(world.is_level());
    let Traffic { tree_bytes, object_bytes, .. } = world.traffic;
    println!("10 differences among 40,000 keys: {tree_bytes} bytes of trees, {object_bytes} bytes of objects");
    // A sum for each partition; for each difference 256 sums, then some ten keys.
    assert!(tree_bytes < 16 * 16 + 10 * (4_096 + 64 * 30), "{tree_bytes}");
    assert!(object_bytes < 10 * 4 * 250, "{object_bytes}");
}

#[test]
fn a_write_on_its_way_is_no_difference() {
    let mut world = level(500);
    let minted = world.write(&[0], &key(7), "on its way");
    world.tell(0, RUN_EXCHANGE);
    // The trees have been compared by then, and the difference is yet to be confirmed.
    world.run_for(100);
    for node in 1..3 {
        world.members[node].node.merge(&key(7), &minted);
    }
    world.run_for(10_000);
    assert_eq!(world.repaired(), 0);
    assert!(world.is_level());
}

#[test]
fn every_partition_is_compared_in_its_turn_without_being_asked_for() {
    let mut world = World::new(layout(3, 3), |config| config.exchange_every_ms = 10_000);
    for number in 0..200 {
        world.write_at(number % 3, &key(number), "at one owner");
    }
    world.run_for(60_000);
    assert!(world.is_level(), "{} keys differ", world.differences());
    let exchanges: Vec<u64> = world.members.iter().map(|member| member.steward.status().exchange.repaired).collect();
    assert!(exchanges.iter().all(|&repaired| repaired > 0), "{exchanges:?}");
}

#[test]
fn a_node_that_comes_back_is_levelled_soon_and_one_that_ended_without_order_at_once() {
    let mut world = level(300);
    world.set_up(2, false);
    for number in 0..50 {
        world.write(&[0, 1], &key(number), "while it was away");
    }
    world.run_for(5_000);
    assert_eq!(world.differences(), 50);
    world.set_up(2, true);
    world.run_for(10_000);
    assert!(world.is_level());
    let mut world = World::new(layout(3, 3), |config| config.is_unclean = config.me == Some(NodeIndex(1)));
    for number in 0..50 {
        world.write(&[0, 2], &key(number), "not at the second");
    }
    world.run_for(10_000);
    assert!(world.is_level());
}

#[test]
fn a_node_that_is_away_makes_the_work_wait_and_nothing_is_asked_meanwhile() {
    let mut world = level(100);
    world.set_up(1, false);
    world.set_up(2, false);
    world.write_at(0, &key(3), "alone");
    world.tell(0, RUN_EXCHANGE);
    world.run_for(60_000);
    assert_eq!(world.members[0].steward.status().exchange.state, State::Waiting);
    assert_eq!(world.traffic, Traffic::default());
    world.set_up(1, true);
    world.set_up(2, true);
    world.run_for(60_000);
    assert!(world.is_level());
    assert_eq!(world.members[0].steward.status().exchange.state, State::Idle);
}

#[test]
fn a_damaged_part_of_a_store_keeps_no_other_partition_from_being_levelled() {
    let mut world = level(300);
    world.members[0].unfit_below = 1 << (BITS - 1);
    let is_fit = |address: &Address| address.store_key.id().prefix(BITS) >= 1 << (BITS - 1);
    for number in (0..300).filter(|&number| is_fit(&key(number))) {
        world.write_at(2, &key(number), "second");
    }
    assert!(world.differences() > 50);
    world.tell(0, RUN_EXCHANGE);
    world.tell(1, RUN_EXCHANGE);
    // Less than the first rest after a failure, were a node to rest for it.
    world.run_for(400 + 250);
    assert!(world.is_level(), "{} keys differ", world.differences());
    assert!(world.members[0].steward.status().exchange.failed > 0);
    assert_eq!(world.members[0].steward.status().exchange.state, State::Idle);
    assert!(world.members[0].steward.partitions_at_work().is_empty());
}

#[test]
fn a_partition_is_at_work_from_the_first_question_to_the_last_write() {
    let mut world = level(10);
    world.write_at(1, &key(3), "second");
    let partition = key(3).store_key.id().prefix(BITS);
    world.tell(0, RUN_EXCHANGE);
    assert!(world.members[0].steward.partitions_at_work().contains(&partition));
    world.run_for(100);
    assert_eq!(world.differences(), 1, "the difference rests before it is confirmed");
    assert!(world.members[0].steward.partitions_at_work().contains(&partition));
    world.run_for(60_000);
    assert!(world.is_level() && world.members[0].steward.partitions_at_work().is_empty());
}

#[test]
fn lost_and_doubled_messages_delay_and_harm_nothing() {
    let mut world = level(1_000);
    for number in 0..200 {
        world.write_at(number % 3, &key(number), "at one");
    }
    (world.doubles_answers, world.loses_every) = (true, 50);
    for _ in 0..10 {
        for node in 0..3 {
            world.tell(node, RUN_EXCHANGE);
        }
        world.run_for(60_000);
    }
    assert!(world.is_level(), "{} keys differ", world.differences());
    let failed: u64 = world.members.iter().map(|member| member.steward.status().exchange.failed).sum();
    assert!(failed > 0, "no loss was noticed");
}

#[test]
fn a_throttled_steward_needs_longer_and_still_ends() {
    let run = |permille| {
        let mut world = level(2_000);
        for number in 0..2_000 {
            world.write_at(0, &key(number), "second");
        }
        world.tell(0, Input::Share { permille });
        world.tell(0, RUN_EXCHANGE);
        let mut seconds = 0;
        while !world.is_level() && seconds < 3_000 {
            world.run_for(1_000);
            seconds += 1;
        }
        seconds
    };
    let (full, floor) = (run(1_000), run(1));
    assert!(full <= 10, "{full} s");
    assert!(floor >= 10 * full && floor < 300, "{floor} s at the floor, {full} s at full speed");
}

#[test]
fn hints_are_delivered_when_their_target_is_there_and_deleted_after() {
    let mut world = World::new(layout(5, 3), |_| {});
    let mut kept = 0;
    for number in 0..1_000 {
        let owners = world.owners(&key(number));
        let stand_in = (0..5).find(|node| !owners.contains(node)).expect("five nodes, three owners");
        if owners.contains(&1) {
            let others: Vec<usize> = owners.into_iter().filter(|&owner| owner != 1).collect();
            let record = world.write(&others, &key(number), "while one was away");
            world.keep_hint(stand_in, 1, &key(number), &record);
            kept += 1;
        }
    }
    assert!(kept > 500);
    world.set_up(1, false);
    world.run_for(20_000);
    assert_eq!(world.members.iter().map(|member| member.hints.len()).sum::<usize>(), kept, "none is dropped meanwhile");
    world.set_up(1, true);
    // Before the steward compares what the node missed: it is the hints that bring it.
    world.run_for(1_900);
    assert!(world.members.iter().all(|member| member.hints.is_empty()));
    assert!(world.is_level(), "{} keys differ", world.differences());
    assert_eq!(world.repaired(), 0);
    let delivered: u64 = world.members.iter().map(|member| member.steward.status().hints.repaired).sum();
    assert_eq!(delivered, kept as u64);
}

#[test]
fn a_hint_that_changes_after_it_was_sent_stays_and_is_delivered_again() {
    let mut world = World::new(layout(5, 3), |_| {});
    let owners = world.owners(&key(1));
    let target = owners[0];
    let stand_in = (0..5).find(|node| !owners.contains(node)).expect("a stand-in");
    let first = world.write(&[owners[1]], &key(1), "first");
    let second = world.write(&[owners[1]], &key(1), "second");
    world.keep_hint(stand_in, target, &key(1), &first);
    world.run_for(1);
    // It was sent, and its acknowledgement is on its way.
    assert_eq!(world.members[target].node.record(&key(1)), Some(first));
    assert_eq!(world.members[stand_in].hints.len(), 1);
    world.keep_hint(stand_in, target, &key(1), &second);
    world.run_for(5_000);
    assert_eq!(world.members[target].node.record(&key(1)), Some(second), "it was not deleted for the first one's sake");
    assert!(world.members[stand_in].hints.is_empty());
}

#[test]
fn a_hint_that_its_target_refuses_is_kept_and_sent_again_now_and_then_only() {
    let mut world = World::new(layout(5, 3), |_| {});
    let owners = world.owners(&key(1));
    let stand_in = (0..5).find(|node| !owners.contains(node)).expect("a stand-in");
    let record = world.write(&owners, &key(1), "first");
    world.damage(owners[0], &key(1));
    world.keep_hint(stand_in, owners[0], &key(1), &record);
    world.run_for(300_000);
    assert_eq!(world.members[stand_in].hints.len(), 1);
    assert!((10..40).contains(&world.traffic.messages), "{:?}", world.traffic);
    world.tell(owners[0], Input::Corrupt { store_key: key(1).store_key });
    world.run_for(60_000);
    assert!(world.members[stand_in].hints.is_empty(), "once the record is rebuilt there");
}

#[test]
fn a_full_target_keeps_the_hints_where_they_are_until_it_has_room() {
    let mut world = World::new(layout(5, 3), |_| {});
    let owners = world.owners(&key(1));
    let stand_in = (0..5).find(|node| !owners.contains(node)).expect("a stand-in");
    let record = world.write(&owners[1..], &key(1), "first");
    world.keep_hint(stand_in, owners[0], &key(1), &record);
    world.members[owners[0]].is_full = true;
    world.run_for(60_000);
    assert_eq!(world.members[stand_in].hints.len(), 1);
    assert!(world.members[stand_in].steward.status().hints.failed > 0);
    world.members[owners[0]].is_full = false;
    world.run_for(60_000);
    assert!(world.members[stand_in].hints.is_empty());
    assert!(world.is_level());
}

#[test]
fn a_hint_whose_target_owns_its_partition_no_more_goes_to_every_present_owner() {
    let mut world = World::new(layout(5, 3), |_| {});
    let owners = world.owners(&key(1));
    let strangers: Vec<usize> = (0..5).filter(|node| !owners.contains(node)).collect();
    let record = world.write(&[owners[0]], &key(1), "first");
    world.members[owners[0]].node.disk.records.clear();
    world.keep_hint(strangers[0], strangers[1], &key(1), &record);
    world.set_up(owners[2], false);
    world.run_for(60_000);
    assert_eq!(world.members[strangers[0]].hints.len(), 1, "one owner has not acknowledged it");
    world.set_up(owners[2], true);
    world.run_for(60_000);
    assert!(world.members[strangers[0]].hints.is_empty());
    assert!(owners.iter().all(|&owner| world.members[owner].node.record(&key(1)).is_some()));
}

#[test]
fn an_unreadable_record_is_rebuilt_from_enough_others_and_from_no_fewer() {
    let mut world = level(100);
    // A write that only this owner and the second have; the second is away, so the third must not be believed alone.
    world.write(&[0, 1], &key(5), "acknowledged by two");
    world.damage(0, &key(5));
    world.set_up(1, false);
    world.tell(0, Input::Corrupt { store_key: key(5).store_key });
    world.run_for(60_000);
    let status = world.members[0].steward.status();
    assert_eq!((status.unreadable, status.rebuild.state), (1, State::Waiting));
    assert!(status.rebuild.failed > 0);
    world.set_up(1, true);
    world.run_for(1_000);
    let status = world.members[0].steward.status();
    assert_eq!((status.unreadable, status.rebuild.repaired), (0, 1));
    assert_eq!(node::shown(&world.members[0].node.object(&key(5))), ["acknowledged by two"]);
}

#[test]
fn an_unreadable_record_that_an_exchange_meets_is_rebuilt() {
    let mut world = level(400);
    for number in 0..20 {
        world.damage(1, &key(number));
    }
    world.tell(1, RUN_EXCHANGE);
    world.run_for(20_000);
    assert!(world.is_level());
    assert_eq!(world.members[1].steward.status().rebuild.repaired, 20);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn whatever_was_written_where_all_owners_end_alike(
        writes in proptest::collection::vec((0_usize..40, 0_usize..3, any::<bool>()), 1..200),
        asker in 0_usize..3,
    ) {
        let mut world = level(0);
        for (at, (number, node, also_next)) in writes.iter().enumerate() {
            let nodes = if *also_next { vec![*node, (node + 1) % 3] } else { vec![*node] };
            world.write(&nodes, &key(*number), &format!("write {at}"));
        }
        for round in 0..2 {
            world.tell((asker + round) % 3, RUN_EXCHANGE);
            world.run_for(10_000);
        }
        prop_assert!(world.is_level());
    }
}
