//! The proposer of single-decree Paxos about the next layout (design, ring, "Agreeing on the next epoch"): brings one layout
//! before the electors of the present one until it, or another that was there first, is decided.
//!
//! Any node may run it, and several may at once: one wins, and the others finish the winner's attempt and report the conflict.
//! It holds nothing durable. Repeating it with the same layout does no harm, whatever became of the first time: a layout is
//! its hash, and being decided twice is being decided. It does not plan, and what it decided it does not follow: that is for
//! whoever drives it.

mod outcome;

use alloc::{sync::Arc, vec::Vec};

use bytes::Bytes;

pub use outcome::Outcome;

use crate::{
    acceptor::{AcceptedLayout, Ballot, BallotAnswer, BallotError},
    bug::{Bug, is_on},
    ident::NodeId,
    layout::{Layout, NodeIndex, check::ELECTORS_MAX, succession::SuccessionError},
    tick::Tick,
};

/// After so long an elector that has not answered is asked again: a few round trips and writes to a disk.
pub const RESEND_MS: u64 = 250;

/// The longest pause after the first attempt that others overruled; it doubles with each. Two proposers that pause for
/// different times do not overrule each other for ever.
pub const PAUSE_MS: u64 = 60;

/// The pause does not grow beyond this, or somebody would wait long after the others are done.
pub const PAUSE_MS_MAX: u64 = 2_000;

/// Low bits of a round that are drawn at random, so that a node that starts anew, or makes two attempts at once, makes
/// different ballots. Two proposals under one ballot could both be decided.
const ROUND_RANDOM_BITS: u32 = 32;

/// What the driver shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask an elector for a promise.
    Prepare {
        /// The elector's position in the present layout.
        to: NodeIndex,
        /// Of the layout that is to be decided.
        epoch: u64,
        /// To be handed back with the answer.
        ballot: Ballot,
    },
    /// Ask an elector to accept a layout.
    Accept {
        /// The elector's position in the present layout.
        to: NodeIndex,
        /// Of the layout that is to be decided.
        epoch: u64,
        /// To be handed back with the answer.
        ballot: Ballot,
        /// The layout's canonical bytes.
        layout: Bytes,
    },
    /// Ask a node for the layout that was decided for an epoch, and hand it to [`Proposer::fetched`].
    Fetch {
        /// The position in the present layout of the node that has it.
        from: NodeIndex,
        /// Which one.
        epoch: u64,
    },
    /// It has come to an end.
    Done(Outcome),
}

/// One layout on its way to being decided.
#[derive(Debug)]
pub struct Proposer {
    me: NodeId,
    parent: Arc<Layout>,
    /// The layout that shall be decided, in its canonical bytes.
    wanted: Bytes,
    deadline: Tick,
    phase: Phase,
    /// The highest round that anybody has made.
    round: u64,
    /// How often others overruled this one.
    overruled: u32,
    /// Whether an elector was ever asked to accept the wanted layout: then it may be decided without this proposer.
    has_offered: bool,
    /// The electors that ever answered, a bit each.
    heard: u8,
    /// The last reason an elector gave for not voting.
    trouble: Option<BallotError>,
}

#[derive(Debug)]
enum Phase {
    Pausing { until: Tick },
    Preparing(Attempt, Option<AcceptedLayout>),
    Accepting(Attempt, Bytes),
    Done,
}

/// The electors' answers in one phase of one ballot, a bit each.
#[derive(Debug)]
struct Attempt {
    ballot: Ballot,
    agreed: u8,
    refused: u8,
    asked: Tick,
}

impl Attempt {
    fn new(ballot: Ballot, now: Tick) -> Self {
        Self { ballot, agreed: 0, refused: 0, asked: now }
    }
}

/// Every elector has a bit of a `u8`.
const _: () = assert!(ELECTORS_MAX <= u8::BITS as usize);

impl Proposer {
    /// Brings a layout before the electors of `parent`, the newest layout known; it must be one that may follow it. `random` is
    /// any number, a new one for each call.
    pub fn new(
        now: Tick,
        deadline: Tick,
        me: NodeId,
        parent: Arc<Layout>,
        layout: &Layout,
        random: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<Self, SuccessionError> {
        layout.check_after(&parent)?;
        let mut proposer = Self {
            me,
            parent,
            wanted: Bytes::from(layout.encode()),
            deadline,
            phase: Phase::Pausing { until: now },
            round: 0,
            overruled: 0,
            has_offered: false,
            heard: 0,
            trouble: None,
        };
        proposer.attempt(now, random, effects);
        Ok(proposer)
    }

    /// When [`Proposer::tick`] wants to be called next; `None` once it has come to an end.
    pub fn next_deadline(&self) -> Option<Tick> {
        let next = match &self.phase {
            Phase::Pausing { until } => *until,
            Phase::Preparing(attempt, _) | Phase::Accepting(attempt, _) => attempt.asked.after(RESEND_MS),
            Phase::Done => return None,
        };
        Some(next.min(self.deadline))
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Tick, random: u64, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Done) {
            return;
        }
        if now >= self.deadline {
            let outcome = self.undecided();
            return self.finish(outcome, effects);
        }
        match &mut self.phase {
            Phase::Pausing { until } if now >= *until => self.attempt(now, random, effects),
            Phase::Preparing(attempt, _) | Phase::Accepting(attempt, _) if now >= attempt.asked.after(RESEND_MS) => {
                attempt.asked = now;
                // The silent ones may be dead, and those that refused this ballot may agree to the next.
                if attempt.refused == 0 { self.ask(effects) } else { self.pause(now, random) }
            }
            Phase::Pausing { .. } | Phase::Preparing(..) | Phase::Accepting(..) | Phase::Done => {}
        }
    }

    /// An elector answered the question of this ballot. Answers may come late, twice or in any order.
    pub fn answer(
        &mut self,
        now: Tick,
        random: u64,
        from: NodeIndex,
        ballot: Ballot,
        answer: BallotAnswer,
        effects: &mut Vec<Effect>,
    ) {
        let Some(at) = self.parent.electors.iter().position(|&elector| elector == from) else { return };
        let bit = 1 << at;
        self.heard |= bit;
        match answer {
            BallotAnswer::Promised(accepted) => self.promised(now, bit, ballot, accepted, effects),
            BallotAnswer::Accepted => self.accepted(bit, ballot, effects),
            BallotAnswer::Refused(higher) => self.refused(now, random, bit, ballot, higher),
            BallotAnswer::Decided(_) if !matches!(self.phase, Phase::Done) => {
                effects.push(Effect::Fetch { from, epoch: self.epoch() });
            }
            BallotAnswer::Failed(error) => self.trouble = Some(error),
            // One that is behind learns of the present layout from its peers, and is asked again.
            BallotAnswer::Decided(_) | BallotAnswer::Behind(_) => {}
        }
    }

    /// The layout that [`Effect::Fetch`] asked for. One that can't be the decided one is passed over.
    pub fn fetched(&mut self, layout: &Layout, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Done) && layout.check_after(&self.parent).is_ok() {
            let bytes = Bytes::from(layout.encode());
            self.decided(&bytes, effects);
        }
    }

    /// The epoch that is to be decided.
    pub fn epoch(&self) -> u64 {
        self.parent.epoch.saturating_add(1)
    }

    fn attempt(&mut self, now: Tick, random: u64, effects: &mut Vec<Effect>) {
        let counted = (self.round >> ROUND_RANDOM_BITS) + 1;
        self.round = (counted << ROUND_RANDOM_BITS) | (random >> ROUND_RANDOM_BITS);
        let ballot = Ballot { round: self.round, proposer: self.me };
        self.phase = Phase::Preparing(Attempt::new(ballot, now), None);
        self.ask(effects);
    }

    /// Asks the electors that have not answered yet.
    fn ask(&mut self, effects: &mut Vec<Effect>) {
        let epoch = self.epoch();
        let (attempt, layout) = match &self.phase {
            Phase::Preparing(attempt, _) => (attempt, None),
            Phase::Accepting(attempt, layout) => (attempt, Some(layout)),
            Phase::Pausing { .. } | Phase::Done => return,
        };
        let ballot = attempt.ballot;
        let answered = attempt.agreed | attempt.refused;
        let silent = self.parent.electors.iter().enumerate().filter(|(at, _)| answered & (1 << at) == 0);
        effects.extend(silent.map(|(_, &to)| match layout {
            None => Effect::Prepare { to, epoch, ballot },
            Some(layout) => Effect::Accept { to, epoch, ballot, layout: layout.clone() },
        }));
    }

    fn promised(
        &mut self,
        now: Tick,
        bit: u8,
        ballot: Ballot,
        accepted: Option<AcceptedLayout>,
        effects: &mut Vec<Effect>,
    ) {
        let majority = self.majority();
        let Phase::Preparing(attempt, latest) = &mut self.phase else { return };
        if attempt.ballot != ballot {
            return;
        }
        attempt.agreed |= bit;
        if let Some(accepted) = accepted
            && latest.as_ref().is_none_or(|latest| latest.ballot < accepted.ballot)
        {
            *latest = Some(accepted);
        }
        if attempt.agreed.count_ones() < majority {
            return;
        }
        // What any elector of the majority has accepted may be decided already, so it must be proposed again.
        let foreign = latest.take().filter(|_| !is_on(Bug::TwoLayoutsForOneEpoch));
        let layout = foreign.map_or_else(|| self.wanted.clone(), |accepted| accepted.layout);
        self.has_offered |= layout == self.wanted;
        self.phase = Phase::Accepting(Attempt::new(ballot, now), layout);
        self.ask(effects);
    }

    fn accepted(&mut self, bit: u8, ballot: Ballot, effects: &mut Vec<Effect>) {
        let majority = self.majority();
        let Phase::Accepting(attempt, layout) = &mut self.phase else { return };
        if attempt.ballot != ballot {
            return;
        }
        attempt.agreed |= bit;
        if attempt.agreed.count_ones() >= majority {
            let layout = layout.clone();
            self.decided(&layout, effects);
        }
    }

    fn refused(&mut self, now: Tick, random: u64, bit: u8, ballot: Ballot, higher: Ballot) {
        let (majority, electors) = (self.majority(), self.parent.electors.len() as u32);
        let (Phase::Preparing(attempt, _) | Phase::Accepting(attempt, _)) = &mut self.phase else { return };
        if attempt.ballot != ballot || attempt.agreed & bit != 0 {
            return;
        }
        attempt.refused |= bit;
        self.round = self.round.max(higher.round);
        if electors - attempt.refused.count_ones() < majority {
            self.pause(now, random);
        }
    }

    /// Lets whoever overruled this ballot come to an end before the next.
    fn pause(&mut self, now: Tick, random: u64) {
        let longest = (PAUSE_MS << self.overruled.min(16)).min(PAUSE_MS_MAX);
        self.overruled += 1;
        self.phase = Phase::Pausing { until: now.after(random % longest) };
    }

    fn decided(&mut self, bytes: &Bytes, effects: &mut Vec<Effect>) {
        let Ok(layout) = Layout::decode(bytes) else { return };
        let layout = Arc::new(layout);
        let outcome = if *bytes == self.wanted { Outcome::Decided(layout) } else { Outcome::Conflict(layout) };
        self.finish(outcome, effects);
    }

    /// What can be said when time is up.
    fn undecided(&self) -> Outcome {
        if self.has_offered {
            return Outcome::Unknown;
        }
        Outcome::Undecided { heard: self.heard.count_ones(), majority: self.majority(), trouble: self.trouble.clone() }
    }

    fn finish(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        self.phase = Phase::Done;
        effects.push(Effect::Done(outcome));
    }

    fn majority(&self) -> u32 {
        self.parent.electors.len() as u32 / 2 + 1
    }
}
