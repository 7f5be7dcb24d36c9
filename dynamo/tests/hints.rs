//! What a stand-in keeps (paper, section 4.6): one rule a test, and all of them together against an oracle of plain lists.

#[path = "support/hints.rs"]
mod hints;

use bytes::Bytes;
use dynamo::{
    hint::{HintBounds, HintKey, HintOperation, HintUsage, UsageError, answer_read},
    ident::{NodeId, OpId, StoreKey},
    layout::View,
    operation::{Address, ErrorCode},
    peer::PeerResult,
    record,
    replica::{MintBasis, Write, WriteOutcome},
    version::{Actor, Object, put::Seen},
};
use hints::{StandIn, WIDE, World, address, delivered, encode, keep, name, object, put, step, value, view};
use proptest::{collection::vec, prelude::any, prop_assert_eq, proptest, test_runner::TestCaseError};

const A: NodeId = NodeId(1 << 100);
const B: NodeId = NodeId(2);

proptest! {
    #[test]
    fn what_is_kept_is_what_was_given_and_delivering_it_loses_nothing(steps in vec(step(), 1..60)) {
        World::run(&steps).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn names_sort_as_their_bytes_do_and_survive_them(
        names in vec((any::<u128>(), 0..=32_u8, any::<[u8; 32]>()), 2),
    ) {
        let names: Vec<HintKey> = names.into_iter().map(|(target, bits, key)| {
            let store_key = StoreKey(key);
            HintKey { target: NodeId(target), bits, prefix: store_key.id().prefix(bits), store_key }
        }).collect();
        prop_assert_eq!(names[0].cmp(&names[1]), names[0].encode().cmp(&names[1].encode()));
        prop_assert_eq!(HintKey::decode(&names[0].encode()), Some(names[0]));
    }
}

#[test]
fn a_second_hint_of_a_key_is_merged_with_the_first_and_other_targets_have_their_own() {
    let (address, mut node) = (address("k"), StandIn::new(1, WIDE));
    for (target, actor) in [(A, 1), (A, 2), (B, 3)] {
        assert_eq!(node.apply(keep(target, &address, &object(actor, 1, "v"))), WriteOutcome::Stored);
    }
    let actors = |target| -> Vec<u64> {
        let kept = record::decode_of(&address, &node.disk.hints[&name(target, &address)]).unwrap();
        kept.versions.iter().map(|version| version.dot.actor.0).collect()
    };
    assert_eq!((actors(A), actors(B)), (vec![1, 2], vec![3]));
    assert_eq!((node.disk.hints.len(), node.counted(A).records), (2, 1));
}

#[test]
fn a_hint_that_brings_nothing_new_is_stored_and_changes_nothing() {
    let (address, mut node) = (address("k"), StandIn::new(1, WIDE));
    let mut both = object(1, 1, "a");
    both.merge(&object(2, 1, "b"));
    node.apply(keep(A, &address, &both));
    let disk = node.disk.clone();
    assert_eq!(node.apply(keep(A, &address, &both)), WriteOutcome::Stored);
    assert_eq!(node.apply(keep(A, &address, &object(1, 1, "a"))), WriteOutcome::Stored);
    assert_eq!(node.disk, disk);
}

#[test]
fn a_read_merges_the_hints_of_all_targets() {
    let (address, mut node) = (address("k"), StandIn::new(1, WIDE));
    assert_eq!(node.read(&address), PeerResult::Absent);
    let (one, other) = (object(1, 1, "a"), object(2, 1, "b"));
    node.apply(keep(A, &address, &one));
    assert_eq!(node.read(&address), PeerResult::Record(encode(&address, &one)));
    node.apply(keep(B, &address, &other));
    let mut both = one;
    both.merge(&other);
    assert_eq!(node.read(&address), PeerResult::Record(encode(&address, &both)));
}

#[test]
fn a_hint_goes_only_if_it_is_the_one_that_was_delivered() {
    let (address, mut node) = (address("k"), StandIn::new(1, WIDE));
    let first = object(1, 1, "a");
    let sent = encode(&address, &first);
    assert_eq!(node.apply(delivered(A, &address, &sent)), WriteOutcome::Stored, "nothing is kept: nothing to do");
    node.apply(keep(A, &address, &first));
    node.apply(keep(A, &address, &object(2, 1, "b")));
    assert_eq!(node.apply(delivered(A, &address, &sent)), WriteOutcome::Stored);
    let kept = node.disk.hints[&name(A, &address)].clone();
    assert_ne!(kept, sent, "it changed meanwhile and stays");
    assert_eq!(node.apply(delivered(B, &address, &kept)), WriteOutcome::Stored);
    assert_eq!(node.disk.hints.len(), 1, "it was delivered to another target");
    assert_eq!(node.apply(delivered(A, &address, &kept)), WriteOutcome::Stored);
    assert_eq!(node.disk, hints::Disk::default(), "nothing is left, not even a row");
}

#[test]
fn a_stand_in_mints_on_all_it_keeps_of_the_key() {
    let (address, mut node) = (address("k"), StandIn::new(1, WIDE));
    node.apply(keep(A, &address, &object(1, 1, "a")));
    node.apply(keep(B, &address, &object(2, 1, "b")));
    let minted = node.mint(put(A, &address, "c", MintBasis::Local));
    assert!(minted.is_sole(), "it replaces what it knows");
    assert_eq!(node.disk.hints[&name(A, &address)], minted.record);
    let other = record::decode_of(&address, &node.disk.hints[&name(B, &address)]).unwrap();
    assert_eq!(other.versions.len(), 1, "what is kept for others stays as it is");
}

/// The counter-example of `answers.md`, step by step; `tests/hint_bugs.rs` shows that it is found when the rule is off.
#[test]
fn a_stand_in_that_delivered_its_hints_takes_a_new_actor() {
    let (address, mut node) = (address("k"), StandIn::new(1, WIDE));
    let first = node.mint(put(A, &address, "x", MintBasis::Beside));
    assert_eq!(node.apply(delivered(A, &address, &first.record)), WriteOutcome::Stored);
    let second = node.mint(put(A, &address, "y", MintBasis::Beside));
    let mut owner = record::decode_of(&address, &first.record).unwrap();
    owner.merge(&record::decode_of(&address, &second.record).unwrap());
    assert_eq!(owner.versions.len(), 2, "neither write has swallowed the other");
}

#[test]
fn an_actor_counts_on_until_a_hint_of_its_partition_goes() {
    let mut node = StandIn::new(1, WIDE);
    let keys: Vec<Address> = (0..40).map(|number| address(&format!("key {number}"))).collect();
    let (low, high): (Vec<_>, Vec<_>) = keys.into_iter().partition(|address| view(address).prefix == 0);
    let mint = |node: &mut StandIn, address: &Address| {
        let minted = node.mint(put(A, address, "v", MintBasis::Beside));
        (minted.dot.unwrap().actor, minted.record)
    };
    let (first, _) = mint(&mut node, &low[0]);
    let (other, delivered_record) = mint(&mut node, &high[0]);
    assert_ne!(first, other, "each partition has its own");
    node.apply(delivered(A, &high[0], &delivered_record));
    assert_eq!(mint(&mut node, &low[1]).0, first, "no hint of its partition has gone");
    assert_ne!(mint(&mut node, &high[1]).0, other);
    node.restart(2);
    assert_ne!(mint(&mut node, &low[0]).0, first, "a process start takes a new one");
}

#[test]
fn a_hint_that_knows_more_of_the_actor_ends_it() {
    let (address, mut node) = (address("k"), StandIn::new(1, WIDE));
    let first = node.mint(put(A, &address, "v", MintBasis::Local)).dot.unwrap();
    let known = node.disk.hints[&name(A, &address)].clone();
    let returned = record::decode_of(&address, &known).unwrap();
    node.apply(keep(B, &address, &returned));
    let second = node.mint(put(A, &address, "v", MintBasis::Local)).dot.unwrap();
    assert_eq!(first.actor, second.actor, "what it holds for another target it holds");
    node.apply(keep(B, &address, &object(first.actor.0, 9, "w")));
    let third = node.mint(put(A, &address, "v", MintBasis::Local)).dot.unwrap();
    assert_ne!(third.actor, first.actor);
}

#[test]
fn a_retry_mints_nothing_whatever_target_it_names() {
    let (address, mut node) = (address("k"), StandIn::new(1, WIDE));
    let named = |target| {
        let op_id = OpId { client: 1, sequence: 1 };
        let basis = MintBasis::Local;
        let write = Write { content: value("v"), basis, op_id, seen_clock: 0, wall_ms: 1_000, expires: 0 };
        HintOperation::Mint { view: view(&address), target, address: address.clone(), write }
    };
    let first = node.mint(named(A));
    let again = node.mint(named(B));
    assert!(again.retried && !first.retried);
    assert_eq!((again.dot, node.disk.hints.len()), (first.dot, 1));
}

#[test]
fn beyond_a_bound_nothing_is_kept_and_what_makes_a_hint_smaller_still_is() {
    let long = "v".repeat(600);
    for (bounds, refused_for) in [
        (HintBounds { target_bytes_max: 2_000, ..WIDE }, "one target"),
        (HintBounds { total_bytes_max: 2_000, ..WIDE }, "all targets"),
    ] {
        let mut node = StandIn::new(1, bounds);
        let addresses: Vec<Address> = (0..3).map(|number| address(&format!("key {number}"))).collect();
        assert_eq!(node.apply(keep(A, &addresses[0], &object(1, 1, &long))), WriteOutcome::Stored);
        assert_eq!(node.apply(keep(A, &addresses[1], &object(1, 1, &long))), WriteOutcome::Stored);
        let disk = node.disk.clone();
        let refused = |outcome: WriteOutcome| match outcome {
            WriteOutcome::Refused(failure) if failure.code == ErrorCode::StorageFull => failure.message.into_owned(),
            other => panic!("not refused: {other:?}"),
        };
        let message = refused(node.apply(keep(A, &addresses[2], &object(1, 1, &long))));
        assert!(message.contains(refused_for), "{message}");
        refused(node.apply(put(A, &addresses[2], &long, MintBasis::Local)));
        refused(node.apply(keep(A, &addresses[0], &object(2, 1, &long))));
        assert_eq!(node.disk, disk, "what was refused has left no trace");
        let elsewhere = node.apply(keep(B, &addresses[2], &object(1, 1, &long)));
        assert_eq!(elsewhere == WriteOutcome::Stored, refused_for == "one target");
        let mut shorter = object(1, 1, &long);
        let seen = shorter.seen();
        shorter.put(&seen, object(1, 2, "v").versions.remove(0));
        assert_eq!(node.apply(keep(A, &addresses[0], &shorter)), WriteOutcome::Stored);
        assert_eq!(node.apply(keep(A, &addresses[2], &object(1, 1, "v"))), WriteOutcome::Stored, "there is room again");
    }
}

#[test]
fn a_refused_mint_has_no_successor_under_its_actor() {
    let bounds = HintBounds { target_bytes_max: 600, ..WIDE };
    let (address, mut node) = (address("k"), StandIn::new(1, bounds));
    let first = node.mint(put(A, &address, "v", MintBasis::Local)).dot.unwrap();
    assert!(matches!(node.apply(put(A, &address, &"v".repeat(600), MintBasis::Local)), WriteOutcome::Refused(_)));
    assert_ne!(node.mint(put(A, &address, "w", MintBasis::Local)).dot.unwrap().actor, first.actor);
}

#[test]
fn a_hint_that_cant_be_verified_is_set_aside_whoever_finds_it() {
    let address = address("k");
    let record = encode(&address, &object(1, 1, "a"));
    let finders: [fn(&Address, &Bytes) -> HintOperation; 3] = [
        |address, _| keep(A, address, &object(2, 1, "b")),
        |address, _| put(B, address, "b", MintBasis::Local),
        |address, record| delivered(A, address, record),
    ];
    for finder in finders {
        let mut node = StandIn::new(1, WIDE);
        node.apply(keep(A, &address, &object(1, 1, "a")));
        let actor = node.mint(put(B, &address, "v", MintBasis::Beside)).dot.unwrap().actor;
        let name = name(A, &address);
        let mut rotten = record.to_vec();
        rotten[40] ^= 1;
        node.disk.hints.insert(name, rotten.clone().into());
        assert_eq!(node.read(&address), PeerResult::Corrupt);
        assert_eq!(node.apply(finder(&address, &record)), WriteOutcome::Corrupt);
        assert_eq!(node.disk.aside[&name], rotten, "kept as evidence");
        assert_eq!(node.counted(A), HintUsage::default());
        assert_eq!(node.read(&address), PeerResult::Corrupt, "what is left is not all there was");
        assert_eq!(node.apply(keep(A, &address, &object(2, 1, "b"))), WriteOutcome::Stored);
        assert_ne!(node.mint(put(B, &address, "v", MintBasis::Local)).dot.unwrap().actor, actor);
    }
}

#[test]
fn operations_of_one_batch_see_each_other_and_an_aborted_batch_leaves_nothing() {
    let (address, mut node) = (address("k"), StandIn::new(1, WIDE));
    let first = object(1, 1, "a");
    let sent = encode(&address, &first);
    let outcomes = node.apply_all([
        keep(A, &address, &first),
        delivered(A, &address, &sent),
        keep(A, &address, &object(2, 1, "b")),
    ]);
    assert_eq!(outcomes, [WriteOutcome::Stored, WriteOutcome::Stored, WriteOutcome::Stored]);
    let kept = record::decode_of(&address, &node.disk.hints[&name(A, &address)]).unwrap();
    assert_eq!(kept.versions.len(), 1);
    let usages: Vec<_> = node.book.usages().collect();
    for is_staged in [false, true] {
        let shown = node.abort(put(A, &address, "c", MintBasis::Beside), is_staged).unwrap().dot.unwrap();
        let next = node.mint(put(B, &address, "d", MintBasis::Beside)).dot.unwrap();
        assert_ne!(next.actor, shown.actor, "a dot that was shown is not counted on");
        let (of_a, counted) = (node.book.usages().find(|(target, _)| *target == A), node.counted(A));
        assert_eq!(of_a, Some((A, counted)));
        assert_eq!(of_a, usages.first().copied());
    }
}

#[test]
fn a_record_of_another_key_or_a_view_of_another_partition_is_refused() {
    let (one, mut node) = (address("k"), StandIn::new(1, WIDE));
    let code = |outcome: WriteOutcome| match outcome {
        WriteOutcome::Refused(failure) => failure.code,
        other => panic!("not refused: {other:?}"),
    };
    let record = encode(&one, &object(1, 1, "v"));
    let other = address("another");
    let misnamed =
        HintOperation::Keep { view: view(&other), target: A, store_key: other.store_key, record: record.clone() };
    assert_eq!(code(node.apply(misnamed)), ErrorCode::InvalidRequest);
    // A store key that its record's names do not have: what an MD5 collision would look like.
    let forged = Address { bucket: Bytes::from_static(b"default"), key: Bytes::from_static(b"forged"), ..one.clone() };
    assert_eq!(code(node.apply(keep(A, &forged, &object(1, 1, "v")))), ErrorCode::InvalidRequest);
    node.apply(keep(A, &one, &object(1, 1, "v")));
    assert_eq!(code(node.apply(keep(A, &forged, &object(2, 1, "v")))), ErrorCode::InvalidRequest);
    assert_eq!(code(node.apply(put(B, &forged, "v", MintBasis::Local))), ErrorCode::InvalidRequest);
    let right = view(&one);
    for view in [View { prefix: right.prefix ^ 1, ..right }, View { bits: 33, ..right }, View { lo: 2, hi: 1, ..right }]
    {
        let keep = HintOperation::Keep { view, target: A, store_key: one.store_key, record: record.clone() };
        assert_eq!(code(node.apply(keep)), ErrorCode::InvalidRequest);
        let read = answer_read(&view, &one.store_key, [record.clone()], false);
        assert!(matches!(read, PeerResult::Failed(failure) if failure.code == ErrorCode::InvalidRequest));
    }
    assert_eq!(node.counted(A).records, 1);
}

#[test]
fn a_row_survives_its_encoding_and_no_flipped_bit_does() {
    let usage = HintUsage { records: 3, bytes: 1 << 33, names: u64::MAX };
    let row = usage.encode(A);
    assert_eq!(HintUsage::decode(A, &row), Ok(usage));
    assert_eq!(HintUsage::decode(B, &row), Err(UsageError::Damaged), "the row of another target");
    assert_eq!(HintUsage::decode(A, &row[1..]), Err(UsageError::UnknownFormat(row[1])));
    for bit in 0..8 * row.len() {
        let mut flipped = row;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(HintUsage::decode(A, &flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn an_empty_object_is_kept_like_any_other() {
    let (address, mut node) = (address("k"), StandIn::new(1, WIDE));
    assert_eq!(node.apply(keep(A, &address, &Object::new())), WriteOutcome::Stored);
    let minted = node.mint(put(A, &address, "v", MintBasis::Context(Seen::default())));
    assert_eq!(node.read(&address), PeerResult::Record(minted.record));
}

#[test]
fn a_stand_in_mints_on_what_it_kept_before_the_partition_was_divided() {
    let (address, mut node) = (address("k"), StandIn::new(1, WIDE));
    node.apply(keep(A, &address, &object(7, 1, "kept before")));
    let mint = |bits: u8| match put(B, &address, "minted after", MintBasis::Local) {
        HintOperation::Mint { target, address, write, .. } => {
            let view = View { bits, prefix: address.store_key.id().prefix(bits), lo: 2, hi: 2 };
            HintOperation::Mint { view, target, address, write }
        }
        other => panic!("{other:?}"),
    };
    let bits = view(&address).bits;
    // Whoever does not know yet that it was divided has to see what came since, too.
    for (bits, texts) in [(bits + 2, 1), (bits, 1)] {
        let minted = node.mint(mint(bits));
        let object = record::decode_of(&address, &minted.record).unwrap();
        assert_eq!((object.versions.len(), object.context.seen(Actor(7))), (texts, 1), "it replaces what stood here");
        assert!(
            node.disk.hints.contains_key(
                &HintKey::new(
                    B,
                    &View { bits, prefix: address.store_key.id().prefix(bits), lo: 2, hi: 2 },
                    address.store_key
                )
                .unwrap()
            )
        );
    }
    // What can't be read of it stands in the way, as ever.
    let mut rotten = node.disk.hints[&name(A, &address)].to_vec();
    *rotten.last_mut().unwrap() ^= 1;
    node.disk.hints.insert(name(A, &address), rotten.into());
    assert_eq!(node.apply(mint(bits + 2)), WriteOutcome::Corrupt);
    assert!(node.disk.aside.contains_key(&name(A, &address)));
}
