//! Where keys live: bucket and key → MD5 → partition → owners in order of preference, under layouts that the planner made for
//! clusters of one, three and five nodes, with equal and unequal weights and zones and several numbers of partitions.

use dynamo::{
    ident::{Id, NodeId},
    layout::{Layout, Member, MemberState},
    planner::{Desired, plan},
    settlement::Proven,
};
use quorate_tests::{golden, scenario::pattern};
use serde_json::{Value, json};

/// Nodes of the largest layout.
pub(crate) const NODES_MAX: u64 = 5;

/// A cluster: name, zone and weight of each node, N, partition bits.
type Cluster = (&'static str, &'static [(&'static str, &'static str, u32)], u8, u8);

const CLUSTERS: &[Cluster] = &[
    ("one node, one partition", &[("n0", "here", 1)], 3, 0),
    ("one node", &[("n0", "here", 1)], 3, 8),
    ("three nodes alike", &[("n0", "z0", 1), ("n1", "z1", 1), ("n2", "z2", 1)], 3, 8),
    ("three nodes, two owners", &[("n0", "z0", 1), ("n1", "z1", 2), ("n2", "z0", 3)], 2, 5),
    (
        "five nodes of unequal weight in three zones",
        &[("n0", "a", 1), ("n1", "a", 2), ("n2", "b", 3), ("n3", "c", 1), ("n4", "c", 2)],
        3,
        10,
    ),
    (
        "five nodes in one zone, five owners",
        &[("n0", "a", 1), ("n1", "a", 1), ("n2", "a", 1), ("n3", "a", 1), ("n4", "a", 1)],
        5,
        4,
    ),
];

pub(crate) fn made() -> String {
    let layouts = (1..).zip(CLUSTERS).map(|(epoch, cluster)| vector(&layout(epoch, cluster), cluster.0));
    golden::text(&json!({
        "about": "MD5(bucket, 0, key) is a key's id; its first partition_bits bits are the partition; slots has the owners of each \
                  partition as positions in members, the first preferred. Keys as in tests/scenarios.",
        "layouts": layouts.collect::<Vec<_>>(),
    }))
}

/// The steps by which a client shows the places of a layout's keys.
fn steps(vector: &Value) -> Value {
    let publish = json!({ "do": "world", "ask": { "do": "publish", "layout": vector["layout"] } });
    let explain = |key: &Value| {
        json!({ "do": "explain", "bucket": key["bucket"], "key": key["key"], "expect": {
            "id": key["id"], "partition": key["partition"], "owners": key["owners"], "epoch": vector["layout"]["epoch"],
        } })
    };
    let keys = vector["keys"].as_array().expect("a vector has keys").iter().map(explain);
    [publish].into_iter().chain(keys).collect()
}

pub(crate) fn check(vectors: &Value) {
    for vector in vectors["layouts"].as_array().expect("there are layouts") {
        // Only the first node is in every layout.
        let played = super::play(&json!({ "steps": steps(vector) }), NODES_MAX);
        played.unwrap_or_else(|slip| panic!("{}: {slip}", vector["layout"]["name"]));
    }
}

fn layout(epoch: u64, (_, nodes, replicas, bits): &Cluster) -> Layout {
    let member = |(at, (name, zone, weight)): (u128, &(&str, &str, u32))| Member {
        id: NodeId(at + 1),
        name: (*name).to_owned(),
        zone: (*zone).to_owned(),
        weight: *weight,
        addresses: vec![format!("{name}:7601")],
        state: MemberState::Active,
    };
    let desired = Desired {
        cluster: 77,
        members: (0..).zip(*nodes).map(member).collect(),
        replicas: *replicas,
        partition_bits: Some(*bits),
        buckets: Default::default(),
        replacements: Default::default(),
        proven: Proven::Everything,
    };
    Layout { epoch, ..plan(None, &desired).expect("such a cluster can be planned").layout }
}

fn vector(layout: &Layout, name: &str) -> Value {
    let place = |(bucket, key): (&str, Value)| {
        let id = Id::of(bucket.as_bytes(), &pattern::bytes(&key).expect("the keys are bytes"));
        let partition = layout.partition(&id);
        let owners = layout.owners(partition).filter_map(|node| layout.member(node)).map(|member| member.name.as_str());
        json!({ "bucket": bucket, "key": key, "id": id.to_string(), "partition": partition, "owners": owners.collect::<Vec<_>>() })
    };
    json!({ "layout": stage::notation::layout_as_json(name, layout), "keys": keys().map(place).collect::<Vec<_>>() })
}

/// Keys as people write them, of the longest and shortest lengths, of any bytes, and the same in two buckets.
fn keys() -> impl Iterator<Item = (&'static str, Value)> {
    let plain = ["greeting", "ann", "a", "ключ 🗝", "user:42:cart", "\u{0}"].map(|key| ("default", json!(key)));
    let odd = [json!({ "hex": "00ff00fe" }), json!({ "hex": "ff" }), json!({ "bytes": 1024 }), json!({ "bytes": 256 })];
    let others =
        [("carts", json!("ann")), ("carts-2", json!("ann")), ("c", json!("arts-2ann")), ("A.b_c-9", json!("k"))];
    let many = (0..12).map(|at| ("default", json!(format!("key-{at}"))));
    plain.into_iter().chain(odd.map(|key| ("default", key))).chain(others).chain(many)
}
