//! Coming level with a sender who knows more: the layouts of a view are fetched, and a partition's row is made to know it durably,
//! before anything is answered under it (design, ring, "Moving a partition"). Rare: once for each partition that moves, whatever
//! asks first.

use std::{sync::Arc, time::Duration};

use dynamo::{
    ident::StoreKey,
    layout::View,
    operation::{ErrorCode, Failure},
    peer::{MoveAnswer, MoveAsk, MoveQuestion, PeerOperation, PeerResult, TreeAnswer, TreeQuestion},
    replica::{MoveOperation, Refusal, WriteOperation, WriteOutcome},
    ring::Ring,
};
use tokio::time::timeout;

use crate::node::Node;

/// How long an operation may wait for the layouts of its view: a little less than its sender waits for an answer.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Whether a ring lacks a layout that a view names, or its partitions are fewer.
pub(crate) fn is_ahead(view: &View, ring: &Ring) -> bool {
    view.hi > ring.epoch() || view.bits > ring.newest().partition_bits
}

/// Whether a read was refused because its sender knows more than this node. What is Behind is found out afterwards, so that a read
/// that is not costs nothing.
pub(crate) fn is_behind(node: &Node, operation: &PeerOperation, result: &PeerResult) -> bool {
    match result {
        PeerResult::Failed(failure) if failure.code == ErrorCode::StaleView => {
            is_refused_as_behind(node, &operation.view, &operation.store_key)
        }
        PeerResult::Record(_)
        | PeerResult::Digest(_)
        | PeerResult::Absent
        | PeerResult::Stored
        | PeerResult::Stale(_)
        | PeerResult::Corrupt
        | PeerResult::Failed(_) => false,
    }
}

/// Answers a question to a hash tree, under its view also where this node has to learn of it first.
pub(crate) async fn tree(node: &Arc<Node>, question: &TreeQuestion) -> TreeAnswer {
    let answer = node.store.tree(question);
    let TreeAnswer::Failed(failure) = &answer else { return answer };
    let is_behind =
        failure.code == ErrorCode::StaleView && is_refused_as_behind(node, &question.view, &question.path.first_key());
    if !is_behind {
        return answer;
    }
    match adopt(node, question.view).await {
        Ok(_) => node.store.tree(question),
        Err(failure) => TreeAnswer::Failed(failure),
    }
}

/// Answers a question about a partition that moves.
pub(crate) async fn answer(node: &Arc<Node>, MoveQuestion { view, ask }: MoveQuestion) -> MoveAnswer {
    match ask {
        MoveAsk::Standing => standing(node, &view),
        MoveAsk::Range { after, bytes_max } => node.store.range(&view, after, bytes_max),
        MoveAsk::Adopt => match adopt(node, view).await {
            Ok(answer) => answer,
            Err(failure) => MoveAnswer::Failed(failure),
        },
    }
}

/// How this node stands with a partition.
pub(crate) fn standing(node: &Node, view: &View) -> MoveAnswer {
    node.store.standing(view.bits, view.prefix).map_or(MoveAnswer::Unknown, MoveAnswer::Standing)
}

/// Makes this node's row of a partition know a view, durably. A failure says that it does not.
pub(crate) async fn adopt(node: &Arc<Node>, view: View) -> Result<MoveAnswer, Failure> {
    catch_up(node, &view).await?;
    if node.store.standing(view.bits, view.prefix).is_none() {
        return Ok(MoveAnswer::Unknown);
    }
    match node.store.write(WriteOperation::Move(MoveOperation::Adopt { view })).await? {
        WriteOutcome::Moved { .. } => Ok(standing(node, &view)),
        WriteOutcome::Stale(mine) => Err(Failure::with_message(
            ErrorCode::StaleView,
            format!("the partition has {} bits here, and {} were asked of; fetch the ring", mine.bits, view.bits),
        )),
        WriteOutcome::Refused(failure) => Err(failure),
        WriteOutcome::Corrupt | WriteOutcome::Stored | WriteOutcome::Minted(_) => Err(Failure::new(
            ErrorCode::Internal,
            "a step of a move was answered as something else; please report this",
        )),
    }
}

/// Waits until this node has the layouts that a view names.
pub(crate) async fn catch_up(node: &Arc<Node>, view: &View) -> Result<(), Failure> {
    let mut changes = node.changes();
    let ring = Arc::clone(&changes.borrow_and_update().ring);
    if !is_ahead(view, &ring) {
        return Ok(());
    }
    node.pull(view.hi.max(ring.epoch() + 1), None);
    let arrived = changes.wait_for(|known| !is_ahead(view, &known.ring));
    match timeout(PATIENCE, arrived).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Failure {
            retryable: true,
            ..Failure::with_message(
                ErrorCode::StaleView,
                format!("this node is still fetching layout {}; nothing was done, try again", view.hi),
            )
        }),
    }
}

fn is_refused_as_behind(node: &Node, view: &View, store_key: &StoreKey) -> bool {
    matches!(node.store.check(view, store_key), Err(Refusal::Behind(_)))
}
