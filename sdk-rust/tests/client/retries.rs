//! The retry matrix over real connections: where an operation goes after it failed, under which id, and what the error says
//! when it goes nowhere.

use std::time::{Duration, Instant};

use dynamo::operation::{Action, ErrorCode, Failure};
use quorate::{Error, OpId};

use crate::support::{Act, Cluster, Seen, run};

fn op_id(seen: &Seen) -> OpId {
    match seen.operation.action {
        Action::Put { op_id, .. } | Action::Delete { op_id, .. } => op_id,
        Action::Get { .. } => OpId::NONE,
    }
}

fn fail(code: ErrorCode) -> Act {
    Act::Fail(Failure::new(code, "told to fail"))
}

#[test]
fn a_node_that_is_gone_is_left_for_the_next_owner() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.client().await;
        let owners = cluster.owners("k");
        cluster.node(owners[0]).kill();
        let began = Instant::now();
        db.put("k", "v").await.unwrap();
        assert!(db.get("k").await.unwrap().is_some());
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        assert_eq!(cluster.node(owners[1]).seen().iter().filter(|seen| !op_id(seen).is_none()).count(), 1);
    });
}

#[test]
fn a_write_whose_answer_was_lost_is_sent_again_under_its_id_and_applied_once() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.client().await;
        let owners = cluster.owners("k");
        cluster.node(owners[0]).first([Act::ServeAndHangUp]);
        let stored = db.put("k", "v").await.unwrap();
        assert_eq!((cluster.map.writes(), stored.siblings), (1, 1));
        let seen = cluster.seen();
        assert_eq!(seen.len(), 2);
        assert_eq!(op_id(&seen[0]), op_id(&seen[1]));
        assert!(!op_id(&seen[0]).is_none());
    });
}

#[test]
fn a_write_that_hangs_goes_to_its_coordinator_again_and_then_to_the_next() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.builder().attempt_timeout(Duration::from_millis(60)).connect().await.unwrap();
        let owners = cluster.owners("k");
        cluster.node(owners[0]).script(|_| Act::Hang);
        db.put("k", "v").await.unwrap();
        let first = cluster.node(owners[0]).seen();
        let second = cluster.node(owners[1]).seen();
        assert_eq!((first.len(), second.len()), (2, 1));
        assert!(first.iter().chain(&second).all(|seen| op_id(seen) == op_id(&first[0])));
        assert!(first[0].budget_ms <= 60 && first[0].budget_ms > 0);
    });
}

#[test]
fn a_read_that_hangs_goes_elsewhere_at_once() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.builder().attempt_timeout(Duration::from_millis(60)).connect().await.unwrap();
        db.put("k", "v").await.unwrap();
        let first = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        for node in &cluster.nodes {
            let first = first.clone();
            node.script(move |_| match first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                true => Act::Hang,
                false => Act::Serve,
            });
        }
        assert!(db.get("k").await.unwrap().is_some());
        let asked: Vec<usize> = cluster.nodes.iter().map(|node| node.seen().len()).collect();
        assert_eq!(asked.iter().sum::<usize>(), 3, "one put, one get that hung, one that did not: {asked:?}");
        assert!(asked.iter().all(|asked| *asked <= 2));
    });
}

#[test]
fn what_is_refused_without_effect_is_taken_to_the_next_owner() {
    for code in [
        ErrorCode::Overloaded,
        ErrorCode::Unavailable,
        ErrorCode::StaleView,
        ErrorCode::ShuttingDown,
        ErrorCode::StorageFull,
        ErrorCode::Corrupt,
    ] {
        let cluster = Cluster::start(3);
        run(async {
            let db = cluster.client().await;
            let owners = cluster.owners("k");
            cluster.node(owners[0]).script(move |_| fail(code));
            db.put("k", "v").await.unwrap_or_else(|error| panic!("{code:?}: {error}"));
            assert_eq!(cluster.node(owners[1]).seen().len(), 1, "{code:?}");
            let refused = Act::Refuse(Failure::new(code, "told to refuse the batch"));
            cluster.node(owners[0]).script(move |_| refused.clone());
            db.put("k", "w").await.unwrap_or_else(|error| panic!("{code:?}: {error}"));
        });
    }
}

#[test]
fn what_is_wrong_is_not_tried_again() {
    for code in [ErrorCode::InvalidRequest, ErrorCode::TooManySiblings, ErrorCode::Forbidden, ErrorCode::Internal] {
        let cluster = Cluster::start(3);
        run(async {
            let db = cluster.client().await;
            cluster.nodes.iter().for_each(|node| node.script(move |_| fail(code)));
            let error = db.put("k", "v").await.unwrap_err();
            assert_eq!((error.attempts(), error.maybe_applied(), error.retryable()), (1, false, false), "{error}");
            assert_eq!(cluster.seen().len(), 1);
            let owner = format!("n{}", cluster.owners("k")[0]);
            assert_eq!(error.node(), Some(owner.as_str()));
        });
    }
}

#[test]
fn an_error_says_that_a_write_may_have_been_applied() {
    let cluster = Cluster::start(3);
    run(async {
        let builder = cluster.builder().attempt_timeout(Duration::from_millis(40));
        let db = builder.connect().await.unwrap();
        cluster.nodes.iter().for_each(|node| node.script(|_| Act::Hang));
        let error = db.put("k", "v").await.unwrap_err();
        assert!(matches!(error, Error::Timeout(_)), "{error}");
        assert!(error.maybe_applied() && error.retryable());
        assert_eq!(error.attempts(), 3);
        let error = db.get("k").await.unwrap_err();
        assert!(!error.maybe_applied(), "a read applies nothing: {error}");
    });
}

#[test]
fn an_earlier_attempt_that_may_have_stored_something_is_not_forgotten() {
    let cluster = Cluster::start(1);
    run(async {
        let builder = cluster.builder().attempt_timeout(Duration::from_millis(40));
        let db = builder.connect().await.unwrap();
        cluster.node(0).first([Act::Hang, fail(ErrorCode::InvalidRequest)]);
        let error = db.put("k", "v").await.unwrap_err();
        assert!(matches!(error, Error::InvalidRequest(_)) && error.maybe_applied(), "{error}");
    });
}

#[test]
fn values_that_were_damaged_on_the_way_are_read_elsewhere() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.client().await;
        db.put("k", "v").await.unwrap();
        cluster.node(0).script(|_| Act::Damage);
        cluster.node(1).script(|_| Act::Damage);
        for _ in 0..20 {
            let found = db.get("k").await.unwrap().unwrap();
            assert_eq!(&found.value().unwrap()[..], b"v");
        }
        cluster.node(2).script(|_| Act::Damage);
        let error = db.get("k").await.unwrap_err();
        assert!(matches!(error, Error::Corrupt(_)), "{error}");
    });
}

#[test]
fn no_call_outlives_its_timeout() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.client().await;
        for act in [Act::Hang, Act::HangUp, fail(ErrorCode::Overloaded), fail(ErrorCode::QuorumTimeout)] {
            cluster.nodes.iter().for_each(|node| {
                let act = act.clone();
                node.script(move |_| act.clone());
            });
            let timeout = Duration::from_millis(150);
            let began = Instant::now();
            assert!(db.put("k", "v").timeout(timeout).await.is_err());
            assert!(db.get("k").timeout(timeout).await.is_err());
            assert!(began.elapsed() < 2 * timeout + Duration::from_millis(150), "{act:?}: {:?}", began.elapsed());
        }
    });
}

#[test]
fn nothing_listens_any_more_and_the_error_says_so() {
    let cluster = Cluster::start(3);
    run(async {
        let db = cluster.client().await;
        cluster.nodes.iter().for_each(|node| node.kill());
        let error = db.put("k", "v").timeout(Duration::from_millis(300)).await.unwrap_err();
        assert!(matches!(error, Error::Connection(_)), "{error}");
        assert!(!error.maybe_applied() && error.retryable());
        assert_eq!(error.attempts(), 0);
    });
}

#[test]
fn a_node_that_returns_is_used_again() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.client().await;
        db.put("k", "v").await.unwrap();
        cluster.node(0).kill();
        assert!(db.get("k").timeout(Duration::from_millis(100)).await.is_err());
        cluster.node(0).restart();
        let began = Instant::now();
        assert!(db.get("k").await.unwrap().is_some());
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    });
}

#[test]
fn a_node_that_stopped_answering_is_avoided_until_it_answers() {
    let cluster = Cluster::start(3);
    run(async {
        let builder = cluster.builder().attempt_timeout(Duration::from_millis(30));
        let db = builder.connect().await.unwrap();
        let owners = cluster.owners("k");
        cluster.node(owners[0]).script(|_| Act::Hang);
        for _ in 0..4 {
            db.put("k", "v").await.unwrap();
        }
        let wasted = cluster.node(owners[0]).seen().len();
        for _ in 0..20 {
            db.put("k", "v").await.unwrap();
        }
        assert_eq!(cluster.node(owners[0]).seen().len(), wasted, "its breaker is open");
        let stats = db.stats().await.unwrap();
        assert!(stats.disconnects >= 1 && stats.retries > 0);
    });
}

#[test]
fn retries_end_when_their_budget_is_spent() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.builder().in_flight(10).connect().await.unwrap();
        cluster.node(0).script(|_| fail(ErrorCode::Unavailable));
        let keys: Vec<String> = (0..2000).map(|at| format!("key-{at}")).collect();
        let results = db.get_many(&keys).await;
        assert!(results.iter().all(|result| matches!(result, Err(Error::Unavailable(_)))));
        let sent = cluster.seen().len();
        assert!((2001..2100).contains(&sent), "{sent} were sent for 2000 operations");
    });
}
