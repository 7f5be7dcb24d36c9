//! How values of settings are read from TOML: each reader says in its error what is expected instead.

use std::{collections::BTreeMap, net::SocketAddr};

use dynamo::layout::{BucketProperties, ConflictRule, Level};
use toml::{Table, Value};

use crate::config::{ClusterMember, Config, LogFormat, WEIGHT_DEFAULT, ZONE_DEFAULT, nearest::nearest};

pub(super) fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "write a text in quotes".into())
}

/// A list of texts, or one alone, with commas between several.
pub(super) fn texts(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Array(list) => list.iter().map(text).collect(),
        Value::String(list) => {
            Ok(list.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect())
        }
        _ => Err("write a list of texts in quotes".into()),
    }
}

pub(super) fn path(value: &Value) -> Result<std::path::PathBuf, String> {
    text(value).map(Into::into)
}

pub(super) fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "write true or false".into())
}

pub(super) fn number<T: TryFrom<i64>>(value: &Value) -> Result<T, String> {
    let number = value.as_integer().ok_or("write a whole number without quotes")?;
    T::try_from(number).map_err(|_| format!("{number} is out of range"))
}

pub(super) fn count(value: &Value) -> Result<usize, String> {
    number(value)
}

pub(super) fn bytes(value: &Value) -> Result<u64, String> {
    number(value)
}

pub(super) fn address(value: &Value) -> Result<SocketAddr, String> {
    text(value)?
        .parse()
        .map_err(|_| "write an IP address and a port, such as \"127.0.0.1:7601\" or \"[::1]:7601\"".into())
}

pub(super) fn log_format(value: &Value) -> Result<LogFormat, String> {
    match value.as_str() {
        Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(_) | None => Err("write \"text\" or \"json\"".into()),
    }
}

fn level(value: &Value) -> Result<Level, String> {
    match value.as_str() {
        Some("one") => Ok(Level::One),
        Some("available") => Ok(Level::Available),
        Some("quorum") => Ok(Level::Quorum),
        Some("all") => Ok(Level::All),
        Some(_) | None => Err("write \"one\", \"available\", \"quorum\" or \"all\"".into()),
    }
}

fn conflict_rule(value: &Value) -> Result<ConflictRule, String> {
    match value.as_str() {
        Some("siblings") => Ok(ConflictRule::Siblings),
        Some("lww") => Ok(ConflictRule::LastWriterWins),
        Some(_) | None => Err("write \"siblings\" or \"lww\"".into()),
    }
}

/// Reads the entries of a small table one by one and collects what is wrong with each.
fn entries(
    table: &Table,
    known: &[&'static str],
    mut read: impl FnMut(&str, &Value) -> Result<(), String>,
) -> Vec<String> {
    let mut errors = Vec::new();
    for (name, value) in table {
        if known.contains(&name.as_str()) {
            errors.extend(read(name, value).err().map(|error| format!("{name}: {error}")));
        } else {
            errors.push(unknown(name, known.iter().copied()));
        }
    }
    errors
}

/// Says that nobody knows `name`, and which name is nearest.
pub(in crate::config) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("{name}: no such key; did you mean {near}?"),
        None => format!("{name}: no such key; `quorate config default` prints all of them"),
    }
}

pub(super) fn members(config: &mut Config, value: &Value) -> Result<(), Vec<String>> {
    let list = value.as_array().ok_or_else(|| vec!["write a list of tables with name and address".to_owned()])?;
    let mut errors = Vec::new();
    config.cluster.members.clear();
    for (at, entry) in list.iter().enumerate() {
        let mut member = ClusterMember {
            name: String::new(),
            address: String::new(),
            zone: ZONE_DEFAULT.into(),
            weight: WEIGHT_DEFAULT,
        };
        let Some(table) = entry.as_table() else {
            errors
                .push(format!("entry {}: write a table such as {{ name = \"n1\", address = \"host:7601\" }}", at + 1));
            continue;
        };
        let found = entries(table, &["name", "address", "zone", "weight"], |name, value| {
            match name {
                "name" => member.name = text(value)?,
                "address" => member.address = text(value)?,
                "zone" => member.zone = text(value)?,
                _ => member.weight = number(value)?,
            }
            Ok(())
        });
        errors.extend(found.into_iter().map(|error| format!("entry {}: {error}", at + 1)));
        config.cluster.members.push(member);
    }
    // Every node plans the same layout from its own file, so the order in the file must not matter.
    config.cluster.members.sort_by(|left, right| left.name.cmp(&right.name));
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

pub(super) fn buckets(config: &mut Config, value: &Value) -> Result<(), Vec<String>> {
    let table = value.as_table().ok_or_else(|| vec!["write a table of buckets by name".to_owned()])?;
    let mut errors = Vec::new();
    let mut read = BTreeMap::new();
    for (bucket, entry) in table {
        let mut properties = BucketProperties::default();
        let Some(fields) = entry.as_table() else {
            errors.push(format!("{bucket}: write a table such as {{ level = \"quorum\" }}"));
            continue;
        };
        let found = entries(fields, &["level", "r", "w", "conflict_rule"], |name, value| {
            match name {
                "level" => properties.level = level(value)?,
                "r" => properties.r = number(value)?,
                "w" => properties.w = number(value)?,
                _ => properties.conflict_rule = conflict_rule(value)?,
            }
            Ok(())
        });
        errors.extend(found.into_iter().map(|error| format!("{bucket}: {error}")));
        read.insert(bucket.clone(), properties);
    }
    config.buckets = read;
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}
