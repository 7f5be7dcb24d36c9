//! This node as an elector: what it promises and accepts is durable before it is answered, so that no restart makes it vote twice.

use std::sync::{Arc, Mutex, PoisonError};

use dynamo::{
    acceptor::{Acceptor, BallotAnswer},
    operation::{ErrorCode, Failure},
};
use schema::convert::BallotRequest;

use crate::node::Node;

/// What this node has promised as an elector; read from the store when it is first asked.
#[derive(Debug, Default)]
pub(crate) struct Vote(Mutex<Option<Acceptor>>);

impl Node {
    /// Answers a proposer. What is answered is durable; that waits for the disk, elsewhere than on the calling thread.
    pub(crate) async fn vote(self: &Arc<Self>, request: BallotRequest) -> Result<BallotAnswer, Failure> {
        let elector = Arc::clone(self);
        tokio::task::spawn_blocking(move || elector.vote_now(&request))
            .await
            .unwrap_or_else(|error| Err(Failure::with_message(ErrorCode::Internal, error.to_string())))
    }

    fn vote_now(&self, request: &BallotRequest) -> Result<BallotAnswer, Failure> {
        let unsaved = |error: crate::store::OpenError| {
            let message = format!("the elector's promises could not be read or made durable: {error}; it did not vote");
            Failure::with_message(ErrorCode::Internal, message)
        };
        let mut held = self.vote.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = self.layout();
        let before = match held.take() {
            Some(acceptor) => acceptor,
            None => Acceptor::restore(newest.epoch, self.store.acceptor().map_err(unsaved)?.as_deref()),
        };
        let mut acceptor = before.clone();
        let answer = match &request.layout {
            None => acceptor.prepare(self.id, &newest, request.epoch, request.ballot),
            Some(layout) => acceptor.accept(self.id, &newest, request.epoch, request.ballot, layout),
        };
        if acceptor != before {
            // Until it is durable nothing is held: after a failure the store is asked again what it has.
            self.store.put_acceptor(&acceptor.encode()).map_err(unsaved)?;
        }
        *held = Some(acceptor);
        Ok(answer)
    }
}
