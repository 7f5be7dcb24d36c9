//! One elector by itself: what it promises, what it accepts, what it refuses, and what survives its bytes.

use std::sync::Arc;

use bytes::Bytes;
use dynamo::{
    acceptor::{AcceptedLayout, Acceptor, Ballot, BallotAnswer, BallotError, StateError},
    ident::NodeId,
    layout::{Layout, MemberState, succession::SuccessionError},
    proposer::Proposer,
    tick::Tick,
};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::world::{Plans, first};

const ME: NodeId = NodeId(1);

fn ballot(round: u64) -> Ballot {
    Ballot { round, proposer: NodeId(2) }
}

fn bytes(layout: &Layout) -> Bytes {
    Bytes::from(layout.encode())
}

#[test]
fn an_elector_keeps_its_promise_and_tells_what_it_accepted() {
    let (one, mut plans) = (first(3), Plans::default());
    let (a, b) = (bytes(&plans.next(&one, 1)), bytes(&plans.next(&one, 2)));
    let mut elector = Acceptor::new(1);
    assert_eq!(elector.prepare(ME, &one, 2, ballot(5)), BallotAnswer::Promised(None));
    assert_eq!(elector.prepare(ME, &one, 2, ballot(5)), BallotAnswer::Promised(None), "asked twice, it promises twice");
    assert_eq!(elector.prepare(ME, &one, 2, ballot(4)), BallotAnswer::Refused(ballot(5)));
    assert_eq!(elector.accept(ME, &one, 2, ballot(4), &a), BallotAnswer::Refused(ballot(5)));
    assert_eq!(elector.accept(ME, &one, 2, ballot(5), &a), BallotAnswer::Accepted);
    let accepted = Some(AcceptedLayout { ballot: ballot(5), layout: a });
    assert_eq!(elector.prepare(ME, &one, 2, ballot(6)), BallotAnswer::Promised(accepted));
    assert_eq!(elector.accept(ME, &one, 2, ballot(7), &b), BallotAnswer::Accepted);
    let mut again = Acceptor::restore(1, Some(&elector.encode()));
    assert_eq!(again, elector);
    assert_eq!(again.prepare(ME, &one, 2, ballot(6)), BallotAnswer::Refused(ballot(7)));
}

#[test]
fn an_elector_votes_about_the_next_epoch_alone_and_only_if_the_layout_names_it() {
    let (one, mut plans) = (first(3), Plans::default());
    let two = plans.next(&one, 1);
    let mut elector = Acceptor::new(1);
    assert_eq!(elector.prepare(ME, &one, 1, ballot(5)), BallotAnswer::Decided(1));
    assert_eq!(elector.prepare(ME, &one, 3, ballot(5)), BallotAnswer::Behind(1));
    let stranger = BallotAnswer::Failed(BallotError::NoElector);
    assert_eq!(elector.prepare(NodeId(77), &one, 2, ballot(5)), stranger);
    assert_eq!(elector.prepare(ME, &one, 2, ballot(5)), BallotAnswer::Promised(None));
    elector.decided(2);
    assert_eq!(elector.prepare(ME, &two, 2, ballot(6)), BallotAnswer::Decided(2));
    assert_eq!(elector.prepare(ME, &two, 3, ballot(1)), BallotAnswer::Promised(None), "nothing is carried over");
}

#[test]
fn an_elector_accepts_only_what_may_follow_the_layout() {
    let (one, mut plans) = (first(4), Plans::default());
    let good = plans.next(&one, 1);
    let mut elector = Acceptor::new(1);
    let mut refused = |change: &dyn Fn(&mut Layout)| {
        let mut layout = (*good).clone();
        change(&mut layout);
        match elector.accept(ME, &one, 2, ballot(1), &bytes(&layout)) {
            BallotAnswer::Failed(BallotError::Succession(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&|layout| layout.cluster += 1), SuccessionError::Parent);
    assert_eq!(refused(&|layout| layout.parent_hash[3] ^= 1), SuccessionError::Parent);
    assert_eq!(refused(&|layout| layout.generation += 1), SuccessionError::Parent);
    assert!(matches!(refused(&|layout| layout.members[0].id = NodeId(99)), SuccessionError::Place(_)));
    assert_eq!(
        refused(&|layout| layout.spans = dynamo::layout::spans::Spans::settled(1)),
        SuccessionError::Span(changed_partition(&one, &good))
    );
    assert!(matches!(
        elector.accept(ME, &one, 2, ballot(1), &Bytes::from_static(b"no layout")),
        BallotAnswer::Failed(BallotError::Bytes(_))
    ));
    assert_eq!(elector, Acceptor::new(1), "nothing of it was noted");
}

fn changed_partition(old: &Layout, new: &Layout) -> u32 {
    let same = |partition: &u32| {
        let mut before: Vec<_> = old.owners(*partition).collect();
        let mut after: Vec<_> = new.owners(*partition).collect();
        before.sort_unstable();
        after.sort_unstable();
        before == after
    };
    (0..old.partitions()).find(|partition| !same(partition)).expect("something moves")
}

#[test]
fn a_layout_that_keeps_no_elector_although_some_remain_is_refused() {
    let (one, mut plans) = (first(5), Plans::default());
    let mut two = (*plans.next(&one, 1)).clone();
    assert_eq!(two.members[5].state, MemberState::Active);
    two.electors = vec![dynamo::layout::NodeIndex(5)];
    assert_eq!(two.check(), Ok(()));
    assert_eq!(two.check_after(&one), Err(SuccessionError::Electors));
    let mut effects = Vec::new();
    let proposer = Proposer::new(Tick(0), Tick(9), ME, Arc::new(one), &two, 0, &mut effects);
    assert_eq!(proposer.err(), Some(SuccessionError::Electors));
}

#[test]
fn an_elector_whose_promises_are_damaged_sits_the_epoch_out() {
    let (one, mut plans) = (first(3), Plans::default());
    let mut elector = Acceptor::new(1);
    elector.accept(ME, &one, 2, ballot(5), &bytes(&plans.next(&one, 1)));
    let mut written = elector.encode();
    written[40] ^= 1;
    let mut again = Acceptor::restore(1, Some(&written));
    let forgetful = BallotAnswer::Failed(BallotError::Forgetful);
    assert_eq!(again.prepare(ME, &one, 2, ballot(9)), forgetful);
    let mut twice = Acceptor::restore(1, Some(&again.encode()));
    assert_eq!(twice.prepare(ME, &one, 2, ballot(9)), forgetful);
    twice.decided(2);
    let two = plans.next(&one, 1);
    assert_eq!(twice.prepare(ME, &two, 3, ballot(1)), BallotAnswer::Promised(None));
}

proptest! {
    #[test]
    fn any_bytes_are_an_electors_state_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        prop_assert!(Acceptor::decode(&bytes).is_err());
    }

    #[test]
    fn a_changed_bit_never_goes_unnoticed(round in 1..9_u64, at in any::<usize>(), bit in 0..8_u8, cut in any::<usize>()) {
        let mut elector = Acceptor::new(1);
        elector.prepare(ME, &first(3), 2, ballot(round));
        let written = elector.encode();
        prop_assert_eq!(Acceptor::decode(&written), Ok(elector));
        let mut damaged = written.clone();
        let at = at % damaged.len();
        damaged[at] ^= 1 << bit;
        let expected = if at == 0 { StateError::Format(damaged[0]) } else { StateError::Damaged };
        prop_assert_eq!(Acceptor::decode(&damaged), Err(expected));
        prop_assert!(Acceptor::decode(&written[..cut % written.len()]).is_err());
    }
}
