//! The partition map on the wire: everything but the slots in one piece, the slots in pages of 4,096 partitions, so that a
//! map of any size arrives in frames of bounded size. Its difference to an earlier one is in [`delta`].

mod delta;

use std::collections::BTreeMap;

use capnp::primitive_list;
use dynamo::{
    ident::{NodeId, is_bucket_name},
    layout::{
        BUCKETS_MAX, BucketProperties, ConflictRule, Layout, Member, MemberState, NODES_MAX, NodeIndex,
        PARTITION_BITS_MAX, REPLICAS_MAX, SLOT_EMPTY,
        check::ADDRESSES_MAX,
        pages::PAGE_PARTITIONS,
        spans::{Span, SpanRun, Spans},
    },
    operation::{Consistency, Failure},
};

pub use delta::{decode_delta, encode_delta, read_delta, write_delta};

use super::{
    failure::{decode_consistency, encode_consistency},
    fixed, invalid, list_length, malformed, sixteen, strict_text, too_large,
};
use crate::kv_capnp as wire;

/// Most bytes of slots in one reply: small enough for any frame limit, large enough that only rings of thousands of nodes
/// need a second call.
const PAGES_BYTES_MAX: usize = 1024 * 1024;

/// A layout of which some pages may still be missing.
#[derive(Clone, Debug)]
pub struct PartialLayout {
    layout: Layout,
    hash: [u8; 16],
    present: Vec<bool>,
    /// Page by page.
    spans: Vec<Vec<SpanRun>>,
}

/// Writes a layout with the pages that were asked for (none named: from the first on), as many as fit into one reply.
/// `hash` is the hash over the whole layout.
pub fn encode_ring(
    mut ring: wire::ring::Builder<'_>,
    layout: &Layout,
    hash: &[u8; 16],
    pages: capnp::Result<primitive_list::Reader<'_, u32>>,
) {
    ring.set_cluster(&layout.cluster.to_be_bytes());
    ring.set_generation(layout.generation);
    ring.set_epoch(layout.epoch);
    ring.set_hash(hash);
    ring.set_parent_hash(&layout.parent_hash);
    ring.set_partition_bits(layout.partition_bits);
    ring.set_replicas(layout.replicas);
    let mut nodes = ring.reborrow().init_nodes(list_length(layout.members.len()));
    for (at, member) in (0..).zip(&layout.members) {
        encode_member(nodes.reborrow().get(at), member);
    }
    let mut electors = ring.reborrow().init_electors(list_length(layout.electors.len()));
    for (at, elector) in (0..).zip(&layout.electors) {
        electors.set(at, elector.0);
    }
    let mut buckets = ring.reborrow().init_buckets(list_length(layout.buckets.len()));
    for (at, (name, properties)) in (0..).zip(&layout.buckets) {
        encode_bucket(buckets.reborrow().get(at), name, properties);
    }
    ring.set_page_count(layout.page_count());
    let page_bytes = page_slots(layout.replicas) * size_of::<u16>();
    let chosen = choose_pages(pages, layout.page_count(), PAGES_BYTES_MAX / page_bytes);
    let mut list = ring.init_pages(list_length(chosen.len()));
    for (at, index) in (0..).zip(chosen) {
        let slots = layout.page_slots(index).unwrap_or_default();
        let mut page = list.reborrow().get(at);
        page.set_index(index);
        let mut wire = page.init_slots(list_length(slots.len()));
        for (slot, &node) in (0..).zip(slots) {
            wire.set(slot, node);
        }
        let runs: Vec<SpanRun> = layout.page_spans(index).collect();
        let mut wire = list.reborrow().get(at).init_spans(list_length(runs.len()));
        for (at, run) in (0..).zip(&runs) {
            encode_span(wire.reborrow().get(at), run);
        }
    }
}

fn encode_span(mut wire: wire::span::Builder<'_>, run: &SpanRun) {
    wire.set_first(run.first);
    wire.set_since(run.span.since);
    wire.set_oldest(run.span.oldest);
}

fn decode_span(wire: wire::span::Reader<'_>) -> SpanRun {
    let span = Span { since: wire.get_since(), oldest: wire.get_oldest() };
    SpanRun { first: wire.get_first(), span }
}

impl PartialLayout {
    /// Reads a layout with those pages that came with it.
    pub fn decode(ring: wire::ring::Reader<'_>) -> Result<Self, Failure> {
        let layout = decode_head(ring)?;
        let hash = fixed("ring.hash", ring.get_hash())?;
        let present = vec![false; layout.page_count() as usize];
        let spans = vec![Vec::new(); present.len()];
        let mut partial = Self { layout, hash, present, spans };
        partial.add_pages(ring)?;
        Ok(partial)
    }

    /// Adds the pages of a further reply, which must be about the same layout.
    pub fn add_pages(&mut self, ring: wire::ring::Reader<'_>) -> Result<(), Failure> {
        if fixed("ring.hash", ring.get_hash())? != self.hash {
            return Err(invalid("ring.hash", "the layout changed between two of its pages; fetch it again"));
        }
        let pages = ring.get_pages().map_err(|error| malformed("ring.pages", error))?;
        if pages.len() as usize > self.present.len() {
            return Err(too_large("ring.pages", self.present.len(), pages.len() as usize, "pages"));
        }
        let page_slots = page_slots(self.layout.replicas);
        for page in pages.iter() {
            let index = page.get_index() as usize;
            let Some(slots) = self.layout.slots.chunks_mut(page_slots).nth(index) else {
                return Err(invalid("ring.pages", format_args!("page {index} of {}", self.present.len())));
            };
            let wire = page.get_slots().map_err(|error| malformed("ring.pages", error))?;
            if wire.len() as usize != slots.len() {
                let problem = format_args!("page {index} has {} slots instead of {}", wire.len(), slots.len());
                return Err(invalid("ring.pages", problem));
            }
            for (slot, node) in slots.iter_mut().zip(wire.iter()) {
                if node != SLOT_EMPTY && usize::from(node) >= self.layout.members.len() {
                    return Err(invalid("ring.pages", format_args!("a slot names node {node}, which is not there")));
                }
                *slot = node;
            }
            let spans = page.get_spans().map_err(|error| malformed("ring.pages.spans", error))?;
            if spans.len() > PAGE_PARTITIONS {
                return Err(too_large("ring.pages.spans", PAGE_PARTITIONS as usize, spans.len() as usize, "runs"));
            }
            self.spans[index] = spans.iter().map(decode_span).collect();
            self.present[index] = true;
        }
        Ok(())
    }

    /// The pages that have not come yet.
    pub fn missing(&self) -> Vec<u32> {
        (0..).zip(&self.present).filter(|(_, present)| !**present).map(|(index, _)| index).collect()
    }

    /// The whole layout, if no page is missing, it is the one its hash names, and it keeps the rules of a layout.
    pub fn complete(mut self) -> Result<Layout, Failure> {
        let missing = self.missing().len();
        if missing > 0 {
            return Err(invalid("ring.pages", format_args!("{missing} of {} are missing", self.present.len())));
        }
        if self.spans.iter().any(|runs| !runs.is_empty()) {
            self.layout.spans = Spans::from_runs(self.spans.into_iter().flatten());
        }
        self.layout.check().map_err(|rule| invalid("ring", rule))?;
        if self.layout.hash() != self.hash {
            return Err(invalid("ring.hash", "it is the hash of another layout"));
        }
        Ok(self.layout)
    }
}

/// Slots of a page that is not the last.
fn page_slots(replicas: u8) -> usize {
    PAGE_PARTITIONS as usize * usize::from(replicas)
}

/// The pages to send: those asked for, each once and in order, or all; at least one and at most what fits.
fn choose_pages(asked: capnp::Result<primitive_list::Reader<'_, u32>>, page_count: u32, pages_max: usize) -> Vec<u32> {
    let mut chosen: Vec<u32> = match asked {
        Ok(asked) if !asked.is_empty() => {
            asked.iter().take(page_count as usize).filter(|page| *page < page_count).collect()
        }
        _ => (0..page_count).collect(),
    };
    chosen.sort_unstable();
    chosen.dedup();
    chosen.truncate(pages_max.max(1));
    chosen
}

pub(super) fn encode_member(mut node: wire::node::Builder<'_>, member: &Member) {
    node.set_id(&member.id.0.to_be_bytes());
    node.set_name(&member.name);
    node.set_zone(&member.zone);
    node.set_weight(member.weight);
    node.set_leaving(member.state == MemberState::Leaving);
    node.set_lost(member.state == MemberState::Lost);
    node.set_gone(member.state == MemberState::Gone);
    let mut addresses = node.init_addresses(list_length(member.addresses.len()));
    for (at, address) in (0..).zip(&member.addresses) {
        addresses.set(at, address);
    }
}

pub(super) fn decode_member(node: wire::node::Reader<'_>) -> Result<Member, Failure> {
    let addresses = node.get_addresses().map_err(|error| malformed("ring.nodes.addresses", error))?;
    if addresses.len() as usize > ADDRESSES_MAX {
        return Err(too_large("ring.nodes.addresses", ADDRESSES_MAX, addresses.len() as usize, "addresses"));
    }
    let state = match (node.get_leaving(), node.get_lost(), node.get_gone()) {
        (_, _, true) => MemberState::Gone,
        (_, true, false) => MemberState::Lost,
        (true, false, false) => MemberState::Leaving,
        (false, false, false) => MemberState::Active,
    };
    Ok(Member {
        id: NodeId(sixteen("ring.nodes.id", node.get_id())?),
        name: strict_text("ring.nodes.name", node.get_name())?,
        zone: strict_text("ring.nodes.zone", node.get_zone())?,
        weight: node.get_weight(),
        addresses: addresses
            .iter()
            .map(|address| strict_text("ring.nodes.addresses", address))
            .collect::<Result<_, _>>()?,
        state,
    })
}

pub(super) fn encode_bucket(
    mut bucket: wire::bucket_properties::Builder<'_>,
    name: &str,
    properties: &BucketProperties,
) {
    bucket.set_name(name);
    let consistency = Consistency { level: Some(properties.level), r: properties.r, w: properties.w, n: 0 };
    encode_consistency(bucket.reborrow().init_consistency(), &consistency);
    bucket.set_conflict_rule(match properties.conflict_rule {
        ConflictRule::Siblings => wire::ConflictRule::Siblings,
        ConflictRule::LastWriterWins => wire::ConflictRule::LastWriterWins,
    });
}

pub(super) fn decode_bucket(
    bucket: wire::bucket_properties::Reader<'_>,
) -> Result<(String, BucketProperties), Failure> {
    let name = strict_text("ring.buckets.name", bucket.get_name())?;
    if !is_bucket_name(name.as_bytes()) {
        return Err(invalid("ring.buckets.name", "a name has 1 to 64 bytes of [A-Za-z0-9._-]"));
    }
    let consistency = decode_consistency(bucket.get_consistency())?;
    let conflict_rule = match bucket.get_conflict_rule() {
        Ok(wire::ConflictRule::Siblings) => ConflictRule::Siblings,
        Ok(wire::ConflictRule::LastWriterWins) => ConflictRule::LastWriterWins,
        Err(unknown) => {
            return Err(invalid("ring.buckets.conflictRule", format_args!("{} is unknown to this side", unknown.0)));
        }
    };
    let level = consistency.level.unwrap_or_default();
    Ok((name, BucketProperties { level, r: consistency.r, w: consistency.w, conflict_rule }))
}

/// Everything but the slots, which are all empty.
fn decode_head(ring: wire::ring::Reader<'_>) -> Result<Layout, Failure> {
    let (partition_bits, replicas) = (ring.get_partition_bits(), ring.get_replicas());
    if partition_bits > PARTITION_BITS_MAX {
        return Err(too_large("ring.partitionBits", PARTITION_BITS_MAX.into(), partition_bits.into(), "bits"));
    }
    if !(1..=REPLICAS_MAX).contains(&replicas) {
        return Err(invalid("ring.replicas", format_args!("{replicas} instead of 1 to {REPLICAS_MAX}")));
    }
    let nodes = ring.get_nodes().map_err(|error| malformed("ring.nodes", error))?;
    if !(1..=NODES_MAX).contains(&(nodes.len() as usize)) {
        return Err(invalid("ring.nodes", format_args!("{} instead of 1 to {NODES_MAX}", nodes.len())));
    }
    let members = nodes.iter().map(decode_member).collect::<Result<Vec<_>, _>>()?;
    let electors = ring.get_electors().map_err(|error| malformed("ring.electors", error))?;
    if electors.len() as usize > members.len() || electors.iter().any(|node| usize::from(node) >= members.len()) {
        return Err(invalid("ring.electors", "an elector is no node of the ring"));
    }
    let buckets = ring.get_buckets().map_err(|error| malformed("ring.buckets", error))?;
    if buckets.len() as usize > BUCKETS_MAX {
        return Err(too_large("ring.buckets", BUCKETS_MAX, buckets.len() as usize, "buckets"));
    }
    Ok(Layout {
        cluster: sixteen("ring.cluster", ring.get_cluster())?,
        generation: ring.get_generation(),
        epoch: ring.get_epoch(),
        parent_hash: fixed("ring.parentHash", ring.get_parent_hash())?,
        electors: electors.iter().map(NodeIndex).collect(),
        members,
        partition_bits,
        replicas,
        slots: vec![SLOT_EMPTY; usize::from(replicas) << partition_bits],
        buckets: buckets.iter().map(decode_bucket).collect::<Result<BTreeMap<_, _>, _>>()?,
        spans: Spans::settled(ring.get_epoch()),
    })
}
