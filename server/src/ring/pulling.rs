//! Fetching the layouts that this node lacks, one after the other, from those who showed that they have them and then from
//! anybody: newer ones that were agreed upon meanwhile, and older ones that a newcomer needs to know whom partitions belonged
//! to. Each must follow the one before it by its hash, so a node that has one of them right has all of them right. Of a newer one only
//! what has changed is asked for ([`super::fetching`]).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use dynamo::{
    ident::NodeId,
    layout::{Layout, Member},
    operation::{ErrorCode, Failure},
    ring::Ring,
};
use schema::convert::LayoutRequest;
use tokio::time::{sleep, timeout};

use super::peers::Peers;
use crate::{node::Node, worker::dialling::jitter};

/// Nodes that are asked for one layout beside those who showed that they have it, before a pause.
const ASKED_MAX: usize = 5;

/// The pause before the same layout is asked for again.
const PAUSE: Duration = Duration::from_millis(250);

/// How often to ask somebody for the newest epoch although nobody showed one: where gossip does not run, and nobody calls.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The same for a node that has no place in the ring: nobody tells it anything, and it waits to be let in.
const LOOK_EVERY_OUTSIDE: Duration = Duration::from_millis(500);

/// Which way a layout is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// The next after the newest here.
    Newer(u64),
    /// The one before the oldest here.
    Older(u64),
}

/// Nobody who was asked gave a layout.
struct Nobody {
    /// Why the last of them did not.
    last: Failure,
    /// Somebody who has newer ones, but not this one any more.
    forgotten_by: Option<Member>,
}

/// Fetches what is wished for, for ever.
pub(crate) async fn keep(node: Arc<Node>) {
    let peers = Peers::new(Arc::clone(&node));
    let (mut newest, mut sources) = (0, BTreeSet::new());
    loop {
        let wish = node.wishes.take();
        if wish.epoch > newest {
            sources.clear();
        }
        newest = newest.max(wish.epoch);
        sources.extend(wish.sources);
        let Some(missing) = missing(&node.ring(), newest) else {
            sources.clear();
            rest(&node, &peers).await;
            continue;
        };
        if let Err(failure) = fetch(&node, &peers, &sources, missing).await {
            tracing::debug!(?missing, why = %failure.message, "a layout could not be fetched yet");
            let _ = timeout(PAUSE, node.wishes.told()).await;
            sleep(PAUSE.mul_f64((jitter() % 100) as f64 / 1_000.0)).await;
        }
    }
}

/// Waits until something is wished for, or it is time to look.
async fn rest(node: &Arc<Node>, peers: &Peers) {
    let pause = match node.me() {
        Some(_) => {
            // The next question may be far away.
            peers.hang_up();
            LOOK_EVERY
        }
        None => LOOK_EVERY_OUTSIDE,
    };
    if timeout(pause, node.wishes.told()).await.is_ok() {
        return;
    }
    let known = node.known();
    let others: Vec<&Member> = known.others().map(|(_, member)| member).collect();
    if let Some(member) = others.get(jitter() as usize % others.len().max(1)) {
        let question = LayoutRequest { epoch: known.ring.epoch(), offset: u64::MAX, parent_hash: None };
        match peers.layout(member, question).await {
            Ok(piece) if piece.newest > known.ring.epoch() => node.pull(piece.newest, Some(member.id)),
            Ok(_) => {}
            Err(failure) => {
                tracing::debug!(peer = member.name, why = %failure.message, "did not tell its newest epoch")
            }
        }
    }
    node.tellings.forget_idle();
    let forgetter = Arc::clone(node);
    if let Ok(Err(failure)) = tokio::task::spawn_blocking(move || forgetter.forget_old_layouts()).await {
        tracing::warn!(why = %failure.message, "old layouts could not be forgotten");
    }
}

/// What is missing between the oldest layout that is wanted and the newest that was heard of.
fn missing(ring: &Ring, newest: u64) -> Option<Missing> {
    let oldest = ring.layouts().next().map_or(1, |layout| layout.epoch);
    if newest > ring.epoch() {
        Some(Missing::Newer(ring.epoch() + 1))
    } else if oldest > ring.oldest_wanted() {
        Some(Missing::Older(oldest - 1))
    } else {
        None
    }
}

/// Fetches one layout and takes it in.
async fn fetch(node: &Arc<Node>, peers: &Peers, sources: &BTreeSet<NodeId>, missing: Missing) -> Result<(), Failure> {
    let layout = match anybodys(node, peers, sources, missing).await {
        Ok(layout) => layout,
        Err(nobody) => match (missing, nobody.forgotten_by) {
            (Missing::Newer(_), Some(member)) => return leap(node, peers, &member).await,
            (Missing::Newer(_), None) | (Missing::Older(_), _) => return Err(nobody.last),
        },
    };
    let taker = Arc::clone(node);
    // It waits for the disk, and this thread has other things to do.
    let taken = tokio::task::spawn_blocking(move || match missing {
        Missing::Newer(_) => taker.decide(layout),
        Missing::Older(_) => taker.remember(layout),
    });
    taken.await.unwrap_or_else(|error| Err(Failure::with_message(ErrorCode::Internal, error.to_string())))
}

/// Goes on with the newest layout of a node, for nobody has the next one any more.
async fn leap(node: &Arc<Node>, peers: &Peers, from: &Member) -> Result<(), Failure> {
    let newest = newest_epoch(peers, from).await?;
    let layout = peers.source(from).whole(newest).await?;
    let taker = Arc::clone(node);
    let taken = tokio::task::spawn_blocking(move || taker.leap(layout));
    taken.await.unwrap_or_else(|error| Err(Failure::with_message(ErrorCode::Internal, error.to_string())))
}

/// The epoch of the newest layout that a node has.
async fn newest_epoch(peers: &Peers, of: &Member) -> Result<u64, Failure> {
    let question = LayoutRequest { epoch: 0, offset: u64::MAX, parent_hash: None };
    Ok(peers.layout(of, question).await?.newest)
}

/// The layout that is missing, from the first node that gives it.
async fn anybodys(
    node: &Arc<Node>,
    peers: &Peers,
    sources: &BTreeSet<NodeId>,
    missing: Missing,
) -> Result<Layout, Nobody> {
    let known = node.known();
    let (epoch, before) = match missing {
        Missing::Newer(epoch) => (epoch, epoch.checked_sub(1).and_then(|before| known.ring.layout(before))),
        Missing::Older(epoch) => (epoch, None),
    };
    let (showed, others): (Vec<&Member>, Vec<&Member>) =
        known.others().map(|(_, member)| member).partition(|member| sources.contains(&member.id));
    let first = jitter() as usize % others.len().max(1);
    let others = others.iter().cycle().skip(first).take(others.len().min(ASKED_MAX)).copied();
    let last = Failure::new(ErrorCode::Unavailable, "there is no other node to ask");
    let mut nobody = Nobody { last, forgotten_by: None };
    for member in showed.into_iter().chain(others) {
        let source = peers.source(member);
        let told = match before {
            Some(before) => source.next(before).await,
            None => source.whole(epoch).await,
        };
        match told {
            Ok(layout) => return Ok(layout),
            Err(failure) => nobody.last = failure,
        }
        let has_not = nobody.last.code == ErrorCode::StaleView;
        if has_not && newest_epoch(peers, member).await.is_ok_and(|newest| newest > epoch) {
            nobody.forgotten_by = Some(member.clone());
        }
    }
    Err(nobody)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dynamo::{
        layout::{
            Layout,
            spans::{Span, Spans},
        },
        ring::Ring,
    };

    use super::{Missing, missing};

    fn layout(epoch: u64, spans: Spans) -> Arc<Layout> {
        Arc::new(Layout {
            cluster: 1,
            generation: 0,
            epoch,
            parent_hash: [0; 16],
            electors: Vec::new(),
            members: Vec::new(),
            partition_bits: 0,
            replicas: 1,
            slots: vec![0],
            buckets: Default::default(),
            spans,
        })
    }

    #[test]
    fn newer_layouts_are_fetched_before_older_ones_and_only_what_is_wanted() {
        let ring = Ring::new(layout(5, Spans::uniform(Span { since: 5, oldest: 3 })));
        assert_eq!(missing(&ring, 7), Some(Missing::Newer(6)));
        assert_eq!(missing(&ring, 5), Some(Missing::Older(4)));
        let settled = Ring::new(layout(5, Spans::settled(5)));
        assert_eq!(missing(&settled, 0), None);
    }
}
