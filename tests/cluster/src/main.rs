//! `quorate-proof`: prints the table of figures of `docs/proof.md`, by doing what it says. `tests/proof` builds and runs it.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};
use quorate_cluster::{
    figures::{Finding, Row, Verdict, row, table},
    scenario::{self, Settings, progress},
};

/// Prints the figures of docs/proof.md.
#[derive(Debug, Parser)]
#[command(name = "tests/proof")]
struct Arguments {
    /// Only these rows; may be given several times. Without it, all.
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// All rows but these.
    #[arg(long, value_name = "ROW")]
    skip: Vec<String>,
    /// Multiplies every count; long runs take the same command with a larger number.
    #[arg(long, env = "QUORATE_PROOF", default_value_t = 1.0)]
    times: f64,
    /// Seconds of the row "availability", in place of five minutes times --times.
    #[arg(long)]
    seconds: Option<u64>,
    /// Calls of each client in the row "client-memory", in place of a million times --times.
    #[arg(long)]
    calls: Option<u64>,
    /// Chooses what happens when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How the table is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Where the histories and logs of runs that failed are kept.
    #[arg(long, default_value = "target/proof")]
    keep: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// A table in Markdown.
    Text,
    /// A JSON object.
    Json,
}

/// Seconds of the availability run at scale 1.
const AVAILABILITY_SECONDS: f64 = 300.0;

/// Records of the Debian package index at scale 1: all of it.
const DEBIAN_RECORDS: u64 = 65_000;

/// Operations of each client in the row "forwards", and kills in the row "one-retry", at scale 1.
const FORWARD_OPERATIONS: u64 = 3_000;
const RETRY_KILLS: u64 = 3;

/// Kills in the row "reconfigure-kills" at scale 1: each kind of victim twice, once when partitions come and once when they go.
const RECONFIGURE_KILLS: u64 = 6;

/// How often two administrators commit at once in the row "reshape" at scale 1.
const CONTESTS: u64 = 3;

/// Clients in the row "refresh-storm" at scale 1.
const CROWD: u64 = 1_000;

/// Calls of each client in the row "client-memory" at scale 1.
const MEMORY_CALLS: u64 = 1_000_000;

/// A row: its name, what is asked of it, and how it is found out.
type Scenario = (&'static str, String, Box<dyn FnOnce() -> Finding>);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seconds = arguments.seconds.unwrap_or((AVAILABILITY_SECONDS * arguments.times).round().max(1.0) as u64);
    let settings = Settings { times: arguments.times, seconds, seed: arguments.seed, keep: arguments.keep.clone() };
    let calls = arguments.calls.unwrap_or_else(|| settings.scaled(MEMORY_CALLS));
    let scenarios = scenarios(&settings, calls);
    let names: Vec<&str> = scenarios.iter().map(|(name, ..)| *name).collect();
    if let Some(unknown) = arguments.only.iter().chain(&arguments.skip).find(|only| !names.contains(&only.as_str())) {
        eprintln!("there is no row {unknown}: there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    // The row says it; where it happened helps, and a backtrace through the runtime does not.
    std::panic::set_hook(Box::new(|panic| eprintln!("  {panic}")));
    let mut rows = Vec::new();
    for (name, asked, scenario) in scenarios {
        let is_wanted = arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
        if is_wanted && !arguments.skip.iter().any(|skip| skip == name) {
            progress(name, &asked);
            let row = row(name, asked, scenario);
            progress(name, &format!("{:?} after {:.1} s: {}", row.verdict, row.seconds, row.seen));
            if row.verdict == Verdict::NotRun {
                quorate_tests::not_run(&format!("tests/proof, row {name}: {}", row.seen));
            }
            rows.push(row);
        }
    }
    print(&rows, arguments.output);
    if rows.iter().any(|row| row.verdict == Verdict::Failed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn scenarios(settings: &Settings, calls: u64) -> Vec<Scenario> {
    let with = |run: fn(&Settings, u64) -> Finding, count: u64| -> Box<dyn FnOnce() -> Finding> {
        let settings = settings.clone();
        Box::new(move || run(&settings, count))
    };
    let (kills, cuts) = (settings.scaled(30), settings.scaled(50));
    let records = settings.scaled(DEBIAN_RECORDS);
    let (damaged, harms) = (settings.scaled(100), settings.scaled(16));
    let seeds = settings.scaled(2_000);
    let moves = settings.scaled(RECONFIGURE_KILLS);
    let contests = settings.scaled(CONTESTS);
    let crowd = settings.scaled(CROWD);
    let rounds = settings.scaled(1);
    let (operations, deaths) = (settings.scaled(FORWARD_OPERATIONS), settings.scaled(RETRY_KILLS));
    vec![
        (
            "simulation",
            format!("{seeds} seeds, and {seeds} whose ring changes: 0 violations, 500 operations and 20 faults each, 1,000 times real time per core"),
            with(scenario::simulation, seeds),
        ),
        ("bugs", "every one of 50 and more known mistakes is noticed".to_owned(), with(scenario::bugs, 0)),
        ("kills", format!("{kills} kill -9 cycles under load, 0 acknowledged lost"), with(scenario::kills, kills)),
        ("power", format!("{cuts} power cuts under load, 0 acknowledged lost"), with(scenario::power, cuts)),
        (
            "corruptions",
            format!("{damaged} records damaged on disk: 0 wrong bytes served, all repaired"),
            with(scenario::corruptions, damaged),
        ),
        ("harms", format!("{harms} harms of 8 kinds in turn, 0 acknowledged lost"), with(scenario::harms, harms)),
        (
            "hostile",
            "1000 hostile connections of 4 kinds: resident memory +64 MiB at most, honest p99 1.5 times as a goal, 6 times or a second at most"
                .to_owned(),
            with(|settings, _| scenario::hostile(settings), 0),
        ),
        (
            "availability",
            format!(
                "{} s, nodes killed, frozen and cut off in turn: every put answered by its deadline, 0 acknowledged lost, \
                 replicas byte-identical, 0 repairs when idle",
                settings.seconds
            ),
            with(|settings, _| scenario::availability(settings), 0),
        ),
        (
            "stand-ins",
            format!(
                "{} s, two of five nodes away at a time: the same, with stand-ins in the owners' places",
                settings.seconds
            ),
            with(|settings, _| scenario::stand_ins(settings), 0),
        ),
        (
            "debian",
            format!(
                "{records} records, 1 % of one node's damaged, with all there and with another node away: every one read right, \
                 one scrub finds and repairs all; an emptied directory does not come back"
            ),
            with(scenario::debian, records),
        ),
        (
            "forwards",
            format!("{operations} operations of every kind by each client, N of 3 nodes own a key: nodes forward nothing"),
            with(scenario::forwards, operations),
        ),
        (
            "one-retry",
            format!("{deaths} nodes killed under load at `quorum`: no operation fails beyond one retry, in any language"),
            with(scenario::one_retry, deaths),
        ),
        (
            "reconfigure",
            format!(
                "{records} records, clients writing at `quorum`: two nodes join, one leaves, one is replaced after its disk is gone, one \
                 gets more: no operation fails beyond one retry, no stale read, no lost write, balance within 2 %, moved 1.2 of the bound \
                 at most"
            ),
            with(scenario::reconfigure, records),
        ),
        (
            "reconfigure-kills",
            format!(
                "{moves} kill -9 of a sender, a receiver, or an elector that decides: always resumes, never from nothing, no operation fails"
            ),
            with(scenario::reconfigure_kills, moves),
        ),
        (
            "reshape",
            format!(
                "clients writing at `quorum`: twice the partitions, two owners for three and three again, {contests} times two \
                 administrators at once, a node away for more changes than are remembered: no operation fails, one commit wins, nothing lost"
            ),
            with(scenario::reshape, contests),
        ),
        (
            "rolling-restart",
            format!("every node drained and restarted in turn, {rounds} times, under load at `quorum`: 0 failed requests, 0 wrong reads, in any language"),
            with(scenario::rolling_restart, rounds),
        ),
        (
            "refresh-storm",
            format!("{crowd} clients learn of two changes of the ring: one layout each, no operation fails"),
            with(scenario::refresh_storm, crowd),
        ),
        (
            "client-memory",
            format!("{calls} calls of each client: resident memory rises by 5 MiB and 4 bytes a call at most"),
            with(scenario::memory, calls),
        ),
    ]
}

fn print(rows: &[Row], output: Output) {
    let count = |verdict: Verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let (passed, failed) = (count(Verdict::Passed), count(Verdict::Failed));
    match output {
        Output::Text => println!("{}\n{passed} passed, {failed} failed", table(rows)),
        Output::Json => println!("{}", serde_json::json!({ "rows": rows, "passed": passed, "failed": failed })),
    }
}
