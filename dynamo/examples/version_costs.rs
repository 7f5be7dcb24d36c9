//! What versions cost: nanoseconds for the steps of a read and a write that need no input or output.
//! `cargo run --release -p quorate-dynamo --example version_costs`
//!
//! The object is one version with a 16-byte key, a 100-byte value and an operation id, unless a line says otherwise. The
//! store is a map in memory, so "mint" and "merge" at the replica show what the writer thread adds to its LMDB calls.

use std::{collections::HashMap, convert::Infallible, hint::black_box, time::Instant};

use bytes::Bytes;
use dynamo::{
    ident::{OpId, StoreKey},
    layout::{ConflictRule, View},
    operation::Address,
    record,
    replica::{Limits, Listed, MintBasis, Nonce, PartitionRow, Planted, Replica, Rows, Write, WriteOperation},
    token::{self, TokenKey},
    version::{Actor, Content, Dot, Object, Version, put::Seen},
};
use xxhash_rust::xxh3::xxh3_128;

/// Long enough that the clock's own cost vanishes, short enough to wait for.
const ROUND_MS: u128 = 150;

/// The best of so many rounds is printed: the others were disturbed.
const ROUNDS: usize = 5;

fn main() {
    objects();
    tokens();
    replicas();
}

fn objects() {
    let address = address(0);
    let one = object(1, 100);
    let bytes = Bytes::from(record::encode(&address, &one));
    println!("record of {} bytes", bytes.len());
    measure("address: MD5 and XXH3 of bucket and key", || Address::new(address.bucket.clone(), address.key.clone()));
    measure("encode", || record::encode(&address, &one));
    measure("verify", || record::verify(&address.store_key, &bytes));
    measure("decode", || record::decode(&address.store_key, &bytes));
    measure("decode_of and drop, names compared", || record::decode_of(&address, &bytes));
    measure("summary", || record::summary(&address.store_key, &bytes).map(|summary| summary.value_bytes));
    measure("present, siblings", || one.present(ConflictRule::Siblings, 0).count());
    let two = object(2, 100);
    measure("clone", || one.clone());
    measure("clone and merge of equal objects", || merged(&one, &one));
    measure("clone and merge with a concurrent version", || merged(&one, &two));
    let many = object(16, 100);
    let many_bytes = Bytes::from(record::encode(&address, &many));
    measure("decode, 16 siblings", || record::decode(&address.store_key, &many_bytes));
    let long = Bytes::from(record::encode(&address, &object(1, 1 << 20)));
    measure("verify, value of 1 MiB", || record::verify(&address.store_key, &long));
}

fn tokens() {
    let (key, address) = (TokenKey([5; 32]), address(0));
    for versions in [1, 3, 16] {
        let seen = object(versions, 8).seen();
        let token = token::seal(&key, &address.store_key, &seen);
        measure(&format!("seal, {versions} entries"), || token::seal(&key, &address.store_key, &seen));
        measure(&format!("open, {versions} entries"), || token::open(&key, &address.store_key, &token));
    }
}

fn replicas() {
    let mut rows = Memory::default();
    let mut replica = Replica::new(Nonce([1; 32]), Limits { value_bytes_max: 1 << 20 });
    for prefix in 0..1 << BITS {
        let Ok(()) = Replica::adopt(&mut rows, View { prefix, bits: BITS, lo: 1, hi: 1 });
    }
    let addresses: Vec<Address> = (0..BATCH).map(address).collect();
    let mut sequence = 0;
    let mut records = Vec::new();
    measure_each("mint at the replica, 256 per batch", BATCH, || {
        records.clear();
        let mut batch = replica.begin();
        for address in &addresses {
            sequence += 1;
            let Ok(minted) = batch.apply(&mut rows, put(address, sequence));
            records.push(minted.expect("minted").record.clone());
        }
        let Ok(staged) = batch.stage(&mut rows);
        staged.committed()
    });
    let mut other = Replica::new(Nonce([2; 32]), Limits { value_bytes_max: 1 << 20 });
    let merges = |records: &[Bytes]| -> Vec<WriteOperation> {
        let operations = addresses.iter().zip(records);
        operations.map(|(address, record)| merge(address, record)).collect()
    };
    let new = merges(&records);
    let old = rows.clone();
    measure_each("merge of an equal record", BATCH, || run(&mut other, &mut rows, &new));
    let mut replica = Replica::new(Nonce([3; 32]), Limits { value_bytes_max: 1 << 20 });
    records.clear();
    let mut batch = replica.begin();
    for address in &addresses {
        let Ok(minted) = batch.apply(&mut rows, put(address, sequence + 1));
        records.push(minted.expect("minted").record.clone());
    }
    drop(batch);
    let newer = merges(&records);
    // Rows are put back each time: a map of handles, cloned, is counted in and small.
    measure_each("merge of a newer record, with resetting the store", BATCH, || {
        let mut rows = old.clone();
        run(&mut other, &mut rows, &newer)
    });
}

fn run(replica: &mut Replica, rows: &mut Memory, operations: &[WriteOperation]) -> usize {
    let mut batch = replica.begin();
    for operation in operations {
        let Ok(_) = batch.apply(rows, operation.clone());
    }
    let Ok(staged) = batch.stage(rows);
    staged.committed().len()
}

fn measure<T>(what: &str, work: impl FnMut() -> T) {
    measure_each(what, 1, work);
}

/// Prints the nanoseconds of one of the `count` things that `work` does.
fn measure_each<T>(what: &str, count: u64, mut work: impl FnMut() -> T) {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let (start, mut times) = (Instant::now(), 0u32);
        while start.elapsed().as_millis() < ROUND_MS {
            for _ in 0..100 {
                black_box(work());
            }
            times += 100;
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(times) / count as f64);
    }
    println!("{best:10.0} ns  {what}");
}

const BITS: u8 = 6;
const BATCH: u64 = 256;

fn address(number: u64) -> Address {
    Address::new(Bytes::from_static(b"default"), Bytes::from(format!("user/{number:011}")))
}

fn object(versions: u64, value_bytes: usize) -> Object {
    let mut object = Object::new();
    for at in 1..=versions {
        let bytes = Bytes::from(vec![at as u8; value_bytes]);
        let content = Content::Value { hash: xxh3_128(&bytes), bytes };
        let dot = Dot { actor: Actor(at << 40), seq: at };
        let version = Version {
            dot,
            op_id: OpId { client: 7, sequence: at },
            clock: 1_700_000_000_000 << 16,
            expires: 0,
            content,
        };
        object.put(&Seen::default(), version);
    }
    object
}

fn merged(left: &Object, right: &Object) -> Object {
    let mut object = left.clone();
    object.merge(right);
    object
}

fn view(address: &Address) -> View {
    View { prefix: address.store_key.id().prefix(BITS), bits: BITS, lo: 1, hi: 1 }
}

fn put(address: &Address, sequence: u64) -> WriteOperation {
    let bytes = Bytes::from_static(&[9; 100]);
    let write = Write {
        content: Content::Value { hash: 1, bytes },
        basis: MintBasis::Local,
        op_id: OpId { client: 7, sequence },
        seen_clock: 0,
        wall_ms: 1_700_000_000_000,
        expires: 0,
    };
    WriteOperation::Mint { view: view(address), address: address.clone(), write }
}

fn merge(address: &Address, record: &Bytes) -> WriteOperation {
    WriteOperation::Merge { view: view(address), store_key: address.store_key, record: record.clone() }
}

#[derive(Clone, Default)]
struct Memory {
    records: HashMap<StoreKey, Bytes>,
    rows: HashMap<(u8, u32), PartitionRow>,
}

impl Rows for Memory {
    type Error = Infallible;

    fn record(&mut self, key: &StoreKey) -> Result<Option<Bytes>, Infallible> {
        Ok(self.records.get(key).cloned())
    }

    fn put_record(&mut self, key: &StoreKey, record: &[u8]) -> Result<(), Infallible> {
        self.records.insert(*key, Bytes::copy_from_slice(record));
        Ok(())
    }

    fn remove_record(&mut self, key: &StoreKey) -> Result<(), Infallible> {
        self.records.remove(key);
        Ok(())
    }

    fn changed(&mut self, _: &StoreKey, _: Option<u128>, _: Option<u128>) -> Result<(), Infallible> {
        Ok(())
    }

    fn replaced_unknown(&mut self, _: &StoreKey, _: Option<u128>) -> Result<(), Infallible> {
        Ok(())
    }

    fn partition(&mut self, prefix: u32, bits: u8) -> Result<Option<PartitionRow>, Infallible> {
        Ok(self.rows.get(&(bits, prefix)).copied())
    }

    fn put_partition(&mut self, row: &PartitionRow) -> Result<(), Infallible> {
        self.rows.insert((row.view.bits, row.view.prefix), *row);
        Ok(())
    }

    fn listed(&mut self, _: &StoreKey, _: &StoreKey, _: usize) -> Result<Vec<Listed>, Infallible> {
        Ok(Vec::new())
    }

    fn plant(&mut self, _: u32, _: u8) -> Result<Planted, Infallible> {
        Ok(Planted::default())
    }

    fn uproot(&mut self, prefix: u32, bits: u8) -> Result<(), Infallible> {
        self.rows.remove(&(bits, prefix));
        Ok(())
    }
}
