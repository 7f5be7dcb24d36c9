//! The load itself: closed loop (the next operation begins when one ends) and open loop (operations arrive at a rate,
//! whatever the cluster does).
//!
//! In an open loop latency counts from when an operation *should* have begun. Counting from when it was sent would forget
//! the wait of all those that a slow answer held up ("coordinated omission") and make a stalled store look fast.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    keys::{self, Chooser, Keys, Random},
    measure::{Ended, Measure, Measured, Operation},
    slots::{self, Pacer, Slot, Unpaced},
    workload::Workload,
};

/// How long after the measured time operations may still end: longer than any deadline of a client.
const DRAIN: Duration = Duration::from_secs(10);

/// What the load is directed at. A slot has at most one operation under way.
pub trait Target {
    /// Reads a key whose value should have `value_bytes` bytes.
    fn read(&self, slot: Slot, key: Bytes, value_bytes: usize) -> impl Future<Output = Ended>;
    /// Writes a key.
    fn write(&self, slot: Slot, key: Bytes, value: Bytes) -> impl Future<Output = Ended>;
}

/// Writes every key once, so that reads find something. An error is how the first that failed ended.
pub fn preload(target: &impl Target, workload: &Workload, keys: &Keys) -> Result<(), Ended> {
    let value = keys::value(workload.value_bytes, workload.seed);
    let next = RefCell::new(0..keys.count());
    let failed = RefCell::new(None);
    let slots = (0..workload.in_flight)
        .map(|slot| {
            let (next, failed, value) = (&next, &failed, &value);
            async move {
                while failed.borrow().is_none() {
                    let Some(number) = next.borrow_mut().next() else { break };
                    match target.write(slot, keys.key(number), value.clone()).await {
                        Ended::Well => {}
                        ended @ (Ended::Wrong(_) | Ended::Failed(_)) => *failed.borrow_mut() = Some(ended),
                    }
                }
            }
        })
        .collect();
    // Every write has the client's own deadline, so this ends; a year is "no deadline".
    slots::run(slots, &mut Unpaced, Instant::now() + Duration::from_secs(365 * 86_400));
    failed.into_inner().map_or(Ok(()), Err)
}

/// Runs the load and counts.
pub fn run(target: &impl Target, workload: &Workload, keys: &Keys) -> Measured {
    match workload.rate {
        Some(rate) => run_open(target, workload, keys, rate),
        None => run_closed(target, workload, keys),
    }
}

fn run_closed(target: &impl Target, workload: &Workload, keys: &Keys) -> Measured {
    let from = Instant::now() + workload.warm_up;
    let until = from + workload.duration;
    let asking = Asking::new(target, workload, keys, Measure::new(from, until));
    let slots = (0..workload.in_flight)
        .map(|slot| {
            let asking = &asking;
            async move {
                let mut began = Instant::now();
                while began < until {
                    let (operation, how) = asking.one(slot).await;
                    let ended = Instant::now();
                    asking.measure.borrow_mut().count(operation, began, ended, ended, how);
                    began = ended;
                }
            }
        })
        .collect();
    slots::run(slots, &mut Unpaced, until + DRAIN);
    asking.measure.into_inner().result(0)
}

fn run_open(target: &impl Target, workload: &Workload, keys: &Keys, rate: f64) -> Measured {
    let start = Instant::now();
    let from = start + workload.warm_up;
    let until = from + workload.duration;
    let asking = Asking::new(target, workload, keys, Measure::new(from, until));
    let schedule = RefCell::new(Schedule::new(start, until, rate));
    let finished = RefCell::new(0);
    let slots = (0..workload.in_flight)
        .map(|slot| {
            let (schedule, asking, finished) = (&schedule, &asking, &finished);
            async move {
                while let Some(began) = poll_fn(|_| schedule.borrow_mut().take(slot, Instant::now())).await {
                    let (operation, how) = asking.one(slot).await;
                    asking.measure.borrow_mut().count(operation, began, Instant::now(), began, how);
                    *finished.borrow_mut() += 1;
                }
            }
        })
        .collect();
    slots::run(slots, &mut &schedule, until + DRAIN);
    let unfinished = schedule.borrow().total - *finished.borrow();
    asking.measure.into_inner().result(unfinished)
}

/// What every slot shares.
struct Asking<'a, T> {
    target: &'a T,
    workload: &'a Workload,
    keys: &'a Keys,
    chooser: Chooser,
    value: Bytes,
    random: RefCell<Random>,
    measure: RefCell<Measure>,
}

impl<'a, T: Target> Asking<'a, T> {
    fn new(target: &'a T, workload: &'a Workload, keys: &'a Keys, measure: Measure) -> Self {
        Self {
            target,
            workload,
            keys,
            chooser: Chooser::new(keys.count(), workload.distribution),
            value: keys::value(workload.value_bytes, workload.seed),
            random: RefCell::new(Random::new(workload.seed)),
            measure: RefCell::new(measure),
        }
    }

    /// One operation of the workload.
    async fn one(&self, slot: Slot) -> (Operation, Ended) {
        let (number, read) = {
            let mut random = self.random.borrow_mut();
            (self.chooser.choose(&mut random), random.below(100) < u64::from(self.workload.reads_percent))
        };
        let key = self.keys.key(number);
        if read {
            (Operation::Read, self.target.read(slot, key, self.workload.value_bytes).await)
        } else {
            (Operation::Write, self.target.write(slot, key, self.value.clone()).await)
        }
    }
}

/// When the operations of an open loop should begin: evenly spaced.
struct Schedule {
    start: Instant,
    rate: f64,
    /// How many arrivals there are in all.
    total: u64,
    /// The number of the next arrival.
    next: u64,
    /// Slots that wait for one.
    waiting: Vec<Slot>,
}

impl Schedule {
    fn new(start: Instant, until: Instant, rate: f64) -> Self {
        let total = ((until - start).as_secs_f64() * rate).ceil() as u64;
        Self { start, rate, total, next: 0, waiting: Vec::new() }
    }

    fn at(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// The begin of the next operation if that time has come; `None` after the last. Otherwise the slot is called later.
    fn take(&mut self, slot: Slot, now: Instant) -> Poll<Option<Instant>> {
        if self.next == self.total {
            return Poll::Ready(None);
        }
        let begin = self.at(self.next);
        if begin > now {
            self.waiting.push(slot);
            return Poll::Pending;
        }
        self.next += 1;
        Poll::Ready(Some(begin))
    }
}

impl Pacer for &RefCell<Schedule> {
    fn due(&mut self, now: Instant, slots: &mut Vec<Slot>) -> Option<Instant> {
        let mut schedule = self.borrow_mut();
        if schedule.next == schedule.total {
            // Nothing comes any more: who still waits shall see that and end.
            slots.append(&mut schedule.waiting);
            return None;
        }
        let passed = now.saturating_duration_since(schedule.start).as_secs_f64() * schedule.rate;
        let due = (passed as u64 + 1).min(schedule.total).saturating_sub(schedule.next) as usize;
        let kept = schedule.waiting.len().saturating_sub(due);
        slots.extend(schedule.waiting.drain(kept..));
        (kept > 0).then(|| schedule.at(schedule.next + due as u64))
    }
}

#[cfg(test)]
mod tests;
