//! What a node must not forget of what the ring's members agreed upon: it is there after the store was opened again, and damage is said
//! and never read as absence.

use std::{collections::BTreeMap, path::Path};

use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState, NodeIndex, spans::Spans},
};
use server::store::{OpenError, Store, StoreConfig};

use crate::{damage::flip_after, support::config};

fn layout(epoch: u64) -> Layout {
    let member = Member {
        id: NodeId(1),
        name: "n".into(),
        zone: "z".into(),
        weight: 1,
        addresses: vec!["10.0.0.1:7400".into()],
        state: MemberState::Active,
    };
    Layout {
        cluster: 7,
        generation: 1,
        epoch,
        parent_hash: [3; 16],
        electors: vec![NodeIndex(0)],
        members: vec![member],
        partition_bits: 2,
        replicas: 1,
        slots: vec![0; 4],
        buckets: BTreeMap::new(),
        spans: Spans::settled(1),
    }
}

fn founded(directory: &Path) -> StoreConfig {
    StoreConfig { founding: Some(layout(1).encode()), shards: Some(1), ..config(directory) }
}

fn epochs(store: &Store) -> Vec<u64> {
    store.layouts().unwrap().into_iter().map(|(epoch, _)| epoch).collect()
}

#[test]
fn layouts_are_kept_by_epoch_until_they_are_forgotten_and_never_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    let config = founded(directory.path());
    let store = Store::open(&config).unwrap();
    assert_eq!(store.layouts().unwrap(), [(1, layout(1).encode())]);
    for epoch in [2, 3, 0x10, 0x11] {
        store.put_layout(epoch, &layout(epoch).encode(), 1_000 + epoch).unwrap();
    }
    drop(store);
    let store = Store::open(&config).unwrap();
    assert_eq!(epochs(&store), [1, 2, 3, 0x10, 0x11]);
    assert_eq!(store.layout().unwrap(), layout(0x11).encode());
    assert_eq!((store.learned_ms(3).unwrap(), store.learned_ms(1).unwrap()), (Some(1_003), None));
    // The same again changes nothing; another one of the same epoch can't be.
    store.put_layout(3, &layout(3).encode(), 9_000).unwrap();
    assert_eq!(store.learned_ms(3).unwrap(), Some(1_003));
    let error = store.put_layout(3, &layout(4).encode(), 9_000).unwrap_err();
    assert!(error.to_string().contains("another layout of epoch 3"), "{error}");
    store.forget_layouts_before(0x10).unwrap();
    assert_eq!(epochs(&store), [0x10, 0x11]);
    store.forget_layouts_before(u64::MAX).unwrap();
    drop(store);
    assert_eq!(epochs(&Store::open(&config).unwrap()), [0x11]);
}

#[test]
fn promises_and_staged_changes_are_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let config = founded(directory.path());
    let store = Store::open(&config).unwrap();
    assert_eq!((store.acceptor().unwrap(), store.staged().unwrap()), (None, None));
    store.put_acceptor(b"promised").unwrap();
    store.put_staged(b"").unwrap();
    store.put_acceptor(b"accepted").unwrap();
    drop(store);
    let store = Store::open(&config).unwrap();
    assert_eq!((store.acceptor().unwrap(), store.staged().unwrap()), (Some(b"accepted".into()), Some(Vec::new())));
}

#[test]
fn a_flipped_bit_in_what_was_agreed_is_said_and_never_read_as_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let config = founded(directory.path());
    let store = Store::open(&config).unwrap();
    store.put_acceptor(b"a promise to ballot nine").unwrap();
    store.put_staged(b"n2 is to leave the ring").unwrap();
    store.put_layout(2, &layout(2).encode(), 5).unwrap();
    drop(store);
    let path = directory.path().join("data/node/data.mdb");
    flip_after(&path, b"a promise to ballot nine", 3);
    flip_after(&path, b"n2 is to leave the ring", 3);
    flip_after(&path, &layout(2).encode(), 40);
    let store = Store::open(&config).unwrap();
    let errors = [
        store.acceptor().unwrap_err(),
        store.staged().unwrap_err(),
        store.layouts().unwrap_err(),
        store.layout().unwrap_err(),
        store.put_layout(2, &layout(2).encode(), 5).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(&error, OpenError::Damaged { detail, .. } if detail.contains("checksum")), "{error}");
    }
}
