//! `quorate dev`: a real cluster on this machine, shown working, for as long as somebody wants to look at it, and to play with: from
//! another terminal nodes are added, killed and started again.

mod control;
mod orders;
mod playing;

use std::{env, path::PathBuf, time::Instant};

use bytes::Bytes;
use clap::Args;
use dynamo::{
    layout::Level,
    operation::{Basis, Consistency},
};
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    time::{Duration, interval},
};

use self::control::Control;
use super::{
    arguments::{Cluster, Form},
    client::{self, Get, Key, Session, sleep},
    exit::{CommandError, Exit},
    holdings::{Agreement, Holdings},
    local::{LocalCluster, NODES_MAX, Setup},
    notation::cell,
    output::{self, Column, Output, Rows},
    ring,
};

/// How often the nodes are looked after.
const WATCH_EVERY: Duration = Duration::from_millis(250);

/// The bucket of the demonstration: nothing of an application's is touched.
const BUCKET: &str = "quorate-dev";

/// How long an operation of the demonstration may take: a first write to a new store on a slow disk.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Owners that a key needs for a majority to be left when one is lost.
const OWNERS_TO_LOSE_ONE: usize = 3;

/// How long the demonstration waits for a node that was killed to be level again, and how often it looks.
const REPAIR_SHOWN: Duration = Duration::from_secs(4);
const REPAIR_LOOK: Duration = Duration::from_millis(100);

/// Start a cluster of real nodes on this machine and show it working.
#[derive(Debug, Args)]
#[command(
    after_help = "The nodes listen on loopback addresses from 127.0.0.1:7601 on, where other commands look for them. Ctrl-C ends them all.
With --dir the data stays and the next run finds it; without it, everything is removed at the end.

While it runs, --add, --kill and --start in another terminal are done to its nodes. They find it by the address of a node
(--endpoints, QUORATE_ENDPOINTS) or by --dir.

Examples:
  quorate dev
  quorate dev --nodes 5 --dir ./dev-cluster
  quorate dev --add
  quorate dev --kill n2
  quorate dev --add --replace n2"
)]
pub struct Dev {
    /// How many nodes; 3, or as many as DIRECTORY has.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    nodes: Option<u16>,

    /// Keep the cluster in this directory.
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,

    /// End after the demonstration instead of serving on.
    #[arg(long)]
    exit_after_demo: bool,

    #[command(flatten)]
    play: playing::Play,
}

impl Dev {
    /// Carries out the command.
    pub fn run(self) -> Result<Exit, CommandError> {
        client::block_on(async {
            match self.play.wish() {
                Some(wish) => self.play.play(wish, self.dir.as_deref()).await,
                None => self.dev().await,
            }
        })
    }

    async fn dev(self) -> Result<Exit, CommandError> {
        // Before anything is started: a signal from here on ends the nodes in order.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let setup = Setup { nodes: self.nodes, directory: self.dir.clone(), ..Setup::default() };
        let starting = LocalCluster::start(&setup, |name, address, after| {
            eprintln!("{name} serves at {address} after {:.1} s", after.as_secs_f64());
        });
        let mut cluster = select! {
            started = starting => started?,
            _ = interrupt.recv() => return Err(CommandError::new(Exit::Interrupted, "interrupted while starting")),
            _ = terminate.recv() => return Err(CommandError::new(Exit::Interrupted, "interrupted while starting")),
        };
        let mut control = Control::listen(cluster.nodes().map(|node| node.address))?;
        let shown = select! {
            shown = demonstrate(&mut cluster) => shown,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        };
        if let Err(error) = shown {
            // If a node has died, that is what there is to tell.
            cluster.check()?;
            return Err(error);
        }
        if self.exit_after_demo {
            cluster.stop().await?;
            return Ok(Exit::Done);
        }
        eprintln!("\nserving until Ctrl-C");
        let mut watch = interval(WATCH_EVERY);
        loop {
            select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = watch.tick() => cluster.check()?,
                order = control.next() => select! {
                    () = orders::carry_out(order, &mut cluster, &control) => {}
                    _ = interrupt.recv() => break,
                    _ = terminate.recv() => break,
                },
            }
        }
        eprintln!("ending the nodes");
        let kept = (!cluster.is_temporary()).then(|| cluster.directory().to_owned());
        cluster.stop().await?;
        if let Some(directory) = kept {
            eprintln!("the data stays in {}", directory.display());
        }
        Ok(Exit::Done)
    }
}

/// Writes, reads, makes a conflict and resolves it, and shows the ring.
async fn demonstrate(cluster: &mut LocalCluster) -> Result<(), CommandError> {
    let arguments = Cluster { endpoints: cluster.endpoints(), timeout: TIMEOUT, form: Form { output: Output::Table } };
    let session = Session::connect(&arguments).await?;
    show_put_and_get(&session).await?;
    show_conflict(&session).await?;
    show_a_death(cluster, &session).await?;
    output::print_line("\n# the ring")?;
    ring::table(&session.layout()).print()?;
    session.close().await;
    show_next(cluster)?;
    Ok(())
}

async fn show_put_and_get(session: &Session) -> Result<(), CommandError> {
    let consistency = Consistency { level: Some(Level::Quorum), ..Consistency::default() };
    let name = Bytes::from_static(b"greeting");
    let key = Key { bucket: BUCKET, key: &name };
    output::print_line(
        "\n# a write at level quorum: a majority of the key's owners has it on disk, so a read at quorum sees it",
    )?;
    let written = session.put(key, Bytes::from_static(b"hello"), Basis::Local, consistency).await?;
    output::print_line(format_args!("put greeting = hello   {}", session.describe(&written.receipt)))?;
    let got = session.get(key, consistency).await?;
    let value = match &got {
        Get::Found { siblings, .. } => siblings.iter().map(|sibling| cell(&sibling.value)).collect::<Vec<_>>(),
        Get::NotFound { .. } => Vec::new(),
    };
    if value != ["hello"] {
        return Err(CommandError::new(Exit::Failed, format!("read {value:?} instead of what was just written")));
    }
    output::print_line(format_args!("get greeting = {}   {}", value[0], session.describe(got.receipt())))?;
    Ok(())
}

async fn show_conflict(session: &Session) -> Result<(), CommandError> {
    let consistency = Consistency { level: Some(Level::Quorum), ..Consistency::default() };
    let name = Bytes::from_static(b"cart");
    let key = Key { bucket: BUCKET, key: &name };
    output::print_line("\n# two writes at the same time: both are kept, and a read shows both")?;
    session.delete(key, Basis::Local, consistency).await?;
    for value in ["bread", "milk"] {
        session.put(key, Bytes::from_static(value.as_bytes()), Basis::Beside, consistency).await?;
        output::print_line(format_args!("put cart = {value} (beside what is there)"))?;
    }
    let Get::Found { siblings, context, .. } = session.get(key, consistency).await? else {
        return Err(CommandError::new(Exit::Failed, "two values were written and none is there"));
    };
    let mut rows = Rows::new(&[Column::Text("CART"), Column::Text("WRITTEN")]);
    for sibling in &siblings {
        rows.push([cell(&sibling.value), output::clock(sibling.clock)]);
    }
    rows.print()?;
    if siblings.len() != 2 {
        return Err(CommandError::new(
            Exit::Failed,
            format!("two values were written and {} are there", siblings.len()),
        ));
    }
    let mut values: Vec<_> = siblings.iter().map(|sibling| cell(&sibling.value)).collect();
    values.sort();
    let merged = values.join(" + ");
    output::print_line("\n# merged, and put with the context of that read: it replaces exactly those two")?;
    let written = session.put(key, merged.clone().into(), Basis::Context(context), consistency).await?;
    output::print_line(format_args!("put cart = {merged}   {}", session.describe(&written.receipt)))?;
    match session.get(key, consistency).await? {
        Get::Found { siblings, .. } if siblings.len() == 1 && siblings[0].value == merged.as_bytes() => {
            output::print_line(format_args!("get cart = {merged}"))?;
            Ok(())
        }
        Get::Found { .. } | Get::NotFound { .. } => {
            Err(CommandError::new(Exit::Failed, "the merged value did not replace the two"))
        }
    }
}

/// Kills an owner, writes all the same at the usual level, and starts it again.
async fn show_a_death(cluster: &mut LocalCluster, session: &Session) -> Result<(), CommandError> {
    let name = Bytes::from_static(b"greeting");
    let key = Key { bucket: BUCKET, key: &name };
    let layout = session.layout();
    let owners: Vec<_> = layout.owners(session.partition(key)).filter_map(|owner| layout.member(owner)).collect();
    let [.., last] = &owners[..] else { return Ok(()) };
    // With fewer owners than that, what is left is no two nodes.
    if owners.len() < OWNERS_TO_LOSE_ONE {
        return Ok(());
    }
    output::print_line(format_args!("\n# {} is killed, and a write at level available goes on without it", last.name))?;
    let at = cluster.position(&last.name)?;
    cluster.kill(at)?;
    let available = Consistency { level: Some(Level::Available), ..Consistency::default() };
    let written = session.put(key, Bytes::from_static(b"still here"), Basis::Local, available).await?;
    output::print_line(format_args!("put greeting = still here   {}", session.describe(&written.receipt)))?;
    cluster.start_again(at).await?;
    let began = Instant::now();
    while began.elapsed() < REPAIR_SHOWN {
        let holdings = Holdings::new(&layout, session.partition(key), session.inspect(key).await);
        if matches!(holdings.agreement(), Agreement::Same(_)) {
            output::print_line(format_args!("{} is back, and has it too: all owners hold the same", last.name))?;
            return Ok(());
        }
        sleep(REPAIR_LOOK).await;
    }
    output::print_line(format_args!(
        "{} is back, and is being brought level; quorate repair status shows it",
        last.name
    ))?;
    Ok(())
}

/// The lines to paste next.
fn show_next(cluster: &LocalCluster) -> Result<(), CommandError> {
    let endpoints = cluster.endpoints();
    let first = endpoints.first().map_or("", String::as_str);
    output::print_line("\n# next, in another terminal")?;
    if first != super::arguments::ENDPOINT_DEFAULT {
        output::print_line(format_args!("export QUORATE_ENDPOINTS={first}"))?;
    }
    let quorate = this_command();
    for line in ["kv put greeting 'hello'", "kv get greeting", "ring owners greeting", "status", "dev --add"] {
        output::print_line(format_args!("{quorate} {line}"))?;
    }
    // Of one node alone nothing would be left.
    if let Some(last) = cluster.nodes().skip(1).last() {
        output::print_line(format_args!("{quorate} dev --kill {}", last.name))?;
    }
    output::print_line(
        "\n# in Rust, Python and Node (docs/rust.md, docs/python.md, docs/node.md; docs/other-languages.md for every other)",
    )?;
    output::print_line(client::example(first))?;
    Ok(())
}

/// How this command is called from here: by its name where a search path has it, or by its path, as after `cargo run`.
fn this_command() -> String {
    let name = "quorate".to_owned();
    let Ok(executable) = env::current_exe() else { return name };
    let searched = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&searched).any(|folder| folder.join(&name) == executable) {
        return name;
    }
    let here = env::current_dir().unwrap_or_default();
    executable.strip_prefix(here).unwrap_or(&executable).display().to_string()
}
