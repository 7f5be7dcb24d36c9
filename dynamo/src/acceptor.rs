//! The acceptor of single-decree Paxos about the next layout (design, ring, "Agreeing on the next epoch"): what an elector of
//! layout e promises and accepts for epoch e + 1.
//!
//! Each epoch is an instance of its own, voted on by the electors that the layout before names, so nothing is carried from one
//! instance to the next and a node that learns of a decision drops what it held. Whoever drives this makes [`Acceptor::encode`]
//! durable before a [`BallotAnswer::Promised`] or [`BallotAnswer::Accepted`] leaves the node: an elector that forgets what it
//! said votes twice. It decides nothing, and it does not know what was decided until it is told.

mod codec;

use core::fmt;

use bytes::Bytes;

pub use codec::StateError;

use crate::{
    bug::{Bug, is_on},
    ident::NodeId,
    layout::{Layout, codec::DecodeError, succession::SuccessionError},
};

/// One attempt to have a layout decided. Higher ballots overrule lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ballot {
    /// Counts attempts; 0 is none.
    pub round: u64,
    /// Who makes it; no two nodes make the same.
    pub proposer: NodeId,
}

impl Ballot {
    /// Below every ballot that anybody makes.
    pub const NONE: Self = Self { round: 0, proposer: NodeId(0) };
}

/// What an elector has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedLayout {
    /// Under which ballot.
    pub ballot: Ballot,
    /// The layout's canonical bytes.
    pub layout: Bytes,
}

/// What an elector answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BallotAnswer {
    /// To a question for a promise: nothing below the ballot will be accepted. With what was accepted already.
    Promised(Option<AcceptedLayout>),
    /// To a question for acceptance: it is accepted.
    Accepted,
    /// A higher ballot was promised.
    Refused(Ballot),
    /// The epoch was decided long ago; this is the newest epoch here.
    Decided(u64),
    /// The layout before that epoch is not known here; this is the newest that is.
    Behind(u64),
    /// The elector can't or must not vote for this.
    Failed(BallotError),
}

/// Why an elector does not vote. Nothing was promised or accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BallotError {
    /// The node is no elector of the layout before.
    NoElector,
    /// The node lost what it had promised, and votes again only about a later epoch.
    Forgetful,
    /// The proposed bytes are no layout.
    Bytes(DecodeError),
    /// The proposed layout may not follow the present one.
    Succession(SuccessionError),
}

/// What an elector has promised and accepted about one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptor {
    /// The epoch that is being voted on.
    epoch: u64,
    promised: Ballot,
    accepted: Option<AcceptedLayout>,
    /// It had promised something and does not know what.
    is_forgetful: bool,
}

impl Acceptor {
    /// An elector that has said nothing yet about the epoch after `newest`.
    pub fn new(newest: u64) -> Self {
        Self { epoch: newest.saturating_add(1), promised: Ballot::NONE, accepted: None, is_forgetful: false }
    }

    /// What the node had made durable, under the newest layout it knows; `None` if nothing ever was. When the bytes are damaged,
    /// the elector sits this epoch out.
    pub fn restore(newest: u64, bytes: Option<&[u8]>) -> Self {
        let Some(bytes) = bytes.filter(|_| !is_on(Bug::ElectorForgets)) else { return Self::new(newest) };
        let mut acceptor = Self::decode(bytes).unwrap_or_else(|_| Self { is_forgetful: true, ..Self::new(newest) });
        acceptor.decided(newest);
        acceptor
    }

    /// A proposer asks for a promise not to accept anything below its ballot. `newest` is the newest layout that the node knows.
    pub fn prepare(&mut self, me: NodeId, newest: &Layout, epoch: u64, ballot: Ballot) -> BallotAnswer {
        if let Some(answer) = self.unfit(me, newest, epoch) {
            return answer;
        }
        if ballot < self.promised {
            return BallotAnswer::Refused(self.promised);
        }
        self.promised = ballot;
        BallotAnswer::Promised(self.accepted.clone())
    }

    /// A proposer asks to accept a layout, given by its canonical bytes.
    pub fn accept(&mut self, me: NodeId, newest: &Layout, epoch: u64, ballot: Ballot, bytes: &Bytes) -> BallotAnswer {
        if let Some(answer) = self.unfit(me, newest, epoch) {
            return answer;
        }
        if ballot < self.promised && !is_on(Bug::AcceptBelowPromise) {
            return BallotAnswer::Refused(self.promised);
        }
        let is_known = self.accepted.as_ref().is_some_and(|accepted| accepted.layout == *bytes);
        if !is_known {
            let layout = match Layout::decode(bytes) {
                Ok(layout) => layout,
                Err(error) => return BallotAnswer::Failed(BallotError::Bytes(error)),
            };
            if let Err(error) = layout.check_after(newest) {
                return BallotAnswer::Failed(BallotError::Succession(error));
            }
        }
        self.promised = self.promised.max(ballot);
        self.accepted = Some(AcceptedLayout { ballot, layout: bytes.clone() });
        BallotAnswer::Accepted
    }

    /// The node has learned what was decided for an epoch: there is nothing more to say about it.
    pub fn decided(&mut self, epoch: u64) {
        if epoch >= self.epoch {
            *self = Self::new(epoch);
        }
    }

    /// The answer to a question that must not be voted on; otherwise what is held is about this very epoch afterwards.
    fn unfit(&mut self, me: NodeId, newest: &Layout, epoch: u64) -> Option<BallotAnswer> {
        self.decided(newest.epoch);
        if epoch <= newest.epoch {
            return Some(BallotAnswer::Decided(newest.epoch));
        }
        if epoch > newest.epoch.saturating_add(1) || self.epoch != epoch {
            return Some(BallotAnswer::Behind(newest.epoch));
        }
        if self.is_forgetful {
            return Some(BallotAnswer::Failed(BallotError::Forgetful));
        }
        let mut electors = newest.electors.iter().filter_map(|&elector| newest.member(elector));
        let is_elector = electors.any(|elector| elector.id == me);
        (!is_elector).then_some(BallotAnswer::Failed(BallotError::NoElector))
    }
}

impl fmt::Display for BallotError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoElector => formatter.write_str("the node is no elector of the present layout, and has not voted: fetch the layout"),
            Self::Forgetful => formatter.write_str(
                "the node's record of its promises is damaged, so it does not vote before the next epoch: the other electors decide",
            ),
            Self::Bytes(error) => write!(formatter, "the proposal was not accepted: {error}"),
            Self::Succession(error) => write!(formatter, "the proposal was not accepted: {error}"),
        }
    }
}

impl core::error::Error for BallotError {}
