//! The chain of layouts of a schedule: one partition whose owners are exchanged in part or as a whole, taken back, more or fewer.

use std::{collections::BTreeMap, sync::Arc};

use dynamo::{
    ident::NodeId,
    layout::{
        Layout, Member, MemberState, NodeIndex, SLOT_EMPTY,
        spans::{Span, Spans},
    },
    ring::Ring,
};

use super::random::Random;

/// Most places of nodes, those included that come later.
pub(crate) const NODES_MAX: usize = 12;

/// Slots of the partition: room for the most owners.
const SLOTS: usize = 5;

/// The first layout, owned by these.
pub(crate) fn first(owners: &[u16]) -> Layout {
    let member = |at: usize| Member {
        id: NodeId(at as u128 + 1),
        name: format!("n{at}"),
        zone: "z".to_owned(),
        weight: 1,
        addresses: Vec::new(),
        state: MemberState::Active,
    };
    Layout {
        cluster: 1,
        generation: 0,
        epoch: 1,
        parent_hash: [0; 16],
        electors: Vec::new(),
        members: (0..NODES_MAX).map(member).collect(),
        partition_bits: 0,
        replicas: SLOTS as u8,
        slots: slots(owners),
        buckets: BTreeMap::new(),
        spans: Spans::settled(1),
    }
}

/// The layout after the newest, with other owners, or the same.
pub(crate) fn next(ring: &Ring, owners: &[u16], proven: u64) -> Layout {
    let newest = ring.newest();
    let (before, mut sorted): (Vec<u16>, Vec<u16>) = (owners_of(newest), owners.to_vec());
    sorted.sort_unstable();
    let mut same = before;
    same.sort_unstable();
    let old = newest.spans.of(0);
    let since = if same == sorted { old.since } else { newest.epoch + 1 };
    let span = Span { since, oldest: old.oldest.max(proven) };
    let (epoch, parent_hash) = (newest.epoch + 1, newest.hash());
    Layout { epoch, parent_hash, slots: slots(owners), spans: Spans::uniform(span), ..Layout::clone(newest) }
}

/// The owners under a layout.
pub(crate) fn owners_of(layout: &Arc<Layout>) -> Vec<u16> {
    layout.owners(0).map(|NodeIndex(at)| at).collect()
}

/// Other owners: one exchanged, all exchanged, some more or fewer, those before the last change again, or the same in another order.
pub(crate) fn draw(random: &mut Random, ring: &Ring, alive: &[u16]) -> Vec<u16> {
    let newest = owners_of(ring.newest());
    let mut owners: Vec<u16> = newest.iter().copied().filter(|owner| alive.contains(owner)).collect();
    let mut others: Vec<u16> = alive.iter().copied().filter(|node| !owners.contains(node)).collect();
    let mut take = |random: &mut Random| (!others.is_empty()).then(|| others.swap_remove(random.below(others.len())));
    match random.below(10) {
        0..4 => {
            let at = random.below(owners.len().max(1));
            if let Some((place, node)) = owners.get_mut(at).zip(take(random)) {
                *place = node;
            }
        }
        4 => owners.iter_mut().for_each(|place| *place = take(random).unwrap_or(*place)),
        5 | 6 => {
            let before = ring.layout(ring.epoch() - 1).map(owners_of).unwrap_or_default();
            owners = before.into_iter().filter(|owner| alive.contains(owner)).collect();
        }
        7 if owners.len() > 1 => {
            let count = owners.len();
            owners.rotate_left(random.below(count));
            owners.truncate(1 + random.below(count - 1));
        }
        8 => {
            let more = 1 + random.below(2);
            owners.extend((0..more).filter_map(|_| take(random)));
            owners.truncate(SLOTS);
        }
        _ => owners.rotate_left(1),
    }
    // Places of nodes that are gone are given to others.
    let wanted = if newest.iter().all(|owner| alive.contains(owner)) { 1 } else { newest.len().min(3) };
    while owners.len() < wanted {
        match take(random) {
            Some(node) => owners.push(node),
            None => break,
        }
    }
    if owners.is_empty() { newest } else { owners }
}

fn slots(owners: &[u16]) -> Vec<u16> {
    let mut slots = owners.to_vec();
    slots.resize(SLOTS, SLOT_EMPTY);
    slots
}
