//! How one node is configured: what each setting means, its unit, how to choose it and what it depends on. A [`Config`] that
//! exists has been checked; `config/source.rs` is the only way to make one from files, environment and flags.
//!
//! Precedence, weakest first: built-in defaults, the file, `QUORATE_*` variables, flags. The variable of a key is its name in
//! capitals with `_` for `.`: `deadlines.default_ms` is `QUORATE_DEADLINES_DEFAULT_MS`.

mod check;
mod fields;
mod nearest;
mod source;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf};

use dynamo::layout::BucketProperties;

pub use self::{
    fields::default_file,
    source::{ConfigError, Source},
};

/// The secret of a cluster that configures none: anyone can know it, so `status` warns about it.
pub const SECRET_DEFAULT: &str = "quorate-development-secret";

/// One node's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who this node is among `cluster.members`.
    pub name: String,
    /// Address and port to listen on. Port 0 lets the system choose, which only a test wants.
    pub listen: SocketAddr,
    /// The data directory. On a local disk; LMDB corrupts on network file systems.
    pub data: PathBuf,
    /// Threads that serve connections; 0 means one per core. More than cores gains nothing: a worker never blocks for long.
    pub workers: usize,
    /// Store shards, a power of two up to 16, fixed when the data directory is made; 0 lets the store choose by the number of
    /// cores. Each has one writer thread: more shards write in parallel but make smaller groups per disk flush.
    pub shards: u8,
    /// Most bytes of disk the store may take; 0 means that only the disk limits it. Writes are refused before it is reached.
    pub max_bytes: u64,
    /// Longest value in bytes, up to 16 MiB. Larger data belongs in a blob store with a link here. Alike on all nodes.
    pub value_bytes_max: u32,
    /// Consent to plain, unauthenticated TCP on an address other hosts can reach.
    pub insecure: bool,
    /// Which cluster, and who is in it.
    pub cluster: Cluster,
    /// How this node gets into a ring that others founded.
    pub join: Join,
    /// Properties of buckets by name. Alike on all nodes.
    pub buckets: BTreeMap<String, BucketProperties>,
    /// How long things may take.
    pub deadlines: Deadlines,
    /// How much may be in flight.
    pub admission: Admission,
    /// How the nodes tell each other who is alive.
    pub gossip: Gossip,
    /// What is done for the replicas while nobody asks.
    pub background: Background,
    /// What is logged, and how.
    pub log: Log,
}

/// Which cluster a node belongs to. Name and secret are alike on all nodes, always. The rest is for the founding: nodes that found a ring
/// together each plan its first layout from it alone. Whatever changes later is in the ring, and the ring counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's name; nodes of differently named clusters never talk.
    pub name: String,
    /// Proves membership between nodes and seals context tokens.
    pub secret: Secret,
    /// N: how many nodes hold each key. 3 survives the loss of one node at level `quorum`, 5 of two.
    pub replicas: u8,
    /// The nodes that found the ring together, sorted by name. Without any, this node founds one alone.
    pub members: Vec<ClusterMember>,
}

/// A node as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterMember {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Where the others and clients reach it, `host:port`.
    pub address: String,
    /// The failure domain it stands in. Copies of a key are spread over zones first.
    pub zone: String,
    /// Its share of the data relative to the others.
    pub weight: u32,
}

/// How a node gets into a ring that others founded, and what it brings. A node that has its place there already looks at none of
/// this: the ring knows its zone and weight, and `quorate ring stage` changes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Join {
    /// Addresses of nodes that are in the ring; one that answers is enough. Empty for a node that founds one.
    pub through: Vec<String>,
    /// The name of the node whose place it takes because that one does not come back; empty for none.
    pub replaces: String,
    /// The failure domain it stands in; empty for the one of the node it replaces, or the usual one.
    pub zone: String,
    /// Its share of the data relative to the others; 0 for that of the node it replaces, or the usual one.
    pub weight: u32,
    /// Where the others and clients reach it, `host:port`; empty for `listen`.
    pub address: String,
}

/// How long things may take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// The budget of a request that names none. Long enough for a disk flush under load, short enough for a person.
    pub default_ms: u32,
    /// The longest budget a request may ask for; it bounds how long anything stays in memory. At least `default_ms`.
    pub maximum_ms: u32,
    /// How long a node that was told to stop waits for what is in flight. A supervisor's kill timeout should be longer.
    pub drain_ms: u32,
}

/// How much may be in flight on this node at once. What goes beyond is refused with `overloaded` before it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Open connections, of clients and peers together. Each idle one costs up to 32 KiB; file descriptors must suffice.
    pub connections_max: usize,
    /// Operations in flight on the node. By Little's law: operations per second × the slowest acceptable seconds.
    pub operations_max: usize,
    /// Operations in flight of one connection, so that one client can't take everything. At most `operations_max`.
    pub operations_per_connection_max: usize,
    /// Bytes of requests in flight on the node. The memory they take is about twice that.
    pub bytes_max: usize,
    /// Bytes of requests in flight of one connection. At most `bytes_max`, at least one largest batch (4 MiB or a value).
    pub bytes_per_connection_max: usize,
}

/// How the nodes tell each other who is alive, over UDP on the port number of `listen`. Times in milliseconds; the defaults
/// suit a local network. Alike on all nodes, or some accuse faster than others can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gossip {
    /// Whether this node takes part. Without it, it notices deaths and returns only by its own calls.
    pub enabled: bool,
    /// How often one other node is probed: the unit of everything here. Half of it notices faster and costs twice as much.
    pub probe_every_ms: u32,
    /// How long an answer may take before others are asked to probe too: above the usual worst round trip, at most half of
    /// `probe_every_ms`.
    pub probe_timeout_ms: u32,
    /// How long a node that did not answer may defend itself before it counts as down; 0 for four times `probe_every_ms`, more
    /// in clusters of more than ten nodes. At least `probe_every_ms`.
    pub suspicion_ms: u32,
}

/// Background repair: comparing partitions with their other owners, delivering hints, verifying records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Background {
    /// How long 99 of 100 calls of clients should take at most, in milliseconds. While they take longer, background work slows
    /// down, to a fiftieth of its speed at the least. About ten times what they take on an idle node.
    pub target_ms: u32,
    /// Every partition is compared with one other owner so often, in milliseconds. It costs next to nothing where nothing
    /// differs; 0 leaves it to nodes that come back and to operators.
    pub exchange_every_ms: u32,
    /// Every record is verified within about so many hours; 0 leaves it to operators.
    pub scrub_every_hours: u32,
}

/// What is logged to standard error, and how. Keys are logged only as hashes, values and secrets never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// For people or for programs.
    pub format: LogFormat,
    /// The least severe level that is logged, or a filter such as `info,server::peers=debug`.
    pub level: String,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object for programs.
    Json,
}

/// A string that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `secret`.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The bytes, for deriving keys and nothing else.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether it is the one everybody knows.
    pub fn is_default(&self) -> bool {
        self.0 == SECRET_DEFAULT
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(hidden)")
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "n1".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7601)),
            data: "quorate-data".into(),
            workers: 0,
            shards: 0,
            max_bytes: 0,
            value_bytes_max: 1 << 20,
            insecure: false,
            cluster: Cluster {
                name: "quorate".into(),
                secret: Secret::new(SECRET_DEFAULT),
                replicas: 3,
                members: Vec::new(),
            },
            join: Join::default(),
            buckets: BTreeMap::new(),
            deadlines: Deadlines { default_ms: 2_000, maximum_ms: 30_000, drain_ms: 10_000 },
            admission: Admission {
                connections_max: 4_096,
                operations_max: 65_536,
                operations_per_connection_max: 32_768,
                bytes_max: 64 << 20,
                bytes_per_connection_max: 32 << 20,
            },
            gossip: Gossip { enabled: true, probe_every_ms: 1_000, probe_timeout_ms: 400, suspicion_ms: 0 },
            background: Background { target_ms: 50, exchange_every_ms: 600_000, scrub_every_hours: 168 },
            log: Log { format: LogFormat::Text, level: "info".into() },
        }
    }
}

impl Config {
    /// How many worker threads to start.
    pub fn worker_count(&self) -> usize {
        if self.workers > 0 { self.workers } else { cores() }
    }

    /// The members of the cluster that this node founds; a node that names none is alone.
    pub fn members(&self) -> Vec<ClusterMember> {
        if !self.cluster.members.is_empty() {
            return self.cluster.members.clone();
        }
        vec![self.newcomer()]
    }

    /// Where others shall reach this node.
    pub fn own_address(&self) -> String {
        let listed = self.members().into_iter().find(|member| member.name == self.name);
        listed.map_or_else(|| self.newcomer().address, |member| member.address)
    }

    /// This node as it enters a ring. Of one that replaces another and names no zone or weight they are empty and 0: they are the
    /// other's.
    pub fn newcomer(&self) -> ClusterMember {
        let Join { replaces, zone, weight, address, .. } = &self.join;
        let is_replacement = !replaces.is_empty();
        ClusterMember {
            name: self.name.clone(),
            address: if address.is_empty() { self.listen.to_string() } else { address.clone() },
            zone: if zone.is_empty() && !is_replacement { ZONE_DEFAULT.into() } else { zone.clone() },
            weight: if *weight == 0 && !is_replacement { WEIGHT_DEFAULT } else { *weight },
        }
    }
}

/// The zone of members that name none.
const ZONE_DEFAULT: &str = "default";

/// The weight of members that name none: room to express smaller nodes in whole numbers.
const WEIGHT_DEFAULT: u32 = 100;

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
