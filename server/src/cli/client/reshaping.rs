//! Changing the ring: questions that any node answers for the whole cluster, asked of one that does.

use std::time::Duration;

use dynamo::layout::{MemberState, NodeIndex};
pub use quorate::operators::{
    Change, Commit, Decision, Extremes, HistoryEntry, PlanNode, PlanReport, Staging, Subject, Transfer, Transfers,
};

use super::{Answer, Failure, Session};

/// How long a node may take to ask all others, or to have a layout decided; an operator's own --timeout if that is longer.
const TIMEOUT_MIN: Duration = Duration::from_secs(10);

impl Session {
    /// Stages changes; what they would do, together with those staged before.
    pub async fn stage(&self, changes: &[Change]) -> Result<Staging, Failure> {
        self.ask_any(|node| {
            let changes = changes.to_vec();
            async move { node.stage(changes).await }
        })
        .await
    }

    /// What is staged, and what it would do.
    pub async fn staging(&self) -> Result<Staging, Failure> {
        self.ask_any(|node| async move { node.plan().await }).await
    }

    /// Forgets what is staged.
    pub async fn clear_staging(&self) -> Result<Staging, Failure> {
        self.ask_any(|node| async move { node.clear().await }).await
    }

    /// Stages what takes back the layout of this epoch, or the newest one.
    pub async fn abort(&self, epoch: Option<u64>) -> Result<Staging, Failure> {
        self.ask_any(|node| async move { node.abort(epoch).await }).await
    }

    /// Has a plan decided.
    pub async fn commit(&self, commit: Commit) -> Result<Decision, Failure> {
        self.ask_any(|node| async move { node.commit(commit).await }).await
    }

    /// The layouts that were agreed upon, as far as a node remembers.
    pub async fn history(&self) -> Result<Vec<HistoryEntry>, Failure> {
        self.ask_any(|node| async move { node.history().await }).await
    }

    /// The partitions that move to and from these nodes.
    pub async fn transfers(&self, nodes: &[NodeIndex]) -> Vec<Answer<Transfers>> {
        self.ask(nodes, |node| async move { node.transfers().await }).await
    }

    /// The nodes that are not gone for good.
    pub fn present(&self) -> Vec<NodeIndex> {
        let layout = self.layout();
        let all = (0..).map(NodeIndex).zip(&layout.members);
        all.filter(|(_, member)| is_present(member.state)).map(|(index, _)| index).collect()
    }

    /// Has a node take no new operations, or take them again; how many have not ended there.
    pub async fn drain(&self, node: NodeIndex, undo: bool) -> Result<u64, Failure> {
        let node = self.client.node(node);
        Ok(if undo { node.undrain().await? } else { node.drain().await? })
    }

    /// Whom to ask what every node can answer: first the nodes that the operator named, by the addresses they have in the ring.
    fn asked(&self) -> Vec<NodeIndex> {
        let (layout, mut asked) = (self.layout(), self.present());
        let is_named = |index: &NodeIndex| {
            layout
                .member(*index)
                .is_some_and(|member| member.addresses.iter().any(|address| self.endpoints.contains(address)))
        };
        asked.sort_by_key(|index| !is_named(index));
        asked
    }

    /// Asks one node after the other until one answers. All of these questions may be asked twice: staging and clearing say the same
    /// again, and a commit names what it commits. If none answers and one may have begun, the failure says so.
    async fn ask_any<T, F>(&self, question: impl Fn(quorate::Node) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, quorate::Error>>,
    {
        let mut last: Option<Failure> = None;
        for index in self.asked() {
            let error = match question(self.client.node(index).timeout(self.timeout.max(TIMEOUT_MIN))).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // A node that was asked and did not answer may have done it.
            let is_silent = matches!(error.code(), "timeout" | "connection_lost");
            let mut failure = Failure::from(error);
            failure.maybe_applied |= is_silent || last.is_some_and(|last| last.maybe_applied);
            if !failure.retryable {
                return Err(failure);
            }
            last = Some(failure);
        }
        Err(last.unwrap_or_else(Failure::closed))
    }
}

/// Whether a node in this state can be asked anything.
fn is_present(state: MemberState) -> bool {
    match state {
        MemberState::Active | MemberState::Leaving => true,
        MemberState::Lost | MemberState::Gone => false,
    }
}
