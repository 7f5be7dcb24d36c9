//! Electors and proposers over a network that loses, repeats and reorders, with crashes that keep what is durable and wipes that
//! keep nothing, not even the identity. The oracle is one line: no epoch ever has two layouts.

use std::{
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
};

use bytes::Bytes;
use dynamo::{
    acceptor::{Acceptor, Ballot, BallotAnswer},
    ident::NodeId,
    layout::{Layout, Member, MemberState, NodeIndex},
    planner::{Desired, plan},
    proposer::{Effect, Outcome, Proposer},
    settlement::Proven,
    tick::Tick,
};

/// How long an administrator waits.
const PATIENCE_MS: u64 = 6_000;

/// Epochs that a run decides at most.
const EPOCHS_MAX: u64 = 4;

/// SplitMix64.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    pub(crate) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// What was planned before: many runs ask for the same.
#[derive(Default)]
pub(crate) struct Plans(BTreeMap<([u8; 16], u64), Arc<Layout>>);

impl Plans {
    /// One of several layouts that may follow `old`: `choice` joins or leaves.
    pub(crate) fn next(&mut self, old: &Layout, choice: u64) -> Arc<Layout> {
        let next = self.0.entry((old.hash(), choice)).or_insert_with(|| {
            let mut members = old.members.clone();
            let active = members.iter().filter(|member| member.state == MemberState::Active).count();
            if choice == 0 && active > 2 {
                let leaver = members.iter().rposition(|member| member.state == MemberState::Active);
                members[leaver.expect("somebody is active")].state = MemberState::Leaving;
            } else {
                members.push(member(100 * old.epoch + choice));
            }
            Arc::new(planned(Some(old), members))
        });
        Arc::clone(next)
    }
}

/// A first layout of so many nodes, with identities from 1 on.
pub(crate) fn first(nodes: u64) -> Layout {
    planned(None, (0..nodes).map(member).collect())
}

fn planned(old: Option<&Layout>, members: Vec<Member>) -> Layout {
    let desired = Desired {
        cluster: 5,
        members,
        replacements: Default::default(),
        replicas: 3,
        partition_bits: Some(3),
        buckets: Default::default(),
        proven: Proven::Everything,
    };
    plan(old, &desired).expect("it can be planned").layout
}

fn member(number: u64) -> Member {
    Member {
        id: NodeId(u128::from(number) + 1),
        name: format!("n{number}"),
        zone: "z".to_owned(),
        weight: 1,
        addresses: Vec::new(),
        state: MemberState::Active,
    }
}

struct Proposal {
    number: u64,
    /// What it wants decided.
    wanted: [u8; 16],
    proposer: Proposer,
}

struct Node {
    id: NodeId,
    /// Durable: the layouts it knows are decided.
    newest: Arc<Layout>,
    /// Durable: what its acceptor had to write.
    written: Option<Vec<u8>>,
    /// In memory, while it is up.
    acceptor: Option<Acceptor>,
    proposals: Vec<Proposal>,
    /// When its proposers are looked at next.
    armed: Option<u64>,
}

/// What is under way.
#[derive(Clone, Debug)]
enum Event {
    Question {
        from: usize,
        proposal: u64,
        effect: Effect,
    },
    Answer {
        to: usize,
        proposal: u64,
        from: NodeIndex,
        ballot: Ballot,
        answer: BallotAnswer,
    },
    Fetched {
        to: usize,
        proposal: u64,
        layout: Arc<Layout>,
    },
    /// A node hears what was decided.
    News {
        to: usize,
        layout: Arc<Layout>,
    },
    Tick {
        node: usize,
    },
}

/// A run.
pub(crate) struct World<'a> {
    now: u64,
    dice: Dice,
    plans: &'a mut Plans,
    nodes: Vec<Node>,
    /// By time, earliest first, and by number.
    queue: BinaryHeap<std::cmp::Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    numbered: u64,
    /// One message in so many is lost, and one in so many comes twice; 0 for none.
    loss: u64,
    /// What was decided, by epoch.
    pub(crate) decided: BTreeMap<u64, [u8; 16]>,
    /// How often each layout was wanted.
    wanted: BTreeMap<[u8; 16], u64>,
    /// Layouts that were wanted once, of which the proposer said that nothing was done.
    denied: BTreeSet<[u8; 16]>,
    /// What went wrong, first of all.
    pub(crate) violation: Option<String>,
}

impl<'a> World<'a> {
    pub(crate) fn new(seed: u64, plans: &'a mut Plans) -> Self {
        let mut dice = Dice::new(seed);
        let count = [1, 3, 3, 4, 5, 7][dice.below(6) as usize];
        let first = Arc::new(first(count));
        let node = |member: &Member| Node {
            id: member.id,
            newest: Arc::clone(&first),
            written: None,
            acceptor: Some(Acceptor::new(1)),
            proposals: Vec::new(),
            armed: None,
        };
        let nodes = first.members.iter().map(node).collect();
        let loss = [0, 0, 4, 8][dice.below(4) as usize];
        Self {
            now: 0,
            dice,
            plans,
            nodes,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            numbered: 0,
            loss,
            decided: BTreeMap::new(),
            wanted: BTreeMap::new(),
            denied: BTreeSet::new(),
            violation: None,
        }
    }

    /// Trouble for a while, then quiet; at the end an administrator must get an answer. Returns what went wrong.
    pub(crate) fn run(mut self) -> Option<String> {
        for _ in 0..60 {
            self.fault();
            for _ in 0..12 {
                self.step();
            }
        }
        self.loss = 0;
        for at in 0..self.nodes.len() {
            self.restart(at);
        }
        while self.violation.is_none() && self.step() {}
        self.finish();
        self.violation
    }

    fn fault(&mut self) {
        let at = self.dice.below(self.nodes.len() as u64) as usize;
        match self.dice.below(8) {
            0..=2 => self.propose(at),
            3 => self.crash(at),
            4..=5 => self.restart(at),
            6 if self.dice.one_in(6) && self.may_wipe() => self.wipe(at),
            _ => {}
        }
    }

    /// A minority may be wiped for good; with more, nobody can decide anything, which is safe and of no interest.
    fn may_wipe(&self) -> bool {
        let known: BTreeSet<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        self.nodes.iter().all(|node| {
            let electors = &node.newest.electors;
            let there = electors.iter().filter(|at| known.contains(&node.newest.members[usize::from(at.0)].id)).count();
            there > electors.len() / 2 + 1
        })
    }

    fn propose(&mut self, at: usize) {
        let (random, choice) = (self.dice.roll(), self.dice.below(4));
        if self.nodes[at].newest.epoch > EPOCHS_MAX || self.nodes[at].acceptor.is_none() {
            return;
        }
        let parent = Arc::clone(&self.nodes[at].newest);
        let layout = self.plans.next(&parent, choice);
        let mut effects = Vec::new();
        let (now, deadline) = (Tick(self.now), Tick(self.now + PATIENCE_MS));
        let proposer = Proposer::new(now, deadline, self.nodes[at].id, parent, &layout, random, &mut effects);
        self.numbered += 1;
        let (number, wanted) = (self.numbered, layout.hash());
        *self.wanted.entry(wanted).or_default() += 1;
        self.denied.remove(&wanted);
        let proposer = proposer.expect("the plan follows its parent");
        self.nodes[at].proposals.push(Proposal { number, wanted, proposer });
        self.carry_out(at, number, effects);
        self.arm(at);
    }

    fn crash(&mut self, at: usize) {
        self.nodes[at].acceptor = None;
        self.nodes[at].proposals.clear();
    }

    fn restart(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.acceptor.is_none() {
            node.acceptor = Some(Acceptor::restore(node.newest.epoch, node.written.as_deref()));
        }
    }

    /// Whoever lost its disk comes back as somebody else, with nothing but a layout it was given.
    fn wipe(&mut self, at: usize) {
        self.numbered += 1;
        let node = &mut self.nodes[at];
        node.id = NodeId(u128::from(self.numbered) << 64);
        node.written = None;
        node.acceptor = None;
        node.proposals.clear();
        self.restart(at);
    }

    fn send(&mut self, event: Event) {
        if self.loss > 0 && self.dice.one_in(self.loss) {
            return;
        }
        let copies = 1 + u64::from(self.loss > 0 && self.dice.one_in(self.loss));
        for _ in 0..copies {
            let slow = self.dice.one_in(10);
            let delay = 1 + self.dice.below(if slow { 3_000 } else { 60 });
            self.post(delay, event.clone());
        }
    }

    fn post(&mut self, delay: u64, event: Event) {
        self.numbered += 1;
        self.queue.push(std::cmp::Reverse((self.now + delay, self.numbered)));
        self.events.insert(self.numbered, event);
    }

    fn arm(&mut self, at: usize) {
        let next = self.nodes[at].proposals.iter().filter_map(|proposal| proposal.proposer.next_deadline()).min();
        let Some(next) = next.map(|next| next.0.max(self.now + 1)) else { return };
        if self.nodes[at].armed.is_none_or(|armed| next < armed) {
            self.nodes[at].armed = Some(next);
            self.post(next - self.now, Event::Tick { node: at });
        }
    }

    fn step(&mut self) -> bool {
        let Some(std::cmp::Reverse((when, number))) = self.queue.pop() else { return false };
        self.now = when;
        let event = self.events.remove(&number).expect("every number has an event");
        match event {
            Event::Question { from, proposal, effect } => self.question(from, proposal, effect),
            Event::Answer { to, proposal, from, ballot, answer } => {
                let random = self.dice.roll();
                self.drive(to, proposal, |proposer, now, effects| {
                    proposer.answer(now, random, from, ballot, answer, effects);
                });
            }
            Event::Fetched { to, proposal, layout } => {
                self.drive(to, proposal, |proposer, _, effects| proposer.fetched(&layout, effects));
            }
            Event::News { to, layout } => self.learn(to, &layout),
            Event::Tick { node } => {
                // One that was overtaken by an earlier one has nothing to do.
                if self.nodes[node].armed != Some(self.now) {
                    return true;
                }
                self.nodes[node].armed = None;
                let numbers: Vec<u64> = self.nodes[node].proposals.iter().map(|proposal| proposal.number).collect();
                for number in numbers {
                    let random = self.dice.roll();
                    self.drive(node, number, |proposer, now, effects| {
                        if proposer.next_deadline().is_some_and(|next| next <= now) {
                            proposer.tick(now, random, effects);
                        }
                    });
                }
                self.arm(node);
            }
        }
        true
    }

    fn drive(&mut self, at: usize, number: u64, input: impl FnOnce(&mut Proposer, Tick, &mut Vec<Effect>)) {
        let now = Tick(self.now);
        let mut effects = Vec::new();
        let Some(proposal) = self.nodes[at].proposals.iter_mut().find(|proposal| proposal.number == number) else {
            return;
        };
        input(&mut proposal.proposer, now, &mut effects);
        self.carry_out(at, number, effects);
        self.arm(at);
    }

    fn carry_out(&mut self, at: usize, proposal: u64, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Done(outcome) => {
                    let done = self.nodes[at].proposals.iter().position(|known| known.number == proposal);
                    let ended = self.nodes[at].proposals.remove(done.expect("it runs here"));
                    self.done(at, ended.wanted, &outcome);
                }
                effect => self.send(Event::Question { from: at, proposal, effect }),
            }
        }
    }

    fn question(&mut self, from: usize, proposal: u64, effect: Effect) {
        let (Effect::Prepare { to, .. } | Effect::Accept { to, .. } | Effect::Fetch { from: to, .. }) = &effect else {
            return;
        };
        let at = usize::from(to.0);
        let Some(node) = self.nodes.get_mut(at) else { return };
        let Some(acceptor) = &mut node.acceptor else { return };
        let (ballot, answer) = match &effect {
            Effect::Prepare { epoch, ballot, .. } => {
                (*ballot, acceptor.prepare(node.id, &node.newest, *epoch, *ballot))
            }
            Effect::Accept { epoch, ballot, layout, .. } => {
                let layout: &Bytes = layout;
                (*ballot, acceptor.accept(node.id, &node.newest, *epoch, *ballot, layout))
            }
            Effect::Fetch { epoch, .. } => {
                if node.newest.epoch == *epoch {
                    let layout = Arc::clone(&node.newest);
                    self.send(Event::Fetched { to: from, proposal, layout });
                }
                return;
            }
            Effect::Done(_) => return,
        };
        node.written = Some(acceptor.encode());
        let to_index = *to;
        self.send(Event::Answer { to: from, proposal, from: to_index, ballot, answer });
    }

    fn learn(&mut self, at: usize, layout: &Arc<Layout>) {
        let node = &mut self.nodes[at];
        if layout.check_after(&node.newest).is_ok() {
            node.newest = Arc::clone(layout);
            if let Some(acceptor) = &mut node.acceptor {
                acceptor.decided(layout.epoch);
            }
        }
    }

    fn done(&mut self, at: usize, wanted: [u8; 16], outcome: &Outcome) {
        match outcome {
            Outcome::Decided(layout) | Outcome::Conflict(layout) => {
                let (epoch, hash) = (layout.epoch, layout.hash());
                if *self.decided.entry(epoch).or_insert(hash) != hash {
                    self.violate(format!("two layouts for epoch {epoch}"));
                }
                if (hash == wanted) != matches!(outcome, Outcome::Decided(_)) {
                    self.violate(format!(
                        "epoch {epoch} is what was wanted, or is not, and the proposer says otherwise"
                    ));
                }
                if self.denied.contains(&hash) {
                    self.violate(format!("epoch {epoch} is a layout of which nothing was said to be done"));
                }
                let told: Vec<usize> = (0..self.nodes.len()).filter(|_| !self.dice.one_in(3)).collect();
                for to in told.into_iter().chain([at]) {
                    self.send(Event::News { to, layout: Arc::clone(layout) });
                }
            }
            Outcome::Undecided { .. } => {
                if self.wanted[&wanted] == 1 {
                    self.denied.insert(wanted);
                }
            }
            Outcome::Unknown => {}
        }
    }

    fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// The network is well, and all are up: whoever asks now is told what was decided.
    fn finish(&mut self) {
        if self.violation.is_some() {
            return;
        }
        let newest = self.nodes.iter().map(|node| Arc::clone(&node.newest)).max_by_key(|layout| layout.epoch);
        let newest = newest.expect("there are nodes");
        for at in 0..self.nodes.len() {
            self.nodes[at].newest = Arc::clone(&newest);
            self.nodes[at].acceptor.as_mut().expect("all are up").decided(newest.epoch);
        }
        if newest.epoch > EPOCHS_MAX {
            return;
        }
        let proposed = newest.epoch + 1;
        self.propose(0);
        while self.violation.is_none() && self.step() {}
        let there = |at: &&NodeIndex| {
            let id = newest.members[usize::from(at.0)].id;
            self.nodes.get(usize::from(at.0)).is_some_and(|node| node.id == id)
        };
        let can_decide = newest.electors.iter().filter(there).count() > newest.electors.len() / 2;
        if can_decide && !self.decided.contains_key(&proposed) && self.violation.is_none() {
            self.violate(format!("epoch {proposed} was not decided although nothing stood in the way"));
        }
    }
}
