//! Files that are made by a test and checked in: each must be what would be made now, and `QUORATE_UPDATE=1` writes it.

use std::fs;

use serde_json::Value;

use crate::repository;

/// How long a line gets before a list or an object is broken into lines of its own.
const LINE_CHARACTERS: usize = 150;

/// Elements that are this short flow like words.
const WORD_CHARACTERS: usize = 20;

/// Compares a file with what was made for it, or writes it.
///
/// # Panics
/// When they differ; the message has the first line that does.
pub fn check(path: &str, made: &str) {
    if std::env::var_os("QUORATE_UPDATE").is_some() {
        fs::write(repository::root().join(path), made).expect("the file can be written");
    }
    let there = fs::read_to_string(repository::root().join(path)).unwrap_or_default();
    if there != made {
        let differ = there.lines().zip(made.lines()).enumerate().find(|(_, (there, made))| there != made);
        let (line, (there, made)) = differ.unwrap_or_default();
        panic!("{path} is out of date: QUORATE_UPDATE=1 writes it\nline {}\nthere: {there}\n made: {made}", line + 1);
    }
}

/// A checked-in file of JSON.
pub fn json(path: &str) -> Value {
    serde_json::from_str(&repository::read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// JSON for people: what fits into a line stands in one.
pub fn text(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text + "\n"
}

fn write(value: &Value, depth: usize, text: &mut String) {
    let compact = value.to_string();
    let indent = "  ".repeat(depth + 1);
    match value {
        Value::Array(elements) if compact.len() > LINE_CHARACTERS => {
            let words = elements.iter().all(|element| element.to_string().len() <= WORD_CHARACTERS);
            text.push('[');
            let mut room = 0;
            for (at, element) in elements.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                let width = element.to_string().len() + 2;
                if words && room > width {
                    text.push_str(&format!("{comma} {element}"));
                    room -= width;
                } else {
                    text.push_str(&format!("{comma}\n{indent}"));
                    write(element, depth + 1, text);
                    room = LINE_CHARACTERS.saturating_sub(width);
                }
            }
            text.push_str(&format!("\n{}]", "  ".repeat(depth)));
        }
        Value::Object(fields) if compact.len() > LINE_CHARACTERS || depth == 0 => {
            text.push('{');
            for (at, (name, field)) in fields.iter().enumerate() {
                text.push_str(&format!("{}\n{indent}\"{name}\": ", if at == 0 { "" } else { "," }));
                write(field, depth + 1, text);
            }
            text.push_str(&format!("\n{}}}", "  ".repeat(depth)));
        }
        _ => text.push_str(&compact),
    }
}
