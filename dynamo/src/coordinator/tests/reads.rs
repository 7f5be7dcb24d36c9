//! Gets, read repair, and what happens when readers fail.

use super::*;

fn found(object: &Object) -> PeerResult {
    PeerResult::Record(record_of(object))
}

#[test]
fn with_one_owner_a_get_is_answered_by_one_local_read() {
    let mut desk = Desk::new(1, 3);
    desk.get(Level::Quorum);
    let read = desk.local_read();
    desk.answer_local(read, found(&written(1, "milk")));
    let reply = desk.reply();
    assert_eq!(values(&reply.outcome), ["milk"]);
    assert_eq!(context_of(&reply.outcome), written(1, "milk").seen());
    assert_eq!((reply.receipt.need, reply.receipt.replicas, reply.receipt.epoch), (1, 1, 4));
    assert_eq!(reply.receipt.answered, [NodeIndex(0)]);
    assert!(!reply.receipt.repaired);
    assert!(desk.is_done());
}

#[test]
fn section_4_5_a_get_is_answered_at_r_records_and_digests_go_to_the_others() {
    let mut desk = Desk::new(3, 3);
    let request = desk.get(Level::Quorum);
    let (local, reader, digest) = (desk.local_read(), desk.read_at(1), desk.digest_at(2));
    let object = written(1, "milk");
    desk.answer_local(local, found(&object));
    desk.answer(digest, PeerResult::Digest(digest_of(&object)));
    assert!(!desk.has_reply(), "a digest is no record");
    desk.answer(reader, found(&object));
    assert!(matches!(desk.effects[0], Effect::Reply { request: of, .. } if of == request));
    let reply = desk.reply();
    assert_eq!(values(&reply.outcome), ["milk"]);
    assert_eq!(reply.receipt.answered, [NodeIndex(0), NodeIndex(1)]);
    assert_eq!((reply.receipt.need, reply.receipt.replicas), (2, 3));
    assert!(desk.is_done());
}

#[test]
fn the_owners_of_a_partition_ask_each_other_in_turn() {
    let mut desk = Desk::with(3, 3, |config| config.me = Some(NodeIndex(1)));
    desk.get(Level::Quorum);
    desk.local_read();
    desk.read_at(2);
    desk.digest_at(0);
}

#[test]
fn a_key_that_nobody_holds_is_not_found_under_an_empty_context() {
    let mut desk = Desk::new(2, 2);
    desk.get(Level::All);
    let (local, reader) = (desk.local_read(), desk.read_at(1));
    desk.answer(reader, PeerResult::Absent);
    desk.answer_local(local, PeerResult::Absent);
    let reply = desk.reply();
    assert_eq!(
        reply.outcome,
        Outcome::NotFound { context: token::seal(&TOKEN_KEY, &address().store_key, &Seen::default()) }
    );
    assert!(!reply.receipt.repaired);
    assert!(desk.is_done());
}

#[test]
fn a_deleted_key_is_not_found_under_the_context_of_its_tombstone() {
    let mut desk = Desk::new(1, 1);
    let object = overwritten(&written(1, "milk"), 2, Content::Tombstone);
    desk.get(Level::One);
    let read = desk.local_read();
    desk.answer_local(read, found(&object));
    let reply = desk.reply();
    assert!(values(&reply.outcome).is_empty());
    assert_eq!(context_of(&reply.outcome).context, object.context);
}

#[test]
fn values_are_left_out_when_the_client_wants_none() {
    let mut desk = Desk::new(1, 1);
    desk.ask(Level::One, Action::Get { without_values: true });
    let read = desk.local_read();
    desk.answer_local(read, found(&written(1, "milk")));
    let Outcome::Found { siblings, .. } = desk.reply().outcome else { panic!() };
    assert_eq!((siblings[0].value.len(), siblings[0].value_bytes), (0, 4));
}

#[test]
fn a_reader_that_fails_is_replaced_by_the_next_owner() {
    let failures = [
        PeerCall::Lost,
        PeerCall::NotSent,
        PeerCall::Answered(PeerResult::Corrupt),
        PeerCall::Answered(PeerResult::Stored),
        PeerCall::Answered(PeerResult::Digest(1)),
        PeerCall::Answered(PeerResult::Record(Bytes::from_static(b"not a record"))),
        PeerCall::Answered(PeerResult::Failed(Failure::new(ErrorCode::Overloaded, "later"))),
    ];
    for failure in failures {
        let mut desk = Desk::new(3, 3);
        let object = written(1, "milk");
        desk.get(Level::Quorum);
        let (local, reader, digest) = (desk.local_read(), desk.read_at(1), desk.digest_at(2));
        desk.answer_local(local, found(&object));
        desk.answer(digest, PeerResult::Digest(digest_of(&object)));
        desk.step(Input::Peer { call: reader, result: failure });
        let upgraded = desk.read_at(2);
        desk.answer(upgraded, found(&object));
        let reply = desk.reply();
        assert_eq!(values(&reply.outcome), ["milk"]);
        assert_eq!(reply.receipt.answered, [NodeIndex(0), NodeIndex(2)]);
        assert!(desk.is_done());
        assert_eq!(desk.coordinator.counters().upgrades, 1);
    }
}

#[test]
fn a_read_that_lost_its_quorum_says_so_at_once() {
    let mut desk = Desk::new(3, 3);
    desk.get(Level::All);
    let (local, reader) = (desk.local_read(), desk.read_at(1));
    desk.answer_local(local, PeerResult::Absent);
    desk.lose(reader);
    let failure = desk.failure();
    assert_eq!((failure.code, failure.need, failure.got), (ErrorCode::Unavailable, 3, 1));
    assert!(failure.retryable && !failure.maybe_applied);
    assert_eq!(desk.coordinator.in_flight(), 0);
}

#[test]
fn a_read_whose_only_replica_is_corrupt_is_corrupt_and_not_absent() {
    let mut desk = Desk::new(1, 1);
    desk.get(Level::One);
    let read = desk.local_read();
    desk.answer_local(read, PeerResult::Corrupt);
    assert_eq!(desk.failure().code, ErrorCode::Corrupt);
    assert_eq!(desk.coordinator.counters().corrupt, 1);
}

#[test]
fn a_record_of_another_key_with_the_same_hashes_is_never_this_keys_value() {
    let mut desk = Desk::new(1, 1);
    desk.get(Level::One);
    let read = desk.local_read();
    let impostor = Address { key: Bytes::from_static(b"bob"), ..address() };
    desk.answer_local(read, PeerResult::Record(Bytes::from(record::encode(&impostor, &written(1, "bob's")))));
    assert_eq!(desk.failure().code, ErrorCode::InvalidRequest);
}

#[test]
fn a_replica_with_a_view_that_no_layout_here_explains_counts_for_nothing_and_is_waited_for_in_vain() {
    let mut desk = Desk::new(2, 2);
    desk.get(Level::All);
    let reader = desk.read_at(1);
    let newer = crate::layout::View { prefix: 0, bits: 0, lo: 4, hi: 5 };
    desk.answer(reader, PeerResult::Stale(newer));
    assert_eq!(desk.wanted_layout(), 5);
    desk.pass(BUDGET_MS);
    let failure = desk.failure();
    assert_eq!(failure.code, ErrorCode::StaleView);
    assert_eq!(failure.owners, [NodeIndex(0), NodeIndex(1)]);
}

#[test]
fn unreachable_owners_are_not_asked_and_too_many_of_them_fail_at_once() {
    let mut desk = Desk::new(3, 3);
    desk.cut_off(1);
    desk.get(Level::Quorum);
    desk.local_read();
    desk.read_at(2);
    assert!(desk.effects.is_empty());
    desk.get(Level::All);
    let failure = desk.failure();
    assert_eq!((failure.code, failure.need, failure.got), (ErrorCode::Unavailable, 3, 2));
    desk.step(Input::PeerState { node: NodeIndex(1), reachable: true });
    desk.get(Level::All);
    desk.read_at(1);
}

#[test]
fn siblings_are_merged_and_every_owner_is_brought_level() {
    let mut desk = Desk::new(2, 2);
    let (mine, theirs) = (written(1, "milk"), written(2, "eggs"));
    let mut both = mine.clone();
    both.merge(&theirs);
    desk.get(Level::All);
    let (local, reader) = (desk.local_read(), desk.read_at(1));
    desk.answer_local(local, found(&mine));
    desk.answer(reader, found(&theirs));
    let reply = desk.reply();
    assert_eq!(values(&reply.outcome), ["milk", "eggs"]);
    assert!(reply.receipt.repaired);
    assert_eq!(desk.repairs(), [(0, both.clone()), (1, both)]);
    assert!(desk.is_done());
}

#[test]
fn an_owner_that_is_behind_is_repaired_and_one_that_is_level_is_left_alone() {
    let mut desk = Desk::new(3, 3);
    let old = written(1, "milk");
    let new = overwritten(&old, 2, value("eggs"));
    desk.get(Level::All);
    let (local, first, second) = (desk.local_read(), desk.read_at(1), desk.read_at(2));
    desk.answer_local(local, found(&new));
    desk.answer(first, found(&old));
    desk.answer(second, PeerResult::Absent);
    assert_eq!(values(&desk.reply().outcome), ["eggs"]);
    assert_eq!(desk.repairs(), [(1, new.clone()), (2, new)]);
    assert!(desk.is_done());
    assert_eq!(desk.coordinator.counters().repairs, 2);
}

#[test]
fn a_digest_that_differs_is_fetched_after_the_reply_merged_and_sent_to_all() {
    let mut desk = Desk::new(3, 3);
    let old = written(1, "milk");
    let new = overwritten(&old, 2, value("eggs"));
    desk.get(Level::Quorum);
    let (local, reader, digest) = (desk.local_read(), desk.read_at(1), desk.digest_at(2));
    desk.answer_local(local, found(&old));
    desk.answer(digest, PeerResult::Digest(digest_of(&new)));
    desk.answer(reader, found(&old));
    let reply = desk.reply();
    assert_eq!(values(&reply.outcome), ["milk"], "R records were there");
    assert!(reply.receipt.repaired);
    assert!(desk.repairs().is_empty(), "what is fetched changes what is sent");
    let fetch = desk.read_at(2);
    desk.answer(fetch, found(&new));
    assert_eq!(desk.repairs(), [(0, new.clone()), (1, new)]);
    assert!(desk.is_done());
    assert_eq!(desk.coordinator.counters().fetches, 1);
}

#[test]
fn late_answers_still_repair() {
    let mut desk = Desk::new(3, 3);
    let object = written(1, "milk");
    desk.get(Level::One);
    let (local, first, second) = (desk.local_read(), desk.digest_at(1), desk.digest_at(2));
    desk.answer_local(local, found(&object));
    assert!(!desk.reply().receipt.repaired, "nobody was known to be behind");
    assert_eq!((desk.coordinator.in_flight(), desk.coordinator.waiting()), (1, 0));
    desk.answer(first, PeerResult::Absent);
    assert_eq!(desk.repairs(), [(1, object.clone())]);
    desk.answer(second, PeerResult::Digest(digest_of(&object)));
    assert!(desk.is_done());
}

#[test]
fn a_fetch_that_fails_does_not_stop_the_repair_of_the_others() {
    let mut desk = Desk::new(3, 3);
    let object = written(1, "milk");
    desk.get(Level::One);
    let (local, first, second) = (desk.local_read(), desk.digest_at(1), desk.digest_at(2));
    desk.answer(first, PeerResult::Digest(77));
    desk.answer(second, PeerResult::Absent);
    desk.answer_local(local, found(&object));
    desk.reply();
    let fetch = desk.read_at(1);
    desk.lose(fetch);
    assert_eq!(desk.repairs(), [(2, object)]);
    assert!(desk.is_done());
}

#[test]
fn waiting_for_late_answers_ends_at_the_deadline_and_repairs_who_is_known() {
    let mut desk = Desk::new(3, 3);
    let object = written(1, "milk");
    desk.get(Level::One);
    let (local, first, _silent) = (desk.local_read(), desk.digest_at(1), desk.digest_at(2));
    desk.answer_local(local, found(&object));
    desk.reply();
    desk.answer(first, PeerResult::Digest(77));
    let fetch = desk.read_at(1);
    desk.pass(BUDGET_MS);
    assert!(desk.is_done());
    desk.answer(fetch, PeerResult::Absent);
    assert!(desk.is_done(), "a late answer finds nobody");
    assert_eq!(desk.coordinator.counters().unclaimed, 1);
}

#[test]
fn reads_do_not_linger_beyond_their_bound() {
    let mut desk = Desk::with(3, 3, |config| config.lingering_max = 1);
    let object = written(1, "milk");
    for _ in 0..2 {
        desk.get(Level::One);
        let (local, _, _) = (desk.local_read(), desk.digest_at(1), desk.digest_at(2));
        desk.answer_local(local, found(&object));
        desk.reply();
    }
    assert_eq!(desk.coordinator.in_flight(), 1);
    assert_eq!(desk.coordinator.counters().unlingered, 1);
}

#[test]
fn a_slow_reader_is_hedged_by_asking_one_more_owner() {
    let mut desk = Desk::with(3, 3, |config| config.hedge_after_ms = 50);
    let object = written(1, "milk");
    desk.get(Level::Quorum);
    let (local, slow, _) = (desk.local_read(), desk.read_at(1), desk.digest_at(2));
    desk.answer_local(local, found(&object));
    desk.pass(49);
    assert!(desk.effects.is_empty());
    desk.pass(1);
    let hedge = desk.read_at(2);
    desk.answer(hedge, found(&object));
    assert_eq!(desk.reply().receipt.answered, [NodeIndex(0), NodeIndex(2)]);
    desk.answer(slow, PeerResult::Absent);
    assert_eq!(desk.repairs(), [(1, object)]);
    assert_eq!(desk.coordinator.counters().hedges, 1);
}

#[test]
fn a_read_without_enough_answers_ends_at_its_deadline() {
    let mut desk = Desk::new(3, 3);
    desk.get(Level::Quorum);
    let local = desk.local_read();
    desk.answer_local(local, PeerResult::Absent);
    assert_eq!(desk.coordinator.next_deadline(), Some(desk.now.after(100)), "the hedge");
    desk.pass(BUDGET_MS - 1);
    assert!(!desk.has_reply());
    desk.pass(1);
    let failure = desk.failure();
    assert_eq!((failure.code, failure.need, failure.got), (ErrorCode::QuorumTimeout, 2, 1));
    assert_eq!(desk.coordinator.in_flight(), 0);
}

#[test]
fn a_doubled_answer_counts_once() {
    let mut desk = Desk::new(3, 3);
    desk.get(Level::All);
    let reader = desk.read_at(1);
    for _ in 0..5 {
        desk.answer(reader, PeerResult::Absent);
    }
    assert!(!desk.has_reply());
    assert_eq!(desk.coordinator.counters().unclaimed, 4);
}

#[test]
fn an_answer_to_an_operation_that_had_the_same_slot_before_counts_for_nothing() {
    let mut desk = Desk::new(2, 2);
    desk.get(Level::All);
    let (old_local, old_reader) = (desk.local_read(), desk.read_at(1));
    desk.pass(BUDGET_MS);
    desk.failure();
    desk.get(Level::All);
    let (local, reader) = (desk.local_read(), desk.read_at(1));
    desk.answer_local(old_local, found(&written(1, "old")));
    desk.answer(old_reader, found(&written(1, "old")));
    assert!(!desk.has_reply());
    desk.answer_local(local, PeerResult::Absent);
    desk.answer(reader, PeerResult::Absent);
    assert!(values(&desk.reply().outcome).is_empty());
}

#[test]
fn the_bucket_says_how_concurrent_values_are_shown() {
    use crate::layout::{BucketProperties, ConflictRule};
    let mut layout = layout(1, 1);
    let properties = BucketProperties { conflict_rule: ConflictRule::LastWriterWins, ..BucketProperties::default() };
    layout.buckets.insert("carts".to_string(), properties);
    let mut desk = Desk::with(1, 1, |config| config.ring = ring_of(layout));
    let mut both = written(1, "milk");
    let mut later = Object::new();
    later.put(&Seen::default(), version(2, 9, value("eggs")));
    both.merge(&later);
    desk.get(Level::One);
    let read = desk.local_read();
    desk.answer_local(read, found(&both));
    let reply = desk.reply();
    assert_eq!(values(&reply.outcome), ["eggs"]);
    assert_eq!(context_of(&reply.outcome).context, both.context, "the hidden one is covered too");
}
