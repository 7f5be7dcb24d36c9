//! What a run reports: what was asked, what was measured, the batches that formed, and the ratio to the limits.

use std::{io, path::Path, time::Duration};

use serde::Serialize;

use crate::{
    keys::KEY_BYTES,
    limits::{
        echo::{self, EchoLimit},
        lmdb::{self, LmdbLimit},
    },
    measure::Measured,
    workload::Workload,
};

/// How long each of the four limits is measured: many thousand batches, or a hundred synced commits.
const LIMIT_DURATION: Duration = Duration::from_secs(1);

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was asked.
    pub workload: Workload,
    /// What was measured.
    pub measured: Measured,
    /// The batches that formed.
    pub batches: Batches,
    /// What an operation cost.
    pub cost: Cost,
    /// The limits of this machine, if they were measured.
    pub limits: Option<Limits>,
}

/// How operations travelled together.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Batches {
    /// Operations in an average call of the client.
    pub operations_per_call: f64,
    /// Writes in an average commit of the nodes' stores; 0 without writes.
    pub writes_per_commit: f64,
    /// Attempts of the client beyond the first.
    pub retries: u64,
}

/// Processor time of an operation, warm-up included, in microseconds; `None` where it could not be seen.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cost {
    /// Of this process: the load generator and the client.
    pub client_us: Option<f64>,
    /// Of all nodes together, if they run on this machine and were started for the run.
    pub nodes_us: Option<f64>,
}

/// How the stores of the cluster relate to this machine.
#[derive(Clone, Copy, Debug)]
pub struct Stores {
    /// How many nodes have their store on this disk.
    pub nodes: usize,
    /// How many nodes store each key.
    pub replicas: usize,
}

/// What the machine would allow, and how near the measured rates come.
#[derive(Clone, Debug, Serialize)]
pub struct Limits {
    /// The wire with nothing behind it.
    pub echo: EchoLimit,
    /// LMDB with nothing before it.
    pub lmdb: LmdbLimit,
    /// Reads per second that LMDB would allow all nodes together.
    pub lmdb_reads_per_second: f64,
    /// Writes per second that LMDB would allow the cluster, each being stored at every owner.
    pub lmdb_writes_per_second: f64,
    /// Measured reads as a share of the echo's.
    pub reads_to_echo: Option<f64>,
    /// Measured writes as a share of the echo's.
    pub writes_to_echo: Option<f64>,
    /// Measured reads as a share of LMDB's.
    pub reads_to_lmdb: Option<f64>,
    /// Measured writes as a share of LMDB's.
    pub writes_to_lmdb: Option<f64>,
}

impl Limits {
    /// Measures the limits with the shape that the load had; takes about five seconds. `directory` is on the disk of the
    /// nodes' stores.
    pub fn measure(
        workload: &Workload,
        measured: &Measured,
        batches: &Batches,
        stores: Stores,
        directory: &Path,
    ) -> io::Result<Self> {
        let per_call = rounded(batches.operations_per_call);
        let echo = echo::measure(echo::Shape {
            operations_per_call: per_call,
            operations_in_flight: workload.in_flight,
            key_bytes: KEY_BYTES,
            value_bytes: workload.value_bytes,
            duration: LIMIT_DURATION,
        })?;
        let lmdb = lmdb::measure(
            directory,
            lmdb::Shape {
                records: workload.keys,
                value_bytes: workload.value_bytes,
                puts_per_commit: if batches.writes_per_commit > 0.0 {
                    rounded(batches.writes_per_commit)
                } else {
                    per_call
                },
                gets_per_snapshot: per_call,
                stores: stores.nodes,
                duration: LIMIT_DURATION,
            },
        )
        .map_err(io::Error::other)?;
        Ok(Self::compare(workload, measured, echo, lmdb, stores))
    }

    fn compare(workload: &Workload, measured: &Measured, echo: EchoLimit, lmdb: LmdbLimit, stores: Stores) -> Self {
        let share = |percent: u8, limit: f64| {
            let rate = measured.operations_per_second * f64::from(percent) / 100.0;
            (percent > 0 && limit > 0.0).then(|| rate / limit)
        };
        let (reads, writes) = (workload.reads_percent, 100 - workload.reads_percent);
        let copies = stores.replicas.min(stores.nodes).max(1);
        let lmdb_writes_per_second = lmdb.puts_per_second * stores.nodes as f64 / copies as f64;
        Self {
            reads_to_echo: share(reads, echo.gets_per_second),
            writes_to_echo: share(writes, echo.puts_per_second),
            reads_to_lmdb: share(reads, lmdb.gets_per_second),
            writes_to_lmdb: share(writes, lmdb_writes_per_second),
            lmdb_reads_per_second: lmdb.gets_per_second,
            lmdb_writes_per_second,
            echo,
            lmdb,
        }
    }
}

fn rounded(batch: f64) -> usize {
    (batch.round() as usize).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Limits, Stores};
    use crate::{
        limits::{echo::EchoLimit, lmdb::LmdbLimit},
        measure::Measure,
        workload::{Distribution, Workload},
    };

    #[test]
    fn ratios_count_the_share_of_reads_and_the_copies_of_writes() {
        let workload = Workload {
            keys: 1,
            distribution: Distribution::Uniform,
            value_bytes: 1,
            reads_percent: 50,
            in_flight: 1,
            rate: None,
            duration: Duration::from_secs(1),
            warm_up: Duration::ZERO,
            seed: 1,
        };
        let now = Instant::now();
        let mut measured = Measure::new(now, now + Duration::from_secs(1)).result(0);
        measured.operations_per_second = 1_000.0;
        let echo = EchoLimit {
            operations_per_call: 1,
            calls_in_flight: 1,
            gets_per_second: 5_000.0,
            puts_per_second: 2_500.0,
        };
        let lmdb = LmdbLimit {
            stores: 6,
            puts_per_commit: 1,
            puts_per_second: 1_000.0,
            gets_per_snapshot: 1,
            get_threads: 2,
            gets_per_second: 50_000.0,
        };
        let limits = Limits::compare(&workload, &measured, echo, lmdb, Stores { nodes: 6, replicas: 3 });
        assert_eq!(limits.reads_to_echo, Some(0.1));
        assert_eq!(limits.writes_to_echo, Some(0.2));
        assert_eq!(limits.reads_to_lmdb, Some(0.01));
        assert_eq!((limits.lmdb_writes_per_second, limits.writes_to_lmdb), (2_000.0, Some(0.25)));
    }
}
