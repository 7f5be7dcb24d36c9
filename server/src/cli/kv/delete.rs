//! `quorate kv delete`: a tombstone over what is there, or over exactly what was read.

use clap::Args;

use super::{
    KeyArguments,
    put::{basis, print_written},
};
use crate::cli::{
    arguments::{Cluster, Replicas},
    client::{self, Session},
    exit::{CommandError, Exit},
    output::Output,
};

/// Delete a key.
#[derive(Debug, Args)]
#[command(
    after_help = "Deleting what is not there succeeds. Without --context, the cluster reads the key first and deletes what it saw: a value
written at the same time survives.

Examples:
  quorate kv delete greeting
  quorate kv delete cart --context AQ…"
)]
pub(super) struct Delete {
    #[command(flatten)]
    key: KeyArguments,

    /// Delete exactly what the read with this context saw.
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,

    #[command(flatten)]
    replicas: Replicas,

    #[command(flatten)]
    cluster: Cluster,
}

impl Delete {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        let key = self.key.key_bytes()?;
        let basis = basis(self.context.as_deref(), false)?;
        let (written, receipt) = client::block_on(async {
            let session = Session::connect(&self.cluster).await?;
            let written = session.delete(self.key.key(&key), basis, self.replicas.consistency()).await?;
            let receipt = session.describe(&written.receipt);
            session.close().await;
            Ok((written, receipt))
        })?;
        print_written(self.cluster.form.output, "deleted", &written, &receipt)?;
        if written.siblings > 0 && self.cluster.form.output == Output::Table {
            eprintln!(
                "quorate: {} concurrent values stand under this key still\n  next: quorate kv get {}",
                written.siblings,
                self.key.repeated()
            );
        }
        Ok(Exit::Done)
    }
}
