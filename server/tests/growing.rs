//! A ring that grows from one node, as its users do it: `quorate serve`, `quorate serve --join`, `quorate ring commit`. Clients write
//! all the time; processes are killed in the middle of every step. What was acknowledged is there in the end, and no operation
//! failed that was tried again.
#![allow(missing_docs)]

#[path = "support/command.rs"]
#[allow(dead_code, unreachable_pub)]
mod command;

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use command::{Ran, quorate, run_with, wait_until};
use futures_util::TryStreamExt;
use quorate::{Client, Level};
use serde_json::Value;
use tempfile::TempDir;

/// A node's process, which ends with this value.
struct Served {
    process: Child,
    arguments: Vec<String>,
    log: PathBuf,
    address: String,
}

/// Nodes that were started one by one.
struct Ring {
    folder: TempDir,
    nodes: Vec<Served>,
}

impl Ring {
    fn of_one() -> Self {
        let mut ring = Self { folder: tempfile::tempdir().unwrap(), nodes: Vec::new() };
        ring.serve("n1", &[]);
        ring
    }

    /// Starts a node; its first listener may wait for the ring it enters.
    fn serve(&mut self, name: &str, more: &[&str]) {
        let address = format!("127.0.0.1:{}", free_port());
        let data = self.folder.path().join(name);
        let mut arguments: Vec<String> = ["serve", "--name", name, "--listen", &address, "--data"]
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect();
        arguments.push(data.to_str().unwrap().to_owned());
        arguments.extend(["--until-stdin-closes", "--set", "workers=2", "--set", "shards=2"].map(str::to_owned));
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let log = self.folder.path().join(format!("{name}.log"));
        let process = start(&arguments, &log);
        self.nodes.push(Served { process, arguments, log, address });
        self.wait_for(self.nodes.len() - 1);
    }

    /// Waits until a node serves.
    fn wait_for(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        wait_until("the node serves", || {
            let said = fs::read_to_string(&node.log).unwrap_or_default();
            if let Some(status) = node.process.try_wait().unwrap() {
                panic!("the node ended ({status}): {said}");
            }
            std::net::TcpStream::connect(&node.address).is_ok()
        });
    }

    /// Kills a node's process at once and starts it again on its directory.
    fn kill_and_restart(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.process.kill().unwrap();
        node.process.wait().unwrap();
        node.process = start(&node.arguments, &node.log);
        self.wait_for(at);
    }

    fn endpoints(&self) -> String {
        self.nodes.iter().map(|node| node.address.as_str()).collect::<Vec<_>>().join(",")
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = quorate(arguments);
        command.env("QUORATE_ENDPOINTS", self.endpoints());
        run_with(command, b"")
    }

    /// The plan for what is staged, once it has so many nodes.
    fn plan_of(&self, nodes: usize) -> Value {
        let mut plan = Value::Null;
        wait_until("what the newcomer staged can be planned", || {
            let ran = self.run(&["ring", "plan", "--output", "json"]);
            plan = serde_json::from_slice::<Value>(&ran.out).unwrap_or_default()["plan"].clone();
            plan["nodes"].as_array().is_some_and(|planned| planned.len() == nodes)
        });
        plan
    }

    /// Commits a plan without waiting for what it moves.
    fn commit(&self, plan: &Value) {
        let line = plan["commit"].as_str().unwrap().replace(" --wait", "");
        let arguments: Vec<&str> = line.split_whitespace().skip(1).collect();
        self.run(&arguments).expect(0);
    }

    /// Waits until nothing moves any more.
    fn settle(&self) {
        self.run(&["ring", "transfers", "--watch", "--patience", "60s"]).expect(0);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.process.kill();
            let _ = node.process.wait();
        }
        if thread::panicking() {
            for node in &self.nodes {
                let said = fs::read_to_string(&node.log).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(25).collect();
                eprintln!("--- {}", node.log.display());
                last.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}

fn start(arguments: &[String], log: &Path) -> Child {
    let log = fs::File::options().create(true).append(true).open(log).unwrap();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    quorate(&arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Somebody who writes all the time at level `quorum`, and remembers what was acknowledged.
struct Writer {
    is_over: Arc<AtomicBool>,
    failures: Arc<Mutex<Vec<String>>>,
    thread: thread::JoinHandle<u64>,
}

impl Writer {
    fn start(endpoints: String) -> Self {
        let (is_over, failures) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stop, failed) = (Arc::clone(&is_over), Arc::clone(&failures));
        let body = async move || {
            let client = Client::connect(&endpoints).await.unwrap();
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                let (key, value) = (key(written), value(written));
                // The client has tried several times already; a process that was killed needs about a second to come back.
                for attempt in 0.. {
                    match client.put(&*key, value.clone()).level(Level::Quorum).await {
                        Ok(_) => break,
                        Err(error) if attempt < 10 => {
                            tokio::time::sleep(Duration::from_millis(200)).await;
                            drop(error);
                        }
                        Err(error) => {
                            failed.lock().unwrap().push(format!("{key}: {error}"));
                            break;
                        }
                    }
                }
                written += 1;
            }
            client.close().await;
            written
        };
        let thread = thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body())
        });
        Self { is_over, failures, thread }
    }

    /// Ends the writing; how many keys were written.
    fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        let written = self.thread.join().unwrap();
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "{} of {written} failed for good: {:?}", failures.len(), failures.first());
        written
    }
}

fn key(number: u64) -> String {
    format!("key-{number}")
}

fn value(number: u64) -> String {
    format!("value of {number}")
}

/// Reads every key that was written.
fn check(endpoints: &str, written: u64) {
    let body = async {
        let client = Client::connect(endpoints).await.unwrap();
        for number in 0..written {
            let found = client.get(&*key(number)).level(Level::Quorum).await.unwrap();
            let found = found.unwrap_or_else(|| panic!("{} of {written} is missing", key(number)));
            // A write that was tried again because nobody knew whether it had happened may stand there twice, side by side.
            assert!(found.siblings().iter().all(|sibling| sibling.value == value(number).as_bytes()), "{found:?}");
        }
        client.close().await;
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body);
}

/// Somebody who lists, reads and writes a bucket of his own in whole, over and over, and never tries anything again himself.
struct Surveyor {
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
}

/// Keys of the bucket.
const SURVEYED: usize = 300;

impl Surveyor {
    fn start(endpoints: String) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let body = async move || {
            let client = Client::connect(&endpoints).await.unwrap();
            let bucket = client.bucket("surveyed").level(Level::Quorum).timeout(Duration::from_secs(20));
            let keys: BTreeSet<String> = (0..SURVEYED).map(|at| format!("surveyed-{at}")).collect();
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) || rounds == 0 {
                let entries = keys.iter().map(|key| (key.clone(), rounds.to_string()));
                for stored in bucket.put_many(entries).await {
                    stored.unwrap_or_else(|error| panic!("put_many: {error}"));
                }
                for found in bucket.get_many(&keys).await {
                    let found = found.unwrap_or_else(|error| panic!("get_many: {error}")).expect("a key is missing");
                    // A put without a context replaces what its coordinator has; what that has not yet heard of stands beside it.
                    let is_there =
                        found.siblings().iter().any(|sibling| *sibling.value == *rounds.to_string().as_bytes());
                    assert!(is_there, "a write of round {rounds} is not read");
                }
                for level in [Level::Quorum, Level::One] {
                    let scanned: Result<Vec<_>, _> = bucket.scan().level(level).try_collect().await;
                    let scanned = scanned.unwrap_or_else(|error| panic!("scan at {level:?}: {error}"));
                    let names = scanned.iter().map(|scanned| String::from_utf8(scanned.key.to_vec()).unwrap());
                    assert_eq!(scanned.len(), SURVEYED, "at {level:?}");
                    assert_eq!(names.collect::<BTreeSet<_>>(), keys);
                }
                rounds += 1;
            }
            client.close().await;
            rounds
        };
        let thread = thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body())
        });
        Self { is_over, thread }
    }

    /// Ends it; how often everything was looked at.
    fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn a_ring_grows_from_one_node_to_five_while_clients_write_and_scan() {
    let mut ring = Ring::of_one();
    let first = ring.endpoints();
    let (writer, surveyor) = (Writer::start(first.clone()), Surveyor::start(first.clone()));
    for (name, nodes) in [("n2", 2), ("n3", 3), ("n4", 4), ("n5", 5)] {
        ring.serve(name, &["--join", &first]);
        let plan = ring.plan_of(nodes);
        ring.commit(&plan);
        ring.settle();
    }
    let (written, rounds) = (writer.end(), surveyor.end());
    assert!(written > 10 && rounds > 1, "{written} {rounds}");
    // Of three owners any two are a quorum.
    let (kept, mut gone) = (ring.endpoints(), ring.nodes.remove(0));
    gone.process.kill().unwrap();
    gone.process.wait().unwrap();
    check(&kept, written);
}

#[test]
fn processes_that_are_killed_in_the_middle_of_a_join_go_on_where_they_were() {
    let mut ring = Ring::of_one();
    let first = ring.endpoints();
    let writer = Writer::start(first.clone());
    ring.serve("n2", &["--join", &first]);
    ring.kill_and_restart(1);
    let plan = ring.plan_of(2);
    ring.kill_and_restart(0);
    ring.commit(&plan);
    ring.kill_and_restart(1);
    ring.kill_and_restart(0);
    ring.settle();
    ring.serve("n3", &["--join", &first]);
    let plan = ring.plan_of(3);
    ring.commit(&plan);
    for at in [2, 0, 1] {
        ring.kill_and_restart(at);
    }
    ring.settle();
    check(&ring.endpoints(), writer.end());
}

#[test]
fn who_can_not_enter_is_told_why() {
    let ring = Ring::of_one();
    let first = ring.endpoints();
    let refusal = |name: &str, more: &[&str]| {
        let data = ring.folder.path().join("refused");
        let mut arguments = vec!["serve", "--name", name, "--listen", "127.0.0.1:0", "--join", &first];
        arguments.extend(["--data", data.to_str().unwrap()]);
        arguments.extend(more);
        run_with(quorate(&arguments), b"").expect_any(&[1, 2]).err
    };
    assert!(refusal("n1", &[]).contains("a node named \"n1\" already"));
    assert!(refusal("n2", &["--replace", "n7"]).contains("no node named \"n7\""));
    assert!(refusal("n2", &["--set", "cluster.name=other"]).contains("cluster"));
    assert!(refusal("n2", &["--set", "cluster.secret=another-secret-of-24-chars"]).contains("secret"));
}
