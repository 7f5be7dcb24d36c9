//! Failure domains as the map sees them: which zone each node stands in, as small numbers, and how many replicas of one
//! partition a zone may hold. The rule is one number for the planner, which keeps it, and for the check, which demands it.

use alloc::{collections::BTreeMap, vec, vec::Vec};

use super::{Member, MemberState};

/// The zone number of a node that takes no part: it is leaving.
pub(crate) const ZONE_NONE: u16 = u16::MAX;

/// The zones of the active nodes, numbered in the order of their names.
#[derive(Debug)]
pub(crate) struct Zones {
    /// By node position: the number of its zone, [`ZONE_NONE`] for a leaving node.
    pub of_member: Vec<u16>,
    /// By zone: how many active nodes stand in it.
    pub nodes: Vec<u32>,
}

impl Zones {
    pub(crate) fn new(members: &[Member]) -> Self {
        let active = || members.iter().filter(|member| member.state == MemberState::Active);
        let mut numbers: BTreeMap<&str, u16> = active().map(|member| (member.zone.as_str(), 0)).collect();
        for (number, next) in numbers.values_mut().zip(0..) {
            *number = next;
        }
        let mut nodes = vec![0; numbers.len()];
        let of_member = members
            .iter()
            .map(|member| match member.state {
                MemberState::Active => {
                    let zone = numbers[member.zone.as_str()];
                    nodes[usize::from(zone)] += 1;
                    zone
                }
                MemberState::Leaving | MemberState::Lost | MemberState::Gone => ZONE_NONE,
            })
            .collect();
        Self { of_member, nodes }
    }

    /// How many active nodes there are.
    pub(crate) fn active(&self) -> usize {
        self.nodes.iter().map(|&nodes| nodes as usize).sum()
    }

    /// How many owners each partition has: N, or every active node while there are fewer.
    pub(crate) fn owners(&self, replicas: u8) -> usize {
        usize::from(replicas).min(self.active())
    }

    /// How many replicas of one partition a zone may hold: as few as places can be found for. That is one while there are N
    /// zones; with fewer, the losses of a zone's failure are still as small as they can be.
    pub(crate) fn limit(&self, replicas: u8) -> usize {
        let owners = self.owners(replicas);
        let places = |limit: usize| self.nodes.iter().map(|&nodes| limit.min(nodes as usize)).sum::<usize>();
        (1..owners).find(|&limit| places(limit) >= owners).unwrap_or(owners)
    }
}
