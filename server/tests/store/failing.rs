//! Commits that fail. The store can't know what the disk holds then, so it says so, commits nothing more, and goes on
//! reading; and after a start everything that was acknowledged is there. Also when the power is cut.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use bytes::Bytes;
use dynamo::{operation::ErrorCode, replica::WriteOutcome};
use rustix::process::{Resource, Rlimit, setrlimit};
use server::store::{Health, Store};

use crate::{
    full::Disk,
    process::{Guarded, Numbers, command, role, said, say},
    support::{Worker, config, is_stored, open, put, trees_agree, values},
};

fn name(number: u64) -> String {
    format!("failing {number}")
}

fn content(number: u64) -> Bytes {
    number.to_le_bytes().repeat(40).into()
}

#[test]
fn after_a_failed_commit_nothing_is_acknowledged_and_everything_is_read() {
    if let Some((_, directory)) = role() {
        return write_beyond_a_limit(&directory);
    }
    let directory = tempfile::tempdir().unwrap();
    // A write beyond the limit on file sizes is an error only for those who ignore the signal; `exec` keeps that.
    let this =
        command("failing::after_a_failed_commit_nothing_is_acknowledged_and_everything_is_read", "", directory.path());
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"trap "" XFSZ; exec "$@""#, "sh"]).arg(this.get_program()).args(this.get_args());
    shell.envs(this.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let mut child = Guarded(shell.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
    assert_eq!(said(&mut child.0).collect::<Vec<_>>(), ["done"]);
    assert!(child.0.wait().unwrap().success());
    let store = open(&config(directory.path()));
    (0..200).for_each(|number| assert_eq!(values(&store, &name(number)), Ok(vec![content(number)])));
    for number in 200..300 {
        // Unknown is unknown: there as it was written, or not at all.
        let found = values(&store, &name(number)).unwrap();
        assert!(found.is_empty() || found == [content(number)]);
    }
    assert!(store.verify().is_sound());
    trees_agree(&store, "after a failed commit");
}

fn write_beyond_a_limit(directory: &Path) {
    let store = open(&config(directory));
    let mut worker = Worker::new(&store);
    let puts = |range: std::ops::Range<u64>| range.map(|number| put(&name(number), content(number))).collect();
    assert!(worker.run(puts(0..200)).iter().all(is_stored));
    // No data page lies this far in front, so the next commit's pages can't be written.
    let limit = Some(3 * 4096);
    setrlimit(Resource::Fsize, Rlimit { current: limit, maximum: limit }).unwrap();
    for outcome in worker.run(puts(200..300)) {
        let WriteOutcome::Refused(failure) = outcome else { panic!("acknowledged: {outcome:?}") };
        assert!(failure.maybe_applied && failure.code == ErrorCode::Unavailable, "{failure:?}");
    }
    for outcome in worker.run(puts(300..310)) {
        let WriteOutcome::Refused(failure) = outcome else { panic!("acknowledged: {outcome:?}") };
        assert!(!failure.maybe_applied && failure.code == ErrorCode::Unavailable, "{failure:?}");
    }
    assert!(matches!(store.status().shards[0].health, Health::Failed(_)));
    (0..200).for_each(|number| assert_eq!(values(&store, &name(number)), Ok(vec![content(number)])));
    say("done");
}

/// A file system that stops at once, and forgets what was not flushed, when it is told to: as after a power cut.
const POWER_CUT: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

const CUTS: u64 = 5;

#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    if let Some((_, directory)) = role() {
        return write_until_it_fails(&directory);
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(mut disk) = Disk::mount(directory.path(), 64) else {
        crate::support::not_run("a loop-mounted ext4 needs root, mkfs.ext4 and mount");
        return;
    };
    let (mut numbers, mut acknowledged) = (Numbers(11), BTreeMap::new());
    for cut in 0..CUTS {
        let root = disk.mounted.join("node");
        let spawned = command("failing::what_was_acknowledged_survives_a_power_cut", "write", &root).spawn();
        let mut child = Guarded(spawned.unwrap());
        let mut lines = said(&mut child.0);
        assert_eq!(lines.next().as_deref(), Some("open"));
        thread::sleep(Duration::from_millis(50 + numbers.below(200)));
        let cutter = Command::new("python3").args(["-c", POWER_CUT]).arg(&disk.mounted).status();
        if !cutter.is_ok_and(|status| status.success()) {
            crate::support::not_run("cutting the power of a file system needs python3 and ext4");
            return;
        }
        // What is still said after the cut was in the pipe before it, or is wrong and will not be found.
        thread::sleep(Duration::from_millis(100));
        child.0.kill().unwrap();
        let before = acknowledged.len();
        acknowledged.extend(lines.map(|line| {
            let (key, count) = line.split_once(' ').unwrap();
            (key.parse::<u64>().unwrap(), count.parse::<u64>().unwrap())
        }));
        drop(child);
        disk.remount();
        let store = open(&config(&root));
        for (key, count) in &acknowledged {
            let found = values(&store, &name(*key)).unwrap();
            let found = found.first().map_or(0, |bytes| u64::from_le_bytes(bytes[..8].try_into().unwrap()));
            assert!(found >= *count, "cut {cut}: key {key} holds write {found}, and {count} was acknowledged");
        }
        assert!(store.verify().is_sound(), "cut {cut}");
        trees_agree(&store, &format!("cut {cut}"));
        println!(
            "cut {cut}: {} keys acknowledged, {} of them new, all found",
            acknowledged.len(),
            acknowledged.len() - before
        );
    }
    assert!(acknowledged.len() > 100, "too few writes to mean anything");
}

/// The child: writes groups of new and old keys until the store refuses; what is acknowledged is said.
fn write_until_it_fails(directory: &Path) {
    let store: Store = open(&config(directory));
    say("open");
    let (mut worker, mut numbers) = (Worker::new(&store), Numbers(u64::from(std::process::id())));
    for round in 1_u64.. {
        let keys: std::collections::BTreeSet<u64> = (0..50).map(|_| numbers.below(3_000)).collect();
        // Counts grow from child to child, because process numbers do and rounds do within one.
        let count = u64::from(std::process::id()) << 32 | round;
        let operations = keys.iter().map(|key| put(&name(*key), content(count))).collect();
        for (key, outcome) in keys.iter().zip(worker.run(operations)) {
            if !is_stored(&outcome) {
                thread::sleep(Duration::from_secs(60));
            }
            say(&format!("{key} {count}"));
        }
    }
}
