//! A process that is killed while it writes: every write it said was acknowledged is there afterwards, none is there that
//! nobody wrote, and no dot is ever used twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    thread,
    time::Duration,
};

use dynamo::replica::WriteOutcome;
use server::store::{Completion, Progress, Submission};

use crate::{
    process::{Guarded, Numbers, command, role, said, say},
    support::{Worker, config, open, put, trees_agree, values},
};

const CYCLES: u64 = 12;
const KEYS: u64 = 400;

/// Writes in flight: several groups' worth, so that a kill meets writes in every stage.
const IN_FLIGHT: usize = 96;

#[test]
fn what_was_acknowledged_survives_kill_9() {
    if let Some((_, directory)) = role() {
        return write_until_killed(&directory);
    }
    let directory = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(2);
    let (mut acknowledged, mut dots, mut total) = (BTreeMap::new(), BTreeSet::new(), 0);
    let mut submitted: BTreeMap<u64, u64> = BTreeMap::new();
    for cycle in 0..CYCLES {
        let spawned = command("crash::what_was_acknowledged_survives_kill_9", "write", directory.path()).spawn();
        let mut child = Guarded(spawned.unwrap());
        let mut lines = said(&mut child.0);
        let before = total;
        assert_eq!(lines.next().as_deref(), Some("open"), "cycle {cycle}: the lock of the killed process was free");
        // The time runs from the first write on, so that every cycle is killed among writes.
        thread::sleep(Duration::from_millis(30 + numbers.below(150)));
        child.0.kill().unwrap();
        for line in lines {
            let words: Vec<u64> = line.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
            match (line.split(' ').next(), &*words) {
                (Some("sent"), &[key, count]) => drop(submitted.insert(key, count)),
                (Some("acknowledged"), &[key, count, actor, seq]) => {
                    total += 1;
                    acknowledged.insert(key, count);
                    assert!(dots.insert((key_partition(key), actor, seq)), "cycle {cycle}: {line}: the dot came twice");
                }
                _ => panic!("not understood: {line}"),
            }
        }
        let is_written = total > before;
        check(directory.path(), (cycle, is_written), &acknowledged, &submitted);
    }
    println!("{CYCLES} kills, {total} acknowledged writes, all of them found");
    assert!(total > 10 * CYCLES, "only {total} writes were acknowledged: the kills came too early to mean anything");
}

fn key_partition(key: u64) -> u32 {
    crate::support::view_of(&crate::support::address(&name(key)).store_key).prefix
}

fn check(
    directory: &Path,
    (cycle, is_written): (u64, bool),
    acknowledged: &BTreeMap<u64, u64>,
    submitted: &BTreeMap<u64, u64>,
) {
    let store = open(&config(directory));
    for (key, sent) in submitted {
        let found = values(&store, &name(*key)).unwrap();
        let found = found.first().map_or(0, |bytes| {
            assert_eq!(bytes.len(), length(*key));
            u64::from_le_bytes(bytes[..8].try_into().unwrap())
        });
        let promised = acknowledged.get(key).copied().unwrap_or(0);
        assert!(found >= promised, "cycle {cycle}: key {key} holds write {found}, and {promised} was acknowledged");
        assert!(found <= *sent, "cycle {cycle}: key {key} holds write {found}, and only {sent} were made");
    }
    let report = store.verify();
    assert!(report.is_sound(), "cycle {cycle}: {report:?}");
    assert!(store.was_unclean() || !is_written, "cycle {cycle}: a killed process closed nothing");
    trees_agree(&store, &format!("cycle {cycle}"));
}

fn name(key: u64) -> String {
    format!("crash {key}")
}

/// Some values are long enough for pages of their own.
fn length(key: u64) -> usize {
    if key.is_multiple_of(16) { 9_000 } else { 100 }
}

/// The child: each key counts its writes up, one at a time; whatever is sent is said before, whatever is acknowledged after.
fn write_until_killed(directory: &Path) {
    let store = open(&config(directory));
    say("open");
    let mut worker = Worker::new(&store);
    let mut numbers = Numbers(u64::from(std::process::id()));
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let mut busy = BTreeSet::new();
    loop {
        while busy.len() < IN_FLIGHT {
            let key = numbers.below(KEYS);
            if !busy.insert(key) {
                continue;
            }
            let held = || values(&store, &name(key)).unwrap().first().map_or(0, |bytes| count_in(bytes));
            let count = counts.entry(key).or_insert_with(held);
            *count += 1;
            say(&format!("sent {key} {count}"));
            let bytes = count.to_le_bytes().repeat(length(key).div_ceil(8))[..length(key)].to_vec();
            let submission = Submission { token: Some(key), operation: put(&name(key), bytes) };
            let shard = store.shard_of(&submission.operation.store_key());
            store.submit(shard, &worker.queue, vec![submission]).unwrap();
        }
        for Completion { token, progress } in worker.arrived() {
            match progress {
                Progress::Minted(_) => {}
                Progress::Finished(WriteOutcome::Minted(minted)) => {
                    busy.remove(&token);
                    let dot = minted.dot.unwrap();
                    say(&format!("acknowledged {token} {} {} {}", counts[&token], dot.actor.0, dot.seq));
                }
                Progress::Finished(other) => panic!("{other:?}"),
            }
        }
    }
}

fn count_in(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}
