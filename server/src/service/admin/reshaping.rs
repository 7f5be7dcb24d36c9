//! What operators do with the ring: staging, planning and committing changes, looking at those that were committed and at the data
//! that moves, and draining this node. The work is [`crate::ring`]'s.

use std::sync::Arc;

use dynamo::{
    layout::Layout,
    operation::{ErrorCode, Failure},
    staging::{Change, Subject, changes_back},
};
use schema::convert::{HistoryEntry, Staging, TRANSFERS_MAX, Transfer, Transfers};

use crate::{
    node::Node,
    ring::{planning, words},
};

/// Stages changes and says what they would do.
pub(super) async fn stage(node: &Arc<Node>, changes: Vec<Change>) -> Result<Staging, Failure> {
    let layout = node.layout();
    changes.iter().try_for_each(|change| check(&layout, change))?;
    let taker = Arc::clone(node);
    unblocked(move || taker.stage_changes(changes)).await?;
    planning::staging(node).await
}

/// Forgets everything that is staged at the nodes that can be reached.
pub(super) async fn clear(node: &Arc<Node>) -> Result<Staging, Failure> {
    // First what others have: what nobody here knows of can't be forgotten.
    planning::staging(node).await?;
    let taker = Arc::clone(node);
    unblocked(move || taker.clear_staged()).await?;
    planning::staging(node).await
}

/// Stages what takes the newest layout, which has this epoch unless that is 0, back to the one before it.
pub(super) async fn abort(node: &Arc<Node>, epoch: u64) -> Result<Staging, Failure> {
    let newest = node.layout();
    let refused = |message: String| Err(Failure::with_message(ErrorCode::InvalidRequest, message));
    match epoch {
        0 => {}
        epoch if epoch < newest.epoch => {
            return refused(format!(
                "epoch {epoch} is not the newest, {} is: only that can be taken back as a whole; nothing was staged",
                newest.epoch
            ));
        }
        epoch if epoch > newest.epoch => return Err(not_here(format!("epoch {epoch} is not known here yet"))),
        _ => {}
    }
    if newest.epoch == 1 {
        return refused("the ring was never changed; nothing was staged".to_owned());
    }
    let reader = Arc::clone(node);
    let wanted = newest.epoch - 1;
    let before = unblocked(move || layout_at(&reader, wanted)).await?;
    let changes = changes_back(&before, &newest);
    if changes.is_empty() {
        return refused(format!(
            "nothing of epoch {} can be taken back: more partitions, addresses and lost copies stay; nothing was staged",
            newest.epoch
        ));
    }
    stage(node, changes).await
}

/// The layouts that this node remembers, the oldest first.
pub(super) async fn history(node: &Arc<Node>) -> Result<Vec<HistoryEntry>, Failure> {
    let reader = Arc::clone(node);
    unblocked(move || read_history(&reader)).await
}

/// The partitions that move to or from this node.
pub(super) fn transfers(node: &Node) -> Transfers {
    let (totals, transfers) = node.steward.transfers();
    let known = node.known();
    let name = |peer| known.layout().member(peer).map_or_else(String::new, |member| member.name.clone());
    let told = |transfer: dynamo::steward::Transfer| Transfer {
        partition: transfer.view.prefix,
        bits: transfer.view.bits,
        state: transfer.state.name().to_owned(),
        peer: transfer.peer.map_or_else(String::new, name),
        records: transfer.records,
        records_total: transfer.records_total,
        bytes: transfer.bytes,
        lo: transfer.view.lo,
        hi: transfer.view.hi,
        trouble: transfer.trouble.unwrap_or_default(),
    };
    Transfers {
        epoch: known.ring.epoch(),
        coming: totals.coming,
        going: totals.going,
        unsettled: totals.unsettled,
        bytes_in: totals.bytes_in,
        bytes_per_second: totals.bytes_per_second,
        transfers: transfers.into_iter().take(TRANSFERS_MAX).map(told).collect(),
        throttle: node.steward.status(node).throttle,
    }
}

/// What nobody can want, whatever else is staged. Whether all of it together makes a layout, the plan says.
fn check(layout: &Layout, change: &Change) -> Result<(), Failure> {
    let refused = |message: String| Err(Failure::with_message(ErrorCode::InvalidRequest, message));
    match change {
        Change::PartitionBits(bits) if *bits < layout.partition_bits => refused(format!(
            "there are 2^{} partitions, and they can be divided but not joined to 2^{bits}; nothing was staged",
            layout.partition_bits
        )),
        Change::Leave(node) | Change::Lost(node) if layout.index_of(*node).is_none() => {
            refused(format!("the ring has no node {node}; nothing was staged"))
        }
        Change::Join(_)
        | Change::Leave(_)
        | Change::Replace { .. }
        | Change::Lost(_)
        | Change::Reweight { .. }
        | Change::Zone { .. }
        | Change::Addresses { .. }
        | Change::Bucket { .. }
        | Change::Replicas(_)
        | Change::PartitionBits(_)
        | Change::Undo(Subject::Node(_) | Subject::Bucket(_) | Subject::Replicas | Subject::PartitionBits) => Ok(()),
    }
}

fn read_history(node: &Node) -> Result<Vec<HistoryEntry>, Failure> {
    let mut entries = Vec::new();
    let mut before: Option<Layout> = None;
    for (epoch, bytes) in node.store.layouts().map_err(|error| unreadable(&error))? {
        let layout = Layout::decode(&bytes).map_err(|error| unreadable(&error))?;
        let parent = before.as_ref().filter(|before| before.epoch + 1 == layout.epoch);
        entries.push(HistoryEntry {
            epoch,
            hash: layout.hash(),
            learned_ms: node.store.learned_ms(epoch).ok().flatten().filter(|learned_ms| *learned_ms > 0),
            nodes: words::nodes(&layout),
            partition_bits: layout.partition_bits,
            replicas: layout.replicas,
            changes: words::changes(parent, &layout),
            changed_partitions: if epoch > 1 { words::changed_partitions(&layout) } else { 0 },
        });
        before = Some(layout);
    }
    Ok(entries)
}

/// The layout of an epoch, as this node has it on disk.
fn layout_at(node: &Node, epoch: u64) -> Result<Layout, Failure> {
    let stored = node.store.layouts().map_err(|error| unreadable(&error))?;
    let Some((_, bytes)) = stored.into_iter().find(|(stored, _)| *stored == epoch) else {
        return Err(not_here(format!("this node was no member yet in epoch {epoch}, and does not know its layout")));
    };
    Layout::decode(&bytes).map_err(|error| unreadable(&error))
}

/// A refusal that another node may not have to give.
fn not_here(message: String) -> Failure {
    let message = format!("{message}; nothing was staged, another node may know");
    Failure { retryable: true, ..Failure::with_message(ErrorCode::Unavailable, message) }
}

fn unreadable(problem: &dyn std::fmt::Display) -> Failure {
    Failure::with_message(ErrorCode::Internal, format!("the layouts stored here can't be read: {problem}"))
}

/// Does what waits for the disk elsewhere: this thread has clients to serve.
async fn unblocked<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Failure::with_message(ErrorCode::Internal, error.to_string())))
}
