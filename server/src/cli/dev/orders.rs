//! What is done to the nodes of a running `quorate dev` because another command asks for it. Only processes that it started itself are
//! touched, and one that was killed here ends nothing else.

use crate::cli::{
    exit::CommandError,
    local::{LocalCluster, State},
};

use super::control::{Control, Done, Order, Request};

/// Carries out one order, says so here, and answers.
pub(super) async fn carry_out(order: Order, cluster: &mut LocalCluster, control: &Control) {
    let outcome = obey(&order.request, cluster, control).await.map_err(|error| error.to_string());
    // Whoever asked may have been interrupted: what was done is done.
    let _ = order.answer.send(outcome);
}

async fn obey(request: &Request, cluster: &mut LocalCluster, control: &Control) -> Result<Done, CommandError> {
    let (running, ended) = census(cluster)?;
    let at = match request {
        Request::Add { replaces } => add(cluster, control, replaces.as_deref(), &running).await?,
        Request::Kill { node } => {
            let at = cluster.position(node)?;
            if ended.contains(node) {
                return Err(CommandError::usage(format!("{node} does not run"))
                    .next(format!("quorate dev --start {node}, or quorate dev --add --replace {node}")));
            }
            cluster.kill(at)?;
            eprintln!("{node} was killed");
            at
        }
        Request::Start { node } => {
            let at = cluster.position(node)?;
            if !ended.contains(node) {
                return Err(CommandError::usage(format!("{node} runs")));
            }
            cluster.start_again(at).await.inspect_err(|_| give_up(cluster, at))?;
            eprintln!("{node} serves again");
            at
        }
    };
    done(cluster, at)
}

async fn add(
    cluster: &mut LocalCluster,
    control: &Control,
    replaces: Option<&str>,
    running: &[String],
) -> Result<usize, CommandError> {
    if let Some(replaced) = replaces {
        cluster.position(replaced)?;
    }
    if running.is_empty() {
        return Err(CommandError::usage("no node runs that could let another in").next("quorate dev --start n1"));
    }
    let at = cluster.nodes().len();
    let added = cluster.add(running, replaces).await;
    added.inspect_err(|_| give_up(cluster, at))?;
    let Some((name, address)) = cluster.nodes().nth(at).map(|node| (node.name.to_owned(), node.address)) else {
        return Err(CommandError::usage("the node that was added is not there"));
    };
    eprintln!("{name} serves at {address}, and asks to be let into the ring");
    control.listen_at(address)?;
    Ok(at)
}

/// One that could not start is no reason to end the others.
fn give_up(cluster: &mut LocalCluster, at: usize) {
    if at < cluster.nodes().len() {
        // It fails only when the process has ended, which is as well.
        let _ = cluster.kill(at);
    }
}

fn done(cluster: &mut LocalCluster, at: usize) -> Result<Done, CommandError> {
    let (endpoints, ended) = census(cluster)?;
    let node = cluster.nodes().nth(at).ok_or_else(|| CommandError::usage("there is no such node"))?;
    let (name, address) = (node.name.to_owned(), node.address.to_string());
    Ok(Done { node: name, address, process: node.process, endpoints, ended })
}

/// Where the nodes that run are reached, and the names of the others.
fn census(cluster: &mut LocalCluster) -> Result<(Vec<String>, Vec<String>), CommandError> {
    let nodes: Vec<_> = cluster.nodes().map(|node| (node.name.to_owned(), node.address.to_string())).collect();
    let (mut running, mut ended) = (Vec::new(), Vec::new());
    for (at, (name, address)) in nodes.into_iter().enumerate() {
        match cluster.state(at)? {
            State::Running | State::Paused => running.push(address),
            State::Ended(_) => ended.push(name),
        }
    }
    Ok((running, ended))
}
