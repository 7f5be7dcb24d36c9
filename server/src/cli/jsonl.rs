//! Records as lines of JSON: what `kv load` and `kv verify` read and `kv dump` writes.
//!
//! One line is one key with everything that stands under it:
//! ```text
//! {"key":"ann","value":"text"}
//! {"bucket":"carts","key_base64":"AP8=","value_base64":"AAEC"}
//! {"key":"bob","values":["one","two"]}                       concurrent values; also "values_base64"
//! ```
//! Concurrent values share a line, not a line each: so a line can be retried and resumed as a whole, and the first value
//! replaces what a load that was cut off left behind before the others are put beside it.
//! Bytes that are not UTF-8 are written in base64; fields nobody knows are refused, since a misspelt one would lose data.

use std::{
    borrow::Cow,
    io::{self, BufRead, Write},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use dynamo::ident::{BUCKET_BYTES_MAX, KEY_BYTES_MAX, is_bucket_name};
use serde::{Deserialize, Serialize};

/// Longest line that is read: a key with the most live values an object may hold (4 MiB, or one value of 16 MiB) in
/// base64 or with every byte escaped. Longer lines are skipped, not held.
pub const LINE_BYTES_MAX: usize = 100 << 20;

/// One key with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The bucket, if the line names one.
    pub bucket: Option<String>,
    /// The key.
    pub key: Bytes,
    /// At least one value; several when they are concurrent.
    pub values: Vec<Bytes>,
}

/// A line's fields as they stand there.
#[derive(Deserialize, Serialize, Default)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    bucket: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<Vec<Cow<'a, str>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values_base64: Option<Vec<Cow<'a, str>>>,
}

impl Record {
    /// Reads a line without its end; the error says what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let fields: Fields<'_> = serde_json::from_slice(line).map_err(|error| format!("not a record: {error}"))?;
        let key = match (fields.key, fields.key_base64) {
            (Some(text), None) => text_bytes(text),
            (None, Some(encoded)) => decode("key_base64", &encoded)?,
            (None, None) => return Err("there is no key".into()),
            (Some(_), Some(_)) => return Err("there are two keys".into()),
        };
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(format!("the key has {} bytes, not 1 to {KEY_BYTES_MAX}", key.len()));
        }
        let bucket = fields.bucket.map(Cow::into_owned);
        if bucket.as_ref().is_some_and(|name| !is_bucket_name(name.as_bytes())) {
            return Err(format!("a bucket's name is 1 to {BUCKET_BYTES_MAX} bytes of [A-Za-z0-9._-]"));
        }
        let values = match (fields.value, fields.value_base64, fields.values, fields.values_base64) {
            (Some(text), None, None, None) => vec![text_bytes(text)],
            (None, Some(encoded), None, None) => vec![decode("value_base64", &encoded)?],
            (None, None, Some(texts), None) => texts.into_iter().map(text_bytes).collect(),
            (None, None, None, Some(list)) => {
                list.iter().map(|encoded| decode("values_base64", encoded)).collect::<Result<_, _>>()?
            }
            (None, None, None, None) => return Err("there is no value".into()),
            _ => return Err("there is more than one of value, value_base64, values, values_base64".into()),
        };
        if values.is_empty() {
            return Err("the list of values is empty".into());
        }
        Ok(Self { bucket, key, values })
    }

    /// Writes it as a line, end included.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut fields = Fields { bucket: self.bucket.as_deref().map(Cow::Borrowed), ..Fields::default() };
        match std::str::from_utf8(&self.key) {
            Ok(text) => fields.key = Some(text.into()),
            Err(_) => fields.key_base64 = Some(STANDARD.encode(&self.key).into()),
        }
        let texts: Result<Vec<&str>, _> = self.values.iter().map(|value| std::str::from_utf8(value)).collect();
        match (texts, self.values.as_slice()) {
            (Ok(texts), [_]) => fields.value = Some(texts[0].into()),
            (Ok(texts), _) => fields.values = Some(texts.into_iter().map(Cow::Borrowed).collect()),
            (Err(_), [value]) => fields.value_base64 = Some(STANDARD.encode(value).into()),
            (Err(_), values) => {
                fields.values_base64 = Some(values.iter().map(|value| STANDARD.encode(value).into()).collect());
            }
        }
        serde_json::to_writer(&mut *out, &fields)?;
        out.write_all(b"\n")
    }

    /// The length of its key and values together: what it weighs in flight.
    pub fn weight_bytes(&self) -> usize {
        self.key.len() + self.values.iter().map(Bytes::len).sum::<usize>()
    }
}

fn text_bytes(text: Cow<'_, str>) -> Bytes {
    Bytes::from(text.into_owned().into_bytes())
}

fn decode(field: &str, encoded: &str) -> Result<Bytes, String> {
    STANDARD.decode(encoded).map(Bytes::from).map_err(|error| format!("{field} is not base64: {error}"))
}

/// What stands on one line of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A record.
    Record(Record),
    /// Only white space.
    Blank,
    /// Something that can't be loaded, with the reason.
    Bad(String),
}

/// Where a line stands in its input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1.
    pub line: u64,
    /// The offset of the byte after it: where reading goes on once it is done.
    pub end_offset: u64,
}

/// Reads records line by line, knowing where each ends.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    place: Place,
    buffer: Vec<u8>,
    line_bytes_max: usize,
}

impl<R: BufRead> Lines<R> {
    /// Reads from `input`, whose next byte is the one after `place`.
    pub fn new(input: R, place: Place) -> Self {
        Self { input, place, buffer: Vec::new(), line_bytes_max: LINE_BYTES_MAX }
    }

    /// The next line, or `None` at the end of the input.
    pub fn advance(&mut self) -> io::Result<Option<(Place, Line)>> {
        self.buffer.clear();
        let mut length = 0u64;
        let mut ended = false;
        while !ended {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                break;
            }
            let newline = chunk.iter().position(|byte| *byte == b'\n');
            ended = newline.is_some();
            let used = newline.map_or(chunk.len(), |at| at + 1);
            // Beyond the limit only the length is counted: the line is going to be refused.
            if self.buffer.len() <= self.line_bytes_max {
                self.buffer.extend_from_slice(&chunk[..used]);
            }
            length += used as u64;
            self.input.consume(used);
        }
        if length == 0 {
            return Ok(None);
        }
        self.place.line += 1;
        self.place.end_offset += length;
        let text = self.buffer.trim_ascii();
        let line = if self.buffer.len() > self.line_bytes_max {
            self.buffer.shrink_to(self.line_bytes_max.min(1 << 20));
            Line::Bad(format!("the line has {length} bytes; the most is {}", self.line_bytes_max))
        } else if text.is_empty() {
            Line::Blank
        } else {
            Record::parse(text).map_or_else(Line::Bad, Line::Record)
        };
        Ok(Some((self.place, line)))
    }
}

#[cfg(test)]
mod tests;
