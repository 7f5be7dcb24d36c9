//! `quorate ring abort`: takes the newest change of the ring back, in the middle of its moves or after them. It is a change like every
//! other, which is planned and decided: nothing is undone behind anybody's back.

use std::time::Duration;

use clap::Args;

use super::{commit, names::Names, proposal};
use crate::cli::{
    arguments::{self, Cluster},
    client::{self, Commit, Session},
    exit::{CommandError, Exit},
    output::Output,
};

/// Stage what takes the newest change back, and show the plan of it. With --yes it is decided at once.
#[derive(Debug, Args)]
#[command(
    after_help = "While partitions still move, they go back to the very nodes they come from. Four things stay: more partitions are never joined
again, addresses say where nodes are, given up copies are gone, and so is a node whose leaving was over.

Examples:
  quorate ring abort
  quorate ring abort --epoch 5 --yes --wait"
)]
pub(super) struct Abort {
    /// Only if this is the newest epoch, the one to be taken back.
    #[arg(long)]
    epoch: Option<u64>,

    /// Have it decided as well.
    #[arg(long)]
    yes: bool,

    /// With --yes: go on although partitions lose the majority of their copies: writes that only the lost ones had are gone.
    #[arg(long, requires = "yes")]
    accept_loss: bool,

    /// With --yes: wait until every partition is where it belongs.
    #[arg(long, requires = "yes")]
    wait: bool,

    /// With --wait: give up after so long.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = arguments::duration)]
    patience: Duration,

    #[command(flatten)]
    cluster: Cluster,
}

impl Abort {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        client::block_on(async {
            let session = Session::connect(&self.cluster).await?;
            let staging = session.abort(self.epoch).await;
            let layout = session.layout_since(staging.as_ref().map_or(0, |staging| staging.epoch)).await;
            session.close().await;
            let staging = staging?;
            let names = Names::new(&layout, &staging.staged);
            let form = self.cluster.form.output;
            let Some(plan) = staging.plan.as_ref().filter(|_| self.yes) else {
                return proposal::print(form, &staging, &names);
            };
            if form == Output::Table {
                proposal::print_staged(&staging, &names)?;
                proposal::print_circumstances(&staging)?;
            }
            let commit = Commit { epoch: plan.epoch, plan: plan.hash, accept_loss: self.accept_loss };
            commit::decide(&self.cluster, commit, self.wait.then_some(self.patience)).await
        })
    }
}
