//! Changes of the ring as operators stage them.

use capnp::struct_list;
use dynamo::{
    ident::{NodeId, is_bucket_name},
    layout::check::ADDRESSES_MAX,
    operation::Failure,
    staging::{Change, Subject, WORDS_MAX},
};

use super::super::{
    invalid, list_length, malformed,
    ring::{decode_bucket, decode_member, encode_bucket, encode_member},
    sixteen, strict_text, too_large,
};
use crate::admin_capnp as wire;

/// Writes changes to a list of as many.
pub fn encode_changes(mut list: struct_list::Builder<'_, wire::ring_change::Owned>, changes: &[Change]) {
    for (at, change) in (0..).zip(changes) {
        encode_change(list.reborrow().get(at), change);
    }
}

/// Reads changes. One that is not understood refuses all: half of what somebody wants is not what he wants.
pub fn decode_changes(list: struct_list::Reader<'_, wire::ring_change::Owned>) -> Result<Vec<Change>, Failure> {
    if list.len() as usize > WORDS_MAX {
        return Err(too_large("changes", WORDS_MAX, list.len() as usize, "changes"));
    }
    list.iter().map(decode_change).collect()
}

fn encode_change(mut wire: wire::ring_change::Builder<'_>, change: &Change) {
    if let Some(node) = node_of(change) {
        wire.set_node(&node.0.to_be_bytes());
    }
    match change {
        Change::Join(member) => encode_member(wire.init_join(), member),
        Change::Leave(_) => wire.set_leave(()),
        Change::Replace { old, .. } => wire.set_replace(&old.0.to_be_bytes()),
        Change::Lost(_) => wire.set_lost(()),
        Change::Reweight { weight, .. } => wire.set_reweight(*weight),
        Change::Zone { zone, .. } => wire.set_zone(zone),
        Change::Addresses { addresses, .. } => {
            let mut list = wire.init_addresses(list_length(addresses.len()));
            for (at, address) in (0..).zip(addresses) {
                list.set(at, address);
            }
        }
        Change::Bucket { name, properties } => encode_bucket(wire.init_bucket(), name, properties),
        Change::Replicas(replicas) => wire.set_replicas(*replicas),
        Change::PartitionBits(bits) => wire.set_partition_bits(*bits),
        Change::Undo(subject) => {
            let mut undo = wire.init_undo();
            match subject {
                Subject::Node(_) => undo.set_node(()),
                Subject::Bucket(name) => undo.set_bucket(name),
                Subject::Replicas => undo.set_replicas(()),
                Subject::PartitionBits => undo.set_partition_bits(()),
            }
        }
    }
}

/// Whom a change names beside what it says.
fn node_of(change: &Change) -> Option<NodeId> {
    match change {
        Change::Join(member) => Some(member.id),
        Change::Leave(node) | Change::Lost(node) | Change::Undo(Subject::Node(node)) => Some(*node),
        Change::Replace { new, .. } => Some(*new),
        Change::Reweight { node, .. } | Change::Zone { node, .. } | Change::Addresses { node, .. } => Some(*node),
        Change::Bucket { .. }
        | Change::Replicas(_)
        | Change::PartitionBits(_)
        | Change::Undo(Subject::Bucket(_) | Subject::Replicas | Subject::PartitionBits) => None,
    }
}

fn decode_change(wire: wire::ring_change::Reader<'_>) -> Result<Change, Failure> {
    use wire::ring_change::Which;
    let node = || sixteen("changes.node", wire.get_node()).map(NodeId);
    let unknown = |number: u16| invalid("changes", format_args!("kind {number} is unknown to this node"));
    Ok(match wire.which().map_err(|error| unknown(error.0))? {
        Which::Join(member) => {
            let member = decode_member(member.map_err(|error| malformed("changes.join", error))?)?;
            if member.id != node()? {
                return Err(invalid("changes.join", "it names another node than the change"));
            }
            Change::Join(member)
        }
        Which::Leave(()) => Change::Leave(node()?),
        Which::Replace(old) => Change::Replace { old: NodeId(sixteen("changes.replace", old)?), new: node()? },
        Which::Lost(()) => Change::Lost(node()?),
        Which::Reweight(weight) => Change::Reweight { node: node()?, weight },
        Which::Zone(zone) => Change::Zone { node: node()?, zone: strict_text("changes.zone", zone)? },
        Which::Addresses(addresses) => {
            let list = addresses.map_err(|error| malformed("changes.addresses", error))?;
            if list.len() as usize > ADDRESSES_MAX {
                return Err(too_large("changes.addresses", ADDRESSES_MAX, list.len() as usize, "addresses"));
            }
            let addresses = list.iter().map(|address| strict_text("changes.addresses", address));
            Change::Addresses { node: node()?, addresses: addresses.collect::<Result<_, _>>()? }
        }
        Which::Bucket(bucket) => {
            let bucket = bucket.map_err(|error| malformed("changes.bucket", error))?;
            let (name, properties) = decode_bucket(bucket)?;
            Change::Bucket { name, properties }
        }
        Which::Replicas(replicas) => Change::Replicas(replicas),
        Which::PartitionBits(bits) => Change::PartitionBits(bits),
        Which::Undo(undo) => {
            let undo = undo.map_err(|error| malformed("changes.undo", error))?;
            Change::Undo(decode_subject(undo, node)?)
        }
    })
}

fn decode_subject(
    wire: wire::undo_change::Reader<'_>,
    node: impl Fn() -> Result<NodeId, Failure>,
) -> Result<Subject, Failure> {
    use wire::undo_change::Which;
    let unknown = |number: u16| invalid("changes.undo", format_args!("kind {number} is unknown to this node"));
    Ok(match wire.which().map_err(|error| unknown(error.0))? {
        Which::Node(()) => Subject::Node(node()?),
        Which::Bucket(name) => {
            let name = strict_text("changes.undo.bucket", name)?;
            if !is_bucket_name(name.as_bytes()) {
                return Err(invalid("changes.undo.bucket", "a name has 1 to 64 bytes of [A-Za-z0-9._-]"));
            }
            Subject::Bucket(name)
        }
        Which::Replicas(()) => Subject::Replicas,
        Which::PartitionBits(()) => Subject::PartitionBits,
    })
}
