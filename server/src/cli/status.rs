//! `quorate status`: how every node is, as it says itself.

use clap::Args;
use dynamo::layout::MemberState;
use serde_json::{Value, json};

use super::{
    arguments::Cluster,
    client::{self, NodeStatus, PeerStatus, Session},
    exit::{CommandError, Exit},
    output::{self, Column, Output, Rows},
};

/// Show how every node of the cluster is.
#[derive(Debug, Args)]
#[command(
    after_help = "Every node the ring names is asked. PEERS is how it sees the others by its own traffic, MEMBERS SAY how the others tell each
other that it is. Exit code 6 when one that owns data does not answer or does not serve.

Examples:
  quorate status
  quorate status --counters
  quorate status --output json"
)]
pub struct Status {
    /// Also show every counter of every node.
    #[arg(long)]
    counters: bool,

    #[command(flatten)]
    cluster: Cluster,
}

impl Status {
    /// Carries out the command.
    pub fn run(self) -> Result<Exit, CommandError> {
        let (nodes, layout) = client::block_on(async {
            let session = Session::connect(&self.cluster).await?;
            Ok((session.status().await, session.layout()))
        })?;
        match self.cluster.form.output {
            Output::Table => self.print(&nodes)?,
            Output::Json => output::print_json(&nodes.iter().map(as_json).collect::<Vec<_>>())?,
        }
        // One that leaves may have been stopped when it was done.
        let is_needed =
            |node: &&NodeStatus| layout.member(node.index).is_none_or(|member| member.state == MemberState::Active);
        let is_serving = |node: &NodeStatus| node.answer.as_ref().is_ok_and(|answer| answer.state == "serving");
        let healthy = nodes.iter().filter(is_needed).all(is_serving);
        Ok(if healthy { Exit::Done } else { Exit::Unavailable })
    }

    fn print(&self, nodes: &[NodeStatus]) -> Result<(), CommandError> {
        table(nodes).print()?;
        if nodes.iter().any(|node| kept(node).next().is_some()) {
            output::print_line("")?;
            hints(nodes).print()?;
        }
        for (name, repair) in nodes.iter().filter_map(|node| Some((&node.name, node.repair.as_ref()?))) {
            if repair.unreadable > 0 {
                output::print_line(format_args!(
                    "warning: {name}: {} record(s) can't be verified and are not served; `quorate repair status` shows how \
                     their rebuilding stands",
                    output::grouped(repair.unreadable)
                ))?;
            }
            if repair.throttle > 0.0 && repair.throttle < 1.0 {
                output::print_line(format_args!(
                    "{name}: background repair runs at {:.0} % of its speed, beside the clients' work",
                    repair.throttle * 100.0
                ))?;
            }
        }
        for node in nodes {
            match &node.answer {
                Ok(answer) => {
                    for warning in &answer.warnings {
                        output::print_line(format_args!("warning: {}: {warning}", node.name))?;
                    }
                }
                Err(reason) => output::print_line(format_args!("{} does not answer: {reason}", node.name))?,
            }
        }
        if self.counters {
            output::print_line("")?;
            counters(nodes).print()?;
        }
        Ok(())
    }
}

fn table(nodes: &[NodeStatus]) -> Rows {
    let mut rows = Rows::new(&[
        Column::Text("NODE"),
        Column::Text("ADDRESS"),
        Column::Text("STATE"),
        Column::Text("VERSION"),
        Column::Number("UP"),
        Column::Number("EPOCH"),
        Column::Number("KEYS"),
        Column::Number("DISK"),
        Column::Number("MEMORY"),
        Column::Number("CONNECTIONS"),
        Column::Text("PEERS"),
        Column::Text("GOSSIP"),
    ]);
    for node in nodes {
        let (name, address) = (node.name.clone(), node.address.clone());
        match &node.answer {
            Ok(answer) => rows.push([
                name,
                address,
                answer.state.clone(),
                answer.version.clone(),
                output::duration(answer.uptime_seconds),
                answer.epoch.to_string(),
                output::grouped(answer.keys),
                output::bytes(answer.disk_bytes),
                output::bytes(answer.resident_bytes),
                output::grouped(u64::from(answer.connections)),
                tally(answer.peers.iter().map(|peer| peer.state.as_str()), "up"),
                tally(answer.peers.iter().map(|peer| peer.gossip.as_str()).filter(|word| !word.is_empty()), "alive"),
            ]),
            Err(_) => {
                let mut cells = [const { String::new() }; 12].map(|_| "-".to_owned());
                cells[..3].clone_from_slice(&[name, address, "unreachable".to_owned()]);
                rows.push(cells);
            }
        }
    }
    rows
}

/// What a node keeps for others.
fn kept(node: &NodeStatus) -> impl Iterator<Item = &PeerStatus> {
    node.answer.iter().flat_map(|answer| &answer.peers).filter(|peer| peer.hints > 0)
}

fn hints(nodes: &[NodeStatus]) -> Rows {
    let mut rows = Rows::new(&[
        Column::Text("NODE"),
        Column::Text("KEEPS FOR"),
        Column::Number("OBJECTS"),
        Column::Number("SIZE"),
    ]);
    for node in nodes {
        for peer in kept(node) {
            rows.push([
                node.name.clone(),
                nodes
                    .iter()
                    .find(|node| node.index == peer.node)
                    .map_or_else(|| "?".to_owned(), |target| target.name.clone()),
                output::grouped(peer.hints),
                output::bytes(peer.hint_bytes),
            ]);
        }
    }
    rows
}

/// "2 up", "1 up, 1 down": how many peers are in each state, the `good` one first.
fn tally<'a>(peers: impl Iterator<Item = &'a str>, good: &str) -> String {
    let mut states: Vec<(&str, usize)> = Vec::new();
    for state in peers {
        match states.iter_mut().find(|(known, _)| *known == state) {
            Some((_, count)) => *count += 1,
            None => states.push((state, 1)),
        }
    }
    states.sort_by_key(|(state, _)| *state != good);
    states.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

fn counters(nodes: &[NodeStatus]) -> Rows {
    let mut rows =
        Rows::new(&[Column::Text("NODE"), Column::Text("COUNTER"), Column::Number("VALUE"), Column::Text("MEANING")]);
    for node in nodes {
        for counter in node.answer.iter().flat_map(|answer| &answer.counters) {
            rows.push([node.name.clone(), counter.name.clone(), output::grouped(counter.value), counter.help.clone()]);
        }
    }
    rows
}

fn as_json(node: &NodeStatus) -> Value {
    match &node.answer {
        Err(reason) => {
            json!({"name": node.name, "address": node.address, "state": "unreachable", "error": reason.to_string()})
        }
        Ok(answer) => json!({
            "name": node.name,
            "address": node.address,
            "state": answer.state,
            "version": answer.version,
            "uptime_seconds": answer.uptime_seconds,
            "epoch": answer.epoch,
            "partitions": answer.partitions,
            "keys": answer.keys,
            "disk_bytes": answer.disk_bytes,
            "disk_bytes_max": answer.disk_bytes_max,
            "resident_bytes": answer.resident_bytes,
            "connections": answer.connections,
            "warnings": answer.warnings,
            "unreadable": node.repair.as_ref().map(|repair| repair.unreadable),
            "throttle": node.repair.as_ref().map(|repair| repair.throttle),
            "peers": answer.peers.iter().map(|peer| json!({
                "node": peer.node.0,
                "state": peer.state,
                "gossip": peer.gossip,
                "round_trip_us": peer.round_trip_micros,
                "hints": peer.hints,
                "hint_bytes": peer.hint_bytes,
            })).collect::<Vec<_>>(),
            "counters": answer.counters.iter().map(|counter| (counter.name.clone(), counter.value.into()))
                .collect::<serde_json::Map<String, Value>>(),
        }),
    }
}
