//! The world of a scenario: a process that sets nodes up and harms them as it is told, in lines of JSON. `quorate testkit` has real
//! nodes, `quorate-stage` has fake ones that do as their script says. Dropping it ends it, and its nodes with it.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

use crate::cluster::binary;

/// A running world.
#[derive(Debug)]
pub struct World {
    process: Child,
    commands: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    asked: u64,
    /// Where its nodes are reached, separated by commas.
    pub endpoints: String,
}

impl World {
    /// Real nodes.
    pub fn testkit(nodes: u64) -> Self {
        let mut command = Command::new(binary());
        command.args(["testkit", "--nodes", &nodes.to_string()]);
        Self::start(command)
    }

    /// Fake nodes.
    pub fn stage(nodes: u64) -> Self {
        let mut command = Command::new(stage());
        command.arg(nodes.to_string());
        Self::start(command)
    }

    /// Gives a command and waits for its answer.
    ///
    /// # Panics
    /// When the process is gone: nothing that follows would mean anything.
    pub fn ask(&mut self, command: &Value) -> Value {
        self.asked += 1;
        let mut command = command.clone();
        command["id"] = json!(self.asked);
        let commands = self.commands.as_mut().expect("a world that runs has an input");
        writeln!(commands, "{command}").expect("the world takes commands");
        let answer = read(&mut self.answers);
        assert_eq!(answer["id"], command["id"], "{answer} answers another command than {command}");
        answer
    }

    fn start(mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the world starts");
        let mut answers = BufReader::new(process.stdout.take().expect("its output is a pipe")).lines();
        let ready = read(&mut answers);
        let endpoints = match &ready["endpoints"] {
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            one => one.as_str().unwrap_or_else(|| panic!("{ready} names no endpoints")).to_owned(),
        };
        Self { commands: process.stdin.take(), process, answers, asked: 0, endpoints }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.commands = None;
        let _ = self.process.wait();
    }
}

fn read(answers: &mut Lines<BufReader<ChildStdout>>) -> Value {
    let line = answers.next().expect("the world answers").expect("its answer is text");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line} is no JSON: {error}"))
}

/// The stage's binary: `QUORATE_STAGE`, or the one beside the node's.
fn stage() -> PathBuf {
    if let Some(path) = std::env::var_os("QUORATE_STAGE") {
        return path.into();
    }
    let path = binary().with_file_name("quorate-stage");
    assert!(path.is_file(), "{} is missing: cargo build -p quorate-stage", path.display());
    path
}
