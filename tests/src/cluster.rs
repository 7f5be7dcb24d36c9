//! Real nodes of a real cluster for tests: processes of the `quorate` binary on free loopback ports, with their data in a temporary folder,
//! which a test can kill, stop, pause and start again. Whatever happens, dropping a [`Cluster`] ends every process it started.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub use crate::ports::free_addresses;

/// How long a node may take from its start until it serves: far more than it needs, since a test machine may be busy.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a node may take to drain and exit: its own bound is shorter.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How a cluster shall be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes.
    pub nodes: usize,
    /// N: how many owners a key has.
    pub replicas: usize,
    /// Lines for the top of every configuration file, such as `max_bytes = 8388608`.
    pub lines: String,
    /// Where the data directories stand, instead of a temporary folder of the cluster's own.
    pub directory: Option<PathBuf>,
    /// Where the nodes listen, instead of on free ports.
    pub listen: Vec<SocketAddr>,
    /// Where the nodes and their clients reach each other, when that is not where they listen: proxies, say.
    pub advertised: Vec<SocketAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            replicas: 3,
            lines: String::new(),
            directory: None,
            listen: Vec::new(),
            advertised: Vec::new(),
        }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    base: PathBuf,
    lines: String,
    _temporary: Option<TempDir>,
}

/// One node: its process, while it has one, and where its things are.
#[derive(Debug)]
struct Node {
    process: Option<Child>,
    address: SocketAddr,
    configuration: PathBuf,
    data: PathBuf,
    log: PathBuf,
}

impl Cluster {
    /// Starts `nodes` nodes with N = 3, and waits until each accepts connections.
    pub fn start(nodes: usize) -> Self {
        Self::start_with(&Options { nodes, ..Options::default() })
    }

    /// Starts a cluster as `options` say, and waits until each node accepts connections.
    ///
    /// # Panics
    /// When a node does not come up; the message has the end of its log.
    pub fn start_with(options: &Options) -> Self {
        let temporary =
            options.directory.is_none().then(|| TempDir::with_prefix("quorate-test-").expect("a temporary folder"));
        let base =
            temporary.as_ref().map_or_else(|| options.directory.clone(), |folder| Some(folder.path().to_owned()));
        let base = base.expect("either a folder was given or one was made");
        let listen = if options.listen.is_empty() { free_addresses(options.nodes) } else { options.listen.clone() };
        let advertised = if options.advertised.is_empty() { &listen } else { &options.advertised };
        let nodes = (0..options.nodes).map(|at| Node::prepare(&base, at, listen[at], advertised, options)).collect();
        let mut cluster = Self { nodes, base, lines: options.lines.clone(), _temporary: temporary };
        (0..options.nodes).for_each(|at| cluster.nodes[at].spawn());
        (0..options.nodes).for_each(|at| cluster.nodes[at].wait_until_serving());
        cluster
    }

    /// Starts another node, which asks a node of the ring to be let in, and waits until it accepts connections. `join` are further lines for
    /// the table `[join]` of its configuration file, such as `zone = "z1"`. Its number; it owns nothing before a change of the ring is
    /// committed.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn join(&mut self, through: usize, join: &str) -> usize {
        let at = self.nodes.len();
        let node = Node::prepare_to_join(&self.base, at, self.nodes[through].address, &self.lines, join);
        self.nodes.push(node);
        self.restart(at);
        at
    }

    /// How many nodes were started, be they still there or not.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The addresses of all nodes that have a process, comma-separated.
    pub fn running(&self) -> String {
        let running = self.nodes.iter().filter(|node| node.process.is_some());
        running.map(|node| node.address.to_string()).collect::<Vec<_>>().join(",")
    }

    /// The addresses of all nodes, comma-separated, as `QUORATE_ENDPOINTS` wants them.
    pub fn endpoints(&self) -> String {
        self.nodes.iter().map(|node| node.address.to_string()).collect::<Vec<_>>().join(",")
    }

    /// Where a node listens.
    pub fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node].address
    }

    /// The process of a node, while it has one.
    pub fn process_id(&self, node: usize) -> Option<u32> {
        self.nodes[node].process.as_ref().map(Child::id)
    }

    /// Where a node keeps its data.
    pub fn data(&self, node: usize) -> &Path {
        &self.nodes[node].data
    }

    /// Memory a node's process has resident, in bytes.
    pub fn resident_bytes(&self, node: usize) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.nodes[node].pid())).expect("the process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the status says VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("VmRSS is a number") * 1024
    }

    /// Kills a node as a power switch would: no drain, no flush.
    pub fn kill(&mut self, node: usize) {
        let mut process = self.nodes[node].process.take().expect("the node runs");
        process.kill().expect("SIGKILL is delivered");
        process.wait().expect("the process ends");
    }

    /// Asks a node to drain and end, and waits for it.
    pub fn stop(&mut self, node: usize) -> ExitStatus {
        self.signal(node, Signal::TERM);
        self.wait_for_exit(node)
    }

    /// Waits until a node has ended by itself.
    ///
    /// # Panics
    /// When it is still there after half a minute.
    pub fn wait_for_exit(&mut self, node: usize) -> ExitStatus {
        let mut process = self.nodes[node].process.take().expect("the node runs");
        let started = Instant::now();
        loop {
            if let Some(status) = process.try_wait().expect("the process can be waited for") {
                return status;
            }
            if started.elapsed() > STOP_TIMEOUT {
                process.kill().expect("SIGKILL is delivered");
                panic!("node {node} did not end by itself:\n{}", self.nodes[node].log_end());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts a node again on the data it has, and waits until it accepts connections.
    pub fn restart(&mut self, node: usize) {
        self.nodes[node].spawn();
        self.nodes[node].wait_until_serving();
    }

    /// Starts a node again that is expected not to come up; use [`Cluster::wait_for_exit`] and [`Cluster::log`] to see why.
    pub fn spawn(&mut self, node: usize) {
        self.nodes[node].spawn();
    }

    /// Waits until a node that was started accepts connections.
    ///
    /// # Panics
    /// When it ends instead; the message has the end of its log.
    pub fn wait_until_serving(&mut self, node: usize) {
        self.nodes[node].wait_until_serving();
    }

    /// Stops a node's clock: it neither answers nor hangs up. The signal is delivered at once, and each thread stops when it gets to it.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn pause(&self, node: usize) {
        self.signal(node, Signal::STOP);
        let started = Instant::now();
        while !self.stands_still(node) {
            assert!(started.elapsed() < START_TIMEOUT, "node {node} does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn stands_still(&self, node: usize) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.nodes[node].pid())).expect("the process has threads");
        tasks.flatten().all(|task| {
            // The state follows the name, which may hold anything but ends with the last parenthesis. A thread that has ended is still.
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with(['T', 't']))
        })
    }

    /// Lets a paused node go on.
    pub fn resume(&self, node: usize) {
        self.signal(node, Signal::CONT);
    }

    /// Everything a node has logged.
    pub fn log(&self, node: usize) -> String {
        fs::read_to_string(&self.nodes[node].log).unwrap_or_default()
    }

    fn signal(&self, node: usize, signal: Signal) {
        let pid = i32::try_from(self.nodes[node].pid()).expect("a process id is an i32");
        kill_process(Pid::from_raw(pid).expect("a process id is not zero"), signal).expect("the signal is delivered");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                // SIGKILL also ends a paused process. Errors mean that it is gone already.
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

impl Node {
    fn prepare(base: &Path, at: usize, listen: SocketAddr, addresses: &[SocketAddr], options: &Options) -> Self {
        let name = format!("n{}", at + 1);
        let data = base.join(&name);
        let mut text = format!(
            "name = \"{name}\"\nlisten = \"{}\"\ndata = \"{}\"\n{}\n\n[cluster]\nname = \"test\"\nsecret = \"only for tests, long enough\"\nreplicas = {}\n",
            listen,
            data.display(),
            options.lines,
            options.replicas,
        );
        for (member, address) in addresses.iter().enumerate() {
            text += &format!(
                "\n[[cluster.members]]\nname = \"n{}\"\naddress = \"{address}\"\nzone = \"z{member}\"\n",
                member + 1
            );
        }
        Self::written(base, at, listen, &text)
    }

    fn prepare_to_join(base: &Path, at: usize, through: SocketAddr, lines: &str, join: &str) -> Self {
        let (name, listen) = (format!("n{}", at + 1), free_addresses(1)[0]);
        let text = format!(
            "name = \"{name}\"\nlisten = \"{listen}\"\ndata = \"{}\"\n{lines}\n\n[cluster]\nname = \"test\"\nsecret = \"only for tests, long enough\"\n\n[join]\nthrough = [\"{through}\"]\n{join}\n",
            base.join(&name).display(),
        );
        Self::written(base, at, listen, &text)
    }

    fn written(base: &Path, at: usize, listen: SocketAddr, text: &str) -> Self {
        let name = format!("n{}", at + 1);
        let (data, configuration) = (base.join(&name), base.join(format!("{name}.toml")));
        fs::write(&configuration, text).expect("the configuration can be written");
        Self { process: None, address: listen, configuration, data, log: base.join(format!("{name}.log")) }
    }

    fn spawn(&mut self) {
        assert!(self.process.is_none(), "the node already runs");
        let log = fs::OpenOptions::new().append(true).create(true).open(&self.log).expect("the log can be opened");
        let process = Command::new(binary())
            .arg("serve")
            .arg("--config")
            .arg(&self.configuration)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be copied"))
            .stderr(log)
            .spawn()
            .expect("the quorate binary starts");
        self.process = Some(process);
    }

    fn wait_until_serving(&mut self) {
        let started = Instant::now();
        while TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_err() {
            let ended =
                self.process.as_mut().expect("the node was started").try_wait().expect("the process can be waited for");
            assert!(ended.is_none(), "the node ended with {ended:?}:\n{}", self.log_end());
            assert!(started.elapsed() < START_TIMEOUT, "the node does not serve:\n{}", self.log_end());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn pid(&self) -> u32 {
        self.process.as_ref().expect("the node runs").id()
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// The `quorate` binary: `QUORATE_BINARY`, or the one beside the tests in the target folder.
///
/// # Panics
/// When it was not built; cargo does not build another package's binary for these tests.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("QUORATE_BINARY") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    // A test stands in the folder `deps`, a binary beside `quorate`.
    let places = test.ancestors().skip(1).take(2).map(|folder| folder.join("quorate"));
    let found = places.clone().find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{:?} are missing: cargo build -p quorate-server", places.collect::<Vec<_>>()))
}
