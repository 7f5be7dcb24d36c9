//! `Peer`: what other nodes' coordinators ask of this node's replica.

use std::rc::Rc;

use capnp::Error;
use dynamo::{layout::NodeIndex, operation::Failure, peer::PeerResult};
use schema::{
    convert::{RequestHeader, decode_peer_operations, encode_failure, encode_peer_results, peer_operation_bytes},
    peer_capnp::{peer, peer_request},
};

use super::{Arrival, list_length, results};
use crate::worker::{Driver, Results, Share};

/// The `Peer` of one connection.
pub(super) struct Peer {
    driver: Rc<Driver>,
    share: Rc<Share>,
    caller: NodeIndex,
}

impl Peer {
    /// For a connection of this node, with this share of the room.
    pub(super) fn new(driver: Rc<Driver>, share: Rc<Share>, caller: NodeIndex) -> Self {
        Self { driver, share, caller }
    }

    fn begin(&self, arrival: &Arrival<'_>, request: peer_request::Reader<'_>) -> Result<Results<PeerResult>, Failure> {
        self.driver.node.heard(self.caller);
        arrival.check_serving()?;
        RequestHeader::decode(request.get_header())?;
        let operations = request.get_operations().map_err(|error| super::unreadable(&error))?;
        let mut admitted = self.share.admit(operations.len() as usize)?;
        let operations = decode_peer_operations(operations, self.driver.node.record_bytes_max())?;
        admitted.grow(operations.iter().flatten().map(peer_operation_bytes).sum());
        Ok(self.driver.merges.execute(operations, admitted))
    }
}

impl peer::Server for Peer {
    async fn execute(self: Rc<Self>, params: peer::ExecuteParams, mut wire: peer::ExecuteResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let begun = self.begin(&arrival, params.get()?.get_request()?);
        // Everything was copied out of the message; its memory shall not wait for the disk.
        drop(params);
        let results = results(begun).await?;
        let mut reply = wire.get().init_reply();
        arrival.reply_header(self.share.room()).encode(reply.reborrow().init_header());
        match results {
            Ok(results) => encode_peer_results(reply.init_results(list_length(results.len())), &results),
            Err(failure) => encode_failure(reply.init_results(1).get(0).init_error(), &failure),
        }
        Ok(())
    }
}
