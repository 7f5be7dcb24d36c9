//! The map of the cluster, as TypeScript shows it.

use napi::bindgen_prelude::BigInt;
use napi_derive::napi;
use quorate::{Layout, MemberState};

/// The map of the cluster that the client follows now.
#[napi(object, object_from_js = false)]
pub struct Ring {
    /// Raised when a whole cluster is restored from a backup.
    pub generation: BigInt,
    /// Counts the maps of a generation.
    pub epoch: BigInt,
    /// How many partitions the keys are divided into.
    pub partitions: u32,
    /// How many owners a partition has.
    pub replicas: u32,
    /// The nodes.
    pub nodes: Vec<RingNode>,
}

/// A node as the ring knows it.
#[napi(object, object_from_js = false)]
pub struct RingNode {
    /// What people call it.
    pub name: String,
    /// The failure domain it stands in.
    pub zone: String,
    /// Where it listens, most preferred first.
    pub addresses: Vec<String>,
    /// Its share of the data relative to the others.
    pub weight: u32,
    /// Whether it is giving up its data.
    pub leaving: bool,
}

impl From<&Layout> for Ring {
    fn from(layout: &Layout) -> Self {
        let node = |member: &quorate::Member| RingNode {
            name: member.name.clone(),
            zone: member.zone.clone(),
            addresses: member.addresses.clone(),
            weight: member.weight,
            leaving: member.state == MemberState::Leaving,
        };
        Self {
            generation: layout.generation.into(),
            epoch: layout.epoch.into(),
            partitions: layout.partitions(),
            replicas: layout.replicas.into(),
            nodes: layout.members.iter().map(node).collect(),
        }
    }
}
