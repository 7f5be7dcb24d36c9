//! A write (paper, section 4.5): minted by this node's replica, sent to the other owners while the local commit runs, and
//! acknowledged when W distinct nodes have it on disk.
//!
//! An owner that fails is not forgotten: a stand-in keeps the write for it (section 4.6). At level `available` stand-ins are
//! asked at once and count; at the others they are asked after the reply, and never count. So a write that was acknowledged
//! stays here until every owner has answered or its time is up.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{
    CallId, Effect, PeerCall,
    call::Ask,
    failing::{Shortfall, Trouble, is_final, reason},
    flight::{Flow, Head, Shared, Stage},
    substitutes::Substitutes,
};
use crate::{
    bug::{self, Bug},
    hint::HintOperation,
    ident::NodeId,
    layout::View,
    operation::{Address, ErrorCode, Failure, Outcome},
    peer::{PeerAction, PeerOperation, PeerResult},
    quorum::{
        Place, Places, Quorums, Verdict,
        put::{Answer, Put},
    },
    replica::{Minted, Write, WriteOperation, WriteOutcome},
    token,
    version::Dot,
};

mod written;

pub(super) use written::Written;

/// A write in progress.
#[derive(Debug)]
pub(super) struct Writing {
    tally: Put,
    /// Replicas and stand-ins whose answer is out.
    pending: Places,
    /// Once it has been minted: the object with the version in it, as a record.
    record: Option<Bytes>,
    /// The same for the client, until it has its reply.
    version: Option<Told>,
    substitutes: Substitutes,
    trouble: Trouble,
    /// Whether it goes on with a version that was minted under a view before.
    is_resumed: bool,
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
    /// Hands the write to this node's replica, or to its hints where it stands in; unless too few nodes can be reached to
    /// bother.
    pub(super) fn begin(
        address: Address,
        write: Write,
        head: &mut Head,
        shared: &mut Shared,
        effects: &mut Vec<Effect>,
    ) -> Result<Stage, Failure> {
        let quorums = head.route.write_quorums(&head.demand)?;
        let mut writing = Self::new(quorums, shared.unreachable(&head.route));
        let (call, view) = (head.call(Place::FIRST, Ask::Whole), head.route.view);
        let local = match writing.local_target(head, shared)? {
            Some(target) => {
                Effect::LocalHint { call: Some(call), operation: HintOperation::Mint { view, target, address, write } }
            }
            None => Effect::LocalWrite { call: Some(call), operation: WriteOperation::Mint { view, address, write } },
        };
        writing.set_out(local, head, shared, effects)?;
        Ok(Stage::Writing(writing))
    }

    fn new(quorums: Quorums, unreachable: Places) -> Self {
        Self {
            tally: Put::new(quorums, Place::FIRST, unreachable),
            pending: Places::NONE,
            record: None,
            version: None,
            substitutes: Substitutes::new(),
            trouble: Trouble::default(),
            is_resumed: false,
        }
    }

    /// Whom this node keeps the write for, if it stands in: an owner that can't be reached, or else the first.
    fn local_target(&mut self, head: &Head, shared: &Shared) -> Result<Option<NodeId>, Failure> {
        if !head.route.is_standing_in() {
            return Ok(None);
        }
        let unreachable = shared.unreachable(&head.route);
        let owner = unreachable.iter().chain(head.route.owners().iter()).next().unwrap_or(Place::FIRST);
        self.substitutes.assign(Place::FIRST, owner);
        let target = shared.id_of(head.route.node(owner), &head.route);
        target.map(Some).ok_or_else(|| self.hopeless(0, head))
    }

    /// Begins with the local write, unless too few others can be reached.
    fn set_out(
        &mut self,
        local: Effect,
        head: &mut Head,
        shared: &mut Shared,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        if head.demand.is_sloppy {
            self.replace(head, shared, effects);
        }
        if self.tally.verdict() == Verdict::Lost {
            let reachable = self.tally.quorums().places().without(shared.unreachable(&head.route)).len();
            return Err(self.hopeless(reachable, head));
        }
        self.pending.insert(Place::FIRST);
        effects.push(local);
        Ok(())
    }

    /// Bytes of the record it keeps.
    pub(super) fn record_bytes(&self) -> usize {
        self.record.as_ref().map_or(0, Bytes::len)
    }

    /// The version is minted: sends it to the other owners while it is being committed here.
    pub(super) fn on_minted(
        &mut self,
        minted: Minted,
        head: &mut Head,
        shared: &mut Shared,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        if !self.pending.contains(Place::FIRST) {
            return Flow::Unclaimed;
        }
        self.replicate(minted, head, shared, effects);
        if bug::is_on(Bug::AcknowledgeBeforeDurable) {
            self.tally.on_reply(Place::FIRST, head.route.view, Answer::Durable);
            return self.conclude(head, shared, effects);
        }
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
            WriteOutcome::Stored if self.is_resumed => (Answer::Durable, None),
            // A mint is never answered so; what the store did is not known.
            WriteOutcome::Stored | WriteOutcome::Moved { .. } => {
                (Answer::Unclear, Some(self.refusal(ErrorCode::Internal, head)))
            }
            WriteOutcome::Stale(told) if self.starts_again(Place::FIRST, &told, head, shared, effects) => {
                return Flow::Renew;
            }
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
        self.count(Place::FIRST, answer, head);
        match (refusal, &self.record) {
            // Nothing was sent to anyone, so what the replica said is the whole story.
            (Some(failure), None) => self.fail(failure, head, effects),
            (Some(_) | None, _) => self.conclude(head, shared, effects),
        }
    }

    /// Takes what became of the version at another owner, or of its hint at a stand-in.
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
        let is_stand_in = head.route.stand_ins().contains(place);
        let answer = match result {
            PeerCall::Answered(PeerResult::Stored) => Answer::Durable,
            PeerCall::Answered(_) if is_stand_in && bug::is_on(Bug::CountRefusedHint) => Answer::Durable,
            PeerCall::Answered(PeerResult::Stale(_)) if bug::is_on(Bug::CountOtherView) => Answer::Durable,
            PeerCall::Answered(PeerResult::Stale(told)) if self.starts_again(place, &told, head, shared, effects) => {
                return Flow::Renew;
            }
            PeerCall::Answered(result) => {
                shared.counters.corrupt += u64::from(result == PeerResult::Corrupt);
                let code = reason(&result);
                self.trouble.add(code);
                if is_final(code) {
                    self.substitutes.fence(if is_stand_in { self.substitutes.target(place) } else { place });
                }
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
        shared.counters.hints_refused += u64::from(is_stand_in && answer != Answer::Durable);
        self.count(place, answer, head);
        self.conclude(head, shared, effects)
    }

    /// A replica did nothing and says that the view is old. Whether the write starts again under a newer one; where nothing was minted
    /// yet, there is nothing else to wait for.
    fn starts_again(
        &mut self,
        place: Place,
        told: &View,
        head: &mut Head,
        shared: &mut Shared,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let may_renew = shared.hear(told, head, effects) || (head.is_behind() && self.record.is_none());
        if may_renew && !head.is_answered {
            self.count(place, Answer::Refused, head);
        }
        may_renew && !head.is_answered
    }

    /// Whoever has not answered yet is slow. At level `available` as many stand-ins are asked as W lacks; who answers late
    /// counts all the same.
    pub(super) fn on_hedge(&mut self, head: &mut Head, shared: &mut Shared, effects: &mut Vec<Effect>) -> Flow {
        if !self.may_hedge(head) || self.record.is_none() {
            return Flow::Wait;
        }
        let (need, got) = self.tally.quorums().need_and_got(self.tally.durable());
        let mut late = Places::NONE;
        for place in self.pending.iter().filter(|&place| !head.route.is_me(place)) {
            let is_owner = head.route.owners().contains(place);
            late.insert(if is_owner { place } else { self.substitutes.target(place) });
        }
        let lacking = (need - got).saturating_sub(u8::from(self.pending.contains(Place::FIRST)));
        late.iter().take(usize::from(lacking)).for_each(|owner| self.substitutes.is_silent(owner));
        self.conclude(head, shared, effects)
    }

    /// Whether silence is a reason to ask stand-ins.
    pub(super) fn may_hedge(&self, head: &Head) -> bool {
        head.demand.is_sloppy && !head.is_answered
    }

    /// Time is up. If W replicas have it and only the local disk is slow, that is a success after all.
    pub(super) fn on_deadline(&mut self, head: &mut Head, shared: &mut Shared, effects: &mut Vec<Effect>) -> Flow {
        if head.is_answered {
            self.leave_hints(head, shared, effects);
            return Flow::End;
        }
        if (self.tally.is_durable() || bug::is_on(Bug::SucceedAtDeadline)) && self.version.is_some() {
            self.acknowledge(head, effects);
            self.leave_hints(head, shared, effects);
            return Flow::End;
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
    fn replicate(&mut self, minted: Minted, head: &Head, shared: &mut Shared, effects: &mut Vec<Effect>) {
        if let Some(told) = &mut self.version {
            if told.dot != minted.dot {
                told.context = None;
                told.siblings = told.siblings.max(minted.siblings);
                self.record = Some(minted.record);
                let others = self.tally.quorums().places().without(shared.unreachable(&head.route));
                let others = others.iter().filter(|&place| !head.route.is_me(place));
                others.for_each(|place| self.send(place, None, head, shared, effects));
            }
            return;
        }
        self.send_out(minted.record, head, shared, effects);
        let context =
            minted.seen.map(|seen| token::seal(&shared.config.token_key, &head.operation.address.store_key, &seen));
        self.version = Some(Told { dot: minted.dot, clock: minted.clock, siblings: minted.siblings, context });
    }

    /// Sends the record to everybody in use who can be reached.
    fn send_out(&mut self, record: Bytes, head: &Head, shared: &mut Shared, effects: &mut Vec<Effect>) {
        self.record = Some(record);
        for place in self.tally.next_replicas().iter() {
            self.pending.insert(place);
            self.send(place, Some(head.call(place, Ask::Whole)), head, shared, effects);
        }
    }

    /// Sends an owner the object, or a stand-in a hint for its owner.
    fn send(&self, place: Place, call: Option<CallId>, head: &Head, shared: &mut Shared, effects: &mut Vec<Effect>) {
        let Some(record) = self.record.clone() else { return };
        let action = if head.route.owners().contains(place) {
            PeerAction::Merge(record)
        } else {
            let owner = head.route.node(self.substitutes.target(place));
            let Some(target) = shared.id_of(owner, &head.route) else { return };
            shared.counters.hints += 1;
            PeerAction::Hint { target, record }
        };
        let operation = PeerOperation { view: head.route.view, store_key: head.operation.address.store_key, action };
        effects.push(Effect::Peer { to: head.route.node(place), call, operation });
    }

    /// Counts what became of the version at a place.
    fn count(&mut self, place: Place, answer: Answer, head: &Head) {
        self.tally.on_reply(place, head.route.view, answer);
        if answer != Answer::Durable && head.route.stand_ins().contains(place) {
            self.substitutes.failed(place);
        }
    }

    /// Puts a stand-in in the place of every owner that failed and has none, as far as there are any. They are asked as soon
    /// as there is something to keep.
    fn replace(&mut self, head: &mut Head, shared: &mut Shared, effects: &mut Vec<Effect>) {
        for owner in self.substitutes.unkept(self.tally.repairs(), self.tally.failed()).iter() {
            let Some(stand_in) = head.route.recruit(shared) else { return };
            self.substitutes.assign(stand_in, owner);
            if head.demand.is_sloppy {
                self.tally.admit(stand_in);
            }
            if self.record.is_some() {
                self.tally.next_replicas();
                self.pending.insert(stand_in);
                self.send(stand_in, Some(head.call(stand_in, Ask::Whole)), head, shared, effects);
            }
        }
    }

    /// Nothing is waited for any longer: leaves a hint, as far as anybody takes it, for every owner that is not known to have
    /// the version.
    fn leave_hints(&mut self, head: &mut Head, shared: &mut Shared, effects: &mut Vec<Effect>) {
        let lacking = self.tally.repairs();
        for owner in self.substitutes.unkept(lacking, lacking).iter() {
            let Some(stand_in) = head.route.recruit(shared) else { return };
            self.substitutes.assign(stand_in, owner);
            self.send(stand_in, None, head, shared, effects);
        }
    }

    fn conclude(&mut self, head: &mut Head, shared: &mut Shared, effects: &mut Vec<Effect>) -> Flow {
        if head.demand.is_sloppy || head.is_answered {
            self.replace(head, shared, effects);
        }
        if head.is_answered {
            return if self.pending.is_empty() { Flow::End } else { Flow::Wait };
        }
        match self.tally.verdict() {
            Verdict::Reached => self.succeed(head, shared, effects),
            Verdict::Pending => Flow::Wait,
            Verdict::Lost if head.is_behind() => Flow::Renew,
            Verdict::Lost => {
                let failure = self.shortfall(head).lost();
                self.fail(failure, head, effects)
            }
        }
    }

    /// Answers, and stays for the owners that have not.
    fn succeed(&mut self, head: &mut Head, shared: &mut Shared, effects: &mut Vec<Effect>) -> Flow {
        self.acknowledge(head, effects);
        self.replace(head, shared, effects);
        if self.pending.is_empty() {
            return Flow::End;
        }
        if shared.may_linger() {
            return Flow::Linger;
        }
        shared.counters.unlingered += 1;
        Flow::End
    }

    fn acknowledge(&mut self, head: &mut Head, effects: &mut Vec<Effect>) {
        let durable = self.tally.durable();
        let mut receipt = head.receipt(durable, self.tally.quorums().need());
        receipt.durable = durable.len();
        let outcome = match self.version.take() {
            Some(Told { dot: _, clock, siblings, context }) => Outcome::Stored { context, siblings, clock },
            None => Outcome::Failed(self.refusal(ErrorCode::Internal, head)),
        };
        head.reply(outcome, receipt, effects);
    }

    fn fail(&self, mut failure: Failure, head: &mut Head, effects: &mut Vec<Effect>) -> Flow {
        failure.maybe_applied |= head.maybe_applied;
        let mut receipt = head.receipt(self.tally.durable(), self.tally.quorums().need());
        receipt.durable = self.tally.durable().len();
        head.reply(Outcome::Failed(failure), receipt, effects);
        Flow::End
    }

    fn shortfall<'r>(&self, head: &'r Head) -> Shortfall<'r> {
        Shortfall {
            need_and_got: self.tally.quorums().need_and_got(self.tally.durable()),
            trouble: self.trouble,
            maybe_applied: Some(
                (self.tally.maybe_applied() || head.maybe_applied) && !bug::is_on(Bug::DenyPartialWrite),
            ),
            route: &head.route,
        }
    }

    /// This node's replica can't coordinate the write.
    fn refusal(&mut self, code: ErrorCode, head: &Head) -> Failure {
        self.trouble.add(code);
        let need_and_got = (self.tally.quorums().need(), 0);
        let maybe_applied = Some(code == ErrorCode::Internal || head.maybe_applied);
        Shortfall { need_and_got, trouble: self.trouble, maybe_applied, route: &head.route }.lost()
    }

    /// Too few nodes can be reached, so nothing was begun under this view.
    fn hopeless(&self, reachable: u8, head: &Head) -> Failure {
        let need_and_got = (self.tally.quorums().need(), reachable);
        let maybe_applied = Some(head.maybe_applied);
        Shortfall { need_and_got, trouble: Trouble::default(), maybe_applied, route: &head.route }.lost()
    }

    /// Whether anything may have been stored anywhere, or may still.
    pub(super) fn maybe_applied(&self) -> bool {
        self.tally.maybe_applied()
    }
}
