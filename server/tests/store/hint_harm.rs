//! Harm done to hints: damaged pages, full disks, commits that fail. Whoever reads gets the right bytes or is told that something
//! is wrong, what is lost is found by the scrub, and nothing is acknowledged that is not on the disk.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
};

use dynamo::{operation::ErrorCode, peer::PeerResult, replica::WriteOutcome};
use rustix::process::{Resource, Rlimit, setrlimit};
use server::store::{Health, OpenError, Store, StoreConfig};

use crate::{
    damage::{copy_directory, flip_after, harm},
    full::{Disk, fill_file},
    hints::{A, B, delivered, keep, list, object, one, read, record_of, run},
    process::{Guarded, Numbers, command, role, said, say},
    support::{Worker, config, not_run, open},
};

const KEYS: usize = 1_200;
const COPIES: u64 = 42;

fn small(directory: &Path) -> StoreConfig {
    // A budget keeps the files, of which many copies are made, small.
    StoreConfig { max_bytes: Some(96 << 20), shards: Some(1), ..config(directory) }
}

fn name(number: usize) -> String {
    format!("precious {number}")
}

/// Short values share leaves, long ones have pages of their own, and every version of a value looks different.
fn content(number: usize, version: u8) -> Vec<u8> {
    let length = if number.is_multiple_of(20) { 9_000 } else { 90 };
    let mut bytes = vec![version; length];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// What is kept under each key in the end: a version for each of two targets, the second written over.
fn prepare(directory: &Path) {
    let store = open(&small(directory));
    let mut worker = Worker::new(&store);
    for (target, version) in [(A, 1), (B, 2)] {
        for numbers in (0..KEYS).collect::<Vec<_>>().chunks(300) {
            let keep =
                |number: &usize| keep(target, &name(*number), &object(version.into(), content(*number, version)));
            let outcomes = run(&mut worker, numbers.iter().map(keep).collect());
            assert!(outcomes.iter().all(|outcome| *outcome == WriteOutcome::Stored), "{outcomes:?}");
        }
    }
}

fn expected(number: usize) -> PeerResult {
    let mut merged = object(1, content(number, 1));
    merged.merge(&object(2, content(number, 2)));
    PeerResult::Record(record_of(&name(number), &merged))
}

#[test]
fn damaged_pages_never_give_a_wrong_hint_and_what_is_lost_is_found() {
    if let Some((_, directory)) = role() {
        return read_everything(&directory);
    }
    let original = tempfile::tempdir().unwrap();
    prepare(original.path());
    let (mut numbers, mut tally) = (Numbers(9), BTreeMap::<&str, u64>::new());
    for copy in 0..COPIES {
        let directory = tempfile::tempdir().unwrap();
        copy_directory(original.path(), directory.path());
        let harm = harm(&directory.path().join("data/hints/data.mdb"), copy % 7, &mut numbers);
        *tally.entry(judge(directory.path(), &harm)).or_default() += 1;
    }
    println!("{COPIES} damaged copies: {tally:?}");
    let count = |what| tally.get(what).copied().unwrap_or(0);
    assert!(count("noticed") + count("refused") > COPIES / 4, "so little was noticed that nothing was harmed");
    assert!(count("died") <= COPIES / 20 + 1, "reading damage killed the process too often");
}

fn judge(directory: &Path, harm: &str) -> &'static str {
    let test = "hint_harm::damaged_pages_never_give_a_wrong_hint_and_what_is_lost_is_found";
    let mut child = Guarded(command(test, "read", directory).spawn().unwrap());
    let said: BTreeMap<String, u64> = said(&mut child.0)
        .map(|line| line.split_once(' ').map(|(what, count)| (what.to_owned(), count.parse().unwrap())).unwrap())
        .collect();
    let status = child.0.wait().unwrap();
    let count = |what: &str| said.get(what).copied().unwrap_or(0);
    assert_eq!(count("wrong"), 0, "{harm}: something else was served than was kept");
    if status.signal().is_some() {
        return "died";
    }
    assert!(status.success(), "{harm}: {status}, {said:?}");
    if count("refused") == 1 {
        "refused"
    } else if count("corrupt") + count("failed") > 0 {
        "noticed"
    } else if count("unsound") == 1 {
        "found by the scrub only"
    } else {
        assert_eq!((count("lost"), count("right")), (0, KEYS as u64), "{harm}: lost and not found by the scrub");
        "unharmed"
    }
}

/// The child: reads every key, lists every target, scrubs, and says what it saw.
fn read_everything(directory: &Path) {
    let store = match Store::open(&small(directory)) {
        Ok(store) => store,
        Err(OpenError::Damaged { .. } | OpenError::Missing { .. }) => return say("refused 1"),
        Err(other) => panic!("not the error that damage is: {other}"),
    };
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let halves =
        |number| [1, 2].map(|version: u8| record_of(&name(number), &object(version.into(), content(number, version))));
    for number in 0..KEYS {
        let result = read(store.hints(), &name(number));
        let what = match &result {
            result if *result == expected(number) => "right",
            PeerResult::Corrupt => "corrupt",
            PeerResult::Failed(_) => "failed",
            // A page that has lost a name, or points to an older one: true once, and for the scrub to find.
            PeerResult::Absent => "lost",
            PeerResult::Record(record) if halves(number).contains(record) => "lost",
            PeerResult::Record(_) | PeerResult::Digest(_) | PeerResult::Stored | PeerResult::Stale(_) => "wrong",
        };
        *counts.entry(what).or_default() += 1;
    }
    for (target, version) in [(A, 1), (B, 2)] {
        let Ok(listed) = store.hints().scan(target, None, 1_000, 4 << 20) else { continue };
        for (key, hint) in listed {
            let sound = dynamo::record::decode(&key.store_key, &hint).unwrap();
            let number: usize = String::from_utf8_lossy(&sound.key).trim_start_matches("precious ").parse().unwrap();
            *counts.entry("wrong").or_default() += u64::from(hint != halves(number)[version - 1]);
        }
    }
    if !store.hints().verify().is_sound() {
        counts.insert("unsound", 1);
        if matches!(store.hints().status().health, Health::Damaged(_)) {
            // What was lost may not be answered as absent any more, and nothing may be built upon it.
            assert_eq!(read(store.hints(), "never kept"), PeerResult::Corrupt);
            let outcome = one(&mut Worker::new(&store), keep(A, "new", &object(1, "v")));
            assert_eq!(outcome, WriteOutcome::Corrupt);
        }
    }
    counts.iter().for_each(|(what, count)| say(&format!("{what} {count}")));
}

#[test]
fn a_flipped_bit_sets_one_hint_aside_for_good_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let needle = content(1_021, 2);
    flip_after(&directory.path().join("data/hints/data.mdb"), &needle, needle.len() / 2);
    let mut store = open(&small(directory.path()));
    assert_eq!(list(store.hints(), B, 1_000, 4 << 20).len(), KEYS - 1, "it is not delivered");
    let is_aside = || {
        let began = std::time::Instant::now();
        while store.hints().status().aside == 0 {
            assert!(began.elapsed().as_secs() < 30, "it was never set aside");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    is_aside();
    for _ in 0..2 {
        assert_eq!(read(store.hints(), &name(1_021)), PeerResult::Corrupt, "neither served nor absent");
        assert_eq!(read(store.hints(), &name(1_022)), expected(1_022));
        assert!(store.hints().verify().is_sound(), "what is left is whole");
        let status = store.hints().status();
        assert_eq!((status.aside, status.health), (1, Health::Sound));
        assert_eq!(status.backlog.iter().map(|(_, usage)| usage.records).sum::<u64>(), 2 * KEYS as u64 - 1);
        drop(store);
        store = open(&small(directory.path()));
    }
    assert_eq!(one(&mut Worker::new(&store), keep(B, &name(1_021), &object(2, "again"))), WriteOutcome::Stored);
    assert_eq!(list(store.hints(), B, 1_000, 4 << 20).len(), KEYS);
}

#[test]
fn on_a_full_disk_hints_are_refused_kept_and_delivered_and_a_restart_needs_no_space() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(directory.path(), 48) else {
        return not_run("a loop-mounted ext4 needs root, mkfs.ext4 and mount");
    };
    let config = StoreConfig { shards: Some(1), ..config(&disk.mounted.join("node")) };
    let mut store = open(&config);
    let value = vec![7; 1_000];
    let filler = |number: usize| keep(A, &format!("filler {number}"), &object(1, value.clone()));
    let outcomes = run(&mut Worker::new(&store), (0..500).map(filler).collect());
    assert!(outcomes.iter().all(|outcome| *outcome == WriteOutcome::Stored));
    let hog = disk.mounted.join("hog");
    fill_file(&hog);
    let (mut kept, mut refused) = (500, 0);
    for round in 0..100 {
        for outcome in run(&mut Worker::new(&store), (0..40).map(|at| filler(1_000 + 40 * round + at)).collect()) {
            match outcome {
                WriteOutcome::Stored => kept += 1,
                WriteOutcome::Refused(failure) if failure.code == ErrorCode::StorageFull => refused += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    println!("{kept} hints kept, {refused} refused for want of space");
    assert!(refused > 100, "it never got full");
    drop(store);
    store = open(&config);
    let all = list(store.hints(), A, 1_000, 4 << 20);
    assert_eq!(all.len(), kept);
    let drops: Vec<_> = all[..300].iter().map(|(name, hint)| delivered(name, hint)).collect();
    let outcomes = run(&mut Worker::new(&store), drops);
    assert!(outcomes.iter().all(|outcome| *outcome == WriteOutcome::Stored), "{outcomes:?}");
    assert_eq!(store.hints().backlog()[0].1.records, kept as u64 - 300, "what was delivered is gone");
    std::fs::remove_file(hog).unwrap();
    assert_eq!(one(&mut Worker::new(&store), filler(100_000)), WriteOutcome::Stored);
    assert!(store.hints().verify().is_sound());
}

#[test]
fn after_a_failed_commit_no_hint_is_acknowledged_and_all_are_read() {
    if let Some((_, directory)) = role() {
        return keep_beyond_a_limit(&directory);
    }
    let directory = tempfile::tempdir().unwrap();
    let test = "hint_harm::after_a_failed_commit_no_hint_is_acknowledged_and_all_are_read";
    let this = command(test, "", directory.path());
    // A write beyond the limit on file sizes is an error only for those who ignore the signal; `exec` keeps that.
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"trap "" XFSZ; exec "$@""#, "sh"]).arg(this.get_program()).args(this.get_args());
    shell.envs(this.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let mut child = Guarded(shell.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
    assert_eq!(said(&mut child.0).collect::<Vec<_>>(), ["done"]);
    assert!(child.0.wait().unwrap().success());
    let store = open(&config(directory.path()));
    assert!(list(store.hints(), A, 1_000, 4 << 20).len() >= 200);
    assert!(store.hints().verify().is_sound());
}

fn keep_beyond_a_limit(directory: &Path) {
    let store = open(&config(directory));
    let mut worker = Worker::new(&store);
    let keeps =
        |range: std::ops::Range<usize>| range.map(|at| keep(A, &name(at), &object(1, content(at, 1)))).collect();
    assert!(run(&mut worker, keeps(0..200)).iter().all(|outcome| *outcome == WriteOutcome::Stored));
    // No data page lies this far in front, so the next commit's pages can't be written.
    let limit = Some(3 * 4096);
    setrlimit(Resource::Fsize, Rlimit { current: limit, maximum: limit }).unwrap();
    for (range, maybe_applied) in [(200..300, true), (300..310, false)] {
        for outcome in run(&mut worker, keeps(range)) {
            let WriteOutcome::Refused(failure) = outcome else { panic!("acknowledged: {outcome:?}") };
            assert_eq!((failure.code, failure.maybe_applied), (ErrorCode::Unavailable, maybe_applied), "{failure:?}");
        }
    }
    assert!(matches!(store.hints().status().health, Health::Failed(_)));
    assert_eq!(list(store.hints(), A, 1_000, 4 << 20).len(), 200);
    say("done");
}
