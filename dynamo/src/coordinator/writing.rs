//! A write (paper, section 4.5): minted by this node's replica, sent to the other owners while the local commit runs, and
//! acknowledged when W distinct replicas have it on disk.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{
    Effect, PeerCall,
    call::Ask,
    failing::{Shortfall, Trouble, reason},
    flight::{Flow, Head, Shared},
};
use crate::{
    ident::StoreKey,
    operation::{Address, ErrorCode, Failure, Outcome},
    peer::{PeerAction, PeerOperation, PeerResult},
    quorum::{
        Place, Places, Verdict,
        put::{Answer, Put},
    },
    replica::{Minted, Write, WriteOperation, WriteOutcome},
    token,
    version::Dot,
};

/// A write in progress.
#[derive(Debug)]
pub(super) struct Writing {
    store_key: StoreKey,
    tally: Put,
    /// Replicas whose answer is out.
    pending: Places,
    /// The version, once it has been minted.
    version: Option<Told>,
    trouble: Trouble,
}

/// What the client will be told of its version.
#[derive(Debug)]
struct Told {
    dot: Option<Dot>,
    clock: u64,
    siblings: u16,
    context: Option<Bytes>,
}

impl Writing {
    /// Hands the write to this node's replica, unless too few owners can be reached to bother.
    pub(super) fn begin(
        address: Address,
        write: Write,
        head: &Head,
        shared: &Shared,
        effects: &mut Vec<Effect>,
    ) -> Result<Self, Failure> {
        let unreachable = shared.unreachable(&head.route);
        let store_key = address.store_key;
        let tally = Put::new(head.route.quorums(head.demand.write)?, Place::FIRST, unreachable);
        if tally.verdict() == Verdict::Lost {
            let need_and_got = (head.demand.write, head.route.places().without(unreachable).len());
            let (trouble, maybe_applied) = (Trouble::default(), Some(false));
            return Err(Shortfall { need_and_got, trouble, maybe_applied, route: &head.route }.lost());
        }
        let mut pending = Places::NONE;
        pending.insert(Place::FIRST);
        let operation = WriteOperation::Mint { view: head.route.view, address, write };
        effects.push(Effect::LocalWrite { call: Some(head.call(Place::FIRST, Ask::Whole)), operation });
        Ok(Self { store_key, tally, pending, version: None, trouble: Trouble::default() })
    }

    /// The version is minted: sends it to the other owners while it is being committed here.
    pub(super) fn on_minted(
        &mut self,
        minted: Minted,
        head: &Head,
        shared: &Shared,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        if !self.pending.contains(Place::FIRST) {
            return Flow::Unclaimed;
        }
        self.replicate(minted, head, shared, effects);
        Flow::Wait
    }

    /// The local commit has ended.
    pub(super) fn on_local(
        &mut self,
        outcome: WriteOutcome,
        head: &mut Head,
        shared: &mut Shared,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        if !self.pending.contains(Place::FIRST) {
            return Flow::Unclaimed;
        }
        self.pending.remove(Place::FIRST);
        let (answer, refusal) = match outcome {
            WriteOutcome::Minted(minted) => {
                self.replicate(minted, head, shared, effects);
                (Answer::Durable, None)
            }
            // A mint is never answered so; what the store did is not known.
            WriteOutcome::Stored => (Answer::Unclear, Some(self.refusal(ErrorCode::Internal, head))),
            WriteOutcome::Stale(_) => (Answer::Refused, Some(self.refusal(ErrorCode::StaleView, head))),
            WriteOutcome::Corrupt => {
                shared.counters.corrupt += 1;
                (Answer::Refused, Some(self.refusal(ErrorCode::Corrupt, head)))
            }
            WriteOutcome::Refused(failure) => {
                self.trouble.add(failure.code);
                (if failure.maybe_applied { Answer::Unclear } else { Answer::Refused }, Some(failure))
            }
        };
        self.tally.on_reply(Place::FIRST, head.route.view, answer);
        match (refusal, &self.version) {
            // Nothing was sent to anyone, so what the replica said is the whole story.
            (Some(failure), None) => self.fail(failure, head, effects),
            (Some(_) | None, _) => self.conclude(head, effects),
        }
    }

    /// Takes what became of the version at another owner.
    pub(super) fn on_peer(
        &mut self,
        place: Place,
        result: PeerCall,
        head: &mut Head,
        shared: &mut Shared,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        if head.route.is_me(place) || !self.pending.contains(place) {
            return Flow::Unclaimed;
        }
        self.pending.remove(place);
        let answer = match result {
            PeerCall::Answered(PeerResult::Stored) => Answer::Durable,
            PeerCall::Answered(result) => {
                shared.counters.corrupt += u64::from(result == PeerResult::Corrupt);
                self.trouble.add(reason(&result));
                match result {
                    PeerResult::Stale(_) | PeerResult::Corrupt => Answer::Refused,
                    PeerResult::Failed(failure) if !failure.maybe_applied => Answer::Refused,
                    PeerResult::Failed(_)
                    | PeerResult::Record(_)
                    | PeerResult::Digest(_)
                    | PeerResult::Absent
                    | PeerResult::Stored => Answer::Unclear,
                }
            }
            PeerCall::NotSent => {
                self.trouble.add(ErrorCode::Unavailable);
                Answer::Refused
            }
            PeerCall::Lost => {
                self.trouble.add(ErrorCode::Unavailable);
                Answer::Unclear
            }
        };
        self.tally.on_reply(place, head.route.view, answer);
        self.conclude(head, effects)
    }

    /// Time is up. If W replicas have it and only the local disk is slow, that is a success after all.
    pub(super) fn on_deadline(&mut self, head: &mut Head, shared: &mut Shared, effects: &mut Vec<Effect>) -> Flow {
        if self.tally.is_durable() && self.version.is_some() {
            return self.succeed(head, effects);
        }
        shared.counters.timeouts += 1;
        let failure = self.shortfall(head).timeout();
        self.fail(failure, head, effects)
    }

    /// Sends the version to every owner that can be reached, or takes note of it again.
    ///
    /// A store whose transaction failed may apply the same write once more, and it is minted again: then both versions are
    /// the same operation, twins, and the second one only has to reach everyone some time, like a repair. Its context
    /// would not cover the first, so the client gets none.
    fn replicate(&mut self, minted: Minted, head: &Head, shared: &Shared, effects: &mut Vec<Effect>) {
        if let Some(told) = &mut self.version {
            if told.dot != minted.dot {
                told.context = None;
                told.siblings = told.siblings.max(minted.siblings);
                let others = self.tally.quorums().places().without(shared.unreachable(&head.route));
                let others = others.iter().filter(|&place| !head.route.is_me(place));
                others.for_each(|place| self.send(place, None, &minted.record, head, effects));
            }
            return;
        }
        for place in self.tally.next_replicas().iter() {
            self.pending.insert(place);
            self.send(place, Some(head.call(place, Ask::Whole)), &minted.record, head, effects);
        }
        let context = minted.seen.map(|seen| token::seal(&shared.config.token_key, &self.store_key, &seen));
        let Minted { dot, clock, siblings, .. } = minted;
        self.version = Some(Told { dot, clock, siblings, context });
    }

    fn send(&self, place: Place, call: Option<super::CallId>, record: &Bytes, head: &Head, effects: &mut Vec<Effect>) {
        let action = PeerAction::Merge(record.clone());
        let operation = PeerOperation { view: head.route.view, store_key: self.store_key, action };
        effects.push(Effect::Peer { to: head.route.node(place), call, operation });
    }

    fn conclude(&mut self, head: &mut Head, effects: &mut Vec<Effect>) -> Flow {
        match self.tally.verdict() {
            Verdict::Reached => self.succeed(head, effects),
            Verdict::Pending => Flow::Wait,
            Verdict::Lost => {
                let failure = self.shortfall(head).lost();
                self.fail(failure, head, effects)
            }
        }
    }

    fn succeed(&mut self, head: &mut Head, effects: &mut Vec<Effect>) -> Flow {
        let durable = self.tally.durable();
        let mut receipt = head.receipt(durable, head.demand.write);
        receipt.durable = durable.len();
        let outcome = match self.version.take() {
            Some(Told { dot: _, clock, siblings, context }) => Outcome::Stored { context, siblings, clock },
            None => Outcome::Failed(self.refusal(ErrorCode::Internal, head)),
        };
        head.reply(outcome, receipt, effects);
        // The other owners' answers would change nothing: whoever is behind is brought level by read repair.
        Flow::End
    }

    fn fail(&self, failure: Failure, head: &mut Head, effects: &mut Vec<Effect>) -> Flow {
        let mut receipt = head.receipt(self.tally.durable(), head.demand.write);
        receipt.durable = self.tally.durable().len();
        head.reply(Outcome::Failed(failure), receipt, effects);
        Flow::End
    }

    fn shortfall<'r>(&self, head: &'r Head) -> Shortfall<'r> {
        Shortfall {
            need_and_got: self.tally.quorums().need_and_got(self.tally.durable()),
            trouble: self.trouble,
            maybe_applied: Some(self.tally.maybe_applied()),
            route: &head.route,
        }
    }

    /// This node's replica can't coordinate the write.
    fn refusal(&mut self, code: ErrorCode, head: &Head) -> Failure {
        self.trouble.add(code);
        let need_and_got = (head.demand.write, 0);
        let maybe_applied = Some(code == ErrorCode::Internal);
        Shortfall { need_and_got, trouble: self.trouble, maybe_applied, route: &head.route }.lost()
    }
}
