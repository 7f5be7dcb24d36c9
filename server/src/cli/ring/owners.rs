//! `quorate ring owners`: where a key lives.

use clap::Args;
use dynamo::{
    ident::Id,
    layout::{Layout, NodeIndex},
};
use serde_json::json;

use crate::cli::{
    arguments::Cluster,
    client,
    exit::{CommandError, Exit},
    kv::KeyArguments,
    output::{self, Column, Output, Rows},
};

/// Show the nodes that own a key, in order of preference.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  quorate ring owners greeting\n  quorate ring owners --bucket carts ann --output json"
)]
pub(super) struct Owners {
    #[command(flatten)]
    key: KeyArguments,

    #[command(flatten)]
    cluster: Cluster,
}

impl Owners {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        let key = self.key.key_bytes()?;
        let id = Id::of(self.key.bucket.bucket.as_bytes(), &key);
        let layout = client::layout(&self.cluster)?;
        let partition = layout.partition(&id);
        match self.cluster.form.output {
            Output::Table => {
                table(&layout, partition).print()?;
                output::print_line(format_args!(
                    "\nid {id}, partition {partition} of {}, epoch {}",
                    layout.partitions(),
                    layout.epoch
                ))?;
            }
            Output::Json => {
                let owners: Vec<_> = layout
                    .owners(partition)
                    .filter_map(|owner| layout.member(owner))
                    .map(|member| json!({"name": member.name, "zone": member.zone, "addresses": member.addresses}))
                    .collect();
                output::print_json(&json!({
                    "id": id.to_string(),
                    "partition": partition,
                    "epoch": layout.epoch,
                    "owners": owners,
                }))?;
            }
        }
        Ok(Exit::Done)
    }
}

fn table(layout: &Layout, partition: u32) -> Rows {
    let mut rows =
        Rows::new(&[Column::Number("#"), Column::Text("NODE"), Column::Text("ZONE"), Column::Text("ADDRESS")]);
    for (number, NodeIndex(owner)) in (1..).zip(layout.owners(partition)) {
        if let Some(member) = layout.member(NodeIndex(owner)) {
            rows.push([format!("{number}"), member.name.clone(), member.zone.clone(), member.addresses.join(" ")]);
        }
    }
    rows
}
