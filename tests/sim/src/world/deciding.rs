//! Administrators and electors: what is to change is planned by the real planner and decided by the real proposer and acceptors, over the
//! simulated network. An elector's promises are durable before they leave it.

use std::sync::Arc;

use bytes::Bytes;
use dynamo::{
    acceptor::{Acceptor, Ballot, BallotAnswer},
    layout::{Layout, Member, MemberState, NodeIndex},
    planner::{Past, Plan, PlanError, plan_after},
    proposer::{Effect, Outcome, Proposer},
    settlement::{Heard, Proven, Testimony},
    staging::{Change, Staged},
};

use super::{
    World,
    faults::Mend,
    queue::{Body, Event, Message, Party},
    ring::{identity, number},
};
use crate::plan::Fault;

/// How long an administrator waits.
const PATIENCE_MS: u64 = 3_000;

/// Of a thousand nodes asked what they know, so many answer in time while there are faults.
const ANSWERS: u32 = 800;

/// Most bits of partition numbers in a run.
const BITS_MAX: u8 = 6;

/// A layout on its way to being decided.
#[derive(Debug)]
pub(super) struct Proposing {
    /// Answers name it.
    pub(super) number: u64,
    pub(super) machine: Proposer,
}

/// What is asked of an elector.
#[derive(Clone, Debug)]
pub(super) struct BallotQuestion {
    /// Whose proposal it is about.
    proposing: u64,
    epoch: u64,
    ballot: Ballot,
    /// What is to be accepted; `None` for a promise.
    layout: Option<Bytes>,
}

impl World {
    /// An administrator wants something changed.
    pub(super) fn administrate(&mut self, fault: Fault) -> bool {
        if fault == Fault::GiveUp {
            return self.give_up();
        }
        let Some(node) = self.office() else { return false };
        // What is lost comes first: while it is missing nothing can be finished, and not much more be begun.
        let fault = if self.lost_member().is_some() { Fault::Replace } else { fault };
        if fault == Fault::DoubleCommit {
            let (first, second) = (self.any_change(node), self.any_change(node));
            let other = self.office().unwrap_or(node);
            return self.propose(node, &first) | self.propose(other, &second);
        }
        let changes = self.changes_for(node, fault);
        self.propose(node, &changes)
    }

    /// A node that an administrator may talk to: a running member.
    fn office(&mut self) -> Option<usize> {
        let there: Vec<usize> =
            (0..self.plan.nodes).filter(|node| self.nodes[*node].process.is_some() && self.is_member(*node)).collect();
        (!there.is_empty()).then(|| *self.random.pick(&there))
    }

    fn any_change(&mut self, node: usize) -> Vec<Change> {
        let fault = *self.random.pick(&[Fault::Join, Fault::Leave, Fault::Replace, Fault::Reweight]);
        self.changes_for(node, fault)
    }

    fn changes_for(&mut self, node: usize, fault: Fault) -> Vec<Change> {
        let layout = Arc::clone(self.nodes[node].ring.newest());
        let active: Vec<Member> =
            layout.members.iter().filter(|member| member.state == MemberState::Active).cloned().collect();
        if active.is_empty() {
            return Vec::new();
        }
        let member = self.random.pick(&active).clone();
        match fault {
            Fault::Join => self.newcomer(&layout, None).map(Change::Join).into_iter().collect(),
            Fault::Leave if active.len() > 2 => vec![Change::Leave(member.id)],
            Fault::Replace => {
                let lost = active.iter().find(|member| self.nodes[number(member.id)].is_out).cloned();
                self.replacement(&layout, &lost.unwrap_or(member))
            }
            Fault::Reweight => vec![Change::Reweight { node: member.id, weight: self.random.between(1, 4) as u32 }],
            Fault::Abort => {
                self.nodes[node].ring.layout(layout.epoch - 1).map_or(Vec::new(), |before| undone(before, &layout))
            }
            Fault::ChangeN => vec![Change::Replicas(self.random.between(2, 5) as u8)],
            Fault::DoubleQ if layout.partition_bits < BITS_MAX => {
                vec![Change::PartitionBits(layout.partition_bits + 1)]
            }
            _ => Vec::new(),
        }
    }

    /// A node of which nobody has heard yet, started and ready to join.
    fn newcomer(&mut self, layout: &Arc<Layout>, zone: Option<String>) -> Option<Member> {
        let node = (0..self.plan.nodes).find(|node| {
            let is_known = self.decided.values().any(|layout| layout.index_of(identity(*node)).is_some());
            !is_known && !self.nodes[*node].is_out
        })?;
        let zones = self.plan.zones;
        if std::mem::take(&mut self.nodes[node].is_waiting) {
            self.nodes[node].ring = Arc::new(dynamo::ring::Ring::new(Arc::clone(layout)));
            self.start(node);
        }
        Some(Member {
            id: identity(node),
            name: format!("n{node}"),
            zone: zone.unwrap_or_else(|| format!("z{}", node % zones)),
            weight: 1,
            addresses: vec![format!("n{node}:1")],
            state: MemberState::Active,
        })
    }

    /// What puts a newcomer in a member's place.
    pub(super) fn replacement(&mut self, layout: &Arc<Layout>, old: &Member) -> Vec<Change> {
        let Some(new) = self.newcomer(layout, Some(old.zone.clone())) else { return Vec::new() };
        vec![Change::Replace { old: old.id, new: new.id }, Change::Join(new)]
    }

    /// Plans changes at a node and brings them before the electors.
    pub(super) fn propose(&mut self, node: usize, changes: &[Change]) -> bool {
        let old = Arc::clone(self.nodes[node].ring.newest());
        let Some(plan) = self.planned(node, changes) else { return false };
        let (tick, random) = (self.nodes[node].tick(self.now_us), self.random.draw());
        let mut effects = Vec::new();
        let deadline = tick.after(PATIENCE_MS);
        let machine = Proposer::new(tick, deadline, identity(node), old, &plan.layout, random, &mut effects);
        let Ok(machine) = machine else { return false };
        let number = random;
        let Some(process) = self.nodes[node].process.as_mut() else { return false };
        process.proposing.push(Proposing { number, machine });
        self.carry_out_proposal(node, number, effects);
        self.arm(node);
        true
    }

    /// What a node plans for these changes, if that can be planned and whoever wants them goes through with it.
    pub(super) fn planned(&mut self, node: usize, changes: &[Change]) -> Option<Plan> {
        let old = Arc::clone(self.nodes[node].ring.newest());
        let mut staged = Staged::default();
        for change in changes {
            let stamp = staged.next_stamp(self.nodes[node].wall_ms(self.now_us), identity(node));
            if staged.stage(change.clone(), stamp).is_err() {
                return None;
            }
        }
        if staged.pending(&old).is_empty() && !self.has_lost_owners() {
            return None;
        }
        let proven = self.proven(node, &old);
        let ring = Arc::clone(&self.nodes[node].ring);
        let desired = staged.desired(&old, &proven).map(|mut desired| {
            // Left to itself the planner would give a ring of this size hundreds of partitions, which shows nothing more and takes long.
            desired.partition_bits.get_or_insert(old.partition_bits);
            desired
        });
        let plan =
            desired.map_err(PlanError::Staging).and_then(|desired| plan_after(Some(Past::from(&ring)), &desired));
        let plan = match plan {
            Ok(plan) if plan.summary.below_quorum > 0 && !self.plan.accepts_loss => {
                self.figures.sometimes.losses_refused += 1;
                let summary = (plan.summary.below_quorum, plan.summary.orphaned);
                self.trace.line(self.now_us, || format!("n{node} does not lose {summary:?} by {changes:?}"));
                return None;
            }
            Ok(plan) => plan,
            Err(error) => {
                self.figures.sometimes.plans_refused += 1;
                self.trace.line(self.now_us, || format!("n{node} can't plan {changes:?}: {error}"));
                return None;
            }
        };
        self.trace.line(self.now_us, || {
            let settled = proven.are_settled(&old);
            format!("n{node} proposes layout {} (settled {settled}): {changes:?}", plan.layout.epoch)
        });
        Some(plan)
    }

    /// What the members that answer testify to; some answers are lost, others come from nodes that are behind.
    fn proven(&mut self, node: usize, layout: &Arc<Layout>) -> Proven {
        let mut heard = Heard::new(layout);
        for other in 0..self.plan.nodes {
            let is_heard = other == node || !self.is_stormy || self.random.chance(ANSWERS);
            let Some(index) = self.position(other, other).filter(|_| is_heard) else { continue };
            // Who was given up has no say.
            let has_say = layout.member(index).is_none_or(|member| member.state != MemberState::Lost);
            if self.nodes[other].process.is_none() || !has_say {
                continue;
            }
            let has_hints = !self.nodes[other].shelf.hints.is_empty();
            let known = self.nodes[other].ring.newest();
            let testimony = Testimony::new(Some(index), known, &self.standings(other), has_hints);
            heard.hear(layout, index, &testimony);
        }
        Proven::Heard(heard)
    }

    /// Whether nothing moves any more: every member knows the newest layout and says so.
    pub(super) fn is_settled(&self) -> bool {
        let newest = self.newest();
        let is_done = |member: &Member| {
            let node = &self.nodes[number(member.id)];
            let is_there = node.process.as_ref().is_some_and(|process| process.steward.unsettled() == 0);
            // One that was lost and owns nothing any more has nothing to say, nor has one that was given up.
            let is_done_with =
                (node.is_out && member.state != MemberState::Active) || member.state == MemberState::Lost;
            member.state == MemberState::Gone || is_done_with || (is_there && node.ring.epoch() == newest.epoch)
        };
        newest.members.iter().all(is_done)
    }

    /// A proposal of a node goes on.
    pub(super) fn drive_proposal(
        &mut self,
        node: usize,
        number: u64,
        drive: impl FnOnce(&mut Proposer, dynamo::tick::Tick, u64, &mut Vec<Effect>),
    ) {
        let (tick, random) = (self.nodes[node].tick(self.now_us), self.random.draw());
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let Some(proposing) = process.proposing.iter_mut().find(|one| one.number == number) else { return };
        let mut effects = Vec::new();
        drive(&mut proposing.machine, tick, random, &mut effects);
        self.carry_out_proposal(node, number, effects);
        self.arm(node);
    }

    /// The deadlines of a node's proposals.
    pub(super) fn wake_proposals(&mut self, node: usize) {
        let tick = self.nodes[node].tick(self.now_us);
        let Some(process) = self.nodes[node].process.as_ref() else { return };
        let due = process.proposing.iter().filter(|one| one.machine.next_deadline().is_some_and(|due| due <= tick));
        for number in due.map(|one| one.number).collect::<Vec<u64>>() {
            self.drive_proposal(node, number, |machine, tick, random, effects| machine.tick(tick, random, effects));
        }
    }

    fn carry_out_proposal(&mut self, node: usize, proposing: u64, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Prepare { to, epoch, ballot } => {
                    self.ask_elector(node, to, BallotQuestion { proposing, epoch, ballot, layout: None });
                }
                Effect::Accept { to, epoch, ballot, layout } => {
                    self.ask_elector(node, to, BallotQuestion { proposing, epoch, ballot, layout: Some(layout) });
                }
                Effect::Fetch { from, epoch } => {
                    if let Some(from) = self.number_at(node, from) {
                        self.send(message(node, from, Body::AskLayout { epoch }));
                    }
                }
                Effect::Done(outcome) => self.end_proposal(node, proposing, &outcome),
            }
        }
    }

    fn end_proposal(&mut self, node: usize, number: u64, outcome: &Outcome) {
        self.trace.line(self.now_us, || format!("n{node}'s proposal ends: {outcome}"));
        if let Some(process) = self.nodes[node].process.as_mut() {
            process.proposing.retain(|one| one.number != number);
        }
        match outcome {
            Outcome::Decided(layout) => self.learn(node, layout),
            Outcome::Conflict(layout) => {
                self.figures.sometimes.conflicts += 1;
                self.learn(node, layout);
            }
            Outcome::Unknown | Outcome::Undecided { .. } => self.figures.sometimes.undecided += 1,
        }
    }

    fn ask_elector(&mut self, node: usize, to: NodeIndex, question: BallotQuestion) {
        if let Some(to) = self.number_at(node, to) {
            self.send(message(node, to, Body::Ballot(question)));
        }
    }

    /// An elector is asked.
    pub(super) fn serve_ballot(&mut self, node: usize, from: Party, question: BallotQuestion) {
        let BallotQuestion { proposing, epoch, ballot, layout } = question;
        let newest = Arc::clone(self.nodes[node].ring.newest());
        let state = &mut self.nodes[node];
        let Some(process) = state.process.as_mut() else { return };
        let is_acceptance = layout.is_some();
        let answer = match layout {
            None => process.acceptor.prepare(identity(node), &newest, epoch, ballot),
            Some(layout) => process.acceptor.accept(identity(node), &newest, epoch, ballot, &layout),
        };
        state.promises = Some(process.acceptor.encode());
        if matches!(answer, BallotAnswer::Behind(_)) {
            self.want_layout(node, newest.epoch + 1);
        }
        let is_said = matches!(answer, BallotAnswer::Promised(_) | BallotAnswer::Accepted);
        self.send(message(node, from, Body::BallotAnswer { proposing, ballot, answer }));
        // The most telling moment to die.
        if is_said && self.plan.faults.rate(Fault::Crash) > 0 && self.is_stormy && self.random.chance(ELECTOR_CRASH) {
            self.trace.line(self.now_us, || format!("n{node} dies after it voted (acceptance {is_acceptance})"));
            self.stop(node);
            let at_us = self.now_us + self.random.between(1_000, 400_000);
            self.queue.push(at_us, Event::Mend(Mend::Restart(node)));
        }
    }

    pub(super) fn hear_ballot(
        &mut self,
        node: usize,
        from: Party,
        proposing: u64,
        ballot: Ballot,
        answer: BallotAnswer,
    ) {
        let Some(index) = self.position(node, from) else { return };
        self.drive_proposal(node, proposing, |machine, tick, random, effects| {
            machine.answer(tick, random, index, ballot, answer, effects);
        });
    }

    /// A layout has come that a proposal may have asked for.
    pub(super) fn fetched(&mut self, node: usize, layout: &Layout) {
        let Some(process) = self.nodes[node].process.as_ref() else { return };
        for number in process.proposing.iter().map(|one| one.number).collect::<Vec<u64>>() {
            self.drive_proposal(node, number, |machine, _, _, effects| machine.fetched(layout, effects));
        }
    }

    /// What a process knows of its promises when it starts.
    pub(super) fn restored_acceptor(&self, node: usize) -> Acceptor {
        Acceptor::restore(self.nodes[node].ring.epoch(), self.nodes[node].promises.as_deref())
    }
}

/// Of a thousand votes, so many are an elector's last before it is started again.
const ELECTOR_CRASH: u32 = 60;

fn message(from: usize, to: usize, body: Body) -> Message {
    Message { from, to, incarnation: 0, doubled: false, body }
}

/// What takes back what the last layout changed.
fn undone(before: &Layout, now: &Layout) -> Vec<Change> {
    let mut changes = Vec::new();
    for member in &now.members {
        let earlier = before.members.iter().find(|earlier| earlier.id == member.id);
        let was_active = earlier.is_some_and(|earlier| earlier.state == MemberState::Active);
        match (was_active, member.state) {
            (false, MemberState::Active) => changes.push(Change::Leave(member.id)),
            (true, MemberState::Leaving) => {
                changes.push(Change::Join(Member { state: MemberState::Active, ..member.clone() }));
            }
            // Whose copies were given up never comes back.
            (true, MemberState::Active) | (true | false, MemberState::Lost | MemberState::Gone) => {}
            (false, MemberState::Leaving) => {}
        }
        let weight = earlier.map_or(member.weight, |earlier| earlier.weight);
        if was_active && weight != member.weight {
            changes.push(Change::Reweight { node: member.id, weight });
        }
    }
    if before.replicas != now.replicas {
        changes.push(Change::Replicas(before.replicas));
    }
    changes
}
