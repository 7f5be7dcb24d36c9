//! The replica against an in-memory store.

use alloc::collections::BTreeMap;
use core::convert::Infallible;
use std::vec;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::{Limits, MintBasis, Minted, Nonce, PartitionRow, Replica, Rows, Write, WriteOperation, WriteOutcome};
use crate::{
    ident::{OpId, StoreKey},
    layout::View,
    operation::Address,
    version::Content,
};

#[derive(Clone, Default)]
struct Memory {
    records: BTreeMap<StoreKey, Bytes>,
    rows: BTreeMap<(u8, u32), PartitionRow>,
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
    fn partition(&mut self, prefix: u32, bits: u8) -> Result<Option<PartitionRow>, Infallible> {
        Ok(self.rows.get(&(bits, prefix)).copied())
    }
    fn put_partition(&mut self, row: &PartitionRow) -> Result<(), Infallible> {
        self.rows.insert((row.view.bits, row.view.prefix), *row);
        Ok(())
    }
}

const BITS: u8 = 4;

fn address(key: &str) -> Address {
    Address::new(Bytes::from_static(b"default"), Bytes::copy_from_slice(key.as_bytes()))
}

fn view(address: &Address) -> View {
    View { prefix: address.store_key.id().prefix(BITS), bits: BITS, lo: 1, hi: 1 }
}

fn put(address: &Address, value: &'static str, basis: MintBasis) -> WriteOperation {
    let content = Content::Value { bytes: Bytes::from_static(value.as_bytes()), hash: xxh3_128(value.as_bytes()) };
    let write = Write { content, basis, op_id: OpId::NONE, seen_clock: 0, wall_ms: 1_000, expires: 0 };
    WriteOperation::Mint { view: view(address), address: address.clone(), write }
}

fn replica(nonce: u8) -> Replica {
    Replica::new(Nonce([nonce; 32]), Limits { value_bytes_max: 1 << 20 })
}

fn run(replica: &mut Replica, rows: &mut Memory, operation: WriteOperation) -> WriteOutcome {
    let mut batch = replica.begin();
    batch.apply(rows, operation).unwrap();
    batch.stage(rows).unwrap().committed().remove(0)
}

fn minted(outcome: WriteOutcome) -> Minted {
    match outcome {
        WriteOutcome::Minted(minted) => minted,
        other => panic!("not minted: {other:?}"),
    }
}

#[test]
fn a_write_and_its_merge_leave_the_same_bytes_at_two_replicas() {
    let address = address("k");
    let (mut here, mut there) = (Memory::default(), Memory::default());
    Replica::adopt(&mut here, view(&address)).unwrap();
    Replica::adopt(&mut there, view(&address)).unwrap();
    let minted = minted(run(&mut replica(1), &mut here, put(&address, "v", MintBasis::Local)));
    assert!(minted.is_sole());
    let merge = WriteOperation::Merge { view: view(&address), store_key: address.store_key, record: minted.record };
    assert_eq!(run(&mut replica(2), &mut there, merge), WriteOutcome::Stored);
    assert_eq!(here.records, there.records);
    assert_eq!(vec![1], here.rows.values().map(|row| row.records).collect::<vec::Vec<_>>());
    assert_eq!(here.rows.values().map(|row| row.sum).sum::<u128>(), there.rows.values().map(|row| row.sum).sum());
}
