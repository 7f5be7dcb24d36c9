//! Having a plan decided: the same plan again, from what is staged now, and then the electors of the present layout. What was
//! planned is decided, or nothing is; and whoever was second is told what was decided instead.

use std::{sync::Arc, time::Duration};

use dynamo::{
    layout::Layout,
    operation::{ErrorCode, Failure},
    planner::{Plan, plan_hash},
    proposer::Outcome,
    ring::Ring,
    settlement::Proven,
};
use schema::convert::{Commit, Decision};
use tokio::time::timeout;

use super::{
    gathering::{Gathered, gather},
    peers::Peers,
    planning::{no_plan, plan_with, planned},
    proposing::propose,
    words,
};
use crate::node::Node;

/// How long a node that is behind waits for the layouts it lacks before it says so.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// Has a plan decided.
pub(crate) async fn commit(node: &Arc<Node>, commit: Commit) -> Result<Decision, Failure> {
    let peers = Peers::new(Arc::clone(node));
    let gathered = gather(node, &peers).await?;
    catch_up(node, gathered.epoch()).await;
    let ring = node.ring();
    let layout = Arc::clone(ring.newest());
    if commit.epoch <= layout.epoch {
        // It is too late for this plan, or it was decided already: perhaps by the very same command.
        let parent = commit.epoch.checked_sub(1).and_then(|epoch| ring.layout(epoch));
        let is_planned =
            |decided: &&Arc<Layout>| parent.is_some_and(|parent| plan_hash(parent, decided) == commit.plan);
        let decided = ring.layout(commit.epoch).filter(is_planned);
        return Ok(decision(node, decided.unwrap_or(&layout), decided.is_none()));
    }
    if commit.epoch != layout.epoch + 1 {
        return Err(refused(format!(
            "epoch {} can't be decided, for the present one is {}: plan again",
            commit.epoch, layout.epoch
        )));
    }
    let plan = same_plan(&ring, &gathered, &commit).await?;
    if plan.summary.below_quorum > 0 && !commit.accept_loss {
        return Err(refused(format!(
            "{} partitions would lose the majority of their copies, {} of them all: nothing was done; if they are lost anyway, \
             commit with --accept-loss",
            plan.summary.below_quorum, plan.summary.orphaned
        )));
    }
    match propose(node, &peers, layout, &plan.layout).await? {
        Outcome::Decided(decided) => conclude(node, &peers, &decided, false).await,
        // The same plan may have been decided in other bytes, which know more or less of what has come to rest meanwhile.
        Outcome::Conflict(decided) => {
            let is_other = plan_hash(ring.newest(), &decided) != commit.plan;
            conclude(node, &peers, &decided, is_other).await
        }
        unknown @ Outcome::Unknown => Err(Failure {
            retryable: true,
            maybe_applied: true,
            ..Failure::with_message(ErrorCode::QuorumTimeout, unknown.to_string())
        }),
        undecided @ Outcome::Undecided { .. } => {
            Err(Failure { retryable: true, ..Failure::with_message(ErrorCode::Unavailable, undecided.to_string()) })
        }
    }
}

/// What is staged makes a plan; whether it is the one that was seen.
async fn same_plan(ring: &Arc<Ring>, gathered: &Gathered, commit: &Commit) -> Result<Plan, Failure> {
    let name = |plan: &Plan| plan_hash(ring.newest(), &plan.layout);
    let plan = planned(ring, gathered).await.map_err(|error| no_plan(&error))?;
    if name(&plan) == commit.plan {
        return Ok(plan);
    }
    // Since the plan was made the last partition of an earlier change may have arrived, so that what is taken back need not go back
    // to the very nodes it came from. It may all the same: that moves more than necessary and does no harm.
    if let Ok(plan) = plan_with(ring, gathered, |_, _| Proven::Nothing).await
        && name(&plan) == commit.plan
    {
        return Ok(plan);
    }
    let now = u128::from_be_bytes(name(&plan));
    let mut message =
        format!("what is staged makes another plan now, {now:032x}; nothing was done: look at the plan again");
    if !gathered.away.is_empty() {
        message.push_str(&format!(" (no answer from {})", gathered.away.join(", ")));
    }
    Err(refused(message))
}

/// Takes in what was decided, and tells everybody.
async fn conclude(
    node: &Arc<Node>,
    peers: &Peers,
    decided: &Arc<Layout>,
    is_conflict: bool,
) -> Result<Decision, Failure> {
    let (taker, layout) = (Arc::clone(node), Layout::clone(decided));
    // It waits for the disk. Should this node fail at it, the layout is decided all the same, and is fetched again.
    let taken = tokio::task::spawn_blocking(move || taker.decide(layout)).await;
    if let Ok(Err(failure)) = taken {
        tracing::warn!(epoch = decided.epoch, why = %failure.message, "decided, and not taken in here yet");
    }
    // The question names the new epoch, so whoever is asked fetches the layout without waiting for gossip.
    if let Err(failure) = gather(node, peers).await {
        tracing::debug!(why = %failure.message, "the news of a decided layout is left to gossip");
    }
    Ok(decision(node, decided, is_conflict))
}

fn decision(node: &Node, decided: &Layout, is_conflict: bool) -> Decision {
    let ring = node.ring();
    let before = decided.epoch.checked_sub(1).and_then(|epoch| ring.layout(epoch));
    Decision {
        epoch: decided.epoch,
        hash: decided.hash(),
        is_conflict,
        changes: words::changes(before.map(|layout| &**layout), decided),
    }
}

/// Waits a moment for layouts that others have and this node has not.
async fn catch_up(node: &Arc<Node>, epoch: u64) {
    let _ = timeout(CATCH_UP_TIMEOUT, async {
        while node.ring().epoch() < epoch {
            node.wishes.wish(epoch, None);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

fn refused(message: String) -> Failure {
    Failure::with_message(ErrorCode::InvalidRequest, message)
}
