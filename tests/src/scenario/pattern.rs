//! What a scenario expects, and how bytes stand in it. The whole of a scenario's language about results; the clients in Python and
//! Node have the same in their tests.
//!
//! Bytes are `"text"`, `{"hex": "00ff"}` or `{"bytes": 16385}`: so many of a pattern that is the same everywhere.

use serde_json::{Value, json};

/// Longer bytes than this are shown as their number, if they are of the pattern.
const SHOWN_BYTES_MAX: usize = 64;

/// The pattern: `length` bytes that show where they were cut or shifted.
pub fn fill(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 31 + length) % 251) as u8).collect()
}

/// The bytes that a scenario means.
pub fn bytes(spec: &Value) -> Result<Vec<u8>, String> {
    if let Some(text) = spec.as_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let slip = || format!("{spec} are no bytes");
    if let Some(length) = spec["bytes"].as_u64() {
        return Ok(fill(length as usize));
    }
    let digits = spec["hex"].as_str().filter(|digits| digits.len() % 2 == 0).ok_or_else(slip)?;
    let pair = |at| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(slip);
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// Bytes as a scenario writes them.
pub fn show(bytes: &[u8]) -> Value {
    if bytes.len() > SHOWN_BYTES_MAX && bytes == fill(bytes.len()) {
        return json!({ "bytes": bytes.len() });
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

/// Whether `actual` is as `expected` says: an object has at least the fields that are named, a list has as many elements, and
/// `$words` say less than equality. The error names the place and both sides.
pub fn matches(expected: &Value, actual: &Value, place: &str) -> Result<(), String> {
    let unlike = || Err(format!("{place}: expected {expected}, was {actual}"));
    match (expected, actual) {
        (Value::Object(fields), _) if fields.keys().any(|name| name.starts_with('$')) => {
            fields.iter().try_for_each(|(word, argument)| matches_word(word, argument, actual, place))
        }
        (Value::Object(fields), Value::Object(_)) => {
            fields.iter().try_for_each(|(name, expected)| matches(expected, &actual[name], &format!("{place}.{name}")))
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => (0..)
            .zip(expected.iter().zip(actual))
            .try_for_each(|(at, (expected, actual))| matches(expected, actual, &format!("{place}[{at}]"))),
        _ if expected == actual => Ok(()),
        _ => unlike(),
    }
}

fn matches_word(word: &str, argument: &Value, actual: &Value, place: &str) -> Result<(), String> {
    let fits = |expected: &Value, actual: &Value| matches(expected, actual, place).is_ok();
    let elements = actual.as_array().map(Vec::as_slice).unwrap_or_default();
    let number = actual.as_f64();
    let holds = match word {
        "$at_least" => number >= argument.as_f64() && number.is_some(),
        "$at_most" => number <= argument.as_f64() && number.is_some(),
        "$one_of" => argument.as_array().is_some_and(|several| several.iter().any(|one| fits(one, actual))),
        "$not" => !fits(argument, actual),
        "$some" => elements.iter().any(|element| fits(argument, element)),
        "$every" => actual.is_array() && elements.iter().all(|element| fits(argument, element)),
        "$count" => actual.is_array() && fits(argument, &json!(elements.len())),
        unknown => return Err(format!("{place}: no word is called {unknown}")),
    };
    if holds { Ok(()) } else { Err(format!("{place}: expected {word} {argument}, was {actual}")) }
}
