//! `quorate ring show`: the nodes of the layout, and the share of the ring each has.

use clap::Args;
use dynamo::layout::{Layout, Member, MemberState, NodeIndex};
use serde_json::{Value, json};

use crate::cli::{
    arguments::Cluster,
    client,
    exit::{CommandError, Exit},
    output::{self, Column, Output, Rows},
};

/// Show the nodes of the ring and their shares.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  quorate ring show\n  quorate ring show --output json")]
pub(super) struct Show {
    #[command(flatten)]
    cluster: Cluster,
}

impl Show {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        let layout = client::layout(&self.cluster)?;
        match self.cluster.form.output {
            Output::Table => {
                table(&layout).print()?;
                output::print_line(format_args!(
                    "\nepoch {}, {} partitions, {} owners each; {} decide about changes",
                    layout.epoch,
                    output::grouped(u64::from(layout.partitions())),
                    layout.replicas.min(active(&layout)),
                    electors(&layout),
                ))?;
                if layout.replicas > active(&layout) {
                    output::print_line(format_args!(
                        "warning: a key shall have {} owners, and there are fewer nodes; quorate serve --join adds one",
                        layout.replicas
                    ))?;
                }
                let changed = changed(&layout);
                if changed > 0 {
                    output::print_line(format_args!(
                        "{} partitions had other owners before this epoch; quorate ring transfers shows whether they still move",
                        output::grouped(changed)
                    ))?;
                }
            }
            Output::Json => output::print_json(&as_json(&layout))?,
        }
        Ok(Exit::Done)
    }
}

/// A node's name, and what the map wants of it unless it is an ordinary member.
pub(super) fn name(member: &Member) -> String {
    match member.state {
        MemberState::Active => member.name.clone(),
        MemberState::Leaving | MemberState::Lost | MemberState::Gone => {
            format!("{} ({})", member.name, member.state.word())
        }
    }
}

/// How many nodes own partitions.
fn active(layout: &Layout) -> u8 {
    let active = layout.members.iter().filter(|member| member.state == MemberState::Active).count();
    u8::try_from(active).unwrap_or(u8::MAX)
}

/// The names of those who decide the next epoch.
fn electors(layout: &Layout) -> String {
    let names = layout.electors.iter().filter_map(|elector| layout.member(*elector));
    names.map(|member| member.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Partitions whose former owners were not known to be retired when the layout was agreed upon.
fn changed(layout: &Layout) -> u64 {
    (0..layout.partitions()).filter(|partition| !layout.spans.of(*partition).is_settled()).count() as u64
}

/// How many partitions each node owns, and how many of them it coordinates by default.
fn loads(layout: &Layout) -> Vec<(u64, u64)> {
    let mut loads = vec![(0, 0); layout.members.len()];
    for partition in 0..layout.partitions() {
        for (position, NodeIndex(node)) in layout.owners(partition).enumerate() {
            let (owned, coordinated) = &mut loads[usize::from(node)];
            *owned += 1;
            *coordinated += u64::from(position == 0);
        }
    }
    loads
}

/// The layout as a table.
pub(crate) fn table(layout: &Layout) -> Rows {
    let loads = loads(layout);
    let slots: u64 = loads.iter().map(|(owned, _)| owned).sum();
    let mut rows = Rows::new(&[
        Column::Text("NODE"),
        Column::Text("ADDRESS"),
        Column::Text("ZONE"),
        Column::Number("WEIGHT"),
        Column::Number("PARTITIONS"),
        Column::Number("COORDINATES"),
        Column::Number("SHARE"),
    ]);
    for (member, (owned, coordinated)) in layout.members.iter().zip(loads) {
        rows.push([
            name(member),
            member.addresses.join(" "),
            member.zone.clone(),
            member.weight.to_string(),
            output::grouped(owned),
            output::grouped(coordinated),
            format!("{:.1} %", share(owned, slots)),
        ]);
    }
    rows
}

fn as_json(layout: &Layout) -> Value {
    let loads = loads(layout);
    let slots: u64 = loads.iter().map(|(owned, _)| owned).sum();
    let nodes: Vec<Value> = layout
        .members
        .iter()
        .zip(loads)
        .map(|(member, (owned, coordinated))| {
            json!({
                "id": member.id.to_string(),
                "name": member.name,
                "zone": member.zone,
                "weight": member.weight,
                "addresses": member.addresses,
                "state": member.state.word(),
                "leaving": member.state == MemberState::Leaving,
                "elector": layout.electors.iter().any(|elector| layout.member(*elector) == Some(member)),
                "partitions": owned,
                "coordinated": coordinated,
                "share": share(owned, slots) / 100.0,
            })
        })
        .collect();
    json!({
        "cluster": format!("{:032x}", layout.cluster),
        "generation": layout.generation,
        "epoch": layout.epoch,
        "partition_bits": layout.partition_bits,
        "partitions": layout.partitions(),
        "replicas": layout.replicas,
        "unsettled_at_decision": changed(layout),
        "nodes": nodes,
    })
}

fn share(owned: u64, slots: u64) -> f64 {
    if slots == 0 { 0.0 } else { owned as f64 * 100.0 / slots as f64 }
}
