//! Drives one proposal to its end: asks the electors what the [`Proposer`] wants them asked, and minds the time.

use std::{sync::Arc, time::Duration};

use dynamo::{
    acceptor::{Ballot, BallotAnswer},
    layout::{Layout, Member, NodeIndex},
    operation::{ErrorCode, Failure},
    proposer::{Effect, Outcome, Proposer},
};
use futures_util::{StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};

use schema::convert::BallotRequest;

use super::peers::Peers;
use crate::{node::Node, worker::dialling::jitter};

/// How long the electors have to decide: several attempts of several round trips and writes to a disk. An operator waits for it.
const PROPOSAL_TIME_MS: u64 = 5_000;

/// What an elector said, or a layout that was fetched.
enum Said {
    Answer { from: NodeIndex, ballot: Ballot, answer: BallotAnswer },
    Layout(Box<Layout>),
    Nothing,
}

type Asked<'a> = FuturesUnordered<LocalBoxFuture<'a, Said>>;

/// Brings a layout before the electors of its parent.
pub(crate) async fn propose(
    node: &Arc<Node>,
    peers: &Peers,
    parent: Arc<Layout>,
    layout: &Layout,
) -> Result<Outcome, Failure> {
    tracing::info!(epoch = layout.epoch, "asking the electors to decide for a layout");
    let mut effects = Vec::new();
    let deadline = node.now().after(PROPOSAL_TIME_MS);
    let mut proposer =
        Proposer::new(node.now(), deadline, node.id, Arc::clone(&parent), layout, jitter(), &mut effects).map_err(
            |error| Failure::with_message(ErrorCode::InvalidRequest, format!("{error}; nothing was done: plan again")),
        )?;
    let mut asked = Asked::new();
    loop {
        for effect in effects.drain(..) {
            match effect {
                Effect::Done(outcome) => return Ok(outcome),
                Effect::Prepare { .. } | Effect::Accept { .. } | Effect::Fetch { .. } => {
                    asked.push(Box::pin(ask(node, peers, &parent, effect)));
                }
            }
        }
        let until = proposer.next_deadline().unwrap_or(deadline);
        let rest = Duration::from_millis(until.0.saturating_sub(node.now().0));
        tokio::select! {
            Some(said) = asked.next() => match said {
                Said::Answer { from, ballot, answer } => {
                    proposer.answer(node.now(), jitter(), from, ballot, answer, &mut effects);
                }
                Said::Layout(layout) => proposer.fetched(&layout, &mut effects),
                Said::Nothing => {}
            },
            () = tokio::time::sleep(rest) => proposer.tick(node.now(), jitter(), &mut effects),
        }
    }
}

/// Does what the proposer wants done. Whoever gives no answer is asked again when the proposer wants it.
async fn ask(node: &Arc<Node>, peers: &Peers, parent: &Layout, effect: Effect) -> Said {
    let answered = |from: NodeIndex, ballot: Ballot, answer: Result<BallotAnswer, Failure>| match answer {
        Ok(answer) => Said::Answer { from, ballot, answer },
        Err(failure) => {
            tracing::debug!(elector = from.0, why = %failure.message, "an elector gave no answer");
            Said::Nothing
        }
    };
    let vote = async |to: NodeIndex, request: BallotRequest| {
        let ballot = request.ballot;
        match elector(node, parent, to) {
            Elector::Me => answered(to, ballot, node.vote(request).await),
            Elector::Other(member) => answered(to, ballot, peers.vote(member, &request).await),
            Elector::Nobody => Said::Nothing,
        }
    };
    match effect {
        Effect::Prepare { to, epoch, ballot } => vote(to, BallotRequest { epoch, ballot, layout: None }).await,
        Effect::Accept { to, epoch, ballot, layout } => {
            vote(to, BallotRequest { epoch, ballot, layout: Some(layout) }).await
        }
        Effect::Fetch { from, epoch } => match elector(node, parent, from) {
            Elector::Me => {
                node.ring().layout(epoch).map_or(Said::Nothing, |layout| Said::Layout(Box::new((**layout).clone())))
            }
            Elector::Other(member) => match peers.source(member).next(parent).await {
                Ok(layout) => Said::Layout(Box::new(layout)),
                Err(_) => Said::Nothing,
            },
            Elector::Nobody => Said::Nothing,
        },
        Effect::Done(_) => Said::Nothing,
    }
}

enum Elector<'a> {
    Me,
    Other(&'a Member),
    Nobody,
}

fn elector<'a>(node: &Node, parent: &'a Layout, index: NodeIndex) -> Elector<'a> {
    match parent.member(index) {
        Some(member) if member.id == node.id => Elector::Me,
        Some(member) => Elector::Other(member),
        None => Elector::Nobody,
    }
}
