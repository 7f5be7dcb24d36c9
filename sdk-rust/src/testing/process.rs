//! The process `quorate testkit`: lines of JSON to it, answers from it, and its end.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::LocalClusterError;

/// How long one command may take: above the server's own bound for a node that starts on a busy disk.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// How long the end may take: nodes with a directory of their own drain, which is bounded below this.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause between two looks whether it has ended.
const CLOSE_LOOK: Duration = Duration::from_millis(2);

/// A running one. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Testkit {
    process: Child,
    /// `None` once it is told to end.
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
    /// The number of the last command.
    number: u64,
}

impl Testkit {
    /// Starts it and waits for its first line.
    pub(super) fn start(mut command: Command) -> Result<(Self, Value), LocalClusterError> {
        // A group of its own: Ctrl-C is for the test, which may want to use the cluster while it cleans up.
        let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn();
        let mut process = process.map_err(|error| {
            LocalClusterError(format!("{} can't be started: {error}", command.get_program().display()))
        })?;
        let commands = process.stdin.take();
        let (sender, answers) = mpsc::channel();
        let reader = process.stdout.take().map(|output| {
            thread::Builder::new().name("quorate-testkit".to_owned()).spawn(move || read(output, &sender))
        });
        let mut testkit = Self { process, commands, answers, number: 0 };
        if let Some(Err(error)) = reader {
            return Err(LocalClusterError(format!("a thread can't be started: {error}")));
        }
        let ready = testkit.receive(Instant::now() + COMMAND_TIMEOUT)?;
        match ready["ready"].as_bool() {
            Some(true) => Ok((testkit, ready)),
            Some(false) | None => Err(refusal(&ready)),
        }
    }

    /// Sends a command and waits for its answer.
    pub(super) fn command(&mut self, mut line: Value) -> Result<Value, LocalClusterError> {
        self.number += 1;
        line["id"] = self.number.into();
        let until = Instant::now() + COMMAND_TIMEOUT;
        let sent = self.commands.as_mut().map(|commands| writeln!(commands, "{line}"));
        if !matches!(sent, Some(Ok(()))) {
            return Err(self.ended());
        }
        // The answer to a command that nobody waited for any longer may stand before.
        loop {
            let answer = self.receive(until)?;
            if answer["id"].as_u64() == Some(self.number) {
                return if answer["ok"].as_bool() == Some(true) { Ok(answer) } else { Err(refusal(&answer)) };
            }
        }
    }

    fn receive(&mut self, until: Instant) -> Result<Value, LocalClusterError> {
        match self.answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => serde_json::from_str(&line)
                .map_err(|error| LocalClusterError(format!("quorate testkit says {line:?}: {error}"))),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = COMMAND_TIMEOUT.as_secs();
                Err(LocalClusterError(format!("quorate testkit did not answer within {seconds} s")))
            }
        }
    }

    fn ended(&mut self) -> LocalClusterError {
        let status = self.process.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        LocalClusterError(format!("quorate testkit has ended ({status}); what it wrote to standard error says why"))
    }
}

impl Drop for Testkit {
    fn drop(&mut self) {
        // The end of its input tells it to end everything.
        self.commands = None;
        let began = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) {
            if began.elapsed() > CLOSE_TIMEOUT {
                // Errors mean that it has ended after all.
                let _ = self.process.kill();
            }
            thread::sleep(CLOSE_LOOK);
        }
    }
}

/// Passes lines on until there are no more.
fn read(output: ChildStdout, sender: &mpsc::Sender<String>) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { return };
        if sender.send(line).is_err() {
            return;
        }
    }
}

fn refusal(answer: &Value) -> LocalClusterError {
    LocalClusterError(answer["error"].as_str().map_or_else(|| answer.to_string(), str::to_owned))
}
