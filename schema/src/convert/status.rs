//! Scans of one partition and the status of a node: questions for people, monitors and bulk work.

use bytes::Bytes;
use dynamo::{
    ident::{KEY_BYTES_MAX, is_bucket_name},
    layout::NodeIndex,
    operation::Failure,
};

use super::{
    ReplyHeader, bounded_data, decode_optional_failure, encode_failure, invalid, lenient_text, list_length, malformed,
    strict_text, too_large,
};
use crate::kv_capnp as wire;

/// Most keys of one page of a scan: at the longest keys that is 1 MiB.
pub const SCAN_LIMIT_MAX: u32 = 1000;

/// Longest cursor: a store key and a version, with room to grow.
const CURSOR_BYTES_MAX: usize = 256;

/// Most entries that are read of a status' lists.
const STATUS_ENTRIES_MAX: usize = 65_536;

/// A question for the keys that one node holds in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Only this bucket; `None` for all.
    pub bucket: Option<String>,
    /// Which partition.
    pub partition: u32,
    /// Empty to begin, then what the last page returned.
    pub cursor: Bytes,
    /// At most so many keys, 1 to [`SCAN_LIMIT_MAX`].
    pub limit: u32,
    /// Also keys that have only tombstones.
    pub with_tombstones: bool,
}

/// A key that a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanKey {
    /// Its bucket.
    pub bucket: Bytes,
    /// The key.
    pub key: Bytes,
    /// How many live versions this replica has.
    pub siblings: u16,
    /// Bytes of the live values together.
    pub value_bytes: u64,
}

/// A piece of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// The keys, in the order of their identifiers.
    pub keys: Vec<ScanKey>,
    /// Where to go on; empty when the partition is done.
    pub cursor: Bytes,
    /// Keys of this piece that are left out because their records can't be verified by that node.
    pub unreadable: u32,
}

/// How a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The usual header.
    pub header: ReplyHeader,
    /// Its position in the layout.
    pub node: u16,
    /// What people call it.
    pub name: String,
    /// Its software's version.
    pub version: String,
    /// "serving", "read-only", "draining" or "failed".
    pub state: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// The epoch of its layout.
    pub epoch: u64,
    /// How many partitions it owns.
    pub partitions: u32,
    /// Records in its store, tombstones included.
    pub keys: u64,
    /// Bytes of its store on disk.
    pub disk_bytes: u64,
    /// Most bytes its store may take; 0 when only the disk is the limit.
    pub disk_bytes_max: u64,
    /// Bytes of memory it uses.
    pub resident_bytes: u64,
    /// Open connections.
    pub connections: u32,
    /// What an operator should know.
    pub warnings: Vec<String>,
    /// How the other nodes look from here.
    pub peers: Vec<PeerStatus>,
    /// Counters since the start.
    pub counters: Vec<Counter>,
}

/// How another node looks from the one that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Which node.
    pub node: NodeIndex,
    /// "up", "suspect", "down" or "unknown".
    pub state: String,
    /// A recent round trip, in microseconds.
    pub round_trip_micros: u32,
    /// "alive", "suspect" or "down", as the members tell each other; empty where nothing is known.
    pub gossip: String,
    /// Objects kept here for it while it is away.
    pub hints: u64,
    /// Their bytes.
    pub hint_bytes: u64,
}

/// A number that only grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its name.
    pub name: String,
    /// How far it has come.
    pub value: u64,
    /// What it counts.
    pub help: String,
}

/// Writes a question; the header is written apart.
pub fn encode_scan(mut wire: wire::scan_request::Builder<'_>, scan: &Scan) {
    if let Some(bucket) = &scan.bucket {
        wire.set_bucket(bucket);
    }
    wire.set_partition(scan.partition);
    wire.set_cursor(&scan.cursor);
    wire.set_limit(scan.limit);
    wire.set_with_tombstones(scan.with_tombstones);
}

/// Reads a question. Whether there is such a partition is for whoever knows the layout to say.
pub fn decode_scan(wire: wire::scan_request::Reader<'_>) -> Result<Scan, Failure> {
    let bucket = strict_text("bucket", wire.get_bucket())?;
    if !bucket.is_empty() && !is_bucket_name(bucket.as_bytes()) {
        return Err(invalid("bucket", "a name has 1 to 64 bytes of [A-Za-z0-9._-]"));
    }
    let limit = match wire.get_limit() {
        0 => SCAN_LIMIT_MAX,
        limit @ 1..=SCAN_LIMIT_MAX => limit,
        limit => return Err(too_large("limit", SCAN_LIMIT_MAX as usize, limit as usize, "keys")),
    };
    Ok(Scan {
        bucket: (!bucket.is_empty()).then_some(bucket),
        partition: wire.get_partition(),
        cursor: bounded_data("cursor", wire.get_cursor(), CURSOR_BYTES_MAX)?,
        limit,
        with_tombstones: wire.get_with_tombstones(),
    })
}

/// Writes a piece of a scan, or why there is none; the header is written apart.
pub fn encode_scan_page(mut wire: wire::scan_reply::Builder<'_>, page: &Result<ScanPage, Failure>) {
    let page = match page {
        Ok(page) => page,
        Err(failure) => return encode_failure(wire.init_error(), failure),
    };
    wire.set_cursor(&page.cursor);
    wire.set_unreadable(page.unreadable);
    let mut keys = wire.init_keys(list_length(page.keys.len()));
    for (at, key) in (0..).zip(&page.keys) {
        let mut entry = keys.reborrow().get(at);
        entry.set_bucket(capnp::text::Reader::from(&*key.bucket));
        entry.set_key(&key.key);
        entry.set_siblings(key.siblings);
        entry.set_value_bytes(key.value_bytes);
    }
}

/// Reads a piece of a scan.
pub fn decode_scan_page(wire: wire::scan_reply::Reader<'_>) -> Result<ScanPage, Failure> {
    decode_optional_failure(wire.has_error(), wire.get_error())?;
    let keys = wire.get_keys().map_err(|error| malformed("keys", error))?;
    if keys.len() > SCAN_LIMIT_MAX {
        return Err(too_large("keys", SCAN_LIMIT_MAX as usize, keys.len() as usize, "keys"));
    }
    let key = |key: wire::scan_key::Reader<'_>| {
        let bucket = strict_text("keys.bucket", key.get_bucket())?;
        Ok(ScanKey {
            bucket: Bytes::from(bucket),
            key: bounded_data("keys.key", key.get_key(), KEY_BYTES_MAX)?,
            siblings: key.get_siblings(),
            value_bytes: key.get_value_bytes(),
        })
    };
    Ok(ScanPage {
        keys: keys.iter().map(key).collect::<Result<_, Failure>>()?,
        cursor: bounded_data("cursor", wire.get_cursor(), CURSOR_BYTES_MAX)?,
        unreadable: wire.get_unreadable(),
    })
}

/// Writes the status of a node.
pub fn encode_status(mut wire: wire::status_reply::Builder<'_>, status: &Status) {
    status.header.encode(wire.reborrow().init_header());
    wire.set_node(status.node);
    wire.set_name(&status.name);
    wire.set_version(&status.version);
    wire.set_state(&status.state);
    wire.set_uptime_seconds(status.uptime_seconds);
    wire.set_epoch(status.epoch);
    wire.set_partitions(status.partitions);
    wire.set_keys(status.keys);
    wire.set_disk_bytes(status.disk_bytes);
    wire.set_disk_bytes_max(status.disk_bytes_max);
    wire.set_resident_bytes(status.resident_bytes);
    wire.set_connections(status.connections);
    let mut warnings = wire.reborrow().init_warnings(list_length(status.warnings.len()));
    for (at, warning) in (0..).zip(&status.warnings) {
        warnings.set(at, warning);
    }
    let mut peers = wire.reborrow().init_peers(list_length(status.peers.len()));
    for (at, peer) in (0..).zip(&status.peers) {
        let mut entry = peers.reborrow().get(at);
        entry.set_node(peer.node.0);
        entry.set_state(&peer.state);
        entry.set_round_trip_micros(peer.round_trip_micros);
        entry.set_gossip(&peer.gossip);
        entry.set_hints(peer.hints);
        entry.set_hint_bytes(peer.hint_bytes);
    }
    let mut counters = wire.init_counters(list_length(status.counters.len()));
    for (at, counter) in (0..).zip(&status.counters) {
        let mut entry = counters.reborrow().get(at);
        entry.set_name(&counter.name);
        entry.set_value(counter.value);
        entry.set_help(&counter.help);
    }
}

/// Reads the status of a node.
pub fn decode_status(wire: wire::status_reply::Reader<'_>) -> Result<Status, Failure> {
    decode_optional_failure(wire.has_error(), wire.get_error())?;
    let warnings = wire.get_warnings().map_err(|error| malformed("warnings", error))?;
    let peers = wire.get_peers().map_err(|error| malformed("peers", error))?;
    let counters = wire.get_counters().map_err(|error| malformed("counters", error))?;
    Ok(Status {
        header: ReplyHeader::decode(wire.get_header()),
        node: wire.get_node(),
        name: lenient_text(wire.get_name()),
        version: lenient_text(wire.get_version()),
        state: lenient_text(wire.get_state()),
        uptime_seconds: wire.get_uptime_seconds(),
        epoch: wire.get_epoch(),
        partitions: wire.get_partitions(),
        keys: wire.get_keys(),
        disk_bytes: wire.get_disk_bytes(),
        disk_bytes_max: wire.get_disk_bytes_max(),
        resident_bytes: wire.get_resident_bytes(),
        connections: wire.get_connections(),
        warnings: warnings.iter().take(STATUS_ENTRIES_MAX).map(lenient_text).collect(),
        peers: peers
            .iter()
            .take(STATUS_ENTRIES_MAX)
            .map(|peer| PeerStatus {
                node: NodeIndex(peer.get_node()),
                state: lenient_text(peer.get_state()),
                round_trip_micros: peer.get_round_trip_micros(),
                gossip: lenient_text(peer.get_gossip()),
                hints: peer.get_hints(),
                hint_bytes: peer.get_hint_bytes(),
            })
            .collect(),
        counters: counters
            .iter()
            .take(STATUS_ENTRIES_MAX)
            .map(|counter| Counter {
                name: lenient_text(counter.get_name()),
                value: counter.get_value(),
                help: lenient_text(counter.get_help()),
            })
            .collect(),
    })
}
