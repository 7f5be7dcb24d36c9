//! The limit of the disk: LMDB alone, with one writer thread per store, every commit synced, values of the load's size
//! under keys of a record's length, as many per commit as the nodes had; and reads from snapshots on every core.
//!
//! No protocol, no versions, no checksums: what a node can approach and not pass.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, WithoutTls, types::Bytes};
use serde::Serialize;

use crate::keys::{self, Random};

/// Most records in the store that is measured. More would measure how long it takes to fill it.
const RECORDS_MAX: u64 = 1_000_000;

/// Address space for a store: room for [`RECORDS_MAX`] of the largest values; it costs nothing until used.
const MAP_BYTES: usize = 64 << 30;

/// Bytes of a store key.
const KEY_BYTES: usize = 32;

/// The shape of the load.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Records in each store.
    pub records: u64,
    /// Bytes of each.
    pub value_bytes: usize,
    /// Records per commit.
    pub puts_per_commit: usize,
    /// Records read from one snapshot.
    pub gets_per_snapshot: usize,
    /// Stores that are written at the same time on the same disk: one for every node.
    pub stores: usize,
    /// How long each measurement takes.
    pub duration: Duration,
}

/// What LMDB reached.
#[derive(Clone, Debug, Serialize)]
pub struct LmdbLimit {
    /// Stores written at the same time.
    pub stores: usize,
    /// Records per commit.
    pub puts_per_commit: usize,
    /// Synced records per second in *each* store.
    pub puts_per_second: f64,
    /// Records read from one snapshot.
    pub gets_per_snapshot: usize,
    /// Threads that read at the same time.
    pub get_threads: usize,
    /// Records read per second by all of them.
    pub gets_per_second: f64,
}

/// Measures in a folder of its own below `directory`, which is removed afterwards.
pub fn measure(directory: &Path, shape: Shape) -> Result<LmdbLimit, heed::Error> {
    let shape = Shape { records: shape.records.clamp(1, RECORDS_MAX), ..shape };
    let folder = tempfile::Builder::new().prefix("quorate-lmdb-limit-").tempdir_in(directory)?;
    let environments = (0..shape.stores.max(1))
        .map(|number| open(&folder.path().join(number.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    let stores =
        environments.iter().map(|environment| Store::fill(environment, shape)).collect::<Result<Vec<_>, _>>()?;
    let puts_per_second = measure_puts(&stores, shape)?;
    let get_threads = thread::available_parallelism().map_or(1, usize::from);
    let gets_per_second = measure_gets(&stores[0], shape, get_threads)?;
    Ok(LmdbLimit {
        stores: stores.len(),
        puts_per_commit: shape.puts_per_commit,
        puts_per_second,
        gets_per_snapshot: shape.gets_per_snapshot,
        get_threads,
        gets_per_second,
    })
}

struct Store<'e> {
    environment: &'e Env<WithoutTls>,
    records: Database<'static, Bytes, Bytes>,
}

impl<'e> Store<'e> {
    /// A store with `shape.records` records in it.
    fn fill(environment: &'e Env<WithoutTls>, shape: Shape) -> Result<Self, heed::Error> {
        let records = environment
            .create_databases_and_commit(environment.write_txn()?, |opener, transaction| {
                opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
            })?
            .unwrap_commit();
        let value = keys::value(shape.value_bytes, 1);
        let mut all: Vec<[u8; KEY_BYTES]> = (0..shape.records).map(key).collect();
        all.sort_unstable();
        let mut transaction = environment.write_txn()?;
        for key in &all {
            records.put(&mut transaction, key.as_slice(), &value[..])?;
        }
        transaction.commit()?;
        Ok(Self { environment, records })
    }
}

#[allow(unsafe_code)]
fn open(path: &Path) -> Result<Env<WithoutTls>, heed::Error> {
    fs::create_dir(path)?;
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(MAP_BYTES);
    // SAFETY: the file lies in a folder with a random name that this process has just made, and nobody else opens or
    // changes it while it is mapped.
    unsafe { options.open(path) }
}

/// The store key of a number: scattered over the whole range, as digests are.
fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut random = Random::new(number);
    let mut key = [0; KEY_BYTES];
    key.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&random.next_u64().to_be_bytes()));
    key
}

fn measure_puts(stores: &[Store<'_>], shape: Shape) -> Result<f64, heed::Error> {
    let rates = thread::scope(|scope| {
        let writers: Vec<_> = stores
            .iter()
            .enumerate()
            .map(|(seed, store)| scope.spawn(move || puts_of_one(store, shape, seed as u64)))
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer does not panic"))
            .collect::<Result<Vec<f64>, heed::Error>>()
    })?;
    Ok(rates.iter().sum::<f64>() / rates.len() as f64)
}

fn puts_of_one(store: &Store<'_>, shape: Shape, seed: u64) -> Result<f64, heed::Error> {
    let mut random = Random::new(seed);
    let value = keys::value(shape.value_bytes, seed);
    let started = Instant::now();
    let mut written = 0u64;
    while started.elapsed() < shape.duration {
        let mut batch: Vec<_> = (0..shape.puts_per_commit.max(1)).map(|_| key(random.below(shape.records))).collect();
        // A tree is written fastest in its own order.
        batch.sort_unstable();
        let mut transaction = store.environment.write_txn()?;
        for key in &batch {
            store.records.put(&mut transaction, key.as_slice(), &value[..])?;
        }
        transaction.commit()?;
        written += batch.len() as u64;
    }
    Ok(written as f64 / started.elapsed().as_secs_f64())
}

fn measure_gets(store: &Store<'_>, shape: Shape, threads: usize) -> Result<f64, heed::Error> {
    let rates = thread::scope(|scope| {
        let readers: Vec<_> = (0..threads).map(|seed| scope.spawn(move || gets_of_one(store, shape, seed))).collect();
        readers
            .into_iter()
            .map(|reader| reader.join().expect("a reader does not panic"))
            .collect::<Result<Vec<f64>, heed::Error>>()
    })?;
    Ok(rates.iter().sum())
}

fn gets_of_one(store: &Store<'_>, shape: Shape, seed: usize) -> Result<f64, heed::Error> {
    let mut random = Random::new(seed as u64);
    let started = Instant::now();
    let (mut read, mut bytes) = (0u64, 0u64);
    while started.elapsed() < shape.duration {
        let transaction = store.environment.read_txn()?;
        for _ in 0..shape.gets_per_snapshot.max(1) {
            let value = store.records.get(&transaction, &key(random.below(shape.records)))?.unwrap_or_default();
            // Touching the value's ends pages it in, which an unread slice would not.
            bytes += value.iter().step_by(4096).map(|byte| u64::from(*byte)).sum::<u64>() + value.len() as u64;
            read += 1;
        }
    }
    let expected = read * shape.value_bytes as u64;
    debug_assert!(std::hint::black_box(bytes) >= expected);
    Ok(read as f64 / started.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Shape, measure};

    #[test]
    fn lmdb_is_measured_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let shape = Shape {
            records: 500,
            value_bytes: 100,
            puts_per_commit: 16,
            gets_per_snapshot: 16,
            stores: 2,
            duration: Duration::from_millis(50),
        };
        let limit = measure(directory.path(), shape).unwrap();
        assert_eq!((limit.stores, limit.puts_per_commit), (2, 16));
        assert!(limit.puts_per_second > 0.0 && limit.gets_per_second > limit.puts_per_second, "{limit:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
