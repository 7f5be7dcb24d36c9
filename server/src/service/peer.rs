//! `Peer`: what other nodes' coordinators ask of this node's replica, and their stewards of its hash trees.

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use capnp::Error;
use dynamo::{
    ident::NodeId,
    layout::NodeIndex,
    operation::{ErrorCode, Failure},
    peer::{PeerResult, TreeAnswer, TreeQuestion},
};
use schema::{
    convert::{
        LayoutPiece, LayoutRequest, RequestHeader, TREE_KEYS_MAX, decode_peer_operations, decode_tree_questions,
        encode_failure, encode_peer_results, encode_positions, encode_tree_answers, peer_operation_bytes,
        tree_answer_keys,
    },
    peer_capnp::{layout_request, peer, peer_request, tree_request},
};

use super::{Arrival, list_length, results};
use crate::worker::{Admitted, Driver, Results, Share};

/// Hash trees may be looked at for so long before whoever else has something to do on this worker comes to it.
const STRETCH: Duration = Duration::from_millis(1);

/// The `Peer` of one connection.
pub(super) struct Peer {
    driver: Rc<Driver>,
    share: Rc<Share>,
    caller: NodeId,
    /// Under which epoch the caller's place was looked up last, and which it was.
    place: Cell<(u64, Option<NodeIndex>)>,
}

impl Peer {
    /// For a connection of this node, with this share of the room.
    pub(super) fn new(driver: Rc<Driver>, share: Rc<Share>, caller: NodeId) -> Self {
        Self { driver, share, caller, place: Cell::new((0, None)) }
    }

    /// The caller is alive, and may know a newer layout.
    fn hear(&self, header: &RequestHeader) {
        let known = Arc::clone(&self.driver.known());
        let (epoch, place) = self.place.get();
        let place = if epoch == known.ring.epoch() { place } else { known.place_of(self.caller) };
        self.place.set((known.ring.epoch(), place));
        if let Some(place) = place {
            self.driver.node.heard(&known, place);
        }
        self.driver.hear_epoch(header.epoch, Some(self.caller));
    }

    fn begin(&self, arrival: &Arrival<'_>, request: peer_request::Reader<'_>) -> Result<Results<PeerResult>, Failure> {
        let header = RequestHeader::decode(request.get_header())?;
        self.hear(&header);
        arrival.check_serving()?;
        let operations = request.get_operations().map_err(|error| super::unreadable(&error))?;
        let mut admitted = self.share.admit(operations.len() as usize)?;
        let operations = decode_peer_operations(operations, self.driver.node.record_bytes_max())?;
        admitted.grow(operations.iter().flatten().map(peer_operation_bytes).sum());
        Ok(self.driver.merges.execute(operations, admitted))
    }

    fn questions(
        &self,
        arrival: &Arrival<'_>,
        request: tree_request::Reader<'_>,
    ) -> Result<(Vec<Result<TreeQuestion, Failure>>, Admitted), Failure> {
        let header = RequestHeader::decode(request.get_header())?;
        self.hear(&header);
        arrival.check_serving()?;
        let questions = request.get_questions().map_err(|error| super::unreadable(&error))?;
        let admitted = self.share.admit(questions.len() as usize)?;
        Ok((decode_tree_questions(questions)?, admitted))
    }

    /// A piece of a layout that was agreed upon.
    fn piece(&self, request: layout_request::Reader<'_>) -> Result<LayoutPiece, Failure> {
        let (header, LayoutRequest { epoch, offset }) = LayoutRequest::decode(request)?;
        self.hear(&header);
        let known = self.driver.known();
        let epoch = if epoch == 0 { known.ring.epoch() } else { epoch };
        let unknown = || {
            let message = format!("this node has no layout of epoch {epoch}; its newest is {}", known.ring.epoch());
            Failure::with_message(ErrorCode::StaleView, message)
        };
        let layout = known.ring.layout(epoch).ok_or_else(unknown)?;
        Ok(LayoutPiece::cut(epoch, known.ring.epoch(), &layout.encode(), offset))
    }

    /// Answers questions one by one, and lets others come to their turn between them.
    async fn answer(&self, questions: Vec<Result<TreeQuestion, Failure>>) -> Vec<TreeAnswer> {
        let (mut answers, mut keys, mut began) = (Vec::with_capacity(questions.len()), 0, Instant::now());
        for question in questions {
            let answer = match question {
                Err(failure) => TreeAnswer::Failed(failure),
                Ok(_) if keys >= TREE_KEYS_MAX => TreeAnswer::Failed(left_behind()),
                Ok(question) => self.driver.node.store.tree(&question),
            };
            keys += tree_answer_keys(&answer);
            answers.push(if keys > TREE_KEYS_MAX { TreeAnswer::Failed(left_behind()) } else { answer });
            if began.elapsed() > STRETCH {
                tokio::task::yield_now().await;
                began = Instant::now();
            }
        }
        answers
    }
}

fn left_behind() -> Failure {
    let message = "the keys of these ranges do not fit into one answer; ask for this one in a smaller call";
    Failure { retryable: true, ..Failure::new(ErrorCode::TooLarge, message) }
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
        let positions = self.driver.node.store.positions();
        encode_positions(reply.reborrow().init_positions(list_length(positions.len())), &positions);
        match results {
            Ok(results) => encode_peer_results(reply.init_results(list_length(results.len())), &results),
            Err(failure) => encode_failure(reply.init_results(1).get(0).init_error(), &failure),
        }
        Ok(())
    }

    async fn layout(self: Rc<Self>, params: peer::LayoutParams, mut wire: peer::LayoutResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let piece = self.piece(params.get()?.get_request()?);
        LayoutPiece::encode(&piece, &arrival.reply_header(self.share.room()), wire.get().init_reply());
        Ok(())
    }

    async fn tree(self: Rc<Self>, params: peer::TreeParams, mut wire: peer::TreeResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let questions = self.questions(&arrival, params.get()?.get_request()?);
        drop(params);
        let answers = match questions {
            Ok((questions, _admitted)) => Ok(self.answer(questions).await),
            Err(failure) => Err(failure),
        };
        let mut reply = wire.get().init_reply();
        arrival.reply_header(self.share.room()).encode(reply.reborrow().init_header());
        let positions = self.driver.node.store.positions();
        encode_positions(reply.reborrow().init_positions(list_length(positions.len())), &positions);
        match answers {
            Ok(answers) => encode_tree_answers(reply.init_answers(list_length(answers.len())), &answers),
            Err(failure) => encode_failure(reply.init_answers(1).get(0).init_error(), &failure),
        }
        Ok(())
    }
}
