//! Looking into the client: where a key would go, and what has happened so far.

use std::{rc::Rc, sync::atomic::Ordering, time::Duration};

use dynamo::{
    ident::Id,
    layout::{NodeIndex, View},
    operation::Address,
};

use crate::{Error, core::Shared, driver::jobs::ThreadView};

/// Where a key lives, and who would coordinate it now.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// MD5(bucket, 0, key): its place on the ring.
    pub id: Id,
    /// The partition that falls into.
    pub partition: u32,
    /// The configurations of the partition that are active.
    pub view: View,
    /// The epoch of the layout that says so.
    pub epoch: u64,
    /// The owners in order of preference.
    pub owners: Vec<NodeStats>,
    /// Where a read would go now. Reads choose between owners, so the next may go elsewhere.
    pub read_coordinator: Option<NodeIndex>,
    /// Where a write would go now.
    pub write_coordinator: Option<NodeIndex>,
}

/// A node as this client sees it.
#[derive(Clone, Debug)]
pub struct NodeStats {
    /// Its position in the layout.
    pub node: NodeIndex,
    /// What people call it.
    pub name: String,
    /// Whether there is a connection.
    pub connected: bool,
    /// Whether operations are sent there: nothing went wrong lately, or nothing was ever sent.
    pub usable: bool,
    /// Operations under way to it.
    pub in_flight: u32,
    /// A moving average of the time it takes for a batch.
    pub latency: Duration,
    /// How busy it says it is: 0 idle, 255 about to refuse.
    pub load: u8,
}

/// What a client has done since it was made, and what is before it.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Operations that succeeded.
    pub succeeded: u64,
    /// Operations that failed.
    pub failed: u64,
    /// Operations that nobody waited for any more.
    pub cancelled: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Calls that were made, each with a batch of operations.
    pub calls: u64,
    /// Operations in these calls.
    pub operations_sent: u64,
    /// Connections that broke.
    pub disconnects: u64,
    /// Times the layout was asked for again.
    pub refreshes: u64,
    /// Operations under way.
    pub in_flight: usize,
    /// Operations that wait for others to end.
    pub waiting: usize,
    /// What is left of the budget for retries: a retry costs up to 14, a success brings back 1.
    pub retry_tokens: u32,
    /// The epoch of the layout.
    pub epoch: u64,
    /// The nodes of the layout.
    pub nodes: Vec<NodeStats>,
}

pub(crate) async fn stats(shared: &Shared) -> Result<Stats, Error> {
    let layout = shared.layout();
    let refreshes = shared.refreshes.load(Ordering::Relaxed);
    let mut stats = Stats { epoch: layout.epoch, refreshes, ..Stats::default() };
    for thread in 0..shared.queues.len() {
        let view = shared.on_thread(thread, |driver| std::future::ready(driver.view())).await?;
        stats.succeeded += view.counts.succeeded;
        stats.failed += view.counts.failed;
        stats.cancelled += view.counts.cancelled;
        stats.retries += view.counts.retries;
        stats.calls += view.counts.calls;
        stats.operations_sent += view.counts.operations_sent;
        stats.disconnects += view.counts.disconnects;
        stats.in_flight += view.in_flight;
        stats.waiting += view.waiting;
        stats.retry_tokens += view.budget_tokens;
        merge_nodes(&mut stats.nodes, &view, |at| {
            layout.members.get(at).map(|member| member.name.clone()).unwrap_or_default()
        });
    }
    Ok(stats)
}

pub(crate) async fn explain(shared: &Shared, address: Address) -> Result<Explanation, Error> {
    let id = address.store_key.id();
    let layout = shared.layout();
    let partition = layout.partition(&id);
    let work = move |driver: Rc<crate::driver::Driver>| std::future::ready((driver.view(), driver.coordinators(&id)));
    let thread = shared.thread_of_key(&address.store_key);
    let (view, (read_coordinator, write_coordinator)) = shared.on_thread(thread, work).await?;
    let mut nodes = Vec::new();
    merge_nodes(&mut nodes, &view, |at| layout.members.get(at).map(|member| member.name.clone()).unwrap_or_default());
    let owners = layout.owners(partition).filter_map(|node| nodes.get(usize::from(node.0)).cloned()).collect();
    Ok(Explanation {
        id,
        partition,
        view: layout.view(partition),
        epoch: layout.epoch,
        owners,
        read_coordinator,
        write_coordinator,
    })
}

fn merge_nodes(nodes: &mut Vec<NodeStats>, view: &ThreadView, name: impl Fn(usize) -> String) {
    for (at, seen) in view.nodes.iter().enumerate() {
        let latency = Duration::from_secs_f32(seen.latency_micros.max(0.0) / 1e6);
        match nodes.get_mut(at) {
            Some(node) => {
                node.connected |= seen.connected;
                node.usable &= seen.usable;
                node.in_flight += seen.in_flight;
                node.latency = node.latency.max(latency);
                node.load = node.load.max(seen.load);
            }
            None => nodes.push(NodeStats {
                node: NodeIndex(at as u16),
                name: name(at),
                connected: seen.connected,
                usable: seen.usable,
                in_flight: seen.in_flight,
                latency,
                load: seen.load,
            }),
        }
    }
}
