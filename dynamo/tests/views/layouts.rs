//! A chain of layouts in which one half of the partitions changes hands again and again, all of it alike, so that whoever judges needs no
//! more than a list of owner sets by name. The other half belongs to everyone in turn: whoever stands in is found there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dynamo::{
    ident::NodeId,
    layout::{
        Layout, Member, MemberState, NodeIndex,
        spans::{Span, Spans},
    },
    ring::Ring,
};

use crate::random::Random;

pub(crate) const NODES: u16 = 8;
const BITS: u8 = 4;

/// All that was ever agreed upon.
pub(crate) struct Chain {
    /// By epoch, from 1 on.
    layouts: Vec<Arc<Layout>>,
    /// By name: the owners.
    pub(crate) configurations: BTreeMap<u64, BTreeSet<u16>>,
}

/// What the next layout is made from.
#[derive(Clone)]
struct Draft {
    owners: Vec<u16>,
    span: Span,
    bits: u8,
    lost: BTreeSet<u16>,
}

impl Chain {
    pub(crate) fn new(random: &mut Random) -> Self {
        let count = *random.pick(&[1, 3, 3, 3, 5]);
        let mut draft =
            Draft { owners: some(random, count), span: Span::settled(1), bits: BITS, lost: BTreeSet::new() };
        let mut chain = Self { layouts: Vec::new(), configurations: BTreeMap::new() };
        chain.push(&draft);
        for _ in 0..random.below(6) {
            chain.change(&mut draft, random);
            chain.push(&draft);
        }
        chain
    }

    pub(crate) fn newest(&self) -> u64 {
        self.layouts.len() as u64
    }

    pub(crate) fn layout(&self, epoch: u64) -> &Arc<Layout> {
        &self.layouts[epoch as usize - 1]
    }

    /// The ring of somebody who knows the layouts up to this epoch.
    pub(crate) fn ring(&self, epoch: u64) -> Arc<Ring> {
        let mut ring = Ring::new(Arc::clone(&self.layouts[0]));
        for layout in &self.layouts[1..epoch as usize] {
            ring.push(Arc::clone(layout)).expect("each is the child of the one before");
        }
        Arc::new(ring)
    }

    /// Nodes that are given up for lost as of this epoch.
    pub(crate) fn lost(&self, epoch: u64) -> BTreeSet<u16> {
        let members = (0..).zip(&self.layout(epoch).members);
        members.filter(|(_, member)| member.state == MemberState::Lost).map(|(node, _)| node).collect()
    }

    /// The names from `lo` to `hi`.
    pub(crate) fn names(&self, lo: u64, hi: u64) -> Vec<u64> {
        self.configurations.range(lo..=hi).map(|(name, _)| *name).collect()
    }

    /// The name that the owners under this layout have.
    pub(crate) fn name(&self, epoch: u64) -> u64 {
        self.layout(epoch).spans.of(0).since
    }

    fn change(&mut self, draft: &mut Draft, random: &mut Random) {
        let epoch = self.newest() + 1;
        let before: BTreeSet<u16> = draft.owners.iter().copied().collect();
        let able: Vec<u16> = (0..NODES).filter(|node| !before.contains(node) && !draft.lost.contains(node)).collect();
        match random.below(8) {
            // The number of partitions doubles, or the order changes: the owners keep their name.
            0 if draft.bits < BITS + 2 => draft.bits += 1,
            1 => draft.owners.rotate_left(1),
            2 if draft.owners.len() > 1 => drop(draft.owners.pop()),
            3 if able.len() > 1 && draft.owners.len() < 5 => draft.owners.extend(&able[..2]),
            4 if able.len() >= 3 => draft.owners = able[..3].to_vec(),
            _ if !able.is_empty() => {
                let slot = random.below(draft.owners.len());
                let old = std::mem::replace(&mut draft.owners[slot], *random.pick(&able));
                if random.chance(300) {
                    draft.lost.insert(old);
                }
            }
            _ => {}
        }
        if draft.owners.iter().copied().collect::<BTreeSet<u16>>() != before {
            draft.span.since = epoch;
        }
        let mut names = self.names(draft.span.oldest, draft.span.since);
        if draft.span.since == epoch {
            names.push(epoch);
        }
        let least = names.len().saturating_sub(4);
        draft.span.oldest = names[least + random.below(names.len() - least)];
    }

    fn push(&mut self, draft: &Draft) {
        let member = |node: u16| Member {
            id: NodeId(u128::from(node) + 100),
            name: format!("n{node}"),
            zone: "z".into(),
            weight: 1,
            addresses: Vec::new(),
            state: if draft.lost.contains(&node) { MemberState::Lost } else { MemberState::Active },
        };
        let half = 1_u32 << (draft.bits - 1);
        let count = draft.owners.len();
        let others = |partition: u32| {
            let alive: Vec<u16> = (0..NODES).filter(|node| !draft.lost.contains(node)).collect();
            (0..count).map(|slot| alive[(partition as usize + slot) % alive.len()]).collect::<Vec<u16>>()
        };
        let slots = (0..half).flat_map(|_| draft.owners.clone()).chain((half..2 * half).flat_map(others)).collect();
        let spans = (0..2 * half).map(|partition| if partition < half { draft.span } else { Span::settled(1) });
        let layout = Layout {
            cluster: 1,
            generation: 0,
            epoch: self.newest() + 1,
            parent_hash: self.layouts.last().map_or([0; 16], |parent| parent.hash()),
            electors: vec![NodeIndex(0)],
            members: (0..NODES).map(member).collect(),
            partition_bits: draft.bits,
            replicas: count as u8,
            slots,
            buckets: BTreeMap::new(),
            spans: Spans::from_partitions(spans),
        };
        self.configurations.insert(draft.span.since, draft.owners.iter().copied().collect());
        self.layouts.push(Arc::new(layout));
    }
}

fn some(random: &mut Random, count: usize) -> Vec<u16> {
    let mut nodes: Vec<u16> = (0..NODES).collect();
    (0..count).map(|_| nodes.swap_remove(random.below(nodes.len()))).collect()
}
