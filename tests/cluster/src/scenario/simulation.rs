//! Rows "simulation" and "bugs": what `quorate-sim` says of many seeds, of as many whose ring changes while it serves, and of the known
//! mistakes. It is a program of its own; here its figures are only compared with what is asked.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::Settings;
use crate::figures::Finding;

/// What a seed has to bring with it on average: 1 M operations and 40,000 faults in 2,000 seeds.
const OPERATIONS_PER_SEED: f64 = 500.0;
const FAULTS_PER_SEED: f64 = 20.0;

/// How much faster than real time each core has to be.
const SPEED_MIN: f64 = 1_000.0;

/// Seconds that a seed may take: 2,000 within ten minutes.
const SECONDS_PER_SEED: f64 = 0.3;

/// Known mistakes that there have to be, those in rings that change among them.
const BUGS_MIN: usize = 50;

/// Runs so many seeds of rings that stay as they are, and of rings that change.
pub fn simulation(_: &Settings, seeds: u64) -> Finding {
    let Some(((fixed_holds, fixed), (changing_holds, changing))) =
        campaign(seeds, &[]).zip(campaign(seeds, &["--ring"]))
    else {
        return Finding::not_run("QUORATE_SIM names no simulator; tests/proof builds it");
    };
    Finding::new(fixed_holds && changing_holds, format!("{fixed}; rings that change: {changing}"))
}

/// Whether so many seeds are as they must be, and what was seen; `None` if there is no simulator.
fn campaign(seeds: u64, more: &[&str]) -> Option<(bool, String)> {
    let output = run("QUORATE_SIM", &[&["--seeds", &seeds.to_string(), "--output", "json"], more].concat())?;
    let figures = output.lines.iter().find(|line| line["seeds"].is_u64());
    let Some(figures) = figures else { return Some((false, "the simulator printed no figures".to_owned())) };
    let number = |name: &str| figures[name].as_f64().unwrap_or(0.0);
    let broken = figures["broken"].as_array().map_or(usize::MAX, Vec::len);
    let count = seeds as f64;
    let is_good = output.is_well
        && broken == 0
        && number("operations") >= OPERATIONS_PER_SEED * count
        && number("faults") >= FAULTS_PER_SEED * count
        && number("times_real_time_per_core") >= SPEED_MIN
        && number("seconds") <= SECONDS_PER_SEED * count;
    let seen = format!(
        "{} seeds, {broken} of them broken, {} client operations, {} faults in {:.0} s, {:.0} times real time per core",
        figures["seeds"],
        figures["operations"],
        figures["faults"],
        number("seconds"),
        number("times_real_time_per_core")
    );
    Some((is_good, seen))
}

/// Makes every known mistake until it is noticed.
pub fn bugs(_: &Settings, _: u64) -> Finding {
    let Some(output) = run("QUORATE_SIM_BUGS", &["--bugs", "--output", "json"]) else {
        return Finding::not_run("QUORATE_SIM_BUGS names no simulator with the feature `bugs`; tests/proof builds it");
    };
    let bugs: Vec<&Value> = output.lines.iter().filter(|line| line["bug"].is_string()).collect();
    let name = |bug: &&&Value| bug["bug"].as_str().unwrap_or("?").to_owned();
    let seeds = |bug: &Value| bug["seeds"].as_str().and_then(|seeds| seeds.parse::<u64>().ok());
    // What costs something and breaks nothing here is noticed by tests of the machines, as `--bugs` says of each.
    let is_elsewhere = |bug: &Value| bug["elsewhere"].is_string();
    let elsewhere: Vec<String> = bugs.iter().filter(|bug| is_elsewhere(bug)).map(|bug| name(&bug)).collect();
    let is_missed = |bug: &&&Value| seeds(bug).is_none() && !is_elsewhere(bug);
    let missed: Vec<String> = bugs.iter().filter(is_missed).map(|bug| name(&bug)).collect();
    let mut medians: Vec<u64> = bugs.iter().filter_map(|bug| seeds(bug)).collect();
    medians.sort_unstable();
    let is_good = output.is_well && missed.is_empty() && bugs.len() >= BUGS_MIN;
    let seen = format!(
        "{} of {} noticed, after {} seeds in the median and {} at most; not noticed: {missed:?}; by tests of the machines alone: {elsewhere:?}",
        bugs.len() - missed.len() - elsewhere.len(),
        bugs.len(),
        medians.get(medians.len() / 2).unwrap_or(&0),
        medians.last().unwrap_or(&0)
    );
    Finding::new(is_good, seen)
}

/// What a program printed as JSON, line by line, and whether it ended well.
struct Output {
    lines: Vec<Value>,
    is_well: bool,
}

fn run(variable: &str, arguments: &[&str]) -> Option<Output> {
    let program = PathBuf::from(std::env::var_os(variable)?);
    let output = Command::new(program).args(arguments).stderr(Stdio::inherit()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Some(Output { lines, is_well: output.status.success() })
}
