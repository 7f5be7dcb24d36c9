//! What a run asks of the cluster, as plain data.

use std::time::Duration;

use serde::Serialize;

/// A run's parameters.
#[derive(Clone, Debug, Serialize)]
pub struct Workload {
    /// How many different keys there are.
    pub keys: u64,
    /// Which of them are asked for.
    pub distribution: Distribution,
    /// The size of every value, in bytes.
    pub value_bytes: usize,
    /// The share of reads among the operations, in percent.
    pub reads_percent: u8,
    /// How many operations are in flight at most.
    pub in_flight: usize,
    /// Operations per second that arrive whether or not earlier ones have ended (open loop); `None` starts the next when
    /// one ends (closed loop).
    pub rate: Option<f64>,
    /// How long is measured.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// How long the same load runs before, uncounted: connections, caches and maps are warm then.
    #[serde(serialize_with = "seconds")]
    pub warm_up: Duration,
    /// Where the random choices begin; the same seed asks for the same keys.
    pub seed: u64,
}

/// How often each key is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Every key equally.
    Uniform,
    /// The k-th most popular key with a frequency of 1/k^exponent, popular keys spread over the ring.
    Zipf {
        /// 0 is uniform; 0.99 is what benchmarks of stores use; below 1.
        exponent: f64,
    },
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
