//! What an operator's plan rests on: the changes that are staged anywhere, and what the nodes say of themselves. Every node is
//! asked at once; one that does not answer is named, never waited for.

use std::{sync::Arc, time::Duration};

use dynamo::{
    ident::NodeId,
    layout::{Layout, Member},
    operation::Failure,
    settlement::{Heard, Proven},
    staging::Staged,
};
use futures_util::{StreamExt, stream};
use schema::convert::StageReply;
use tokio::time::timeout;

use super::{peers::Peers, staged::staging_failure};
use crate::node::Node;

/// How long a node may take to say what it has staged, connecting included.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// Nodes that are asked at the same time: few enough connections for any node, and a thousand nodes are through in seconds.
const ASKED_TOGETHER_MAX: usize = 64;

/// What the nodes of the ring said.
#[derive(Clone, Debug)]
pub(crate) struct Gathered {
    /// The join of all staged changes.
    pub(crate) staged: Staged,
    /// What every node that answered says of itself, this one included. By who it is: its place may be another's in the layout that a
    /// plan is made for.
    pub(crate) answers: Vec<(NodeId, StageReply)>,
    /// The names of those that did not answer.
    pub(crate) away: Vec<String>,
}

impl Gathered {
    /// The newest epoch that anybody knows.
    pub(crate) fn epoch(&self) -> u64 {
        self.answers.iter().map(|(_, answer)| answer.testimony.epoch).max().unwrap_or(0)
    }

    /// About how many bytes the records have of all that answered.
    pub(crate) fn bytes(&self) -> u64 {
        self.answers.iter().map(|(_, answer)| answer.bytes).sum()
    }

    /// What is certain to be at rest under a layout, by the word of those who answered.
    pub(crate) fn proven(&self, layout: &Layout) -> Proven {
        let mut heard = Heard::new(layout);
        for (id, answer) in &self.answers {
            if let Some(node) = layout.index_of(*id) {
                heard.hear(layout, node, &answer.testimony);
            }
        }
        Proven::Heard(heard)
    }

    /// Partitions that still move, as far as one node alone knows.
    pub(crate) fn moving(&self) -> u32 {
        self.answers.iter().map(|(_, answer)| answer.unsettled).max().unwrap_or(0)
    }
}

/// Asks all nodes, tells them what is staged here, and keeps what they have.
pub(crate) async fn gather(node: &Arc<Node>, peers: &Peers) -> Result<Gathered, Failure> {
    let mine = node.staged()?;
    let known = node.known();
    let bytes = mine.encode();
    let asked: Vec<&Member> =
        known.others().map(|(_, member)| member).filter(|member| super::is_asked(member.state)).collect();
    let answers = stream::iter(asked)
        .map(|member| {
            let answer = timeout(ANSWER_TIMEOUT, peers.stage(member, &bytes));
            async move { (member, answer.await) }
        })
        .buffer_unordered(ASKED_TOGETHER_MAX)
        .collect::<Vec<_>>()
        .await;
    let mut gathered = Gathered { staged: mine, answers: Vec::new(), away: Vec::new() };
    gathered.answers.extend(known.me.map(|_| (node.id, node.stage_reply(&gathered.staged))));
    let mut is_news = false;
    for (member, answer) in answers {
        match answer {
            Ok(Ok(answer)) => {
                let theirs = Staged::decode(&answer.changes).map_err(|error| staging_failure(&member.name, &error))?;
                is_news |= gathered.staged.join(&theirs);
                gathered.answers.push((member.id, answer));
            }
            Ok(Err(failure)) => {
                tracing::debug!(node = member.name, why = %failure.message, "did not say what it has staged");
                gathered.away.push(member.name.clone());
            }
            Err(_) => gathered.away.push(member.name.clone()),
        }
    }
    gathered.away.sort_unstable();
    if is_news {
        gathered.staged = node.join_staged(&gathered.staged)?;
    }
    Ok(gathered)
}
