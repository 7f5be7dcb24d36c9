//! `quorate-sim`: many seeds with a table at the end, one seed with its event log, or the bug bank.

use std::process::ExitCode;

use sim::{
    bank,
    campaign::{self, Campaign},
    options::{Format, Options, Task},
    report, runs, shrink,
};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    // A panic is reported with its seed; its backtrace would only be in the way.
    std::panic::set_hook(Box::new(|_| {}));
    let is_well = match &options.task {
        Task::One(seed) => one(*seed, &options),
        Task::Many(seeds) => many(&campaign::run(seeds.clone(), &options), &options),
        Task::Bugs(name) => bank::run(name.as_deref(), &options),
        Task::Help => {
            println!("{}", Options::HELP);
            true
        }
    };
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, options: &Options) -> bool {
    let run = match &options.mistake {
        None => runs::run(options.plan(seed), options.is_trace),
        Some(name) => match bank::one(name, seed, options) {
            Some(run) => run,
            None => {
                eprintln!(
                    "no mistake {name} can be made: it is not in the bank, or this binary was built without `--features bugs`"
                );
                return false;
            }
        },
    };
    match options.format {
        Format::Text => println!("{}", report::run(seed, &run)),
        Format::Json => println!("{}", report::run_json(seed, &run)),
    }
    run.violation.is_none()
}

fn many(campaign: &Campaign, options: &Options) -> bool {
    match options.format {
        Format::Text => println!("{}", report::table(campaign)),
        Format::Json => println!("{}", report::json(campaign)),
    }
    for (seed, run) in campaign.failures.iter().take(3) {
        println!("{}", report::run(*seed, run));
        let smaller = shrink::shrink(options.plan(*seed), run);
        println!("replay with: {}\n", report::command(&smaller));
    }
    let idle = campaign.branches_missed();
    if !idle.is_empty() {
        println!("taken by fewer than one seed in a hundred, so no longer tested: {}", idle.join(", "));
    }
    campaign.failures.is_empty() && idle.is_empty()
}
