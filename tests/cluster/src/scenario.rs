//! One function for each row of the table of figures, and what they share: how large a run is, how a cluster comes to rest,
//! and how everything that was seen is checked.

mod availability;
mod clients;
mod corruptions;
mod debian;
mod harms;
mod hostile;
mod kills;
mod power;
mod reconfigure;
mod reconfigure_kills;
mod reshape;
mod rest;
mod rolling;
mod simulation;
mod storm;

use std::{fs, future::Future, path::PathBuf, time::Duration};

use quorate::{Client, Layout, Level};
use quorate_history::{Event, Report, Rules, check, print};

use crate::{proxied::Proxied, recorder::Recorder, replicas, workload::BUCKET};

pub use self::{
    availability::{availability, stand_ins},
    clients::{forwards, memory, one_retry},
    corruptions::corruptions,
    debian::debian,
    harms::harms,
    hostile::hostile,
    kills::kills,
    power::power,
    reconfigure::reconfigure,
    reconfigure_kills::reconfigure_kills,
    reshape::reshape,
    rest::{Rest, come_to_rest},
    rolling::rolling_restart,
    simulation::{bugs, simulation},
    storm::refresh_storm,
};

/// How large a run is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Every count is multiplied by it.
    pub times: f64,
    /// Seconds of the availability run.
    pub seconds: u64,
    /// Chooses what happens when.
    pub seed: u64,
    /// Where the history of a run that failed is kept, with the nodes' logs.
    pub keep: PathBuf,
}

impl Settings {
    /// A count at this scale, at least 1.
    pub fn scaled(&self, count: u64) -> u64 {
        ((count as f64 * self.times).round() as u64).max(1)
    }

    /// Runs a scenario to its end; one that takes longer than `minutes` has hung and panics.
    ///
    /// # Panics
    /// When it hangs, or no runtime can be made.
    pub fn run<T>(&self, minutes: u64, scenario: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let limit = Duration::from_secs(60 * minutes).mul_f64(self.times.max(1.0));
            tokio::time::timeout(limit, scenario).await.expect("the scenario hangs")
        })
    }
}

/// Says how far a row is, on standard error: the table goes to standard output.
pub fn progress(name: &str, what: &str) {
    eprintln!("  {name}: {what}");
}

/// The level of the paper, or `quorum` as long as nodes don't offer it.
pub async fn sloppiest_level(client: &Client) -> Level {
    match client.put("which level", "?").level(Level::Available).await {
        Err(error) if error.code() == "unsupported" => Level::Quorum,
        Ok(_) | Err(_) => Level::Available,
    }
}

/// Ends a cluster that has come to rest, reads every replica's disk, and checks the history with that. What is wrong is kept.
///
/// # Panics
/// When a node does not end, or its directory can't be read.
pub fn conclude(
    name: &str,
    settings: &Settings,
    cluster: &mut Proxied,
    layout: &Layout,
    recorder: &Recorder,
    keys: u64,
) -> Report {
    cluster.stop_all();
    let replicas: Vec<_> = (0..cluster.nodes())
        .map(|node| replicas::read(cluster.data(node), node).expect("a stopped node's directory can be read"))
        .collect();
    let names: Vec<String> = (0..keys).map(|key| format!("k{key}")).collect();
    recorder.add(replicas::finals(&replicas, layout, names.iter().map(String::as_str), BUCKET, recorder.now()));
    let history = recorder.history();
    let rules = Rules { replicas: cluster.nodes().min(usize::from(layout.replicas)), bytes_equal: true };
    let report = check(&history, &rules);
    if !report.is_clean() {
        keep(name, settings, cluster, &history);
    }
    report
}

/// Keeps what is needed to find out what went wrong.
fn keep(name: &str, settings: &Settings, cluster: &Proxied, history: &[Event]) {
    let folder = settings.keep.join(format!("{name}-{}", settings.seed));
    let mut kept = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("history.jsonl"), print(history)));
    for node in 0..cluster.nodes() {
        kept = kept.and_then(|()| fs::write(folder.join(format!("n{}.log", node + 1)), cluster.log(node)));
    }
    match kept {
        Ok(()) => progress(name, &format!("the history and the logs are in {}", folder.display())),
        Err(error) => progress(name, &format!("the history could not be kept: {error}")),
    }
}
