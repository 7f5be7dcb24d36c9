//! `quorate ring transfers`: how far the data is that a change of the ring moves.

mod watch;

use clap::Args;
use serde_json::{Value, json};

pub(super) use watch::{Outlook, wait};

use crate::cli::{
    arguments::{self, Cluster},
    client::{self, Answer, Session, Transfer, Transfers},
    exit::{CommandError, Exit},
    output::{self, Column, Output, Rows},
};

/// Show the partitions that move, node by node: how many, how many bytes, how fast, how long it will take.
#[derive(Debug, Args)]
#[command(
    after_help = "COMING are partitions a node must still get or fill up, GOING those it must still hand over and delete, UNSETTLED all of
its partitions of which more than one set of owners may be active. A move is over when all three are 0 everywhere; a node that
leaves may be stopped then. Exit code 0 when nothing moves any more, 5 while something does, 6 when a node that counts does not
answer.

Examples:
  quorate ring transfers
  quorate ring transfers --watch
  quorate ring transfers --output json"
)]
pub(super) struct TransfersCommand {
    /// Go on showing it until nothing moves any more.
    #[arg(long)]
    watch: bool,

    /// With --watch: give up after so long.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = arguments::duration)]
    patience: std::time::Duration,

    #[command(flatten)]
    cluster: Cluster,
}

impl TransfersCommand {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        client::block_on(async {
            let session = Session::connect(&self.cluster).await?;
            let exit = if self.watch {
                wait(&session, 0, self.patience).await?
            } else {
                Outlook::look(&session, 0).await.exit()
            };
            let answers = session.transfers(&session.present()).await;
            let parted = watch::parted(&session, &answers).await;
            let bytes_each = watch::bytes_of_a_copy(&session).await;
            session.close().await;
            match self.cluster.form.output {
                Output::Json => {
                    let told = answers.iter().map(|answer| as_json(answer, bytes_each, parted.contains(&answer.name)));
                    output::print_json(&told.collect::<Vec<_>>())?;
                }
                Output::Table => {
                    print(&answers, bytes_each)?;
                    parted.iter().try_for_each(|name| output::print_line(watch::farewell(name)))?;
                }
            }
            Ok(exit)
        })
    }
}

fn print(answers: &[Answer<Transfers>], bytes_each: u64) -> Result<(), CommandError> {
    let mut rows = Rows::new(&[
        Column::Text("NODE"),
        Column::Number("EPOCH"),
        Column::Number("COMING"),
        Column::Number("GOING"),
        Column::Number("UNSETTLED"),
        Column::Number("RECEIVED"),
        Column::Number("RATE"),
        Column::Number("REMAINING"),
        Column::Number("SPEED"),
    ]);
    for Answer { name, answer, .. } in answers {
        let Ok(transfers) = answer else { continue };
        rows.push([
            name.clone(),
            transfers.epoch.to_string(),
            output::grouped(u64::from(transfers.coming)),
            output::grouped(u64::from(transfers.going)),
            output::grouped(u64::from(transfers.unsettled)),
            output::bytes(transfers.bytes_in),
            format!("{}/s", output::bytes(transfers.bytes_per_second)),
            remaining(transfers, bytes_each).map_or_else(|| "-".to_owned(), output::duration),
            format!("{:.0} %", transfers.throttle * 100.0),
        ]);
    }
    rows.print()?;
    if answers.iter().flat_map(|answer| &answer.answer).any(|transfers| !transfers.transfers.is_empty()) {
        output::print_line("")?;
        at_work(answers).print()?;
    }
    for Answer { name, answer, .. } in answers {
        if let Err(reason) = answer {
            output::print_line(format_args!("{name} does not answer: {reason}"))?;
        }
    }
    Ok(())
}

/// How long it will take, in seconds, as far as can be said.
fn remaining(transfers: &Transfers, bytes_each: u64) -> Option<u64> {
    watch::seconds_left(u64::from(transfers.coming), bytes_each, transfers.bytes_per_second)
}

fn at_work(answers: &[Answer<Transfers>]) -> Rows {
    let mut rows = Rows::new(&[
        Column::Text("NODE"),
        Column::Number("PARTITION"),
        Column::Text("STATE"),
        Column::Text("WITH"),
        Column::Number("RECORDS"),
        Column::Number("SIZE"),
        Column::Text("ACTIVE"),
        Column::Text("TROUBLE"),
    ]);
    for Answer { name, answer, .. } in answers {
        for transfer in answer.iter().flat_map(|transfers| &transfers.transfers) {
            rows.push([
                name.clone(),
                transfer.partition.to_string(),
                transfer.state.clone(),
                if transfer.peer.is_empty() { "-".to_owned() } else { transfer.peer.clone() },
                records(transfer),
                output::bytes(transfer.bytes),
                format!("{}..{}", transfer.lo, transfer.hi),
                transfer.trouble.clone(),
            ]);
        }
    }
    rows
}

/// "120 of 4,000", or how many where nobody knows how many there will be.
fn records(transfer: &Transfer) -> String {
    match transfer.records_total {
        0 => output::grouped(transfer.records),
        total => format!("{} of {}", output::grouped(transfer.records), output::grouped(total)),
    }
}

fn as_json(answer: &Answer<Transfers>, bytes_each: u64, may_be_stopped: bool) -> Value {
    let Answer { name, answer, .. } = answer;
    let transfer = |transfer: &Transfer| {
        json!({
            "partition": transfer.partition,
            "partition_bits": transfer.bits,
            "state": transfer.state,
            "with": Some(&transfer.peer).filter(|peer| !peer.is_empty()),
            "records": transfer.records,
            "records_total": Some(transfer.records_total).filter(|total| *total > 0),
            "bytes": transfer.bytes,
            "lo": transfer.lo,
            "hi": transfer.hi,
            "trouble": Some(&transfer.trouble).filter(|trouble| !trouble.is_empty()),
        })
    };
    match answer {
        Err(reason) => json!({"node": name, "error": reason.to_string()}),
        Ok(transfers) => json!({
            "node": name,
            "epoch": transfers.epoch,
            "coming": transfers.coming,
            "going": transfers.going,
            "unsettled": transfers.unsettled,
            "bytes_in": transfers.bytes_in,
            "bytes_per_second": transfers.bytes_per_second,
            "remaining_seconds": remaining(transfers, bytes_each),
            "throttle": transfers.throttle,
            "may_be_stopped": may_be_stopped,
            "transfers": transfers.transfers.iter().map(transfer).collect::<Vec<_>>(),
        }),
    }
}
