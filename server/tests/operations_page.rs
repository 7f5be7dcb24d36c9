//! The commands of the documents that change a ring, carried out as they stand there, one after the other, on real processes. Only
//! what a reader has to fill in is filled in: addresses of this machine, folders of the test, and the hash that the plan printed.
#![allow(missing_docs)]

#[path = "support/command.rs"]
#[allow(dead_code, unreachable_pub)]
mod command;

use std::{
    collections::BTreeMap,
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use command::{Dev, Ran, quorate, run_with, wait_until};
use serde_json::Value;
use tempfile::TempDir;

/// A command of a page, and the lines that are shown below it.
#[derive(Debug)]
struct Shown {
    words: Vec<String>,
    answer: Vec<String>,
}

/// The commands in the console blocks between two headings of a page.
fn commands(page: &str, from: &str, until: &str) -> Vec<Shown> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    let text = fs::read_to_string(&path).unwrap();
    let part = text.split(from).nth(1).and_then(|rest| rest.split(until).next());
    let part = part.unwrap_or_else(|| panic!("{page} has no part from {from:?} until {until:?}"));
    let mut shown: Vec<Shown> = Vec::new();
    for block in part.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap().lines() {
            match line.strip_prefix("$ quorate ") {
                Some(command) => {
                    let command = command.split(" #").next().unwrap();
                    shown
                        .push(Shown { words: command.split_whitespace().map(str::to_owned).collect(), answer: vec![] });
                }
                None => shown.last_mut().unwrap().answer.push(line.to_owned()),
            }
        }
    }
    assert!(shown.len() > 5, "{page} shows {} commands only", shown.len());
    shown
}

/// What was asked for must not only end well, but say what the page shows.
fn check(shown: &Shown, ran: Ran) {
    let ran = ran.expect(0);
    for line in &shown.answer {
        assert!(ran.text().contains(line) || ran.err.contains(line), "{line:?} is missing in {ran:?}");
    }
}

/// The words with the plan's hash in place of HASH. Its epoch must be the one that the page has.
fn with_hash(words: &[String], plan: impl FnOnce() -> Value) -> Vec<String> {
    if !words.iter().any(|word| word == "HASH") {
        return words.to_vec();
    }
    let plan = plan();
    let epoch = words.iter().skip_while(|word| *word != "--epoch").nth(1).expect("a commit names an epoch");
    assert_eq!(*epoch, plan["plan"]["epoch"].to_string(), "{words:?}: {plan}");
    let hash = plan["plan"]["hash"].as_str().unwrap();
    words.iter().map(|word| if word == "HASH" { hash.to_owned() } else { word.clone() }).collect()
}

/// Machines, each with an address and a folder for data; a node may run on one.
#[derive(Default)]
struct Machines {
    folder: Option<TempDir>,
    nodes: BTreeMap<String, (Child, String)>,
    addresses: BTreeMap<String, String>,
}

impl Machines {
    fn folder(&mut self) -> PathBuf {
        self.folder.get_or_insert_with(|| tempfile::tempdir().unwrap()).path().to_owned()
    }

    /// The address of this machine that stands for one of the page.
    fn address(&mut self, shown: &str) -> String {
        // Given back and taken at once: nobody else asks the system for a port that it gave away a moment ago.
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        self.addresses.entry(shown.to_owned()).or_insert_with(free).clone()
    }

    fn endpoints(&self) -> String {
        self.nodes.values().map(|(_, address)| address.as_str()).collect::<Vec<_>>().join(",")
    }

    fn run(&self, words: &[String]) -> Ran {
        let mut command = quorate(&words.iter().map(String::as_str).collect::<Vec<_>>());
        run_with(
            {
                command.env("QUORATE_ENDPOINTS", self.endpoints());
                command
            },
            b"",
        )
    }

    fn plan(&self) -> Value {
        self.run(&["ring", "plan", "--output", "json"].map(str::to_owned)).expect(0).json()
    }

    /// Ends a node as a power failure does.
    fn end(&mut self, name: &str) {
        if let Some((mut process, _)) = self.nodes.remove(name) {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts the node that a line of the page starts; one that runs is stopped first, and one that is replaced has lost its disk.
    fn serve(&mut self, words: &[String]) {
        let value = |option: &str| words.iter().skip_while(|word| *word != option).nth(1).cloned();
        let (name, data) = (value("--name").unwrap(), self.folder().join(value("--name").unwrap()));
        let known = self.nodes.get(&name).map(|(_, address)| address.clone());
        self.end(&name);
        if let Some(replaced) = value("--replace") {
            self.end(&replaced);
            fs::remove_dir_all(self.folder().join(replaced)).unwrap();
        }
        let local: Vec<String> = words
            .iter()
            .map(|word| match word.as_str() {
                "/var/lib/quorate" => data.display().to_string(),
                address if address.starts_with("10.") => self.address(address),
                other => other.to_owned(),
            })
            .collect();
        let mut command = quorate(&local.iter().map(String::as_str).collect::<Vec<_>>());
        command.args(["--until-stdin-closes", "--set", "workers=1", "--set", "shards=1"]);
        let log = fs::File::create(self.folder().join(format!("{name}.log"))).unwrap();
        let process = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let address = self.address(&value("--listen").unwrap());
        self.nodes.insert(name.clone(), (process, address.clone()));
        wait_until("the node listens", || TcpStream::connect(&address).is_ok());
        let is_new = value("--join").is_some() || known.is_some_and(|known| known != address);
        if is_new {
            wait_until("the node has staged what it wants", || {
                self.plan()["staged"].to_string().contains(&format!("\"{name} "))
            });
        }
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        names.iter().for_each(|name| self.end(name));
    }
}

#[test]
fn the_page_for_operators_changes_a_ring_from_its_first_node_on() {
    let mut machines = Machines::default();
    let mut is_written = false;
    for shown in commands("docs/operations.md", "## Changing the ring", "## Deletes and tombstones") {
        eprintln!("{}", shown.words.join(" "));
        if shown.words[0] == "serve" {
            machines.serve(&shown.words);
            continue;
        }
        if !is_written {
            machines.run(&["kv", "put", "greeting", "hello", "--level", "all"].map(str::to_owned)).expect(0);
            is_written = true;
        }
        if shown.words[0] == "status" {
            // Nodes that were just started are noticed by and by.
            wait_until("every node serves", || machines.run(&shown.words).code == 0);
            continue;
        }
        let words = with_hash(&shown.words, || machines.plan());
        check(&shown, machines.run(&words));
    }
    let read = machines.run(&["kv", "get", "greeting", "--level", "quorum"].map(str::to_owned)).expect(0);
    assert_eq!(read.out, b"hello");
}

#[test]
fn the_first_page_plays_with_a_cluster_that_runs() {
    let dev = Dev::start(3);
    dev.run(&["kv", "put", "greeting", "hello", "--level", "all"]).expect(0);
    for shown in commands("README.md", "### Growing, shrinking, losing nodes", "### In a program") {
        eprintln!("{}", shown.words.join(" "));
        let words = with_hash(&shown.words, || dev.run(&["ring", "plan", "--output", "json"]).expect(0).json());
        check(&shown, dev.run(&words.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!(dev.run(&["kv", "get", "greeting", "--level", "quorum"]).expect(0).out, b"hello");
    }
}
