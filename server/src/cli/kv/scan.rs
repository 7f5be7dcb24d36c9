//! `quorate kv scan`: which keys there are.

use std::io::{self, BufWriter, Write};

use clap::Args;
use futures_util::StreamExt;
use serde_json::{Map, Value};

use crate::cli::{
    arguments::{self, Cluster, Replicas},
    client::{self, ScanOptions, ScannedKey, Session},
    exit::{CommandError, Exit},
    notation::{cell, insert_json},
    output::{Output, is_terminal},
};

/// How many keys are printed before they are sent on: whoever reads the other end shall see them as they come.
const FLUSH_EVERY: u64 = 64;

/// List keys, in the order of their place on the ring.
#[derive(Debug, Args)]
#[command(
    after_help = "Keys come partition by partition, in the order of their MD5 identifiers, and are printed as they come. With \
--output json every key is a JSON object on a line of its own. --level one is quicker and may miss what one node missed.

Examples:
  quorate kv scan --limit 20
  quorate kv scan --bucket carts --prefix user: --output json"
)]
pub(super) struct Scan {
    /// Only this bucket; all of them if none is named.
    #[arg(long, short, value_name = "NAME", value_parser = arguments::bucket)]
    bucket: Option<String>,

    /// Only keys that begin so. Every key is still looked at: the ring knows no such order.
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,

    /// End after so many keys.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,

    #[command(flatten)]
    replicas: Replicas,

    #[command(flatten)]
    cluster: Cluster,
}

impl Scan {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        client::block_on(self.scan())
    }

    async fn scan(self) -> Result<Exit, CommandError> {
        let session = Session::connect(&self.cluster).await?;
        let mut keys = std::pin::pin!(session.scan(&ScanOptions {
            bucket: self.bucket.as_deref(),
            values: false,
            first_partition: 0,
            consistency: self.replicas.consistency(),
        }));
        let mut out = BufWriter::new(io::stdout().lock());
        if self.cluster.form.output == Output::Table && is_terminal() {
            writeln!(out, "{}", row("BUCKET", "VALUES", "BYTES", "KEY"))?;
        }
        let mut printed = 0;
        while self.limit.is_none_or(|limit| printed < limit)
            && let Some(key) = keys.next().await
        {
            let key = key?;
            if key.address.key.starts_with(self.prefix.as_bytes()) {
                self.print(&mut out, &key)?;
                printed += 1;
                if printed.is_multiple_of(FLUSH_EVERY) {
                    out.flush()?;
                }
            }
        }
        out.flush()?;
        Ok(Exit::Done)
    }

    fn print(&self, out: &mut impl Write, key: &ScannedKey) -> io::Result<()> {
        match self.cluster.form.output {
            Output::Table => {
                let (siblings, bytes) = (key.siblings.to_string(), key.value_bytes.to_string());
                writeln!(out, "{}", row(&key.bucket, &siblings, &bytes, &cell(&key.address.key)))
            }
            Output::Json => {
                let mut object = Map::new();
                object.insert("bucket".into(), key.bucket.clone().into());
                insert_json(&mut object, "key", &key.address.key);
                object.insert("siblings".into(), key.siblings.into());
                object.insert("value_bytes".into(), key.value_bytes.into());
                writeln!(out, "{}", Value::Object(object))
            }
        }
    }
}

/// Columns of a fixed width: a list that is printed as it comes can't be measured first.
fn row(bucket: &str, siblings: &str, bytes: &str, key: &str) -> String {
    format!("{bucket:<12} {siblings:>6} {bytes:>9}  {key}")
}
