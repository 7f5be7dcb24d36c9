//! `quorate ring history`: the layouts that were agreed upon, and what each changed.

use clap::Args;
use serde_json::{Value, json};

use super::proposal::hash_text;
use crate::cli::{
    arguments::Cluster,
    client::{self, HistoryEntry, Session},
    exit::{CommandError, Exit},
    output::{self, Output},
};

/// Show the changes of the ring that were committed, the oldest first.
#[derive(Debug, Args)]
#[command(after_help = "A node remembers what it learned while it was a member; times are those at which it did.

Examples:
  quorate ring history
  quorate ring history --output json")]
pub(super) struct History {
    #[command(flatten)]
    cluster: Cluster,
}

impl History {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        let entries = client::block_on(async {
            let session = Session::connect(&self.cluster).await?;
            let entries = session.history().await;
            session.close().await;
            Ok(entries?)
        })?;
        match self.cluster.form.output {
            Output::Json => output::print_json(&entries.iter().map(as_json).collect::<Vec<_>>())?,
            Output::Table => entries.iter().try_for_each(print)?,
        }
        Ok(Exit::Done)
    }
}

fn print(entry: &HistoryEntry) -> Result<(), CommandError> {
    // Clocks count milliseconds above their 16 bits of counter.
    let learned = entry.learned_ms.map_or_else(|| "-".to_owned(), |learned_ms| output::clock(learned_ms << 16));
    output::print_line(format_args!(
        "epoch {}  {learned}  plan {}  {} nodes, 2^{} partitions, {} owners",
        entry.epoch,
        hash_text(&entry.hash),
        entry.nodes,
        entry.partition_bits,
        entry.replicas
    ))?;
    for change in &entry.changes {
        output::print_line(format_args!("  {change}"))?;
    }
    if entry.changed_partitions > 0 {
        let changed = output::grouped(u64::from(entry.changed_partitions));
        output::print_line(format_args!("  {changed} partitions got other owners"))?;
    }
    Ok(())
}

fn as_json(entry: &HistoryEntry) -> Value {
    json!({
        "epoch": entry.epoch,
        "hash": hash_text(&entry.hash),
        "learned_ms": entry.learned_ms,
        "nodes": entry.nodes,
        "partition_bits": entry.partition_bits,
        "replicas": entry.replicas,
        "changes": entry.changes,
        "changed_partitions": entry.changed_partitions,
    })
}
