//! Damaged files. Whatever is done to a store's pages, a reader gets the right bytes or is told that something is wrong; and
//! what was lost without anybody noticing is found by the scrub. Reads run in a process of their own, so that one that
//! dies of it is seen as such.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::{fs::FileExt, process::ExitStatusExt},
    path::Path,
};

use bytes::Bytes;
use dynamo::{
    peer::{PeerOperation, PeerResult},
    replica::{PartitionRow, WriteOutcome},
};
use server::store::{Health, OpenError, Store, StoreConfig};

use crate::{
    process::{Guarded, Numbers, command, role, said, say},
    support::{BITS, Worker, address, config, delete, is_stored, open, put, read_of, values, view_of_prefix},
};

const KEYS: usize = 3_000;
const COPIES: u64 = 84;
const PAGE_BYTES: u64 = 4096;

fn name(number: usize) -> String {
    format!("precious {number}")
}

/// Short values share leaves, long ones have pages of their own, and every version of a value looks different.
fn content(number: usize, version: u8) -> Vec<u8> {
    let length = match number % 20 {
        0 => 12_000,
        1 => 2_500,
        _ => 90,
    };
    let mut bytes = vec![version; length];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn damaged_config(directory: &Path) -> StoreConfig {
    // A budget keeps the file, of which many copies are made, small.
    StoreConfig { max_bytes: Some(48 << 20), shards: Some(1), ..config(directory) }
}

/// A store in which every key was written twice, so that old pages with old values lie around in the file.
fn prepare(directory: &Path) {
    let store = open(&damaged_config(directory));
    let mut worker = Worker::new(&store);
    for version in [1, 2] {
        for numbers in (0..KEYS).collect::<Vec<_>>().chunks(500) {
            let operations = numbers.iter().map(|number| put(&name(*number), content(*number, version))).collect();
            assert!(worker.run(operations).iter().all(is_stored));
        }
    }
    assert!(worker.run((0..KEYS).step_by(100).map(|number| delete(&name(number))).collect()).iter().all(is_stored));
}

fn data_file(directory: &Path) -> std::path::PathBuf {
    directory.join("data/shard-0/data.mdb")
}

/// Pages that hold anything, by the header's word.
fn pages(file: &File) -> u64 {
    let last = |copy: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, copy * PAGE_BYTES + 136).unwrap();
        u64::from_le_bytes(bytes)
    };
    last(0).max(last(1)) + 1
}

/// Does one of several harms to a file, and says which.
pub(crate) fn harm(path: &Path, kind: u64, numbers: &mut Numbers) -> String {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let pages = pages(&file);
    let page = 2 + numbers.below(pages - 2);
    let start = page * PAGE_BYTES;
    let mut bytes = vec![0; PAGE_BYTES as usize];
    file.read_exact_at(&mut bytes, start).unwrap();
    let what = match kind {
        0 => {
            let bit = numbers.below(PAGE_BYTES * 8);
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            format!("bit {bit} of page {page}")
        }
        1 => {
            bytes.iter_mut().for_each(|byte| *byte = numbers.next() as u8);
            format!("noise over page {page}")
        }
        2 => {
            bytes.fill(0);
            format!("zeros over page {page}")
        }
        3 => {
            let other = 2 + numbers.below(pages - 2);
            file.read_exact_at(&mut bytes, other * PAGE_BYTES).unwrap();
            format!("page {other} over page {page}")
        }
        4 => {
            // The head of a page and its offsets: what LMDB follows without looking.
            let at = numbers.below(64) as usize;
            bytes[at] = numbers.next() as u8;
            format!("byte {at} of page {page}")
        }
        5 => {
            // A pointer, a length or a flag somewhere in the upper half, where the nodes are.
            let at = 2048 + numbers.below(2040) as usize;
            (0..8).for_each(|offset| bytes[at + offset] = numbers.next() as u8);
            format!("8 bytes at {at} of page {page}")
        }
        _ => {
            let length = 2 * PAGE_BYTES + numbers.below((pages - 2) * PAGE_BYTES);
            file.set_len(length).unwrap();
            return format!("cut at {length} of {}", pages * PAGE_BYTES);
        }
    };
    file.write_all_at(&bytes, start).unwrap();
    what
}

#[derive(Debug, Default)]
struct Tally {
    unharmed: u64,
    noticed_by_reads: u64,
    found_by_scrub_only: u64,
    refused_at_open: u64,
    died: Vec<String>,
}

#[test]
fn damaged_pages_and_cut_files_never_give_a_wrong_byte() {
    if let Some((_, directory)) = role() {
        return read_everything(&directory);
    }
    let original = tempfile::tempdir().unwrap();
    prepare(original.path());
    let (mut numbers, mut tally) = (Numbers(5), Tally::default());
    for copy in 0..COPIES {
        let directory = tempfile::tempdir().unwrap();
        copy_directory(original.path(), directory.path());
        let harm = harm(&data_file(directory.path()), copy % 7, &mut numbers);
        judge(directory.path(), &harm, &mut tally);
    }
    println!("{COPIES} damaged copies: {tally:#?}");
    assert!(
        tally.noticed_by_reads + tally.refused_at_open > COPIES / 4,
        "so little was noticed that nothing was harmed"
    );
    assert!(tally.died.len() as u64 <= COPIES / 20, "reading damage killed the process too often: {:?}", tally.died);
}

fn judge(directory: &Path, harm: &str, tally: &mut Tally) {
    let name = "damage::damaged_pages_and_cut_files_never_give_a_wrong_byte";
    let mut command = command(name, "read", directory);
    let mut child = Guarded(command.stderr(std::process::Stdio::inherit()).spawn().unwrap());
    let said: BTreeMap<String, u64> = said(&mut child.0)
        .map(|line| {
            let (what, count) = line.split_once(' ').unwrap();
            (what.to_owned(), count.parse().unwrap())
        })
        .collect();
    let status = child.0.wait().unwrap();
    let count = |what: &str| said.get(what).copied().unwrap_or(0);
    assert_eq!(count("wrong"), 0, "{harm}: wrong bytes were served");
    if let Some(signal) = status.signal() {
        return tally.died.push(format!("{harm}: signal {signal} after {said:?}"));
    }
    assert!(status.success(), "{harm}: {status}, {said:?}");
    if count("refused") == 1 {
        tally.refused_at_open += 1;
    } else if count("corrupt") > 0 {
        tally.noticed_by_reads += 1;
    } else if count("unsound") == 1 {
        tally.found_by_scrub_only += 1;
    } else {
        assert_eq!((count("absent"), count("stale")), (0, 0), "{harm}: lost and not found by the scrub");
        assert_eq!(count("right"), KEYS as u64, "{harm}");
        tally.unharmed += 1;
    }
}

/// The child: reads every key, scrubs, and says what it saw.
fn read_everything(directory: &Path) {
    let store = match Store::open(&damaged_config(directory)) {
        Ok(store) => store,
        Err(OpenError::Damaged { .. } | OpenError::Missing { .. }) => return say("refused 1"),
        Err(other) => panic!("not the error that damage is: {other}"),
    };
    let mut counts: BTreeMap<&str, u64> = BTreeMap::from([("wrong", 0)]);
    let operations: Vec<PeerOperation> = (0..KEYS).map(|number| read_of(&name(number))).collect();
    for (batch, operations) in operations.chunks(100).enumerate() {
        let mut results = Vec::new();
        store.snapshot().read_all(operations, &mut results);
        for (at, result) in results.into_iter().enumerate() {
            *counts.entry(classify(batch * 100 + at, result)).or_default() += 1;
        }
    }
    if !store.verify().is_sound() {
        counts.insert("unsound", 1);
        // What was lost may not be answered as absent any more, and nothing may be built upon it.
        let deleted_or_lost = store.snapshot().read(&read_of("never written"));
        if store.status().shards[0].health != Health::Sound {
            assert_eq!(deleted_or_lost, PeerResult::Corrupt);
            assert_eq!(Worker::new(&store).one(put("new", vec![1])), WriteOutcome::Corrupt);
        }
    }
    counts.iter().for_each(|(what, count)| say(&format!("{what} {count}")));
}

fn classify(number: usize, result: PeerResult) -> &'static str {
    let bytes = match result {
        PeerResult::Record(bytes) => bytes,
        PeerResult::Absent => return "absent",
        PeerResult::Corrupt => return "corrupt",
        PeerResult::Failed(_) => return "failed",
        PeerResult::Digest(_) | PeerResult::Stored | PeerResult::Stale(_) => return "wrong",
    };
    let Ok(object) = dynamo::record::decode_of(&address(&name(number)), &bytes) else { return "wrong" };
    let live: Vec<Bytes> = object
        .live()
        .map(|version| match &version.content {
            dynamo::version::Content::Value { bytes, .. } => bytes.clone(),
            dynamo::version::Content::Tombstone => unreachable!("a tombstone is not live"),
        })
        .collect();
    let is = |version: u8| live == [Bytes::from(content(number, version))];
    match (number.is_multiple_of(100), &*live) {
        (true, []) => "right",
        (false, _) if is(2) => "right",
        // A page that points to an older one shows what was true once: not wrong bytes, and for the scrub to find.
        (_, _) if is(1) || is(2) => "stale",
        (_, _) => "wrong",
    }
}

pub(crate) fn copy_directory(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_directory(&entry.path(), &target);
        } else if !["ballast", "lock.mdb"].iter().any(|other| entry.file_name() == **other) {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

#[test]
fn one_flipped_bit_in_a_record_makes_that_key_corrupt_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let path = data_file(directory.path());
    let needle = content(1_021, 2);
    flip_after(&path, &needle, needle.len() / 2);
    let store = open(&damaged_config(directory.path()));
    assert_eq!(values(&store, &name(1_021)), Err(PeerResult::Corrupt));
    assert_eq!(values(&store, &name(1_022)), Ok(vec![content(1_022, 2).into()]));
    let report = store.verify();
    assert_eq!((report.damaged, report.missing, report.damaged_keys.len()), (1, 0, 1), "{report:?}");
    assert_eq!(report.damaged_keys[0], address(&name(1_021)).store_key);
    // It is never merged with and never overwritten blindly; its neighbours are written as before.
    let mut worker = Worker::new(&store);
    assert_eq!(worker.one(put(&name(1_021), vec![1])), WriteOutcome::Corrupt);
    assert!(is_stored(&worker.one(put(&name(1_022), vec![1]))));
}

#[test]
fn a_key_that_was_damaged_counts_as_lost_once_the_scrub_has_seen_it() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let key = address(&name(1_021)).store_key;
    flip_after(&data_file(directory.path()), &key.0, 31);
    let store = open(&damaged_config(directory.path()));
    // Nothing shows on the way to it, and so it can't be told from a key that never was; the scrub can tell.
    assert_eq!(values(&store, &name(1_021)), Ok(Vec::new()));
    let report = store.verify();
    assert_eq!((report.damaged, report.partitions_wrong), (1, 1), "{report:?}");
    assert_eq!(values(&store, &name(1_021)), Err(PeerResult::Corrupt));
    assert_eq!(values(&store, &name(1_022)), Ok(vec![content(1_022, 2).into()]));
}

#[test]
fn a_damaged_partition_row_is_refused_at_open() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(&damaged_config(directory.path())));
    let row = PartitionRow { owned: 1, ..PartitionRow::new(view_of_prefix((1 << BITS) - 1)) }.encode();
    flip_after(&data_file(directory.path()), &row, 30);
    let error = Store::open(&damaged_config(directory.path())).err().unwrap();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

/// Flips a bit `offset` bytes into every place of a file where `needle` stands.
pub(crate) fn flip_after(path: &Path, needle: &[u8], offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    let places: Vec<usize> = (0..bytes.len() - needle.len()).filter(|at| bytes[*at..].starts_with(needle)).collect();
    assert!(!places.is_empty(), "the bytes are not in the file");
    places.into_iter().for_each(|at| bytes[at + offset] ^= 0x10);
    fs::write(path, bytes).unwrap();
}
