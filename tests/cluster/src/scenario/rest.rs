//! How a cluster comes to rest once everything is healed: hints go home, owners become level, and then nothing is repaired any
//! more. Every owner is looked at by itself; no read of ours helps, unless the nodes can't repair by themselves.

use std::{
    fmt,
    time::{Duration, Instant},
};

use dynamo::layout::MemberState;
use quorate::{Client, Held, Level, NodeIndex, RepairRun};

use super::progress;
use crate::workload::BUCKET;

/// How long a cluster may take until it is level.
const REST_TIMEOUT: Duration = Duration::from_secs(90);

/// Between two looks, and between two times the nodes are asked to repair at once instead of within minutes.
const PAUSE: Duration = Duration::from_millis(300);
const ASK_EVERY: Duration = Duration::from_secs(5);

/// How long an idle cluster is watched.
const IDLE: Duration = Duration::from_secs(2);

/// How a cluster came to rest.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// How long it took.
    pub took: Duration,
    /// Whether the nodes did it by themselves; else our reads at level `all` did.
    pub is_by_itself: bool,
    /// What they repaired afterwards, with nothing left to do: 0, or they will never stop.
    pub idle_repairs: u64,
}

impl fmt::Display for Rest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.is_by_itself { "" } else { " with the help of reads" };
        write!(formatter, "at rest after {:.1?}{by}, then {} repairs when idle", self.took, self.idle_repairs)
    }
}

/// What is not at rest.
#[derive(Debug, Default, PartialEq, Eq)]
struct Open {
    /// Objects kept for nodes that are there.
    hints: u64,
    /// Keys that owners hold differently, can't verify, or could not be asked about.
    keys: Vec<String>,
    /// Nodes that did not say how they are.
    silent: u64,
}

/// Waits until no hint is kept anywhere and all owners of every key hold the same, then watches what goes on.
///
/// # Panics
/// When it takes too long.
pub async fn come_to_rest(client: &Client, keys: u64) -> Rest {
    let (started, mut asked, mut is_by_itself) = (Instant::now(), None, false);
    loop {
        if asked.is_none_or(|asked: Instant| asked.elapsed() > ASK_EVERY) {
            is_by_itself = ask_to_repair(client, false).await;
            asked = Some(Instant::now());
        }
        let open = look(client, keys, is_by_itself).await;
        if open == Open::default() {
            break;
        }
        let age = started.elapsed();
        if age >= REST_TIMEOUT {
            let held = match open.keys.first() {
                Some(key) => format!("{key} ({})", held_by_owners(client, key).await),
                None => "none".to_owned(),
            };
            let Open { hints, keys, silent } = open;
            panic!(
                "not at rest after {age:.0?}: {} keys, such as {held}; {hints} hints, {silent} nodes silent",
                keys.len()
            );
        }
        if !is_by_itself {
            for key in &open.keys {
                let _ = client.get(key).level(Level::All).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    let took = started.elapsed();
    let before = repairs(client).await;
    tokio::time::sleep(IDLE).await;
    let idle_repairs = repairs(client).await.saturating_sub(before);
    if idle_repairs > 0 {
        progress("rest", &format!("{idle_repairs} repairs although nothing is left to do"));
    }
    Rest { took, is_by_itself, idle_repairs }
}

/// Asks every node to deliver hints and compare with the others at once, and to verify every record if `scrub`. Whether they can.
pub(super) async fn ask_to_repair(client: &Client, scrub: bool) -> bool {
    let mut is_by_itself = true;
    for node in nodes(client) {
        let run = RepairRun { exchange: true, hints: true, scrub };
        if let Err(error) = client.node(node).repair(run).await {
            is_by_itself &= error.code() != "unsupported";
        }
    }
    is_by_itself
}

/// The positions of all nodes that shall be there.
pub(super) fn nodes(client: &Client) -> impl Iterator<Item = NodeIndex> + use<> {
    let layout = client.ring();
    (0..layout.members.len() as u16)
        .map(NodeIndex)
        .filter(move |node| layout.member(*node).is_some_and(|member| member.state == MemberState::Active))
}

/// The position in the layout of the test's node of this number.
pub(super) fn place(client: &Client, node: usize) -> NodeIndex {
    let (layout, name) = (client.ring(), format!("n{}", node + 1));
    let at = layout.members.iter().position(|member| member.name == name).expect("every node is a member");
    NodeIndex(at as u16)
}

async fn look(client: &Client, keys: u64, with_hints: bool) -> Open {
    let mut open = Open::default();
    for node in nodes(client) {
        match client.node(node).status().await {
            Ok(status) if with_hints => open.hints += status.peers.iter().map(|peer| peer.hints).sum::<u64>(),
            Ok(_) => {}
            Err(_) => open.silent += 1,
        }
    }
    for key in (0..keys).map(|key| format!("k{key}")) {
        if !is_level(client, &key).await {
            open.keys.push(key);
        }
    }
    open
}

/// What each owner says of a key, in words.
async fn held_by_owners(client: &Client, key: &str) -> String {
    let layout = client.ring();
    let partition = layout.partition(&dynamo::ident::StoreKey::of(BUCKET.as_bytes(), key.as_bytes()).id());
    let mut told = vec![format!("partition {partition}, {:?}", layout.spans.of(partition))];
    for owner in layout.owners(partition) {
        let name = layout.member(owner).map_or("?", |member| &member.name);
        told.push(match client.node(owner).inspect(BUCKET, key).await {
            Ok(inspection) => format!("{name}: {:?}", inspection.held),
            Err(error) => format!("{name}: {error}"),
        });
    }
    told.join("; ")
}

/// Whether all owners of a key hold the same.
async fn is_level(client: &Client, key: &str) -> bool {
    let layout = client.ring();
    let partition = layout.partition(&dynamo::ident::StoreKey::of(BUCKET.as_bytes(), key.as_bytes()).id());
    let mut held = Vec::new();
    for owner in layout.owners(partition) {
        match client.node(owner).inspect(BUCKET, key).await {
            Ok(inspection) => held.push(inspection.held),
            Err(_) => return false,
        }
    }
    !held.contains(&Held::Corrupt) && held.windows(2).all(|two| two[0] == two[1])
}

/// Everything that all nodes have repaired since they started.
async fn repairs(client: &Client) -> u64 {
    let mut sum = 0;
    for node in nodes(client) {
        let status = client.node(node).status().await.expect("a node at rest answers");
        sum += status
            .counters
            .iter()
            .filter(|counter| counter.name == "repairs")
            .map(|counter| counter.value)
            .sum::<u64>();
        if let Ok(repairs) = client.node(node).repair_status().await {
            sum += repairs.tasks.iter().map(|task| task.repaired).sum::<u64>();
        }
    }
    sum
}
