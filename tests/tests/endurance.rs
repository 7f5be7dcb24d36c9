//! The client at its limits, against real nodes: large values, ten thousand calls at once, nodes that stand still, closing and leaving in the
//! middle, clients by the thousand. Every call ends by its deadline with the right error, and nothing is left behind. Python and Node
//! have the same tests beside their packages.

use std::{
    fs,
    future::Future,
    sync::Mutex,
    time::{Duration, Instant},
};

use quorate::{Client, Error, Level};
use quorate_tests::cluster::Cluster;

/// How long one test may take: a test that hangs must fail.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Calls at the same time: ten times what a client lets under way at once, so that most of them wait in its queue.
const CALLS: usize = 10_000;

/// How late a call may end: timers of a machine whose two cores do other things too, and ten thousand results that are delivered at once.
const LATE_MAX: Duration = Duration::from_millis(750);

/// Tests here count this process's threads and descriptors, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

fn run<T>(scenario: impl Future<Output = T>) -> T {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(TEST_TIMEOUT, scenario).await.expect("the test ends in time") })
}

async fn client(cluster: &Cluster, timeout: Duration) -> Client {
    let builder = Client::builder().endpoints(&cluster.endpoints()).timeout(timeout);
    builder.connect().await.expect("the client connects")
}

/// Bytes that no other length and no shift of themselves could be taken for.
fn noise(length: usize) -> Vec<u8> {
    let mut state = length as u64 | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// Entries of a folder in `/proc/self`: this process's threads (`task`) or descriptors (`fd`).
fn own(what: &str) -> usize {
    fs::read_dir(format!("/proc/self/{what}")).expect("a process sees itself").count()
}

#[test]
fn large_values_come_back_as_they_were() {
    run(async {
        let cluster = Cluster::start(3);
        let db = client(&cluster, Duration::from_secs(20)).await;
        // 16,385 is one more than what a record of one page holds; 1 MiB is the largest value there is.
        for length in [0, 1, 16_384, 16_385, 256 << 10, 1 << 20] {
            let value = noise(length);
            db.put(length.to_string(), value.clone()).level(Level::All).await.expect("it is stored");
            for level in [Level::One, Level::Quorum, Level::All] {
                let found = db.get(length.to_string()).level(level).await.expect("it is read").expect("it is there");
                assert!(*found.value().expect("one value") == value, "{length} bytes came back changed at {level:?}");
            }
        }
        let lengths: Vec<usize> = (0..40).map(|at| 16_385 + at * 26_000).collect();
        for stored in db.put_many(lengths.iter().map(|length| (format!("m{length}"), noise(*length)))).await {
            stored.expect("one of many is stored");
        }
        let found = db.get_many(lengths.iter().map(|length| format!("m{length}"))).await;
        for (length, found) in lengths.iter().zip(found) {
            let found = found.expect("one of many is read").expect("it is there");
            assert!(*found.value().expect("one value") == noise(*length), "{length} bytes of many came back changed");
        }
        let error = db.put("too large", noise((1 << 20) + 1)).await.expect_err("it is above the limit");
        assert!(matches!(error, Error::TooLarge(_)) && !error.maybe_applied() && !error.retryable(), "{error:?}");
        db.close().await;
    });
}

#[test]
fn ten_thousand_calls_at_once_are_all_answered() {
    run(async {
        let cluster = Cluster::start(3);
        let db = client(&cluster, Duration::from_secs(30)).await;
        let puts = (0..CALLS).map(|at| db.put(format!("k{at}"), at.to_string()).level(Level::Quorum).into_future());
        for stored in join(puts).await {
            stored.expect("it is stored");
        }
        let gets = (0..CALLS).map(|at| db.get(format!("k{at}")).level(Level::Quorum).into_future());
        for (at, found) in join(gets).await.into_iter().enumerate() {
            let found = found.expect("it is read").expect("it is there");
            assert_eq!(found.value().expect("one value"), at.to_string().as_bytes());
        }
        assert_is_idle(&db).await;
        db.close().await;
    });
}

#[test]
fn ten_thousand_calls_to_nodes_that_stand_still_end_by_their_deadline() {
    run(async {
        let cluster = Cluster::start(3);
        let timeout = Duration::from_secs(1);
        let db = client(&cluster, timeout).await;
        db.put("k", "v").level(Level::All).await.expect("it is stored");
        (0..3).for_each(|node| cluster.pause(node));
        let calls = (0..CALLS).map(|at| {
            let db = db.clone();
            async move {
                let started = Instant::now();
                let error = match at % 2 {
                    0 => db.put(format!("k{at}"), "v").level(Level::Quorum).await.err(),
                    _ => db.get("k").level(Level::Quorum).await.err(),
                };
                (started.elapsed(), error.expect("nobody answers"), at % 2 == 0)
            }
        });
        let mut latest = Duration::ZERO;
        let mut unclear = 0;
        for (elapsed, error, is_write) in join(calls).await {
            assert!(matches!(error, Error::Timeout(_) | Error::Connection(_) | Error::Unavailable(_)), "{error:?}");
            assert!(is_write || !error.maybe_applied(), "a read was applied: {error:?}");
            unclear += usize::from(error.maybe_applied());
            latest = latest.max(elapsed);
        }
        println!("the latest of {CALLS} calls ended after {latest:?} of {timeout:?}; {unclear} writes are unclear");
        assert!(latest <= timeout + LATE_MAX, "a call of {timeout:?} took {latest:?}");
        assert!(unclear > 0, "what was sent to a node that stands still may have been applied");
        (0..3).for_each(|node| cluster.resume(node));
        let started = Instant::now();
        while let Err(error) = db.get("k").level(Level::Quorum).await {
            assert!(started.elapsed() < Duration::from_secs(20), "it does not come back: {error:?}");
        }
        db.close().await;
    });
}

#[test]
fn closing_in_the_middle_ends_every_call() {
    run(async {
        let cluster = Cluster::start(3);
        let threads = own("task");
        let timeout = Duration::from_millis(800);
        for is_still in [false, true] {
            let db = client(&cluster, timeout).await;
            db.put("k", "v").await.expect("it is stored");
            if is_still {
                (0..3).for_each(|node| cluster.pause(node));
            }
            let calls: Vec<_> = (0..1000).map(|at| tokio::spawn(db.put(format!("k{at}"), "v").into_future())).collect();
            tokio::task::yield_now().await;
            let started = Instant::now();
            db.close().await;
            assert!(started.elapsed() <= timeout + LATE_MAX, "close took {:?}", started.elapsed());
            let mut ended = [0, 0];
            for call in calls {
                match call.await.expect("a call does not panic") {
                    Ok(_) => ended[0] += 1,
                    Err(Error::ClientClosed(_) | Error::Timeout(_) | Error::Connection(_) | Error::Unavailable(_)) => {
                        ended[1] += 1;
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            println!("closed with nodes {}: {ended:?} succeeded and failed", if is_still { "still" } else { "alive" });
            assert!(matches!(db.get("k").await, Err(Error::ClientClosed(_))), "a closed client takes nothing");
            (0..3).for_each(|node| cluster.resume(node));
        }
        returns("task", threads);
    });
}

#[test]
fn calls_that_are_left_in_the_middle_leave_nothing() {
    run(async {
        let cluster = Cluster::start(3);
        let db = client(&cluster, Duration::from_secs(10)).await;
        for round in 0..20usize {
            let calls: Vec<_> = (0..2000)
                .map(|at| tokio::spawn(db.put(format!("k{}", at % 50), "v").level(Level::Quorum).into_future()))
                .collect();
            // Now before anything is sent, now while it is under way.
            tokio::time::sleep(Duration::from_micros(500 * round as u64)).await;
            calls.iter().for_each(tokio::task::JoinHandle::abort);
        }
        assert_is_idle(&db).await;
        let stats = db.stats().await.expect("a client knows itself");
        println!("{} succeeded, {} were cancelled", stats.succeeded, stats.cancelled);
        assert!(stats.cancelled > 100, "hardly a call was left while it was under way");
        db.put("k", "after").await.expect("the client goes on");
        db.close().await;
    });
}

#[test]
fn a_batch_of_a_hundred_thousand_keys_is_answered_in_order() {
    const KEYS: usize = 100_000;
    run(async {
        let cluster = Cluster::start(1);
        let db = client(&cluster, Duration::from_secs(30)).await;
        let stored = db.put_many((0..KEYS).map(|at| (at.to_string(), at.to_string()))).await;
        assert_eq!(stored.iter().filter(|stored| stored.is_ok()).count(), KEYS);
        let found = db.get_many((0..KEYS).map(|at| at.to_string())).await;
        assert_eq!(found.len(), KEYS);
        for (at, found) in found.into_iter().enumerate() {
            let found = found.expect("it is read").expect("it is there");
            assert_eq!(found.value().expect("one value"), at.to_string().as_bytes());
        }
        db.close().await;
    });
}

#[test]
fn clients_by_the_hundred_give_back_threads_and_descriptors() {
    run(async {
        let cluster = Cluster::start(1);
        let rounds = (200.0 * quorate_tests::times()) as usize;
        client(&cluster, Duration::from_secs(5)).await.close().await;
        let (threads, descriptors) = (own("task"), own("fd"));
        for round in 0..rounds {
            let db = client(&cluster, Duration::from_secs(5)).await;
            let call = db.put("k", "v");
            match round % 4 {
                0 => {
                    call.await.expect("it is stored");
                    db.close().await;
                }
                1 => drop(call.await),
                2 => drop(tokio::spawn(call.into_future())),
                _ => {}
            }
        }
        returns("task", threads);
        returns("fd", descriptors);
    });
}

/// Waits until this process has no more of something than before: threads end behind the call that told them to.
fn returns(what: &str, before: usize) {
    let started = Instant::now();
    while own(what) > before {
        assert!(started.elapsed() < Duration::from_secs(20), "{} of {what} are left of {before}", own(what));
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn assert_is_idle(db: &Client) {
    let started = Instant::now();
    loop {
        let stats = db.stats().await.expect("a client knows itself");
        if stats.in_flight + stats.waiting == 0 {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "calls are left: {stats:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs futures at the same time, in tasks of their own.
async fn join<T: Send + 'static>(futures: impl Iterator<Item = impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let tasks: Vec<_> = futures.map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await.expect("a call does not panic"));
    }
    results
}
