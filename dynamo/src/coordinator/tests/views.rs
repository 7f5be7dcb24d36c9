//! A partition that moves (design, ring, "Moving a partition"): what a coordinator asks of whom, under which view, and what it does when
//! a replica knows better.

use super::{super::ForwardFailed, *};
use crate::{
    layout::{
        View,
        spans::{Span, Spans},
    },
    operation::Receipt,
};

/// The layouts from epoch 4 on in which the partition's owners are these, each with another name unless it repeats the one before.
fn ring_through(owners: &[&[u16]], bits: u8) -> Ring {
    let mut since = 4;
    let mut layouts: Vec<Layout> = Vec::new();
    for (epoch, owners) in (4..).zip(owners) {
        let slots = owners.repeat(1 << bits);
        if layouts.last().is_some_and(|before| before.slots != slots) {
            since = epoch;
        }
        let replicas = owners.len() as u8;
        let spans = Spans::uniform(Span { since, oldest: 4 });
        let parent_hash = layouts.last().map_or([0; 16], Layout::hash);
        layouts.push(Layout { epoch, slots, spans, parent_hash, partition_bits: bits, replicas, ..layout(8, 3) });
    }
    let mut ring = Ring::new(Arc::new(layouts.remove(0)));
    layouts.into_iter().for_each(|layout| ring.push(Arc::new(layout)).unwrap());
    ring
}

fn view(lo: u64, hi: u64) -> View {
    View { prefix: 0, bits: 0, lo, hi }
}

/// A coordinator at `me` that knows these layouts.
fn desk_at(me: Option<u16>, owners: &[&[u16]]) -> Desk {
    Desk::with(8, 3, |config| {
        config.ring = Arc::new(ring_through(owners, 0));
        config.me = me.map(NodeIndex);
    })
}

/// The same, whose own replica says that the partition is between its two owner sets.
fn joint(me: u16, owners: &[&[u16]]) -> Desk {
    let mut desk = desk_at(Some(me), owners);
    desk.step(Input::View { view: view(4, 3 + owners.len() as u64) });
    desk
}

fn forward(desk: &mut Desk) -> (CallId, u16) {
    desk.take(|effect| match effect {
        Effect::Forward { call, to, .. } => Some((*call, to.0)),
        _ => None,
    })
}

/// Takes the write of a finished record to this node's own replica.
fn local_merge(desk: &mut Desk) -> (CallId, View) {
    desk.take(|effect| match effect {
        Effect::LocalWrite { call: Some(call), operation: WriteOperation::Merge { view, .. } } => Some((*call, *view)),
        _ => None,
    })
}

#[test]
fn a_write_in_two_configurations_needs_a_majority_of_each() {
    let mut desk = joint(0, &[&[0, 1, 2], &[3, 4, 2]]);
    desk.put(Level::One);
    let (local, _) = desk.local_write();
    desk.commit(local, minted(&written(1, "v"), true));
    let calls = [1, 2, 3, 4].map(|node| desk.merge_at(node).0);
    desk.answer(calls[0], PeerResult::Stored);
    assert!(!desk.has_reply(), "nobody of the new owners has it");
    desk.answer(calls[2], PeerResult::Stored);
    assert!(!desk.has_reply(), "one of the new owners has it, which is no majority although one was asked for");
    desk.answer(calls[1], PeerResult::Stored);
    let reply = desk.reply();
    assert!(matches!(reply.outcome, Outcome::Stored { .. }));
    assert_eq!((reply.receipt.need, reply.receipt.epoch, reply.receipt.durable), (2, 5, 4));
}

#[test]
fn a_read_in_two_configurations_reads_whom_both_have_first_and_needs_no_more() {
    let mut desk = joint(1, &[&[0, 1, 2], &[3, 1, 2]]);
    desk.get(Level::Quorum);
    let (local, reader) = (desk.local_read(), desk.read_at(2));
    desk.answer_local(local, PeerResult::Absent);
    desk.answer(reader, PeerResult::Absent);
    assert_eq!(desk.reply().receipt.answered, [NodeIndex(1), NodeIndex(2)]);
}

#[test]
fn a_write_that_meets_a_newer_view_takes_its_version_along_and_counts_afresh() {
    let mut desk = desk_at(Some(1), &[&[0, 1, 2], &[3, 1, 2]]);
    desk.put(Level::Quorum);
    let (mint, _) = desk.local_write();
    desk.step(Input::Minted { call: mint, minted: minted(&written(1, "v"), true) });
    let (to_0, to_2) = (desk.merge_at(0).0, desk.merge_at(2).0);
    desk.answer(to_2, PeerResult::Stale(view(4, 5)));
    // Under the view that the owner named, to everyone of both configurations, and nothing is minted again.
    let (merge, seen) = local_merge(&mut desk);
    assert_eq!(seen, view(4, 5));
    let again = [0, 2, 3].map(|node| {
        let (call, operation) = desk.peer(node);
        assert_eq!(operation.view, view(4, 5));
        call
    });
    // What comes late for the view before finds nobody.
    desk.commit(mint, minted(&written(1, "v"), true));
    desk.answer(to_0, PeerResult::Stored);
    assert!(!desk.has_reply());
    assert_eq!(desk.coordinator.counters().unclaimed, 2);
    desk.step(Input::LocalWrite { call: merge, outcome: WriteOutcome::Stored });
    desk.answer(again[0], PeerResult::Stored);
    assert!(!desk.has_reply(), "the new configuration has one");
    desk.answer(again[2], PeerResult::Stored);
    assert!(matches!(desk.reply().outcome, Outcome::Stored { .. }));
    // The next operation knows.
    desk.get(Level::Quorum);
    assert_eq!(desk.peer(2).1.view, view(4, 5));
}

#[test]
fn a_digest_that_is_refused_for_its_view_is_believed_too() {
    let mut desk = desk_at(Some(1), &[&[0, 1, 2], &[3, 1, 2]]);
    desk.get(Level::Quorum);
    desk.local_read();
    let (_, digest) = (desk.read_at(2), desk.digest_at(0));
    desk.answer(digest, PeerResult::Stale(view(5, 5)));
    let (call, operation) = desk.peer(2);
    assert_eq!(operation.view, view(5, 5), "and node 0 is no owner any more");
    let local = desk.local_read();
    desk.answer_local(local, PeerResult::Absent);
    desk.answer(call, PeerResult::Absent);
    assert_eq!(desk.reply().receipt.need, 2);
}

#[test]
fn an_operation_waits_for_the_layout_that_a_view_is_named_after() {
    let owners: [&[u16]; 2] = [&[0, 1, 2], &[3, 1, 2]];
    let mut desk = desk_at(Some(1), &owners[..1]);
    desk.put(Level::All);
    let (local, _) = desk.local_write();
    desk.step(Input::LocalWrite { call: local, outcome: WriteOutcome::Stale(view(4, 5)) });
    assert_eq!(desk.wanted_layout(), 5);
    assert_eq!(desk.coordinator.in_flight(), 1);
    desk.coordinator.set_ring(desk.now, Some(NodeIndex(1)), Arc::new(ring_through(&owners, 0)), &mut desk.effects);
    let (local, _) = desk.local_write();
    desk.commit(local, minted(&written(1, "v"), true));
    for node in [0, 2, 3] {
        let (call, _) = desk.merge_at(node);
        desk.answer(call, PeerResult::Stored);
    }
    let reply = desk.reply();
    assert_eq!((reply.receipt.durable, reply.receipt.epoch), (4, 5));
    assert!(desk.is_done());
}

#[test]
fn a_layout_that_never_comes_fails_the_operation_honestly() {
    for is_minted in [false, true] {
        let mut desk = desk_at(Some(1), &[&[0, 1, 2]]);
        desk.put(Level::All);
        let (local, _) = desk.local_write();
        if is_minted {
            desk.commit(local, minted(&written(1, "v"), true));
            let (call, _) = desk.merge_at(2);
            desk.answer(call, PeerResult::Stale(view(4, 5)));
        } else {
            desk.step(Input::LocalWrite { call: local, outcome: WriteOutcome::Stale(view(4, 5)) });
        }
        desk.pass(BUDGET_MS);
        let failure = desk.failure();
        assert_eq!((failure.code, failure.retryable, failure.maybe_applied), (ErrorCode::StaleView, true, is_minted));
    }
}

#[test]
fn who_still_learns_forwards_to_those_who_own() {
    let mut desk = desk_at(Some(3), &[&[0, 1, 2], &[3, 1, 2]]);
    desk.put(Level::Quorum);
    assert_eq!(forward(&mut desk).1, 0);
    let quorum = Consistency { level: Some(Level::Quorum), ..Consistency::default() };
    desk.ask_with_hops(1, quorum, put_of("v", Basis::Local));
    let failure = desk.failure();
    assert_eq!((failure.code, failure.owners), (ErrorCode::StaleView, vec![NodeIndex(0), NodeIndex(1), NodeIndex(2)]));
    // When it is an owner, it coordinates.
    desk.step(Input::View { view: view(4, 5) });
    desk.put(Level::Quorum);
    desk.local_write();
}

#[test]
fn who_has_handed_over_forwards_to_the_new_owners_and_no_place_in_the_ring_forwards_all() {
    let mut desk = desk_at(Some(0), &[&[0, 1, 2], &[3, 4, 5]]);
    desk.step(Input::View { view: view(5, 5) });
    desk.put(Level::Quorum);
    assert_eq!(forward(&mut desk).1, 3);
    let mut desk = desk_at(None, &[&[0, 1, 2]]);
    desk.put(Level::Available);
    let (call, to) = forward(&mut desk);
    assert_eq!(to, 0);
    desk.cut_off(1);
    desk.cut_off(2);
    desk.step(Input::Forwarded { call, result: Err(ForwardFailed { sent: false }) });
    forward(&mut desk);
}

#[test]
fn a_forward_follows_the_word_of_who_is_no_owner_any_more() {
    let mut desk = desk_at(Some(6), &[&[0, 1, 2]]);
    desk.put(Level::Quorum);
    let (call, _) = forward(&mut desk);
    desk.cut_off(1);
    desk.cut_off(2);
    let refusal = Failure { owners: vec![NodeIndex(6), NodeIndex(4)], ..Failure::new(ErrorCode::StaleView, "moved") };
    let reply = Reply { outcome: Outcome::Failed(refusal), receipt: Receipt { epoch: 9, ..Receipt::default() } };
    desk.step(Input::Forwarded { call, result: Ok(reply.clone()) });
    assert_eq!(desk.wanted_layout(), 9);
    while desk.effects.iter().any(|effect| matches!(effect, Effect::Forward { .. })) {
        let (call, to) = forward(&mut desk);
        assert!([1, 2, 4].contains(&to));
        desk.step(Input::Forwarded { call, result: Ok(reply.clone()) });
    }
    assert_eq!(desk.failure().code, ErrorCode::StaleView);
}

#[test]
fn who_is_given_up_for_lost_is_not_asked_and_not_waited_for() {
    let owners: [&[u16]; 2] = [&[0, 1, 2], &[3, 1, 2]];
    let mut ring = ring_through(&owners[..1], 0);
    let mut newest = Layout::clone(ring_through(&owners, 0).newest());
    newest.members[0].state = MemberState::Lost;
    ring.push(Arc::new(newest)).unwrap();
    let mut desk = Desk::with(8, 3, |config| {
        config.ring = Arc::new(ring);
        config.me = Some(NodeIndex(1));
    });
    desk.step(Input::View { view: view(4, 5) });
    desk.put(Level::All);
    let (local, _) = desk.local_write();
    desk.commit(local, minted(&written(1, "v"), true));
    for node in [2, 3] {
        let (call, _) = desk.merge_at(node);
        desk.answer(call, PeerResult::Stored);
    }
    assert_eq!(desk.reply().receipt.durable, 3);
    assert!(desk.is_done());
}

#[test]
fn a_view_of_half_the_partition_is_no_view_of_the_whole() {
    let owners: [&[u16]; 2] = [&[0, 1, 2], &[0, 1, 2]];
    let mut desk = desk_at(Some(1), &owners[..1]);
    desk.get(Level::Quorum);
    let local = desk.local_read();
    let child = View { prefix: address().store_key.id().prefix(1), bits: 1, lo: 4, hi: 4 };
    desk.answer_local(local, PeerResult::Stale(child));
    let reader = desk.read_at(2);
    assert_eq!(desk.wanted_layout(), 5);
    desk.answer(reader, PeerResult::Stale(child));
    let digest = desk.digest_at(0);
    desk.answer(digest, PeerResult::Stale(child));
    assert_eq!(desk.coordinator.counters().parked, 1);
    let mut doubled = ring_through(&owners[..1], 0);
    let slots = owners[0].repeat(2);
    let newest = doubled.newest();
    let next = Layout { epoch: 5, parent_hash: newest.hash(), partition_bits: 1, slots, ..Layout::clone(newest) };
    doubled.push(Arc::new(next)).unwrap();
    desk.coordinator.set_ring(desk.now, Some(NodeIndex(1)), Arc::new(doubled), &mut desk.effects);
    assert_eq!(desk.peer(2).1.view, child);
}

#[test]
fn while_n_grows_every_configuration_has_a_majority_of_its_own() {
    let mut desk = joint(0, &[&[0], &[0, 1, 2]]);
    desk.put(Level::Quorum);
    let (local, _) = desk.local_write();
    desk.commit(local, minted(&written(1, "v"), true));
    assert!(!desk.has_reply());
    let (call, _) = desk.merge_at(1);
    desk.answer(call, PeerResult::Stored);
    assert_eq!(desk.reply().receipt.need, 2);
}

#[test]
fn an_operation_does_not_follow_views_for_ever() {
    let owners: Vec<[u16; 1]> = (0..20).map(|epoch| [1 + epoch % 2]).collect();
    let owners: Vec<&[u16]> = owners.iter().map(|owners| &owners[..]).collect();
    let mut desk = desk_at(Some(1), &owners);
    desk.get(Level::Quorum);
    let mut turns = 0;
    while !desk.has_reply() {
        turns += 1;
        // The owner of the even epochs is this node, and each time it says that it is two further.
        let local = desk.local_read();
        desk.answer_local(local, PeerResult::Stale(view(4 + 2 * turns, 4 + 2 * turns)));
    }
    let failure = desk.failure();
    assert_eq!((failure.code, failure.retryable), (ErrorCode::StaleView, true));
    assert_eq!(turns, 9);
    assert!(desk.is_done());
}

#[test]
fn views_that_make_no_sense_are_not_believed() {
    for nonsense in [
        View { prefix: 0, bits: 0, lo: 9, hi: 8 },
        View { prefix: 7, bits: 200, lo: 4, hi: 5 },
        View { prefix: address().store_key.id().prefix(4) ^ 1, bits: 4, lo: 9, hi: 9 },
        view(4, 4),
        view(1, 4),
    ] {
        let mut desk = desk_at(Some(1), &[&[0, 1, 2]]);
        desk.put(Level::Quorum);
        let (local, _) = desk.local_write();
        desk.step(Input::LocalWrite { call: local, outcome: WriteOutcome::Stale(nonsense) });
        assert_eq!(desk.failure().code, ErrorCode::StaleView, "{nonsense:?}");
        assert!(desk.is_done());
    }
}

#[test]
fn a_write_without_a_name_is_not_minted_twice_when_its_node_stops_being_an_owner() {
    let mut desk = desk_at(Some(0), &[&[0, 1, 2], &[3, 1, 2]]);
    let value = Bytes::from_static(b"v");
    let op_id = OpId::NONE;
    let put = Action::Put { value, hash: None, basis: Basis::Beside, op_id, seen_clock: 0, ttl_ms: 0 };
    desk.ask(Level::Quorum, put);
    let (local, _) = desk.local_write();
    desk.commit(local, minted(&written(1, "v"), true));
    let (call, _) = desk.merge_at(2);
    desk.answer(call, PeerResult::Stale(view(5, 5)));
    let failure = desk.failure();
    assert_eq!((failure.code, failure.maybe_applied), (ErrorCode::StaleView, true));
}
