//! A node that was started to enter a ring says so: it stages itself, and tells the members until one of them has heard it. From then on
//! it is up to an operator, who may also forget it again; therefore it is said once in the life of a process.

use std::{sync::Arc, time::Duration};

use dynamo::{
    layout::{Layout, Member, MemberState},
    operation::Failure,
    staging::Change,
};

use super::{gathering::gather, peers::Peers};
use crate::node::Node;

/// The pause before the members are told again, when none of them answered.
const PAUSE: Duration = Duration::from_secs(1);

/// Stages this node if it waits to enter the ring.
pub(crate) async fn announce(node: Arc<Node>) {
    let layout = node.layout();
    if !node.config.join.through.is_empty() && layout.index_of(node.id).is_none() {
        while let Err(failure) = stage_myself(&node, &layout).await {
            tracing::debug!(why = %failure.message, "no member of the ring knows yet that this node waits");
            tokio::time::sleep(PAUSE).await;
        }
        tracing::info!(node = %node.id, "staged to join; next: quorate ring plan");
    }
    // Like the others of its thread it runs for ever.
    std::future::pending().await
}

async fn stage_myself(node: &Arc<Node>, layout: &Layout) -> Result<(), Failure> {
    let peers = Peers::new(Arc::clone(node));
    let known = gather(node, &peers).await?.staged.pending(layout);
    let wanted: Vec<Change> = changes(node, layout).into_iter().filter(|change| !known.contains(change)).collect();
    if !wanted.is_empty() {
        let taker = Arc::clone(node);
        let staged = tokio::task::spawn_blocking(move || taker.stage_changes(wanted)).await;
        staged.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    }
    let gathered = gather(node, &peers).await?;
    let unheard = "no member answered; they are told again";
    let heard = gathered.answers.iter().any(|(index, _)| node.known().me != Some(*index));
    heard.then_some(()).ok_or_else(|| Failure::new(dynamo::operation::ErrorCode::Unavailable, unheard))
}

/// That this node joins, and whom it replaces.
fn changes(node: &Node, layout: &Layout) -> Vec<Change> {
    let newcomer = node.config.newcomer();
    let member = Member {
        id: node.id,
        name: newcomer.name,
        zone: newcomer.zone,
        weight: newcomer.weight,
        addresses: vec![newcomer.address],
        state: MemberState::Active,
    };
    let replaces = &node.config.join.replaces;
    let old = layout.members.iter().find(|member| member.name == *replaces && member.state == MemberState::Active);
    let replace = old.map(|old| Change::Replace { old: old.id, new: node.id });
    [Change::Join(member)].into_iter().chain(replace).collect()
}
