//! `Peer`: what other nodes' coordinators ask of this node's replica, and their stewards of its hash trees.

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use capnp::Error;
use dynamo::{
    acceptor::BallotAnswer,
    ident::NodeId,
    layout::NodeIndex,
    operation::{ErrorCode, Failure},
    peer::{MoveAnswer, MoveAsk, MoveQuestion, PeerResult, TreeAnswer, TreeQuestion},
    staging::Staged,
};
use schema::{
    convert::{
        BallotRequest, LayoutPiece, LayoutRequest, MOVE_BYTES_MAX, RequestHeader, StageReply, TREE_KEYS_MAX,
        decode_move_questions, decode_peer_operations, decode_stage, decode_tree_questions, encode_ballot_answer,
        encode_failure, encode_move_answers, encode_peer_results, encode_positions, encode_tree_answers,
        move_answer_bytes, peer_operation_bytes, tree_answer_keys,
    },
    peer_capnp::{layout_request, move_request, peer, peer_request, tree_request},
};

use super::{Arrival, list_length, results};
use crate::{
    ring::{adopting, staging_failure},
    worker::{Admitted, Driver, Merges, Results, Share},
};

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
        Ok(Merges::execute(&self.driver, operations, admitted))
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

    fn moves(
        &self,
        request: move_request::Reader<'_>,
    ) -> Result<(Vec<Result<MoveQuestion, Failure>>, Admitted), Failure> {
        // Also while the node drains: others who move partitions need what it knows.
        self.hear(&RequestHeader::decode(request.get_header())?);
        let questions = request.get_questions().map_err(|error| super::unreadable(&error))?;
        let admitted = self.share.admit(questions.len() as usize)?;
        Ok((decode_move_questions(questions)?, admitted))
    }

    /// Answers questions about partitions that move one by one, as many records as fit.
    async fn answer_moves(
        &self,
        questions: Vec<Result<MoveQuestion, Failure>>,
        admitted: &mut Admitted,
    ) -> Vec<MoveAnswer> {
        let (mut answers, mut bytes) = (Vec::with_capacity(questions.len()), 0);
        for question in questions {
            let answer = match question {
                Err(failure) => MoveAnswer::Failed(failure),
                Ok(MoveQuestion { ask: MoveAsk::Range { .. }, .. }) if bytes >= MOVE_BYTES_MAX as usize => {
                    MoveAnswer::Failed(left_behind())
                }
                Ok(MoveQuestion { view, ask: MoveAsk::Range { after, bytes_max } }) => {
                    let left = MOVE_BYTES_MAX - u32::try_from(bytes).unwrap_or(MOVE_BYTES_MAX);
                    let ask = MoveAsk::Range { after, bytes_max: bytes_max.min(left) };
                    adopting::answer(&self.driver.node, MoveQuestion { view, ask }).await
                }
                Ok(question) => adopting::answer(&self.driver.node, question).await,
            };
            let more = move_answer_bytes(&answer);
            admitted.grow(more);
            bytes += more;
            answers.push(answer);
            tokio::task::yield_now().await;
        }
        answers
    }

    /// A piece of a layout that was agreed upon, or of what has changed in it.
    fn piece(&self, request: layout_request::Reader<'_>) -> Result<LayoutPiece, Failure> {
        let (header, question) = LayoutRequest::decode(request)?;
        self.hear(&header);
        self.driver.node.tellings.piece(&self.driver.known().ring, &question)
    }

    /// Answers a proposer, as an elector.
    async fn vote(&self, question: Result<(RequestHeader, BallotRequest), Failure>) -> Result<BallotAnswer, Failure> {
        let (header, question) = question?;
        self.hear(&header);
        self.driver.node.vote(question).await
    }

    /// Joins what the caller has staged with what is staged here.
    async fn join_staged(&self, question: Result<(RequestHeader, Bytes), Failure>) -> Result<StageReply, Failure> {
        let (header, changes) = question?;
        self.hear(&header);
        let theirs = Staged::decode(&changes).map_err(|error| staging_failure("the caller", &error))?;
        let node = Arc::clone(&self.driver.node);
        // It waits for the disk if it is news, and this thread has clients to serve.
        let joining =
            tokio::task::spawn_blocking(move || node.join_staged(&theirs).map(|staged| node.stage_reply(&staged)));
        joining.await.unwrap_or_else(|error| Err(Failure::with_message(ErrorCode::Internal, error.to_string())))
    }

    /// Answers questions one by one, and lets others come to their turn between them.
    async fn answer(&self, questions: Vec<Result<TreeQuestion, Failure>>) -> Vec<TreeAnswer> {
        let (mut answers, mut keys, mut began) = (Vec::with_capacity(questions.len()), 0, Instant::now());
        for question in questions {
            let answer = match question {
                Err(failure) => TreeAnswer::Failed(failure),
                Ok(_) if keys >= TREE_KEYS_MAX => TreeAnswer::Failed(left_behind()),
                Ok(question) => adopting::tree(&self.driver.node, &question).await,
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

    async fn move_(self: Rc<Self>, params: peer::MoveParams, mut wire: peer::MoveResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let questions = self.moves(params.get()?.get_request()?);
        drop(params);
        let answers = match questions {
            Ok((questions, mut admitted)) => Ok(self.answer_moves(questions, &mut admitted).await),
            Err(failure) => Err(failure),
        };
        let mut reply = wire.get().init_reply();
        arrival.reply_header(self.share.room()).encode(reply.reborrow().init_header());
        let positions = self.driver.node.store.positions();
        encode_positions(reply.reborrow().init_positions(list_length(positions.len())), &positions);
        match answers {
            Ok(answers) => encode_move_answers(reply.init_answers(list_length(answers.len())), &answers),
            Err(failure) => encode_failure(reply.init_answers(1).get(0).init_error(), &failure),
        }
        Ok(())
    }

    async fn layout(self: Rc<Self>, params: peer::LayoutParams, mut wire: peer::LayoutResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let piece = self.piece(params.get()?.get_request()?);
        LayoutPiece::encode(&piece, &arrival.reply_header(self.share.room()), wire.get().init_reply());
        Ok(())
    }

    async fn prepare(self: Rc<Self>, params: peer::PrepareParams, mut wire: peer::PrepareResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let question = BallotRequest::decode_prepare(params.get()?.get_request()?);
        drop(params);
        let answer = self.vote(question).await;
        encode_ballot_answer(&answer, &arrival.reply_header(self.share.room()), wire.get().init_reply());
        Ok(())
    }

    async fn accept(self: Rc<Self>, params: peer::AcceptParams, mut wire: peer::AcceptResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let question = BallotRequest::decode_accept(params.get()?.get_request()?);
        drop(params);
        let answer = self.vote(question).await;
        encode_ballot_answer(&answer, &arrival.reply_header(self.share.room()), wire.get().init_reply());
        Ok(())
    }

    async fn stage(self: Rc<Self>, params: peer::StageParams, mut wire: peer::StageResults) -> Result<(), Error> {
        let arrival = Arrival::now(&self.driver);
        let question = decode_stage(params.get()?.get_request()?);
        drop(params);
        let staged = self.join_staged(question).await;
        StageReply::encode(&staged, &arrival.reply_header(self.share.room()), wire.get().init_reply());
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
