//! Changes of the ring for tests: a node joins, leaves, or takes another's place, by the very commands that an administrator types.

use std::{
    env, fs, io,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{task::spawn_blocking, time::sleep};

use super::super::{
    exit::{CommandError, Exit},
    local::{LocalCluster, State},
};

/// How long a new node has until it is staged.
const STAGING_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two looks whether it is.
const STAGING_LOOK: Duration = Duration::from_millis(50);

/// How long the data may take to move: a test has little of it.
const PATIENCE: &str = "90s";

/// Starts another node and has it taken in; its number.
pub(super) async fn add(cluster: &mut LocalCluster) -> Result<usize, CommandError> {
    let through = running(cluster)?;
    let added = cluster.add(&through, None).await?;
    commit(&through, &cluster_name(cluster, added)).await?;
    Ok(added)
}

/// Has a node hand over what it holds and leave, then ends it.
pub(super) async fn remove(cluster: &mut LocalCluster, node: usize) -> Result<(), CommandError> {
    let through = running(cluster)?;
    let name = cluster_name(cluster, node);
    ring(&through, &["stage", "leave", &name]).await?;
    commit(&through, &name).await?;
    if !matches!(cluster.state(node)?, State::Ended(_)) {
        cluster.terminate(node)?;
        cluster.wait_until_ended(node).await?;
    }
    Ok(())
}

/// Kills a node, removes its data, and has a new one take its place; the number of that.
pub(super) async fn replace(cluster: &mut LocalCluster, node: usize) -> Result<usize, CommandError> {
    if !matches!(cluster.state(node)?, State::Ended(_)) {
        cluster.kill(node)?;
    }
    let (name, data) = (cluster_name(cluster, node), cluster.nodes().nth(node).map(|node| node.data.to_owned()));
    match data.map(fs::remove_dir_all) {
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        Some(_) | None => {}
    }
    let through = running(cluster)?;
    let added = cluster.add(&through, Some(&name)).await?;
    commit(&through, &cluster_name(cluster, added)).await?;
    Ok(added)
}

/// Waits until a change that concerns a node is staged, has it decided, and waits until nothing moves any more.
async fn commit(through: &[String], name: &str) -> Result<(), CommandError> {
    let began = Instant::now();
    let plan = loop {
        let answer = ring(through, &["plan"]).await;
        if let Ok(answer) = &answer
            && answer["plan"].is_object()
            && answer["staged"]
                .as_array()
                .is_some_and(|staged| staged.iter().any(|line| line.to_string().contains(name)))
        {
            break answer["plan"].clone();
        }
        if began.elapsed() > STAGING_TIMEOUT {
            let message =
                format!("{name} is not staged: {}", answer.map_or_else(|error| error.message, |it| it.to_string()));
            return Err(CommandError::new(Exit::Failed, message));
        }
        sleep(STAGING_LOOK).await;
    };
    let (epoch, hash) = (plan["epoch"].to_string(), plan["hash"].as_str().unwrap_or_default().to_owned());
    ring(through, &["commit", "--epoch", &epoch, "--plan", &hash, "--wait", "--patience", PATIENCE]).await.map(drop)
}

/// Runs `quorate ring` against these nodes.
async fn ring(through: &[String], arguments: &[&str]) -> Result<Value, CommandError> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("ring").args(arguments).args(["--endpoints", &through.join(","), "--output", "json"]);
    let output = spawn_blocking(move || command.output()).await.map_err(io::Error::other)??;
    if !output.status.success() {
        let message = format!("ring {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        return Err(CommandError::new(Exit::Failed, message));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| io::Error::other(error).into())
}

/// Where the nodes that run are reached.
fn running(cluster: &mut LocalCluster) -> Result<Vec<String>, CommandError> {
    let addresses = cluster.endpoints();
    let mut running = Vec::new();
    for (node, address) in addresses.into_iter().enumerate() {
        if matches!(cluster.state(node)?, State::Running) {
            running.push(address);
        }
    }
    Ok(running)
}

fn cluster_name(cluster: &LocalCluster, node: usize) -> String {
    cluster.nodes().nth(node).map(|node| node.name.to_owned()).unwrap_or_default()
}
