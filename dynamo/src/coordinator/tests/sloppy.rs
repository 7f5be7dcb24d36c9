//! Level `available` (paper, section 4.6): stand-ins, hints, and what is counted. The key's owners are the nodes 0, 1 and 2 of
//! five; whoever else there is stands in.

use super::*;
use crate::{hint::HintOperation, ident::NodeId, replica::MintBasis};

pub(super) const OWNERS: u16 = 3;
pub(super) const NODES: u16 = 5;

/// A layout in which the key's owners are the nodes 0 to 2 and every node owns something.
pub(super) fn ring() -> Layout {
    let bits = 6;
    let first = address().store_key.id().prefix(bits) as usize;
    let owners = |partition: usize| (0..OWNERS).map(move |slot| (partition as u16 + slot) % NODES);
    let mut slots: Vec<u16> = (0..1 << bits).flat_map(owners).collect();
    slots[first * 3..first * 3 + 3].copy_from_slice(&[0, 1, 2]);
    Layout { partition_bits: bits, slots, ..layout(NODES, 3) }
}

fn desk_of(me: u16) -> Desk {
    Desk::with(NODES, OWNERS as u8, |config| {
        config.ring = ring_of(ring());
        config.me = Some(NodeIndex(me));
    })
}

/// The stand-ins in the order in which they are asked while these nodes are away.
pub(super) fn stand_ins(away: &[u16]) -> Vec<u16> {
    let ring = ring();
    let partition = ring.partition(&address().store_key.id());
    ring.stand_ins(partition, |node| !away.contains(&node.0)).map(|node| node.0).collect()
}

impl Desk {
    /// Takes the hint sent to `node`: whom it is for.
    pub(super) fn hint_at(&mut self, node: u16) -> (CallId, NodeId, Object) {
        match self.peer(node) {
            (call, PeerOperation { action: PeerAction::Hint { target, record }, .. }) => {
                (call, target, record::decode_of(&address(), &record).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    fn hint_read_at(&mut self, node: u16) -> CallId {
        let (call, operation) = self.peer(node);
        assert_eq!(operation.action, PeerAction::ReadHint);
        call
    }

    /// Takes the hint that this node is to mint.
    fn local_hint(&mut self) -> (CallId, NodeId, Write) {
        self.take(|effect| match effect {
            Effect::LocalHint { call: Some(call), operation: HintOperation::Mint { target, write, .. } } => {
                Some((*call, *target, write.clone()))
            }
            _ => None,
        })
    }

    /// Lets the put there is commit here.
    fn commit_put(&mut self, object: &Object) {
        let (local, _) = self.local_write();
        self.commit(local, minted(object, true));
    }
}

fn id(node: u16) -> NodeId {
    NodeId(u128::from(node) + 100)
}

#[test]
fn section_4_6_a_put_sends_the_object_of_an_unreachable_owner_to_a_stand_in_and_counts_it() {
    let mut desk = desk_of(0);
    (1..3).for_each(|node| desk.cut_off(node));
    desk.put(Level::Available);
    let object = written(1, "v");
    desk.commit_put(&object);
    let order = stand_ins(&[1, 2]);
    let (first, target, hinted) = desk.hint_at(order[0]);
    assert_eq!((target, hinted), (id(1), object));
    let (second, target, _) = desk.hint_at(order[1]);
    assert_eq!(target, id(2));
    assert!(!desk.has_reply(), "one node is not W");
    desk.answer(first, PeerResult::Stored);
    let receipt = desk.reply().receipt;
    assert_eq!(receipt.answered, [NodeIndex(0), NodeIndex(order[0])]);
    assert_eq!((receipt.need, receipt.durable, receipt.stand_ins, receipt.replicas), (2, 2, 1, 3));
    desk.answer(second, PeerResult::Stored);
    assert!(desk.is_done());
}

#[test]
fn strict_levels_never_count_a_stand_in() {
    for level in [Level::Quorum, Level::All] {
        let mut desk = desk_of(0);
        (1..3).for_each(|node| desk.cut_off(node));
        desk.put(level);
        assert_eq!(desk.failure().code, ErrorCode::Unavailable);
        desk.get(level);
        assert_eq!(desk.failure().code, ErrorCode::Unavailable);
        assert!(desk.is_done());
    }
}

#[test]
fn a_write_at_any_level_leaves_a_hint_for_an_owner_that_failed_and_does_not_count_it() {
    for level in [Level::One, Level::Quorum] {
        let mut desk = desk_of(0);
        desk.put(level);
        let object = written(1, "v");
        desk.commit_put(&object);
        let ((first, _), (second, _)) = (desk.merge_at(1), desk.merge_at(2));
        desk.answer(first, PeerResult::Stored);
        let receipt = desk.reply().receipt;
        assert_eq!((receipt.stand_ins, receipt.answered.contains(&NodeIndex(2))), (0, false));
        assert!(desk.effects.is_empty());
        desk.lose(second);
        let (call, target, hinted) = desk.hint_at(stand_ins(&[])[0]);
        assert_eq!((target, hinted), (id(2), object));
        desk.answer(call, PeerResult::Stored);
        assert!(desk.is_done());
    }
}

#[test]
fn a_write_leaves_a_hint_for_an_owner_that_was_silent_until_the_end() {
    let mut desk = desk_of(0);
    desk.put(Level::Quorum);
    desk.commit_put(&written(1, "v"));
    let ((first, _), _) = (desk.merge_at(1), desk.merge_at(2));
    desk.answer(first, PeerResult::Stored);
    assert_eq!(desk.reply().receipt.durable, 2);
    desk.pass(BUDGET_MS);
    let left = desk.take(|effect| match effect {
        Effect::Peer { to, call: None, operation: PeerOperation { action: PeerAction::Hint { target, .. }, .. } } => {
            Some((to.0, *target))
        }
        _ => None,
    });
    assert_eq!(left, (stand_ins(&[])[0], id(2)));
    assert!(desk.is_done());
}

#[test]
fn a_hint_that_is_refused_does_not_count_and_the_next_stand_in_is_asked() {
    let full = PeerResult::Failed(Failure::new(ErrorCode::StorageFull, "hints are full"));
    let refusals = [PeerCall::Answered(full), PeerCall::NotSent, PeerCall::Lost];
    for refusal in refusals {
        let mut desk = desk_of(0);
        (1..3).for_each(|node| desk.cut_off(node));
        desk.ask_with_hops(
            0,
            Consistency { level: Some(Level::Available), n: 2, ..Consistency::default() },
            put_of("v", Basis::Local),
        );
        desk.commit_put(&written(1, "v"));
        let order = stand_ins(&[1, 2]);
        let (call, ..) = desk.hint_at(order[0]);
        desk.step(Input::Peer { call, result: refusal.clone() });
        assert!(!desk.has_reply(), "{refusal:?} is no acknowledgement");
        let (call, target, _) = desk.hint_at(order[1]);
        assert_eq!(target, id(1), "the same owner's");
        desk.answer(call, PeerResult::Stored);
        let receipt = desk.reply().receipt;
        assert_eq!(receipt.answered, [NodeIndex(0), NodeIndex(order[1])]);
        assert!(desk.is_done());
    }
}

#[test]
fn when_every_stand_in_refuses_the_put_fails_and_may_still_appear() {
    let mut desk = desk_of(0);
    (1..3).for_each(|node| desk.cut_off(node));
    desk.put(Level::Available);
    desk.commit_put(&written(1, "v"));
    for node in stand_ins(&[1, 2]) {
        assert!(!desk.has_reply());
        let (call, ..) = desk.hint_at(node);
        desk.answer(call, PeerResult::Failed(Failure::new(ErrorCode::StorageFull, "hints are full")));
    }
    let failure = desk.failure();
    assert_eq!((failure.code, failure.need, failure.got), (ErrorCode::StorageFull, 2, 1));
    assert!(failure.maybe_applied && failure.retryable);
    assert_eq!(failure.owners, [NodeIndex(0), NodeIndex(1), NodeIndex(2)], "stand-ins are no owners");
    assert!(desk.is_done());
}

#[test]
fn an_owner_that_refuses_for_its_own_reasons_is_replaced_and_one_with_another_view_is_not() {
    let busy = [ErrorCode::Overloaded, ErrorCode::StorageFull, ErrorCode::ShuttingDown, ErrorCode::Internal];
    let busy = busy.map(|code| PeerResult::Failed(Failure::new(code, "")));
    for refusal in busy.into_iter().chain([PeerResult::Corrupt]) {
        let mut desk = desk_of(0);
        desk.put(Level::Available);
        desk.commit_put(&written(1, "v"));
        let ((first, _), (second, _)) = (desk.merge_at(1), desk.merge_at(2));
        desk.answer(first, refusal);
        let (call, target, _) = desk.hint_at(stand_ins(&[])[0]);
        assert_eq!(target, id(1));
        desk.answer(call, PeerResult::Stored);
        assert_eq!(desk.reply().receipt.stand_ins, 1);
        desk.answer(second, PeerResult::Stored);
        assert!(desk.is_done());
    }
    let mut desk = desk_of(0);
    desk.put(Level::Available);
    desk.commit_put(&written(1, "v"));
    for node in [1, 2] {
        let (call, _) = desk.merge_at(node);
        desk.answer(call, PeerResult::Stale(crate::layout::View { prefix: 0, bits: 6, lo: 5, hi: 5 }));
    }
    assert_eq!(desk.failure().code, ErrorCode::StaleView);
    assert!(desk.is_done(), "under an old view nobody may stand in");
}

#[test]
fn owners_that_are_silent_are_replaced_as_far_as_w_lacks_them_and_still_count_when_they_are_late() {
    let mut desk = desk_of(0);
    desk.put(Level::Available);
    desk.commit_put(&written(1, "v"));
    let ((first, _), (second, _)) = (desk.merge_at(1), desk.merge_at(2));
    desk.pass(99);
    assert!(desk.effects.is_empty());
    desk.pass(1);
    let (hint, target, _) = desk.hint_at(stand_ins(&[])[0]);
    assert_eq!(target, id(1));
    assert!(desk.effects.is_empty(), "one more is enough");
    desk.pass(100);
    let (_, target, _) = desk.hint_at(stand_ins(&[])[1]);
    assert_eq!(target, id(1), "the first stand-in is silent too");
    desk.answer(second, PeerResult::Stored);
    assert_eq!(desk.reply().receipt.answered, [NodeIndex(0), NodeIndex(2)]);
    desk.answer(first, PeerResult::Stored);
    desk.answer(hint, PeerResult::Stored);
    desk.pass(BUDGET_MS);
    assert!(desk.is_done());
}

#[test]
fn a_late_owner_and_its_stand_in_are_two_nodes() {
    let mut desk = desk_of(0);
    desk.ask_with_hops(
        0,
        Consistency { level: Some(Level::Available), w: 3, ..Consistency::default() },
        put_of("v", Basis::Local),
    );
    desk.commit_put(&written(1, "v"));
    let ((first, _), (second, _)) = (desk.merge_at(1), desk.merge_at(2));
    desk.pass(100);
    let order = stand_ins(&[]);
    let ((hint, ..), _) = (desk.hint_at(order[0]), desk.hint_at(order[1]));
    desk.answer(hint, PeerResult::Stored);
    desk.answer(hint, PeerResult::Stored);
    assert!(!desk.has_reply(), "an answer counts once");
    desk.answer(first, PeerResult::Stored);
    let receipt = desk.reply().receipt;
    assert_eq!(receipt.answered, [NodeIndex(0), NodeIndex(1), NodeIndex(order[0])]);
    assert_eq!((receipt.durable, receipt.stand_ins), (3, 1));
    desk.answer(second, PeerResult::Stored);
    desk.pass(BUDGET_MS);
    assert!(desk.is_done());
}

#[test]
fn a_read_asks_stand_ins_only_when_owners_do_not_suffice() {
    let mut desk = desk_of(0);
    desk.cut_off(1);
    desk.get(Level::Available);
    let (local, reader) = (desk.local_read(), desk.read_at(2));
    assert!(desk.effects.is_empty());
    let object = written(1, "milk");
    desk.answer_local(local, PeerResult::Absent);
    desk.lose(reader);
    let order = stand_ins(&[1]);
    let stand_in = desk.hint_read_at(order[0]);
    desk.answer(stand_in, PeerResult::Record(record_of(&object)));
    let reply = desk.reply();
    assert_eq!(values(&reply.outcome), ["milk"]);
    assert_eq!(reply.receipt.answered, [NodeIndex(0), NodeIndex(order[0])]);
    assert_eq!((reply.receipt.stand_ins, reply.receipt.repaired), (1, true));
    assert_eq!(desk.repairs(), [(0, object)], "an owner is brought level, a stand-in is never repaired");
    assert!(desk.is_done());
}

#[test]
fn a_stand_in_that_keeps_nothing_counts_and_is_sent_nothing() {
    let mut desk = desk_of(0);
    (1..3).for_each(|node| desk.cut_off(node));
    desk.get(Level::Available);
    let local = desk.local_read();
    let order = stand_ins(&[1, 2]);
    let stand_in = desk.hint_read_at(order[0]);
    desk.answer(stand_in, PeerResult::Absent);
    desk.answer_local(local, PeerResult::Record(record_of(&written(1, "milk"))));
    let reply = desk.reply();
    assert_eq!(values(&reply.outcome), ["milk"]);
    assert_eq!((reply.receipt.stand_ins, reply.receipt.repaired), (1, false));
    assert!(desk.is_done());
}

#[test]
fn a_read_that_nobody_answers_asks_stand_ins_in_time() {
    let mut desk = desk_of(0);
    desk.get(Level::Available);
    let (local, _, digest) = (desk.local_read(), desk.read_at(1), desk.digest_at(2));
    desk.answer_local(local, PeerResult::Absent);
    desk.pass(100);
    desk.read_at(2);
    desk.lose(digest);
    desk.pass(100);
    let stand_in = desk.hint_read_at(stand_ins(&[])[0]);
    desk.answer(stand_in, PeerResult::Absent);
    let reply = desk.reply();
    assert_eq!((values(&reply.outcome).len(), reply.receipt.stand_ins), (0, 1));
    assert_eq!(desk.coordinator.counters().hedges, 2);
}

#[test]
fn when_no_owner_can_be_reached_the_first_live_stand_in_coordinates() {
    let order = stand_ins(&[0, 1, 2]);
    let mut desk = desk_of(order[0]);
    (0..3).for_each(|node| desk.cut_off(node));
    desk.put(Level::Available);
    let (local, target, write) = desk.local_hint();
    assert_eq!((target, write.basis), (id(0), MintBasis::Local));
    let object = written(1, "v");
    desk.step(Input::Minted { call: local, minted: minted(&object, true) });
    let (call, target, _) = desk.hint_at(order[1]);
    assert_eq!(target, id(1));
    desk.answer(call, PeerResult::Stored);
    assert!(!desk.has_reply(), "its own hint is not durable yet");
    desk.commit(local, minted(&object, true));
    let receipt = desk.reply().receipt;
    assert_eq!(receipt.answered, [NodeIndex(order[0]), NodeIndex(order[1])]);
    assert_eq!((receipt.durable, receipt.stand_ins, receipt.replicas), (2, 2, 3));
    assert!(desk.is_done());
}

#[test]
fn a_stand_in_that_coordinates_reads_its_own_hints_and_those_of_others() {
    let order = stand_ins(&[0, 1, 2]);
    let mut desk = desk_of(order[0]);
    (0..3).for_each(|node| desk.cut_off(node));
    desk.get(Level::Available);
    let local = desk.take(|effect| match effect {
        Effect::LocalRead { call, operation: PeerOperation { action: PeerAction::ReadHint, .. } } => Some(*call),
        _ => None,
    });
    let other = desk.hint_read_at(order[1]);
    desk.answer_local(local, PeerResult::Record(record_of(&written(1, "milk"))));
    desk.answer(other, PeerResult::Record(record_of(&written(2, "eggs"))));
    let reply = desk.reply();
    assert_eq!((values(&reply.outcome).len(), reply.receipt.stand_ins), (2, 2));
    assert!(desk.is_done(), "nobody is repaired");
}

#[test]
fn a_stand_in_that_coordinates_deletes_what_hints_show() {
    let order = stand_ins(&[0, 1, 2]);
    let mut desk = desk_of(order[0]);
    (0..3).for_each(|node| desk.cut_off(node));
    desk.delete(Level::Available, Basis::Local);
    let local = desk.local_read();
    let other = desk.hint_read_at(order[1]);
    desk.answer_local(local, PeerResult::Absent);
    desk.answer(other, PeerResult::Record(record_of(&written(2, "eggs"))));
    let (call, _, write) = desk.local_hint();
    assert_eq!(write.basis, MintBasis::Context(written(2, "eggs").seen()));
    desk.commit(call, minted(&overwritten(&written(2, "eggs"), 3, Content::Tombstone), true));
    let (hint, ..) = desk.hint_at(order[1]);
    desk.answer(hint, PeerResult::Stored);
    assert_eq!(desk.reply().receipt.stand_ins, 2);
    assert!(desk.is_done());
}

#[test]
fn who_is_not_the_first_live_stand_in_forwards_and_coordinates_what_was_forwarded_to_it() {
    let order = stand_ins(&[0, 1, 2]);
    let mut desk = desk_of(order[1]);
    (0..3).for_each(|node| desk.cut_off(node));
    desk.put(Level::Available);
    let (call, to) = desk.take(|effect| match effect {
        Effect::Forward { call, to, .. } => Some((*call, to.0)),
        _ => None,
    });
    assert_eq!(to, order[0]);
    desk.step(Input::Forwarded { call, result: Err(super::super::ForwardFailed { sent: false }) });
    let (_, target, _) = desk.local_hint();
    assert_eq!(target, id(0), "the other one is gone, so this is the first");

    let mut desk = desk_of(order[1]);
    desk.cut_off(1);
    let consistency = Consistency { level: Some(Level::Available), ..Consistency::default() };
    desk.ask_with_hops(1, consistency, put_of("v", Basis::Local));
    let (local, target, _) = desk.local_hint();
    assert_eq!(target, id(1), "kept for who can't be reached");
    desk.commit(local, minted(&written(1, "v"), true));
    assert_eq!(desk.merge_at(0).1, record_of(&written(1, "v")), "owners that can be reached get the object itself");
    desk.merge_at(2);
    assert!(desk.effects.is_empty());
}

#[test]
fn a_node_that_reaches_an_owner_forwards_to_it_and_strict_levels_never_coordinate_elsewhere() {
    let order = stand_ins(&[0, 1, 2]);
    let mut desk = desk_of(order[0]);
    (0..2).for_each(|node| desk.cut_off(node));
    desk.put(Level::Available);
    let (call, to) = desk.take(|effect| match effect {
        Effect::Forward { call, to, .. } => Some((*call, to.0)),
        _ => None,
    });
    assert_eq!(to, 2);
    desk.step(Input::Forwarded { call, result: Err(super::super::ForwardFailed { sent: false }) });
    assert_eq!(desk.local_hint().1, id(0));

    let mut desk = desk_of(order[0]);
    (0..3).for_each(|node| desk.cut_off(node));
    desk.put(Level::Quorum);
    assert_eq!(desk.failure().code, ErrorCode::Unavailable);
    desk.ask_with_hops(1, Consistency { level: Some(Level::One), ..Consistency::default() }, put_of("v", Basis::Local));
    assert_eq!(desk.failure().code, ErrorCode::StaleView);
    assert!(desk.is_done());
}

#[test]
fn hints_that_can_not_be_kept_here_fail_the_put_they_were_minted_for() {
    let order = stand_ins(&[0, 1, 2]);
    let mut desk = desk_of(order[0]);
    (0..3).for_each(|node| desk.cut_off(node));
    desk.put(Level::Available);
    let (call, ..) = desk.local_hint();
    assert_eq!(desk.coordinator.own_record(call), None, "it is no record of this node");
    let outcome = WriteOutcome::Refused(Failure::new(ErrorCode::StorageFull, "hints are full"));
    desk.step(Input::LocalWrite { call, outcome });
    let failure = desk.failure();
    assert_eq!((failure.code, failure.maybe_applied), (ErrorCode::StorageFull, false));
    assert!(desk.is_done());
}

#[test]
fn w_nodes_that_can_be_reached_are_enough_and_fewer_are_not() {
    for away in 0_u16..1 << NODES {
        let is_away = |node: u16| away & 1 << node != 0;
        let order = stand_ins(&(0..NODES).filter(|&node| is_away(node)).collect::<Vec<_>>());
        let first_owner = (0..OWNERS).find(|&node| !is_away(node));
        let Some(me) = first_owner.or_else(|| order.first().copied()) else { continue };
        let mut desk = desk_of(me);
        (0..NODES).filter(|&node| is_away(node)).for_each(|node| desk.cut_off(node));
        desk.put(Level::Available);
        let reachable = NODES - away.count_ones() as u16;
        assert_eq!(desk.has_reply(), reachable < 2, "{away:05b}");
        if reachable < 2 {
            let failure = desk.failure();
            assert_eq!((failure.code, failure.need, failure.got), (ErrorCode::Unavailable, 2, 1));
            assert!(!failure.maybe_applied);
        }
    }
}

#[test]
fn hedges_are_spent_only_as_reads_earn_them() {
    let mut desk = desk_of(0);
    for _ in 0..4_000 {
        desk.get(Level::One);
        desk.put(Level::One);
        desk.get(Level::Quorum);
        desk.pass(100);
        desk.effects.clear();
    }
    let counters = desk.coordinator.counters();
    assert!(counters.hedges <= 8_000 / 20 + 512, "{counters:?}");
    assert!(counters.hedges_withheld > 0);
}
