//! Row "availability": two clients write at the level of the paper while nodes are killed, frozen and cut off in turn. Every
//! put must be answered by its deadline, none that was acknowledged may be lost, and in the end all replicas are the same
//! and nothing is left to repair.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use quorate_tests::cluster::Options;
use tokio::time::sleep;

use super::{Settings, come_to_rest, conclude, progress, sloppiest_level};
use crate::{
    figures::Finding,
    nemesis::Harm,
    proxied::Proxied,
    random::Random,
    recorder::Recorder,
    workload::{Habits, Tally, Workload},
};

/// Keys: enough that hints are many, few enough that each is written often.
const KEYS: u64 = 300;

/// Time for an operation: what a person waits for.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Sendings of an operation by the two clients: the first and two more, as without any setting.
const ATTEMPTS: u32 = 3;

/// A third client sends only once more, and shows how many operations succeed within one retry.
const ATTEMPTS_OF_ONE_RETRY: u32 = 2;

/// What is done to a node, in turn.
const HARMS: [Harm; 3] = [Harm::Kill, Harm::Pause, Harm::CutOff];

/// How late an answer may be: the client's timers and this machine's scheduling.
const LATE_MAX: Duration = Duration::from_millis(500);

/// Lets clients write for a while.
pub fn availability(settings: &Settings) -> Finding {
    settings.run(5 + settings.seconds / 60, run(settings, 3))
}

/// The same with five nodes, of which each key has three owners: there are stand-ins now, and two nodes are harmed at a time.
pub fn stand_ins(settings: &Settings) -> Finding {
    settings.run(5 + settings.seconds / 60, run(settings, 5))
}

async fn run(settings: &Settings, nodes: usize) -> Finding {
    let mut cluster = Proxied::start(Options { nodes, ..Options::default() });
    // With two nodes away an operation may meet both before it meets one that answers.
    let (timeout, attempts) = if nodes == 3 { (TIMEOUT, ATTEMPTS) } else { (2 * TIMEOUT, 2 * ATTEMPTS) };
    let name = if nodes == 3 { "availability" } else { "stand-ins" };
    let clients = [cluster.client(timeout, attempts).await, cluster.client(timeout, attempts).await];
    let once_more = [cluster.client(timeout, ATTEMPTS_OF_ONE_RETRY).await];
    let level = sloppiest_level(&clients[0]).await;
    let habits = Habits { level, keys: KEYS, reads_percent: 25, value_bytes_max: 400, pause: Duration::from_millis(4) };
    let mut random = Random::new(settings.seed);
    let recorder = Arc::<Recorder>::default();
    let start =
        |clients, processes, seed| Workload::start(clients, processes, timeout, habits, Arc::clone(&recorder), seed);
    let (workload, once_more) = (start(&clients, 0..8, random.number()), start(&once_more, 8..10, random.number()));
    let turns = harm_in_turn(name, settings.seconds, &mut cluster, &workload, &mut random).await;
    let (recorder, tally) = workload.finish().await;
    let (_, tally_of_one_retry) = once_more.finish().await;
    let rest = come_to_rest(&clients[0], KEYS).await;
    let layout = clients[0].ring();
    for client in &clients {
        client.close().await;
    }
    let report = conclude(
        if nodes == 3 { "availability" } else { "stand-ins" },
        settings,
        &mut cluster,
        &layout,
        &recorder,
        KEYS,
    );
    let (succeeded, failed) = (tally.succeeded.load(Ordering::Relaxed), tally.failed_count());
    let late = Duration::from_micros(tally.late_us.load(Ordering::Relaxed));
    let is_plenty = report.acknowledged > 20 * settings.seconds;
    // A refusal would be an answer, but with one node away there is nothing to refuse.
    let stood_in = tally.with_stand_ins.load(Ordering::Relaxed);
    let has_stood_in = nodes == 3 || stood_in > 0;
    let is_good =
        has_stood_in && report.is_clean() && rest.idle_repairs == 0 && late <= LATE_MAX && is_plenty && failed == 0;
    let seen = format!(
        "{turns} failures in {} s at `{level:?}`: {report}; of the two clients' {} operations {failed} failed ({}), none was \
         later than its deadline by more than {late:.0?}; {} within one retry; {} acknowledged with stand-ins; {rest}",
        settings.seconds,
        succeeded + failed,
        tally.failures(),
        share(&tally_of_one_retry),
        stood_in,
    );
    Finding::new(is_good, seen)
}

/// Kills, freezes and cuts off one node after the other until the time is over; how often.
async fn harm_in_turn(
    name: &str,
    seconds: u64,
    cluster: &mut Proxied,
    workload: &Workload,
    random: &mut Random,
) -> usize {
    let (started, mut turns) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_secs(seconds) {
        sleep(Duration::from_millis(500 + random.below(500))).await;
        let (harm, node) = (HARMS[turns % HARMS.len()], (turns / HARMS.len() + turns) % cluster.nodes());
        let (succeeded, failed) = (workload.tally.succeeded.load(Ordering::Relaxed), workload.tally.failed_count());
        let age = started.elapsed().as_secs_f64();
        let what =
            format!("after {age:.0} s: {harm:?} of n{}, {succeeded} operations succeeded, {failed} failed", node + 1);
        progress(name, &what);
        // With more nodes than owners two may be away at a time.
        let victims = if cluster.nodes() > 3 { vec![node, (node + 1) % cluster.nodes()] } else { vec![node] };
        victims.iter().for_each(|node| harm.begin(cluster, *node));
        sleep(Duration::from_millis(1_500 + random.below(2_000))).await;
        victims.iter().for_each(|node| harm.end(cluster, *node));
        turns += 1;
    }
    turns
}

fn share(tally: &Tally) -> String {
    let (succeeded, failed) = (tally.succeeded.load(Ordering::Relaxed), tally.failed_count());
    let all = succeeded + failed;
    format!("{:.4} % of {all} operations", 100.0 * succeeded as f64 / all.max(1) as f64)
}
