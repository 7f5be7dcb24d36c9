//! Rebuilding what can't be read, and reaping what nobody shall see again: on one replica, rule by rule.

#[path = "support/node.rs"]
mod node;

use bytes::Bytes;
use dynamo::{
    hlc,
    ident::StoreKey,
    operation::{Address, ErrorCode},
    record,
    replica::{MintBasis, PartitionRow, Write, WriteOperation, WriteOutcome},
    version::Content,
};
use node::{Node, Transaction, address, merge, mint, put, shown, value, view, write};

fn rebuild(address: &Address, record: Option<Bytes>) -> WriteOperation {
    WriteOperation::Rebuild { view: view(address), store_key: address.store_key, record }
}

fn reap(address: &Address, digest: u128, clock: u64) -> WriteOperation {
    WriteOperation::Reap { view: view(address), store_key: address.store_key, digest, clock }
}

fn delete(address: &Address) -> WriteOperation {
    mint(address, write(Content::Tombstone, MintBasis::Local))
}

fn digest(node: &Node, address: &Address) -> u128 {
    record::verify(&address.store_key, &node.record(address).unwrap()).unwrap()
}

/// Flips a bit of the record under a key.
fn damage(node: &mut Node, address: &Address) {
    let mut record = node.record(address).unwrap().to_vec();
    let at = record.len() - 1;
    record[at] ^= 1;
    node.disk.records.insert(address.store_key, Bytes::from(record));
}

/// Other keys of the same partition.
fn neighbours(of: &Address) -> impl Iterator<Item = Address> {
    let place = view(of);
    (0..).map(|at| address(&format!("neighbour {at}"))).filter(move |other| view(other) == place)
}

fn refused(outcome: WriteOutcome) -> ErrorCode {
    match outcome {
        WriteOutcome::Refused(failure) => failure.code,
        other => panic!("not refused: {other:?}"),
    }
}

fn counts(row: PartitionRow) -> (u64, u64, u128) {
    (row.records, row.deleted, row.sum)
}

#[test]
fn a_rebuilt_record_is_served_and_merged_again_under_a_new_actor() {
    let address = address("k");
    let mut node = Node::new(1);
    let before = node.mint(put(&address, "a")).dot.unwrap();
    damage(&mut node, &address);
    let mut peer = Node::new(2);
    let theirs = peer.mint(put(&address, "b")).record;
    // Straight from the scrub: no read or write has met the damage yet.
    assert_eq!(node.apply(rebuild(&address, Some(theirs.clone()))), WriteOutcome::Stored);
    assert_eq!(node.record(&address), Some(theirs));
    let after = node.mint(put(&address, "c"));
    assert_ne!(after.dot.unwrap().actor, before.actor);
    assert_eq!(shown(&node.object(&address)), ["c"]);
    assert_eq!(peer.merge(&address, &after.record), WriteOutcome::Stored);
    assert_eq!(shown(&peer.object(&address)), ["c"]);
}

#[test]
fn a_rebuild_takes_a_new_actor_before_anything_else_can_be_minted() {
    let address = address("k");
    let other = neighbours(&address).next().unwrap();
    let mut node = Node::new(1);
    let before = node.mint(put(&address, "a")).dot.unwrap();
    damage(&mut node, &address);
    let theirs = Node::new(2).mint(put(&address, "b")).record;
    node.apply(rebuild(&address, Some(theirs)));
    assert_ne!(node.mint(put(&other, "x")).dot.unwrap().actor, before.actor);
}

#[test]
fn rebuilding_what_can_be_read_merges_and_what_nobody_holds_removes_nothing() {
    let address = address("k");
    let mut node = Node::new(1);
    let actor = node.mint(put(&address, "a")).dot.unwrap().actor;
    let theirs = Node::new(2).mint(put(&address, "b")).record;
    assert_eq!(node.apply(rebuild(&address, Some(theirs))), WriteOutcome::Stored);
    assert_eq!(shown(&node.object(&address)), ["a", "b"]);
    assert_eq!(node.apply(rebuild(&address, None)), WriteOutcome::Stored);
    assert_eq!(shown(&node.object(&address)), ["a", "b"]);
    assert_eq!(node.row(&address).forgotten, 0, "nothing was unknown");
    assert_eq!(node.mint(put(&address, "c")).dot.unwrap().actor, actor);
    let absent = node::address("absent");
    assert_eq!(node.apply(rebuild(&absent, None)), WriteOutcome::Stored);
    assert_eq!(node.record(&absent), None);
}

#[test]
fn an_unreadable_record_that_no_other_owner_holds_is_removed() {
    let address = address("k");
    let mut node = Node::new(1);
    node.mint(put(&address, "a"));
    damage(&mut node, &address);
    assert_eq!(node.apply(rebuild(&address, None)), WriteOutcome::Stored);
    assert_eq!(node.record(&address), None);
    node.recount(&address);
    assert_eq!(counts(node.row(&address)), (0, 0, 0));
    assert_eq!(node.disk.totals(), node.disk.sums());
}

#[test]
fn a_rebuild_from_a_damaged_or_a_foreign_record_is_refused() {
    let address = address("k");
    let mut node = Node::new(1);
    node.mint(put(&address, "a"));
    damage(&mut node, &address);
    let standing = node.record(&address);
    let mut theirs = Node::new(2).mint(put(&address, "b")).record.to_vec();
    theirs[30] ^= 4;
    assert_eq!(refused(node.apply(rebuild(&address, Some(theirs.into())))), ErrorCode::InvalidRequest);
    let other = node::address("other");
    let names = Address { store_key: address.store_key, ..other };
    let foreign = record::encode(&names, &Node::new(2).object(&address));
    assert_eq!(refused(node.apply(rebuild(&address, Some(foreign.into())))), ErrorCode::InvalidRequest);
    assert_eq!(node.record(&address), standing);
}

#[test]
fn an_unreadable_record_is_neither_merged_nor_minted_over_nor_reaped() {
    let address = address("k");
    let mut node = Node::new(1);
    node.mint(delete(&address));
    let digest = digest(&node, &address);
    damage(&mut node, &address);
    let standing = node.record(&address);
    let theirs = Node::new(2).mint(put(&address, "b")).record;
    for operation in [put(&address, "c"), merge(&address, &theirs), reap(&address, digest, 0)] {
        assert_eq!(node.apply(operation), WriteOutcome::Corrupt);
        assert_eq!(node.record(&address), standing);
    }
}

#[test]
fn after_rebuilds_the_tree_is_right_at_once_and_the_row_says_what_it_does_not_know() {
    let address = address("k");
    let mut node = Node::new(1);
    let others: Vec<Address> = neighbours(&address).take(40).collect();
    for other in &others {
        node.mint(put(other, "v"));
    }
    let victims = &others[..3];
    for (at, victim) in victims.iter().enumerate() {
        damage(&mut node, victim);
        let theirs = Node::new(2).mint(delete(victim)).record;
        assert_eq!(node.apply(rebuild(victim, Some(theirs))), WriteOutcome::Stored);
        assert_eq!(node.disk.totals(), node.disk.sums());
        assert_eq!((node.row(&address).records, node.row(&address).forgotten), (40, at as u64 + 1));
    }
    let unsure = node.row(&address);
    node.recount(&address);
    let sure = node.row(&address);
    assert_eq!((sure.records, sure.deleted, sure.forgotten), (40, 3, 0));
    assert_ne!(sure.sum, unsure.sum);
}

#[test]
fn a_row_is_not_corrected_by_a_count_that_misses_records() {
    let address = address("k");
    let mut node = Node::new(1);
    node.mint(put(&address, "v"));
    let row = node.row(&address);
    let mut transaction = Transaction::begin(&mut node.disk);
    let mut batch = node.replica.begin();
    let view = view(&address);
    let nothing = dynamo::replica::Counted::default();
    assert_eq!(batch.recounted(&mut transaction, view.prefix, view.bits, &nothing), Ok(false));
    let Ok(staged) = batch.stage(&mut transaction);
    transaction.commit();
    staged.committed();
    assert_eq!(node.row(&address), row);
}

#[test]
fn reaping_removes_exactly_the_tombstone_that_was_looked_at() {
    let address = address("k");
    let mut node = Node::new(1);
    node.mint(put(&address, "a"));
    node.mint(delete(&address));
    let old = digest(&node, &address);
    node.mint(delete(&address));
    assert_eq!(refused(node.apply(reap(&address, old, 0))), ErrorCode::InvalidRequest, "it has changed since");
    let dot = node.object(&address).versions[0].dot;
    assert_eq!(node.apply(reap(&address, digest(&node, &address), 0)), WriteOutcome::Stored);
    assert_eq!(node.record(&address), None);
    assert_eq!(counts(node.row(&address)), (0, 0, 0));
    assert_eq!(node.disk.totals(), node.disk.sums());
    assert_eq!(node.apply(reap(&address, old, 0)), WriteOutcome::Stored, "a repetition");
    assert_ne!(node.mint(put(&address, "b")).dot.unwrap().actor, dot.actor, "its dots are forgotten");
}

#[test]
fn a_live_version_is_not_reaped_and_an_expired_one_only_by_the_clock_that_is_given() {
    let address = address("k");
    let mut node = Node::new(1);
    node.mint(put(&address, "a"));
    assert_eq!(refused(node.apply(reap(&address, digest(&node, &address), u64::MAX))), ErrorCode::InvalidRequest);
    let expires = hlc::clock_of(5_000);
    let expiring = Write { expires, ..write(value("b"), MintBasis::Local) };
    node.mint(mint(&address, expiring));
    let digest = digest(&node, &address);
    for clock in [0, expires - 1] {
        assert_eq!(refused(node.apply(reap(&address, digest, clock))), ErrorCode::InvalidRequest);
    }
    assert_eq!(node.apply(reap(&address, digest, expires)), WriteOutcome::Stored);
    assert_eq!(node.record(&address), None);
    assert_eq!(counts(node.row(&address)), (0, 0, 0));
}

#[test]
fn an_aborted_rebuild_or_reap_leaves_row_and_tree_as_they_were() {
    let address = address("k");
    let mut node = Node::new(1);
    node.mint(delete(&address));
    let (row, totals) = (node.row(&address), node.disk.totals());
    let key: StoreKey = address.store_key;
    let digest = digest(&node, &address);
    let mut transaction = Transaction::begin(&mut node.disk);
    let mut batch = node.replica.begin();
    let Ok(_) = batch.apply(&mut transaction, reap(&address, digest, 0));
    let Ok(staged) = batch.stage(&mut transaction);
    drop(staged);
    drop(transaction);
    assert!(node.disk.records.contains_key(&key));
    assert_eq!((node.row(&address), node.disk.totals()), (row, totals));
    node.mint(put(&address, "x"));
    assert_eq!(node.row(&address).records, 1);
}
