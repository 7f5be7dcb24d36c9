//! How far a long command has come: a bar with rate and remaining time on a terminal, a plain line every few seconds
//! elsewhere, always on standard error.

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output;

/// How often the bar is drawn: smooth to the eye, nothing to the processor.
const DRAWS_PER_SECOND: u8 = 8;

/// How often a plain line is written: a log of an hour's load stays readable.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Smoothing of the rate behind the remaining time: one second's hiccup shall not double it.
const RATE_MEMORY: f64 = 0.2;

/// A long command's progress.
#[derive(Debug)]
pub struct Progress {
    doing: &'static str,
    unit: Unit,
    total: Option<u64>,
    /// How much was done before this run.
    skipped: u64,
    started: Instant,
    last_line: Instant,
    last_position: u64,
    rate: f64,
    bar: Option<ProgressBar>,
}

/// What the position counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a file.
    Bytes,
    /// Partitions of the ring.
    Partitions,
}

impl Progress {
    /// Progress of `doing` ("loading") towards `total`, if that is known, from `skipped` on.
    pub fn new(doing: &'static str, unit: Unit, total: Option<u64>, skipped: u64) -> Self {
        let bar = stderr().is_terminal().then(|| bar(doing, unit, total, skipped));
        let now = Instant::now();
        Self { doing, unit, total, skipped, started: now, last_line: now, last_position: skipped, rate: 0.0, bar }
    }

    /// Shows the position reached, and how many records that was in this run.
    pub fn show(&mut self, position: u64, records: u64) {
        let now = Instant::now();
        match &self.bar {
            Some(bar) => {
                bar.set_position(position);
                bar.set_message(format!("{} records, {}/s", output::grouped(records), self.records_rate(now, records)));
            }
            None if now - self.last_line >= LINE_EVERY => {
                let passed = (now - self.last_line).as_secs_f64();
                let rate = position.saturating_sub(self.last_position) as f64 / passed;
                self.rate = if self.rate == 0.0 { rate } else { self.rate + RATE_MEMORY * (rate - self.rate) };
                self.last_line = now;
                self.last_position = position;
                eprintln!("{}", self.line(now, position, records));
            }
            None => {}
        }
    }

    /// Takes the bar away, so that what follows is written below nothing.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Writes a note without tearing the bar.
    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// How long this run has taken.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn records_rate(&self, now: Instant, records: u64) -> String {
        output::grouped((records as f64 / (now - self.started).as_secs_f64().max(0.001)) as u64)
    }

    fn line(&self, now: Instant, position: u64, records: u64) -> String {
        let mut text = format!("{}: {}", self.doing, self.unit.show(position));
        if let Some(total) = self.total {
            let percent = if total == 0 { 100.0 } else { position as f64 * 100.0 / total as f64 };
            text.push_str(&format!(" of {} ({percent:.0} %)", self.unit.show(total)));
        }
        text.push_str(&format!(", {} records, {}/s", output::grouped(records), self.records_rate(now, records)));
        if let Some(total) = self.total
            && self.rate > 0.0
            && position > self.skipped
        {
            let remaining = total.saturating_sub(position) as f64 / self.rate;
            text.push_str(&format!(", {} left", output::duration(remaining.ceil() as u64)));
        }
        text
    }
}

impl Unit {
    fn show(self, position: u64) -> String {
        match self {
            Self::Bytes => output::bytes(position),
            Self::Partitions => format!("{} partitions", output::grouped(position)),
        }
    }
}

fn bar(doing: &'static str, unit: Unit, total: Option<u64>, skipped: u64) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
    let bar = ProgressBar::with_draw_target(total, target).with_prefix(doing).with_position(skipped);
    bar.reset_eta();
    let amount = match unit {
        Unit::Bytes => "{binary_bytes} of {binary_total_bytes}",
        Unit::Partitions => "{human_pos} of {human_len} partitions",
    };
    let template = match total {
        Some(_) => format!("{{prefix}} {{bar:30}} {{percent:>3}} %  {amount}, {{msg}}, {{eta}} left"),
        None => format!("{{prefix}} {{spinner}} {}, {{msg}}", amount.split(" of ").next().unwrap_or_default()),
    };
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("━╸ "));
    bar
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Progress, Unit};

    #[test]
    fn a_plain_line_says_how_far_how_fast_and_how_long() {
        let started = Instant::now();
        let progress = Progress {
            doing: "loading",
            unit: Unit::Bytes,
            total: Some(4 << 20),
            skipped: 0,
            started,
            last_line: started,
            last_position: 0,
            rate: 524_288.0,
            bar: None,
        };
        let line = progress.line(started + Duration::from_secs(2), 1 << 20, 5_000);
        assert_eq!(line, "loading: 1.0 MiB of 4.0 MiB (25 %), 5,000 records, 2,500/s, 6s left");
    }
}
