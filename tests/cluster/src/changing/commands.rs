//! The `quorate` binary as administrators run it, with what it prints and its exit code; also two of them at the same time.

use std::process::{Child, Command, Output, Stdio};

use quorate_tests::cluster::binary;
use serde_json::Value;
use tokio::task::block_in_place;

/// What a command did.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it complained about.
    pub err: String,
}

/// A command at work.
#[derive(Debug)]
pub struct Running(Child);

/// Runs a command to its end. Its output is JSON where it has any.
///
/// # Panics
/// When the binary is missing.
pub fn quorate(endpoints: &str, arguments: &[&str]) -> Ran {
    start(endpoints, arguments).end()
}

/// Starts a command.
///
/// # Panics
/// When the binary is missing.
pub fn start(endpoints: &str, arguments: &[&str]) -> Running {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--endpoints", endpoints, "--output", "json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running(command.spawn().expect("the quorate binary runs"))
}

impl Ran {
    /// What it printed.
    ///
    /// # Panics
    /// When that is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.out.trim()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Running {
    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Waits for its end. What it prints fits into a pipe, or it would have to be read before.
    ///
    /// # Panics
    /// When its output can't be read.
    pub fn end(self) -> Ran {
        let Output { status, stdout, stderr } =
            block_in_place(|| self.0.wait_with_output()).expect("a command can be waited for");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
    }
}
