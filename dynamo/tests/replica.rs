//! One replica, rule by rule: views, dots, retries, limits, damage.

#[path = "support/node.rs"]
mod node;

use bytes::Bytes;
use dynamo::{
    hlc,
    layout::View,
    operation::{Address, ErrorCode},
    peer::{PeerAction, PeerOperation, PeerResult},
    record,
    replica::{MintBasis, PartitionRow, Write, WriteOperation, WriteOutcome, answer_read},
    version::{Actor, CausalContext, Content, Dot, Object, SIBLINGS_MAX, Version, put::Seen},
};
use node::{Node, Transaction, address, merge, mint, named, put, put_beside, put_over, shown, value, view, write};

fn refused(outcome: WriteOutcome) -> ErrorCode {
    match outcome {
        WriteOutcome::Refused(failure) => failure.code,
        other => panic!("not refused: {other:?}"),
    }
}

fn under(view: View, operation: WriteOperation) -> WriteOperation {
    match operation {
        WriteOperation::Merge { store_key, record, .. } => WriteOperation::Merge { view, store_key, record },
        WriteOperation::Mint { address, write, .. } => WriteOperation::Mint { view, address, write },
        WriteOperation::Rebuild { store_key, record, .. } => WriteOperation::Rebuild { view, store_key, record },
        WriteOperation::Reap { store_key, digest, clock, .. } => {
            WriteOperation::Reap { view, store_key, digest, clock }
        }
        moving @ WriteOperation::Move(_) => moving,
    }
}

// ---- views

#[test]
fn a_write_under_an_older_view_is_refused_at_either_end() {
    let address = address("k");
    for (lo, hi, is_stale) in [(5, 6, true), (4, 7, true), (4, 6, true), (5, 7, false)] {
        for operation in [put(&address, "v"), merge(&address, &Node::new(9).mint(put(&address, "m")).record)] {
            let mut node = Node::new(1);
            node.fence(&address, 5, 7);
            let outcome = node.apply(under(View { lo, hi, ..view(&address) }, operation));
            let stale = WriteOutcome::Stale(View { lo: 5, hi: 7, ..view(&address) });
            assert_eq!(outcome == stale, is_stale, "{lo} to {hi}: {outcome:?}");
            assert_eq!(node.record(&address).is_none(), is_stale);
        }
    }
}

#[test]
fn a_view_of_another_partition_or_of_more_bits_is_refused() {
    let address = address("k");
    let mine = view(&address);
    let refusals = [
        (View { prefix: mine.prefix ^ 1, ..mine }, ErrorCode::InvalidRequest),
        (View { bits: 5, prefix: address.store_key.id().prefix(5), ..mine }, ErrorCode::StaleView),
        (View { bits: 60, ..mine }, ErrorCode::InvalidRequest),
        (View { lo: 2, hi: 1, ..mine }, ErrorCode::InvalidRequest),
    ];
    for (view, code) in refusals {
        let mut node = Node::new(1);
        assert_eq!(refused(node.apply(under(view, put(&address, "v")))), code, "{view:?}");
        assert!(node.disk.records.is_empty());
    }
}

#[test]
fn a_partition_this_node_does_not_hold_is_refused_for_reads_and_writes() {
    let address = address("k");
    let mut node = Node::new(1);
    node.disk.rows.clear();
    assert_eq!(refused(node.apply(put(&address, "v"))), ErrorCode::StaleView);
    let read = PeerOperation { view: view(&address), store_key: address.store_key, action: PeerAction::Read };
    assert!(matches!(answer_read(&read, None, None), PeerResult::Failed(_)));
}

#[test]
fn a_read_answers_with_the_record_its_digest_or_what_is_wrong() {
    let address = address("k");
    let mut node = Node::new(1);
    let record = node.mint(put(&address, "v")).record;
    let row = node.row(&address);
    let ask = |action, record, row| {
        answer_read(&PeerOperation { view: view(&address), store_key: address.store_key, action }, record, row)
    };
    assert_eq!(ask(PeerAction::Read, Some(&record), Some(&row)), PeerResult::Record(record.clone()));
    let digest = record::verify(&address.store_key, &record).unwrap();
    assert_eq!(ask(PeerAction::Digest, Some(&record), Some(&row)), PeerResult::Digest(digest));
    assert_eq!(ask(PeerAction::Digest, None, Some(&row)), PeerResult::Absent);
    let mut damaged = record.to_vec();
    damaged[40] ^= 1;
    let damaged = Bytes::from(damaged);
    assert_eq!(ask(PeerAction::Read, Some(&damaged), Some(&row)), PeerResult::Corrupt);
    assert_eq!(ask(PeerAction::Digest, Some(&damaged), Some(&row)), PeerResult::Corrupt);
    let newer = PartitionRow::new(View { lo: 2, hi: 2, ..view(&address) });
    assert_eq!(ask(PeerAction::Read, Some(&record), Some(&newer)), PeerResult::Stale(newer.view));
}

// ---- dots and actors

#[test]
fn counts_run_over_all_keys_of_a_partition_under_one_actor() {
    let (first, second) = (address("k"), same_partition(&address("k")));
    let mut node = Node::new(1);
    let one = node.mint(put(&first, "1")).dot.unwrap();
    let two = node.mint(put(&second, "2")).dot.unwrap();
    assert_eq!((one.seq, two), (1, Dot { actor: one.actor, seq: 2 }));
    assert_eq!(node.row(&first).last, Some(two), "durable together with the write");
}

#[test]
fn every_process_start_and_every_partition_has_its_own_actor() {
    let address = address("k");
    let mut node = Node::new(1);
    let before = node.mint(put(&address, "1")).dot.unwrap();
    node.restart(2);
    let after = node.mint(put(&address, "2")).dot.unwrap();
    assert_ne!(before.actor, after.actor);
    assert_eq!(after.seq, 1);
    let elsewhere = (0..).map(|at| node::address(&format!("{at}"))).find(|other| view(other) != view(&address));
    assert_ne!(node.mint(put(&elsewhere.unwrap(), "3")).dot.unwrap().actor, after.actor);
}

#[test]
fn an_aborted_or_forgotten_batch_gives_up_its_actor() {
    let address = address("k");
    let mut node = Node::new(1);
    let kept = node.mint(put(&address, "1")).dot.unwrap();
    let lost = node.mint_and_abort(put(&address, "2")).dot.unwrap();
    assert_eq!(lost.actor, kept.actor);
    let next = node.mint(put(&address, "3")).dot.unwrap();
    assert_ne!(next.actor, kept.actor);
    // Staged but never reported as committed: the same.
    let mut transaction = Transaction::begin(&mut node.disk);
    let mut batch = node.replica.begin();
    let Ok(_) = batch.apply(&mut transaction, put(&address, "4"));
    let Ok(staged) = batch.stage(&mut transaction);
    drop(staged);
    assert_ne!(node.mint(put(&address, "5")).dot.unwrap().actor, next.actor);
}

#[test]
fn an_aborted_batch_leaves_no_trace_in_the_row() {
    let address = address("k");
    let mut node = Node::new(1);
    node.mint(put(&address, "1"));
    let before = node.row(&address);
    let _shown = node.mint_and_abort(put(&address, "2"));
    node.merge(&address, &Node::new(7).mint(put(&address, "3")).record);
    let row = node.row(&address);
    assert_eq!((row.records, row.last), (1, before.last));
    assert_eq!(row.sum, record::verify(&address.store_key, &node.record(&address).unwrap()).unwrap());
}

#[test]
fn a_clients_context_that_knows_more_of_the_actor_ends_it() {
    let address = address("k");
    let mut node = Node::new(1);
    let first = node.mint(put(&address, "1"));
    let dot = first.dot.unwrap();
    // What it minted itself is no sign of anything.
    let second = node.mint(put_over(&address, "2", &first.seen.unwrap())).dot.unwrap();
    assert_eq!(second.actor, dot.actor);
    let context: CausalContext = [Dot { seq: 9, ..dot }].into_iter().collect();
    let third = node.mint(put_over(&address, "3", &Seen { context, spent: vec![] })).dot.unwrap();
    assert_ne!(third.actor, dot.actor);
}

#[test]
fn a_peers_record_that_knows_more_of_the_actor_ends_it() {
    let address = address("k");
    let (mut node, mut peer) = (Node::new(1), Node::new(2));
    let first = node.mint(put(&address, "1"));
    peer.merge(&address, &first.record);
    peer.merge(&address, &node.mint(put(&address, "2")).record);
    // The node forgets the key, not the partition: its count goes on, its object starts anew.
    node.disk.records.clear();
    let kept = node.mint(put(&same_partition(&address), "x")).dot.unwrap();
    assert_eq!(kept.actor, first.dot.unwrap().actor);
    node.merge(&address, &peer.record(&address).unwrap());
    assert_ne!(node.mint(put(&address, "3")).dot.unwrap().actor, kept.actor);
}

fn same_partition(of: &Address) -> Address {
    (0..).map(|at| address(&format!("other {at}"))).find(|other| view(other) == view(of)).unwrap()
}

// ---- what a put replaces, and what its reply may say

#[test]
fn a_put_replaces_what_is_held_nothing_or_what_was_read() {
    let address = address("k");
    let mut node = Node::new(1);
    let first = node.mint(put(&address, "a"));
    let seen = first.seen.unwrap();
    let second = node.mint(put_beside(&address, "b"));
    assert_eq!((second.siblings, second.seen), (2, None));
    let third = node.mint(put_over(&address, "c", &seen));
    assert_eq!(shown(&node.object(&address)), ["b", "c"]);
    assert_eq!((third.siblings, third.seen), (2, None));
    let fourth = node.mint(put(&address, "d"));
    assert_eq!(shown(&node.object(&address)), ["d"]);
    assert!(fourth.is_sole());
    let delete = mint(&address, write(Content::Tombstone, MintBasis::Context(fourth.seen.unwrap())));
    let deleted = node.mint(delete);
    assert_eq!((deleted.siblings, shown(&node.object(&address)).len()), (0, 0));
    assert!(deleted.is_sole());
    assert_eq!(node.row(&address).deleted, 1);
    assert!(node.mint(put_beside(&address, "e")).is_sole(), "a tombstone beside it is no sibling");
    assert_eq!((node.row(&address).deleted, node.row(&address).records), (0, 1));
}

#[test]
fn an_expired_sibling_still_keeps_a_put_from_its_context() {
    let address = address("k");
    let mut node = Node::new(1);
    let expiring = Write { expires: hlc::clock_of(500), ..write(value("a"), MintBasis::Local) };
    node.mint(mint(&address, expiring));
    let second = node.mint(put_beside(&address, "b"));
    assert_eq!((second.siblings, second.seen), (1, None));
}

#[test]
fn clocks_follow_the_object_and_the_client_but_not_into_the_future() {
    let address = address("k");
    let mut node = Node::new(1);
    let at =
        |wall_ms, seen_clock| mint(&address, Write { wall_ms, seen_clock, ..write(value("v"), MintBasis::Beside) });
    assert_eq!(node.mint(at(1_000, 0)).clock, hlc::clock_of(1_000));
    assert_eq!(node.mint(at(900, 0)).clock, hlc::clock_of(1_000) + 1);
    assert_eq!(node.mint(at(900, hlc::clock_of(1_300))).clock, hlc::clock_of(1_300) + 1);
    assert_eq!(node.mint(at(1_100, hlc::clock_of(1_700))).clock, hlc::clock_of(1_300) + 2);
    // Nor does a version that a peer stamped an hour ahead pull later writes with it.
    let ahead = Version {
        dot: Dot { actor: Actor(3), seq: 1 },
        op_id: dynamo::ident::OpId::NONE,
        clock: hlc::clock_of(3_600_000),
        expires: 0,
        content: value("ahead"),
    };
    let mut object = Object::new();
    object.put(&Seen::default(), ahead);
    assert_eq!(node.merge(&address, &Bytes::from(record::encode(&address, &object))), WriteOutcome::Stored);
    assert_eq!(node.mint(at(2_000, 0)).clock, hlc::clock_of(2_000));
}

// ---- retries

#[test]
fn a_retry_mints_nothing_and_returns_what_stands() {
    let address = address("k");
    let mut node = Node::new(1);
    let first = node.mint(named(put(&address, "a"), 1));
    let again = node.mint(named(put(&address, "a"), 1));
    assert!(again.retried && !first.retried);
    assert_eq!((again.dot, again.clock, &again.record), (first.dot, first.clock, &first.record));
    assert_eq!(again.seen, first.seen);
    node.mint(named(put_beside(&address, "b"), 2));
    let later = node.mint(named(put(&address, "a"), 1));
    assert_eq!((later.dot, later.siblings, later.seen), (first.dot, 2, None));
    assert_eq!(Some(later.record), node.record(&address));
}

#[test]
fn a_retry_of_an_overwritten_write_mints_nothing() {
    let address = address("k");
    let mut node = Node::new(1);
    node.mint(named(put(&address, "a"), 1));
    node.mint(named(put(&address, "b"), 2));
    let again = node.mint(named(put(&address, "a"), 1));
    assert_eq!((again.retried, again.dot, again.seen), (true, None, None));
    assert_eq!(shown(&node.object(&address)), ["b"]);
    // A delete repeated after somebody wrote again must not delete that.
    let delete = named(mint(&address, write(Content::Tombstone, MintBasis::Local)), 3);
    node.mint(delete.clone());
    node.mint(named(put(&address, "c"), 4));
    assert_eq!(node.mint(delete).dot, None);
    assert_eq!(shown(&node.object(&address)), ["c"]);
}

#[test]
fn a_retry_whose_client_read_its_own_write_in_between_keeps_it() {
    let address = address("k");
    let (mut here, mut there) = (Node::new(1), Node::new(2));
    here.mint(named(put(&address, "a"), 1));
    let seen = here.object(&address).seen();
    there.mint(named(put_over(&address, "a", &seen), 1));
    here.merge(&address, &there.record(&address).unwrap());
    assert_eq!(shown(&here.object(&address)), ["a"]);
}

#[test]
fn an_operation_id_used_for_another_write_is_refused() {
    let address = address("k");
    let mut node = Node::new(1);
    node.mint(named(put(&address, "a"), 1));
    assert_eq!(refused(node.apply(named(put(&address, "b"), 1))), ErrorCode::InvalidRequest);
    let delete = named(mint(&address, write(Content::Tombstone, MintBasis::Local)), 1);
    assert_eq!(refused(node.apply(delete)), ErrorCode::InvalidRequest);
    assert_eq!(shown(&node.object(&address)), ["a"]);
}

#[test]
fn without_an_operation_id_equal_writes_are_different_writes() {
    let address = address("k");
    let mut node = Node::new(1);
    assert_ne!(node.mint(put_beside(&address, "a")).dot, node.mint(put_beside(&address, "a")).dot);
    assert_eq!(shown(&node.object(&address)), ["a", "a"]);
}

#[test]
fn a_retry_on_two_coordinators_is_shown_once() {
    let address = address("k");
    let (mut here, mut there) = (Node::new(1), Node::new(2));
    let first = here.mint(named(put(&address, "a"), 1));
    let twin = there.mint(named(put(&address, "a"), 1));
    assert_ne!(first.dot, twin.dot);
    here.merge(&address, &twin.record);
    assert_eq!(here.object(&address).versions.len(), 2);
    let again = here.mint(named(put(&address, "a"), 1));
    assert_eq!((again.siblings, again.is_sole()), (1, true));
}

// ---- limits

#[test]
fn a_put_beyond_128_siblings_is_refused_and_one_that_replaces_is_not() {
    let address = address("k");
    let mut node = Node::new(1);
    for at in 0..SIBLINGS_MAX {
        node.mint(put_beside(&address, &format!("{at}")));
    }
    assert_eq!(refused(node.apply(put_beside(&address, "one more"))), ErrorCode::TooManySiblings);
    let object = node.object(&address);
    let seen = Seen { context: [object.versions[0].dot].into_iter().collect(), spent: vec![] };
    assert_eq!(node.mint(put_over(&address, "instead of one", &seen)).siblings, 128);
    // Merging never refuses: another replica brings 128 more, and a put with the context of all ends it.
    let mut other = Node::new(2);
    for at in 0..SIBLINGS_MAX {
        other.mint(put_beside(&address, &format!("{at}")));
    }
    assert_eq!(node.merge(&address, &other.record(&address).unwrap()), WriteOutcome::Stored);
    assert_eq!(node.object(&address).versions.len(), 256);
    assert_eq!(refused(node.apply(put_beside(&address, "one more"))), ErrorCode::TooManySiblings);
    let first_of_other = other.object(&address).versions[0].dot;
    let seen = Seen { context: [first_of_other].into_iter().collect(), spent: vec![] };
    assert_eq!(node.mint(put_over(&address, "instead of one", &seen)).siblings, 256);
    assert_eq!(node.mint(put(&address, "all")).siblings, 1);
}

#[test]
fn live_values_of_one_key_have_a_limit_together() {
    let address = address("k");
    let mut node = Node::new(1);
    let long = "x".repeat(1 << 20);
    for _ in 0..4 {
        node.mint(put_beside(&address, &long));
    }
    assert_eq!(refused(node.apply(put_beside(&address, "y"))), ErrorCode::TooManySiblings);
    let longer = "x".repeat((1 << 20) + 1);
    assert_eq!(refused(node.apply(put(&address, &longer))), ErrorCode::TooLarge);
    assert_eq!(node.mint(put(&address, "short")).siblings, 1);
}

// ---- damage and foreign records

#[test]
fn a_damaged_record_is_neither_read_nor_merged_nor_overwritten_and_ends_the_actor() {
    let address = address("k");
    let mut node = Node::new(1);
    let before = node.mint(put(&address, "a")).dot.unwrap();
    let mut damaged = node.record(&address).unwrap().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    node.disk.records.insert(address.store_key, Bytes::from(damaged.clone()));
    assert_eq!(node.apply(put(&address, "b")), WriteOutcome::Corrupt);
    let peers = Node::new(2).mint(put(&address, "c")).record;
    assert_eq!(node.merge(&address, &peers), WriteOutcome::Corrupt);
    assert_eq!(node.record(&address).unwrap(), damaged);
    let after = node.mint(put(&same_partition(&address), "d")).dot.unwrap();
    assert_ne!(after.actor, before.actor);
}

#[test]
fn a_record_that_was_damaged_on_its_way_is_refused() {
    let address = address("k");
    let record = Node::new(2).mint(put(&address, "a")).record;
    let mut node = Node::new(1);
    for at in 0..record.len() {
        let mut damaged = record.to_vec();
        damaged[at] ^= 0x10;
        assert_eq!(refused(node.merge(&address, &Bytes::from(damaged))), ErrorCode::InvalidRequest);
    }
    assert!(node.disk.records.is_empty());
}

#[test]
fn a_record_of_another_key_is_refused_under_this_one() {
    // Two names under one store key stand for a collision of MD5 and XXH3, which nobody has at hand.
    let ours = address("ours");
    let theirs = Address { key: Bytes::from_static(b"theirs"), ..ours.clone() };
    let mut object = Object::new();
    let version = Version {
        dot: Dot { actor: Actor(1), seq: 1 },
        op_id: dynamo::ident::OpId::NONE,
        clock: 1,
        expires: 0,
        content: value("v"),
    };
    object.put(&Seen::default(), version);
    let foreign = Bytes::from(record::encode(&theirs, &object));
    let mut node = Node::new(1);
    assert_eq!(
        refused(node.merge(&ours, &foreign)),
        ErrorCode::InvalidRequest,
        "the hashes do not belong to the names"
    );
    node.mint(put(&ours, "a"));
    assert_eq!(refused(node.merge(&ours, &foreign)), ErrorCode::InvalidRequest);
    assert_eq!(shown(&node.object(&ours)), ["a"]);
    node.disk.records.insert(ours.store_key, foreign);
    assert_eq!(refused(node.apply(put(&ours, "b"))), ErrorCode::InvalidRequest);
    assert_eq!(refused(node.apply(named(put(&ours, "b"), 1))), ErrorCode::InvalidRequest);
}

// ---- cost and rows

#[test]
fn a_merge_that_brings_nothing_new_writes_nothing() {
    let address = address("k");
    let mut node = Node::new(1);
    let old = node.mint(put(&address, "a")).record;
    let new = node.mint(put(&address, "b")).record;
    let mut transaction = Transaction::begin(&mut node.disk);
    let mut batch = node.replica.begin();
    for record in [old, new] {
        let Ok(_) = batch.apply(&mut transaction, merge(&address, &record));
    }
    let Ok(staged) = batch.stage(&mut transaction);
    assert_eq!(transaction.writes, 0);
    assert_eq!(staged.committed(), [WriteOutcome::Stored, WriteOutcome::Stored]);
}

#[test]
fn operations_of_one_batch_see_each_other_and_keep_their_order() {
    let address = address("k");
    let mut node = Node::new(1);
    let mut transaction = Transaction::begin(&mut node.disk);
    let mut batch = node.replica.begin();
    for text in ["a", "b", "c"] {
        let Ok(_) = batch.apply(&mut transaction, put_beside(&address, text));
    }
    let Ok(staged) = batch.stage(&mut transaction);
    transaction.commit();
    let siblings: Vec<u16> = staged
        .committed()
        .into_iter()
        .map(|outcome| match outcome {
            WriteOutcome::Minted(minted) => minted.siblings,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(siblings, [1, 2, 3]);
    assert_eq!(shown(&node.object(&address)), ["a", "b", "c"]);
}
