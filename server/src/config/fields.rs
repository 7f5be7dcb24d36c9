//! The table of settings: for each key its meaning, its default, and how a value is read into the configuration. The
//! commented file that `quorate config default` prints and the checks of `quorate config check` both come from it, so neither
//! can forget a key.

use std::{collections::BTreeMap, fmt::Write, net::SocketAddr};

use dynamo::layout::{BucketProperties, ConflictRule, Level};
use toml::{Table, Value};

use super::{ClusterMember, Config, LogFormat, Secret, WEIGHT_DEFAULT, ZONE_DEFAULT, nearest::nearest};

/// One setting.
pub(super) struct Field {
    /// Its full name, sections separated by dots.
    pub(super) key: &'static str,
    /// The default as TOML; `None` prints the example lines of the help instead.
    default: Option<fn(&Config) -> String>,
    /// What it means, its unit, how to choose it; one line of the file each.
    help: &'static [&'static str],
    /// Reads a value; the error says what is expected instead.
    pub(super) read: fn(&mut Config, &Value) -> Result<(), Vec<String>>,
}

/// Where the secret's file name stands: read by the source, because it touches the disk.
pub(super) const SECRET_FILE: &str = "cluster.secret_file";

macro_rules! field {
    ($key:literal, $place:ident $(. $rest:ident)*, $reader:path, [$($help:literal),+ $(,)?]) => {
        Field {
            key: $key,
            default: Some(|config| Print::print(&config.$place $(. $rest)*)),
            help: &[$($help),+],
            read: |config, value| { config.$place $(. $rest)* = $reader(value).map_err(|error| vec![error])?; Ok(()) },
        }
    };
}

/// Every setting, in the order of the file.
pub(super) static FIELDS: &[Field] = &[
    field!("name", name, text, ["Who this node is among [[cluster.members]]."]),
    field!(
        "listen",
        listen,
        address,
        [
            "Address and port to listen on. Other hosts reach only a non-loopback address, and that needs `insecure = true`",
            "for now: TLS comes with a later version.",
        ]
    ),
    field!(
        "data",
        data,
        path,
        ["The data directory, on a local disk; relative to where the node is started. One process uses it at a time.",]
    ),
    field!("workers", workers, count, ["Threads that serve connections; 0: one per core."]),
    field!(
        "shards",
        shards,
        number,
        [
            "Store shards, a power of two up to 16, fixed when the data directory is made; 0: chosen by the number of cores.",
            "More shards write in parallel, but fewer writes share a disk flush.",
        ]
    ),
    field!(
        "max_bytes",
        max_bytes,
        bytes,
        [
            "Most bytes of disk the store may take; 0: only the disk limits it. Reads and deletes go on when it is reached.",
            "Hints, which are kept for nodes that are away, may take a tenth of it besides (of the whole disk if it is 0).",
        ]
    ),
    field!(
        "value_bytes_max",
        value_bytes_max,
        number,
        [
            "Longest value in bytes, up to 16777216 (16 MiB). Keep it alike on all nodes. Larger data belongs in a blob store.",
        ]
    ),
    field!(
        "insecure",
        insecure,
        boolean,
        ["Consent to plain TCP without authentication of clients on an address that other hosts reach.",]
    ),
    field!(
        "cluster.name",
        cluster.name,
        text,
        ["The cluster's name, alike on all nodes. Nodes of differently named clusters never talk.",]
    ),
    Field {
        key: "cluster.secret",
        default: None,
        help: &[
            "What proves membership between nodes and seals context tokens, alike on all nodes: 16 characters or more, e.g.",
            "from `openssl rand -hex 32`. Without one, a well-known secret is used and `quorate status` warns.",
            "#secret = \"...\"",
        ],
        read: |config, value| {
            config.cluster.secret = Secret::new(text(value).map_err(|error| vec![error])?);
            Ok(())
        },
    },
    Field {
        key: SECRET_FILE,
        default: None,
        help: &[
            "Or a file that holds it (white space around it is ignored).",
            "#secret_file = \"/etc/quorate/secret\"",
        ],
        read: |_, value| text(value).map(|_| ()).map_err(|error| vec![error]),
    },
    field!(
        "cluster.replicas",
        cluster.replicas,
        number,
        [
            "N, 1 to 7: how many nodes hold each key. 3 survives the loss of one node at level quorum, 5 of two.",
            "Clusters with fewer nodes than N work, with fewer copies.",
        ]
    ),
    Field {
        key: "cluster.members",
        default: None,
        help: &[
            "The nodes of the cluster, alike on all nodes; without any, this node is alone. `zone` (a rack, a room) and",
            "`weight` (share of the data) may be left out.",
            "#members = [",
            "#  { name = \"n1\", address = \"10.0.0.1:7601\", zone = \"a\", weight = 100 },",
            "#  { name = \"n2\", address = \"10.0.0.2:7601\", zone = \"b\", weight = 100 },",
            "#]",
        ],
        read: members,
    },
    field!(
        "deadlines.default_ms",
        deadlines.default_ms,
        number,
        ["Milliseconds a request has when it names no budget."]
    ),
    field!(
        "deadlines.maximum_ms",
        deadlines.maximum_ms,
        number,
        ["Most milliseconds a request may ask for; longer budgets are shortened to it. At least deadlines.default_ms.",]
    ),
    field!(
        "deadlines.drain_ms",
        deadlines.drain_ms,
        number,
        [
            "Milliseconds a node that was told to stop waits for what is in flight. Give a supervisor's kill more than that.",
        ]
    ),
    field!(
        "admission.connections_max",
        admission.connections_max,
        count,
        ["Most open connections of clients and peers together; each takes a file descriptor.",]
    ),
    field!(
        "admission.operations_max",
        admission.operations_max,
        count,
        ["Most operations in flight on the node: operations per second times the slowest acceptable seconds.",]
    ),
    field!(
        "admission.operations_per_connection_max",
        admission.operations_per_connection_max,
        count,
        ["Most operations in flight of one connection; at least 1024 (one batch), at most admission.operations_max.",]
    ),
    field!("admission.bytes_max", admission.bytes_max, count, ["Most bytes of requests in flight on the node."]),
    field!(
        "admission.bytes_per_connection_max",
        admission.bytes_per_connection_max,
        count,
        [
            "Most bytes of requests in flight of one connection; at least one largest batch, at most admission.bytes_max.",
        ]
    ),
    field!(
        "gossip.enabled",
        gossip.enabled,
        boolean,
        [
            "Whether this node tells the others that it is alive and hears who is, over UDP on the port number of `listen`.",
            "Without it, deaths and returns are noticed only by the node's own calls.",
        ]
    ),
    field!(
        "gossip.probe_every_ms",
        gossip.probe_every_ms,
        number,
        [
            "Milliseconds between probes of other nodes, alike on all nodes: the unit of everything here. Half of it notices",
            "faster and costs twice as much.",
        ]
    ),
    field!(
        "gossip.probe_timeout_ms",
        gossip.probe_timeout_ms,
        number,
        [
            "Milliseconds an answer may take before others are asked to probe too: above the usual worst round trip, at most",
            "half of gossip.probe_every_ms.",
        ]
    ),
    field!(
        "gossip.suspicion_ms",
        gossip.suspicion_ms,
        number,
        [
            "Milliseconds a node that did not answer may defend itself before it counts as down; 0: four probes, more in",
            "clusters of more than ten nodes. At least gossip.probe_every_ms.",
        ]
    ),
    field!(
        "background.target_ms",
        background.target_ms,
        number,
        [
            "Milliseconds that 99 of 100 calls of clients should take at most. While they take longer, background repair slows",
            "down, to a fiftieth of its speed at the least. About ten times what they take on an idle node.",
        ]
    ),
    field!(
        "background.exchange_every_ms",
        background.exchange_every_ms,
        number,
        [
            "Every partition is compared with one other owner so often. Costs next to nothing where nothing differs; 0: only",
            "when a node comes back or an operator asks.",
        ]
    ),
    field!(
        "background.scrub_every_hours",
        background.scrub_every_hours,
        number,
        ["Every record is verified within about so many hours; 0: only when an operator asks. The default is a week."]
    ),
    field!(
        "log.format",
        log.format,
        log_format,
        ["\"text\" for people or \"json\" for programs; always to standard error."]
    ),
    field!(
        "log.level",
        log.level,
        text,
        ["\"error\", \"warn\", \"info\", \"debug\" or \"trace\", or a filter such as \"info,server::peers=debug\".",]
    ),
    Field {
        key: "buckets",
        default: None,
        help: &[
            "What operations on a bucket do when a request does not say otherwise, alike on all nodes. level: one, available",
            "(unless set: takes writes while any majority can be reached), quorum (a read sees every write completed before) or",
            "all; r, w: replicas a read and a write wait for, 0 for what the level says; conflict_rule: siblings (a read shows",
            "all concurrent values) or lww (it shows the one with the highest clock).",
            "#carts = { level = \"quorum\", r = 0, w = 0, conflict_rule = \"siblings\" }",
        ],
        read: buckets,
    },
];

/// A configuration file with every key, its default and its meaning.
pub fn default_file() -> String {
    let config = Config::default();
    let mut file = String::from(
        "# Configuration of a Quorate node. Every key stands here with its default.\n\
         # Later wins: this file, QUORATE_* variables (deadlines.default_ms is QUORATE_DEADLINES_DEFAULT_MS), flags.\n",
    );
    let mut section = "";
    for field in FIELDS {
        let (of, name) = match field.key.rsplit_once('.') {
            Some(split) => split,
            None if field.key == "buckets" => ("buckets", ""),
            None => ("", field.key),
        };
        if of != section {
            section = of;
            let _ = write!(file, "\n[{section}]\n");
        }
        file.push('\n');
        for line in field.help {
            let _ = if let Some(example) = line.strip_prefix('#') {
                writeln!(file, "#{example}")
            } else {
                writeln!(file, "# {line}")
            };
        }
        if let Some(default) = field.default {
            let _ = writeln!(file, "{name} = {}", default(&config));
        }
    }
    file
}

fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "write a text in quotes".into())
}

fn path(value: &Value) -> Result<std::path::PathBuf, String> {
    text(value).map(Into::into)
}

fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "write true or false".into())
}

fn number<T: TryFrom<i64>>(value: &Value) -> Result<T, String> {
    let number = value.as_integer().ok_or("write a whole number without quotes")?;
    T::try_from(number).map_err(|_| format!("{number} is out of range"))
}

fn count(value: &Value) -> Result<usize, String> {
    number(value)
}

fn bytes(value: &Value) -> Result<u64, String> {
    number(value)
}

fn address(value: &Value) -> Result<SocketAddr, String> {
    text(value)?
        .parse()
        .map_err(|_| "write an IP address and a port, such as \"127.0.0.1:7601\" or \"[::1]:7601\"".into())
}

fn log_format(value: &Value) -> Result<LogFormat, String> {
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
pub(super) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("{name}: no such key; did you mean {near}?"),
        None => format!("{name}: no such key; `quorate config default` prints all of them"),
    }
}

fn members(config: &mut Config, value: &Value) -> Result<(), Vec<String>> {
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

fn buckets(config: &mut Config, value: &Value) -> Result<(), Vec<String>> {
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

/// How a default is written in the file.
trait Print {
    fn print(&self) -> String;
}

macro_rules! print_as_is {
    ($($type:ty),+) => { $(impl Print for $type { fn print(&self) -> String { self.to_string() } })+ };
}
print_as_is!(bool, u8, u32, u64, usize);

impl Print for String {
    fn print(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Print for SocketAddr {
    fn print(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Print for std::path::PathBuf {
    fn print(&self) -> String {
        format!("\"{}\"", self.display())
    }
}

impl Print for LogFormat {
    fn print(&self) -> String {
        match self {
            Self::Text => "\"text\"".into(),
            Self::Json => "\"json\"".into(),
        }
    }
}
