//! What `Kv.status` says: how this node is, with what an operator should know in sentences.

use std::{fs, sync::atomic::Ordering};

use dynamo::{
    hint::HintUsage,
    ident::NodeId,
    layout::{Member, MemberState, NodeIndex},
};
use schema::convert::{Counter, PeerStatus, ReplyHeader, Status};

use crate::{
    counters::Counters,
    gossip::Standing,
    node::{Known, Node, PeerGauge, Visible},
    store::{self, Health, HintStatus, Pressure},
};

/// The status of a node.
pub(super) fn status(node: &Node, header: ReplyHeader) -> Status {
    let (known, store) = (node.known(), node.store.status());
    let peers: Vec<Seen<'_>> = known.others().map(|(index, member)| Seen::of(&known, index, member)).collect();
    let mut counters = counters(node);
    counters.extend(store_counters(&store));
    let hints = node.store.hints().status();
    counters.extend(hint_counters(&hints));
    counters.extend(node.gossip.counters().map(|(name, value, help)| counter(name, value, help)));
    counters.extend(node.fetches.counters().map(|(name, value, help)| counter(name, value, help)));
    counters.extend(background_counters(node));
    Status {
        header,
        node: node.me().map_or(u16::MAX, |me| me.0),
        name: node.config.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: state(node, &store).to_owned(),
        uptime_seconds: node.started.elapsed().as_secs(),
        epoch: known.ring.epoch(),
        partitions: u32::try_from(known.owned_partitions().count()).unwrap_or(u32::MAX),
        keys: store.records().unwrap_or_default(),
        disk_bytes: store.shards.iter().map(|shard| shard.disk_bytes).sum::<u64>() + hints.disk_bytes,
        disk_bytes_max: node.config.max_bytes,
        resident_bytes: resident_bytes(),
        connections: u32::try_from(node.connections.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
        warnings: warnings(node, &known, &store, &hints, &peers),
        peers: peers
            .into_iter()
            .map(|Seen { index, member, visible, round_trip_micros }| {
                let kept = kept_for(&hints, member.id);
                PeerStatus {
                    gossip: node.gossip.standing(member.id).map_or("", Standing::word).to_owned(),
                    hints: kept.records,
                    hint_bytes: kept.bytes,
                    node: index,
                    state: visible.word().to_owned(),
                    round_trip_micros,
                }
            })
            .collect(),
        counters,
    }
}

/// How another node looks from here.
struct Seen<'k> {
    index: NodeIndex,
    member: &'k Member,
    visible: Visible,
    round_trip_micros: u32,
}

impl<'k> Seen<'k> {
    /// As the worker that sees it worst sees it.
    fn of(known: &Known, index: NodeIndex, member: &'k Member) -> Self {
        let gauges = known.gauges(index);
        let visible = gauges.clone().map(PeerGauge::visible).max().unwrap_or(Visible::Unknown);
        let round_trip_micros = gauges.map(PeerGauge::round_trip_micros).max().unwrap_or_default();
        Self { index, member, visible, round_trip_micros }
    }
}

/// What is kept here for another node.
fn kept_for(hints: &HintStatus, target: NodeId) -> HintUsage {
    let kept = hints.backlog.iter().find(|(kept_for, _)| *kept_for == target);
    kept.map_or_else(HintUsage::default, |(_, usage)| *usage)
}

fn state(node: &Node, store: &store::Status) -> &'static str {
    if node.refuses_clients() {
        "draining"
    } else if !store.is_sound() {
        "failed"
    } else if is_read_only(store) {
        "read-only"
    } else {
        "serving"
    }
}

fn is_read_only(store: &store::Status) -> bool {
    store.shards.iter().any(|shard| shard.pressure != Pressure::Free)
}

fn warnings(node: &Node, known: &Known, store: &store::Status, hints: &HintStatus, peers: &[Seen<'_>]) -> Vec<String> {
    let mut warnings = Vec::new();
    let layout = known.layout();
    let nodes = layout.members.iter().filter(|member| member.state == MemberState::Active).count();
    if nodes < usize::from(layout.replicas) {
        warnings.push(format!(
            "the cluster has {nodes} node(s) and N is {}: every key has only {nodes} cop(ies), and quorums are smaller",
            layout.replicas
        ));
    }
    let mine = layout.members.iter().find(|member| member.id == node.id);
    match mine.map(|member| member.state) {
        Some(MemberState::Active) => {}
        Some(MemberState::Leaving) if node.has_handed_over() => {
            warnings.push("this node has left the ring, everything it held is elsewhere: it may be stopped".to_owned());
        }
        Some(MemberState::Leaving) => {
            warnings.push("this node is leaving the ring: it hands over what it holds".to_owned())
        }
        Some(MemberState::Lost) => warnings.push("this node was given up for lost: no quorum counts it".to_owned()),
        Some(MemberState::Gone) => warnings.push("this node has left the ring and may be stopped".to_owned()),
        None if node.had_a_place() => {
            warnings.push("this node has no place in the ring any more, and may be stopped".to_owned());
        }
        None => warnings
            .push("this node has no place in the ring yet: `quorate ring plan`, then `quorate ring commit`".to_owned()),
    }
    if node.config.cluster.secret.is_default() {
        warnings.push("cluster.secret is not set: anyone can pass for a node or make up contexts".to_owned());
    }
    if !node.config.listen.ip().is_loopback() {
        warnings.push(format!("{} is reachable without TLS or authentication of clients", node.config.listen));
    }
    if node.gossips() && !node.gossip.is_running() {
        warnings
            .push("gossip does not run: deaths and returns of nodes are noticed only by calls; see the log".to_owned());
    }
    if node.gossip.has_twin() {
        warnings.push("another process uses this node's name: stop one of the two".to_owned());
    }
    for (number, shard) in store.shards.iter().enumerate() {
        match &shard.health {
            Health::Sound => {}
            Health::Damaged(what) => warnings.push(format!(
                "shard {number} is damaged ({what}): what verifies is still read, nothing is written; replace the node"
            )),
            Health::Failed(what) => warnings.push(format!(
                "shard {number} can't commit ({what}): it is read-only until the node is started again; check the disk"
            )),
        }
    }
    if is_read_only(store) {
        warnings.push("storage is (nearly) full: writes are refused, reads and deletes go on; free space".to_owned());
    }
    match &hints.health {
        Health::Sound => {}
        Health::Damaged(what) | Health::Failed(what) => warnings.push(format!(
            "the hints can't be used ({what}): this node stands in for nobody; what it kept may be the only copy, keep the \
             directory"
        )),
    }
    if hints.aside > 0 {
        warnings.push(format!(
            "{} hint(s) can't be verified and were set aside; `quorate repair run --exchange` brings their targets level",
            hints.aside
        ));
    }
    for Seen { member, visible, .. } in peers {
        let name = &member.name;
        match visible {
            Visible::Down => warnings.push(format!("node {name} is down, as seen from here")),
            Visible::Suspect => warnings.push(format!("node {name} does not answer in time, as seen from here")),
            Visible::Unknown | Visible::Up => {}
        }
    }
    warnings
}

fn counters(node: &Node) -> Vec<Counter> {
    Counters::sum(&node.counters).into_iter().map(|(name, value, help)| counter(name, value, help)).collect()
}

fn store_counters(store: &store::Status) -> Vec<Counter> {
    let sum = |of: fn(&store::ShardStatus) -> u64| store.shards.iter().map(of).sum();
    vec![
        counter("store_commits", sum(|shard| shard.commits), "commits of the store"),
        counter(
            "store_writes",
            sum(|shard| shard.writes),
            "writes of those; divide by commits for the mean group size",
        ),
        counter(
            "store_commit_micros",
            sum(|shard| u64::try_from(shard.commit_time.as_micros()).unwrap_or(u64::MAX)),
            "time spent in commits, all shards together",
        ),
        counter("store_waiting_writes", sum(|shard| shard.waiting_writes as u64), "writes waiting for the store now"),
    ]
}

fn hint_counters(hints: &HintStatus) -> Vec<Counter> {
    vec![
        counter("hints_kept", hints.kept, "objects taken in for nodes that were away"),
        counter("hints_refused", hints.refused, "of those that were refused because too much was kept already"),
        counter("hints_delivered", hints.delivered, "hints deleted because their targets have them on disk"),
        counter("hints_waiting", hints.backlog.iter().map(|(_, usage)| usage.records).sum(), "hints kept now"),
    ]
}

fn background_counters(node: &Node) -> Vec<Counter> {
    let traffic = node.steward.traffic();
    vec![
        counter("background_tree_calls", traffic.tree_calls, "calls of this node's repairs to others' hash trees"),
        counter("background_tree_bytes", traffic.tree_bytes, "bytes of those, questions and answers"),
        counter("background_object_calls", traffic.object_calls, "calls of this node's repairs to others' replicas"),
        counter("background_object_bytes", traffic.object_bytes, "bytes of those, objects sent and received"),
    ]
}

fn counter(name: &str, value: u64, help: &str) -> Counter {
    Counter { name: name.to_owned(), value, help: help.to_owned() }
}

/// Bytes of memory this process has in use; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    kibibytes.map_or(0, |kibibytes: u64| kibibytes * 1024)
}
