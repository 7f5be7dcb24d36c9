//! What clients feel: how long their calls take on one worker, counted in buckets that are each a quarter wider than the one
//! before. Noting a call is one addition, so it can be done for every one of them.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Buckets for each doubling.
const STEPS: usize = 4;

/// Up to 2^32 microseconds, which is more than an hour.
const BUCKETS: usize = 32 * STEPS;

/// Fewer calls than this say nothing about a hundredth of them.
const CALLS_MIN: u64 = 100;

/// The calls of one worker, since the start. Aligned so that two workers' share no cache line.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Pulse {
    buckets: [AtomicU64; BUCKETS],
}

/// The calls of all workers at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counted([u64; BUCKETS]);

impl Default for Pulse {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl Pulse {
    /// A client's call took so long.
    pub(crate) fn note(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
    }
}

impl Counted {
    /// Adds up the calls of all workers.
    pub(super) fn of<'p>(pulses: impl Iterator<Item = &'p Pulse>) -> Self {
        let mut counted = [0; BUCKETS];
        for pulse in pulses {
            for (sum, bucket) in counted.iter_mut().zip(&pulse.buckets) {
                *sum += bucket.load(Ordering::Relaxed);
            }
        }
        Self(counted)
    }

    /// What 99 of 100 calls since `earlier` took at most; `None` if there were too few.
    pub(super) fn p99_since(&self, earlier: &Self) -> Option<Duration> {
        let since = self.0.iter().zip(&earlier.0).map(|(now, then)| now.wrapping_sub(*then));
        let total: u64 = since.clone().sum();
        if total < CALLS_MIN {
            return None;
        }
        let mut above = total;
        let at = since.into_iter().position(|count| {
            above -= count;
            above * 100 <= total
        });
        at.map(|at| Duration::from_micros(upper_bound(at)))
    }
}

/// The bucket of a call that took so long.
fn bucket(micros: u64) -> usize {
    let micros = micros.clamp(1 << 2, u64::from(u32::MAX));
    let doublings = micros.ilog2() as usize;
    // The two bits behind the highest.
    let step = (micros >> (doublings - 2)) as usize & (STEPS - 1);
    doublings * STEPS + step
}

/// What the calls of a bucket took at most, in microseconds.
fn upper_bound(bucket: usize) -> u64 {
    let (doublings, step) = (bucket / STEPS, bucket % STEPS);
    ((STEPS + step + 1) as u64) << doublings >> 2
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Counted, Pulse, bucket, upper_bound};

    #[test]
    fn every_duration_has_a_bucket_whose_bound_is_at_most_a_quarter_above() {
        for micros in (4..100_000_u64).chain([1 << 20, 123_456_789, u64::from(u32::MAX) - 1]) {
            let bound = upper_bound(bucket(micros));
            assert!(bound > micros && bound <= micros + micros / 4 + 1, "{micros} in a bucket up to {bound}");
        }
        assert_eq!(bucket(0), bucket(4));
        assert_eq!(bucket(u64::MAX), bucket(u64::from(u32::MAX)));
    }

    #[test]
    fn the_slowest_hundredth_of_a_window_is_found_over_all_workers() {
        let pulses = [Pulse::default(), Pulse::default()];
        pulses[0].note(Duration::from_secs(1));
        let before = Counted::of(pulses.iter());
        for call in 0..1_000 {
            let duration = if call < 985 { Duration::from_millis(2) } else { Duration::from_millis(90) };
            pulses[call % 2].note(duration);
        }
        let after = Counted::of(pulses.iter());
        let p99 = after.p99_since(&before).unwrap();
        assert!((Duration::from_millis(90)..Duration::from_millis(120)).contains(&p99), "{p99:?}");
        assert_eq!(after.p99_since(&after), None, "no calls say nothing");
    }
}
