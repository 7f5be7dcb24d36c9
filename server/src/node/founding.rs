//! From a configuration to a layout and keys: pure derivations that give every node of a cluster the same results without
//! their talking to each other, because each has the same `[cluster]` in its file.

use std::{collections::BTreeMap, io};

use dynamo::{
    ident::{Id, NodeId},
    layout::{Layout, Member, MemberState},
    planner::{Desired, PlanError, plan},
    settlement::Proven,
    token::TokenKey,
};

use super::{ServeError, joining};
use crate::config::{ClusterMember, Config, Secret};

/// What the keys derived from the cluster's secret are for; changing a text gives new keys, so they never change.
const TOKEN_KEY_CONTEXT: &str = "quorate 2026-11 context token key, version 1";
const PEER_KEY_CONTEXT: &str = "quorate 2026-11 peer introduction key, version 1";

/// The cluster of this name.
pub(crate) fn cluster_id(name: &str) -> u128 {
    u128::from_be_bytes(Id::of(b"quorate cluster", name.as_bytes()).0)
}

/// The node of this name in the cluster of that name.
pub(crate) fn node_id(cluster: &str, member: &str) -> NodeId {
    NodeId(u128::from_be_bytes(Id::of(cluster.as_bytes(), member.as_bytes()).0))
}

/// The key that seals context tokens.
pub(crate) fn token_key(secret: &Secret) -> TokenKey {
    TokenKey(blake3::derive_key(TOKEN_KEY_CONTEXT, secret.bytes()))
}

/// What a node shows to be believed that it is `node` on `directory`: a keyed hash under the cluster's secret. Without TLS
/// it keeps out strangers and mistakes, not someone who listens on the wire.
pub(crate) fn peer_proof(secret: &Secret, cluster: u128, node: NodeId, directory: u128) -> blake3::Hash {
    let key = blake3::derive_key(PEER_KEY_CONTEXT, secret.bytes());
    let mut introduction = [0; 48];
    introduction[..16].copy_from_slice(&cluster.to_be_bytes());
    introduction[16..32].copy_from_slice(&node.0.to_be_bytes());
    introduction[32..].copy_from_slice(&directory.to_be_bytes());
    blake3::keyed_hash(&key, &introduction)
}

/// The first layout of the cluster that `config` describes, in which this node is `me`.
pub(crate) fn first_layout(config: &Config, me: NodeId) -> Result<Layout, PlanError> {
    let member = |member: ClusterMember| Member {
        id: if member.name == config.name { me } else { node_id(&config.cluster.name, &member.name) },
        name: member.name,
        zone: member.zone,
        weight: member.weight,
        addresses: vec![member.address],
        state: MemberState::Active,
    };
    let desired = Desired {
        cluster: cluster_id(&config.cluster.name),
        members: config.members().into_iter().map(member).collect(),
        replacements: BTreeMap::new(),
        replicas: config.cluster.replicas,
        partition_bits: None,
        buckets: config.buckets.clone(),
        proven: Proven::Everything,
    };
    plan(None, &desired).map(|plan| plan.layout)
}

/// Who a node is that founds a directory: in a cluster of listed members its name says it, for all of them must plan the same first
/// layout. Any other draws it by lot, so that a node which lost its directory never comes back as the one it was.
pub(super) fn new_id(config: &Config) -> Result<NodeId, ServeError> {
    if config.join.through.is_empty() && !config.cluster.members.is_empty() {
        return Ok(node_id(&config.cluster.name, &config.name));
    }
    let mut drawn = [0; 16];
    getrandom::fill(&mut drawn).map_err(|error| ServeError::System(io::Error::other(error)))?;
    Ok(NodeId(u128::from_be_bytes(drawn)))
}

/// Who a node is that founds a directory, and the layout to found it with.
pub(super) fn found(config: &Config) -> Result<(NodeId, Option<Vec<u8>>), ServeError> {
    let me = new_id(config)?;
    let layout =
        if config.join.through.is_empty() { first_layout(config, me)? } else { joining::newest_layout(config, me)? };
    Ok((me, Some(layout.encode())))
}

/// Makes sure that a directory is not taken for another node's, and says what of the configuration counts for nothing.
pub(super) fn check_name(layout: &Layout, me: NodeId, config: &Config) -> Result<(), ServeError> {
    let member = layout.members.iter().find(|member| member.id == me);
    if let Some(member) = member.filter(|member| member.name != config.name) {
        let contradictions = vec![format!("name: {:?}, but the directory is that of {:?}", config.name, member.name)];
        return Err(ServeError::Contradiction { path: config.data.clone(), contradictions });
    }
    for difference in differences(layout, me, config) {
        tracing::warn!("{difference}. The ring counts; `quorate ring stage` changes it");
    }
    Ok(())
}

/// What the configuration says otherwise than the ring has it, as sentences. The ring counts: what `[cluster]` and `[buckets]` say was
/// for the founding, and what changed since is in the ring alone.
pub(crate) fn differences(layout: &Layout, me: NodeId, config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    if layout.replicas != config.cluster.replicas {
        found.push(format!(
            "cluster.replicas: {} in the configuration, {} in the ring",
            config.cluster.replicas, layout.replicas
        ));
    }
    let present = |member: &&Member| member.id == me && member.state != MemberState::Gone;
    let listed = config.cluster.members.iter().find(|member| member.name == config.name);
    if let (Some(here), Some(listed)) = (layout.members.iter().find(present), listed) {
        let name = &here.name;
        if here.zone != listed.zone {
            let (there, here) = (&listed.zone, &here.zone);
            found.push(format!(
                "cluster.members: {name} is in zone {there} in the configuration, in {here} in the ring"
            ));
        }
        if here.weight != listed.weight {
            let (there, here) = (listed.weight, here.weight);
            found.push(format!("cluster.members: {name} has weight {there} in the configuration, {here} in the ring"));
        }
    }
    let differing = config.buckets.iter().filter(|(name, properties)| layout.bucket(name) != **properties);
    found.extend(differing.map(|(name, _)| format!("buckets.{name}: its properties differ from those in the ring")));
    found
}

#[cfg(test)]
mod tests {
    use super::{differences, first_layout, new_id, peer_proof};
    use crate::config::{ClusterMember, Config, Secret};

    fn config(names: &[&str]) -> Config {
        let mut config = Config::default();
        config.cluster.members = names
            .iter()
            .enumerate()
            .map(|(at, name)| ClusterMember {
                name: (*name).to_owned(),
                address: format!("127.0.0.1:{}", 7601 + at),
                zone: "z".into(),
                weight: 100,
            })
            .collect();
        config
    }

    #[test]
    fn every_node_plans_the_same_first_layout() {
        let mut elsewhere = config(&["n1", "n2", "n3"]);
        elsewhere.name = "n3".into();
        elsewhere.listen.set_port(7603);
        let layouts = [config(&["n1", "n2", "n3"]), elsewhere]
            .map(|config| first_layout(&config, new_id(&config).unwrap()).unwrap());
        assert_eq!(layouts[0].hash(), layouts[1].hash());
        assert_eq!((layouts[0].epoch, layouts[0].replicas), (1, 3));
    }

    #[test]
    fn what_the_configuration_says_otherwise_than_the_ring_is_named() {
        let before = config(&["n1", "n2", "n3"]);
        let me = new_id(&before).unwrap();
        let layout = first_layout(&before, me).unwrap();
        assert!(differences(&layout, me, &before).is_empty());
        let mut changed = config(&["n1", "n2", "n4"]);
        changed.cluster.replicas = 5;
        changed.cluster.members[0].zone = "other".into();
        changed.buckets.insert("b".into(), dynamo::layout::BucketProperties { r: 2, ..Default::default() });
        let found = differences(&layout, me, &changed);
        for expected in ["cluster.replicas: 5", "n1 is in zone other", "buckets.b"] {
            assert!(found.iter().any(|sentence| sentence.contains(expected)), "{expected} is missing: {found:?}");
        }
    }

    #[test]
    fn a_node_alone_or_one_that_joins_draws_by_lot_who_it_is() {
        let alone = config(&[]);
        assert_ne!(new_id(&alone).unwrap(), new_id(&alone).unwrap());
        let mut joining = config(&["n1", "n2"]);
        assert_eq!(new_id(&joining).unwrap(), super::node_id("quorate", "n1"));
        joining.join.through = vec!["127.0.0.1:1".into()];
        assert_ne!(new_id(&joining).unwrap(), super::node_id("quorate", "n1"));
    }

    #[test]
    fn a_proof_is_bound_to_node_and_directory_and_secret() {
        let node = super::node_id("c", "n1");
        let proof = peer_proof(&Secret::new("one"), 1, node, 7);
        assert_eq!(proof, peer_proof(&Secret::new("one"), 1, node, 7));
        for other in [
            peer_proof(&Secret::new("two"), 1, node, 7),
            peer_proof(&Secret::new("one"), 2, node, 7),
            peer_proof(&Secret::new("one"), 1, super::node_id("c", "n2"), 7),
            peer_proof(&Secret::new("one"), 1, node, 8),
        ] {
            assert_ne!(proof, other);
        }
    }
}
