//! A cluster on this machine: real node processes of this very executable, on loopback ports, with generated
//! configurations. For `quorate dev` and `quorate bench --start`; not a way to run a service.
//!
//! No node outlives the command. Each holds the reading end of a pipe whose writing end only this process has; however this
//! process ends, even by SIGKILL, the kernel closes it and the node drains and exits (`serve --until-stdin-closes`).

mod directory;
mod parent;
mod ports;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    net::TcpStream,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

pub use directory::Setup;
use directory::{Directory, NodeFiles};
pub(super) use parent::end_when_stdin_closes;

use super::exit::{CommandError, Exit};

/// How long a node may take until it serves: opening a large store on a busy disk; what fails, fails at once.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a node that was told to end may drain, a little above its own limit, before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Pause between two looks at a starting or stopping node.
const POLL_EVERY: Duration = Duration::from_millis(10);

/// Most nodes on one machine: each has its threads, store and ports.
pub const NODES_MAX: u16 = 99;

/// How many of a dead node's last log lines are shown.
const LOG_LINES_SHOWN: usize = 12;

/// At most so much of the end of a log is searched for them.
const LOG_TAIL_BYTES: u64 = 64 << 10;

/// A running cluster; dropping it ends its nodes.
#[derive(Debug)]
pub struct LocalCluster {
    nodes: Vec<LocalNode>,
    directory: Directory,
    serve_arguments: Vec<String>,
}

#[derive(Debug)]
struct LocalNode {
    files: NodeFiles,
    process: Child,
}

impl LocalCluster {
    /// Starts the nodes and waits until each accepts connections; `started` is told about each that does.
    pub async fn start(setup: &Setup, mut started: impl FnMut(&str, &str, Duration)) -> Result<Self, CommandError> {
        let directory = Directory::prepare(setup)?;
        let began = Instant::now();
        let serve_arguments = setup.serve_arguments.clone();
        let mut cluster = Self { nodes: Vec::new(), directory, serve_arguments };
        for files in cluster.directory.nodes.clone() {
            let process = spawn(&files, &setup.serve_arguments)?;
            cluster.nodes.push(LocalNode { files, process });
        }
        for at in 0..cluster.nodes.len() {
            cluster.wait_until_serving(at, began).await?;
            let files = &cluster.nodes[at].files;
            started(&files.name, &files.address, began.elapsed());
        }
        Ok(cluster)
    }

    /// Kills a node as a power switch would.
    pub fn kill(&mut self, name: &str) -> Result<(), CommandError> {
        let node = self.node(name)?;
        node.process.kill()?;
        node.process.wait()?;
        Ok(())
    }

    /// Starts a node again that was killed, and waits until it serves.
    pub async fn start_again(&mut self, name: &str) -> Result<(), CommandError> {
        let arguments = self.serve_arguments.clone();
        let node = self.node(name)?;
        node.process = spawn(&node.files, &arguments)?;
        let at = self.nodes.iter().position(|node| node.files.name == name).unwrap_or_default();
        self.wait_until_serving(at, Instant::now()).await
    }

    fn node(&mut self, name: &str) -> Result<&mut LocalNode, CommandError> {
        let node = self.nodes.iter_mut().find(|node| node.files.name == name);
        node.ok_or_else(|| CommandError::new(Exit::Failed, format!("this cluster has no node {name}")))
    }

    /// Where the nodes listen.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.files.address.clone()).collect()
    }

    /// The processes of the nodes.
    pub fn processes(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.process.id()).collect()
    }

    /// Where everything of the cluster stands.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Whether the directory goes away with the cluster.
    pub fn is_temporary(&self) -> bool {
        self.directory.is_temporary()
    }

    /// An error that tells about the first node that has ended, if one has.
    pub fn check(&mut self) -> Result<(), CommandError> {
        self.nodes.iter_mut().try_for_each(LocalNode::check)
    }

    /// Tells the nodes to drain and end, and waits for them. What is returned keeps a temporary directory from going away.
    pub async fn stop(mut self) -> Result<Self, CommandError> {
        for node in &self.nodes {
            node.signal(Signal::TERM);
        }
        let began = Instant::now();
        for node in &mut self.nodes {
            while node.process.try_wait()?.is_none() {
                if began.elapsed() > STOP_TIMEOUT {
                    eprintln!("{} did not end within {} s and is killed", node.files.name, STOP_TIMEOUT.as_secs());
                    node.process.kill()?;
                }
                sleep(POLL_EVERY).await;
            }
        }
        self.nodes.clear();
        Ok(self)
    }

    async fn wait_until_serving(&mut self, at: usize, began: Instant) -> Result<(), CommandError> {
        loop {
            self.check()?;
            let files = &self.nodes[at].files;
            if files.address.parse().is_ok_and(|address| TcpStream::connect_timeout(&address, POLL_EVERY).is_ok()) {
                return Ok(());
            }
            if began.elapsed() > START_TIMEOUT {
                let message = format!(
                    "{} does not serve after {} s; the end of {}:\n{}",
                    files.name,
                    START_TIMEOUT.as_secs(),
                    files.log.display(),
                    log_end(&files.log)
                );
                return Err(CommandError::new(Exit::Unavailable, message));
            }
            sleep(POLL_EVERY).await;
        }
    }
}

impl LocalNode {
    fn check(&mut self) -> Result<(), CommandError> {
        let Some(status) = self.process.try_wait()? else { return Ok(()) };
        let message = format!(
            "{} has ended ({status}); the end of {}:\n{}",
            self.files.name,
            self.files.log.display(),
            log_end(&self.files.log)
        );
        Err(CommandError::new(Exit::Failed, message)
            .next(format!("quorate config check {}", self.files.configuration.display())))
    }

    fn signal(&self, signal: Signal) {
        // A node that has ended and not been waited for is still there to take a signal; so errors say nothing.
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // Both fail only when the process has been waited for already.
            let _ = node.process.kill();
            let _ = node.process.wait();
        }
    }
}

fn spawn(files: &NodeFiles, arguments: &[String]) -> Result<Child, CommandError> {
    let executable = std::env::current_exe()
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
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUORATE_") {
            command.env_remove(name);
        }
    }
    command.spawn().map_err(|error| CommandError::file("start", &executable, &error))
}

/// The last lines of a log.
fn log_end(path: &PathBuf) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = fs::metadata(path)?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("(it can't be read: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].iter().map(|line| format!("  {line}\n")).collect()
}
