//! `quorate testkit`: does to a cluster what a line says, answers every line, and leaves no process and no folder behind,
//! however it or whoever started it ends.
#![allow(missing_docs)]

#[path = "support/command.rs"]
#[allow(dead_code, unreachable_pub)]
mod command;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use command::{nodes_in, quorate, run_with, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A running one, whose temporary data stands in a folder of the test's own.
struct Testkit {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    ready: Value,
    folder: TempDir,
}

impl Testkit {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = quorate(&["testkit"]);
        command.args(arguments);
        Self::start_with(command, folder)
    }

    fn start_with(mut command: Command, folder: TempDir) -> Self {
        command.env("TMPDIR", folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (input, output) = (process.stdin.take(), BufReader::new(process.stdout.take().unwrap()));
        let mut testkit = Self { process, input, output, ready: Value::Null, folder };
        testkit.ready = testkit.answer();
        assert_eq!(testkit.ready["ready"], true, "{}", testkit.ready);
        testkit
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    fn line(&mut self, line: &str) -> Value {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
        self.answer()
    }

    #[track_caller]
    fn done(&mut self, line: Value) -> Value {
        let answer = self.line(&line.to_string());
        assert_eq!(answer["ok"], true, "{line}: {answer}");
        answer
    }

    #[track_caller]
    fn refused(&mut self, line: Value) -> String {
        let answer = self.line(&line.to_string());
        assert_eq!((&answer["ok"], &answer["id"]), (&json!(false), &line["id"]), "{line}: {answer}");
        answer["error"].as_str().unwrap().to_owned()
    }

    fn endpoints(&self) -> Vec<&str> {
        self.ready["endpoints"].as_array().unwrap().iter().map(|endpoint| endpoint.as_str().unwrap()).collect()
    }

    /// The exit code of a command on this cluster.
    fn run(&self, arguments: &[&str]) -> i32 {
        let mut command = quorate(arguments);
        command.env("QUORATE_ENDPOINTS", self.endpoints().join(","));
        run_with(command, b"").code
    }

    fn data(&self) -> PathBuf {
        PathBuf::from(self.ready["directory"].as_str().unwrap())
    }

    /// Waits until nothing is left, which must be soon.
    #[track_caller]
    fn is_gone(&self) {
        let began = Instant::now();
        wait_until("no node and no folder is left", || {
            nodes_in(&self.data()).is_empty()
                && guards_of(&self.data()) == 0
                && fs::read_dir(self.folder.path()).unwrap().count() == 0
        });
        assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    }
}

impl Drop for Testkit {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.process.kill();
        let _ = self.process.wait();
        let began = Instant::now();
        while !nodes_in(self.folder.path()).is_empty() && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The processes that guard a folder.
fn guards_of(folder: &Path) -> usize {
    let wanted = format!("--guard\0{}", folder.display()).into_bytes();
    let lines = fs::read_dir("/proc").unwrap().flatten().map(|entry| fs::read(entry.path().join("cmdline")));
    lines.flatten().filter(|line| line.windows(wanted.len()).any(|window| window == wanted)).count()
}

fn signal(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), signal).unwrap();
}

/// Whether every thread of a process is stopped.
fn stands_still(process: &Value) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    threads
        .map(|thread| fs::read_to_string(thread.path().join("status")).unwrap())
        .all(|status| status.contains("T (stopped)"))
}

fn states(answer: &Value) -> Vec<&str> {
    answer["nodes"].as_array().unwrap().iter().map(|node| node["state"].as_str().unwrap()).collect()
}

#[test]
fn nodes_are_killed_frozen_and_started_again_as_the_lines_say() {
    let mut testkit = Testkit::start(&["--nodes", "3"]);
    assert_eq!(states(&testkit.ready), ["running"; 3]);
    assert_eq!(testkit.run(&["kv", "put", "key", "value", "--level", "all"]), 0);

    let killed = testkit.done(json!({"id": 1, "do": "kill", "node": 0}));
    assert_eq!((&killed["id"], states(&killed)), (&json!(1), vec!["ended"]));
    assert!(killed["nodes"][0]["ended"].as_str().unwrap().contains("SIGKILL"));
    assert!(testkit.refused(json!({"id": "again", "do": "kill", "node": 0})).contains("n1 does not run"));
    assert_eq!(testkit.run(&["kv", "get", "key", "--level", "quorum"]), 0);
    assert_eq!(testkit.run(&["kv", "get", "key", "--level", "all"]), 6);

    let paused = testkit.done(json!({"do": "pause", "node": "n2"}));
    assert!(stands_still(&paused["nodes"][0]["process"]), "it is answered when the node stands");
    assert_eq!(states(&testkit.done(json!({"do": "status"}))), ["ended", "paused", "running"]);
    assert_eq!(testkit.run(&["kv", "get", "key", "--level", "quorum", "--timeout", "700ms"]), 6);
    assert_eq!(testkit.run(&["kv", "get", "key", "--level", "one"]), 0);

    testkit.done(json!({"do": "resume", "node": 1}));
    let again = testkit.done(json!({"do": "restart", "nodes": [0, 1]}));
    assert_eq!(states(&again), ["running"; 2]);
    assert_ne!(again["nodes"][1]["process"], testkit.ready["nodes"][1]["process"], "a node that runs is restarted too");
    assert_eq!(testkit.run(&["kv", "get", "key", "--level", "all"]), 0);

    testkit.done(json!({"do": "pause", "node": 2}));
    let stopped = testkit.done(json!({"do": "stop", "node": 2}));
    assert_eq!(stopped["nodes"][0]["ended"], "exit status: 0", "a paused node ends in order too");
    let log = testkit.done(json!({"do": "log", "node": 2}));
    assert!(log["log"].as_str().unwrap().contains("stopping"), "{log}");
}

#[test]
fn a_partition_separates_nodes_and_clients_until_it_is_healed() {
    let mut testkit = Testkit::start(&[]);
    let put = ["kv", "put", "key", "value", "--level", "quorum", "--timeout", "1500ms"];
    assert_eq!(testkit.run(&put), 0);
    testkit.done(json!({"do": "partition", "groups": [[0], [1, 2]], "clients": 1}));
    assert_eq!(testkit.run(&put), 0, "the larger side goes on");
    testkit.done(json!({"do": "partition", "groups": [[0], [1, 2]]}));
    assert!([6, 7].contains(&testkit.run(&put)), "the smaller side must not acknowledge");
    let status = testkit.done(json!({"do": "status"}));
    assert_eq!((&status["groups"], &status["clients"]), (&json!([[0], [1, 2]]), &json!(0)));
    testkit.done(json!({"do": "heal"}));
    assert_eq!(testkit.done(json!({"do": "status"})).get("groups"), None);
    wait_until("the cluster is whole", || testkit.run(&["kv", "put", "key", "value", "--level", "all"]) == 0);
}

#[test]
fn a_line_that_is_no_command_is_answered_and_nothing_ends() {
    let mut testkit = Testkit::start(&["--nodes", "1"]);
    for line in ["{", "[1,2]", "\u{fffd}\u{0}", r#"{"do":"kill","node":1}"#, r#"{"do":"kill"}"#, &"x".repeat(1 << 20)] {
        let answer = testkit.line(line);
        assert_eq!(answer["ok"], false, "{answer}");
        assert!(!answer["error"].as_str().unwrap().is_empty());
    }
    testkit.input.as_mut().unwrap().write_all(b"\n\n\xff\xfe\n").unwrap();
    assert_eq!(testkit.answer()["ok"], false, "blank lines are none, and bytes that are no text are refused");
    assert_eq!(states(&testkit.done(json!({"do": "status"}))), ["running"]);
}

#[test]
fn the_end_of_the_input_ends_everything() {
    let mut testkit = Testkit::start(&["--nodes", "3"]);
    testkit.done(json!({"do": "pause", "node": 0}));
    testkit.done(json!({"do": "kill", "node": 1}));
    testkit.done(json!({"do": "partition", "groups": [[0], [1, 2]]}));
    testkit.input = None;
    assert_eq!(testkit.process.wait().unwrap().code(), Some(0));
    testkit.is_gone();
}

#[test]
fn a_signal_ends_everything_even_while_a_command_is_under_way() {
    let mut testkit = Testkit::start(&["--nodes", "2"]);
    let lines = format!("{}\n", json!({"do": "restart", "nodes": [0, 1]})).repeat(50);
    testkit.input.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
    signal(testkit.process.id(), Signal::TERM);
    assert_eq!(testkit.process.wait().unwrap().code(), Some(0));
    testkit.is_gone();
}

#[test]
fn the_death_of_the_parent_ends_everything_even_if_somebody_else_holds_its_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    // The shell is the parent; the test keeps the other end of standard input open, as a forked child would.
    // Of itself, a shell gives a command in the background no input.
    shell.args(["-c", "exec 3<&0; \"$0\" testkit --nodes 2 <&3 3<&- & wait"]).arg(env!("CARGO_BIN_EXE_quorate"));
    let mut testkit = Testkit::start_with(shell, folder);
    assert_eq!(nodes_in(&testkit.data()).len(), 2);
    testkit.process.kill().unwrap();
    testkit.process.wait().unwrap();
    testkit.is_gone();
}

#[test]
fn nothing_is_left_when_it_is_killed_itself() {
    let mut testkit = Testkit::start(&["--nodes", "3"]);
    testkit.done(json!({"do": "pause", "node": 1}));
    testkit.process.kill().unwrap();
    testkit.process.wait().unwrap();
    testkit.is_gone();
}

#[test]
fn a_cluster_that_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = quorate(&["testkit", "--nodes", "2", "--set", "value_bytes_max=many"]);
    command.env("TMPDIR", folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    // The end of its input would end it before it has tried.
    let _open = process.stdin.take();
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["ready"], false);
    assert!(said["error"].as_str().unwrap().contains("value_bytes_max"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_of_its_own_keeps_the_data_and_the_addresses() {
    let kept = tempfile::tempdir().unwrap();
    let directory = kept.path().join("cluster");
    let arguments = ["--nodes", "3", "--dir", directory.to_str().unwrap()];
    let mut first = Testkit::start(&arguments);
    assert_eq!(first.run(&["kv", "put", "key", "kept", "--level", "all"]), 0);
    let listed = first.ready["endpoints"].clone();
    first.input = None;
    assert_eq!(first.process.wait().unwrap().code(), Some(0));
    assert!(nodes_in(Path::new(&directory)).is_empty());

    let second = Testkit::start(&arguments[2..]);
    assert_eq!(second.ready["endpoints"], listed);
    assert_eq!(second.run(&["kv", "get", "key", "--level", "all"]), 0);
}
