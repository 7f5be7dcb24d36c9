//! Operations that are made while a call is under way leave together; one that is made while none is leaves at once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use quorate::{Action, Address, Basis, Bytes, Completer, Consistency, Error, OpId, Operation, Reply};

use crate::support::{Act, Cluster, run};

#[test]
fn a_single_operation_leaves_at_once() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.client().await;
        db.put("k", "v").await.unwrap();
        let began = Instant::now();
        for _ in 0..100 {
            db.get("k").await.unwrap();
        }
        let each = began.elapsed() / 100;
        assert!(each < Duration::from_millis(20), "{each:?} for a single get");
        assert_eq!(db.stats().await.unwrap().calls, 101);
    });
}

#[test]
fn what_gathers_while_a_call_is_under_way_leaves_together() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.client().await;
        cluster.node(0).script(|_| Act::ServeAfter(Duration::from_millis(5)));
        let gets = (0..1000).map(|at| db.get(format!("key-{at}")));
        assert!(join_all(gets).await.iter().all(Result::is_ok));
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        cluster.seen().iter().for_each(|seen| *sizes.entry(seen.call).or_default() += 1);
        assert!(sizes.len() <= 40, "{} calls for 1000 gets", sizes.len());
        assert_eq!(sizes.values().sum::<usize>(), 1000);
    });
}

#[test]
fn a_batch_has_at_most_256_operations_and_4_mib() {
    let cluster = Cluster::start(1);
    run(async {
        // How much goes into a call is shown here, not how fast: on a busy machine 24 MB take a while.
        let unhurried = cluster.builder().in_flight(20_000).timeout(Duration::from_secs(25));
        let db = unhurried.connect().await.unwrap();
        cluster.node(0).script(|_| Act::ServeAfter(Duration::from_millis(20)));
        let keys: Vec<String> = (0..5000).map(|at| format!("key-{at}")).collect();
        assert!(db.get_many(&keys).await.iter().all(Result::is_ok));
        let value = Bytes::from(vec![7; 600_000]);
        let entries = (0..40).map(|at| (format!("large-{at}"), value.clone()));
        assert!(db.put_many(entries).await.iter().all(Result::is_ok));
        let mut calls: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for seen in cluster.seen() {
            let call = calls.entry(seen.call).or_default();
            call.0 += 1;
            if let Action::Put { value, .. } = &seen.operation.action {
                call.1 += value.len();
            }
        }
        assert!(calls.values().all(|(operations, bytes)| *operations <= 256 && *bytes <= 4 << 20), "{calls:?}");
        assert!(calls.values().any(|(operations, _)| *operations > 200), "{calls:?}");
        // Large ones share a call too, as far as they may be under way together.
        assert!(calls.values().any(|(_, bytes)| *bytes > 1 << 20), "{calls:?}");
    });
}

#[test]
fn values_that_do_not_fit_into_one_reply_are_asked_for_again() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.client().await;
        let value = Bytes::from(vec![7; 1 << 20]);
        let keys: Vec<String> = (0..12).map(|at| format!("key-{at}")).collect();
        assert!(db.put_many(keys.iter().map(|key| (key, value.clone()))).await.iter().all(Result::is_ok));
        cluster.node(0).script(|_| Act::ServeAfter(Duration::from_millis(20)));
        let found = db.get_many(&keys).await;
        for found in found {
            assert_eq!(found.unwrap().unwrap().into_value().unwrap(), value);
        }
    });
}

#[test]
fn no_more_than_the_limit_are_under_way() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.builder().in_flight(100).connect().await.unwrap();
        let most = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&most);
        cluster.node(0).script(move |operations| {
            seen.fetch_max(operations.len(), Ordering::SeqCst);
            Act::ServeAfter(Duration::from_millis(3))
        });
        let keys: Vec<String> = (0..2000).map(|at| format!("key-{at}")).collect();
        assert!(db.get_many(&keys).await.iter().all(Result::is_ok));
        assert!(most.load(Ordering::SeqCst) <= 100);
        assert!(most.load(Ordering::SeqCst) > 10);
    });
}

#[test]
fn what_waits_is_bounded_too() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.builder().in_flight(10).waiting(50).connect().await.unwrap();
        cluster.node(0).script(|_| Act::ServeAfter(Duration::from_millis(50)));
        let results = join_all((0..200).map(|at| db.get(format!("key-{at}")))).await;
        let refused = results.iter().filter(|result| matches!(result, Err(Error::Overloaded(_)))).count();
        assert_eq!(refused, 150);
        assert!(results.iter().filter(|result| result.is_ok()).count() == 50);
        assert!(db.get("later").await.is_ok(), "places are free again");
    });
}

#[test]
fn many_threads_share_a_client() {
    let cluster = Cluster::start(3);
    let db = run(cluster.builder().io_threads(3).connect()).unwrap();
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let db = db.clone();
            std::thread::spawn(move || {
                run(async move {
                    for at in 0..50 {
                        let (key, value) = (format!("{thread}-{at}"), format!("value {at} of {thread}"));
                        db.put(&key, &value).await.unwrap();
                        let found = db.get(&key).await.unwrap().unwrap();
                        assert_eq!(found.value().unwrap(), value.as_bytes());
                    }
                });
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let stats = run(db.stats()).unwrap();
    assert_eq!((stats.succeeded, stats.failed, stats.in_flight, stats.waiting), (800, 0, 0, 0));
}

#[test]
fn what_was_dropped_before_it_was_sent_is_not_sent() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.client().await;
        cluster.node(0).script(|_| Act::ServeAfter(Duration::from_millis(50)));
        let first = db.put("first", "v");
        let mut first = std::pin::pin!(first);
        let poll = |future: std::pin::Pin<&mut quorate::Put>| {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(future.poll(&mut context).is_pending());
        };
        poll(first.as_mut());
        while cluster.seen().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // One call is under way, so these gather, and are dropped before they leave; unless something keeps this thread from it.
        for _ in 0..20 {
            let mut second = Box::pin(db.put("second", "v"));
            poll(second.as_mut());
            drop(second);
        }
        first.await.unwrap();
        db.put("third", "v").await.unwrap();
        let keys: Vec<_> = cluster.seen().into_iter().map(|seen| seen.operation.address.key).collect();
        let sent = keys.iter().filter(|key| key[..] == b"second"[..]).count();
        assert!(sent < 20, "all were sent");
        assert_eq!(keys.len(), 2 + sent);
        assert_eq!(db.stats().await.unwrap().cancelled as usize, 20 - sent);
    });
}

/// Counts what it is told.
#[derive(Default)]
struct Told(AtomicUsize);

impl Completer for Told {
    fn complete(&self, token: u64, result: Result<Reply, Error>) {
        assert!(result.is_ok());
        self.0.fetch_add(token as usize, Ordering::SeqCst);
    }
}

fn get(key: &'static str) -> Operation {
    Operation {
        address: Address::new(Bytes::from_static(b"default"), Bytes::from_static(key.as_bytes())),
        consistency: Consistency::default(),
        action: Action::Get { without_values: false },
    }
}

#[test]
fn the_core_tells_completers_and_a_cancelled_operation_tells_nobody() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.client().await;
        cluster.node(0).script(|_| Act::ServeAfter(Duration::from_millis(100)));
        let told = Arc::new(Told::default());
        let deadline = Instant::now() + Duration::from_secs(2);
        let submit = |token| db.submit(get("k"), deadline, token, told.clone()).unwrap();
        submit(1);
        let cancelled: OpId = submit(10);
        submit(100);
        db.cancel(cancelled);
        db.get("later").await.unwrap();
        db.get("later still").await.unwrap();
        assert_eq!(told.0.load(Ordering::SeqCst), 101);
    });
}

#[test]
fn the_core_gives_every_write_an_id_of_its_own() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.client().await;
        let told = Arc::new(Told::default());
        let put = Operation {
            action: Action::Put {
                value: Bytes::from_static(b"v"),
                hash: None,
                basis: Basis::Local,
                op_id: OpId::NONE,
                seen_clock: 0,
                ttl_ms: 0,
            },
            ..get("k")
        };
        let deadline = Instant::now() + Duration::from_secs(2);
        let first = db.submit(put.clone(), deadline, 1, told.clone()).unwrap();
        let second = db.submit(put, deadline, 1, told.clone()).unwrap();
        assert!(first != second && first.client == second.client && first.client != 0);
        db.get("k").await.unwrap();
        let ids = cluster.seen().into_iter().filter_map(|seen| match seen.operation.action {
            Action::Put { op_id, .. } => Some(op_id),
            Action::Get { .. } | Action::Delete { .. } => None,
        });
        assert_eq!(ids.collect::<Vec<_>>(), [first, second]);
    });
}

/// Panics when it is told anything.
struct Panicking;

impl Completer for Panicking {
    fn complete(&self, _token: u64, _result: Result<Reply, Error>) {
        panic!("on purpose");
    }
}

#[test]
fn a_completer_that_panics_harms_only_itself() {
    let cluster = Cluster::start(1);
    run(async {
        let db = cluster.client().await;
        cluster.node(0).script(|_| Act::ServeAfter(Duration::from_millis(10)));
        let deadline = Instant::now() + Duration::from_secs(2);
        let told = Arc::new(Told::default());
        db.submit(get("k"), deadline, 1, told.clone()).unwrap();
        db.submit(get("k"), deadline, 1, Arc::new(Panicking)).unwrap();
        db.submit(get("k"), deadline, 1, told.clone()).unwrap();
        db.get("later").await.unwrap();
        assert_eq!(told.0.load(Ordering::SeqCst), 2);
    });
}
