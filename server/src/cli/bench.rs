//! `quorate bench`: a load on a cluster, on one of its own if wanted, with the limits of the machine beside it.

mod print;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::Args;
use quorate_bench::{
    keys::Keys,
    load, processor,
    report::{Batches, Cost, Limits, Report, Stores},
    target::{Access, ClusterTarget},
    workload::{Distribution, Workload},
};
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};

use super::{
    arguments::{self, Cluster, Replicas},
    client::{self, Failure},
    exit::{CommandError, Exit},
    local::{LocalCluster, NODES_MAX, Setup},
    output::{self, Output},
};

/// The bucket that is loaded unless another is named: what is in the others stays untouched.
const BUCKET: &str = "bench";

/// The exponent of Zipf's law when none is named: the one benchmarks of stores agree on.
const ZIPF_EXPONENT: f64 = 0.99;

/// Put a load on a cluster and measure it, with the limits of this machine beside it.
#[derive(Debug, Args)]
#[command(
    after_help = "Closed loop: the next operation begins when one ends, with --in-flight of them under way. Open loop (--rate): operations \
arrive at their rate whatever the cluster does, and latency counts from when each should have begun, so that a stall is \
not forgotten.
The limits are the same batches over the wire with nothing behind them, and into LMDB with nothing before it.

Examples:
  quorate bench --start 1 --reads 100 --in-flight 1024
  quorate bench --start 3 --reads 0 --in-flight 1024 --value-bytes 100
  quorate bench --endpoints 10.0.0.1:7601 --reads 90 --distribution zipf --rate 20000 --output json"
)]
pub struct Bench {
    /// Start a cluster of so many nodes on this machine for the run, and remove it afterwards.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    start: Option<u16>,

    /// Where the started cluster stands, on the disk to be measured; a temporary folder if not named. It is kept.
    #[arg(long, value_name = "DIRECTORY", requires = "start")]
    dir: Option<PathBuf>,

    /// A setting for the nodes that are started, as in a configuration file: shards=1
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "start")]
    settings: Vec<String>,

    /// The bucket.
    #[arg(long, short, value_name = "NAME", default_value = BUCKET, value_parser = arguments::bucket)]
    bucket: String,

    /// How many different keys.
    #[arg(long, value_name = "COUNT", default_value = "100000", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    keys: u64,

    /// How often each key is asked for: uniform, zipf, or zipf:EXPONENT.
    #[arg(long, value_name = "NAME", default_value = "uniform")]
    distribution: DistributionArgument,

    /// Bytes of a value.
    #[arg(long, value_name = "COUNT", default_value = "100", value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
    value_bytes: u32,

    /// The share of reads, in percent; the others are writes.
    #[arg(long, value_name = "PERCENT", default_value = "90", value_parser = clap::value_parser!(u8).range(0..=100))]
    reads: u8,

    /// Operations under way at most.
    #[arg(long, value_name = "COUNT", default_value = "1024", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    in_flight: u32,

    /// Operations that arrive in a second (open loop).
    #[arg(long, value_name = "PER SECOND", value_parser = rate)]
    rate: Option<f64>,

    /// How long is measured.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = arguments::duration)]
    seconds: Duration,

    /// How long the load runs before it is measured.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = arguments::duration)]
    warm_up: Duration,

    /// Do not write every key once before the run.
    #[arg(long)]
    no_preload: bool,

    /// The client's I/O threads.
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=64))]
    io_threads: u8,

    /// Where the random choices begin.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    seed: u64,

    /// Measure the limits, too, even when the nodes were not started here.
    #[arg(long, conflicts_with = "no_limits")]
    limits: bool,

    /// Do not measure the limits.
    #[arg(long)]
    no_limits: bool,

    #[command(flatten)]
    replicas: Replicas,

    #[command(flatten)]
    cluster: Cluster,
}

/// A distribution, as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
struct DistributionArgument(Distribution);

impl FromStr for DistributionArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let exponent = match text.split_once(':') {
            None if text == "uniform" => return Ok(Self(Distribution::Uniform)),
            None if text == "zipf" => ZIPF_EXPONENT,
            Some(("zipf", exponent)) => exponent.parse().map_err(|_| format!("{exponent} is not a number"))?,
            None | Some(_) => return Err("a distribution is uniform, zipf, or zipf:EXPONENT".to_owned()),
        };
        if !(0.0..1.0).contains(&exponent) {
            return Err("the exponent lies between 0 and 1, 1 not included".to_owned());
        }
        Ok(Self(Distribution::Zipf { exponent }))
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=1e8).contains(&rate) => Ok(rate),
        Ok(_) | Err(_) => Err("a rate is a number of operations per second".to_owned()),
    }
}

impl Bench {
    /// Carries out the command.
    pub fn run(self) -> Result<Exit, CommandError> {
        client::block_on(self.bench())
    }

    async fn bench(self) -> Result<Exit, CommandError> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let interrupted = || Err(CommandError::new(Exit::Interrupted, "interrupted: nothing was reported"));
        // Dropping the work drops the nodes it started and their folder.
        select! {
            done = self.work() => done,
            _ = interrupt.recv() => interrupted(),
            _ = terminate.recv() => interrupted(),
        }
    }

    async fn work(&self) -> Result<Exit, CommandError> {
        let local = self.start_nodes().await?;
        let endpoints = local.as_ref().map_or_else(|| self.cluster.endpoints.clone(), LocalCluster::endpoints);
        let target = ClusterTarget::connect(&self.access(endpoints)).await.map_err(Failure::from_client)?;
        let nodes = local.as_ref().map_or_else(Vec::new, LocalCluster::processes);
        let (report, target) = self.measure(target, &nodes).await?;
        let stores = target.stores();
        target.close().await;
        let directory = local.as_ref().map_or_else(std::env::temp_dir, |cluster| cluster.directory().to_owned());
        // The nodes end first: what is measured next shall have the machine for itself.
        let kept = end(local).await?;
        let report = match self.wants_limits() {
            true => self.with_limits(report, stores, &directory).await?,
            false => report,
        };
        drop(kept);
        match self.cluster.form.output {
            Output::Table => print::print(&report, &self.replicas)?,
            Output::Json => output::print_json(&report)?,
        }
        let measured = &report.measured;
        let bad = !measured.wrong.is_empty() || !measured.errors.is_empty() || measured.unfinished > 0;
        Ok(if bad { Exit::Different } else { Exit::Done })
    }

    async fn start_nodes(&self) -> Result<Option<LocalCluster>, CommandError> {
        let Some(nodes) = self.start else { return Ok(None) };
        let setup = Setup {
            nodes: Some(nodes),
            directory: self.dir.clone(),
            serve_arguments: self.settings.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]).collect(),
            ..Setup::default()
        };
        let cluster = LocalCluster::start(&setup, |_, _, _| {}).await?;
        eprintln!("{nodes} nodes serve in {}", cluster.directory().display());
        Ok(Some(cluster))
    }

    fn access(&self, endpoints: Vec<String>) -> Access {
        Access {
            endpoints,
            bucket: self.bucket.clone(),
            consistency: self.replicas.consistency(),
            timeout: self.cluster.timeout,
            in_flight: self.in_flight as usize,
            io_threads: usize::from(self.io_threads),
        }
    }

    fn workload(&self) -> Workload {
        Workload {
            keys: self.keys,
            distribution: self.distribution.0,
            value_bytes: self.value_bytes as usize,
            reads_percent: self.reads,
            in_flight: self.in_flight as usize,
            rate: self.rate,
            duration: self.seconds,
            warm_up: self.warm_up,
            seed: self.seed,
        }
    }

    /// Runs the load, on a thread of its own: it polls without pause.
    async fn measure(&self, target: ClusterTarget, nodes: &[u32]) -> Result<(Report, ClusterTarget), CommandError> {
        let (workload, keys) = (self.workload(), Keys::new(self.keys));
        let (target, keys) = match self.no_preload {
            true => (target, keys),
            false => {
                eprintln!("writing {} keys", output::grouped(self.keys));
                let workload = workload.clone();
                let written = on_thread(move || {
                    let written = load::preload(&target, &workload, &keys);
                    (written, target, keys)
                });
                let (written, target, keys) = written.await?;
                written.map_err(|ended| {
                    CommandError::new(Exit::Unavailable, format!("writing the keys failed: {ended}"))
                        .next("quorate status")
                })?;
                (target, keys)
            }
        };
        let seconds = (self.warm_up + self.seconds).as_secs_f64();
        eprintln!("measuring for {seconds} s, the first {} s as warm-up", self.warm_up.as_secs_f64());
        let (client, nodes_before) = (processor_time(&[std::process::id()]), processor_time(nodes));
        let commits = target.commits().await;
        let calls = target.calls().await.map_err(Failure::from_client)?;
        let running = workload.clone();
        let (measured, target) = on_thread(move || (load::run(&target, &running, &keys), target)).await?;
        let calls_after = target.calls().await.map_err(Failure::from_client)?;
        let batches = Batches {
            operations_per_call: calls_after.batch_since(&calls),
            writes_per_commit: target.commits().await.group_since(&commits),
            retries: calls_after.retries - calls.retries,
        };
        let operations = calls_after.operations_since(&calls).max(1) as f64;
        let each = |before: Option<Duration>, processes: &[u32]| {
            let taken = processor_time(processes)?.checked_sub(before?)?;
            Some(taken.as_secs_f64() * 1e6 / operations)
        };
        let cost = Cost { client_us: each(client, &[std::process::id()]), nodes_us: each(nodes_before, nodes) };
        Ok((Report { workload, measured, batches, cost, limits: None }, target))
    }

    fn wants_limits(&self) -> bool {
        self.limits || (self.start.is_some() && !self.no_limits)
    }

    async fn with_limits(&self, report: Report, stores: Stores, directory: &Path) -> Result<Report, CommandError> {
        eprintln!("measuring the limits");
        let directory = directory.to_owned();
        on_thread(move || {
            let limits = Limits::measure(&report.workload, &report.measured, &report.batches, stores, &directory)?;
            Ok(Report { limits: Some(limits), ..report })
        })
        .await?
    }
}

/// Ends the nodes that were started; their folder stays until what is returned is dropped.
async fn end(local: Option<LocalCluster>) -> Result<Option<impl Sized>, CommandError> {
    match local {
        Some(cluster) => cluster.stop().await.map(Some),
        None => Ok(None),
    }
}

async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CommandError> {
    spawn_blocking(work).await.map_err(|error| CommandError::new(Exit::Failed, format!("the load failed: {error}")))
}

/// The processor time of all these processes together; `None` of none.
fn processor_time(processes: &[u32]) -> Option<Duration> {
    processes
        .iter()
        .map(|process| processor::time_of(*process))
        .sum::<Option<Duration>>()
        .filter(|_| !processes.is_empty())
}

/// "3 timeout, 1 unavailable".
fn counts(counts: &BTreeMap<&'static str, u64>) -> String {
    counts.iter().map(|(kind, count)| format!("{} {kind}", output::grouped(*count))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use quorate_bench::workload::Distribution;

    use super::{DistributionArgument, rate};

    #[test]
    fn distributions_have_names_and_an_exponent() {
        let parse = |text: &str| text.parse::<DistributionArgument>().map(|argument| argument.0);
        assert_eq!(parse("uniform"), Ok(Distribution::Uniform));
        assert_eq!(parse("zipf"), Ok(Distribution::Zipf { exponent: 0.99 }));
        assert_eq!(parse("zipf:0.5"), Ok(Distribution::Zipf { exponent: 0.5 }));
        for wrong in ["", "zipf:1", "zipf:x", "normal", "uniform:1", "zipf:NaN"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_is_positive_and_finite() {
        assert_eq!(rate("2000"), Ok(2_000.0));
        for wrong in ["0", "-1", "inf", "NaN", "x"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
