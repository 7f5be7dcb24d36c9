//! Chains of layouts as operators might make them, one worse than the other: owners replaced, changes taken back, another number of
//! replicas, twice as many partitions, each on top of what is not finished yet.

use std::{collections::BTreeMap, sync::Arc};

use dynamo::{
    ident::NodeId,
    layout::{
        Layout, Member, MemberState, NodeIndex, SLOT_EMPTY, View,
        spans::{Span, Spans},
    },
    ring::Ring,
};

use crate::random::Random;

/// Most partitions are split into.
const BITS_MAX: u8 = 3;

/// Most configurations of a partition at once: a commit that would make one more is refused.
const CONFIGURATIONS_MAX: usize = 4;

/// What kinds of changes a chain has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changes {
    /// Owners are replaced and replaced back.
    pub(crate) replaces: bool,
    /// The number of replicas changes.
    pub(crate) resizes: bool,
    /// The number of partitions doubles.
    pub(crate) doubles: bool,
}

/// The first layout.
pub(crate) fn first(members: u16, replicas: u8, bits: u8) -> Layout {
    let member = |index: u16| Member {
        id: NodeId(u128::from(index) + 100),
        name: format!("n{index}"),
        zone: format!("z{}", index % 2),
        weight: 1,
        addresses: Vec::new(),
        state: MemberState::Active,
    };
    let owners = |partition: u16| (0..u16::from(replicas)).map(move |slot| partition + slot);
    Layout {
        cluster: 1,
        generation: 0,
        epoch: 1,
        parent_hash: [0; 16],
        electors: Vec::new(),
        members: (0..members).map(member).collect(),
        partition_bits: bits,
        replicas,
        slots: (0..1_u16 << bits).flat_map(owners).map(|node| node % members).collect(),
        buckets: BTreeMap::new(),
        spans: Spans::settled(1),
    }
}

/// The layout after the newest, by some change. `retired` says which configuration of a partition is the oldest that may still be active,
/// as far as anybody knows; nodes in `gone` own nothing and are given up for lost.
pub(crate) fn next(
    ring: &Ring,
    changes: Changes,
    random: &mut Random,
    gone: &[NodeIndex],
    retired: impl Fn(&View) -> u64,
) -> Layout {
    let before = ring.newest();
    let mut owners: Vec<Vec<NodeIndex>> =
        (0..before.partitions()).map(|partition| before.owners(partition).collect()).collect();
    let mut spans: Vec<Span> = (0..before.partitions()).map(|partition| before.spans.of(partition)).collect();
    let mut bits = before.partition_bits;
    if changes.doubles && bits < BITS_MAX && random.happens(250) {
        bits += 1;
        owners = owners.iter().flat_map(|owners| [owners.clone(), owners.clone()]).collect();
        spans = spans.iter().flat_map(|span| [*span, *span]).collect();
    }
    let sets = owners.clone();
    let all: Vec<NodeIndex> = (0..before.members.len() as u16).map(NodeIndex).filter(|at| !gone.contains(at)).collect();
    if changes.replaces {
        replace(ring, &mut owners, &all, random);
    }
    let mut replicas = usize::from(before.replicas);
    if changes.resizes && random.happens(300) {
        replicas = 1 + random.below(4) as usize;
    }
    for owners in &mut owners {
        owners.retain(|owner| !gone.contains(owner));
        owners.truncate(replicas);
        while owners.len() < replicas.min(all.len()) {
            let candidate = *random.pick(&all);
            if !owners.contains(&candidate) {
                owners.push(candidate);
            }
        }
    }
    let epoch = before.epoch + 1;
    for (partition, owners) in owners.iter_mut().enumerate() {
        let span = spans[partition];
        let view = View { prefix: partition as u32, bits, lo: span.oldest, hi: span.since };
        let oldest = span.oldest.max(retired(&view));
        let active = View { lo: oldest.min(span.since), ..view };
        let configurations = ring.configurations(&view.first_key().id(), &active).expect("all layouts are known");
        if !is_same(owners, &sets[partition]) {
            if configurations.len() < CONFIGURATIONS_MAX || owners.len() != sets[partition].len() {
                spans[partition] = Span { since: epoch, oldest: active.lo };
                continue;
            }
            owners.clone_from(&sets[partition]);
        }
        spans[partition] = Span { since: span.since, oldest: active.lo };
    }
    let slot = |owners: &Vec<NodeIndex>| {
        let mut slots: Vec<u16> = owners.iter().map(|owner| owner.0).collect();
        slots.resize(replicas, SLOT_EMPTY);
        slots
    };
    let mut members = before.members.clone();
    for node in gone {
        members[usize::from(node.0)].state = MemberState::Lost;
    }
    Layout {
        epoch,
        parent_hash: before.hash(),
        members,
        partition_bits: bits,
        replicas: replicas as u8,
        slots: owners.iter().flat_map(slot).collect(),
        spans: Spans::from_partitions(spans),
        ..Layout::clone(before)
    }
}

/// Gives partitions other owners, one here or two there; or takes the last change back.
fn replace(ring: &Ring, owners: &mut [Vec<NodeIndex>], all: &[NodeIndex], random: &mut Random) {
    let earlier: Vec<&Arc<Layout>> = ring.layouts().rev().skip(1).take(1).collect();
    let abort = earlier.first().filter(|_| random.happens(300));
    for (partition, owners) in owners.iter_mut().enumerate() {
        if let Some(earlier) = abort.filter(|earlier| earlier.partitions() as usize > partition) {
            *owners = earlier.owners(partition as u32).collect();
            continue;
        }
        for _ in 0..random.below(4) {
            let (at, newcomer) = (random.below(owners.len() as u64) as usize, *random.pick(all));
            if !owners.contains(&newcomer) {
                owners[at] = newcomer;
            }
        }
    }
}

/// Whether both are the same set.
fn is_same(one: &[NodeIndex], other: &[NodeIndex]) -> bool {
    one.len() == other.len() && one.iter().all(|owner| other.contains(owner))
}
