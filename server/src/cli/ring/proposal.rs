//! What is staged and what it would do, as people read it before they commit: the table of nodes, what moves, how even the loads
//! become, what is to be feared, and the line to type.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    names::Names,
    plan::{above, percent},
};
use crate::cli::{
    client::{Extremes, PlanNode, PlanReport, Staging},
    exit::{CommandError, Exit},
    output::{self, Column, Output, Rows},
};

/// Most nodes that a table lists; of more, only those that change, and never more than these.
const ROWS_MAX: usize = 100;

/// Prints what is staged and what it would do.
pub(in crate::cli) fn print(output: Output, staging: &Staging, names: &Names) -> Result<Exit, CommandError> {
    match output {
        Output::Json => output::print_json(&as_json(staging, names))?,
        Output::Table => {
            print_staged(staging, names)?;
            if let Some(plan) = &staging.plan {
                output::print_line("")?;
                print_plan(plan)?;
            }
            print_circumstances(staging)?;
            if let Some(plan) = &staging.plan {
                output::print_line(format_args!("\nnothing has changed yet; to do it, type\n  {}", commit_line(plan)))?;
            }
        }
    }
    // It is staged, and can't be done: the answer is no.
    Ok(if staging.problem.is_empty() { Exit::Done } else { Exit::Refused })
}

/// The exact line that has a plan decided.
pub(in crate::cli) fn commit_line(plan: &PlanReport) -> String {
    let loss = if plan.below_quorum > 0 { " --accept-loss" } else { "" };
    format!("quorate ring commit --epoch {} --plan {}{loss} --wait", plan.epoch, hash_text(&plan.hash))
}

/// A hash as it is typed.
pub(super) fn hash_text(hash: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*hash))
}

/// Prints what is staged, line by line.
pub(super) fn print_staged(staging: &Staging, names: &Names) -> Result<(), CommandError> {
    if staging.staged.is_empty() {
        output::print_line(format_args!("nothing is staged; the ring is at epoch {}", staging.epoch))?;
        return Ok(());
    }
    output::print_line(format_args!("staged on epoch {}", staging.epoch))?;
    for change in &staging.staged {
        output::print_line(format_args!("  {}", names.describe(change)))?;
    }
    Ok(())
}

/// Who did not answer, and what still moves.
pub(super) fn print_circumstances(staging: &Staging) -> Result<(), CommandError> {
    if staging.moving > 0 {
        output::print_line(format_args!(
            "note      partitions of an earlier change still move, {} at one node; quorate ring transfers",
            output::grouped(u64::from(staging.moving))
        ))?;
    }
    if !staging.problem.is_empty() {
        output::print_line(format_args!("no plan   {}", staging.problem))?;
    }
    if !staging.away.is_empty() {
        output::print_line(format_args!(
            "note      no answer from {}: what was staged there alone is not in this",
            staging.away.join(", ")
        ))?;
    }
    Ok(())
}

fn print_plan(plan: &PlanReport) -> Result<(), CommandError> {
    let shown = shown(plan);
    rows(&shown).print()?;
    if shown.len() < plan.nodes.len() {
        output::print_line(format_args!(
            "and {} other nodes",
            output::grouped((plan.nodes.len() - shown.len()) as u64)
        ))?;
    }
    let active = plan.nodes.iter().filter(|node| node.state == "active");
    let zones = active.clone().map(|node| &node.zone).collect::<BTreeSet<_>>().len();
    let partitions = 1u64.checked_shl(u32::from(plan.partition_bits)).unwrap_or(0);
    output::print_line(format_args!(
        "\nepoch {}: {} nodes in {zones} zone{}, {} partitions with {} owners each",
        plan.epoch,
        output::grouped(active.count() as u64),
        if zones == 1 { "" } else { "s" },
        output::grouped(partitions),
        plan.slots.checked_div(partitions).unwrap_or(0),
    ))?;
    output::print_line(format_args!("balance   {}", balance(plan.balance)))?;
    output::print_line(format_args!("  before  {}", balance(plan.balance_before)))?;
    output::print_line(format_args!("zones     {}", zone_cost(plan, zones)))?;
    output::print_line(format_args!(
        "moves     {} of {} copies of partitions ({:.1} %), about {}; no plan could move fewer than {}",
        output::grouped(plan.moved),
        output::grouped(plan.slots),
        percent(plan.moved, plan.slots),
        output::bytes(plan.moved_bytes),
        output::grouped(plan.moved_bound),
    ))?;
    if plan.orphaned > 0 {
        output::print_line(format_args!(
            "DANGER    {} partitions lose every copy: their data is gone unless a backup has it",
            output::grouped(u64::from(plan.orphaned))
        ))?;
    }
    if plan.below_quorum > 0 {
        output::print_line(format_args!(
            "DANGER    {} partitions lose the majority of their copies: writes that only those had are gone",
            output::grouped(u64::from(plan.below_quorum))
        ))?;
    }
    output::print_line(quorum_line(plan))?;
    for warning in &plan.warnings {
        output::print_line(format_args!("warning   {warning}"))?;
    }
    Ok(())
}

/// Whether operations at `quorum` go on everywhere while the change is carried out.
fn quorum_line(plan: &PlanReport) -> String {
    let grouped = |partitions: u32| output::grouped(u64::from(partitions));
    match (plan.unavailable_now, plan.unavailable_on_the_way) {
        (0, 0) => "quorum    every partition keeps a majority of its owners on the way".to_owned(),
        (now, 0) => {
            format!("quorum    every partition has a majority of its owners on the way; {} have none now", grouped(now))
        }
        (now, on_the_way) => format!(
            "warning   {} partitions lack a majority of owners that answer on the way, {} now: operations at quorum fail there",
            grouped(on_the_way),
            grouped(now)
        ),
    }
}

/// The nodes of a plan that a table lists.
fn shown(plan: &PlanReport) -> Vec<&PlanNode> {
    let present = plan.nodes.iter().filter(|node| node.state != "gone" || node.before > 0);
    if plan.nodes.len() <= ROWS_MAX {
        return present.collect();
    }
    present.filter(|node| node.before != node.after || node.gained > 0).take(ROWS_MAX).collect()
}

fn rows(nodes: &[&PlanNode]) -> Rows {
    let mut rows = Rows::new(&[
        Column::Text("NODE"),
        Column::Text("ZONE"),
        Column::Number("WEIGHT"),
        Column::Number("BEFORE"),
        Column::Number("AFTER"),
        Column::Number("GAINS"),
        Column::Number("IDEAL"),
        Column::Number("OF IDEAL"),
    ]);
    for node in nodes {
        let state = if node.state == "active" { String::new() } else { format!(" ({})", node.state) };
        let of_ideal = f64::from(node.after) / node.ideal;
        rows.push([
            format!("{}{state}", node.name),
            node.zone.clone(),
            node.weight.to_string(),
            output::grouped(u64::from(node.before)),
            output::grouped(u64::from(node.after)),
            output::grouped(u64::from(node.gained)),
            format!("{:.1}", node.ideal),
            if node.ideal > 0.0 { format!("{of_ideal:.3}") } else { "-".to_owned() },
        ]);
    }
    rows
}

fn balance(balance: Extremes) -> String {
    format!("fullest node {:+.1} %, emptiest {:+.1} % of its share", above(balance.max), above(balance.min))
}

fn zone_cost(plan: &PlanReport, zones: usize) -> String {
    if zones < 2 {
        return "all nodes share one".to_owned();
    }
    let (now, by_weight) = (plan.balance, plan.balance_by_weight);
    if (by_weight.max - now.max).abs() < 0.005 && (by_weight.min - now.min).abs() < 0.005 {
        return "cost no balance".to_owned();
    }
    format!(
        "keeping copies in different zones puts the fullest node {:+.1} % and the emptiest {:+.1} % off a share by weight alone",
        above(by_weight.max),
        above(by_weight.min)
    )
}

fn as_json(staging: &Staging, names: &Names) -> Value {
    json!({
        "epoch": staging.epoch,
        "staged": staging.staged.iter().map(|change| names.describe(change)).collect::<Vec<_>>(),
        "moving": staging.moving,
        "away": staging.away,
        "plan": staging.plan.as_ref().map(plan_as_json),
        "problem": Some(&staging.problem).filter(|problem| !problem.is_empty()),
    })
}

fn plan_as_json(plan: &PlanReport) -> Value {
    let balance = |balance: Extremes| json!({"max": balance.max, "min": balance.min});
    let node = |node: &PlanNode| {
        json!({
            "name": node.name,
            "zone": node.zone,
            "weight": node.weight,
            "state": node.state,
            "partitions_before": node.before,
            "partitions": node.after,
            "received": node.gained,
            "ideal": node.ideal,
        })
    };
    json!({
        "epoch": plan.epoch,
        "hash": hash_text(&plan.hash),
        "commit": commit_line(plan),
        "partition_bits": plan.partition_bits,
        "partitions": 1u64.checked_shl(u32::from(plan.partition_bits)),
        "replicas": plan.replicas,
        "slots": plan.slots,
        "moved": plan.moved,
        "moved_lower_bound": plan.moved_bound,
        "moved_bytes": plan.moved_bytes,
        "balance": balance(plan.balance),
        "balance_before": balance(plan.balance_before),
        "balance_by_weight": balance(plan.balance_by_weight),
        "partitions_below_quorum": plan.below_quorum,
        "partitions_orphaned": plan.orphaned,
        "partitions_unavailable_now": plan.unavailable_now,
        "partitions_unavailable_on_the_way": plan.unavailable_on_the_way,
        "warnings": plan.warnings,
        "nodes": plan.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}
