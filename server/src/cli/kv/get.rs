//! `quorate kv get`: the value of a key, raw, or its concurrent values side by side.

use std::io::{self, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use dynamo::operation::Sibling;
use serde_json::{Map, Value, json};

use super::KeyArguments;
use crate::cli::{
    arguments::{Cluster, Replicas},
    client::{self, Session, context_text},
    exit::{CommandError, Exit},
    notation::{cell, insert_json},
    output::{self, Column, Output, Rows},
};

/// Print the value of a key, byte for byte.
#[derive(Debug, Args)]
#[command(
    after_help = "A single value is written to standard output as it is; on a terminal, a line end is added. Exit code 3: there is no
value. Exit code 4: writes conflicted; all their values are listed with the context that replaces them.

Examples:
  quorate kv get greeting
  quorate kv get --key-hex 00ff17 > value.bin
  quorate kv get cart --level all --output json"
)]
pub(super) struct Get {
    #[command(flatten)]
    key: KeyArguments,

    #[command(flatten)]
    replicas: Replicas,

    #[command(flatten)]
    cluster: Cluster,
}

impl Get {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        let key = self.key.key_bytes()?;
        let (got, receipt) = client::block_on(async {
            let session = Session::connect(&self.cluster).await?;
            let got = session.get(self.key.key(&key), self.replicas.consistency()).await?;
            let receipt = session.describe(got.receipt());
            session.close().await;
            Ok((got, receipt))
        })?;
        let (siblings, context) = match &got {
            client::Get::Found { siblings, context, .. } => (siblings.as_slice(), context),
            client::Get::NotFound { context, .. } => (&[][..], context),
        };
        match self.cluster.form.output {
            Output::Json => {
                let mut answer = self.json(&key, siblings);
                answer.insert("context".into(), context_text(context).into());
                answer.insert("receipt".into(), receipt.json());
                output::print_json(&answer)?;
            }
            Output::Table => match siblings {
                [] => eprintln!("quorate: there is no value under {}", cell(&key)),
                [one] => self.print_value(&one.value)?,
                several => self.print_siblings(several, &context_text(context))?,
            },
        }
        Ok(match siblings {
            [] => Exit::NotFound,
            [_] => Exit::Done,
            _ => Exit::Siblings,
        })
    }

    fn print_value(&self, value: &[u8]) -> Result<(), CommandError> {
        if self.key.base64 {
            output::print_line(STANDARD.encode(value))?;
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(value)?;
        if output::is_terminal() && !value.ends_with(b"\n") {
            out.write_all(b"\n")?;
        }
        Ok(out.flush()?)
    }

    fn print_siblings(&self, siblings: &[Sibling], context: &str) -> Result<(), CommandError> {
        let mut rows =
            Rows::new(&[Column::Number("#"), Column::Text("WRITTEN"), Column::Number("BYTES"), Column::Text("VALUE")]);
        for (number, sibling) in (1..).zip(siblings) {
            rows.push([
                format!("{number}"),
                output::clock(sibling.clock),
                output::grouped(u64::from(sibling.value_bytes)),
                cell(&sibling.value),
            ]);
        }
        rows.print()?;
        output::print_line(format_args!("\ncontext {context}"))?;
        eprintln!(
            "quorate: {} writes conflicted; merge them and replace all:\n  next: quorate kv put {} VALUE --context {context}",
            siblings.len(),
            self.key.repeated(),
        );
        Ok(())
    }

    fn json(&self, key: &[u8], siblings: &[Sibling]) -> Map<String, Value> {
        let mut answer = Map::new();
        answer.insert("bucket".into(), self.key.bucket.bucket.clone().into());
        insert_json(&mut answer, "key", key);
        answer.insert("found".into(), (!siblings.is_empty()).into());
        let siblings: Vec<Value> = siblings
            .iter()
            .map(|sibling| {
                let mut object = Map::new();
                insert_json(&mut object, "value", &sibling.value);
                object.insert("bytes".into(), sibling.value_bytes.into());
                object.insert("clock".into(), sibling.clock.into());
                object.insert("written".into(), output::clock(sibling.clock).into());
                object.insert("xxh3_128".into(), json!(format!("{:032x}", sibling.hash)));
                Value::Object(object)
            })
            .collect();
        answer.insert("siblings".into(), siblings.into());
        answer
    }
}
