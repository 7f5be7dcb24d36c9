//! Questions to single nodes, asked of all of them together: repairs, and what each holds under a key.

use std::time::Duration;

use dynamo::layout::NodeIndex;
use futures_util::future::join_all;

use super::{Failure, Key, Session};

pub use quorate::{Content, Held, Hint, Inspection, Object, RepairRun, RepairStatus, RepairTask, Version};

/// A node, and what it answered or why it did not.
#[derive(Debug)]
pub struct Answer<T> {
    /// Its place in the ring.
    pub index: NodeIndex,
    /// Its name there.
    pub name: String,
    /// What it answered.
    pub answer: Result<T, Failure>,
}

impl Session {
    /// The nodes of the ring that are not gone or given up for lost, or those of these names; an unknown name is returned as the error.
    pub fn nodes(&self, names: &[String]) -> Result<Vec<NodeIndex>, String> {
        let present = self.present();
        if names.is_empty() {
            return Ok(present);
        }
        let layout = self.layout();
        let is_named = |index: &NodeIndex, name: &str| layout.member(*index).is_some_and(|member| member.name == name);
        let find = |name: &String| present.iter().copied().find(|index| is_named(index, name));
        names.iter().map(|name| find(name).ok_or_else(|| name.clone())).collect()
    }

    /// How the repairs of these nodes stand.
    pub async fn repair_status(&self, nodes: &[NodeIndex]) -> Vec<Answer<RepairStatus>> {
        self.ask(nodes, |node| async move { node.repair_status().await }).await
    }

    /// Has these nodes begin repairs.
    pub async fn repair(&self, nodes: &[NodeIndex], run: RepairRun) -> Vec<Answer<RepairStatus>> {
        self.ask(nodes, |node| async move { node.repair(run).await }).await
    }

    /// What every node of the ring holds under a key, owner or not.
    pub async fn inspect(&self, key: Key<'_>) -> Vec<Answer<Inspection>> {
        let nodes = self.nodes(&[]).unwrap_or_default();
        self.ask(&nodes, |node| async move { node.inspect(key.bucket, key.key.clone()).await }).await
    }

    /// Removes one node's record of a key, if it is exactly this one.
    pub async fn reap(&self, node: NodeIndex, key: Key<'_>, digest: u128) -> Result<bool, Failure> {
        Ok(self.client.node(node).reap(key.bucket, key.key.clone(), digest).await?)
    }

    pub(super) async fn ask<T, F>(&self, nodes: &[NodeIndex], question: impl Fn(quorate::Node) -> F) -> Vec<Answer<T>>
    where
        F: Future<Output = Result<T, quorate::Error>>,
    {
        let layout = self.layout();
        let asked = nodes.iter().map(|index| {
            let answering = question(self.client.node(*index));
            let name = layout.member(*index).map_or_else(|| "?".to_owned(), |member| member.name.clone());
            async move { Answer { index: *index, name, answer: answering.await.map_err(Failure::from) } }
        });
        join_all(asked).await
    }
}

/// Now, as hybrid logical clocks tell it.
pub fn clock_now() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    quorate::hlc::clock_of(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}

/// Waits.
pub async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}
