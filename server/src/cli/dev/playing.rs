//! Playing with the nodes of a `quorate dev` that runs elsewhere: one more, one killed, one started again. What that does to the ring is
//! done and shown by the same commands that an administrator types.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use clap::Args;
use dynamo::layout::{Member, MemberState};

use super::{
    control::{self, Done, Request},
    this_command,
};
use crate::{
    cli::{
        arguments::{self, Cluster, ENDPOINT_DEFAULT, Form},
        client::{Change, Commit, Session, Staging, sleep},
        exit::{CommandError, Exit},
        output::{self, Output},
        ring::{self, Names},
    },
    config::Source,
};

/// How long a new node has until the ring knows that it waits.
const STAGING_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two looks whether it does.
const STAGING_LOOK: Duration = Duration::from_millis(100);

/// How long the data of a cluster to play with may take to move.
const MOVING_PATIENCE: Duration = Duration::from_secs(600);

/// How long an operation may take, as in the demonstration.
const TIMEOUT: Duration = super::TIMEOUT;

/// What can be done to a cluster that runs.
#[derive(Debug, Args)]
#[group(id = "play")]
pub(super) struct Play {
    /// In the cluster that runs in another terminal, start one more node and let it into the ring.
    #[arg(long, conflicts_with_all = ["nodes", "exit_after_demo", "kill", "start"])]
    add: bool,

    /// With --add: it takes the place of this node.
    #[arg(long, value_name = "NODE", requires = "add")]
    replace: Option<String>,

    /// In the cluster that runs in another terminal, kill this node: SIGKILL, as if its power failed.
    #[arg(long, value_name = "NODE", conflicts_with_all = ["nodes", "exit_after_demo", "start"])]
    kill: Option<String>,

    /// In the cluster that runs in another terminal, start this node again, which was killed.
    #[arg(long, value_name = "NODE", conflicts_with_all = ["nodes", "exit_after_demo"])]
    start: Option<String>,

    /// Where the cluster that runs in another terminal is reached.
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        env = "QUORATE_ENDPOINTS",
        default_value = ENDPOINT_DEFAULT,
        value_delimiter = ',',
        value_parser = arguments::endpoint
    )]
    endpoints: Vec<String>,
}

impl Play {
    /// What is to be done to a cluster that runs, if anything is.
    pub(super) fn wish(&self) -> Option<Request> {
        match (self.add, &self.kill, &self.start) {
            (true, ..) => Some(Request::Add { replaces: self.replace.clone() }),
            (false, Some(node), _) => Some(Request::Kill { node: node.clone() }),
            (false, None, Some(node)) => Some(Request::Start { node: node.clone() }),
            (false, None, None) => None,
        }
    }

    /// Has it done.
    pub(super) async fn play(&self, wish: Request, directory: Option<&Path>) -> Result<Exit, CommandError> {
        let endpoints = match directory {
            Some(directory) => vec![first_address(directory)?],
            None => self.endpoints.clone(),
        };
        let done = control::ask(&endpoints, &wish).await?;
        match wish {
            Request::Add { replaces } => added(&done, replaces.as_deref()).await,
            Request::Kill { .. } => killed(&done),
            Request::Start { .. } => {
                output::print_line(format_args!("{} serves again at {}, on its data", done.node, done.address))?;
                Ok(Exit::Done)
            }
        }
    }
}

/// Where the first node of the cluster in a directory is reached.
fn first_address(directory: &Path) -> Result<String, CommandError> {
    let config = Source::defaults().file(directory.join("n1.toml")).load();
    let config = config.map_err(|error| CommandError::usage(format!("no cluster stands there: {error}")))?;
    Ok(config.listen.to_string())
}

/// Shows what a new node changes, has that decided, and waits for its data.
async fn added(done: &Done, replaces: Option<&str>) -> Result<Exit, CommandError> {
    let Done { node, address, .. } = done;
    output::print_line(format_args!("{node} runs at {address}, and asks to be let into the ring (serve --join)"))?;
    let cluster = Cluster { endpoints: done.endpoints.clone(), timeout: TIMEOUT, form: Form { output: Output::Table } };
    let session = Session::connect(&cluster).await?;
    let staging = staged(&session, node).await;
    let layout = session.layout_since(staging.as_ref().map_or(0, |staging| staging.epoch)).await;
    session.close().await;
    let staging = staging?;
    let names = Names::new(&layout, &staging.staged);
    let Some(plan) = &staging.plan else { return ring::print_proposal(Output::Table, &staging, &names) };
    output::print_line("\n# quorate ring plan")?;
    ring::print_proposal(Output::Table, &staging, &names)?;
    // Nobody waits for what was replaced, now or before.
    let is_needed = |name: &&str| {
        let is_active = |member: &Member| member.name == *name && member.state == MemberState::Active;
        Some(*name) != replaces && layout.members.iter().any(is_active)
    };
    let missing: Vec<&str> = done.ended.iter().map(String::as_str).filter(is_needed).collect();
    let patience = missing.is_empty().then_some(MOVING_PATIENCE);
    output::print_line(format_args!("\n# {}", ring::commit_line(plan)))?;
    // Whoever plays accepts no loss: that is said by hand.
    let commit = Commit { epoch: plan.epoch, plan: plan.hash, accept_loss: false };
    let exit = ring::decide(&cluster, commit, patience).await?;
    if exit != Exit::Done {
        return Ok(exit);
    }
    let session = Session::connect(&cluster).await?;
    // Whoever was asked may not have heard of it yet.
    let until = Instant::now() + STAGING_TIMEOUT;
    while session.layout().epoch < plan.epoch && Instant::now() < until {
        sleep(STAGING_LOOK).await;
    }
    output::print_line("\n# quorate ring show")?;
    let shown = ring::table(&session.layout()).print();
    session.close().await;
    shown?;
    if !missing.is_empty() {
        let names = missing.join(" and ");
        output::print_line(format_args!(
            "\n{names} can't be asked: what concerns them waits until they run (dev --start) or are replaced (dev --add --replace)"
        ))?;
    }
    Ok(Exit::Done)
}

/// Waits until the ring knows that a node waits to enter it.
async fn staged(session: &Session, node: &str) -> Result<Staging, CommandError> {
    let began = Instant::now();
    loop {
        let staging = session.staging().await?;
        let is_known = |change: &Change| matches!(change, Change::Join(member) if member.name == node);
        if staging.staged.iter().any(is_known) {
            return Ok(staging);
        }
        if began.elapsed() > STAGING_TIMEOUT {
            let message = format!("the ring does not know after {} s that {node} waits", STAGING_TIMEOUT.as_secs());
            return Err(CommandError::new(Exit::Unavailable, message).next("quorate status; quorate ring plan"));
        }
        sleep(STAGING_LOOK).await;
    }
}

/// What to try after a node's death.
fn killed(done: &Done) -> Result<Exit, CommandError> {
    let Done { node, process, endpoints, .. } = done;
    output::print_line(format_args!(
        "{node} was killed (SIGKILL to process {process}); what it had on disk is still there\n\n# next"
    ))?;
    if let Some(endpoint) = endpoints.first() {
        output::print_line(format_args!("export QUORATE_ENDPOINTS={endpoint}   # a node that runs"))?;
    }
    let quorate = this_command();
    let next = [
        ("kv get greeting".to_owned(), "reads and writes go on without it".to_owned()),
        ("status".to_owned(), "what the others think of it".to_owned()),
        (format!("dev --start {node}"), "it comes back with its data".to_owned()),
        (format!("dev --add --replace {node}"), "or it never does: a new node takes its place".to_owned()),
    ];
    for (line, meaning) in next {
        output::print_line(format_args!("{:<40}  # {meaning}", format!("{quorate} {line}")))?;
    }
    Ok(Exit::Done)
}
