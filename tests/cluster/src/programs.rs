//! The load programs: one for each way to use a node from an application ([`crate::load`] says what they do), run as processes of their own
//! whose answer is one line of JSON. What this machine has not built is said by name, never skipped in silence.

use std::{
    io::{Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use quorate_tests::{not_run, repository};
use serde_json::Value;

/// A way to use a node.
#[derive(Clone, Debug)]
pub struct Program {
    /// As the table names it.
    pub name: &'static str,
    command: Vec<PathBuf>,
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    name: &'static str,
    process: Child,
    input: Option<ChildStdin>,
}

/// Every program that this machine can run. The others are named as "not run".
pub fn programs() -> Vec<Program> {
    let here = std::env::current_exe().expect("a program knows its own path");
    let folder = here.parent().expect("a program stands in a folder").to_path_buf();
    let python = std::env::var_os("QUORATE_PYTHON").map_or_else(|| folder.join("../python/bin/python"), PathBuf::from);
    let script = |name: &str| repository::root().join("tests/sdk").join(name);
    let mut programs = vec![Program { name: "Rust", command: vec![folder.join("quorate-load")] }];
    if answers(&python, "-c", "import quorate") {
        for (name, surface) in [("Python", "threads"), ("asyncio", "asyncio")] {
            let command = vec![python.clone(), script("load.py"), "--surface".into(), surface.into()];
            programs.push(Program { name, command });
        }
    } else {
        not_run("figures of the Python client: it is not built here; tests/sdk/python says more");
    }
    let node = PathBuf::from("node");
    if answers(&node, "--version", "") && repository::root().join("sdk-node/dist/index.mjs").exists() {
        programs.push(Program { name: "Node", command: vec![node, "--expose-gc".into(), script("load.mjs")] });
    } else {
        not_run("figures of the Node client: it is not built here; tests/sdk/node says more");
    }
    programs
}

/// Whether a command succeeds.
fn answers(command: &PathBuf, flag: &str, argument: &str) -> bool {
    let mut command = Command::new(command);
    command.arg(flag).args((!argument.is_empty()).then_some(argument));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

impl Program {
    /// Starts it on a task of [`crate::load::Task`], against these nodes.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(&self, task: &str, endpoints: &str, operations: u64) -> Running {
        let mut process = Command::new(&self.command[0])
            .args(&self.command[1..])
            .args([task, "--endpoints", endpoints, "--operations", &operations.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", self.name));
        let input = process.stdin.take();
        Running { name: self.name, process, input }
    }
}

impl Running {
    /// Tells it that it is enough, and waits for its answer.
    ///
    /// # Panics
    /// When it ends with an error, or not within `limit`.
    pub fn finish(mut self, limit: Duration) -> Value {
        drop(self.input.take());
        let mut output = self.process.stdout.take().expect("its output was asked for");
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let read = output.read_to_string(&mut text).map(|_| text);
            // Nobody listens any more once the limit is over.
            let _ = tell.send(read);
        });
        let text = told.recv_timeout(limit).unwrap_or_else(|_| panic!("{} has not ended after {limit:?}", self.name));
        let status = self.process.wait().expect("the program can be waited for");
        assert!(status.success(), "{} ended with {status}", self.name);
        let text = text.expect("its output is text");
        serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{} answered {text:?}: {error}", self.name))
    }

    /// Waits for the answer of a program that ends by itself.
    ///
    /// # Panics
    /// As [`Running::finish`].
    pub fn wait(mut self, limit: Duration) -> Value {
        // Its input stays open until it has answered.
        let input = self.input.take();
        let answer = self.finish(limit);
        drop(input);
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut input) = self.input.take() {
            let _ = input.flush();
        }
        // Errors mean that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
