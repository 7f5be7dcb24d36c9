//! What is refused before anything is done, and what other nodes do.

use super::{super::ForwardFailed, *};
use crate::operation::Receipt;

#[test]
fn a_context_that_is_not_ours_or_of_another_key_is_refused_before_anything_is_done() {
    let other = Address::new(Bytes::from_static(b"carts"), Bytes::from_static(b"bob"));
    let of_other_key = token::seal(&TOKEN_KEY, &other.store_key, &Seen::default());
    for context in [of_other_key, Bytes::from_static(b"forged"), Bytes::new()] {
        let mut desk = Desk::new(3, 3);
        desk.ask(Level::One, put_of("v", Basis::Context(context)));
        let failure = desk.failure();
        assert_eq!(failure.code, ErrorCode::InvalidRequest);
        assert!(!failure.retryable && !failure.maybe_applied);
        assert!(desk.is_done());
    }
}

#[test]
fn a_value_is_checked_against_its_hash_and_its_limit() {
    let mut desk = Desk::with(1, 1, |config| config.value_bytes_max = 3);
    let put = |text: &'static [u8], hash| Action::Put {
        value: Bytes::from_static(text),
        hash,
        basis: Basis::Local,
        op_id: OpId::NONE,
        seen_clock: 0,
        ttl_ms: 0,
    };
    desk.ask(Level::One, put(b"long", None));
    assert_eq!(desk.failure().code, ErrorCode::TooLarge);
    desk.ask(Level::One, put(b"abc", Some(1)));
    assert_eq!(desk.failure().code, ErrorCode::InvalidRequest);
    desk.ask(Level::One, put(b"abc", Some(xxhash_rust::xxh3::xxh3_128(b"abc"))));
    assert_eq!(desk.local_write().1.content, value("abc"));
}

/// A coordinator on node 2 of three, while the keys belong to nodes 0 and 1.
fn stranger() -> Desk {
    let layout = Layout { replicas: 2, slots: vec![0, 1], ..layout(3, 3) };
    Desk::with(3, 3, |config| {
        config.ring = ring_of(layout);
        config.me = Some(NodeIndex(2));
    })
}

fn forward(desk: &mut Desk) -> (CallId, NodeIndex) {
    desk.take(|effect| match effect {
        Effect::Forward { call, to, .. } => Some((*call, *to)),
        _ => None,
    })
}

#[test]
fn what_this_node_does_not_own_is_forwarded_once_and_its_reply_passed_on() {
    let mut desk = stranger();
    desk.put(Level::Quorum);
    let (call, to) = forward(&mut desk);
    assert_eq!(to, NodeIndex(0));
    let outcome = Outcome::Stored { context: None, siblings: 1, clock: 5 };
    let reply = Reply { outcome, receipt: Receipt { durable: 2, ..Receipt::default() } };
    desk.step(Input::Forwarded { call, result: Ok(reply.clone()) });
    assert_eq!(desk.reply(), reply);
    desk.ask_with_hops(
        1,
        Consistency { level: Some(Level::Quorum), ..Consistency::default() },
        Action::Get { without_values: false },
    );
    let failure = desk.failure();
    assert_eq!((failure.code, failure.owners), (ErrorCode::StaleView, vec![NodeIndex(0), NodeIndex(1)]));
    assert!(desk.is_done());
}

#[test]
fn an_owner_that_is_not_in_use_forwards_too() {
    let mut desk = Desk::with(3, 3, |config| config.me = Some(NodeIndex(2)));
    let consistency = Consistency { n: 2, ..Consistency::default() };
    desk.ask_with_hops(0, consistency, put_of("v", Basis::Local));
    assert_eq!(forward(&mut desk).1, NodeIndex(0));
}

#[test]
fn a_forward_that_was_not_sent_goes_to_the_next_owner_and_a_write_that_was_sent_does_not() {
    let mut desk = stranger();
    desk.put(Level::Quorum);
    let (call, _) = forward(&mut desk);
    desk.step(Input::Forwarded { call, result: Err(ForwardFailed { sent: false }) });
    assert_eq!(forward(&mut desk).1, NodeIndex(1));
    desk.put(Level::Quorum);
    let (call, _) = forward(&mut desk);
    desk.step(Input::Forwarded { call, result: Err(ForwardFailed { sent: true }) });
    let failure = desk.failure();
    assert_eq!(failure.code, ErrorCode::Unavailable);
    assert!(failure.maybe_applied);
    assert!(desk.effects.is_empty());
}

#[test]
fn an_owner_that_is_about_to_stop_is_passed_over_unless_it_may_have_begun() {
    let turned_away = |maybe_applied| {
        let failure = Failure { maybe_applied, ..Failure::new(ErrorCode::ShuttingDown, "nothing was done") };
        Reply { outcome: Outcome::Failed(failure), receipt: Receipt::default() }
    };
    let mut desk = stranger();
    desk.put(Level::Quorum);
    let (call, _) = forward(&mut desk);
    desk.step(Input::Forwarded { call, result: Ok(turned_away(false)) });
    let (call, to) = forward(&mut desk);
    assert_eq!(to, NodeIndex(1));
    // When every owner is, whoever asked hears it.
    desk.step(Input::Forwarded { call, result: Ok(turned_away(false)) });
    assert_eq!(desk.failure().code, ErrorCode::ShuttingDown);
    desk.put(Level::Quorum);
    let (call, _) = forward(&mut desk);
    desk.step(Input::Forwarded { call, result: Ok(turned_away(true)) });
    assert!(desk.failure().maybe_applied);
    assert!(desk.is_done());
}

/// The coordinator of a put has stored it, and then owns the key no more: the one it hands the put to has done nothing.
#[test]
fn what_was_stored_before_a_write_was_handed_on_is_not_denied_with_the_others_failure() {
    let first = layout(3, 2);
    let second = Layout {
        epoch: 5,
        parent_hash: first.hash(),
        slots: vec![1, 2],
        spans: crate::layout::spans::Spans::settled(5),
        ..first.clone()
    };
    let mut ring = Ring::new(Arc::new(first.clone()));
    ring.push(Arc::new(second)).unwrap();
    let mut desk = Desk::with(3, 2, |config| config.ring = ring_of(first));
    desk.put(Level::Quorum);
    let (call, _) = desk.local_write();
    let object = written(1, "v");
    desk.commit(call, minted(&object, true));
    let (merge, _) = desk.merge_at(1);
    desk.coordinator.set_ring(desk.now, Some(NodeIndex(0)), Arc::new(ring), &mut desk.effects);
    desk.answer(merge, PeerResult::Stale(crate::layout::View { prefix: 0, bits: 0, lo: 5, hi: 5 }));
    let (call, to) = forward(&mut desk);
    assert_eq!(to, NodeIndex(1));
    let failure = Failure::new(ErrorCode::Unavailable, "nothing was written");
    desk.step(Input::Forwarded {
        call,
        result: Ok(Reply { outcome: Outcome::Failed(failure), receipt: Receipt::default() }),
    });
    let failure = desk.failure();
    assert!(failure.maybe_applied && failure.message.contains("may still appear"), "{failure:?}");
}

#[test]
fn a_forwarded_read_may_be_sent_again() {
    let mut desk = stranger();
    desk.cut_off(1);
    desk.get(Level::One);
    let (call, to) = forward(&mut desk);
    assert_eq!(to, NodeIndex(0));
    desk.step(Input::Forwarded { call, result: Err(ForwardFailed { sent: true }) });
    let failure = desk.failure();
    assert_eq!(failure.code, ErrorCode::Unavailable);
    assert!(!failure.maybe_applied);
    desk.cut_off(0);
    desk.get(Level::One);
    assert_eq!(desk.failure().code, ErrorCode::Unavailable);
}

#[test]
fn a_forwarded_write_that_is_not_answered_in_time_may_have_been_applied() {
    let mut desk = stranger();
    desk.put(Level::One);
    forward(&mut desk);
    desk.pass(BUDGET_MS);
    let failure = desk.failure();
    assert_eq!(failure.code, ErrorCode::QuorumTimeout);
    assert!(failure.maybe_applied);
}

#[test]
fn more_operations_than_the_limit_are_refused_before_anything_is_done() {
    let mut desk = Desk::with(1, 1, |config| config.operations_max = 1);
    desk.put(Level::One);
    let (call, _) = desk.local_write();
    desk.put(Level::One);
    let failure = desk.failure();
    assert_eq!(failure.code, ErrorCode::Overloaded);
    assert!(failure.retry_after_ms > 0 && !failure.maybe_applied);
    desk.commit(call, minted(&written(1, "v"), true));
    desk.reply();
    desk.put(Level::One);
    desk.local_write();
}

#[test]
fn an_operation_that_arrives_too_late_is_not_begun() {
    let mut desk = Desk::new(1, 1);
    let operation =
        Operation { address: address(), consistency: Consistency::default(), action: put_of("v", Basis::Local) };
    let (request, deadline) = (RequestId(1), desk.now);
    desk.step(Input::Client { request, operation, hops: 0, deadline, now_wall_ms: WALL_MS });
    let failure = desk.failure();
    assert_eq!((failure.code, failure.maybe_applied), (ErrorCode::QuorumTimeout, false));
    assert!(desk.is_done());
}

#[test]
fn an_operation_lives_no_longer_than_the_longest_budget() {
    let mut desk = Desk::with(1, 1, |config| config.budget_max_ms = 10);
    desk.get(Level::One);
    desk.local_read();
    desk.pass(10);
    assert_eq!(desk.failure().code, ErrorCode::QuorumTimeout);
}
