//! What calls returned, in the form in which scenarios speak of it. One form for all clients, so that one expectation fits all.

use quorate::{Context, Error, Explanation, Found, Layout, Lookup, Receipt, Scanned, Sibling, Stats, Stored};
use serde_json::{Value, json};

use super::pattern::show;

/// The kind of an error: what it is matched by, the same word in every language.
pub fn kind(error: &Error) -> &'static str {
    match error {
        Error::Timeout(_) => "Timeout",
        Error::Unavailable(_) => "Unavailable",
        Error::QuorumTimeout(_) => "QuorumTimeout",
        Error::Overloaded(_) => "Overloaded",
        Error::TooManySiblings(_) => "TooManySiblings",
        Error::Siblings(_) => "Siblings",
        Error::TooLarge(_) => "TooLarge",
        Error::InvalidRequest(_) => "InvalidRequest",
        Error::Unauthenticated(_) => "Unauthenticated",
        Error::Forbidden(_) => "Forbidden",
        Error::Connection(_) => "Connection",
        Error::ClientClosed(_) => "ClientClosed",
        Error::Corrupt(_) => "Corrupt",
        Error::Internal(_) => "Internal",
        unknown => panic!("a kind of error that no scenario knows: {unknown}"),
    }
}

/// An error.
pub fn error(error: &Error) -> Value {
    let (need, got) = error.need_and_got().unzip();
    json!({
        "is": "error",
        "kind": kind(error),
        "code": error.code(),
        "retryable": error.retryable(),
        "maybe_applied": error.maybe_applied(),
        "attempts": error.attempts(),
        "node": error.node(),
        "need": need,
        "got": got,
    })
}

/// Live values, those of siblings in the order of their bytes.
pub fn found(found: &Found, layout: &Layout) -> Value {
    let mut siblings: Vec<&Sibling> = found.siblings().iter().collect();
    siblings.sort_by(|a, b| a.value.cmp(&b.value));
    json!({
        "is": "found",
        "values": siblings.iter().map(|sibling| show(&sibling.value)).collect::<Vec<_>>(),
        "clocks": siblings.iter().map(|sibling| sibling.clock.to_string()).collect::<Vec<_>>(),
        "hashes": siblings.iter().map(|sibling| format!("{:032x}", sibling.hash)).collect::<Vec<_>>(),
        "value_bytes": siblings.iter().map(|sibling| sibling.value_bytes).collect::<Vec<_>>(),
        "context": found.context().to_string(),
        "siblings": found.siblings().len(),
        "conflict": found.is_conflict(),
        "receipt": receipt(found.receipt(), layout),
    })
}

/// The answer of a read with its context.
pub fn lookup(lookup: &Lookup, layout: &Layout) -> Value {
    match lookup {
        Lookup::Found(it) => found(it, layout),
        Lookup::Absent(absent) => json!({
            "is": "absent",
            "seen_nothing": absent.context.is_empty(),
            "context": absent.context.to_string(),
            "receipt": receipt(&absent.receipt, layout),
        }),
    }
}

/// The answer to a write.
pub fn stored(stored: &Stored, layout: &Layout) -> Value {
    json!({
        "is": "stored",
        "siblings": stored.siblings,
        "stands_alone": stored.context.is_some(),
        "context": stored.context.as_ref().map(Context::to_string),
        "clock": stored.clock.to_string(),
        "receipt": receipt(&stored.receipt, layout),
    })
}

/// A context, with its bytes and its text.
pub fn context(context: &Context) -> Value {
    json!({
        "is": "context",
        "bytes": show(context.as_bytes()),
        "text": context.to_string(),
        "seen_nothing": context.is_empty(),
    })
}

/// What an answer rested on.
pub fn receipt(receipt: &Receipt, layout: &Layout) -> Value {
    let name = |node: &quorate::NodeIndex| layout.member(*node).map(|member| member.name.clone());
    json!({
        "answered": receipt.answered.iter().map(name).collect::<Vec<_>>(),
        "epoch": receipt.epoch.to_string(),
        "need": receipt.need,
        "durable": receipt.durable,
        "stand_ins": receipt.stand_ins,
        "repaired": receipt.repaired,
        "replicas": receipt.replicas,
    })
}

/// The keys of a scan, in the order of their bytes.
pub fn scan(mut keys: Vec<Scanned>, layout: &Layout) -> Value {
    keys.sort_by(|a, b| (&a.bucket, &a.key).cmp(&(&b.bucket, &b.key)));
    let shown = |key: &Scanned| {
        json!({
            "bucket": key.bucket,
            "key": show(&key.key),
            "siblings": key.siblings,
            "value_bytes": key.value_bytes,
            "values": key.found.as_ref().map(|values| found(values, layout)["values"].clone()),
        })
    };
    json!({ "is": "scan", "keys": keys.iter().map(shown).collect::<Vec<_>>() })
}

/// Where a key lives.
pub fn explanation(explanation: &Explanation) -> Value {
    json!({
        "is": "explanation",
        "id": explanation.id.to_string(),
        "partition": explanation.partition,
        "epoch": explanation.epoch,
        "owners": explanation.owners.iter().map(|owner| owner.name.as_str()).collect::<Vec<_>>(),
    })
}

/// The layout.
pub fn ring(layout: &Layout) -> Value {
    json!({
        "is": "ring",
        "epoch": layout.epoch,
        "partitions": layout.partitions(),
        "replicas": layout.replicas,
        "nodes": layout.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(),
    })
}

/// What a client has done.
pub fn stats(stats: &Stats) -> Value {
    json!({
        "is": "stats",
        "succeeded": stats.succeeded,
        "failed": stats.failed,
        "retries": stats.retries,
        "refreshes": stats.refreshes,
        "epoch": stats.epoch,
        "nodes": stats.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(),
    })
}
