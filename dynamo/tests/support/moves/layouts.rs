//! Layouts of a ring that changes at random: not what a planner makes, but whatever there may be.

use std::collections::BTreeMap;

use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState, NodeIndex, SLOT_EMPTY, spans::Span, spans::Spans},
};

const MEMBERS: u16 = 4;
const REPLICAS: u8 = 2;
const FIRST_BITS: u8 = 1;
const LAST_BITS: u8 = 4;

pub(crate) fn first_layout() -> Layout {
    let member = |number: u16| Member {
        id: NodeId(u128::from(number) + 1),
        name: format!("n{number}"),
        zone: format!("z{number}"),
        weight: 1,
        addresses: vec![format!("10.0.0.{number}:7400")],
        state: MemberState::Active,
    };
    Layout {
        cluster: 7,
        generation: 1,
        epoch: 1,
        parent_hash: [0; 16],
        electors: vec![NodeIndex(0)],
        members: (0..MEMBERS).map(member).collect(),
        partition_bits: FIRST_BITS,
        replicas: REPLICAS,
        slots: (0..1 << FIRST_BITS).flat_map(|_| [0, 1]).collect(),
        buckets: BTreeMap::new(),
        spans: Spans::settled(1),
    }
}

/// A layout behind another, in which partitions have other owners.
pub(crate) fn next_layout(old: &Layout, seed: u64, kept: u64, settled: u64, doubles: bool) -> Layout {
    let epoch = old.epoch + 1;
    let bits = if doubles { (old.partition_bits + 1).min(LAST_BITS) } else { old.partition_bits };
    let (mut slots, mut spans) = (Vec::new(), Vec::new());
    for partition in 0..1_u32 << bits {
        let parent = partition >> (bits - old.partition_bits);
        let before: Vec<u16> = old.owners(parent).map(|owner| owner.0).collect();
        let first = (seed >> (2 * partition % 64) & 3) as u16;
        let others = [first, (first + 1 + (seed >> (partition % 61) & 1) as u16) % MEMBERS];
        let now = if kept >> (partition % 64) & 1 == 1 { before.clone() } else { others.to_vec() };
        let mut is_same = [before, now.clone()];
        is_same.iter_mut().for_each(|owners| owners.sort_unstable());
        let span = old.spans.of(parent);
        let oldest = if settled >> (partition % 64) & 1 == 1 { span.since } else { span.oldest };
        let since = if is_same[0] == is_same[1] { span.since } else { epoch };
        spans.push(Span { since, oldest });
        slots.extend(now.into_iter().chain([SLOT_EMPTY; REPLICAS as usize]).take(usize::from(REPLICAS)));
    }
    let spans = Spans::from_partitions(spans);
    Layout { epoch, parent_hash: old.hash(), partition_bits: bits, slots, spans, ..old.clone() }
}
