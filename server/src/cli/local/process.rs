//! One node of a cluster on this machine as a process: started, looked after, signalled, and what it said last. Not what it
//! is configured to do, which stands in `directory`.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    net::TcpStream,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid},
};
use tokio::time::sleep;

use super::directory::NodeFiles;
use crate::cli::exit::{CommandError, Exit};

/// How long a node may take until it serves: opening a large store on a busy disk; what fails, fails at once.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a node that was told to end may drain, a little above its own limit, before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Pause between two looks at a starting or stopping node.
const POLL_EVERY: Duration = Duration::from_millis(10);

/// Pause between two looks whether a node stands still: it takes a fraction of a millisecond, unless the disk is busy.
const PAUSE_LOOK: Duration = Duration::from_millis(1);

/// How many of a dead node's last log lines are shown.
const LOG_LINES_SHOWN: usize = 12;

/// At most so much of the end of a log is searched for them.
const LOG_TAIL_BYTES: u64 = 64 << 10;

/// What a node's process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// Its clock stands still: it neither answers nor hangs up.
    Paused,
    /// It has ended.
    Ended(ExitStatus),
}

/// A node and its process, the last one it had if it has none now.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) files: NodeFiles,
    pub(super) process: Child,
    pub(super) is_paused: bool,
    /// Whether it was killed by this command's own doing.
    pub(super) is_killed: bool,
}

impl Node {
    /// One that was just started.
    pub(super) fn new(files: NodeFiles, process: Child) -> Self {
        Self { files, process, is_paused: false, is_killed: false }
    }

    pub(super) fn state(&mut self) -> io::Result<State> {
        Ok(match self.process.try_wait()? {
            Some(status) => State::Ended(status),
            None if self.is_paused => State::Paused,
            None => State::Running,
        })
    }

    /// An error if it has ended.
    pub(super) fn check(&mut self) -> Result<(), CommandError> {
        let State::Ended(status) = self.state()? else { return Ok(()) };
        let (name, log) = (&self.files.name, &self.files.log);
        let message = format!("{name} has ended ({status}); the end of {}:\n{}", log.display(), last_lines(log));
        Err(CommandError::new(Exit::Failed, message)
            .next(format!("quorate config check {}", self.files.configuration.display())))
    }

    /// Ends it as a power switch would.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.is_killed = true;
        self.process.kill()?;
        self.process.wait().map(|_| ())
    }

    pub(super) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        // Once it has been waited for, its number may be another's.
        if let State::Ended(_) = self.state()? {
            return Ok(());
        }
        let id = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        kill_process(id.ok_or(io::ErrorKind::InvalidInput)?, signal)?;
        Ok(())
    }

    /// Stops its clock, and waits until it stands: until one of its threads has taken the signal, all of them go on.
    pub(super) async fn pause(&mut self) -> Result<(), CommandError> {
        if self.state()? != State::Running {
            return Ok(());
        }
        self.signal(Signal::STOP)?;
        self.is_paused = true;
        let began = Instant::now();
        while !self.has_stopped()? {
            if let State::Ended(_) = self.state()? {
                return self.check();
            }
            if began.elapsed() > STOP_TIMEOUT {
                let message = format!("{} does not stand still after {} s", self.files.name, STOP_TIMEOUT.as_secs());
                return Err(CommandError::new(Exit::Failed, message));
            }
            sleep(PAUSE_LOOK).await;
        }
        Ok(())
    }

    /// Whether all its threads stand still since it was told so. Said once.
    fn has_stopped(&self) -> io::Result<bool> {
        let id = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        match waitid(WaitId::Pid(id), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG) {
            Ok(status) => Ok(status.is_some()),
            // It has ended instead, which is left to be waited for by whoever wants to know about it.
            Err(Errno::CHILD) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn resume(&mut self) -> io::Result<()> {
        self.signal(Signal::CONT)?;
        self.is_paused = false;
        Ok(())
    }

    /// Tells it to drain and end; a paused one goes on first, or it would not hear it.
    pub(super) fn terminate(&mut self) -> io::Result<()> {
        self.signal(Signal::TERM)?;
        self.resume()
    }

    /// Waits for a node that was told to end, and kills it when it takes too long.
    pub(super) async fn wait_until_ended(&mut self) -> Result<ExitStatus, CommandError> {
        let began = Instant::now();
        loop {
            if let State::Ended(status) = self.state()? {
                return Ok(status);
            }
            if began.elapsed() > STOP_TIMEOUT {
                eprintln!("{} did not end within {} s and is killed", self.files.name, STOP_TIMEOUT.as_secs());
                self.process.kill()?;
            }
            sleep(POLL_EVERY).await;
        }
    }

    pub(super) async fn wait_until_serving(&mut self, began: Instant) -> Result<(), CommandError> {
        loop {
            self.check()?;
            if TcpStream::connect_timeout(&self.files.listen, POLL_EVERY).is_ok() {
                return Ok(());
            }
            if began.elapsed() > START_TIMEOUT {
                let (name, log, seconds) = (&self.files.name, &self.files.log, START_TIMEOUT.as_secs());
                let end = last_lines(log);
                let message = format!("{name} does not serve after {seconds} s; the end of {}:\n{end}", log.display());
                return Err(CommandError::new(Exit::Unavailable, message));
            }
            sleep(POLL_EVERY).await;
        }
    }
}

/// Starts a node's process.
pub(super) fn spawn(files: &NodeFiles, arguments: &[String]) -> Result<Child, CommandError> {
    let executable = env::current_exe()
        .map_err(|error| CommandError::new(Exit::Failed, format!("can't find my own executable: {error}")))?;
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&files.log)
        .map_err(|error| CommandError::file("write", &files.log, &error))?;
    let mut command = Command::new(&executable);
    command
        .args(["serve", "--until-stdin-closes", "--config"])
        .arg(&files.configuration)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A group of its own: Ctrl-C reaches this process, which ends the nodes in order.
        .process_group(0);
    // The generated configuration is all there is; a variable meant for another node must not change this one.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("QUORATE_") {
            command.env_remove(name);
        }
    }
    command.spawn().map_err(|error| CommandError::file("start", &executable, &error))
}

/// The end of a log, at most so many bytes of it.
pub(super) fn log_end(path: &Path, bytes: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = fs::metadata(path)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn last_lines(log: &Path) -> String {
    let text = log_end(log, LOG_TAIL_BYTES).unwrap_or_else(|error| format!("(it can't be read: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].iter().map(|line| format!("  {line}\n")).collect()
}
