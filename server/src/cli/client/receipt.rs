//! What an answer rested on, with the names of the nodes.

use std::fmt;

use dynamo::{layout::Layout, operation::Receipt};
use serde_json::{Value, json};

/// A receipt for people and programs.
#[derive(Clone, Debug)]
pub struct ReceiptText {
    nodes: Vec<String>,
    receipt: Receipt,
}

impl ReceiptText {
    pub(super) fn new(receipt: &Receipt, layout: &Layout) -> Self {
        let name = |index| match layout.member(index) {
            Some(member) if layout.epoch == receipt.epoch => member.name.clone(),
            // Positions mean something only within their epoch.
            Some(_) | None => format!("#{}", index.0),
        };
        Self { nodes: receipt.answered.iter().map(|index| name(*index)).collect(), receipt: receipt.clone() }
    }

    /// The receipt as JSON.
    pub fn json(&self) -> Value {
        json!({
            "answered": self.nodes,
            "need": self.receipt.need,
            "durable": self.receipt.durable,
            "replicas": self.receipt.replicas,
            "stand_ins": self.receipt.stand_ins,
            "repaired": self.receipt.repaired,
            "epoch": self.receipt.epoch,
        })
    }
}

impl fmt::Display for ReceiptText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Receipt { durable, replicas, repaired, stand_ins, .. } = self.receipt;
        let nodes = self.nodes.join(", ");
        if stand_ins > 0 {
            let did = if durable > 0 { "on disk at" } else { "answered by" };
            let whose = if stand_ins == 1 { "one of them stands" } else { "some of them stand" };
            write!(formatter, "{did} {} nodes ({nodes}); {whose} in for an owner that is away", self.nodes.len())?;
        } else if durable > 0 {
            write!(formatter, "on disk at {durable} of {replicas} owners ({nodes})")?;
        } else {
            write!(formatter, "answered by {} of {replicas} owners ({nodes})", self.nodes.len())?;
        }
        if repaired {
            formatter.write_str(", others are being repaired")?;
        }
        Ok(())
    }
}
