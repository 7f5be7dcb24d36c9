//! What other processes can ask of this one: the interfaces of `schema/*.capnp`. A handler decodes, admits, hands over to its
//! worker's driver, waits, and encodes; it decides nothing. When it is dropped because its caller went away, what it handed
//! over ends all the same.

mod admin;
mod backlog;
mod introduction;
mod kv;
mod peer;
mod status;

use std::{rc::Rc, time::Instant};

use dynamo::{
    operation::{ErrorCode, Failure},
    tick::Tick,
};
use schema::convert::{ReplyHeader, RequestHeader};
use tokio::sync::oneshot;

pub(crate) use backlog::Backlog;
pub(crate) use introduction::{Introduction, SOFTWARE, meet};

use crate::worker::{Driver, Results, Room};

/// What every handler needs: the worker's driver, and whose room its answers speak of.
struct Arrival<'d> {
    driver: &'d Rc<Driver>,
    at: Instant,
}

impl<'d> Arrival<'d> {
    fn now(driver: &'d Rc<Driver>) -> Self {
        Self { driver, at: Instant::now() }
    }

    /// The header of a reply sent now.
    fn reply_header(&self, room: &Room) -> ReplyHeader {
        let known = self.driver.known();
        ReplyHeader {
            epoch: known.ring.epoch(),
            coordinator: known.me,
            load: room.load(),
            server_micros: u32::try_from(self.at.elapsed().as_micros()).unwrap_or(u32::MAX),
        }
    }

    /// When a request with this header ends.
    fn deadline(&self, header: &RequestHeader) -> Tick {
        let deadlines = &self.driver.node.config.deadlines;
        let budget_ms = match header.budget_ms {
            0 => deadlines.default_ms,
            budget_ms => budget_ms.min(deadlines.maximum_ms),
        };
        self.driver.now().after(u64::from(budget_ms))
    }

    /// Refuses operations while the node drains, or an operator drained it: clients then go elsewhere, and other nodes hand what they
    /// forward to the next owner. Its work as a replica goes on.
    fn check_welcome(&self) -> Result<(), Failure> {
        if self.driver.node.refuses_clients() {
            return Err(Failure::new(
                ErrorCode::ShuttingDown,
                "this node is being drained for a restart; nothing was done, ask another one",
            ));
        }
        self.check_serving()
    }

    /// Refuses what is new while the node drains.
    fn check_serving(&self) -> Result<(), Failure> {
        if self.driver.node.is_draining() {
            return Err(Failure::new(
                ErrorCode::ShuttingDown,
                "this node is shutting down; nothing was done, ask another one",
            ));
        }
        Ok(())
    }
}

/// Waits for the results of a call that was begun, or passes on why it was not.
async fn results<R>(begun: Result<Results<R>, Failure>) -> Result<Result<Vec<R>, Failure>, capnp::Error> {
    match begun {
        Err(failure) => Ok(Err(failure)),
        Ok(Results::Now(results)) => Ok(Ok(results)),
        Ok(Results::Later(receiver)) => receiver.await.map(Ok).map_err(|_: oneshot::error::RecvError| {
            capnp::Error::disconnected("the node stopped before the operations ended".to_owned())
        }),
    }
}

/// The length of a list on the wire; all of ours are bounded far below 2^32.
fn list_length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The failure of a request whose parts can't be reached.
fn unreadable(error: &capnp::Error) -> Failure {
    Failure::with_message(ErrorCode::InvalidRequest, format!("the request is malformed ({error}); nothing was done"))
}
