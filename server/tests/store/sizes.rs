//! How much the records are is told from their number and the size of a few of them, for stores of none, few and many, of one size and of
//! several.

use server::store::{Store, StoreConfig};

use crate::support::{Worker, config, is_stored, open, put};

/// What a record has besides the value: its key, versions, checksum and key in the store.
const OVERHEAD: u64 = 200;

fn fill(store: &Store, sizes: &[usize]) {
    let mut worker = Worker::new(store);
    for (at, group) in (0..).step_by(500).zip(sizes.chunks(500)) {
        let puts =
            group.iter().zip(at..).map(|(size, number): (_, usize)| put(&format!("key {number}"), vec![7; *size]));
        assert!(worker.run(puts.collect()).iter().all(is_stored));
    }
}

fn told(sizes: &[usize], shards: u8) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&StoreConfig { shards: Some(shards), ..config(directory.path()) });
    fill(&store, sizes);
    store.record_bytes()
}

#[test]
fn an_empty_store_has_no_bytes() {
    assert_eq!(told(&[], 4), 0);
}

#[test]
fn few_records_are_added_up() {
    let sizes = [1, 10_000, 100, 70_000, 5];
    let values: u64 = sizes.iter().map(|size| *size as u64).sum();
    let told = told(&sizes, 1);
    assert!((values..values + 5 * OVERHEAD).contains(&told), "{told} for {values}");
}

#[test]
fn many_records_of_about_one_size_are_told_closely_in_one_shard_and_in_four() {
    for shards in [1, 4] {
        let sizes: Vec<usize> = (0..3_000).map(|number| 900 + number % 200).collect();
        let values: u64 = sizes.iter().map(|size| *size as u64).sum();
        let told = told(&sizes, shards);
        assert!((values * 95 / 100..values * 105 / 100 + 3_000 * OVERHEAD).contains(&told), "{told} for {values}");
    }
}

#[test]
fn many_records_of_unlike_sizes_are_told_roughly() {
    let sizes: Vec<usize> = (0..4_000).map(|number| if number % 4 == 0 { 8_000 } else { 100 }).collect();
    let values: u64 = sizes.iter().map(|size| *size as u64).sum();
    let told = told(&sizes, 4);
    assert!((values / 2..values * 2).contains(&told), "{told} for {values}");
}
