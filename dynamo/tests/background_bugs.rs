//! The mistakes in the bug bank that background repair can make, each caught by the same story that ends well without them. A
//! program of its own, because a switched bug is on for the whole process.

#[path = "support/node.rs"]
mod node;
#[path = "background/world.rs"]
#[allow(dead_code)]
mod world;

use dynamo::{
    bug::{Bug, switch},
    operation::Address,
    steward::Input,
};
use node::address;
use world::{World, layout};

/// What it is about, whether it ends well, and the bugs that spoil it.
type Story = (&'static str, fn() -> bool, &'static [Bug]);

fn key(number: usize) -> Address {
    address(&format!("key {number}"))
}

/// The only copies of some writes are hints, and their target is full for a while. Whether the owner has them in the end.
fn hints_reach_their_target() -> bool {
    let mut world = World::new(layout(5, 3), |_| {});
    let owners = world.owners(&key(1));
    let stand_in = (0..5).find(|node| !owners.contains(node)).expect("five nodes, three owners");
    let record = world.write(&owners[..1], &key(1), "acknowledged");
    for &owner in &owners {
        world.members[owner].node = node::Node::new(90 + owner as u64);
    }
    world.keep_hint(stand_in, owners[0], &key(1), &record);
    world.members[owners[0]].is_full = true;
    world.run_for(20_000);
    world.members[owners[0]].is_full = false;
    world.run_for(60_000);
    world.members[owners[0]].node.record(&key(1)).is_some() && world.members[stand_in].hints.is_empty()
}

/// Owners have missed writes, overwrites and deletes of each other. Whether one of them can bring all level.
fn owners_become_level() -> bool {
    let mut world = World::new(layout(2, 2), |_| {});
    for number in 0..3_000 {
        world.write(&[0, 1], &key(number), "first");
    }
    for number in 0..200 {
        world.write_at(number % 2, &key(number), "second");
    }
    for _ in 0..3 {
        world.tell(0, Input::Run { exchange: true, hints: false });
        world.run_for(10_000);
    }
    world.is_level()
}

/// A record rots whose last write only one other owner has, and that one is away. Whether the write is there in the end.
fn rebuilds_keep_acknowledged_writes() -> bool {
    let mut world = World::new(layout(3, 3), |_| {});
    world.write(&[0, 1, 2], &key(5), "everywhere");
    world.write(&[0, 1], &key(5), "acknowledged by two");
    world.damage(0, &key(5));
    world.set_up(1, false);
    world.tell(0, Input::Corrupt { store_key: key(5).store_key });
    world.run_for(60_000);
    // Nobody may be told that the write never was.
    let shown = world.members[0].node.record(&key(5));
    let is_sound = shown.is_none_or(|record| {
        dynamo::record::verify(&key(5).store_key, &record).is_err()
            || node::shown(&world.members[0].node.object(&key(5))) == ["acknowledged by two"]
    });
    world.set_up(1, true);
    world.run_for(60_000);
    is_sound && node::shown(&world.members[0].node.object(&key(5))) == ["acknowledged by two"]
}

#[test]
fn every_bug_of_background_repair_spoils_the_story_that_ends_well_without_it() {
    let stories: [Story; 3] = [
        (
            "hints reach their target",
            hints_reach_their_target,
            &[Bug::DropHintOnSend, Bug::DropHintOnAnyAnswer, Bug::HandoffGivesUp],
        ),
        (
            "owners become level",
            owners_become_level,
            &[Bug::SkipTreeBucket, Bug::CompareCounts, Bug::ExchangeOnlyPulls],
        ),
        (
            "rebuilds keep acknowledged writes",
            rebuilds_keep_acknowledged_writes,
            &[Bug::RebuildFromOne, Bug::RebuildCountsFailures],
        ),
    ];
    for (name, story, bugs) in stories {
        switch(None);
        assert!(story(), "without a bug, {name}");
        for bug in bugs {
            switch(Some(*bug));
            assert!(!story(), "{bug:?} was not caught by \"{name}\"");
        }
    }
    switch(None);
}
