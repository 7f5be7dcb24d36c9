//! The bug bank: every known mistake of [`dynamo::bug`] is made, one after the other, until the simulator notices. A check that cannot
//! fail is worth nothing; here each shows that it can.

#[cfg(not(feature = "bugs"))]
use crate::options::Options;

/// Makes the mistakes; `false` if one was not noticed.
#[cfg(not(feature = "bugs"))]
pub fn run(_name: Option<&str>, _options: &Options) -> bool {
    eprintln!("this binary can't make mistakes: build it with `--features bugs`");
    false
}

#[cfg(feature = "bugs")]
pub use bank::run;

#[cfg(feature = "bugs")]
mod bank {
    use std::sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    };

    use dynamo::bug::{self, Bug};

    use crate::{
        invariant::Violation,
        options::{Format, Options},
        runs,
    };

    /// Seeds after which a mistake counts as unnoticed.
    const SEEDS_MAX: u64 = 2_000;

    /// So many searches for each mistake, far apart, of which the median is reported.
    const STARTS: [u64; 3] = [0, 1_000_000, 2_000_000];

    /// Mistakes that cost something and break nothing while everything else works, with the test that notices the cost: every owner of a
    /// partition compares it with the others in its turn, so whoever lacks something pulls it in the end.
    const ELSEWHERE: &[(Bug, &str)] = &[
        (Bug::ExchangeOnlyPulls, "dynamo/tests/background_bugs.rs"),
        (Bug::RepairWithFirst, "dynamo/tests/schedule_bugs.rs"),
    ];

    /// How a mistake was noticed.
    struct Caught {
        seeds: u64,
        violation: Violation,
    }

    /// Makes every mistake, or the one with this name.
    pub fn run(name: Option<&str>, options: &Options) -> bool {
        let chosen = |(_, other, _): &&(Bug, &str, &str)| name.is_none_or(|name| name == *other);
        let (mut count, mut unnoticed) = (0, Vec::new());
        for (which, name, what) in bug::ALL.iter().filter(chosen) {
            if let Some((_, test)) = ELSEWHERE.iter().find(|(other, _)| other == which) {
                println!("{name:<26} breaks no invariant; noticed by {test}");
                continue;
            }
            bug::switch(Some(*which));
            let mut caught: Vec<Caught> = STARTS.iter().map_while(|start| search(*start, options)).collect();
            bug::switch(None);
            caught.sort_by_key(|caught| caught.seeds);
            let median = (caught.len() == STARTS.len()).then(|| &caught[STARTS.len() / 2]);
            print(name, what, median, options.format);
            count += 1;
            if median.is_none() {
                unnoticed.push(*name);
            }
        }
        if options.format == Format::Text {
            println!("{} of {count} noticed; not noticed: {unnoticed:?}", count - unnoticed.len());
        }
        unnoticed.is_empty()
    }

    /// Runs seeds until one breaks an invariant. Threads only save time: the lowest seed that does so counts.
    fn search(start: u64, options: &Options) -> Option<Caught> {
        let (next, is_found) = (AtomicU64::new(start), AtomicBool::new(false));
        let found: Mutex<Option<Caught>> = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..options.jobs {
                scope.spawn(|| {
                    while !is_found.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= start + SEEDS_MAX {
                            return;
                        }
                        let Some(violation) = runs::run(options.plan(seed), false).violation else { continue };
                        is_found.store(true, Ordering::Relaxed);
                        let seeds = seed - start + 1;
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        if found.as_ref().is_none_or(|earlier| seeds < earlier.seeds) {
                            *found = Some(Caught { seeds, violation });
                        }
                    }
                });
            }
        });
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(name: &str, what: &str, median: Option<&Caught>, format: Format) {
        let (seeds, invariant) = match median {
            Some(Caught { seeds, violation }) => (seeds.to_string(), violation.invariant.to_string()),
            None => ("-".to_owned(), "NOT NOTICED".to_owned()),
        };
        match format {
            Format::Text => println!("{name:<26} {seeds:>6} seeds  {invariant:<12} {}", what.trim()),
            Format::Json => {
                let value =
                    serde_json::json!({ "bug": name, "what": what.trim(), "seeds": seeds, "invariant": invariant });
                println!("{value}");
            }
        }
    }
}
