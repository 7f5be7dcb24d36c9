//! What is printed: one run, the table of many, the command that replays a run.

use std::fmt::Write;

use crate::{
    campaign::Campaign,
    plan::{Fault, Plan},
    runs::Run,
};

/// One run in a line or two.
pub fn run(seed: u64, run: &Run) -> String {
    let verdict = match &run.violation {
        Some(violation) => format!("BROKEN {violation}"),
        None => "every invariant held".to_owned(),
    };
    let figures = &run.figures;
    format!(
        "seed {seed}: {verdict}\n  {} operations, {} faults, {:.0} s simulated, trace {:016x}",
        figures.operations,
        figures.faults,
        figures.simulated_us as f64 / 1e6,
        run.hash
    )
}

/// One run for programs.
pub fn run_json(seed: u64, run: &Run) -> String {
    let broken = run.violation.as_ref().map(|violation| {
        serde_json::json!({ "invariant": violation.invariant.to_string(), "what": violation.what, "at_us": violation.at_us })
    });
    let value = serde_json::json!({
        "seed": seed,
        "trace": format!("{:016x}", run.hash),
        "operations": run.figures.operations,
        "faults": run.figures.faults,
        "simulated_us": run.figures.simulated_us,
        "broken": broken,
    });
    value.to_string()
}

/// The figures of many runs.
pub fn table(campaign: &Campaign) -> String {
    let total = &campaign.total;
    let messages = total.messages_cut + total.messages_lost + total.messages_doubled + total.messages_damaged;
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<34} {value:>14}");
    };
    row("seeds", campaign.seeds.to_string());
    row("seeds that broke an invariant", campaign.failures.len().to_string());
    row("client operations", total.operations.to_string());
    row("  succeeded", total.succeeded.to_string());
    row("  failed, may have been applied", total.unclear.to_string());
    row("writes acknowledged", total.acknowledged.to_string());
    row("faults", total.faults.to_string());
    for (fault, count) in campaign.struck().filter(|(_, count)| *count > 0) {
        row(&format!("  {}", fault.name()), count.to_string());
    }
    row("messages lost, doubled, damaged", messages.to_string());
    row("records and replies judged", total.judged.to_string());
    row("events", total.events.to_string());
    row("hours simulated", format!("{:.1}", total.simulated_us as f64 / 3.6e9));
    row("simulated operations a second", format!("{:.1}", total.operations as f64 / (total.simulated_us as f64 / 1e6)));
    row("times real time, per core", format!("{:.0}", campaign.speed()));
    row("threads", campaign.jobs.to_string());
    row("seconds taken", format!("{:.1}", campaign.took.as_secs_f64()));
    let _ = writeln!(text, "\n{:<24} {:>12} {:>12}", "branch", "times taken", "seeds");
    for ((name, count), (_, seeds)) in campaign.sometimes().named().into_iter().zip(&campaign.branches) {
        let _ = writeln!(text, "{name:<24} {count:>12} {seeds:>12}");
    }
    text
}

/// The figures of many runs for programs.
pub fn json(campaign: &Campaign) -> String {
    let total = &campaign.total;
    let failures: Vec<_> = campaign.failures.iter().map(|(seed, _)| *seed).collect();
    let violation = |(seed, run): &(u64, Run)| serde_json::json!({ "seed": seed, "violation": run.violation.as_ref().map(ToString::to_string) });
    let violations: Vec<_> = campaign.failures.iter().map(violation).collect();
    let faults: serde_json::Map<String, serde_json::Value> =
        campaign.struck().map(|(fault, count)| (fault.name().to_owned(), count.into())).collect();
    let branches: serde_json::Map<String, serde_json::Value> =
        campaign.branches.iter().map(|(name, seeds)| ((*name).to_owned(), (*seeds).into())).collect();
    let value = serde_json::json!({
        "seeds": campaign.seeds,
        "broken": failures,
        "violations": violations,
        "operations": total.operations,
        "succeeded": total.succeeded,
        "acknowledged": total.acknowledged,
        "faults": total.faults,
        "faults_by_kind": faults,
        "events": total.events,
        "simulated_us": total.simulated_us,
        "times_real_time_per_core": campaign.speed(),
        "threads": campaign.jobs,
        "seconds": campaign.took.as_secs_f64(),
        "seeds_by_branch": branches,
    });
    value.to_string()
}

/// The command that replays a plan.
pub fn command(plan: &Plan) -> String {
    let is_ring = plan.nodes > plan.founders;
    let usual = if is_ring { Plan::changing(plan.seed) } else { Plan::new(plan.seed) };
    let ring = if is_ring { " --ring" } else { "" };
    let mut command = format!("quorate-sim --seed {}{ring} --trace", plan.seed);
    let without: Vec<&str> = usual.faults.on().filter(|fault| plan.faults.rate(*fault) == 0).map(Fault::name).collect();
    if !without.is_empty() {
        let _ = write!(command, " --without {}", without.join(","));
    }
    if plan.operations != usual.operations {
        let _ = write!(command, " --operations {}", plan.operations);
    }
    if plan.clients != usual.clients {
        let _ = write!(command, " --clients {}", plan.clients);
    }
    command
}
