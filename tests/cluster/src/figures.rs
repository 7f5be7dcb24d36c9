//! The table of figures: for each row what was asked, what was seen, and how long it took.

use std::{
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use serde::Serialize;

/// What a row found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// What was asked holds.
    Passed,
    /// It does not.
    Failed,
    /// This machine can't tell.
    NotRun,
}

/// One row.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name, for `--only`.
    pub name: &'static str,
    /// What is asked.
    pub asked: String,
    /// What was seen.
    pub seen: String,
    /// Whether it is what was asked.
    pub verdict: Verdict,
    /// How long it took.
    pub seconds: f64,
}

/// What a scenario saw.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Whether it is what was asked.
    pub verdict: Verdict,
    /// In a sentence.
    pub seen: String,
}

impl Finding {
    /// A finding that passes if `holds`.
    pub fn new(holds: bool, seen: impl Into<String>) -> Self {
        Self { verdict: if holds { Verdict::Passed } else { Verdict::Failed }, seen: seen.into() }
    }

    /// This machine can't tell, and why.
    pub fn not_run(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::NotRun, seen: reason.into() }
    }
}

/// Makes a row by running a scenario. One that panics has failed; the others go on.
pub fn row(name: &'static str, asked: String, scenario: impl FnOnce() -> Finding) -> Row {
    let started = Instant::now();
    let finding = catch_unwind(AssertUnwindSafe(scenario)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Finding::new(false, message.unwrap_or_else(|| "a panic without a message".to_owned()))
    });
    Row { name, asked, seen: finding.seen, verdict: finding.verdict, seconds: started.elapsed().as_secs_f64() }
}

/// The rows as a table in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from("| figure | asked | seen | | seconds |\n|---|---|---|---|---|\n");
    for row in rows {
        let verdict = match row.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "FAILED",
            Verdict::NotRun => "not run",
        };
        let seen = row.seen.replace('\n', " ").replace('|', "/");
        let _ = writeln!(text, "| {} | {} | {seen} | {verdict} | {:.1} |", row.name, row.asked, row.seconds);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Finding, Verdict, row, table};

    #[test]
    fn a_scenario_that_panics_is_a_row_that_failed() {
        let rows = [
            row("good", "nothing".into(), || Finding::new(true, "all well")),
            row("bad", "everything".into(), || panic!("it broke at {}", 7)),
            row("idle", "a disk".into(), || Finding::not_run("no disk")),
        ];
        assert_eq!(rows[1].verdict, Verdict::Failed);
        let table = table(&rows);
        for words in ["| good | nothing | all well | passed |", "| it broke at 7 | FAILED |", "| no disk | not run |"] {
            assert!(table.contains(words), "{table}");
        }
    }
}
