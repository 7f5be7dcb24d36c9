//! The command line.

use std::ops::Range;

use crate::plan::{Fault, Plan};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// One seed.
    One(u64),
    /// Many seeds.
    Many(Range<u64>),
    /// The bug bank, or one bug of it.
    Bugs(Option<String>),
    /// Say how it is used.
    Help,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to do.
    pub task: Task,
    /// A known mistake that one seed is to be run with.
    pub mistake: Option<String>,
    /// Whether the event log is printed.
    pub is_trace: bool,
    /// Threads that run seeds.
    pub jobs: usize,
    /// How results are printed.
    pub format: Format,
    /// Faults that do not happen, whatever the seed says.
    pub without: Vec<Fault>,
    /// Whether rings change while they serve.
    pub is_ring: bool,
    /// Client operations, if not as many as usual.
    pub operations: Option<u32>,
    /// Clients, if not as many as the seed says.
    pub clients: Option<usize>,
}

/// Seeds of the default run: the figure that every change has to meet (design, proof, "Figures to publish").
pub const SEEDS: u64 = 2_000;

impl Options {
    /// How it is used.
    pub const HELP: &str = "\
quorate-sim                    2,000 seeds and a table of what they met
  --seeds A..B | --seeds N     these seeds, or N of them
  --seed S [--trace]           one seed, with its event log
  --bugs [NAME]                every known mistake, or one, until it is caught (built with --features bugs)
  --bugs NAME --seed S         one seed with a mistake, as the search for it runs it
  --jobs N                     threads; as many as there are cores unless given
  --output text|json
  --ring                       nodes join, leave and are replaced, N and Q change, two administrators at once
  --without FAULT[,FAULT]      leave faults out    --operations N   --clients N   make a run smaller";

    /// Reads the arguments.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = arguments.peekable();
        let jobs = std::thread::available_parallelism().map_or(1, Into::into);
        let mut options = Self {
            task: Task::Many(0..SEEDS),
            mistake: None,
            is_trace: false,
            jobs,
            format: Format::Text,
            without: Vec::new(),
            is_ring: false,
            operations: None,
            clients: None,
        };
        while let Some(argument) = arguments.next() {
            if argument == "--bugs" {
                options.mistake = arguments.next_if(|next| !next.starts_with("--"));
                options.task = Task::Bugs(options.mistake.clone());
                continue;
            }
            if argument == "--ring" {
                options.is_ring = true;
                continue;
            }
            if matches!(argument.as_str(), "--trace" | "--help" | "-h") {
                options.is_trace |= argument == "--trace";
                options.task = if argument == "--trace" { options.task } else { Task::Help };
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{argument} needs a value\n{}", Self::HELP))?;
            options.set(&argument, &value)?;
        }
        Ok(options)
    }

    fn set(&mut self, argument: &str, value: &str) -> Result<(), String> {
        let wrong = || format!("{argument} {value}: not understood\n{}", Self::HELP);
        match argument {
            "--seed" => self.task = Task::One(value.parse().map_err(|_| wrong())?),
            "--seeds" => self.task = Task::Many(seeds(value).ok_or_else(wrong)?),
            "--jobs" => self.jobs = value.parse::<usize>().map_err(|_| wrong())?.max(1),
            "--operations" => self.operations = Some(value.parse().map_err(|_| wrong())?),
            "--clients" => self.clients = Some(value.parse::<usize>().map_err(|_| wrong())?.max(1)),
            "--output" => {
                self.format = match value {
                    "text" => Format::Text,
                    "json" => Format::Json,
                    _ => return Err(wrong()),
                };
            }
            "--without" => {
                for name in value.split(',') {
                    self.without.push(Fault::named(name).ok_or_else(wrong)?);
                }
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }

    /// The plan of a seed, made smaller as asked.
    pub fn plan(&self, seed: u64) -> Plan {
        self.limited(if self.is_ring { Plan::changing(seed) } else { Plan::new(seed) })
    }

    /// A plan made smaller as asked.
    pub fn limited(&self, mut plan: Plan) -> Plan {
        self.without.iter().for_each(|fault| plan.faults.set(*fault, 0));
        plan.operations = self.operations.unwrap_or(plan.operations);
        plan.clients = self.clients.unwrap_or(plan.clients);
        plan
    }
}

fn seeds(text: &str) -> Option<Range<u64>> {
    match text.split_once("..") {
        Some((from, to)) => Some(from.parse().ok()?..to.parse().ok()?),
        None => Some(0..text.parse().ok()?),
    }
}
