//! `quorate testkit`: a cluster for the tests of applications. Real nodes with a proxy before each, and commands on standard
//! input that kill, freeze and separate them. The libraries of all languages are thin around it (`quorate::testing` and its
//! like); a person who only wants to look at a cluster takes `quorate dev`.
//!
//! Nothing is left behind: not when standard input closes, not when whoever started it is killed, not when it is killed itself.

mod changing;
mod ending;
mod guard;
mod protocol;

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::{select, sync::mpsc, task::spawn_blocking};

use self::{
    ending::Line,
    guard::Guard,
    protocol::{Command, Request, Split},
};
use super::{
    client,
    exit::{CommandError, Exit},
    local::{
        LocalCluster, NODES_MAX, Setup, State,
        links::{End, Links},
    },
};

/// What every node is told first: one worker and one shard start quickly, are enough for a test's load, and leave the cores to
/// the test. Settings of the command line come later and so win.
const SETTINGS: [&str; 2] = ["workers=1", "shards=1"];

/// Most of a log that is answered: its end. The whole stands in the file whose path is answered too.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// Run a cluster for an application's own tests, and do it harm on request.
///
/// Commands are lines of JSON on standard input, answers lines on standard output; the first line says where the nodes are.
/// The libraries for Rust, Python and Node speak this for you: docs/testing.md.
#[derive(Debug, Args)]
#[command(
    after_help = "Everything ends, and temporary data is removed, when standard input closes, the parent ends, or at Ctrl-C.

Examples:
  quorate testkit
  {\"id\": 1, \"do\": \"kill\", \"node\": 0}
  {\"id\": 2, \"do\": \"partition\", \"groups\": [[1], [2]], \"clients\": 0}"
)]
pub struct Testkit {
    /// How many nodes; 3, or as many as DIRECTORY has.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    nodes: Option<u16>,

    /// How many owners a key has; 3.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=i64::from(dynamo::layout::REPLICAS_MAX)))]
    replicas: Option<u8>,

    /// Keep the cluster in this directory.
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,

    /// A setting of all nodes, written as in the configuration file: --set deadlines.default_ms=500
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,

    /// Be the guard of a test cluster's folder.
    #[arg(long, value_name = "DIRECTORY", hide = true, exclusive = true)]
    guard: Option<PathBuf>,
}

impl Testkit {
    /// Carries out the command.
    pub fn run(self) -> Result<Exit, CommandError> {
        match &self.guard {
            Some(folder) => guard::stand(folder),
            None => client::block_on(self.testkit()),
        }
    }

    async fn testkit(self) -> Result<Exit, CommandError> {
        let (mut ending, mut lines) = ending::watch()?;
        let temporary = if self.dir.is_none() { Some(Temporary::make()?) } else { None };
        let setup = self.setup(temporary.as_ref());
        let started = select! {
            started = LocalCluster::start(&setup, |_, _, _| {}) => started,
            reason = ending.come() => return Err(CommandError::new(Exit::Interrupted, reason.while_starting())),
        };
        let cluster = match started {
            Ok(cluster) => cluster,
            Err(error) => {
                say(json!({ "ready": false, "error": error.message })).await?;
                return Ok(error.exit);
            }
        };
        let mut session = Session { cluster, split: None };
        say(session.ready()?).await?;
        select! {
            ended = session.serve(&mut lines) => ended?,
            _ = ending.come() => {}
        }
        if temporary.is_none() {
            session.cluster.stop().await?;
        }
        Ok(Exit::Done)
    }

    fn setup(&self, temporary: Option<&Temporary>) -> Setup {
        let settings = SETTINGS.into_iter().chain(self.settings.iter().map(String::as_str));
        Setup {
            nodes: self.nodes,
            directory: self.dir.clone().or_else(|| temporary.map(|temporary| temporary.folder.path().to_owned())),
            serve_arguments: settings.flat_map(|setting| ["--set".to_owned(), setting.to_owned()]).collect(),
            replicas: self.replicas,
            is_proxied: true,
        }
    }
}

/// A folder that goes away with its cluster, whatever happens.
struct Temporary {
    folder: TempDir,
    /// Let go after the folder is removed.
    _guard: Guard,
}

impl Temporary {
    fn make() -> Result<Self, CommandError> {
        let place = env::temp_dir();
        let folder = tempfile::Builder::new().prefix(guard::FOLDER_PREFIX).tempdir_in(place.canonicalize()?);
        let folder = folder.map_err(|error| CommandError::file("make a folder in", &place, &error))?;
        let guard = Guard::start(folder.path())?;
        Ok(Self { folder, _guard: guard })
    }
}

/// A cluster that obeys.
struct Session {
    cluster: LocalCluster,
    /// Who can reach whom, while not everybody reaches everybody.
    split: Option<Split>,
}

impl Session {
    /// Answers lines until nobody reads the answers any more.
    async fn serve(&mut self, lines: &mut mpsc::Receiver<Line>) -> Result<(), CommandError> {
        while let Some(line) = lines.recv().await {
            let names: Vec<String> = self.cluster.nodes().map(|node| node.name.to_owned()).collect();
            let request = match line {
                Line::Text(text) => Request::parse(&text, &names),
                Line::TooLong => Request { id: Value::Null, command: Err("the line is too long for a command".into()) },
            };
            let outcome = match &request.command {
                Ok(command) => self.carry_out(command).await.map_err(|error| error.to_string()),
                Err(why) => Err(why.clone()),
            };
            say(match outcome {
                Ok(more) => request.done(more),
                Err(why) => request.failed(&why),
            })
            .await?;
        }
        // The end of the input is noticed elsewhere.
        std::future::pending().await
    }

    async fn carry_out(&mut self, command: &Command) -> Result<Map<String, Value>, CommandError> {
        match command {
            Command::Kill(nodes) => {
                self.each_running(nodes)?;
                nodes.iter().try_for_each(|node| self.cluster.kill(*node))?;
                self.views(nodes)
            }
            Command::Stop(nodes) => {
                self.each_running(nodes)?;
                self.stop(nodes).await?;
                self.views(nodes)
            }
            Command::Restart(nodes) => {
                self.restart(nodes).await?;
                self.views(nodes)
            }
            Command::Pause(nodes) => {
                self.each_running(nodes)?;
                for node in nodes {
                    self.cluster.pause(*node).await?;
                }
                self.views(nodes)
            }
            Command::Resume(nodes) => {
                self.each_running(nodes)?;
                nodes.iter().try_for_each(|node| self.cluster.resume(*node))?;
                self.views(nodes)
            }
            Command::Partition(split) => {
                self.links()?.partition(&ends(split));
                self.split = Some(split.clone());
                Ok(Map::new())
            }
            Command::Heal => {
                self.links()?.heal();
                self.split = None;
                Ok(Map::new())
            }
            Command::Add => {
                let added = changing::add(&mut self.cluster).await?;
                self.all_after(Some(added))
            }
            Command::Remove(node) => {
                changing::remove(&mut self.cluster, *node).await?;
                self.all_after(None)
            }
            Command::Replace(node) => {
                let added = changing::replace(&mut self.cluster, *node).await?;
                self.all_after(Some(added))
            }
            Command::Log(node) => {
                let log = self.cluster.log_end(*node, LOG_BYTES_MAX)?;
                Ok(Map::from_iter([("log".to_owned(), log.into())]))
            }
            Command::Status => {
                let mut answer = self.all_after(None)?;
                if let Some(split) = &self.split {
                    answer.insert("groups".into(), json!(split.groups));
                    answer.insert("clients".into(), json!(split.clients));
                }
                Ok(answer)
            }
        }
    }

    /// How all nodes are after one of them may have come.
    fn all_after(&mut self, added: Option<usize>) -> Result<Map<String, Value>, CommandError> {
        let all: Vec<usize> = (0..self.cluster.nodes().len()).collect();
        let mut answer = self.views(&all)?;
        if let Some(added) = added {
            answer.insert("node".into(), json!(added));
        }
        Ok(answer)
    }

    /// Starts nodes again, after ending in order those that run.
    async fn restart(&mut self, nodes: &[usize]) -> Result<(), CommandError> {
        let mut running = Vec::new();
        for node in nodes {
            if !matches!(self.cluster.state(*node)?, State::Ended(_)) {
                running.push(*node);
            }
        }
        self.stop(&running).await?;
        nodes.iter().try_for_each(|node| self.cluster.begin_again(*node))?;
        for node in nodes {
            self.cluster.wait_until_serving(*node).await?;
        }
        Ok(())
    }

    async fn stop(&mut self, nodes: &[usize]) -> Result<(), CommandError> {
        nodes.iter().try_for_each(|node| self.cluster.terminate(*node))?;
        for node in nodes {
            self.cluster.wait_until_ended(*node).await?;
        }
        Ok(())
    }

    /// An error if one of them has ended: nothing is done then to the others either.
    fn each_running(&mut self, nodes: &[usize]) -> Result<(), CommandError> {
        for node in nodes {
            if let State::Ended(status) = self.cluster.state(*node)? {
                let name = self.cluster.nodes().nth(*node).map_or("it", |node| node.name);
                let message = format!("{name} does not run: it has ended ({status}), and restart starts it again");
                return Err(CommandError::new(Exit::Failed, message));
            }
        }
        Ok(())
    }

    fn links(&self) -> Result<&Links, CommandError> {
        self.cluster.links().ok_or_else(|| CommandError::new(Exit::Failed, "this cluster has no proxies"))
    }

    /// The first line.
    fn ready(&mut self) -> Result<Value, CommandError> {
        let mut line = self.all_after(None)?;
        line.insert("ready".into(), true.into());
        line.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        line.insert("endpoints".into(), json!(self.cluster.endpoints()));
        line.insert("directory".into(), json!(self.cluster.directory()));
        Ok(line.into())
    }

    /// How nodes are.
    fn views(&mut self, nodes: &[usize]) -> Result<Map<String, Value>, CommandError> {
        let views = nodes.iter().map(|node| self.view(*node)).collect::<Result<Vec<_>, _>>()?;
        Ok(Map::from_iter([("nodes".to_owned(), views.into())]))
    }

    fn view(&mut self, at: usize) -> Result<Value, CommandError> {
        let (state, ended) = match self.cluster.state(at)? {
            State::Running => ("running", None),
            State::Paused => ("paused", None),
            State::Ended(status) => ("ended", Some(status.to_string())),
        };
        let view = self.cluster.nodes().nth(at).map(|node| {
            let process = ended.is_none().then_some(node.process);
            json!({
                "node": at, "name": node.name, "address": node.address, "process": process,
                "state": state, "ended": ended, "data": node.data, "log": node.log,
            })
        });
        Ok(view.unwrap_or_default())
    }
}

/// The groups as the proxies know them.
fn ends(split: &Split) -> Vec<Vec<End>> {
    let groups = split.groups.iter().enumerate();
    let group = |(number, nodes): (usize, &Vec<usize>)| {
        let clients = (number == split.clients).then_some(End::Clients);
        nodes.iter().copied().map(End::Node).chain(clients).collect()
    };
    groups.map(group).collect()
}

/// Writes a line, not on this thread: nobody may be reading, and then a signal must still end everything.
async fn say(line: Value) -> Result<(), CommandError> {
    let write = move || {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush())
    };
    Ok(spawn_blocking(write).await.map_err(io::Error::other)??)
}
