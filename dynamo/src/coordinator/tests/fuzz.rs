//! Any inputs in any order: nothing panics, every request has exactly one reply by its deadline, and nothing is left.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::any, prop_assert, prop_assert_eq, proptest, sample::Index};

use super::{
    sloppy::{NODES, ring},
    *,
};
use crate::layout::View;

/// An answer of any kind, fitting or not.
fn any_result(choice: u8) -> PeerResult {
    match choice % 9 {
        0 => PeerResult::Absent,
        1 => PeerResult::Record(record_of(&written(1, "milk"))),
        2 => PeerResult::Record(record_of(&overwritten(&written(1, "milk"), 2, value("eggs")))),
        3 => PeerResult::Record(Bytes::from_static(b"junk")),
        4 => PeerResult::Digest(digest_of(&written(2, "bread"))),
        5 => PeerResult::Stored,
        6 => PeerResult::Stale(View { prefix: 0, bits: 0, lo: 9, hi: 9 }),
        7 => PeerResult::Corrupt,
        _ => PeerResult::Failed(Failure { maybe_applied: choice > 100, ..Failure::new(ErrorCode::Internal, "") }),
    }
}

fn any_input(kind: u8, choice: u8, call: CallId) -> Input {
    let outcome = |choice: u8| match choice % 6 {
        0 => WriteOutcome::Stored,
        1 => WriteOutcome::Corrupt,
        2 => WriteOutcome::Stale(View { prefix: 0, bits: 0, lo: 9, hi: 9 }),
        3 => WriteOutcome::Refused(Failure::new(ErrorCode::StorageFull, "")),
        _ => WriteOutcome::Minted(minted(&written(u64::from(choice), "v"), choice.is_multiple_of(2))),
    };
    match kind % 7 {
        0 => Input::LocalRead { call, result: any_result(choice) },
        1 | 2 => Input::Peer { call, result: PeerCall::Answered(any_result(choice)) },
        3 => Input::Peer { call, result: if choice < 128 { PeerCall::Lost } else { PeerCall::NotSent } },
        4 => Input::Minted { call, minted: minted(&written(u64::from(choice), "v"), true) },
        5 => Input::LocalWrite { call, outcome: outcome(choice) },
        _ => Input::Forwarded { call, result: Err(super::super::ForwardFailed { sent: choice < 128 }) },
    }
}

fn any_action(choice: u8) -> Action {
    let op_id = OpId { client: 1, sequence: u64::from(choice) };
    match choice % 4 {
        0 | 1 => Action::Get { without_values: choice > 100 },
        2 => put_of("v", Basis::Local),
        _ => Action::Delete { basis: Basis::Local, op_id, seen_clock: 0 },
    }
}

proptest! {
    #[test]
    fn every_request_has_exactly_one_reply_by_its_deadline_whatever_comes(
        me in 0..NODES,
        steps in vec((any::<u8>(), any::<u8>(), any::<Index>(), any::<u64>()), 0..120),
    ) {
        let mut desk = Desk::with(NODES, 3, |config| {
            config.ring = ring_of(ring());
            config.me = Some(NodeIndex(me));
            config.operations_max = 8;
            config.lingering_max = 4;
        });
        let (mut calls, mut waiting) = (vec![CallId(0)], BTreeSet::new());
        for (kind, choice, index, noise) in steps {
            match kind {
                0..80 => {
                    let numbers = [choice / 64, noise as u8 % 4, (noise >> 8) as u8 % 4];
                    let level = (noise >> 24 & 1 == 0).then_some(Level::Available);
                    let consistency = Consistency { level, r: numbers[0], w: numbers[1], n: numbers[2] };
                    let hops = (noise >> 16) as u8 % 2;
                    waiting.insert(desk.ask_with_hops(hops, consistency, any_action(choice)));
                }
                80..90 => desk.step(Input::PeerState { node: NodeIndex(u16::from(choice % 8)), reachable: noise & 1 == 0 }),
                90..110 => desk.pass(noise % BUDGET_MS),
                110..120 => desk.step(any_input(choice, kind, CallId(noise))),
                120.. => {
                    let call = calls[index.index(calls.len())];
                    desk.step(any_input(kind, choice, call));
                }
            }
            for effect in desk.effects.drain(..) {
                match effect {
                    Effect::LocalRead { call, .. } | Effect::Forward { call, .. } => calls.push(call),
                    Effect::LocalWrite { call, .. } | Effect::LocalHint { call, .. } | Effect::Peer { call, .. } => {
                        calls.extend(call);
                    }
                    Effect::WantLayout { epoch } => prop_assert!(epoch > 4, "only what is not known is wanted"),
                    Effect::Reply { request, reply: Reply { receipt, .. } } => {
                        let answered: BTreeSet<_> = receipt.answered.iter().collect();
                        prop_assert_eq!(answered.len(), receipt.answered.len(), "nobody counts twice");
                        let stand_ins = answered.iter().filter(|node| node.0 > 2).count();
                        prop_assert_eq!(stand_ins, usize::from(receipt.stand_ins));
                        prop_assert!(waiting.remove(&request), "{:?} was answered twice or never asked", request);
                    }
                }
            }
            prop_assert_eq!(desk.coordinator.waiting(), waiting.len());
            prop_assert!(desk.coordinator.waiting() <= 8);
            prop_assert!(desk.coordinator.in_flight() - desk.coordinator.waiting() <= 4);
        }
        desk.pass(BUDGET_MS);
        for effect in desk.effects.drain(..) {
            if let Effect::Reply { request, .. } = effect {
                prop_assert!(waiting.remove(&request));
            }
        }
        prop_assert!(waiting.is_empty());
        prop_assert_eq!(desk.coordinator.in_flight(), 0);
    }
}
