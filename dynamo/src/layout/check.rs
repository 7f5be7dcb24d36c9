//! The rules a layout must keep, and the check of them. Everyone checks every layout: the planner what it planned, an
//! elector what it is asked to accept, a node what it reads from its disk, a client what it is sent.
//!
//! The check says whether a layout is *safe* to follow. Whether it is well balanced is for the planner's summary to say.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use super::{
    BUCKETS_MAX, Layout, Member, MemberState, NODES_MAX, NodeIndex, PARTITION_BITS_MAX, REPLICAS_MAX, SLOT_EMPTY,
    zones::Zones,
};
use crate::ident::{NodeId, is_bucket_name};

/// Longest name of a node or a zone in bytes: a host name label or a path of short words. They stand in tables people read.
pub const NAME_BYTES_MAX: usize = 64;

/// Most addresses of a node: a few networks, each with a few protocols.
pub const ADDRESSES_MAX: usize = 8;

/// Longest address in bytes: a DNS name of 253, brackets or a final dot, a colon and a port.
pub const ADDRESS_BYTES_MAX: usize = 261;

/// From this many nodes on a layout may have seven electors instead of five: losing three of so many at once is no longer
/// unlikely, and two more promises cost nothing beside what the ring change itself moves.
pub const NODES_FOR_SEVEN_ELECTORS: usize = 1000;

/// The most electors of any layout.
pub const ELECTORS_MAX: usize = 7;

/// A rule that a layout breaks. Nothing was changed; the layout must not be used, and whoever made it must make it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// The first layout has epoch 1.
    EpochZero,
    /// More partition bits than [`PARTITION_BITS_MAX`].
    PartitionBits(u8),
    /// N is 0 or above [`REPLICAS_MAX`].
    Replicas(u8),
    /// More nodes than [`NODES_MAX`].
    TooManyNodes(usize),
    /// Nobody to own anything: no node, or all are leaving.
    NoActiveNode,
    /// A node's name is empty, too long, or has characters other than printable ASCII without spaces.
    NodeName(String),
    /// A zone's name breaks the same rules.
    ZoneName(String),
    /// Two nodes with one name.
    DuplicateName(String),
    /// Two entries with one identity.
    DuplicateId(NodeId),
    /// A node of weight 0.
    WeightZero(String),
    /// A node has too many addresses, or one that is not a short `host:port`.
    Address(String),
    /// The number of electors is even, zero or too large for the number of active nodes.
    ElectorCount(usize),
    /// An elector is no active node of the layout, or is named twice.
    Elector(NodeIndex),
    /// More buckets than [`BUCKETS_MAX`].
    TooManyBuckets(usize),
    /// A bucket's name is not 1 to 64 bytes of `[A-Za-z0-9._-]`.
    BucketName(String),
    /// A bucket's r or w is above N.
    BucketQuorum(String),
    /// There are not exactly N slots for each partition.
    SlotCount {
        /// What the number of partitions and N ask for.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A partition has fewer owners than there are nodes for, or an owner behind an empty slot.
    Owners(u32),
    /// A slot of the partition names no node.
    UnknownOwner(u32),
    /// A slot of the partition names a node that is leaving.
    LeavingOwner(u32),
    /// A node is named twice among the owners of the partition.
    OwnerTwice(u32),
    /// More owners of the partition stand in one zone than need to.
    ZoneCrowded(u32),
    /// The epochs since when partitions have their owners contradict each other or the layout's own.
    Spans,
}

impl Layout {
    /// Checks every rule; the first one that is broken is the error. Costs a few milliseconds for 10,000 nodes.
    pub fn check(&self) -> Result<(), LayoutError> {
        self.check_frame()?;
        self.check_members()?;
        self.check_electors()?;
        self.check_buckets()?;
        if !self.spans.check(self.partitions(), self.epoch) {
            return Err(LayoutError::Spans);
        }
        self.check_slots()
    }

    /// The numbers that the rest is measured by.
    pub(crate) fn check_frame(&self) -> Result<(), LayoutError> {
        if self.epoch == 0 {
            return Err(LayoutError::EpochZero);
        }
        if self.partition_bits > PARTITION_BITS_MAX {
            return Err(LayoutError::PartitionBits(self.partition_bits));
        }
        if !(1..=REPLICAS_MAX).contains(&self.replicas) {
            return Err(LayoutError::Replicas(self.replicas));
        }
        Ok(())
    }

    pub(crate) fn check_members(&self) -> Result<(), LayoutError> {
        if self.members.len() > NODES_MAX {
            return Err(LayoutError::TooManyNodes(self.members.len()));
        }
        if self.active_members() == 0 {
            return Err(LayoutError::NoActiveNode);
        }
        self.members.iter().try_for_each(check_member)?;
        let present = self.members.iter().filter(|member| member.state != MemberState::Gone);
        let mut names: Vec<&str> = present.map(|member| member.name.as_str()).collect();
        if let Some(name) = first_twice(&mut names) {
            return Err(LayoutError::DuplicateName(name.to_string()));
        }
        let mut ids: Vec<NodeId> = self.members.iter().map(|member| member.id).collect();
        first_twice(&mut ids).map_or(Ok(()), |id| Err(LayoutError::DuplicateId(id)))
    }

    pub(crate) fn check_buckets(&self) -> Result<(), LayoutError> {
        if self.buckets.len() > BUCKETS_MAX {
            return Err(LayoutError::TooManyBuckets(self.buckets.len()));
        }
        self.buckets.iter().try_for_each(|(name, properties)| {
            if !is_bucket_name(name.as_bytes()) {
                Err(LayoutError::BucketName(name.clone()))
            } else if properties.r > self.replicas || properties.w > self.replicas {
                Err(LayoutError::BucketQuorum(name.clone()))
            } else {
                Ok(())
            }
        })
    }

    fn check_electors(&self) -> Result<(), LayoutError> {
        let count = self.electors.len();
        if count.is_multiple_of(2) || count > electors_max(self.active_members()) {
            return Err(LayoutError::ElectorCount(count));
        }
        for (position, &elector) in self.electors.iter().enumerate() {
            let active = self.member(elector).is_some_and(|member| member.state == MemberState::Active);
            if !active || self.electors[..position].contains(&elector) {
                return Err(LayoutError::Elector(elector));
            }
        }
        Ok(())
    }

    fn check_slots(&self) -> Result<(), LayoutError> {
        let expected = self.partitions() as usize * usize::from(self.replicas);
        if self.slots.len() != expected {
            return Err(LayoutError::SlotCount { expected, found: self.slots.len() });
        }
        let zones = Zones::new(&self.members);
        let mut rows = (0..).zip(self.slots.chunks_exact(usize::from(self.replicas)));
        rows.try_for_each(|(partition, slots)| {
            let is_moving = !self.spans.of(partition).is_settled();
            self.check_partition(partition, slots, &zones, is_moving)
        })
    }

    /// Checks the owners of one partition. `is_moving` if older configurations of it may be active.
    pub(crate) fn check_partition(
        &self,
        partition: u32,
        slots: &[u16],
        zones: &Zones,
        is_moving: bool,
    ) -> Result<(), LayoutError> {
        let is_lost = |slot: &u16| {
            *slot != SLOT_EMPTY && self.member(NodeIndex(*slot)).is_some_and(|member| member.state == MemberState::Lost)
        };
        // Where a partition has been moved too often to be moved again, owners that were given up for lost stay until it can be.
        // They count for nobody, so how many remain, and where, is as it may.
        let is_bereft = is_moving && slots.iter().any(is_lost);
        let expected = if is_bereft {
            slots.iter().position(|slot| *slot == SLOT_EMPTY).unwrap_or(slots.len())
        } else {
            zones.owners(self.replicas)
        };
        let (filled, empty) = slots.split_at(expected);
        if filled.contains(&SLOT_EMPTY) || empty.iter().any(|&slot| slot != SLOT_EMPTY) {
            return Err(LayoutError::Owners(partition));
        }
        for (position, &slot) in filled.iter().enumerate() {
            match self.member(NodeIndex(slot)).map(|member| member.state) {
                None => return Err(LayoutError::UnknownOwner(partition)),
                Some(MemberState::Lost) if is_bereft => {}
                Some(MemberState::Leaving | MemberState::Lost | MemberState::Gone) => {
                    return Err(LayoutError::LeavingOwner(partition));
                }
                Some(MemberState::Active) => {}
            }
            if filled[..position].contains(&slot) {
                return Err(LayoutError::OwnerTwice(partition));
            }
        }
        let zone = |slot: &u16| zones.of_member[usize::from(*slot)];
        let crowd = |slot: &u16| filled.iter().filter(|other| zone(other) == zone(slot)).count();
        let limit = zones.limit(self.replicas);
        match filled.iter().any(|slot| crowd(slot) > limit) {
            true if !is_bereft => Err(LayoutError::ZoneCrowded(partition)),
            _ if filled.iter().all(is_lost) => Err(LayoutError::LeavingOwner(partition)),
            true | false => Ok(()),
        }
    }

    fn active_members(&self) -> usize {
        self.members.iter().filter(|member| member.state == MemberState::Active).count()
    }
}

/// How many electors a layout may have: the largest odd number up to five, or seven in a large cluster, that there are
/// active nodes for. An odd number, because one more would add a node to wait for and none that may fail.
pub fn electors_max(active_nodes: usize) -> usize {
    let most = if active_nodes >= NODES_FOR_SEVEN_ELECTORS { ELECTORS_MAX } else { 5 };
    most.min(active_nodes.saturating_sub(1) | 1)
}

pub(crate) fn check_member(member: &Member) -> Result<(), LayoutError> {
    if !is_plain(&member.name, NAME_BYTES_MAX) {
        return Err(LayoutError::NodeName(member.name.clone()));
    }
    if !is_plain(&member.zone, NAME_BYTES_MAX) {
        return Err(LayoutError::ZoneName(member.zone.clone()));
    }
    if member.weight == 0 {
        return Err(LayoutError::WeightZero(member.name.clone()));
    }
    if member.addresses.len() > ADDRESSES_MAX || !member.addresses.iter().all(|address| is_address(address)) {
        return Err(LayoutError::Address(member.name.clone()));
    }
    Ok(())
}

/// Whether `name` is 1 to `bytes_max` printable ASCII characters without spaces: it will stand in tables, logs and shells.
fn is_plain(name: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_address(address: &str) -> bool {
    let port = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
    is_plain(address, ADDRESS_BYTES_MAX) && address.rsplit_once(':').is_some_and(port)
}

/// The smallest value that `values` has more than once.
fn first_twice<T: Ord + Copy>(values: &mut [T]) -> Option<T> {
    values.sort_unstable();
    values.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

impl fmt::Display for LayoutError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the layout must not be used: ")?;
        match self {
            Self::EpochZero => formatter.write_str("its epoch is 0, but the first is 1"),
            Self::PartitionBits(bits) => {
                write!(formatter, "it has {bits} partition bits, at most {PARTITION_BITS_MAX} are allowed")
            }
            Self::Replicas(replicas) => write!(formatter, "N is {replicas}, choose 1 to {REPLICAS_MAX}"),
            Self::TooManyNodes(count) => write!(formatter, "it has {count} nodes, at most {NODES_MAX} are allowed"),
            Self::NoActiveNode => formatter.write_str("no node is active, so nobody could own anything"),
            Self::NodeName(name) => {
                write!(formatter, "node name {name:?} is not 1 to {NAME_BYTES_MAX} printable characters without spaces")
            }
            Self::ZoneName(zone) => {
                write!(formatter, "zone name {zone:?} is not 1 to {NAME_BYTES_MAX} printable characters without spaces")
            }
            Self::DuplicateName(name) => write!(formatter, "two nodes are called {name:?}"),
            Self::DuplicateId(id) => write!(formatter, "node {id} is in it twice"),
            Self::WeightZero(name) => write!(formatter, "node {name:?} has weight 0; mark it as leaving instead"),
            Self::Address(name) => write!(
                formatter,
                "node {name:?} has an address that is not host:port of at most {ADDRESS_BYTES_MAX} bytes, or more than \
                 {ADDRESSES_MAX} addresses"
            ),
            Self::ElectorCount(count) => {
                write!(formatter, "it has {count} electors; it needs an odd number that its active nodes allow")
            }
            Self::Elector(NodeIndex(index)) => {
                write!(formatter, "elector {index} is not an active node, or is named twice")
            }
            Self::TooManyBuckets(count) => {
                write!(formatter, "it has {count} buckets, at most {BUCKETS_MAX} are allowed")
            }
            Self::BucketName(name) => write!(formatter, "bucket name {name:?} is not 1 to 64 of [A-Za-z0-9._-]"),
            Self::BucketQuorum(name) => write!(formatter, "bucket {name:?} has r or w above N"),
            Self::SlotCount { expected, found } => write!(formatter, "it has {found} slots instead of {expected}"),
            Self::Owners(partition) => write!(formatter, "partition {partition} has too few or too many owners"),
            Self::UnknownOwner(partition) => write!(formatter, "an owner of partition {partition} does not exist"),
            Self::LeavingOwner(partition) => write!(formatter, "an owner of partition {partition} is leaving"),
            Self::OwnerTwice(partition) => write!(formatter, "partition {partition} has the same owner twice"),
            Self::ZoneCrowded(partition) => {
                write!(formatter, "partition {partition} has more owners in one zone than the zones make necessary")
            }
            Self::Spans => formatter.write_str("the epochs since when its partitions have their owners can't be"),
        }
    }
}

impl core::error::Error for LayoutError {}
