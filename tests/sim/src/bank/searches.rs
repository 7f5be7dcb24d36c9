//! The searches: seeds with a mistake until one breaks an invariant that holds in the same seed without it.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use dynamo::bug::{self, Bug};

use super::places::{self, Elsewhere};
use crate::{
    invariant::Violation,
    options::{Format, Options},
    plan::Plan,
    runs::{self, Run},
};

/// Seeds after which a mistake counts as unnoticed.
const SEEDS_MAX: u64 = 2_000;

/// So many searches for each mistake, far apart, of which the median is reported.
const STARTS: [u64; 3] = [0, 1_000_000, 2_000_000];

/// How a mistake was noticed.
struct Caught {
    /// After how many seeds.
    seeds: u64,
    /// The one that noticed it.
    seed: u64,
    /// Seeds before it that break something without the mistake too.
    passed_over: u64,
    violation: Violation,
}

/// Makes every mistake, or the one with this name; `false` if one was not noticed.
pub fn run(name: Option<&str>, options: &Options) -> bool {
    let chosen = |(_, other, _): &&(Bug, &str, &str)| name.is_none_or(|name| name == *other);
    let (mut count, mut unnoticed, mut elsewhere) = (0, Vec::new(), 0);
    for (which, name, what) in bug::ALL.iter().filter(chosen) {
        count += 1;
        if let Some(place) = places::elsewhere(*which) {
            print_elsewhere(name, what, place, options.format);
            elsewhere += 1;
            continue;
        }
        let mut caught: Vec<Caught> = STARTS.iter().map_while(|start| search(*which, *start, options)).collect();
        caught.sort_by_key(|caught| caught.seeds);
        let median = (caught.len() == STARTS.len()).then(|| &caught[STARTS.len() / 2]);
        print(name, what, median, options.format);
        if median.is_none() {
            unnoticed.push(*name);
        }
    }
    if options.format == Format::Text {
        let noticed = count - unnoticed.len() - elsewhere;
        println!("{noticed} of {count} noticed here, {elsewhere} elsewhere; not noticed: {unnoticed:?}");
    }
    count > 0 && unnoticed.is_empty()
}

/// One seed with a mistake, as the search for it would run it; `None` if there is no such mistake.
pub fn one(name: &str, seed: u64, options: &Options) -> Option<Run> {
    let (which, ..) = bug::ALL.iter().find(|(_, other, _)| name == *other)?;
    bug::switch(Some(*which));
    let run = runs::run(plan(*which, seed, options), options.is_trace);
    bug::switch(None);
    Some(run)
}

fn plan(which: Bug, seed: u64, options: &Options) -> Plan {
    let is_fixed = options.is_ring && !places::is_moving(which);
    options.limited(if is_fixed { Plan::changing(seed) } else { places::plan(which, seed) })
}

/// Runs seeds until one breaks an invariant that it does not break without the mistake.
fn search(which: Bug, start: u64, options: &Options) -> Option<Caught> {
    let (mut passed_over, mut from) = (0, start);
    loop {
        bug::switch(Some(which));
        let found = first_broken(which, from..start + SEEDS_MAX, options);
        bug::switch(None);
        let (seed, violation) = found?;
        if runs::run(plan(which, seed, options), false).violation.is_none() {
            return Some(Caught { seeds: seed - start + 1, seed, passed_over, violation });
        }
        passed_over += 1;
        from = seed + 1;
    }
}

/// The first of these seeds that breaks an invariant. Threads only save time: the lowest seed that does so counts.
fn first_broken(which: Bug, seeds: Range<u64>, options: &Options) -> Option<(u64, Violation)> {
    let (next, is_found) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let found: Mutex<Option<(u64, Violation)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                while !is_found.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let violation = runs::run(plan(which, seed, options), false).violation;
                    let Some(violation) = violation.filter(|broken| places::shows(which, broken.invariant)) else {
                        continue;
                    };
                    is_found.store(true, Ordering::Relaxed);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    if found.as_ref().is_none_or(|(earlier, _)| seed < *earlier) {
                        *found = Some((seed, violation));
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn print(name: &str, what: &str, median: Option<&Caught>, format: Format) {
    let (seeds, invariant) = match median {
        Some(Caught { seeds, violation, .. }) => (seeds.to_string(), violation.invariant.to_string()),
        None => ("-".to_owned(), "NOT NOTICED".to_owned()),
    };
    match format {
        Format::Text => {
            println!("{name:<27} {seeds:>6} seeds  {invariant:<12} {}", what.trim());
            if let Some(Caught { seed, passed_over, violation, .. }) = median {
                println!("    seed {seed}, after {passed_over} that break something without it too: {violation}");
            }
        }
        Format::Json => {
            let (seed, passed_over) = median.map_or((None, 0), |caught| (Some(caught.seed), caught.passed_over));
            let said = median.map(|caught| caught.violation.to_string());
            let value = serde_json::json!({
                "bug": name,
                "what": what.trim(),
                "seeds": seeds,
                "seed": seed,
                "passed_over": passed_over,
                "invariant": invariant,
                "violation": said,
            });
            println!("{value}");
        }
    }
}

fn print_elsewhere(name: &str, what: &str, place: &Elsewhere, format: Format) {
    let Elsewhere { reason, program } = place;
    let command = format!("cargo test -p quorate-dynamo --features bug-bank --test {program} -- --nocapture");
    match format {
        Format::Text => {
            println!("{name:<27} {:>6}        {:<12} {}", "-", "elsewhere", what.trim());
            println!("    {reason}; noticed by `{command}`");
        }
        Format::Json => {
            let value = serde_json::json!({ "bug": name, "what": what.trim(), "elsewhere": command, "reason": reason });
            println!("{value}");
        }
    }
}
