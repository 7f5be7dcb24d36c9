//! Puts and deletes.

use super::*;
use crate::{layout::View, replica::MintBasis};

#[test]
fn section_4_5_a_put_sends_to_the_others_while_it_commits_and_is_answered_at_w() {
    let mut desk = Desk::new(3, 3);
    desk.put(Level::Quorum);
    let (local, write) = desk.local_write();
    assert_eq!((write.basis, write.wall_ms), (MintBasis::Local, WALL_MS));
    let object = written(1, "v");
    desk.step(Input::Minted { call: local, minted: minted(&object, true) });
    let ((first, record), (second, _)) = (desk.merge_at(1), desk.merge_at(2));
    assert_eq!(record, record_of(&object));
    assert!(!desk.has_reply());
    desk.commit(local, minted(&object, true));
    assert!(!desk.has_reply(), "one replica is not W");
    desk.answer(first, PeerResult::Stored);
    let reply = desk.reply();
    assert_eq!(context_of(&reply.outcome), object.seen());
    assert_eq!(reply.receipt.answered, [NodeIndex(0), NodeIndex(1)]);
    assert_eq!((reply.receipt.need, reply.receipt.durable, reply.receipt.replicas), (2, 2, 3));
    assert_eq!((desk.coordinator.waiting(), desk.coordinator.in_flight()), (0, 1), "the third owner may still fail");
    desk.answer(second, PeerResult::Stored);
    assert!(desk.is_done());
}

#[test]
fn a_put_waits_for_its_own_commit_even_when_w_others_have_it() {
    let mut desk = Desk::new(3, 3);
    desk.put(Level::Quorum);
    let (local, _) = desk.local_write();
    let object = written(1, "v");
    desk.step(Input::Minted { call: local, minted: minted(&object, true) });
    for node in [1, 2] {
        let (call, _) = desk.merge_at(node);
        desk.answer(call, PeerResult::Stored);
    }
    assert!(!desk.has_reply());
    desk.commit(local, minted(&object, true));
    assert_eq!(desk.reply().receipt.durable, 3);
}

#[test]
fn a_put_that_w_others_have_succeeds_although_its_own_commit_failed_or_hangs() {
    for fails in [true, false] {
        let mut desk = Desk::new(3, 3);
        desk.put(Level::Quorum);
        let (local, _) = desk.local_write();
        desk.step(Input::Minted { call: local, minted: minted(&written(1, "v"), true) });
        for node in [1, 2] {
            let (call, _) = desk.merge_at(node);
            desk.answer(call, PeerResult::Stored);
        }
        if fails {
            let outcome = WriteOutcome::Refused(Failure::new(ErrorCode::StorageFull, "full"));
            desk.step(Input::LocalWrite { call: local, outcome });
        } else {
            desk.pass(BUDGET_MS);
        }
        let reply = desk.reply();
        assert!(matches!(reply.outcome, Outcome::Stored { .. }));
        assert_eq!((reply.receipt.answered, reply.receipt.durable), (vec![NodeIndex(1), NodeIndex(2)], 2));
        assert!(desk.is_done());
    }
}

#[test]
fn a_mint_shown_to_peers_is_no_acknowledgement() {
    let mut desk = Desk::new(1, 1);
    desk.put(Level::Quorum);
    let (local, _) = desk.local_write();
    desk.step(Input::Minted { call: local, minted: minted(&written(1, "v"), true) });
    assert!(!desk.has_reply());
    desk.commit(local, minted(&written(1, "v"), true));
    assert_eq!(desk.reply().receipt.durable, 1);
    assert!(desk.is_done());
}

#[test]
fn a_put_beside_siblings_returns_no_context() {
    let mut desk = Desk::new(1, 1);
    desk.put(Level::One);
    let (local, _) = desk.local_write();
    let mut both = written(1, "milk");
    both.merge(&written(2, "eggs"));
    desk.commit(local, minted(&both, false));
    let Outcome::Stored { context, siblings, .. } = desk.reply().outcome else { panic!() };
    assert_eq!((context, siblings), (None, 2));
}

#[test]
fn a_retried_operation_is_acknowledged_by_replicas_that_have_it_now() {
    let mut desk = Desk::new(3, 3);
    desk.put(Level::Quorum);
    let (local, _) = desk.local_write();
    let again = Minted { retried: true, ..minted(&written(1, "v"), true) };
    desk.commit(local, again);
    assert!(!desk.has_reply(), "that it was minted before says nothing about now");
    let (call, record) = desk.merge_at(1);
    assert_eq!(record, record_of(&written(1, "v")), "what stands is replicated again");
    desk.answer(call, PeerResult::Stored);
    assert_eq!(desk.reply().receipt.durable, 2);
}

#[test]
fn a_write_minted_twice_reaches_everyone_and_returns_no_context() {
    let mut desk = Desk::new(2, 2);
    desk.put(Level::All);
    let (local, _) = desk.local_write();
    desk.step(Input::Minted { call: local, minted: minted(&written(1, "v"), true) });
    let (call, _) = desk.merge_at(1);
    desk.commit(local, minted(&written(2, "v"), true));
    assert_eq!(desk.repairs(), [(1, written(2, "v"))]);
    desk.answer(call, PeerResult::Stored);
    let Outcome::Stored { context, .. } = desk.reply().outcome else { panic!() };
    assert_eq!(context, None);
}

#[test]
fn the_context_of_a_read_is_what_a_put_replaces() {
    let mut desk = Desk::new(1, 1);
    let seen = written(1, "milk").seen();
    let sealed = token::seal(&TOKEN_KEY, &address().store_key, &seen);
    desk.ask(Level::One, put_of("v", Basis::Context(sealed)));
    assert_eq!(desk.local_write().1.basis, MintBasis::Context(seen));
}

#[test]
fn a_put_that_can_not_reach_w_owners_fails_before_anything_is_done() {
    let mut desk = Desk::new(3, 3);
    desk.cut_off(1);
    desk.cut_off(2);
    desk.put(Level::Quorum);
    let failure = desk.failure();
    assert_eq!((failure.code, failure.need, failure.got), (ErrorCode::Unavailable, 2, 1));
    assert!(!failure.maybe_applied && failure.retryable);
    assert!(desk.is_done());
}

#[test]
fn a_put_that_lost_its_quorum_after_sending_may_have_been_applied() {
    let mut desk = Desk::new(3, 3);
    desk.put(Level::All);
    let (local, _) = desk.local_write();
    desk.step(Input::Minted { call: local, minted: minted(&written(1, "v"), true) });
    let (call, _) = desk.merge_at(1);
    desk.lose(call);
    let failure = desk.failure();
    assert_eq!((failure.code, failure.need, failure.got), (ErrorCode::Unavailable, 3, 0));
    assert!(failure.maybe_applied);
    assert_eq!(desk.coordinator.in_flight(), 0);
}

#[test]
fn a_put_that_was_sent_and_not_answered_may_have_been_applied_although_this_node_refused_it() {
    let failed_after = |result: PeerCall| {
        let mut desk = Desk::new(2, 2);
        desk.put(Level::All);
        let (local, _) = desk.local_write();
        desk.step(Input::Minted { call: local, minted: minted(&written(1, "v"), true) });
        let (call, _) = desk.merge_at(1);
        desk.step(Input::Peer { call, result });
        if !desk.has_reply() {
            let outcome = WriteOutcome::Refused(Failure::new(ErrorCode::StorageFull, "full"));
            desk.step(Input::LocalWrite { call: local, outcome });
        }
        desk.failure().maybe_applied
    };
    assert!(failed_after(PeerCall::Lost));
    assert!(failed_after(PeerCall::Answered(PeerResult::Stored)));
    // The verdict comes before the local commit, which may still succeed.
    assert!(failed_after(PeerCall::NotSent));
}

#[test]
fn a_put_that_every_replica_refused_was_not_applied_and_says_why() {
    let mut desk = Desk::new(3, 3);
    desk.put(Level::One);
    let (local, _) = desk.local_write();
    desk.step(Input::Minted { call: local, minted: minted(&written(1, "v"), true) });
    let outcome = WriteOutcome::Refused(Failure::new(ErrorCode::StorageFull, "full"));
    desk.step(Input::LocalWrite { call: local, outcome });
    let (first, second) = (desk.merge_at(1).0, desk.merge_at(2).0);
    desk.step(Input::Peer { call: first, result: PeerCall::NotSent });
    assert!(!desk.has_reply(), "the third may still store it");
    desk.answer(second, PeerResult::Corrupt);
    let failure = desk.failure();
    assert_eq!(failure.code, ErrorCode::Corrupt);
    assert!(!failure.maybe_applied);
}

#[test]
fn a_put_that_a_lost_owner_may_have_is_unclear_although_all_others_refused_it() {
    let mut desk = Desk::new(3, 3);
    desk.put(Level::One);
    let (local, _) = desk.local_write();
    desk.step(Input::Minted { call: local, minted: minted(&written(1, "v"), true) });
    let outcome = WriteOutcome::Refused(Failure::new(ErrorCode::StorageFull, "full"));
    desk.step(Input::LocalWrite { call: local, outcome });
    let (first, second) = (desk.merge_at(1).0, desk.merge_at(2).0);
    desk.lose(first);
    desk.step(Input::Peer { call: second, result: PeerCall::NotSent });
    assert!(desk.failure().maybe_applied);
}

#[test]
fn a_put_that_this_nodes_store_is_not_sure_of_is_unclear() {
    let mut desk = Desk::new(2, 2);
    desk.put(Level::One);
    let (local, _) = desk.local_write();
    desk.step(Input::Minted { call: local, minted: minted(&written(1, "v"), true) });
    let failure = Failure { maybe_applied: true, ..Failure::new(ErrorCode::StorageFull, "full") };
    desk.step(Input::LocalWrite { call: local, outcome: WriteOutcome::Refused(failure) });
    let (call, _) = desk.merge_at(1);
    desk.step(Input::Peer { call, result: PeerCall::NotSent });
    assert!(desk.failure().maybe_applied);
}

#[test]
fn a_put_without_enough_acknowledgements_times_out_and_may_have_been_applied() {
    let mut desk = Desk::new(3, 3);
    desk.put(Level::Quorum);
    let (local, _) = desk.local_write();
    desk.commit(local, minted(&written(1, "v"), true));
    desk.pass(BUDGET_MS);
    let failure = desk.failure();
    assert_eq!((failure.code, failure.need, failure.got), (ErrorCode::QuorumTimeout, 2, 1));
    assert!(failure.maybe_applied);
    assert_eq!(desk.coordinator.in_flight(), 0);
}

#[test]
fn what_this_nodes_replica_refuses_is_refused_with_its_own_reason() {
    let outcomes = [
        (WriteOutcome::Refused(Failure::new(ErrorCode::TooManySiblings, "too many")), ErrorCode::TooManySiblings),
        (WriteOutcome::Refused(Failure::new(ErrorCode::Overloaded, "queue")), ErrorCode::Overloaded),
        (WriteOutcome::Corrupt, ErrorCode::Corrupt),
    ];
    for (outcome, code) in outcomes {
        let mut desk = Desk::new(3, 3);
        desk.put(Level::Quorum);
        let (call, _) = desk.local_write();
        assert_eq!(desk.coordinator.own_record(call), Some(address().store_key));
        desk.step(Input::LocalWrite { call, outcome });
        assert_eq!(desk.coordinator.own_record(call), None);
        let failure = desk.failure();
        assert_eq!(failure.code, code);
        assert!(!failure.maybe_applied, "{code:?}");
        assert!(desk.is_done());
    }
}

#[test]
fn corrupt_and_stale_replicas_acknowledge_nothing() {
    for result in
        [PeerResult::Corrupt, PeerResult::Stale(View { prefix: 0, bits: 0, lo: 4, hi: 5 }), PeerResult::Absent]
    {
        let mut desk = Desk::new(2, 2);
        desk.put(Level::All);
        let (local, _) = desk.local_write();
        desk.commit(local, minted(&written(1, "v"), true));
        let (call, _) = desk.merge_at(1);
        desk.answer(call, result);
        desk.pass(BUDGET_MS);
        let failure = desk.failure();
        assert!([ErrorCode::Corrupt, ErrorCode::StaleView, ErrorCode::Internal].contains(&failure.code));
        assert!(failure.maybe_applied, "it is on this node's disk");
    }
}

#[test]
fn a_blind_delete_reads_first_and_replaces_exactly_what_it_saw() {
    let mut desk = Desk::new(3, 3);
    desk.delete(Level::Quorum, Basis::Local);
    let (local, reader) = (desk.local_read(), desk.read_at(1));
    assert!(desk.effects.is_empty(), "nobody needs a digest of what is being deleted");
    let (mine, theirs) = (written(1, "milk"), written(2, "eggs"));
    let mut both = mine.clone();
    both.merge(&theirs);
    desk.answer_local(local, PeerResult::Record(record_of(&mine)));
    desk.answer(reader, PeerResult::Record(record_of(&theirs)));
    let (write_call, write) = desk.local_write();
    assert_eq!((write.content, write.basis), (Content::Tombstone, MintBasis::Context(both.seen())));
    let deleted = overwritten(&both, 3, Content::Tombstone);
    desk.answer(reader, PeerResult::Record(record_of(&theirs)));
    desk.commit(write_call, minted(&deleted, true));
    let ((first, _), (second, _)) = (desk.merge_at(1), desk.merge_at(2));
    desk.answer(first, PeerResult::Stored);
    assert_eq!(desk.reply().receipt.durable, 2);
    desk.answer(second, PeerResult::Stored);
    assert!(desk.is_done());
}

#[test]
fn a_delete_with_a_context_writes_at_once_and_one_beside_makes_no_sense() {
    let mut desk = Desk::new(1, 1);
    let seen = written(1, "milk").seen();
    desk.delete(Level::One, Basis::Context(token::seal(&TOKEN_KEY, &address().store_key, &seen)));
    assert_eq!(desk.local_write().1.basis, MintBasis::Context(seen));
    desk.delete(Level::One, Basis::Beside);
    assert_eq!(desk.failure().code, ErrorCode::InvalidRequest);
}

#[test]
fn a_retried_blind_delete_spares_what_was_put_after_its_first_attempt() {
    let mut desk = Desk::new(2, 2);
    // The first attempt, under the operation id that the desk deletes with, and a put by someone who saw it.
    let mut first = Object::new();
    let op_id = OpId { client: 9, sequence: 9 };
    first.put(&Seen::default(), Version { op_id, ..version(2, 1, Content::Tombstone) });
    let after = overwritten(&first, 2, value("put after the delete"));
    desk.delete(Level::All, Basis::Local);
    let (local, reader) = (desk.local_read(), desk.read_at(1));
    desk.answer_local(local, PeerResult::Absent);
    desk.answer(reader, PeerResult::Record(record_of(&after)));
    let (_, write) = desk.local_write();
    // What the replica here makes of it, knowing nothing of either, meets the other.
    let MintBasis::Beside = write.basis else { panic!("it must replace nothing") };
    let mut here = Object::new();
    here.put(&Seen::default(), Version { op_id, ..version(1, 1, write.content) });
    here.merge(&after);
    assert_eq!(here.versions, after.versions);
}

#[test]
fn a_blind_delete_that_can_not_read_has_written_nothing() {
    let mut desk = Desk::new(3, 3);
    desk.delete(Level::Quorum, Basis::Local);
    desk.pass(BUDGET_MS);
    let failure = desk.failure();
    assert_eq!(failure.code, ErrorCode::QuorumTimeout);
    assert!(!failure.maybe_applied);
}

#[test]
fn a_blind_delete_ends_by_its_deadline_in_its_second_half_too() {
    let mut desk = Desk::new(2, 2);
    desk.delete(Level::One, Basis::Local);
    let read = desk.local_read();
    desk.answer_local(read, PeerResult::Absent);
    desk.local_write();
    desk.pass(BUDGET_MS);
    assert!(desk.failure().maybe_applied);
    assert!(desk.is_done());
}
