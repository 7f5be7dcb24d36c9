//! Agreeing on the next layout: what proposers ask of electors, and the answers.

use bytes::Bytes;
use dynamo::{
    acceptor::{AcceptedLayout, Ballot, BallotAnswer},
    ident::NodeId,
    operation::{ErrorCode, Failure},
};

use super::{ReplyHeader, RequestHeader, bounded_data, decode_failure, encode_failure, invalid, malformed, sixteen};
use crate::peer_capnp as wire;

/// Longest layout that is voted on: what surely fits into a frame between nodes beside everything else, and a ring of ten thousand
/// nodes and a quarter of a million partitions has a tenth of it.
pub const BALLOT_LAYOUT_BYTES_MAX: usize = 16 << 20;

/// A question to an elector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BallotRequest {
    /// Of the layout that is to be agreed upon.
    pub epoch: u64,
    /// The attempt.
    pub ballot: Ballot,
    /// What is to be accepted, in its canonical bytes; `None` for a promise.
    pub layout: Option<Bytes>,
}

impl BallotRequest {
    /// Writes the question for a promise.
    pub fn encode_prepare(&self, header: &RequestHeader, mut wire: wire::prepare_request::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        wire.set_epoch(self.epoch);
        encode_ballot(self.ballot, wire.init_ballot());
    }

    /// Reads the question for a promise.
    pub fn decode_prepare(wire: wire::prepare_request::Reader<'_>) -> Result<(RequestHeader, Self), Failure> {
        let header = RequestHeader::decode(wire.get_header())?;
        Ok((header, Self { epoch: wire.get_epoch(), ballot: decode_ballot(wire.get_ballot())?, layout: None }))
    }

    /// Writes the question whether a layout is accepted.
    pub fn encode_accept(&self, header: &RequestHeader, mut wire: wire::accept_request::Builder<'_>) {
        header.encode(wire.reborrow().init_header());
        wire.set_epoch(self.epoch);
        wire.set_layout(self.layout.as_deref().unwrap_or_default());
        encode_ballot(self.ballot, wire.init_ballot());
    }

    /// Reads the question whether a layout is accepted.
    pub fn decode_accept(wire: wire::accept_request::Reader<'_>) -> Result<(RequestHeader, Self), Failure> {
        let header = RequestHeader::decode(wire.get_header())?;
        let layout = bounded_data("layout", wire.get_layout(), BALLOT_LAYOUT_BYTES_MAX)?;
        let ballot = decode_ballot(wire.get_ballot())?;
        Ok((header, Self { epoch: wire.get_epoch(), ballot, layout: Some(layout) }))
    }
}

/// Writes an elector's answer, or why there is none. A refusal to vote is a failure to whoever asked.
pub fn encode_ballot_answer(
    answer: &Result<BallotAnswer, Failure>,
    header: &ReplyHeader,
    mut wire: wire::ballot_reply::Builder<'_>,
) {
    header.encode(wire.reborrow().init_header());
    match answer {
        Ok(BallotAnswer::Promised(accepted)) => {
            let mut promised = wire.init_promised();
            if let Some(accepted) = accepted {
                promised.set_layout(&accepted.layout);
            }
            encode_ballot(accepted.as_ref().map_or(Ballot::NONE, |accepted| accepted.ballot), promised.init_ballot());
        }
        Ok(BallotAnswer::Accepted) => wire.set_accepted(()),
        Ok(BallotAnswer::Refused(higher)) => encode_ballot(*higher, wire.init_refused()),
        Ok(BallotAnswer::Decided(newest)) => wire.set_decided(*newest),
        Ok(BallotAnswer::Behind(newest)) => wire.set_behind(*newest),
        Ok(BallotAnswer::Failed(error)) => {
            let failure = Failure::with_message(ErrorCode::InvalidRequest, error.to_string());
            encode_failure(wire.init_error(), &failure);
        }
        Err(failure) => encode_failure(wire.init_error(), failure),
    }
}

/// Reads an elector's answer.
pub fn decode_ballot_answer(wire: wire::ballot_reply::Reader<'_>) -> Result<BallotAnswer, Failure> {
    use wire::ballot_reply::Which;
    let unknown = |number: u16| invalid("ballot", format_args!("answer {number} is unknown to this node"));
    Ok(match wire.which().map_err(|error| unknown(error.0))? {
        Which::Error(error) => return Err(decode_failure(error.map_err(|error| malformed("error", error))?)),
        Which::Promised(promised) => {
            let promised = promised.map_err(|error| malformed("promised", error))?;
            let ballot = decode_ballot(promised.get_ballot())?;
            let layout = bounded_data("promised.layout", promised.get_layout(), BALLOT_LAYOUT_BYTES_MAX)?;
            BallotAnswer::Promised((ballot.round > 0).then_some(AcceptedLayout { ballot, layout }))
        }
        Which::Accepted(()) => BallotAnswer::Accepted,
        Which::Refused(higher) => BallotAnswer::Refused(decode_ballot(higher)?),
        Which::Decided(newest) => BallotAnswer::Decided(newest),
        Which::Behind(newest) => BallotAnswer::Behind(newest),
    })
}

fn encode_ballot(ballot: Ballot, mut wire: wire::ballot::Builder<'_>) {
    wire.set_round(ballot.round);
    wire.set_proposer(&ballot.proposer.0.to_be_bytes());
}

fn decode_ballot(wire: capnp::Result<wire::ballot::Reader<'_>>) -> Result<Ballot, Failure> {
    let wire = wire.map_err(|error| malformed("ballot", error))?;
    Ok(Ballot { round: wire.get_round(), proposer: NodeId(sixteen("ballot.proposer", wire.get_proposer())?) })
}
