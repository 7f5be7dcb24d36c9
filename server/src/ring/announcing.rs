//! What a node has to say to the members of its ring when it starts: that it wants to enter, or that it is somewhere else now. It
//! stages that itself, and tells the members until one of them has heard it. From then on it is up to an operator, who may also
//! forget it again; therefore it is said once in the life of a process.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use dynamo::{
    layout::{Layout, Member, MemberState},
    operation::Failure,
    staging::Change,
};

use super::{gathering::gather, is_asked, peers::Peers};
use crate::node::Node;

/// The pause before the members are told again, when none of them answered.
const PAUSE: Duration = Duration::from_secs(1);

/// Stages this node if it waits to enter the ring, which one that has left does not, and its address if it has another than the ring knows.
pub(crate) async fn announce(node: Arc<Node>) {
    let layout = node.layout();
    // From now on whoever looks for a node also looks where that says it is now.
    if let Err(failure) = node.staged() {
        tracing::warn!("{}", failure.message);
    }
    if layout.index_of(node.id).is_some() {
        announce_address(&node, &layout).await;
    } else if !node.config.join.through.is_empty() && !node.had_a_place() {
        say(&node, &layout, &changes(&node, &layout)).await;
        tracing::info!(node = %node.id, "staged to join; next: quorate ring plan");
    }
    // Like the others of its thread it runs for ever.
    std::future::pending().await
}

/// Stages where this node is reached now, unless the ring has it there. The others try it there at once when they don't find it where
/// the ring says.
async fn announce_address(node: &Arc<Node>, layout: &Layout) {
    let address = node.config.own_address();
    let Some(member) = layout.index_of(node.id).and_then(|index| layout.member(index)) else { return };
    if is_asked(member.state) && !member.addresses.contains(&address) && !listens_at_one(node, member).await {
        let before = member.addresses.join(" and ");
        say(node, layout, &[Change::Addresses { node: node.id, addresses: vec![address.clone()] }]).await;
        tracing::warn!(
            "the ring has this node at {before}, and it is at {address} now: that is staged, and clients find it when it is \
             committed; next: quorate ring plan"
        );
    }
}

/// Whether an address that the ring has for this node is the one it listens at: then an operator changed it there, and not in the
/// configuration, where it says what others used to call it.
async fn listens_at_one(node: &Node, member: &Member) -> bool {
    for address in &member.addresses {
        let Ok(mut found) = tokio::net::lookup_host(address).await else { continue };
        if found.any(|found: SocketAddr| found == node.config.listen) {
            return true;
        }
    }
    false
}

/// Stages changes and tells the members, until one of them has heard.
async fn say(node: &Arc<Node>, layout: &Layout, changes: &[Change]) {
    while let Err(failure) = stage(node, layout, changes).await {
        tracing::debug!(why = %failure.message, "no member of the ring knows yet what this node has to say");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn stage(node: &Arc<Node>, layout: &Layout, changes: &[Change]) -> Result<(), Failure> {
    let peers = Peers::new(Arc::clone(node));
    let known = gather(node, &peers).await?.staged.pending(layout);
    let wanted: Vec<Change> = changes.iter().filter(|change| !known.contains(change)).cloned().collect();
    if !wanted.is_empty() {
        let taker = Arc::clone(node);
        let staged = tokio::task::spawn_blocking(move || taker.stage_changes(wanted)).await;
        staged.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    }
    let gathered = gather(node, &peers).await?;
    let unheard = "no member answered; they are told again";
    let is_alone = node.known().others().next().is_none();
    let heard = is_alone || gathered.answers.iter().any(|(id, _)| *id != node.id);
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
