//! Keys and values between the shell and the cluster: they are bytes, people type and read text.
//!
//! A key or value on the command line is taken as its UTF-8 bytes unless an option says that it is written in hexadecimal
//! digits or base64, or stands in a file. Printing goes the other way and never loses a byte: what is not printable text is
//! shown escaped to people and as base64 to programs.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value};

use super::exit::{CommandError, Exit};

/// Most bytes read for a value from a file or standard input: far above what any node accepts, and a bound on memory when
/// someone names an endless device.
const VALUE_FILE_BYTES_MAX: u64 = 64 << 20;

/// Most characters of a key or value in a table cell; the rest is cut, since a table is for looking.
const CELL_CHARACTERS_MAX: usize = 60;

/// How an argument is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notation {
    /// As text.
    #[default]
    Text,
    /// In pairs of hexadecimal digits.
    Hex,
    /// In standard base64.
    Base64,
}

/// The bytes that `text` stands for; `what` names it in the error.
pub fn parse(what: &str, text: &str, notation: Notation) -> Result<Bytes, CommandError> {
    match notation {
        Notation::Text => Ok(Bytes::copy_from_slice(text.as_bytes())),
        Notation::Hex => parse_hex(text).ok_or_else(|| {
            CommandError::usage(format!("the {what} is not made of pairs of hexadecimal digits: {text}"))
        }),
        Notation::Base64 => STANDARD
            .decode(text)
            .map(Bytes::from)
            .map_err(|error| CommandError::usage(format!("the {what} is not base64: {error}"))),
    }
}

fn parse_hex(text: &str) -> Option<Bytes> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
    let digits = digits?;
    digits.len().is_multiple_of(2).then(|| digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The bytes of a file, or of standard input for `-`.
pub fn read_value(path: &Path) -> Result<Bytes, CommandError> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(VALUE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|file| file.take(VALUE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| CommandError::file("read the value from", path, &error))?;
    if bytes.len() as u64 > VALUE_FILE_BYTES_MAX {
        return Err(CommandError::new(
            Exit::Refused,
            format!("{} is larger than {} MiB", path.display(), VALUE_FILE_BYTES_MAX >> 20),
        )
        .next("keep large data in a blob store and put a link to it here"));
    }
    Ok(bytes.into())
}

/// How bytes look in a table: text with unprintable parts escaped, cut to a cell's length.
pub fn cell(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (length, character) in bytes.utf8_chunks().flat_map(escape_chunk).enumerate() {
        if length == CELL_CHARACTERS_MAX {
            text.push('…');
            break;
        }
        text.push(character);
    }
    text
}

fn escape_chunk(chunk: std::str::Utf8Chunk<'_>) -> impl Iterator<Item = char> {
    let valid = chunk.valid().chars().flat_map(|character| {
        let plain = !character.is_control() && character != '\\';
        plain.then_some(character).into_iter().chain((!plain).then(|| character.escape_default()).into_iter().flatten())
    });
    let invalid = chunk.invalid().iter().flat_map(|byte| byte.escape_ascii()).map(char::from);
    valid.chain(invalid)
}

/// Adds bytes to a JSON object: under `name` when they are UTF-8 text, under `name_base64` when they are not.
pub fn insert_json(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::{Notation, cell, insert_json, parse};

    #[test]
    fn arguments_are_text_hex_or_base64() {
        assert_eq!(parse("key", "grüß", Notation::Text).unwrap(), "grüß".as_bytes());
        assert_eq!(parse("key", "00fFa1", Notation::Hex).unwrap(), [0u8, 255, 161].as_slice());
        assert_eq!(parse("key", "AP+h", Notation::Base64).unwrap(), [0u8, 255, 161].as_slice());
    }

    #[test]
    fn wrong_notation_is_a_usage_error() {
        assert!(parse("key", "abc", Notation::Hex).is_err());
        assert!(parse("key", "0g", Notation::Hex).is_err());
        assert!(parse("key", "é0", Notation::Hex).is_err());
        assert!(parse("key", "A", Notation::Base64).is_err());
    }

    #[test]
    fn cells_show_every_byte_and_end_somewhere() {
        assert_eq!(cell(b"plain"), "plain");
        assert_eq!(cell("ü".as_bytes()), "ü");
        assert_eq!(cell(b"a\n\\\xff\x00"), "a\\n\\\\\\xff\\u{0}");
        assert_eq!(cell(&[b'a'; 100]).chars().count(), 61);
    }

    #[test]
    fn json_names_the_notation() {
        let mut object = Map::new();
        insert_json(&mut object, "key", b"text");
        insert_json(&mut object, "value", b"\xff");
        assert_eq!(Value::Object(object).to_string(), r#"{"key":"text","value_base64":"/w=="}"#);
    }
}
