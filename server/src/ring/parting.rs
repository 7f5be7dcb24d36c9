//! The last thing a node says that leaves the ring: that everything it held is elsewhere, and it may be stopped. Said once in the log;
//! its status says it for as long as it runs.

use std::{sync::Arc, time::Duration};

use dynamo::layout::MemberState;

use crate::node::Node;

/// How often a node that leaves looks whether it is done: rarely enough for any number of rows, often enough for who waits for it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Waits until this node leaves and has handed over everything, and says so; again if it comes back and leaves once more.
pub(crate) async fn part(node: Arc<Node>) {
    let mut changes = node.changes();
    loop {
        let is_leaving = |layout: &dynamo::layout::Layout| {
            let member = layout.index_of(node.id).and_then(|index| layout.member(index));
            member.is_some_and(|member| member.state == MemberState::Leaving)
        };
        if changes.wait_for(|known| is_leaving(known.layout())).await.is_err() {
            // The node ends, and like the others of its thread this runs for ever.
            return std::future::pending().await;
        }
        while is_leaving(&node.layout()) && !node.has_handed_over() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if is_leaving(&node.layout()) {
            tracing::info!("everything this node held is elsewhere: it has left the ring, and may be stopped");
        }
        if changes.wait_for(|known| !is_leaving(known.layout())).await.is_err() {
            return std::future::pending().await;
        }
    }
}
