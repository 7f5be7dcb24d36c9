//! To JSON: what the nodes of a stage saw, and layouts.

use std::collections::BTreeSet;

use dynamo::{
    ident::OpId,
    layout::{Layout, Level},
    operation::{Action, Basis, ErrorCode},
};
use serde_json::{Value, json};

use crate::{Cluster, Seen};

/// Every code that a node can answer with, in the order of the schema.
pub const CODES: [ErrorCode; 15] = [
    ErrorCode::Internal,
    ErrorCode::InvalidRequest,
    ErrorCode::TooLarge,
    ErrorCode::TooManySiblings,
    ErrorCode::Unavailable,
    ErrorCode::QuorumTimeout,
    ErrorCode::Overloaded,
    ErrorCode::Unsupported,
    ErrorCode::Unauthenticated,
    ErrorCode::Forbidden,
    ErrorCode::Corrupt,
    ErrorCode::StaleView,
    ErrorCode::StorageFull,
    ErrorCode::ShuttingDown,
    ErrorCode::WrongCluster,
];

/// The name of a code, as the schema has it, in small letters.
pub fn code_name(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Internal => "internal",
        ErrorCode::InvalidRequest => "invalid_request",
        ErrorCode::TooLarge => "too_large",
        ErrorCode::TooManySiblings => "too_many_siblings",
        ErrorCode::Unavailable => "unavailable",
        ErrorCode::QuorumTimeout => "quorum_timeout",
        ErrorCode::Overloaded => "overloaded",
        ErrorCode::Unsupported => "unsupported",
        ErrorCode::Unauthenticated => "unauthenticated",
        ErrorCode::Forbidden => "forbidden",
        ErrorCode::Corrupt => "corrupt",
        ErrorCode::StaleView => "stale_view",
        ErrorCode::StorageFull => "storage_full",
        ErrorCode::ShuttingDown => "shutting_down",
        ErrorCode::WrongCluster => "wrong_cluster",
    }
}

/// What the nodes saw, in the order in which it came, and how often they were asked for other things.
pub fn seen(cluster: &Cluster) -> Value {
    let mut all: Vec<(usize, Seen)> = Vec::new();
    let (mut ring_calls, mut scan_calls) = (0, 0);
    for (at, node) in cluster.nodes.iter().enumerate() {
        all.extend(node.seen().into_iter().map(|seen| (at, seen)));
        ring_calls += *node.control.ring_calls.lock().unwrap();
        scan_calls += *node.control.scan_calls.lock().unwrap();
    }
    all.sort_by_key(|(_, seen)| seen.at);
    let op_ids: BTreeSet<OpId> = all.iter().map(|(_, seen)| op_id(seen)).filter(|id| !id.is_none()).collect();
    json!({
        "operations": all.iter().map(|(at, seen)| operation(*at, seen)).collect::<Vec<_>>(),
        "nodes": all.iter().map(|(at, _)| format!("n{at}")).collect::<Vec<_>>(),
        "op_ids": op_ids.len(),
        "applied": cluster.map.writes(),
        "ring_calls": ring_calls,
        "scan_calls": scan_calls,
    })
}

/// A layout as [`super::layout`] reads it.
pub fn layout_as_json(name: &str, layout: &Layout) -> Value {
    let members = layout.members.iter();
    let members: Vec<Value> =
        members.map(|member| json!({ "name": member.name, "zone": member.zone, "weight": member.weight })).collect();
    let row = |partition| layout.owners(partition).map(|node| node.0).collect::<Vec<u16>>();
    json!({
        "name": name,
        "cluster": layout.cluster.to_string(),
        "epoch": layout.epoch,
        "partition_bits": layout.partition_bits,
        "replicas": layout.replicas,
        "members": members,
        "slots": (0..layout.partitions()).map(row).collect::<Vec<_>>(),
    })
}

fn operation(node: usize, seen: &Seen) -> Value {
    let (name, basis, ttl_ms) = match &seen.operation.action {
        Action::Get { without_values: false } => ("get", None, 0),
        Action::Get { without_values: true } => ("exists", None, 0),
        Action::Put { basis, ttl_ms, .. } => ("put", Some(basis), *ttl_ms),
        Action::Delete { basis, .. } => ("delete", Some(basis), 0),
    };
    let basis = basis.map(|basis| match basis {
        Basis::Local => "local",
        Basis::Beside => "beside",
        Basis::Context(_) => "context",
    });
    let consistency = seen.operation.consistency;
    json!({
        "node": format!("n{node}"),
        "do": name,
        "bucket": String::from_utf8_lossy(&seen.operation.address.bucket),
        "key": String::from_utf8_lossy(&seen.operation.address.key),
        "basis": basis,
        "ttl_ms": ttl_ms,
        "level": consistency.level.map(level_name),
        "r": consistency.r,
        "w": consistency.w,
        "n": consistency.n,
        "call": seen.call,
        "budget_ms": seen.budget_ms,
    })
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::One => "one",
        Level::Available => "available",
        Level::Quorum => "quorum",
        Level::All => "all",
    }
}

fn op_id(seen: &Seen) -> OpId {
    match seen.operation.action {
        Action::Put { op_id, .. } | Action::Delete { op_id, .. } => op_id,
        Action::Get { .. } => OpId::NONE,
    }
}
