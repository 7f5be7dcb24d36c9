//! Changing the ring through one of its nodes; any will do. For operators and their tools: `quorate ring` does all of this.

use schema::convert::{Commit, Decision, HistoryEntry, Staging, Transfers};

use super::Node;
use crate::Error;

impl Node {
    /// Stages changes of the ring, which all nodes that can be reached then know, and says what they would do together with
    /// those staged before. Nothing moves before [`Node::commit`].
    pub async fn stage(&self, changes: Vec<dynamo::staging::Change>) -> Result<Staging, Error> {
        let (id, budget) = (self.id()?, self.timeout);
        self.client.shared().on_thread(0, move |driver| driver.stage(id, changes, budget)).await?
    }

    /// What is staged in the cluster, and what it would do.
    pub async fn plan(&self) -> Result<Staging, Error> {
        let (id, budget) = (self.id()?, self.timeout);
        self.client.shared().on_thread(0, move |driver| driver.plan(id, budget)).await?
    }

    /// Forgets everything that is staged.
    pub async fn clear(&self) -> Result<Staging, Error> {
        let (id, budget) = (self.id()?, self.timeout);
        self.client.shared().on_thread(0, move |driver| driver.clear(id, budget)).await?
    }

    /// Stages what takes the layout of this epoch, which must be the newest, back to the one before it, and says what that would do.
    /// Without an epoch, whichever is the newest.
    pub async fn abort(&self, epoch: Option<u64>) -> Result<Staging, Error> {
        let (id, budget) = (self.id()?, self.timeout);
        self.client.shared().on_thread(0, move |driver| driver.abort(id, epoch.unwrap_or(0), budget)).await?
    }

    /// Has a plan decided, exactly as it was planned, or not at all. Committing the same again is harmless: it says what became
    /// of it.
    pub async fn commit(&self, commit: Commit) -> Result<Decision, Error> {
        let (id, budget) = (self.id()?, self.timeout);
        self.client.shared().on_thread(0, move |driver| driver.commit(id, commit, budget)).await?
    }

    /// The layouts that were agreed upon, as far as it remembers, the oldest first.
    pub async fn history(&self) -> Result<Vec<HistoryEntry>, Error> {
        let (id, budget) = (self.id()?, self.timeout);
        self.client.shared().on_thread(0, move |driver| driver.history(id, budget)).await?
    }

    /// The partitions that move to or from it.
    pub async fn transfers(&self) -> Result<Transfers, Error> {
        let (id, budget) = (self.id()?, self.timeout);
        self.client.shared().on_thread(0, move |driver| driver.transfers(id, budget)).await?
    }

    /// Has it refuse new operations, so that clients go elsewhere at once, while it goes on as a replica for other nodes. Returns
    /// how many operations have not ended yet: at none of them, stopping the process fails no request.
    pub async fn drain(&self) -> Result<u64, Error> {
        let (id, budget) = (self.id()?, self.timeout);
        self.client.shared().on_thread(0, move |driver| driver.drain(id, false, budget)).await?
    }

    /// Has it take operations again after [`Node::drain`].
    pub async fn undrain(&self) -> Result<u64, Error> {
        let (id, budget) = (self.id()?, self.timeout);
        self.client.shared().on_thread(0, move |driver| driver.drain(id, true, budget)).await?
    }
}
