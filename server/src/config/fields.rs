//! The table of settings: for each key its meaning, its default, and how a value is read into the configuration. The
//! commented file that `quorate config default` prints and the checks of `quorate config check` both come from it, so neither
//! can forget a key.

mod readers;

use std::{fmt::Write, net::SocketAddr};

use toml::Value;

use super::{Config, LogFormat, Secret};
pub(super) use readers::unknown;
use readers::{address, boolean, buckets, bytes, count, log_format, members, number, path, text, texts};

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
            "Clusters with fewer nodes than N work, with fewer copies. For the founding; `quorate ring stage` changes it later.",
        ]
    ),
    Field {
        key: "cluster.members",
        default: None,
        help: &[
            "The nodes that found the ring together, alike on all of them; without any, this node founds one alone. `zone` (a",
            "rack, a room) and `weight` (share of the data) may be left out. Once there is a data directory, the ring counts and",
            "not this list: who comes and goes is said with `serve --join` and `quorate ring`.",
            "#members = [",
            "#  { name = \"n1\", address = \"10.0.0.1:7601\", zone = \"a\", weight = 100 },",
            "#  { name = \"n2\", address = \"10.0.0.2:7601\", zone = \"b\", weight = 100 },",
            "#]",
        ],
        read: members,
    },
    Field {
        key: "join.through",
        default: None,
        help: &[
            "To enter a ring that others founded: addresses of nodes in it. The node stages itself, and `quorate ring plan` and",
            "`quorate ring commit` let it in. `cluster.members` is not looked at then. Once it is in, nothing here matters any more.",
            "#through = [\"10.0.0.1:7601\"]",
        ],
        read: |config, value| {
            config.join.through = texts(value).map_err(|error| vec![error])?;
            Ok(())
        },
    },
    field!(
        "join.replaces",
        join.replaces,
        text,
        ["The name of a node in the ring that does not come back, and whose place this one takes; empty: none."]
    ),
    field!(
        "join.zone",
        join.zone,
        text,
        ["The failure domain it stands in (a rack, a room); empty: that of the node it replaces, or \"default\"."]
    ),
    field!(
        "join.weight",
        join.weight,
        number,
        ["Its share of the data relative to the others; 0: that of the node it replaces, or 100."]
    ),
    field!(
        "join.address",
        join.address,
        text,
        ["Where the others and clients reach it, host:port; empty: `listen`, which then must not be 0.0.0.0 or [::]."]
    ),
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
