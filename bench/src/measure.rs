//! What a run counts: latencies in histograms, throughput by the second, failures by kind, and wrong answers.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency a histogram tells apart; longer ones count as this.
const LATENCY_MAX: Duration = Duration::from_secs(100);

/// Significant digits of a latency: errors below a thousandth.
const DIGITS: u8 = 3;

/// How an operation of the load ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it should.
    Well,
    /// A read answered, but not with what was written: nothing there, several values, or another length.
    Wrong(&'static str),
    /// An error of this kind.
    Failed(&'static str),
}

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Well => formatter.write_str("well"),
            Self::Wrong(kind) => write!(formatter, "wrong answer ({kind})"),
            Self::Failed(kind) => formatter.write_str(kind),
        }
    }
}

/// Which kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A get.
    Read,
    /// A put.
    Write,
}

/// The counts of one run.
#[derive(Debug)]
pub struct Measure {
    from: Instant,
    until: Instant,
    reads: Histogram<u64>,
    writes: Histogram<u64>,
    wrong: BTreeMap<&'static str, u64>,
    errors: BTreeMap<&'static str, u64>,
    by_second: Vec<u64>,
}

impl Measure {
    /// Counts what belongs to the time between `from` and `until`.
    pub fn new(from: Instant, until: Instant) -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_MAX.as_nanos() as u64, DIGITS).expect("constant bounds are in order")
        };
        let seconds = (until - from).as_secs_f64().ceil() as usize;
        Self {
            from,
            until,
            reads: histogram(),
            writes: histogram(),
            wrong: BTreeMap::new(),
            errors: BTreeMap::new(),
            by_second: vec![0; seconds],
        }
    }

    /// Counts an operation that began (or, in an open loop, should have begun) at `began` and ended at `ended`.
    ///
    /// `belongs_at` decides whether it falls into the measured time: its end in a closed loop, its scheduled begin in an
    /// open one, where dropping what ends late would drop just the slow ones.
    pub fn count(&mut self, operation: Operation, began: Instant, ended: Instant, belongs_at: Instant, how: Ended) {
        if belongs_at < self.from || belongs_at >= self.until {
            return;
        }
        match how {
            Ended::Well => {
                let histogram = match operation {
                    Operation::Read => &mut self.reads,
                    Operation::Write => &mut self.writes,
                };
                histogram.saturating_record((ended - began).as_nanos() as u64);
                if let Some(second) = ended.checked_duration_since(self.from)
                    && let Some(count) = self.by_second.get_mut(second.as_secs() as usize)
                {
                    *count += 1;
                }
            }
            Ended::Wrong(kind) => *self.wrong.entry(kind).or_default() += 1,
            Ended::Failed(kind) => *self.errors.entry(kind).or_default() += 1,
        }
    }

    /// Everything counted, in order.
    pub fn result(&self, unfinished: u64) -> Measured {
        let seconds = (self.until - self.from).as_secs_f64();
        let completed = self.by_second.iter().sum::<u64>();
        Measured {
            seconds,
            operations: self.reads.len() + self.writes.len(),
            operations_per_second: completed as f64 / seconds,
            reads: Latency::of(&self.reads),
            writes: Latency::of(&self.writes),
            wrong: self.wrong.clone(),
            errors: self.errors.clone(),
            unfinished,
            by_second: self.by_second.clone(),
        }
    }
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// How long was measured.
    pub seconds: f64,
    /// Operations that succeeded.
    pub operations: u64,
    /// Operations that ended well within the measured time, by second.
    pub operations_per_second: f64,
    /// Latencies of the reads that succeeded; `None` if there were none.
    pub reads: Option<Latency>,
    /// Latencies of the writes that succeeded.
    pub writes: Option<Latency>,
    /// Reads that were answered with something other than what was written.
    pub wrong: BTreeMap<&'static str, u64>,
    /// Operations that failed, by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// Operations of an open loop that had not ended when waiting for them was given up.
    pub unfinished: u64,
    /// Operations that succeeded in each second: shows stalls that an average hides.
    pub by_second: Vec<u64>,
}

/// A distribution of latencies, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// How many there were.
    pub count: u64,
    /// The shortest.
    pub min_us: f64,
    /// The mean.
    pub mean_us: f64,
    /// Half are no longer.
    pub p50_us: f64,
    /// Nine in ten are no longer.
    pub p90_us: f64,
    /// 99 in a hundred are no longer.
    pub p99_us: f64,
    /// 999 in a thousand are no longer.
    pub p99_9_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            min_us: histogram.min() as f64 / 1e3,
            mean_us: histogram.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: histogram.max() as f64 / 1e3,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Ended, Measure, Operation};

    #[test]
    fn only_what_belongs_to_the_measured_time_counts() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut measure = Measure::new(at(1_000), at(3_000));
        for (began, ended) in [(900, 950), (990, 1_010), (2_000, 2_005), (2_999, 3_001)] {
            measure.count(Operation::Read, at(began), at(ended), at(ended), Ended::Well);
        }
        measure.count(Operation::Write, at(2_000), at(2_001), at(2_001), Ended::Failed("unavailable"));
        measure.count(Operation::Read, at(2_000), at(2_001), at(2_001), Ended::Wrong("not_found"));
        let result = measure.result(0);
        assert_eq!((result.operations, result.by_second.as_slice()), (2, [1, 1].as_slice()));
        assert_eq!(result.operations_per_second, 1.0);
        assert_eq!(result.errors["unavailable"], 1);
        assert_eq!(result.wrong["not_found"], 1);
        assert!(result.writes.is_none());
        let reads = result.reads.expect("there were reads");
        assert!((4_990.0..5_010.0).contains(&reads.min_us), "{reads:?}");
        assert!((19_980.0..20_020.0).contains(&reads.p99_9_us), "{reads:?}");
    }
}
