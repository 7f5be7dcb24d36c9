//! The difference of two layouts on the wire. Its lists are flat, and runs of spans share the few kinds there are: what a change of a large
//! ring takes is mostly the numbers of the partitions that it touches.

use std::collections::BTreeMap;

use bytes::Bytes;
use capnp::{
    message::{Builder, ReaderOptions},
    serialize,
};
use dynamo::{
    layout::{
        BUCKETS_MAX, NODES_MAX, NodeIndex, PARTITION_BITS_MAX, REPLICAS_MAX,
        delta::{Delta, span_kinds},
        spans::{Span, SpanRun, Spans},
    },
    operation::Failure,
};

use super::{
    super::{fixed, invalid, list_length, malformed, too_large},
    decode_bucket, decode_member, encode_bucket, encode_member,
};
use crate::kv_capnp as wire;

/// Most partitions that a ring can have.
const PARTITIONS_MAX: usize = 1 << PARTITION_BITS_MAX;

/// How deep messages with a delta are nested: the delta, its list of changes, a change, its node, the node's addresses, their texts.
const NESTING: i32 = 8;

/// A delta as a message of its own, for what travels in pieces. `None` for what [`encode_delta`] can't tell.
pub fn write_delta(delta: &Delta) -> Option<Bytes> {
    let mut message = Builder::new_default();
    let is_told = encode_delta(message.init_root(), delta);
    is_told.then(|| serialize::write_message_to_words(&message).into())
}

/// Reads such a message.
pub fn read_delta(bytes: &[u8]) -> Result<Delta, Failure> {
    let mut options = ReaderOptions::new();
    // Everything in it is looked at once. One that points to the same things again and again would be made large by reading it.
    options.traversal_limit_in_words(Some(2 * bytes.len() / size_of::<u64>())).nesting_limit(NESTING);
    let message = serialize::read_message(&mut &bytes[..], options).map_err(|error| malformed("delta", error))?;
    decode_delta(message.get_root().map_err(|error| malformed("delta", error))?)
}

/// Writes a delta. One with more kinds of spans than can be told is none: then nothing is written, and the layout itself must be sent.
pub fn encode_delta(mut wire: wire::ring_delta::Builder<'_>, delta: &Delta) -> bool {
    let (kinds, runs) = span_kinds(&delta.spans);
    if kinds.len() > usize::from(u16::MAX) {
        return false;
    }
    wire.set_from_epoch(delta.from_epoch);
    wire.set_from_hash(&delta.from_hash);
    wire.set_epoch(delta.epoch);
    wire.set_hash(&delta.hash);
    wire.set_parent_hash(&delta.parent_hash);
    wire.set_node_count(list_length(delta.member_count));
    let mut nodes = wire.reborrow().init_nodes(list_length(delta.members.len()));
    for (at, (position, member)) in (0..).zip(&delta.members) {
        let mut change = nodes.reborrow().get(at);
        change.set_position(position.0);
        encode_member(change.init_node(), member);
    }
    let mut electors = wire.reborrow().init_electors(list_length(delta.electors.len()));
    (0..).zip(&delta.electors).for_each(|(at, elector)| electors.set(at, elector.0));
    wire.set_buckets_changed(delta.buckets.is_some());
    if let Some(changed) = &delta.buckets {
        let mut buckets = wire.reborrow().init_buckets(list_length(changed.len()));
        for (at, (name, properties)) in (0..).zip(changed) {
            encode_bucket(buckets.reborrow().get(at), name, properties);
        }
    }
    let mut partitions = wire.reborrow().init_partitions(list_length(delta.partitions.len()));
    (0..).zip(&delta.partitions).for_each(|(at, partition)| partitions.set(at, *partition));
    let mut slots = wire.reborrow().init_slots(list_length(delta.slots.len()));
    (0..).zip(&delta.slots).for_each(|(at, slot)| slots.set(at, *slot));
    let mut firsts = wire.reborrow().init_span_firsts(list_length(runs.len()));
    (0..).zip(&runs).for_each(|(at, (first, _))| firsts.set(at, *first));
    let mut numbers = wire.reborrow().init_span_kinds(list_length(runs.len()));
    (0..).zip(&runs).for_each(|(at, (_, kind))| numbers.set(at, u16::try_from(*kind).unwrap_or(u16::MAX)));
    let mut table = wire.init_spans(list_length(kinds.len()));
    for (at, kind) in (0..).zip(&kinds) {
        let mut entry = table.reborrow().get(at);
        entry.set_since(kind.since);
        entry.set_oldest(kind.oldest);
    }
    true
}

/// Reads a delta. Whether it is one of the layout that is here, [`Delta::apply`] finds out.
pub fn decode_delta(wire: wire::ring_delta::Reader<'_>) -> Result<Delta, Failure> {
    let nodes = wire.get_nodes().map_err(|error| malformed("delta.nodes", error))?;
    bounded("delta.nodes", nodes.len(), NODES_MAX, "nodes")?;
    bounded("delta.nodeCount", wire.get_node_count(), NODES_MAX, "nodes")?;
    let members = nodes.iter().map(|change| {
        let node = change.get_node().map_err(|error| malformed("delta.nodes.node", error))?;
        Ok((NodeIndex(change.get_position()), decode_member(node)?))
    });
    let members = members.collect::<Result<Vec<_>, Failure>>()?;
    let electors = wire.get_electors().map_err(|error| malformed("delta.electors", error))?;
    bounded("delta.electors", electors.len(), NODES_MAX, "electors")?;
    let partitions = wire.get_partitions().map_err(|error| malformed("delta.partitions", error))?;
    bounded("delta.partitions", partitions.len(), PARTITIONS_MAX, "partitions")?;
    let slots = wire.get_slots().map_err(|error| malformed("delta.slots", error))?;
    bounded("delta.slots", slots.len(), PARTITIONS_MAX * usize::from(REPLICAS_MAX), "slots")?;
    Ok(Delta {
        from_epoch: wire.get_from_epoch(),
        from_hash: fixed("delta.fromHash", wire.get_from_hash())?,
        epoch: wire.get_epoch(),
        hash: fixed("delta.hash", wire.get_hash())?,
        parent_hash: fixed("delta.parentHash", wire.get_parent_hash())?,
        member_count: wire.get_node_count() as usize,
        members,
        electors: electors.iter().map(NodeIndex).collect(),
        buckets: decode_buckets(wire)?,
        partitions: partitions.iter().collect(),
        slots: slots.iter().collect(),
        spans: decode_spans(wire)?,
    })
}

fn decode_buckets(
    wire: wire::ring_delta::Reader<'_>,
) -> Result<Option<BTreeMap<String, dynamo::layout::BucketProperties>>, Failure> {
    if !wire.get_buckets_changed() {
        return Ok(None);
    }
    let buckets = wire.get_buckets().map_err(|error| malformed("delta.buckets", error))?;
    bounded("delta.buckets", buckets.len(), BUCKETS_MAX, "buckets")?;
    buckets.iter().map(decode_bucket).collect::<Result<_, _>>().map(Some)
}

fn decode_spans(wire: wire::ring_delta::Reader<'_>) -> Result<Spans, Failure> {
    let firsts = wire.get_span_firsts().map_err(|error| malformed("delta.spanFirsts", error))?;
    let numbers = wire.get_span_kinds().map_err(|error| malformed("delta.spanKinds", error))?;
    let table = wire.get_spans().map_err(|error| malformed("delta.spans", error))?;
    bounded("delta.spanFirsts", firsts.len(), PARTITIONS_MAX, "runs")?;
    bounded("delta.spans", table.len(), usize::from(u16::MAX), "kinds of spans")?;
    if firsts.len() != numbers.len() {
        return Err(invalid("delta.spanKinds", "not one for each run"));
    }
    let kinds: Vec<Span> =
        table.iter().map(|kind| Span { since: kind.get_since(), oldest: kind.get_oldest() }).collect();
    let runs = firsts.iter().zip(numbers.iter()).map(|(first, number)| {
        let span = kinds.get(usize::from(number)).copied();
        span.map(|span| SpanRun { first, span }).ok_or_else(|| invalid("delta.spanKinds", "a kind that is not there"))
    });
    runs.collect::<Result<Vec<_>, _>>().map(Spans::from_runs)
}

fn bounded(field: &'static str, length: u32, most: usize, unit: &'static str) -> Result<(), Failure> {
    if length as usize > most { Err(too_large(field, most, length as usize, unit)) } else { Ok(()) }
}
