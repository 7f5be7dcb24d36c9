//! One run of a world: some seconds of changes and faults, then a calm in which everything must come to its end, then a last look.

use crate::{
    clients::Client,
    layouts::Changes,
    node::{Node, address, put},
    random::Random,
    world::{CALM, Faults, World},
};

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) changes: Changes,
    /// One node dies for good and is given up for lost.
    pub(crate) kills: bool,
}

/// What came of it.
// Each test program looks at its own part of this.
#[allow(dead_code)]
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) unsettled: Vec<String>,
    pub(crate) done: u64,
    pub(crate) changes: u64,
}

const MEMBERS: u16 = 6;
const WRITERS: usize = 5;
const READERS: usize = 4;

/// Records that stand there from the beginning, so that there is something to copy.
const STANDING: usize = 30;

/// How long everything has to come to its end once faults stop.
const CALM_MS: u64 = 20_000;

/// Runs one.
pub(crate) fn run(seed: u64, plan: Plan) -> Outcome {
    let mut random = Random(seed ^ 0x5eed);
    let mut world = World::new(seed, MEMBERS, 3, 1 + random.below(2) as u8);
    world.page_bytes_max = 400;
    for at in 0..STANDING {
        let (address, mut scratch) = (address(&format!("standing-{at}")), Node::new(900 + at as u64));
        let record = scratch.mint(put(&address, "1")).record;
        let key = world.key(address.clone());
        world.preload(&address, &record);
        world.acknowledged[key] = 1;
    }
    for at in 0..WRITERS {
        let key = world.key(address(&format!("key-{at}")));
        world.admit(Client::new(Some(key), 100 + at as u64));
    }
    for at in 0..READERS {
        world.admit(Client::new(None, 200 + at as u64));
    }
    // Runs differ in how long a write may be under way to one owner when all others have it.
    let (loss_permille, delay_ms) = (*random.pick(&[30, 30, 100, 200]), *random.pick(&[30, 30, 100]));
    world.faults = Faults { loss_permille, double_permille: 30, delay_max_ms: 1 + random.below(delay_ms) };
    let changes = suffer(&mut world, &mut random, plan);
    world.faults = CALM;
    for _ in 0..CALM_MS / 500 {
        world.run_for(500);
        if !world.violations.is_empty() || world.unsettled().is_empty() {
            break;
        }
    }
    // A last look at everything: readers go on for a while when nobody writes any more.
    world.clients.iter_mut().for_each(|client| client.rests = client.writes());
    world.run_for(1_000);
    world.clients.iter_mut().for_each(|client| client.rests = true);
    world.run_for(500);
    judge_the_end(&mut world);
    let unsettled = world.unsettled();
    let done = world.clients.iter().map(|client| client.done).sum();
    Outcome { violations: world.violations, unsettled, done, changes }
}

/// Some seconds of changes and faults; how many changes there were.
fn suffer(world: &mut World, random: &mut Random, plan: Plan) -> u64 {
    let mut changes = 0;
    world.run_for(100 + random.below(200));
    for _ in 0..3 + random.below(4) {
        if plan.kills && world.dead.is_empty() && random.happens(500) {
            world.kill(random.below(u64::from(MEMBERS)) as usize);
            world.run_for(random.below(300));
        }
        world.decide(plan.changes);
        changes += 1;
        for _ in 0..random.below(4) {
            world.run_for(random.below(250));
            let node = random.below(u64::from(MEMBERS)) as usize;
            world.crash(node, 1 + random.below(400));
        }
        world.run_for(random.below(900));
    }
    changes
}

/// Whether a majority of the last owners has what was acknowledged of every key.
fn judge_the_end(world: &mut World) {
    let layout = world.ring.newest().clone();
    for key in 0..world.keys.len() {
        let partition = layout.partition(&world.keys[key].store_key.id());
        let least = world.acknowledged[key];
        let owners: Vec<usize> = layout.owners(partition).map(|owner| usize::from(owner.0)).collect();
        let holds = owners.iter().filter(|owner| world.number(**owner, key) >= least).count();
        if holds <= owners.len() / 2 {
            world.violations.push(format!("of {owners:?} only {holds} have {least} of key {key}"));
        }
    }
}
