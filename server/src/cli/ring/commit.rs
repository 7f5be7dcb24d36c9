//! `quorate ring commit`: has a plan decided, and waits for the data to move if that is wanted. `quorate ring clear`: forgets what
//! is staged.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{
    names::Names,
    proposal::{self, hash_text},
    transfers,
};
use crate::cli::{
    arguments::{self, Cluster},
    client::{self, Commit, Decision, Failure, Session},
    exit::{CommandError, Exit},
    output::{self, Output},
};

/// Have a plan decided: the one with this hash as the layout of this epoch, or nothing.
#[derive(Debug, Args)]
#[command(
    after_help = "quorate ring plan prints the whole line. Of two people who commit at the same time one is told, with exit code 8, what was
decided instead. After exit code 7, and whenever in doubt, the same command again says what became of it. Data begins to move at
once; the cluster serves on all the while.

Examples:
  quorate ring commit --epoch 2 --plan 5b1f4e2d8c7a90361f2e4d5c6b7a8190
  quorate ring commit --epoch 2 --plan 5b1f4e2d8c7a90361f2e4d5c6b7a8190 --wait"
)]
pub(super) struct CommitCommand {
    /// Which epoch it becomes, as the plan says.
    #[arg(long)]
    epoch: u64,

    /// The plan's hash: 32 digits.
    #[arg(long, value_name = "HASH", value_parser = hash)]
    plan: [u8; 16],

    /// Go on although partitions lose the majority of their copies: writes that only the lost ones had are gone.
    #[arg(long)]
    accept_loss: bool,

    /// Wait until every partition is where it belongs.
    #[arg(long)]
    wait: bool,

    /// With --wait: give up after so long.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = arguments::duration)]
    patience: Duration,

    #[command(flatten)]
    cluster: Cluster,
}

/// Forget everything that is staged.
#[derive(Debug, Args)]
#[command(after_help = "Single changes are taken back with quorate ring stage undo.

Examples:
  quorate ring clear")]
pub(super) struct Clear {
    #[command(flatten)]
    cluster: Cluster,
}

impl CommitCommand {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        client::block_on(async {
            let commit = Commit { epoch: self.epoch, plan: self.plan, accept_loss: self.accept_loss };
            decide(&self.cluster, commit, self.wait.then_some(self.patience)).await
        })
    }
}

/// Has a plan decided, says so, and waits as long as there is patience until nothing moves any more; without any it does not wait.
pub(in crate::cli) async fn decide(
    cluster: &Cluster,
    commit: Commit,
    patience: Option<Duration>,
) -> Result<Exit, CommandError> {
    let session = Session::connect(cluster).await?;
    let decision = session.commit(commit).await;
    session.close().await;
    let decision = decision.map_err(undecided)?;
    if decision.is_conflict {
        // Programs are told what was decided instead, too.
        if cluster.form.output == Output::Json {
            output::print_json(&as_json(&decision))?;
        }
        return Err(conflict(&decision));
    }
    print(cluster.form.output, &decision, patience.is_some())?;
    let Some(patience) = patience else { return Ok(Exit::Done) };
    // Another session, for the nodes of the new layout.
    let session = Session::connect(cluster).await?;
    let exit = transfers::wait(&session, decision.epoch, patience).await;
    session.close().await;
    exit
}

fn print(form: Output, decision: &Decision, waits: bool) -> Result<(), CommandError> {
    match form {
        Output::Json => output::print_json(&as_json(decision))?,
        Output::Table => {
            output::print_line(format_args!("epoch {} is decided", decision.epoch))?;
            decision.changes.iter().try_for_each(|change| output::print_line(format_args!("  {change}")))?;
            if !waits {
                output::print_line("next: quorate ring transfers --watch")?;
            }
        }
    }
    Ok(())
}

fn as_json(decision: &Decision) -> Value {
    json!({
        "epoch": decision.epoch,
        "hash": hash_text(&decision.hash),
        "conflict": decision.is_conflict,
        "changes": decision.changes,
    })
}

impl Clear {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        client::block_on(async {
            let session = Session::connect(&self.cluster).await?;
            let staging = session.clear_staging().await;
            let layout = session.layout_since(staging.as_ref().map_or(0, |staging| staging.epoch)).await;
            session.close().await;
            let staging = staging?;
            let names = Names::new(&layout, &staging.staged);
            proposal::print(self.cluster.form.output, &staging, &names)
        })
    }
}

/// Another change was agreed upon first.
fn conflict(decision: &Decision) -> CommandError {
    let mut message = format!(
        "conflict: epoch {} was decided otherwise, as layout {}; nothing of this plan was done",
        decision.epoch,
        hash_text(&decision.hash)
    );
    for change in &decision.changes {
        message.push_str(&format!("\n  {change}"));
    }
    CommandError::new(Exit::Refused, message).next("quorate ring plan, and commit what it shows")
}

/// The commit failed, or nobody knows whether it did.
fn undecided(failure: Failure) -> CommandError {
    let is_unclear = failure.maybe_applied;
    let error = CommandError::from(failure);
    if is_unclear {
        return CommandError { exit: Exit::Unclear, ..error }
            .next("the same command again, which is harmless, or quorate ring history");
    }
    error.next("quorate ring plan; quorate status shows which nodes answer")
}

/// Reads a plan's hash.
fn hash(text: &str) -> Result<[u8; 16], String> {
    let hash = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
    let hash = hash.ok_or("a plan's hash has 32 digits of 0-9 and a-f; quorate ring plan prints it")?;
    Ok(hash.to_be_bytes())
}
