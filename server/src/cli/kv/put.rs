//! `quorate kv put`: one value under one key, replacing what is there, what was read, or nothing.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use dynamo::operation::Basis;

use super::KeyArguments;
use crate::cli::{
    arguments::{self, Cluster, Replicas},
    client::{self, Session, context_text, parse_context},
    exit::{CommandError, Exit},
    notation::{self, Notation},
    output::{self, Output},
};

/// Write a value under a key.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --context it replaces what the cluster holds; with the context of a read it replaces exactly what was read; with
--beside it replaces nothing and adds a concurrent value.

Examples:
  quorate kv put greeting 'hello'
  quorate kv put session 'open' --ttl 30m
  quorate kv put photo --value-file photo.jpg --level all
  some-command | quorate kv put report -
  quorate kv put cart 'merged' --context AQ…"
)]
pub(super) struct Put {
    #[command(flatten)]
    key: KeyArguments,

    /// The value, as text unless --base64 says otherwise; - reads it from standard input.
    #[arg(value_name = "VALUE", required_unless_present = "value_file", conflicts_with = "value_file")]
    value: Option<String>,

    /// Take the value from this file, byte for byte; - for standard input.
    #[arg(long, value_name = "FILE")]
    value_file: Option<PathBuf>,

    /// Replace exactly what the read with this context saw.
    #[arg(long, value_name = "CONTEXT", conflicts_with = "beside")]
    context: Option<String>,

    /// Replace nothing: add a value beside those that are there.
    #[arg(long)]
    beside: bool,

    /// Let the value expire after this time, with a unit: 500ms, 10s, 12h. Reads after that do not see it.
    #[arg(long, value_name = "TIME", value_parser = arguments::duration)]
    ttl: Option<Duration>,

    #[command(flatten)]
    replicas: Replicas,

    #[command(flatten)]
    cluster: Cluster,
}

impl Put {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        let key = self.key.key_bytes()?;
        let value = self.value_bytes()?;
        let basis = basis(self.context.as_deref(), self.beside)?;
        let (written, receipt) = client::block_on(async {
            let session = Session::connect(&self.cluster).await?;
            let written =
                session.put_for(self.key.key(&key), value, basis, self.replicas.consistency(), self.ttl).await?;
            let receipt = session.describe(&written.receipt);
            session.close().await;
            Ok((written, receipt))
        })?;
        print_written(self.cluster.form.output, "stored", &written, &receipt)?;
        if written.siblings > 1 && self.cluster.form.output == Output::Table {
            eprintln!(
                "quorate: {} concurrent values stand under this key now\n  next: quorate kv get {}",
                written.siblings,
                self.key.repeated()
            );
        }
        Ok(Exit::Done)
    }

    fn value_bytes(&self) -> Result<Bytes, CommandError> {
        match (&self.value, &self.value_file) {
            (_, Some(path)) => notation::read_value(path),
            (Some(value), None) if value == "-" => notation::read_value(Path::new("-")),
            (Some(value), None) => {
                notation::parse("value", value, if self.key.base64 { Notation::Base64 } else { Notation::Text })
            }
            (None, None) => Err(CommandError::usage("there is no value")),
        }
    }
}

/// What a write replaces, from the arguments.
pub(super) fn basis(context: Option<&str>, beside: bool) -> Result<Basis, CommandError> {
    match (context, beside) {
        (Some(context), _) => parse_context(context).map(Basis::Context),
        (None, true) => Ok(Basis::Beside),
        (None, false) => Ok(Basis::Local),
    }
}

/// Says how a write ended.
pub(super) fn print_written(
    output: Output,
    did: &str,
    written: &client::Written,
    receipt: &client::ReceiptText,
) -> Result<(), CommandError> {
    match output {
        Output::Table => output::print_line(format_args!("{did}: {receipt}"))?,
        Output::Json => output::print_json(&serde_json::json!({
            did: true,
            "siblings": written.siblings,
            "clock": written.clock,
            "context": written.context.as_ref().map(context_text),
            "receipt": receipt.json(),
        }))?,
    }
    Ok(())
}
