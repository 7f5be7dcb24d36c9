//! The slots while they are being planned: what is kept of the old ones, then zones, then nodes, then coordinators.

use alloc::{vec, vec::Vec};

use super::{
    apportion::{Party, ideal, whole},
    bins::{Bins, NONE},
    level::Level,
    random::Random,
    roster::Inherited,
    tenants::Tenants,
};
use crate::layout::{
    Layout, MemberState, SLOT_EMPTY,
    zones::{ZONE_NONE, Zones},
};

/// What every zone and every node shall hold.
pub(super) struct Targets {
    /// By zone.
    pub zones: Vec<u32>,
    /// By node.
    pub nodes: Vec<u32>,
    /// By node, in fractions: the best that the rule about zones allows.
    pub ideal: Vec<f64>,
    /// The most slots of a partition that a zone may hold, by zone.
    pub zone_limit: Vec<u8>,
}

impl Targets {
    /// Divides the slots among zones, and those of each zone among its nodes, by weight.
    pub(super) fn new(layout: &Layout, zones: &Zones, held: &[u32]) -> Self {
        let partitions = layout.partitions();
        let total = partitions * zones.owners(layout.replicas) as u32;
        let limit = zones.limit(layout.replicas) as u32;
        let mut nodes_of = vec![Vec::new(); zones.nodes.len()];
        for (node, &zone) in zones.of_member.iter().enumerate().filter(|&(_, &zone)| zone != ZONE_NONE) {
            nodes_of[usize::from(zone)].push(node);
        }
        let party =
            |&node: &usize| Party { weight: u64::from(layout.members[node].weight), cap: partitions, held: held[node] };
        let parties_of: Vec<Vec<Party>> = nodes_of.iter().map(|nodes| nodes.iter().map(party).collect()).collect();
        let zone_limit: Vec<u32> = zones.nodes.iter().map(|&nodes| nodes.min(limit)).collect();
        let zone_parties: Vec<Party> = parties_of
            .iter()
            .zip(&zone_limit)
            .map(|(parties, &limit)| Party {
                weight: parties.iter().map(|party| party.weight).sum(),
                cap: limit * partitions,
                held: parties.iter().map(|party| party.held).sum(),
            })
            .collect();
        let mut targets = Self {
            zones: whole(total, &zone_parties),
            nodes: vec![0; layout.members.len()],
            ideal: vec![0.0; layout.members.len()],
            zone_limit: zone_limit.iter().map(|&limit| limit as u8).collect(),
        };
        let zone_ideal = ideal(f64::from(total), &zone_parties);
        for (zone, (nodes, parties)) in nodes_of.iter().zip(&parties_of).enumerate() {
            for (&node, target) in nodes.iter().zip(whole(targets.zones[zone], parties)) {
                targets.nodes[node] = target;
            }
            for (&node, share) in nodes.iter().zip(ideal(zone_ideal[zone], parties)) {
                targets.ideal[node] = share;
            }
        }
        targets
    }
}

/// The slots of a layout in the making, `owners` for each partition.
pub(super) struct Draft<'a> {
    layout: &'a Layout,
    owners: usize,
    order: Vec<u32>,
    /// The zone of each slot, [`NONE`] while it is open.
    slot_zones: Vec<u16>,
    /// The node of each slot, [`NONE`] while it is open.
    slot_nodes: Vec<u16>,
    zones: Bins,
    nodes: Bins,
    random: Random,
}

impl<'a> Draft<'a> {
    /// Starts from what can stay of the old slots.
    pub(super) fn new(layout: &'a Layout, zones: &Zones, targets: &Targets, inherited: &Inherited<'_>) -> Self {
        let mut random = Random::new(layout.cluster, layout.epoch);
        let owners = zones.owners(layout.replicas);
        let slots = layout.partitions() as usize * owners;
        let mut draft = Self {
            layout,
            owners,
            order: random.shuffled(layout.partitions()),
            slot_zones: vec![NONE; slots],
            slot_nodes: vec![NONE; slots],
            zones: Bins {
                group: vec![0; zones.nodes.len()],
                limit: targets.zone_limit.clone(),
                target: targets.zones.clone(),
                held: vec![0; zones.nodes.len()],
            },
            nodes: Bins {
                group: zones.of_member.clone(),
                limit: vec![1; layout.members.len()],
                target: targets.nodes.clone(),
                held: inherited.held(layout.members.len()),
            },
            random,
        };
        draft.keep(inherited);
        draft
    }

    /// Places every slot, and returns the slots of the layout.
    ///
    /// Where there are N zones, every node gets exactly its target: inside a zone nothing stands in the way. With fewer, a
    /// node can only be in partitions which its zone is in, and after a drastic change to very uneven weights some nodes may
    /// miss their targets by a few per cent of the partitions; the summary shows it.
    pub(super) fn settle(mut self, inherited: &Inherited<'_>) -> Vec<u16> {
        Level {
            owners: self.owners,
            order: &self.order,
            groups: &[],
            slots: &mut self.slot_zones,
            bins: &mut self.zones,
            tenants: Some(Tenants::new(&mut self.slot_nodes, &mut self.nodes)),
            random: &mut self.random,
        }
        .settle();
        Level {
            owners: self.owners,
            order: &self.order,
            groups: &self.slot_zones,
            slots: &mut self.slot_nodes,
            bins: &mut self.nodes,
            tenants: None,
            random: &mut self.random,
        }
        .settle();
        self.choose_coordinators(inherited);
        self.into_slots()
    }

    /// Copies the old owners that may stay, in their order. The other slots stay open, without a zone: whether a leaving
    /// node's slot is filled from its own zone again is for the zones' targets to say.
    fn keep(&mut self, inherited: &Inherited<'_>) {
        let mut kept = Vec::new();
        for at in 0..self.order.len() {
            let partition = self.order[at];
            kept.clear();
            kept.extend(inherited.owners(partition).filter(|&node| self.is_active(node)));
            while let Some(excess) = self.excess(&kept) {
                let node = kept.remove(excess);
                self.nodes.held[usize::from(node)] -= 1;
            }
            let first = partition as usize * self.owners;
            for (slot, &node) in (first..).zip(&kept) {
                let zone = self.nodes.group[usize::from(node)];
                self.slot_nodes[slot] = node;
                self.slot_zones[slot] = zone;
                self.zones.held[usize::from(zone)] += 1;
            }
        }
        for (held, member) in self.nodes.held.iter_mut().zip(&self.layout.members) {
            if member.state != MemberState::Active {
                *held = 0;
            }
        }
    }

    /// The place in `kept` of an owner that can't stay, because its zone has more than it may or there are more owners than
    /// slots: of those it could be, the one whose node has most above its target.
    fn excess(&self, kept: &[u16]) -> Option<usize> {
        let zone = |node: u16| self.nodes.group[usize::from(node)];
        let crowd = |node: u16| kept.iter().filter(|&&other| zone(other) == zone(node)).count();
        let crowded = |node: u16| crowd(node) > usize::from(self.zones.limit[usize::from(zone(node))]);
        let any_crowded = kept.iter().any(|&node| crowded(node));
        if !any_crowded && kept.len() <= self.owners {
            return None;
        }
        let candidates = kept.iter().enumerate().filter(|&(_, &node)| !any_crowded || crowded(node));
        candidates.max_by_key(|&(_, &node)| self.nodes.fullness(node, 0)).map(|(at, _)| at)
    }

    fn is_active(&self, node: u16) -> bool {
        self.nodes.group[usize::from(node)] != ZONE_NONE
    }

    /// Puts the default coordinator of each partition first: the old one if it still is an owner, else the owner that
    /// coordinates least for its size. Then owners which coordinate too much pass it on; that moves no data.
    fn choose_coordinators(&mut self, inherited: &Inherited<'_>) {
        let mut coordinated = vec![0_u32; self.nodes.held.len()];
        let mut open = Vec::new();
        for (partition, owners) in (0..).zip(self.slot_nodes.chunks_exact_mut(self.owners)) {
            let before = inherited.owners(partition).next();
            match owners.iter().position(|&node| Some(node) == before) {
                Some(at) => {
                    owners.swap(0, at);
                    coordinated[usize::from(owners[0])] += 1;
                }
                None => open.push(partition),
            }
        }
        let held = &self.nodes.held;
        let burden = |coordinated: &[u32], node: u16, more: u32| {
            (u64::from(coordinated[usize::from(node)] + more) << 32) / u64::from(held[usize::from(node)].max(1))
        };
        let pass_on = |owners: &mut [u16], coordinated: &mut [u32]| {
            let least = (0..owners.len()).min_by_key(|&at| burden(coordinated, owners[at], 1)).unwrap_or(0);
            if burden(coordinated, owners[least], 1) < burden(coordinated, owners[0], 0) {
                coordinated[usize::from(owners[0])] -= 1;
                coordinated[usize::from(owners[least])] += 1;
                owners.swap(0, least);
            }
        };
        for partition in open {
            let first = partition as usize * self.owners;
            let owners = &mut self.slot_nodes[first..first + self.owners];
            coordinated[usize::from(owners[0])] += 1;
            pass_on(owners, &mut coordinated);
        }
        for &partition in &self.order {
            let first = partition as usize * self.owners;
            pass_on(&mut self.slot_nodes[first..first + self.owners], &mut coordinated);
        }
    }

    fn into_slots(self) -> Vec<u16> {
        let replicas = usize::from(self.layout.replicas);
        if self.owners == replicas {
            return self.slot_nodes;
        }
        let empty = core::iter::repeat_n(SLOT_EMPTY, replicas - self.owners);
        let partitions = self.slot_nodes.chunks_exact(self.owners);
        partitions.flat_map(|owners| owners.iter().copied().chain(empty.clone())).collect()
    }
}
