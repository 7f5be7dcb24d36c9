//! The load over stores in memory: how many are in flight, when operations arrive, what counts as well or wrong.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    sync::mpsc::{Sender, channel},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Target, preload, run};
use crate::{
    keys::Keys,
    measure::Ended,
    slots::Slot,
    workload::{Distribution, Workload},
};

/// A store in memory that counts, and can take its time on another thread.
#[derive(Default)]
struct Memory {
    values: RefCell<BTreeMap<Vec<u8>, Bytes>>,
    reads: Cell<u64>,
    writes: Cell<u64>,
    in_flight: Cell<usize>,
    in_flight_most: Cell<usize>,
    clock: Option<Sender<oneshot::Sender<()>>>,
}

impl Memory {
    async fn pause(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.in_flight_most.set(self.in_flight_most.get().max(self.in_flight.get()));
        if let Some(clock) = &self.clock {
            let (sender, receiver) = oneshot::channel();
            clock.send(sender).expect("the clock runs");
            receiver.await.expect("the clock answers");
        }
        self.in_flight.set(self.in_flight.get() - 1);
    }

    /// A store that answers one request after the other, each `each` after the one before.
    fn slow(each: Duration) -> Self {
        let (clock, requests) = channel::<oneshot::Sender<()>>();
        thread::spawn(move || {
            for request in requests {
                thread::sleep(each);
                let _ = request.send(());
            }
        });
        Self { clock: Some(clock), ..Self::default() }
    }
}

impl Target for Memory {
    async fn read(&self, _slot: Slot, key: Bytes, value_bytes: usize) -> Ended {
        self.reads.set(self.reads.get() + 1);
        self.pause().await;
        match self.values.borrow().get(&key[..]) {
            Some(value) if value.len() == value_bytes => Ended::Well,
            Some(_) => Ended::Wrong("length"),
            None => Ended::Wrong("not_found"),
        }
    }

    async fn write(&self, _slot: Slot, key: Bytes, value: Bytes) -> Ended {
        self.writes.set(self.writes.get() + 1);
        self.pause().await;
        self.values.borrow_mut().insert(key.to_vec(), value);
        Ended::Well
    }
}

fn workload() -> Workload {
    Workload {
        keys: 50,
        distribution: Distribution::Uniform,
        value_bytes: 10,
        reads_percent: 100,
        in_flight: 8,
        rate: None,
        duration: Duration::from_millis(200),
        warm_up: Duration::from_millis(50),
        seed: 1,
    }
}

#[test]
fn a_preload_writes_every_key_once() {
    let (memory, workload, keys) = (Memory::default(), workload(), Keys::new(50));
    assert_eq!(preload(&memory, &workload, &keys), Ok(()));
    assert_eq!((memory.writes.get(), memory.values.borrow().len()), (50, 50));
}

#[test]
fn a_closed_loop_keeps_so_many_in_flight_and_no_more() {
    let (memory, workload, keys) = (Memory::slow(Duration::from_micros(200)), workload(), Keys::new(50));
    preload(&memory, &workload, &keys).unwrap();
    let measured = run(&memory, &workload, &keys);
    assert_eq!(memory.in_flight_most.get(), 8);
    let reads = measured.reads.expect("there were reads");
    assert!(measured.operations > 50 && reads.count == measured.operations, "{reads:?}");
    // Eight wait for a server that takes 200 µs for each.
    assert!(reads.p50_us >= 1_500.0, "{reads:?}");
    assert!(measured.errors.is_empty() && measured.wrong.is_empty() && measured.writes.is_none());
}

#[test]
fn the_share_of_reads_is_kept() {
    let (memory, keys) = (Memory::slow(Duration::from_micros(20)), Keys::new(50));
    let workload = Workload { reads_percent: 75, ..workload() };
    preload(&memory, &workload, &keys).unwrap();
    let measured = run(&memory, &workload, &keys);
    let share = measured.reads.unwrap().count as f64 / measured.operations as f64;
    assert!((0.6..0.9).contains(&share), "{share}");
}

#[test]
fn reads_of_what_was_never_written_are_wrong_and_not_fast() {
    let (memory, workload, keys) = (Memory::slow(Duration::from_micros(20)), workload(), Keys::new(50));
    let measured = run(&memory, &workload, &keys);
    assert_eq!(measured.operations, 0);
    assert!(measured.wrong["not_found"] > 0);
}

#[test]
fn an_open_loop_arrives_at_its_rate() {
    let (memory, keys) = (Memory::default(), Keys::new(50));
    let workload = Workload { rate: Some(2_000.0), ..workload() };
    preload(&memory, &workload, &keys).unwrap();
    let started = Instant::now();
    let measured = run(&memory, &workload, &keys);
    assert!(started.elapsed() >= Duration::from_millis(245));
    assert_eq!(memory.reads.get(), 500);
    assert_eq!((measured.operations, measured.unfinished), (400, 0));
}

#[test]
fn an_open_loop_counts_the_wait_of_what_a_slow_store_held_up() {
    // 1,000 arrive per second, 500 are served: the last has waited for about half of the time it all took.
    let (memory, keys) = (Memory::slow(Duration::from_millis(2)), Keys::new(50));
    memory.values.borrow_mut().extend((0..50).map(|number| (keys.key(number).to_vec(), Bytes::from(vec![0; 10]))));
    let workload = Workload { rate: Some(1_000.0), in_flight: 2, warm_up: Duration::ZERO, ..workload() };
    let measured = run(&memory, &workload, &keys);
    let reads = measured.reads.expect("there were reads");
    assert_eq!(reads.count, 200);
    assert!(reads.max_us >= 190_000.0, "{reads:?}");
    assert!(reads.p50_us >= 80_000.0, "{reads:?}");
}
