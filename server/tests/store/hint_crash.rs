//! A stand-in that is killed while it keeps, mints and deletes hints: whatever it said is kept is there afterwards, unless it
//! was told to delete exactly that; and no dot is ever used twice.

use std::{collections::BTreeSet, path::Path, thread, time::Duration};

use dynamo::{hint::HintKey, replica::WriteOutcome, version::Dot};
use server::store::{Completion, HintSubmission, Progress};

use crate::{
    hints::{A, delivered, keep, list, mint, object},
    process::{Guarded, Numbers, command, role, said, say},
    support::{Worker, address, config, open, view_of},
};

const CYCLES: u64 = 10;
const KEYS: u64 = 300;

/// Operations in flight: several groups' worth, so that a kill meets them in every stage.
const IN_FLIGHT: usize = 64;

#[test]
fn hints_that_were_acknowledged_survive_kill_9() {
    if let Some((_, directory)) = role() {
        return keep_until_killed(&directory);
    }
    let directory = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(3);
    // What must be there: dots that were acknowledged and never asked to be deleted.
    let (mut promised, mut minted, mut total) = (BTreeSet::new(), BTreeSet::new(), 0);
    for cycle in 0..CYCLES {
        let name = "hint_crash::hints_that_were_acknowledged_survive_kill_9";
        let mut child = Guarded(command(name, "keep", directory.path()).spawn().unwrap());
        let mut lines = said(&mut child.0);
        assert_eq!(lines.next().as_deref(), Some("open"), "cycle {cycle}");
        thread::sleep(Duration::from_millis(30 + numbers.below(150)));
        child.0.kill().unwrap();
        for line in lines {
            let words: Vec<u64> = line.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
            match (line.split(' ').next(), &*words) {
                (Some("kept"), &[key, actor, seq]) => {
                    total += 1;
                    promised.insert((key, actor, seq));
                }
                (Some("minted"), &[actor, seq]) => {
                    assert!(minted.insert((actor, seq)), "cycle {cycle}: {line} came twice")
                }
                (Some("dropping"), &[key]) => promised.retain(|(promised, ..)| *promised != key),
                _ => panic!("not understood: {line}"),
            }
        }
        check(directory.path(), cycle, &promised);
    }
    println!("{CYCLES} kills, {total} acknowledged hints, {} of them never deleted and all found", promised.len());
    assert!(total > 10 * CYCLES, "only {total} hints were acknowledged: the kills came too early to mean anything");
}

fn check(directory: &Path, cycle: u64, promised: &BTreeSet<(u64, u64, u64)>) {
    let store = open(&config(directory));
    let found: BTreeSet<(u64, u64, u64)> = list(store.hints(), A, 1_000, 1 << 20)
        .iter()
        .flat_map(|(name, hint)| {
            let record = dynamo::record::decode(&name.store_key, hint).unwrap();
            let key: u64 = String::from_utf8_lossy(&record.key).trim_start_matches("crash ").parse().unwrap();
            record.object.context.iter().map(move |(actor, seq)| (key, actor.0, seq)).collect::<Vec<_>>()
        })
        .collect();
    for (key, actor, seq) in promised {
        let is_known = found.range((*key, *actor, *seq)..=(*key, *actor, u64::MAX)).next().is_some();
        assert!(is_known, "cycle {cycle}: key {key} has lost a hint that was acknowledged");
    }
    let report = store.hints().verify();
    assert!(report.is_sound(), "cycle {cycle}: {report:?}");
}

/// The child: keeps and mints for ever, now and then deletes; whatever it is told it says, and what it will delete before.
fn keep_until_killed(directory: &Path) {
    let store = open(&config(directory));
    say("open");
    let mut worker = Worker::new(&store);
    let mut numbers = Numbers(u64::from(std::process::id()));
    let mut busy = BTreeSet::new();
    loop {
        while busy.len() < IN_FLIGHT {
            let key = numbers.below(KEYS);
            if !busy.insert(key) {
                continue;
            }
            let name = format!("crash {key}");
            let actor = numbers.next() >> 10 | 1;
            let bytes = vec![key as u8; if key.is_multiple_of(16) { 9_000 } else { 100 }];
            let operation = match (numbers.below(8), held(&store, &name)) {
                (0, Some((hint_key, hint))) => {
                    say(&format!("dropping {key}"));
                    delivered(&hint_key, &hint)
                }
                (1..4, _) => mint(A, &name, bytes),
                (_, _) => keep(A, &name, &object(actor, bytes)),
            };
            // The token says what was done: the actor of a kept version, or nothing.
            let kept = matches!(operation, dynamo::hint::HintOperation::Keep { .. });
            let token = if kept { actor << 9 | key } else { key };
            store.hints().submit(&worker.queue, vec![HintSubmission { token: Some(token), operation }]).unwrap();
        }
        for Completion { token, progress } in worker.arrived() {
            let key = token & 0x1ff;
            match progress {
                Progress::Minted(_) => continue,
                Progress::Finished(WriteOutcome::Minted(minted)) => {
                    let Dot { actor, seq } = minted.dot.unwrap();
                    say(&format!("minted {} {seq}", actor.0));
                    say(&format!("kept {key} {} {seq}", actor.0));
                }
                Progress::Finished(WriteOutcome::Stored) if token >> 9 > 0 => {
                    say(&format!("kept {key} {} 1", token >> 9));
                }
                Progress::Finished(WriteOutcome::Stored) => {}
                Progress::Finished(other) => panic!("{other:?}"),
            }
            busy.remove(&key);
        }
    }
}

fn held(store: &server::store::Store, key: &str) -> Option<(HintKey, bytes::Bytes)> {
    let store_key = address(key).store_key;
    let (target, hint) = store.hints().kept_of(&store_key).unwrap().pop()?;
    Some((HintKey::new(target, &view_of(&store_key), store_key)?, hint))
}
