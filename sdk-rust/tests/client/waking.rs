//! No wake is ever lost: whoever waits for an answer, asleep or looking, and however its caller and the I/O thread run into each other.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use quorate::{
    Completer,
    bridge::{Answer, Ask, CallOptions, Outbox, Sink, Waiter},
};

use crate::support::{Cluster, run};

/// Time within which a wake must come that was not lost, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pauses of 0 to so many microseconds, without falling asleep.
fn pause(round: u64, longest_micros: u64) {
    let until =
        Instant::now() + Duration::from_micros(round.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (longest_micros + 1));
    while Instant::now() < until {
        thread::yield_now();
    }
}

#[test]
fn an_outbox_wakes_its_owner_for_every_answer_that_nobody_has_seen() {
    const PRODUCERS: u64 = 3;
    const ANSWERS: u64 = 20_000;
    let bell = Arc::new((Mutex::new(0_u64), Condvar::new()));
    let rung = Arc::clone(&bell);
    let outbox = Outbox::new(move || {
        *rung.0.lock().unwrap() += 1;
        rung.1.notify_one();
    });
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let outbox = &outbox;
            scope.spawn(move || {
                for at in 0..ANSWERS {
                    outbox.deliver(producer * ANSWERS + at, Ok(Answer::Closed));
                    if at % 3 == 0 || at == ANSWERS - 1 {
                        outbox.flush();
                    }
                }
            });
        }
        let (mut ended, mut seen) = (Vec::new(), vec![false; (PRODUCERS * ANSWERS) as usize]);
        let mut wakes = 0;
        while seen.iter().any(|seen| !seen) {
            let rings = bell.0.lock().unwrap();
            let (mut rings, silence) = bell.1.wait_timeout_while(rings, PATIENCE, |rings| *rings == 0).unwrap();
            assert!(!silence.timed_out(), "a wake was lost");
            wakes += std::mem::take(&mut *rings);
            drop(rings);
            outbox.drain(&mut ended);
            for ended in ended.drain(..) {
                assert!(!std::mem::replace(&mut seen[ended.token as usize], true), "{} came twice", ended.token);
            }
        }
        assert!(wakes <= PRODUCERS * ANSWERS / 3 + PRODUCERS, "{wakes} wakes");
    });
}

#[test]
fn a_waiter_gets_every_answer_whether_it_looks_or_sleeps() {
    let waiter = Waiter::new();
    let (asked, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=3000 {
                while asked.load(Ordering::Acquire) < round {
                    thread::yield_now();
                }
                pause(round, 300);
                waiter.deliver(round, Ok(Answer::Exists(true)));
                waiter.flush();
                answered.store(round, Ordering::Release);
            }
        });
        for round in 1..=3000 {
            waiter.expect(round, Instant::now() + PATIENCE, false);
            asked.store(round, Ordering::Release);
            let answer = waiter.wait(Instant::now() + PATIENCE).expect("a wake was lost");
            assert!(matches!(answer, Ok(Answer::Exists(true))));
        }
    });
    assert_eq!(answered.load(Ordering::Acquire), 3000);
}

#[test]
fn a_waiter_takes_no_answer_to_a_call_before() {
    let waiter = Waiter::new();
    waiter.expect(1, Instant::now() + PATIENCE, false);
    waiter.expect(2, Instant::now() + PATIENCE, false);
    waiter.deliver(1, Ok(Answer::Exists(false)));
    assert!(waiter.wait(Instant::now() + Duration::from_millis(5)).is_none());
    waiter.deliver(2, Ok(Answer::Exists(true)));
    assert!(matches!(waiter.wait(Instant::now() + PATIENCE), Some(Ok(Answer::Exists(true)))));
}

#[test]
fn callers_that_come_back_at_once_or_a_little_later_never_wait_for_a_thread_that_fell_asleep() {
    let cluster = Cluster::start(1);
    let client = run(cluster.client());
    thread::scope(|scope| {
        for caller in 0..3_u64 {
            let client = &client;
            scope.spawn(move || {
                let waiter = Waiter::new();
                for round in 0..1500 {
                    let ask = Ask::Get { key: "k".into(), without_values: false };
                    let options = CallOptions { timeout: Some(PATIENCE), ..CallOptions::default() };
                    client.default_bucket().ask(ask, &options, round, &waiter).unwrap();
                    let answer = waiter.wait(Instant::now() + PATIENCE).expect("a wake was lost");
                    assert!(matches!(answer, Ok(Answer::Read(_))), "{answer:?}");
                    // One caller alone for a while, so that the I/O thread stays awake for it.
                    pause(round + caller, if caller == 0 { 60 } else { 20 });
                }
            });
        }
    });
    let (waiter, began) = (Waiter::new(), Instant::now());
    client.default_bucket().ask(Ask::Close, &CallOptions::default(), 0, &waiter).unwrap();
    assert!(matches!(waiter.wait(Instant::now() + PATIENCE), Some(Ok(Answer::Closed))));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
