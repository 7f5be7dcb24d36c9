//! Histories as text: one JSON object for each line.

use crate::Event;

/// A line that is no event.
#[derive(Debug)]
pub struct ParseError {
    /// Which line, from 1 on.
    pub line: usize,
    /// What is wrong with it.
    pub problem: serde_json::Error,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for ParseError {}

/// Reads a history. Empty lines are skipped.
pub fn parse(text: &str) -> Result<Vec<Event>, ParseError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| serde_json::from_str(line).map_err(|problem| ParseError { line: at + 1, problem })).collect()
}

/// Writes a history.
pub fn print(history: &[Event]) -> String {
    let mut text = String::new();
    for event in history {
        text += &serde_json::to_string(event).expect("an event has no map with odd keys and no float");
        text.push('\n');
    }
    text
}
