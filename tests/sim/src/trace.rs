//! The event log of a run: always hashed, so that two runs can be compared; kept and printed only when asked for.

use std::fmt;

/// The log.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    events: u64,
    /// Whether lines are printed.
    is_shown: bool,
}

impl Trace {
    /// A log that prints its lines, or only hashes what it is told.
    pub fn new(is_shown: bool) -> Self {
        Self { hash: 0x9e37_79b9_7f4a_7c15, events: 0, is_shown }
    }

    /// Folds numbers that describe an event into the hash.
    pub fn mix(&mut self, numbers: &[u64]) {
        self.events += 1;
        for number in numbers {
            self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
    }

    /// Prints a line, if lines are printed.
    pub fn line(&self, now_us: u64, text: impl FnOnce() -> String) {
        if self.is_shown {
            println!("{:>9}.{:03} {}", now_us / 1_000, now_us % 1_000, text());
        }
    }

    /// The hash of all that happened.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }
}

/// Shows a value's first bytes, as text.
pub struct Short<'v>(pub &'v [u8]);

impl fmt::Display for Short<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", String::from_utf8_lossy(&self.0[..self.0.len().min(12)]).trim_end_matches('.'))
    }
}
