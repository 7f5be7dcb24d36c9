//! From a configuration to a layout and keys: pure derivations that give every node of a cluster the same results without
//! their talking to each other, because each has the same `[cluster]` in its file.

use dynamo::{
    ident::{Id, NodeId},
    layout::{Layout, Member, MemberState},
    planner::{Desired, PlanError, plan},
    token::TokenKey,
};

use crate::config::{Config, Secret};

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

/// The first layout of the cluster that `config` describes.
pub(crate) fn first_layout(config: &Config) -> Result<Layout, PlanError> {
    let member = |member: crate::config::ClusterMember| Member {
        id: node_id(&config.cluster.name, &member.name),
        name: member.name,
        zone: member.zone,
        weight: member.weight,
        addresses: vec![member.address],
        state: MemberState::Active,
    };
    let desired = Desired {
        cluster: cluster_id(&config.cluster.name),
        members: config.members().into_iter().map(member).collect(),
        replicas: config.cluster.replicas,
        partition_bits: None,
        buckets: config.buckets.clone(),
        replacements: Default::default(),
        is_settled: true,
    };
    plan(None, &desired).map(|plan| plan.layout)
}

/// Where the configuration contradicts the layout the node runs on, as sentences. The ring can't change yet, so every
/// difference is either a mistake in the file or a change that has to wait.
pub(crate) fn contradictions(stored: &Layout, configured: &Layout) -> Vec<String> {
    let mut found = Vec::new();
    if stored.cluster != configured.cluster {
        found.push("cluster.name: the data belongs to a cluster of another name".to_owned());
    }
    if stored.replicas != configured.replicas {
        found.push(format!(
            "cluster.replicas: {} in the configuration, {} in the layout",
            configured.replicas, stored.replicas
        ));
    }
    for member in &stored.members {
        match configured.members.iter().find(|other| other.name == member.name) {
            None => {
                found.push(format!("cluster.members: {} is in the layout and not in the configuration", member.name))
            }
            Some(other) => found.extend(member_contradictions(member, other)),
        }
    }
    for member in &configured.members {
        if !stored.members.iter().any(|other| other.name == member.name) {
            found.push(format!("cluster.members: {} is in the configuration and not in the layout", member.name));
        }
    }
    let names =
        stored.buckets.keys().chain(configured.buckets.keys().filter(|name| !stored.buckets.contains_key(*name)));
    for name in names.filter(|name| stored.bucket(name) != configured.bucket(name)) {
        found.push(format!("buckets.{name}: its properties differ from those in the layout"));
    }
    found
}

fn member_contradictions(stored: &Member, configured: &Member) -> Vec<String> {
    let name = &stored.name;
    let mut found = Vec::new();
    if stored.zone != configured.zone {
        found.push(format!(
            "cluster.members: {name} is in zone {} in the configuration, in {} in the layout",
            configured.zone, stored.zone
        ));
    }
    if stored.weight != configured.weight {
        found.push(format!(
            "cluster.members: {name} has weight {} in the configuration, {} in the layout",
            configured.weight, stored.weight
        ));
    }
    if stored.addresses != configured.addresses {
        found.push(format!(
            "cluster.members: {name} is at {} in the configuration, at {} in the layout",
            configured.addresses.join(", "),
            stored.addresses.join(", ")
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{contradictions, first_layout, peer_proof};
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
        let layouts = [config(&["n1", "n2", "n3"]), elsewhere].map(|config| first_layout(&config).unwrap());
        assert_eq!(layouts[0].hash(), layouts[1].hash());
        assert_eq!((layouts[0].epoch, layouts[0].replicas), (1, 3));
    }

    #[test]
    fn what_contradicts_the_stored_layout_is_named() {
        let stored = first_layout(&config(&["n1", "n2", "n3"])).unwrap();
        assert!(contradictions(&stored, &stored).is_empty());
        let mut changed = config(&["n1", "n2", "n4"]);
        changed.cluster.replicas = 5;
        changed.cluster.members[0].zone = "other".into();
        changed.buckets.insert("b".into(), dynamo::layout::BucketProperties { r: 2, ..Default::default() });
        let found = contradictions(&stored, &first_layout(&changed).unwrap());
        for expected in
            ["cluster.replicas: 5", "n1 is in zone other", "n3 is in the layout", "n4 is in the conf", "buckets.b"]
        {
            assert!(found.iter().any(|sentence| sentence.contains(expected)), "{expected} is missing: {found:?}");
        }
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
