//! A full store: it refuses with the right error, loses nothing, goes on reading and deleting, and accepts again when there
//! is room. Once against a budget, once against a real file system that is full.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use dynamo::{operation::ErrorCode, replica::WriteOutcome};
use server::store::{Health, Pressure, Store, StoreConfig};

use crate::support::{Worker, config, delete, is_stored, open, put, values};

const VALUE_BYTES: usize = 1_500;

fn name(number: usize) -> String {
    format!("filler {number}")
}

fn content(number: usize) -> Vec<u8> {
    number.to_le_bytes().repeat(VALUE_BYTES / 8)
}

/// Writes until the store refuses even a single write, time after time; what was acknowledged.
fn fill(store: &Store, first: usize) -> Vec<usize> {
    let (mut worker, mut stored, mut next) = (Worker::new(store), Vec::new(), first);
    for size in [64, 8, 1] {
        let mut refusals = 0;
        while refusals < 200 {
            assert!(next < first + 200_000, "it never gets full");
            let numbers: Vec<usize> = (next..next + size).collect();
            next += size;
            let outcomes = worker.run(numbers.iter().map(|number| put(&name(*number), content(*number))).collect());
            for (number, outcome) in numbers.into_iter().zip(outcomes) {
                match outcome {
                    WriteOutcome::Minted(_) => stored.push(number),
                    WriteOutcome::Refused(failure) => {
                        assert_eq!(failure.code, ErrorCode::StorageFull, "{failure:?}");
                        assert!(failure.retryable && !failure.maybe_applied, "{failure:?}");
                        refusals += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    stored
}

fn check_held(store: &Store, held: &BTreeMap<usize, bool>) {
    for (number, is_there) in held {
        let expected = if *is_there { vec![content(*number).into()] } else { Vec::new() };
        assert_eq!(values(store, &name(*number)), Ok(expected), "{number}");
    }
}

/// Fills a store, checks that it holds and deletes, that deleting makes room, and that all survives reopening.
fn fill_and_empty(config: &StoreConfig) {
    let mut store = open(config);
    let mut held: BTreeMap<usize, bool> = fill(&store, 0).into_iter().map(|number| (number, true)).collect();
    let filled = held.len();
    let status = &store.status().shards[0];
    assert_eq!(status.health, Health::Sound);
    check_held(&store, &held);
    drop(store);
    store = open(config);
    check_held(&store, &held);
    // Deletes are accepted by a full store, group after group.
    let deleted: Vec<usize> = held.keys().copied().take(filled * 3 / 4).collect();
    for group in deleted.chunks(50) {
        let outcomes = Worker::new(&store).run(group.iter().map(|number| delete(&name(*number))).collect());
        assert!(outcomes.iter().all(is_stored), "{:?}", outcomes.iter().find(|outcome| !is_stored(outcome)));
    }
    held.extend(deleted.iter().map(|number| (*number, false)));
    check_held(&store, &held);
    // There is room again.
    let again = fill(&store, 2_000_000);
    assert!(again.len() > filled / 4, "after {} deletes only {} writes found room", deleted.len(), again.len());
    held.extend(again.into_iter().map(|number| (number, true)));
    check_held(&store, &held);
    let report = store.verify();
    assert!(report.is_sound(), "{report:?}");
    drop(store);
    check_held(&open(config), &held);
    println!("{filled} writes filled it, {} were deleted", deleted.len());
}

#[test]
fn a_store_that_has_used_its_budget_refuses_keeps_and_deletes() {
    for max_bytes in [2 << 20, 12 << 20] {
        let directory = tempfile::tempdir().unwrap();
        let config = StoreConfig { max_bytes: Some(max_bytes), shards: Some(1), ..config(directory.path()) };
        fill_and_empty(&config);
        let file = directory.path().join("data/shard-0/data.mdb");
        let length = fs::metadata(&file).unwrap().len();
        assert!(length <= max_bytes + (256 << 10), "{length} bytes of a budget of {max_bytes}");
    }
}

#[test]
fn under_pressure_peers_may_still_replicate_until_only_deletes_are_left() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig { max_bytes: Some(4 << 20), shards: Some(1), ..config(directory.path()) };
    let store = open(&config);
    let stored = fill(&store, 0);
    assert!(store.status().shards[0].pressure >= Pressure::Soft, "{:?}", store.status());
    // A merge from a peer is what keeps acknowledged writes replicated: the soft limit does not stop it.
    let other_directory = tempfile::tempdir().unwrap();
    let other = open(&crate::support::config(other_directory.path()));
    let WriteOutcome::Minted(minted) = Worker::new(&other).one(put("from a peer", vec![1; 100])) else {
        panic!("not minted")
    };
    let store_key = crate::support::address("from a peer").store_key;
    let view = crate::support::view_of(&store_key);
    let merge = dynamo::replica::WriteOperation::Merge { view, store_key, record: minted.record };
    let outcome = Worker::new(&store).one(merge);
    assert_eq!(outcome, WriteOutcome::Stored, "{} writes filled it", stored.len());
}

#[test]
fn a_full_file_system_refuses_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(directory.path(), 48) else {
        crate::support::not_run("a loop-mounted ext4 needs root, mkfs.ext4 and mount");
        return;
    };
    let root = disk.mounted.join("node");
    fill_and_empty(&StoreConfig { shards: Some(1), is_filesystem_forced: false, ..config(&root) });
}

#[test]
fn a_disk_filled_by_somebody_else_refuses_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(directory.path(), 48) else {
        crate::support::not_run("a loop-mounted ext4 needs root, mkfs.ext4 and mount");
        return;
    };
    let config = StoreConfig { shards: Some(1), ..config(&disk.mounted.join("node")) };
    let store = open(&config);
    let first: Vec<usize> = (0..500).collect();
    let outcomes = Worker::new(&store).run(first.iter().map(|number| put(&name(*number), content(*number))).collect());
    assert!(outcomes.iter().all(is_stored));
    let hog = disk.mounted.join("hog");
    fill_file(&hog);
    let more = fill(&store, 10_000);
    let mut held: BTreeMap<usize, bool> = first.iter().chain(&more).map(|number| (*number, true)).collect();
    check_held(&store, &held);
    // With the disk full to the last byte deletes still work, and a restart needs no space.
    fill_file(&disk.mounted.join("hog 2"));
    let outcomes = Worker::new(&store).run(first.iter().map(|number| delete(&name(*number))).collect());
    assert!(outcomes.iter().all(is_stored), "{:?}", outcomes.iter().find(|outcome| !is_stored(outcome)));
    held.extend(first.iter().map(|number| (*number, false)));
    drop(store);
    let store = open(&config);
    check_held(&store, &held);
    fs::remove_file(&hog).unwrap();
    assert!(is_stored(&Worker::new(&store).one(put("afterwards", vec![3; 100]))));
    let report = store.verify();
    assert!(report.is_sound(), "{report:?}");
}

/// Writes until there is no byte left.
pub(crate) fn fill_file(path: &Path) {
    let mut file = File::create(path).unwrap();
    for block in [1 << 20, 4 << 10, 1 << 10, 1] {
        let bytes = vec![0xab; block];
        while file.write_all(&bytes).is_ok() {}
    }
    let _ = file.sync_all();
}

/// A small ext4 in a file, mounted for one test.
pub(crate) struct Disk {
    image: PathBuf,
    pub(crate) mounted: PathBuf,
}

impl Disk {
    /// Makes and mounts one, if this machine allows it.
    pub(crate) fn mount(directory: &Path, mebibytes: u64) -> Option<Self> {
        let disk = Self { image: directory.join("image"), mounted: directory.join("mounted") };
        File::create(&disk.image).unwrap().set_len(mebibytes << 20).unwrap();
        fs::create_dir(&disk.mounted).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.image).output();
        let is_mounted = made.is_ok_and(|output| output.status.success()) && disk.mount_again();
        is_mounted.then_some(disk)
    }

    /// Unmounts and mounts: what was not on the disk is gone.
    pub(crate) fn remount(&mut self) {
        // A process that another test is starting may hold copies of open files until it runs its own program.
        let unmount = || Command::new("umount").arg(&self.mounted).output().is_ok_and(|output| output.status.success());
        let is_unmounted = (0..100).any(|_| {
            unmount() || {
                std::thread::sleep(Duration::from_millis(50));
                false
            }
        });
        assert!(is_unmounted, "somebody still uses the disk");
        assert!(self.mount_again(), "the disk can't be mounted any more");
    }

    fn mount_again(&self) -> bool {
        let mounted = Command::new("mount").args(["-o", "loop"]).args([&self.image, &self.mounted]).output();
        mounted.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).output();
    }
}
