//! One batch as a call: the operations of the machine into a request, the reply back into the machine.

use std::{rc::Rc, time::Duration};

use capnp::capability::Response;
use dynamo::operation::{ErrorCode, Failure, Reply};
use schema::{
    convert::{self, ReplyHeader, RequestHeader},
    kv_capnp::{execute_reply, kv},
};
use tokio::task::spawn_local;

use super::Driver;
use crate::engine::link::LinkId;

impl Driver {
    pub(super) fn send(self: &Rc<Self>, call: u64, link: LinkId, budget: Duration) {
        let Some(kv) = self.connections.borrow().get(&link).map(|connection| connection.kv.clone()) else {
            // The connection ended in this very pass; its end has been or will be told.
            return self.engine.borrow_mut().lost(std::time::Instant::now(), call);
        };
        let mut request = kv.execute_request();
        let expected = {
            let engine = self.engine.borrow();
            let mut wire = request.get().init_request();
            let header =
                RequestHeader { epoch: engine.layout().epoch, budget_ms: milliseconds(budget), ..Default::default() };
            header.encode(wire.reborrow().init_header());
            let count = engine.operations(call).count();
            convert::encode_operations(wire.init_operations(count as u32), engine.operations(call));
            count
        };
        let promise = request.send().promise;
        let driver = Rc::clone(self);
        spawn_local(async move {
            let outcome = promise.await;
            driver.finish(call, expected, outcome);
        });
        self.watch();
    }

    fn finish(
        self: &Rc<Self>,
        call: u64,
        expected: usize,
        outcome: capnp::Result<Response<kv::execute_results::Owned>>,
    ) {
        let reply = outcome.as_ref().map_err(Clone::clone).and_then(|response| response.get()?.get_reply());
        match reply {
            Ok(reply) => {
                let header = ReplyHeader::decode(reply.get_header());
                match results(reply, expected) {
                    Ok(replies) => self.input(|engine, now| engine.answered(now, call, &header, replies)),
                    Err(failure) => self.input(|engine, now| engine.refused(now, call, &header, &failure)),
                }
            }
            Err(error) => match error.kind {
                // The connection, not the node's answer.
                capnp::ErrorKind::Disconnected | capnp::ErrorKind::Overloaded => {
                    self.input(|engine, now| engine.lost(now, call));
                }
                _ => {
                    let failure = Failure {
                        maybe_applied: true,
                        ..Failure::with_message(ErrorCode::Internal, format!("the node failed: {error}"))
                    };
                    let header = ReplyHeader::default();
                    self.input(|engine, now| engine.refused(now, call, &header, &failure));
                }
            },
        }
    }
}

fn results(reply: execute_reply::Reader<'_>, expected: usize) -> Result<Vec<Reply>, Failure> {
    let results = reply.get_results().map_err(|error| Failure {
        maybe_applied: true,
        ..Failure::with_message(ErrorCode::Internal, format!("the node's reply can't be understood: {error}"))
    })?;
    convert::decode_replies(results, expected)
}

/// At least one: zero would mean the node's own default.
pub(super) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).max(1)
}
