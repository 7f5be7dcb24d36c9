//! What commands print: tables for people, JSON for programs, and nothing when the reader has gone.
//!
//! Standard output carries the answer and only the answer; progress, notes and errors go to standard error. A command
//! describes its answer once as a serialisable value; how it looks as a table is its own business.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables and sentences for people; may change between versions.
    #[default]
    Table,
    /// One JSON document with stable field names.
    Json,
}

/// Prints `value` as one JSON document.
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    out.flush()
}

/// Prints text followed by a line end.
pub fn print_line(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Whether a person looks at standard output.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Names and texts.
    Text(&'static str),
    /// Numbers, whose last digits shall stand below each other.
    Number(&'static str),
}

/// A table under construction.
#[derive(Debug)]
pub struct Rows {
    table: Table,
    columns: Vec<Column>,
}

impl Rows {
    /// An empty table with these columns.
    pub fn new(columns: &[Column]) -> Self {
        let mut table = Table::new();
        // No frames: columns of plain text can be copied and cut. One line below the header is enough.
        table
            .load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')))
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(columns.iter().map(|column| match column {
                Column::Text(title) => Cell::new(title),
                Column::Number(title) => Cell::new(title).set_alignment(CellAlignment::Right),
            }));
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self { table, columns: columns.to_vec() }
    }

    /// Adds a row; it has as many cells as there are columns.
    pub fn push<const CELLS: usize>(&mut self, cells: [String; CELLS]) {
        debug_assert_eq!(CELLS, self.columns.len());
        self.table.add_row(cells.into_iter().zip(&self.columns).map(|(text, column)| match column {
            Column::Text(_) => Cell::new(text),
            Column::Number(_) => Cell::new(text).set_alignment(CellAlignment::Right),
        }));
    }

    /// Prints it.
    pub fn print(&self) -> io::Result<()> {
        print_line(self)
    }
}

impl Display for Rows {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.table.trim_fmt())
    }
}

/// A number with its thousands apart: 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes in the unit that leaves one to four digits: 512 B, 3.4 MiB.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A span of time in its two largest units: 45s, 12m 3s, 4d 2h.
pub fn duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|(size, _)| seconds >= *size).unwrap_or(units.len() - 1);
    let (size, name) = units[first];
    let mut text = format!("{}{name}", seconds / size);
    if let Some((smaller, name)) = units.get(first + 1)
        && seconds % size / smaller > 0
    {
        text.push_str(&format!(" {}{name}", seconds % size / smaller));
    }
    text
}

/// The wall time of a hybrid logical clock in UTC: 2007-10-14 09:30:00.123.
pub fn clock(clock: u64) -> String {
    let milliseconds = clock >> 16;
    let (seconds, rest) = (milliseconds / 1_000, milliseconds % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{rest:03}")
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar. Years are counted from March, so that
/// the leap day comes last and a month's beginning is a straight line.
fn civil(days: u64) -> (u64, u64, u64) {
    let since_0000_03_01 = days + 719_468;
    let (era, day_of_era) = (since_0000_03_01 / 146_097, since_0000_03_01 % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{Column, Rows, bytes, clock, duration, grouped};

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn bytes_have_a_fitting_unit() {
        assert_eq!([0, 1023, 1024, 3_565_158].map(bytes), ["0 B", "1023 B", "1.0 KiB", "3.4 MiB"]);
    }

    #[test]
    fn durations_show_two_units() {
        assert_eq!([0, 45, 723, 3_600, 352_800].map(duration), ["0s", "45s", "12m 3s", "1h", "4d 2h"]);
    }

    #[test]
    fn clocks_are_shown_as_dates() {
        // date -u -d @1192354200
        assert_eq!(clock(1_192_354_200_123 << 16 | 7), "2007-10-14 09:30:00.123");
        assert_eq!(clock(951_782_400_000 << 16), "2000-02-29 00:00:00.000");
        assert_eq!(clock(0), "1970-01-01 00:00:00.000");
    }

    #[test]
    fn numbers_are_aligned_to_the_right() {
        let mut rows = Rows::new(&[Column::Text("node"), Column::Number("keys")]);
        rows.push(["n1".into(), "7".into()]);
        rows.push(["n2".into(), "1,000".into()]);
        let text = rows.to_string();
        assert!(text.lines().any(|line| line.ends_with("    7")), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
    }
}
