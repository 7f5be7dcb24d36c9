//! The `quorate` binary as a user runs it: commands with their output and exit code, and clusters started by `quorate dev`.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Nothing in these tests takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("this output is text")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub fn expect_any(self, codes: &[i32]) -> Self {
        assert!(codes.contains(&self.code), "exit code {} is none of {codes:?}: {self:?}", self.code);
        self
    }

    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", String::from_utf8_lossy(&self.out), self.err);
        self
    }
}

/// The binary, without anything of this machine's environment that configures it.
pub fn quorate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUORATE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// Runs a command to its end.
pub fn run(arguments: &[&str]) -> Ran {
    run_with(quorate(arguments), b"")
}

/// Runs a command with standard input.
pub fn run_with(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The command may end without having read everything.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let err = String::from_utf8_lossy(&stderr).into_owned();
    Ran { code: status.code().unwrap_or(-1), out: stdout, err }
}

/// Waits until something is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A cluster that `quorate dev` runs; it ends with this value.
pub struct Dev {
    pub process: Child,
    pub directory: PathBuf,
    pub endpoints: String,
    folder: Option<TempDir>,
}

impl Dev {
    /// Starts a cluster of its own.
    pub fn start(nodes: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("cluster");
        let mut dev = Self::start_in(&directory, nodes);
        dev.folder = Some(folder);
        dev
    }

    /// Starts or continues the cluster of a directory.
    pub fn start_in(directory: &Path, nodes: u16) -> Self {
        let log = directory.with_extension("err");
        let process = quorate(&["dev", "--nodes", &nodes.to_string(), "--dir"])
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut dev = Self { process, directory: directory.to_owned(), endpoints: String::new(), folder: None };
        wait_until("the cluster serves", || {
            let said = fs::read_to_string(&log).unwrap();
            if let Some(status) = dev.process.try_wait().unwrap() {
                panic!("quorate dev ended ({status}): {said}");
            }
            said.contains("serving until")
        });
        let address = |number| {
            let file = fs::read_to_string(directory.join(format!("n{number}.toml"))).unwrap();
            let line = file.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap();
            line.trim_matches('"').to_owned()
        };
        dev.endpoints = (1..=nodes).map(address).collect::<Vec<_>>().join(",");
        dev
    }

    /// A command on this cluster.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = quorate(arguments);
        command.env("QUORATE_ENDPOINTS", &self.endpoints);
        command
    }

    /// Runs a command on this cluster.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run_with(self.command(arguments), b"")
    }

    /// The processes of its nodes, whoever their parent is now.
    pub fn nodes(&self) -> Vec<u32> {
        nodes_in(&self.directory)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Even after SIGKILL the nodes end by themselves; a test's own folder must not go before them.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let started = Instant::now();
        while !self.nodes().is_empty() && started.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The processes of nodes whose configuration stands in a directory.
pub fn nodes_in(directory: &Path) -> Vec<u32> {
    let wanted = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let wanted = wanted.to_str().unwrap().as_bytes().to_vec();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let has = |part: &[u8]| command.windows(part.len()).any(|window| window == part);
            has(b"\0serve\0") && has(&wanted)
        })
        .collect()
}
