//! `quorate ring plan`: what the staged changes would do; or, without a cluster or beside it, what the planner would make of a list
//! of nodes, or of changes to one. Nothing is touched.

use std::{collections::BTreeSet, path::PathBuf};

use clap::Args;
use dynamo::{
    ident::Id,
    layout::{Layout, Member, MemberState, PARTITION_BITS_MAX, REPLICAS_MAX},
    planner::{self, Balance, Desired, Plan},
    settlement::Proven,
};
use serde_json::{Value, json};

use super::{
    CLUSTER_IMAGINED,
    members::{self, Changes, Configured, NodeArgument, WeightArgument},
    names::Names,
    proposal,
};
use crate::cli::{
    arguments::Cluster,
    client::{self, Session},
    exit::{CommandError, Exit},
    output::{self, Column, Output, Rows},
};

/// N when nobody says otherwise.
const REPLICAS_DEFAULT: u8 = 3;

/// Most nodes that a table lists; of more, only the summary is shown.
const ROWS_MAX: usize = 100;

/// Show what the staged changes would do, and how to have it done. Nothing is changed anywhere.
#[derive(Debug, Args)]
#[command(
    after_help = "With --node, --config or --live it shows what the planner would make of a list of nodes, staged or not.

Examples:
  quorate ring plan
  quorate ring plan --node n1,zone=a --node n2,zone=b --node n3,zone=c,weight=200
  quorate ring plan --node count=34,zone=a --node count=33,zone=b --node count=33,zone=c --replicas 3
  quorate ring plan --config node.toml --add n4,zone=d
  quorate ring plan --live --leave n2 --reweight n1=300"
)]
pub(super) struct PlanCommand {
    /// A node: name=n1,zone=a,weight=200, or count=10,zone=a for several. Without them, the weight is 100 and the zone the node's own.
    #[arg(long = "node", value_name = "NODE")]
    nodes: Vec<NodeArgument>,

    /// Take the nodes from the [cluster] table of a node's configuration file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodes", "live"])]
    config: Option<PathBuf>,

    /// Take the nodes, and the layout they have now, from the running cluster.
    #[arg(long, conflicts_with = "nodes")]
    live: bool,

    /// A node that joins; as --node.
    #[arg(long, value_name = "NODE")]
    add: Vec<NodeArgument>,

    /// A node that hands over what it holds and then leaves.
    #[arg(long, value_name = "NAME")]
    leave: Vec<String>,

    /// A node that is gone and can hand over nothing.
    #[arg(long, value_name = "NAME")]
    remove: Vec<String>,

    /// A node that gets another weight.
    #[arg(long, value_name = "NAME=WEIGHT")]
    reweight: Vec<WeightArgument>,

    /// How many owners a key has; 3 if neither the file nor the cluster says otherwise.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=i64::from(REPLICAS_MAX)))]
    replicas: Option<u8>,

    /// Plan 2^BITS partitions instead of what suits the number of nodes.
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(0..=i64::from(PARTITION_BITS_MAX)))]
    partition_bits: Option<u8>,

    #[command(flatten)]
    cluster: Cluster,
}

/// Where planning begins.
struct Base {
    cluster_name: String,
    cluster: u128,
    members: Vec<Member>,
    replicas: u8,
    layout: Option<Layout>,
}

impl PlanCommand {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        if !self.live && self.config.is_none() && self.nodes.is_empty() {
            return self.staged();
        }
        let base = self.base()?;
        let changes = self.changes();
        let replicas = self.replicas.unwrap_or(base.replicas);
        let members = changes.apply(&base.cluster_name, &base.members)?;
        let old = match (base.layout, changes.is_empty()) {
            (Some(layout), _) => Some(layout),
            (None, true) => None,
            // The changes are compared with the map that the list without them would have.
            (None, false) => Some(plan(None, base.cluster, base.members, base.replicas, self.partition_bits)?.layout),
        };
        let plan = plan(old.as_ref(), base.cluster, members, replicas, self.partition_bits)?;
        match self.cluster.form.output {
            Output::Table => print(&plan, old.as_ref())?,
            Output::Json => output::print_json(&as_json(&plan))?,
        }
        Ok(Exit::Done)
    }

    /// What is staged in the cluster, and what it would do.
    fn staged(self) -> Result<Exit, CommandError> {
        if !self.changes().is_empty() || self.replicas.is_some() || self.partition_bits.is_some() {
            return Err(CommandError::usage("these are changes to a list of nodes: --live takes that of the cluster")
                .next("the same with --live, or quorate ring stage, which the cluster remembers"));
        }
        client::block_on(async {
            let session = Session::connect(&self.cluster).await?;
            let staging = session.staging().await;
            let layout = session.layout_since(staging.as_ref().map_or(0, |staging| staging.epoch)).await;
            session.close().await;
            let staging = staging?;
            let names = Names::new(&layout, &staging.staged);
            proposal::print(self.cluster.form.output, &staging, &names)
        })
    }

    fn changes(&self) -> Changes<'_> {
        Changes { add: &self.add, leave: &self.leave, remove: &self.remove, reweight: &self.reweight }
    }

    fn base(&self) -> Result<Base, CommandError> {
        if self.live {
            let layout = client::layout(&self.cluster)?;
            return Ok(Base {
                cluster_name: CLUSTER_IMAGINED.to_owned(),
                cluster: layout.cluster,
                members: layout.members.clone(),
                replicas: layout.replicas,
                layout: Some(Layout::clone(&layout)),
            });
        }
        let configured = match &self.config {
            Some(path) => Configured::read(path)?,
            None => {
                let mut nodes = Vec::new();
                members::append(CLUSTER_IMAGINED, &mut nodes, &self.nodes)?;
                Configured { cluster: CLUSTER_IMAGINED.to_owned(), replicas: REPLICAS_DEFAULT, members: nodes }
            }
        };
        let replicas = self.replicas.unwrap_or(configured.replicas);
        Ok(Base {
            cluster: u128::from_be_bytes(Id::of(configured.cluster.as_bytes(), b"").0),
            cluster_name: configured.cluster,
            members: configured.members,
            replicas,
            layout: None,
        })
    }
}

fn plan(
    old: Option<&Layout>,
    cluster: u128,
    members: Vec<Member>,
    replicas: u8,
    partition_bits: Option<u8>,
) -> Result<Plan, CommandError> {
    let buckets = old.map(|layout| layout.buckets.clone()).unwrap_or_default();
    let desired = Desired {
        cluster,
        members,
        replicas,
        partition_bits,
        buckets,
        replacements: Default::default(),
        proven: Proven::Everything,
    };
    planner::plan(old, &desired)
        .map_err(|error| CommandError::usage(error.to_string()).next("quorate ring plan --help"))
}

fn print(plan: &Plan, old: Option<&Layout>) -> Result<(), CommandError> {
    let (layout, summary) = (&plan.layout, &plan.summary);
    if layout.members.len() <= ROWS_MAX {
        rows(plan).print()?;
    }
    let zones = layout.members.iter().map(|member| member.zone.as_str()).collect::<BTreeSet<_>>().len();
    output::print_line(format_args!(
        "\n{} nodes in {zones} zones, {} partitions with {} owners each{}",
        output::grouped(layout.members.len() as u64),
        output::grouped(u64::from(layout.partitions())),
        u64::from(layout.replicas).min(summary.slots / u64::from(layout.partitions()).max(1)),
        if layout.replicas > owners_most(layout) { " (fewer nodes than replicas)" } else { "" },
    ))?;
    output::print_line(format_args!("balance   {}", balance(summary.balance)))?;
    if let Some(before) = summary.balance_before {
        output::print_line(format_args!("  before  {}", balance(before)))?;
    }
    output::print_line(format_args!(
        "zones     {}",
        if zones > 1 {
            zone_cost(summary.balance, summary.balance_by_weight)
        } else {
            "all nodes share one".to_owned()
        }
    ))?;
    if old.is_some() {
        output::print_line(format_args!("moves     {}", moves(plan)))?;
        if summary.orphaned > 0 {
            output::print_line(format_args!(
                "DANGER    {} partitions lose every owner: their data would be gone",
                output::grouped(u64::from(summary.orphaned))
            ))?;
        }
        if summary.below_quorum > 0 {
            output::print_line(format_args!(
                "warning   {} partitions keep no majority of their owners: quorum operations fail there until data is copied",
                output::grouped(u64::from(summary.below_quorum))
            ))?;
        }
    }
    Ok(())
}

fn rows(plan: &Plan) -> Rows {
    let mut rows = Rows::new(&[
        Column::Text("NODE"),
        Column::Text("ZONE"),
        Column::Number("WEIGHT"),
        Column::Number("BEFORE"),
        Column::Number("PARTITIONS"),
        Column::Number("COORDINATES"),
        Column::Number("RECEIVES"),
        Column::Number("SHARE"),
        Column::Number("OF IDEAL"),
    ]);
    for (member, node) in plan.layout.members.iter().zip(&plan.summary.nodes) {
        rows.push([
            super::show::name(member),
            member.zone.clone(),
            member.weight.to_string(),
            output::grouped(u64::from(node.before)),
            output::grouped(u64::from(node.partitions)),
            output::grouped(u64::from(node.coordinated)),
            output::grouped(u64::from(node.gained)),
            format!("{:.1} %", percent(u64::from(node.partitions), plan.summary.slots)),
            if node.ideal > 0.0 { format!("{:.3}", f64::from(node.partitions) / node.ideal) } else { "-".to_owned() },
        ]);
    }
    rows
}

/// How many owners a partition has at most: no more than there are active nodes.
fn owners_most(layout: &Layout) -> u8 {
    let active = layout.members.iter().filter(|member| member.state == MemberState::Active).count();
    u8::try_from(active).unwrap_or(u8::MAX)
}

fn balance(balance: Balance) -> String {
    format!("fullest node {:+.1} %, emptiest {:+.1} % of its share", above(balance.max), above(balance.min))
}

fn zone_cost(balance: Balance, by_weight: Balance) -> String {
    if (by_weight.max - balance.max).abs() < 0.005 && (by_weight.min - balance.min).abs() < 0.005 {
        return "cost no balance".to_owned();
    }
    format!(
        "keeping replicas in different zones puts the fullest node {:+.1} % and the emptiest {:+.1} % off a share by weight alone",
        above(by_weight.max),
        above(by_weight.min)
    )
}

fn moves(plan: &Plan) -> String {
    let summary = &plan.summary;
    format!(
        "{} of {} slots ({:.1} %); no plan could move fewer than {}",
        output::grouped(summary.moved),
        output::grouped(summary.slots),
        percent(summary.moved, summary.slots),
        output::grouped(summary.moved_lower_bound),
    )
}

pub(super) fn above(ratio: f64) -> f64 {
    (ratio - 1.0) * 100.0
}

pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn as_json(plan: &Plan) -> Value {
    let (layout, summary) = (&plan.layout, &plan.summary);
    let balance = |balance: Balance| json!({"max": balance.max, "min": balance.min});
    let nodes: Vec<Value> = layout
        .members
        .iter()
        .zip(&summary.nodes)
        .map(|(member, node)| {
            json!({
                "name": member.name,
                "zone": member.zone,
                "weight": member.weight,
                "leaving": member.state == MemberState::Leaving,
                "lost": member.state == MemberState::Lost,
                "partitions_before": node.before,
                "partitions": node.partitions,
                "coordinated": node.coordinated,
                "received": node.gained,
                "ideal": node.ideal,
                "ideal_by_weight": node.by_weight,
            })
        })
        .collect();
    json!({
        "epoch": layout.epoch,
        "partition_bits": layout.partition_bits,
        "partitions": layout.partitions(),
        "replicas": layout.replicas,
        "slots": summary.slots,
        "moved": summary.moved,
        "moved_lower_bound": summary.moved_lower_bound,
        "balance": balance(summary.balance),
        "balance_before": summary.balance_before.map(balance),
        "balance_by_weight": balance(summary.balance_by_weight),
        "partitions_below_quorum": summary.below_quorum,
        "partitions_orphaned": summary.orphaned,
        "nodes": nodes,
    })
}
