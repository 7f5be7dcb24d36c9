//! The table of retries, row by row.

use std::time::Duration;

use dynamo::operation::{ErrorCode, Failure};

use super::{Budget, Next, Trouble, next, pause};
use crate::{
    random::Random,
    routing::Kind::{Read, Write},
};

fn refused(code: ErrorCode) -> Trouble {
    Trouble::Refused(Failure::new(code, "refused"))
}

fn is_other(next: Next) -> bool {
    matches!(next, Next::Other { .. })
}

fn is_same(next: Next) -> bool {
    matches!(next, Next::Same { .. })
}

#[test]
fn what_was_not_sent_goes_elsewhere_for_nothing() {
    assert_eq!(next(Read, &Trouble::NotSent, 0), Next::Other { cost: 0 });
    assert_eq!(next(Write, &Trouble::NotSent, 9), Next::Other { cost: 0 });
}

#[test]
fn what_a_node_that_shuts_down_refused_goes_elsewhere_for_nothing() {
    let undone = refused(ErrorCode::ShuttingDown);
    assert_eq!(next(Write, &undone, 0), Next::Other { cost: 0 });
    let Trouble::Refused(failure) = undone else { unreachable!() };
    let doubtful = Trouble::Refused(Failure { maybe_applied: true, ..failure });
    assert!(is_other(next(Write, &doubtful, 0)));
    assert_ne!(next(Write, &doubtful, 0), Next::Other { cost: 0 });
}

#[test]
fn what_is_unclear_goes_to_the_same_node_once_if_it_is_a_write() {
    for unclear in [Trouble::Late, Trouble::Broken] {
        assert!(is_other(next(Read, &unclear, 0)));
        assert!(is_same(next(Write, &unclear, 0)));
        assert!(is_other(next(Write, &unclear, 1)));
    }
}

#[test]
fn a_quorum_that_was_late_is_asked_again_once() {
    let late = refused(ErrorCode::QuorumTimeout);
    assert!(is_other(next(Read, &late, 0)));
    assert!(is_same(next(Write, &late, 0)));
    assert_eq!(next(Write, &late, 1), Next::GiveUp);
}

#[test]
fn refusals_without_effect_go_elsewhere() {
    for code in [
        ErrorCode::Overloaded,
        ErrorCode::Unavailable,
        ErrorCode::StaleView,
        ErrorCode::ShuttingDown,
        ErrorCode::StorageFull,
        ErrorCode::Corrupt,
    ] {
        assert!(is_other(next(Read, &refused(code), 0)), "{code:?}");
        assert!(is_other(next(Write, &refused(code), 0)), "{code:?}");
    }
}

#[test]
fn what_a_node_calls_final_is_final() {
    for code in [ErrorCode::InvalidRequest, ErrorCode::TooLarge, ErrorCode::TooManySiblings, ErrorCode::Forbidden] {
        assert_eq!(next(Write, &refused(code), 0), Next::GiveUp, "{code:?}");
    }
    let failure = Failure { retryable: false, ..Failure::new(ErrorCode::Unavailable, "not even later") };
    assert_eq!(next(Read, &Trouble::Refused(failure), 0), Next::GiveUp);
}

#[test]
fn values_that_did_not_fit_are_asked_for_alone() {
    let failure = Failure { retryable: true, ..Failure::new(ErrorCode::TooLarge, "in a smaller batch") };
    assert_eq!(next(Read, &Trouble::Refused(failure.clone()), 0), Next::Alone);
    assert_eq!(next(Write, &Trouble::Refused(failure), 0), Next::GiveUp);
}

#[test]
fn pauses_grow_and_are_drawn() {
    let mut random = Random::new(1);
    let mut longest =
        |trouble: &Trouble, attempt| (0..1000).map(|_| pause(trouble, attempt, &mut random)).max().unwrap_or_default();
    assert!(longest(&Trouble::Late, 0) <= Duration::from_millis(10));
    assert!(longest(&Trouble::Late, 3) > Duration::from_millis(60));
    assert!(longest(&Trouble::Late, 60) <= Duration::from_secs(1));
    let failure = Failure { retry_after_ms: 300, ..Failure::new(ErrorCode::Overloaded, "busy") };
    let busy = Trouble::Refused(failure);
    let mut random = Random::new(2);
    let pauses: Vec<Duration> = (0..1000).map(|_| pause(&busy, 0, &mut random)).collect();
    assert!(pauses.iter().all(|pause| (300..=400).contains(&pause.as_millis())));
    assert!(pauses.iter().min() != pauses.iter().max());
    let failure = Failure { retry_after_ms: u32::MAX, ..Failure::new(ErrorCode::Overloaded, "for ever") };
    assert!(pause(&Trouble::Refused(failure), 0, &mut random) <= Duration::from_millis(1100));
}

#[test]
fn a_budget_is_spent_by_retries_and_refilled_by_successes() {
    let mut budget = Budget::full(10);
    let mut retries = 0;
    while budget.spend(14) {
        retries += 1;
    }
    assert_eq!(retries, 20, "twice everything in flight");
    assert!(!budget.spend(14));
    (0..14).for_each(|_| budget.refund());
    assert!(budget.spend(14));
    (0..10_000).for_each(|_| budget.refund());
    assert_eq!(budget.tokens(), 280);
}
