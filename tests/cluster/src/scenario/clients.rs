//! Rows "forwards", "one-retry" and "client-memory": what the clients of every language have in common. Nodes count what they had to
//! forward, a node dies under load, and a million calls are made, all by programs that don't know what is looked at.

use std::time::{Duration, Instant};

use bytes::Bytes;
use dynamo::operation::{Action, Address, Consistency, Operation};
use quorate::{Client, NodeIndex};
use quorate_fuzz::seeds::{call, introduction};
use quorate_tests::cluster::{Cluster, Options};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

use super::{Settings, progress};
use crate::{
    figures::Finding,
    programs::{Program, programs},
};

/// How long a program may take: far more than it needs, since a test machine may be busy.
const LIMIT: Duration = Duration::from_secs(600);

/// Gets that are sent to one node whoever owns their keys: it forwards about two thirds, or the count shows nothing.
const CARELESS_GETS: usize = 90;

/// How long a node is away, and how long its peers then have to know it again.
const AWAY: Duration = Duration::from_millis(1200);
const BACK: Duration = Duration::from_millis(1500);

/// What memory may rise by over four fifths of the calls, whatever their number: allocators and interpreters take a few megabytes at
/// their own times (Node's up to four), so that a smaller bound would measure those.
const RISE_BYTES: u64 = 5 << 20;

/// What it may rise by for each call besides. At a million calls both together are less than eleven bytes for each that counts, and no
/// allocation is smaller than sixteen: whatever is kept of every call, even a handle of one, shows. At a hundred thousand calls they are
/// 70 bytes: a kept result shows.
const RISE_BYTES_PER_CALL: u64 = 4;

/// Lets every client do operations of every kind where most nodes own nothing of most keys.
pub fn forwards(settings: &Settings, operations: u64) -> Finding {
    settings.run(10, async {
        let mut findings = Vec::new();
        for replicas in [1, 2] {
            let cluster = Cluster::start_with(&Options { nodes: 3, replicas, ..Options::default() });
            let watcher = Client::connect(&cluster.endpoints()).await.expect("the nodes serve");
            for program in programs() {
                let before = count(&watcher).await;
                let answer = run_apart(&program, "kinds", &cluster, operations).await;
                let after = count(&watcher).await;
                let [forwards, received, taken] = [0, 1, 2].map(|at| after[at] - before[at]);
                let is_right = answer["wrong"] == 0 && forwards + received == 0 && taken >= operations;
                let name = program.name;
                let what =
                    format!("{name}: {forwards} forwards of {taken} operations, {} answers wrong", answer["wrong"]);
                progress("forwards", &format!("{replicas} of 3 nodes own each key: {what}"));
                findings.push((is_right, format!("{what} (N = {replicas})")));
                wipe(&watcher).await;
            }
            let before = count(&watcher).await[0];
            careless(&cluster).await;
            let forwards = count(&watcher).await[0] - before;
            findings.push((
                forwards > 0,
                format!("a client without a map: {forwards} of {CARELESS_GETS} (N = {replicas})"),
            ));
        }
        together(&findings)
    })
}

/// Kills nodes under load by clients that may send each operation twice.
pub fn one_retry(settings: &Settings, kills: u64) -> Finding {
    settings.run(10, async {
        let (mut findings, mut all_retries) = (Vec::new(), 0);
        let mut cluster = Cluster::start(3);
        // All of them at the same time: what one meets, all meet.
        let running: Vec<_> = programs()
            .into_iter()
            .map(|program| (program.name, program.start("strict", &cluster.endpoints(), 0)))
            .collect();
        sleep(BACK).await;
        for round in 0..kills {
            let node = (round % 3) as usize;
            cluster.kill(node);
            sleep(AWAY).await;
            cluster.restart(node);
            sleep(BACK).await;
        }
        for (name, running) in running {
            let answer = tokio::task::block_in_place(|| running.finish(LIMIT));
            let errors: u64 =
                answer["errors"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
            let (operations, retries) = (number(&answer, "operations"), number(&answer, "retries"));
            let is_right = errors == 0 && answer["wrong"] == 0 && operations > 50 * kills;
            all_retries += retries;
            let what = format!(
                "{}: {operations} operations, {retries} sent a second time, {errors} failed{}, {} read wrongly",
                name,
                if errors > 0 { format!(" ({})", answer["errors"]) } else { String::new() },
                answer["wrong"]
            );
            progress("one-retry", &what);
            findings.push((is_right, what));
        }
        findings.push((all_retries > 0, format!("{all_retries} retries in all")));
        together(&findings)
    })
}

/// Makes many calls and looks at what memory they leave.
pub fn memory(settings: &Settings, calls: u64) -> Finding {
    settings.run(30, async {
        let cluster = Cluster::start(1);
        let mut findings = Vec::new();
        for program in programs() {
            let started = Instant::now();
            let answer = run_apart(&program, "memory", &cluster, calls).await;
            let (before, after) = (number(&answer, "before_bytes"), number(&answer, "after_bytes"));
            let rise = after.saturating_sub(before);
            let what = format!(
                "{}: {:+.1} MiB on {:.0} MiB after {calls} calls in {:.0} s",
                program.name,
                (after as f64 - before as f64) / f64::from(1 << 20),
                before as f64 / f64::from(1 << 20),
                started.elapsed().as_secs_f64()
            );
            progress("client-memory", &what);
            let may_rise = RISE_BYTES + RISE_BYTES_PER_CALL * calls;
            findings.push((rise <= may_rise && before > 0, what));
        }
        together(&findings)
    })
}

async fn run_apart(program: &Program, task: &str, cluster: &Cluster, operations: u64) -> Value {
    let running = program.start(task, &cluster.endpoints(), operations);
    tokio::task::block_in_place(|| running.wait(LIMIT))
}

/// One finding of several; a table with one language missing is not passed.
fn together(findings: &[(bool, String)]) -> Finding {
    let seen: Vec<&str> = findings.iter().map(|(_, what)| what.as_str()).collect();
    Finding::new(findings.iter().all(|(is_right, _)| *is_right), seen.join("; "))
}

/// What all nodes have handed over, what was handed over to them, and the operations that clients sent them.
async fn count(client: &Client) -> [u64; 3] {
    let mut counts = [0; 3];
    for node in (0..).take(client.ring().members.len()) {
        for counter in client.status(NodeIndex(node)).await.expect("a node tells its status").counters {
            let names = ["forwards", "forwarded_here", "batch_operations"];
            if let Some(at) = names.iter().position(|name| *name == counter.name) {
                counts[at] += counter.value;
            }
        }
    }
    counts
}

/// Leaves nothing for the next program.
async fn wipe(client: &Client) {
    use futures_util::StreamExt;
    let keys: Vec<Bytes> = client.scan().map(|key| key.expect("the scan goes through").key).collect().await;
    for deleted in client.delete_many(&keys).await {
        deleted.expect("a delete is acknowledged");
    }
}

/// Sends gets to the first node as a client does that knows no map.
async fn careless(cluster: &Cluster) {
    let mut stream = TcpStream::connect(cluster.address(0)).await.expect("the node listens");
    let gets: Vec<Operation> = (0..CARELESS_GETS)
        .map(|at| Operation {
            address: Address::new(Bytes::from_static(b"default"), Bytes::from(format!("careless {at}"))),
            consistency: Consistency::default(),
            action: Action::Get { without_values: false },
        })
        .collect();
    let frames = [introduction(), call(2, &gets)].concat();
    stream.write_all(&frames).await.expect("the node reads");
    // Its answers are of no interest, but it needs a moment.
    sleep(Duration::from_secs(1)).await;
}

fn number(answer: &Value, name: &str) -> u64 {
    answer[name].as_u64().unwrap_or(0)
}
