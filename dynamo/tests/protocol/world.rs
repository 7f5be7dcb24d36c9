//! One schedule: a register with majority reads and writes on a partition whose owners change again and again, every message delivered in
//! its own time, twice, or never. Rows, views, quorums and the steps at a replica are the real ones; coordinators and movers are
//! models of what the design says, so that the rules are looked at alone.
//!
//! A majority read that starts after a majority write completed returns it: nothing else is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dynamo::{
    ident::Id,
    layout::View,
    peer::Standing,
    quorum::{CONFIGURATIONS_MAX, Configuration, Place, Places, Quorums, Verdict},
    ring::{OwnerSet, Ring},
};

use super::{
    layouts::{self, NODES_MAX},
    mistake::Mistake,
    mover::Mover,
    owner::{Known, Owner, Register, WRITES_MAX},
    random::Random,
};

/// Most operations that wait at a time.
const OPERATIONS_MAX: usize = 5;

/// How many copies of a message arrive.
const COPIES: [usize; 32] =
    [0, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];

/// A message that says something.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// A coordinator asks.
    Operation { operation: u64, view: View },
    /// A replica answers.
    Done { operation: u64, view: View, result: Result<Known, View> },
    /// Know this view.
    Adopt { number: u64, view: View },
    /// How do you stand? Nothing is adopted.
    Ask { number: u64 },
    /// So.
    Stands { number: u64, standing: Standing },
    /// What do you hold under this view?
    Sync { number: u64, view: View },
    /// This.
    Synced { number: u64, known: Result<Known, View> },
}

#[derive(Clone, Debug)]
struct Message {
    from: usize,
    to: usize,
    body: Body,
}

/// What a coordinator does.
#[derive(Clone, Copy, Debug)]
enum Action {
    Write(usize),
    /// With the writes that were completed when it began.
    Read {
        bound: Known,
    },
}

/// An operation at a coordinator.
#[derive(Debug)]
struct Operation {
    number: u64,
    action: Action,
    view: View,
    answered: BTreeSet<usize>,
    found: Known,
}

/// What a schedule met.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Met {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) stale: u64,
    pub(crate) joint: u64,
    pub(crate) settled: u64,
    pub(crate) deleted: u64,
    pub(crate) wiped: u64,
}

impl Met {
    /// Adds another schedule's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.stale += other.stale;
        self.joint += other.joint;
        self.settled += other.settled;
        self.deleted += other.deleted;
        self.wiped += other.wiped;
    }

    /// Its numbers by name.
    pub(crate) fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("reads that had something to return", self.reads),
            ("writes", self.writes),
            ("stale views", self.stale),
            ("operations on several configurations", self.joint),
            ("operations after a retirement", self.settled),
            ("deletions", self.deleted),
            ("lost directories", self.wiped),
        ]
    }
}

/// A schedule.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) mistake: Option<Mistake>,
    pub(crate) register: Register,
    /// All layouts that were decided; what a node knows of them ends at its own epoch.
    pub(crate) ring: Ring,
    pub(crate) owners: Vec<Owner>,
    pub(crate) movers: BTreeMap<usize, Mover>,
    pub(crate) numbers: u64,
    pub(crate) met: Met,
    operations: Vec<Operation>,
    network: Vec<Message>,
    slow: Vec<Message>,
    /// Every view that any row ever had: a coordinator may believe any of them.
    views: BTreeSet<View>,
    completed: Known,
    written: usize,
    changes_left: usize,
    wipes_left: usize,
    newcomer: usize,
    /// What was broken.
    pub(crate) broken: Option<String>,
}

impl World {
    pub(crate) fn new(seed: u64, mistake: Option<Mistake>) -> Self {
        let mut random = Random(seed);
        let count = *random.pick(&[3, 3, 3, 3, 2, 4, 5, 1]);
        let nodes = 6 + random.below(3);
        let layout = Arc::new(layouts::first(&(0..count as u16).collect::<Vec<_>>()));
        let mut owners: Vec<Owner> = (0..NODES_MAX).map(|_| Owner::new(1)).collect();
        owners[..count].iter_mut().for_each(|owner| owner.adopt_partition(layout.view(0), false));
        Self {
            changes_left: 1 + random.below(5),
            wipes_left: if random.chance(400) { 1 + random.below(2) } else { 0 },
            views: BTreeSet::from([layout.view(0)]),
            ring: Ring::new(layout),
            register: Register::new(),
            movers: BTreeMap::new(),
            numbers: 0,
            met: Met::default(),
            operations: Vec::new(),
            network: Vec::new(),
            slow: Vec::new(),
            completed: 0,
            written: 0,
            newcomer: nodes,
            broken: None,
            owners,
            mistake,
            random,
        }
    }

    pub(crate) fn is_made(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    pub(crate) fn id(&self) -> Id {
        self.register.key().id()
    }

    /// Something happens.
    pub(crate) fn step(&mut self) {
        let node = self.random.below(self.newcomer);
        match self.random.below(1_000) {
            0..680 => self.deliver(),
            680..740 => self.begin(),
            740..770 => self.ask_again(),
            770..780 => self.decide(),
            780..840 => {
                let epoch = self.ring.epoch();
                self.learn(node, epoch);
            }
            840..940 => {
                let owners = layouts::owners_of(self.ring.newest());
                let owner = *self.random.pick(&owners);
                self.move_on(usize::from(owner));
            }
            940..990 if self.is_there(node) => self.leave(node),
            990..995 => drop(self.movers.remove(&node)),
            995.. => self.wipe(node),
            _ => {}
        }
    }

    fn is_there(&self, node: usize) -> bool {
        !self.owners[node].is_gone
    }

    /// A node learns what was decided up to this epoch.
    pub(crate) fn learn(&mut self, node: usize, epoch: u64) {
        if !self.is_there(node) || self.owners[node].epoch >= epoch {
            return;
        }
        self.owners[node].epoch = epoch;
        let layout = self.ring.layout(epoch).expect("only decided layouts are learned");
        if layout.owners(0).any(|owner| usize::from(owner.0) == node) {
            let (view, is_forgetful) = (layout.view(0), self.is_made(Mistake::MovedRowForgotten));
            self.owners[node].adopt_partition(view, is_forgetful);
        }
    }

    /// An administrator decides the next layout.
    fn decide(&mut self) {
        if self.changes_left == 0 {
            return;
        }
        let alive: Vec<u16> = (0..self.newcomer as u16).filter(|at| self.is_there(usize::from(*at))).collect();
        let owners = layouts::draw(&mut self.random, &self.ring, &alive);
        let witness = self.random.below(self.newcomer);
        let row = self.owners[witness].disk.row.filter(|_| self.is_there(witness));
        let layout = layouts::next(&self.ring, &owners, row.map_or(0, |row| row.view.lo));
        let span = layout.spans.of(0);
        let mut ring = self.ring.clone();
        ring.push(Arc::new(layout)).expect("it follows the newest");
        let view = View { prefix: 0, bits: 0, lo: span.oldest, hi: span.since };
        let active = ring.configurations(&self.id(), &view).map_or(usize::MAX, |sets| sets.len());
        if active <= CONFIGURATIONS_MAX {
            self.changes_left -= 1;
            self.ring = ring;
        }
    }

    /// A directory is lost, if a majority of every configuration that may be active survives.
    fn wipe(&mut self, node: usize) {
        let lo =
            self.owners.iter().filter(|owner| !owner.is_gone).filter_map(|owner| owner.disk.row).map(|row| row.view.lo);
        let lo = lo.min().unwrap_or(1);
        let survives = self.ring.layouts().filter(|layout| layout.spans.of(0).since >= lo).all(|layout| {
            let lost =
                layout.owners(0).filter(|owner| usize::from(owner.0) == node || !self.is_there(usize::from(owner.0)));
            2 * lost.count() < layout.owners(0).count()
        });
        if self.wipes_left == 0 || !survives || !self.is_there(node) || self.owners[node].disk.row.is_none() {
            return;
        }
        self.wipes_left -= 1;
        self.met.wiped += 1;
        self.movers.remove(&node);
        if self.is_made(Mistake::WipedKeepsIdentity) {
            self.owners[node] = Owner::new(1);
            let layout = Arc::clone(self.ring.newest());
            self.owners[node].epoch = layout.epoch;
            if layout.owners(0).any(|owner| usize::from(owner.0) == node) {
                self.owners[node].adopt_partition(layout.view(0), true);
            }
            return;
        }
        self.owners[node].is_gone = true;
        self.newcomer = (self.newcomer + 1).min(NODES_MAX);
    }

    /// A coordinator begins an operation with any view that was ever true.
    fn begin(&mut self) {
        if self.operations.len() >= OPERATIONS_MAX {
            self.operations.swap_remove(self.random.below(OPERATIONS_MAX));
        }
        let action = if self.written < WRITES_MAX && self.random.chance(300) {
            self.written += 1;
            Action::Write(self.written - 1)
        } else {
            Action::Read { bound: self.completed }
        };
        let views: Vec<View> = self.views.iter().copied().collect();
        let newest = self.ring.newest();
        let view = match self.random.below(4) {
            0 | 1 => newest.view(0),
            // Whoever knows the newest layout may believe that it is active already.
            2 => View { hi: newest.spans.of(0).since, ..newest.view(0) },
            _ => *self.random.pick(&views),
        };
        self.numbers += 1;
        let number = self.numbers;
        self.operations.push(Operation { number, action, view, answered: BTreeSet::new(), found: 0 });
        self.ask(self.operations.len() - 1);
    }

    fn ask_again(&mut self) {
        if !self.operations.is_empty() {
            let at = self.random.below(self.operations.len());
            self.ask(at);
        }
    }

    fn ask(&mut self, at: usize) {
        let Operation { number, view, ref answered, .. } = self.operations[at];
        let answered = answered.clone();
        let Some(sets) = self.counted(&self.operations[at]) else { return };
        let owners: BTreeSet<usize> =
            sets.iter().flat_map(|set| &set.owners).map(|owner| usize::from(owner.0)).collect();
        for to in owners.difference(&answered) {
            self.send(usize::MAX, *to, Body::Operation { operation: number, view });
        }
    }

    pub(crate) fn send(&mut self, from: usize, to: usize, body: Body) {
        let message = Message { from, to, body };
        let network = if is_slow(&message) { &mut self.slow } else { &mut self.network };
        // Some get lost, some come twice.
        let copies = *self.random.pick(&COPIES);
        network.extend(std::iter::repeat_n(message, copies));
    }

    fn deliver(&mut self) {
        let is_slow = self.network.is_empty() || !self.slow.is_empty() && self.random.chance(20);
        let network = if is_slow { &mut self.slow } else { &mut self.network };
        if network.is_empty() {
            return;
        }
        let Message { from, to, body } = network.swap_remove(self.random.below(network.len()));
        if to != usize::MAX && !self.is_there(to) {
            return;
        }
        match body {
            Body::Operation { operation, view } => self.serve(to, operation, view),
            Body::Done { operation, view, result } => self.answered(from, operation, view, result),
            Body::Adopt { number, view } => {
                self.learn(to, view.hi);
                if let Some(standing) = self.owners[to].adopt(view) {
                    self.send(to, from, Body::Stands { number, standing });
                }
            }
            Body::Ask { number } => {
                if let Some(row) = self.owners[to].disk.row {
                    self.send(to, from, Body::Stands { number, standing: row.standing() });
                }
            }
            Body::Stands { number: 0, standing } => {
                self.learn(to, standing.view.hi);
                self.owners[to].adopt(standing.view);
            }
            Body::Stands { number, standing } => self.told(to, number, from, standing),
            Body::Sync { number, view } => {
                let known = self.known_under(to, view);
                known.into_iter().for_each(|known| self.send(to, from, Body::Synced { number, known }));
            }
            Body::Synced { number, known } => self.synced(to, number, from, known),
        }
        for row in self.owners.iter().filter_map(|owner| owner.disk.row) {
            self.views.insert(row.view);
        }
    }

    fn known_under(&self, node: usize, view: View) -> Option<Result<Known, View>> {
        let row = self.owners[node].disk.row?;
        let known = self.owners[node].known(&self.register);
        let is_unfenced = matches!(self.mistake, Some(Mistake::NoFence | Mistake::SyncBeforeFence));
        match row.view {
            mine if mine == view || is_unfenced => Some(Ok(known)),
            mine if !view.covers(&mine) => Some(Err(mine)),
            _ => None,
        }
    }

    /// A replica is asked. What is newer than its row is adopted first.
    fn serve(&mut self, node: usize, operation: u64, view: View) {
        self.learn(node, view.hi);
        let Some(row) = self.owners[node].disk.row else { return };
        if row.view.hi < view.hi || row.view.lo < view.lo {
            self.owners[node].adopt(view);
        }
        let Some(action) = self.operations.iter().find(|known| known.number == operation).map(|known| known.action)
        else {
            return;
        };
        let result = match action {
            Action::Write(write) => {
                self.owners[node].merge(&self.register, view, 1 << write).map(|done| done.map(|()| 0))
            }
            Action::Read { .. } => self.owners[node].read(&self.register, view),
        };
        if let Some(result) = result {
            self.send(node, usize::MAX, Body::Done { operation, view, result });
        }
    }

    /// A coordinator is answered.
    fn answered(&mut self, from: usize, number: u64, under: View, result: Result<Known, View>) {
        let Some(at) = self.operations.iter().position(|known| known.number == number) else { return };
        let keeps = self.is_made(Mistake::KeepAcksAcrossViews);
        let operation = &mut self.operations[at];
        match result {
            Ok(known) if under == operation.view || keeps => {
                operation.answered.insert(from);
                operation.found |= known;
            }
            Ok(_) => {}
            Err(theirs) => {
                self.met.stale += 1;
                let joined = operation.view.join(&theirs);
                if joined != operation.view {
                    operation.view = joined;
                    if !keeps {
                        (operation.answered, operation.found) = (BTreeSet::new(), 0);
                    }
                    self.ask(at);
                }
            }
        }
        if self.is_reached(at) {
            self.complete(at);
        }
    }

    /// The configurations that an operation asks.
    fn counted(&self, operation: &Operation) -> Option<Vec<OwnerSet>> {
        let mut sets = self.ring.configurations(&self.id(), &operation.view)?;
        let is_newest_enough = match operation.action {
            Action::Write(_) => self.is_made(Mistake::WriteNewestOnly),
            Action::Read { .. } => self.is_made(Mistake::ReadNewestOnly),
        };
        if is_newest_enough {
            sets.drain(..sets.len() - 1);
        }
        Some(sets)
    }

    fn is_reached(&self, at: usize) -> bool {
        let operation = &self.operations[at];
        let quorums = self.counted(operation).and_then(|sets| quorums(operation.view, &sets));
        let mut places = Places::NONE;
        operation.answered.iter().filter_map(|node| Place::new(*node)).for_each(|place| places.insert(place));
        quorums.is_some_and(|quorums| quorums.verdict(places, Places::NONE) == Verdict::Reached)
    }

    fn complete(&mut self, at: usize) {
        let Operation { action, view, found, number, answered } = self.operations.swap_remove(at);
        self.met.joint += u64::from(view.lo < view.hi);
        self.met.settled += u64::from(view.lo == view.hi && view.hi > 1);
        match action {
            Action::Write(write) => {
                self.met.writes += 1;
                self.completed |= 1 << write;
            }
            Action::Read { bound } => {
                self.met.reads += u64::from(bound != 0);
                if bound & !found != 0 {
                    self.broken = Some(format!(
                        "read {number} under {view:?} by {answered:?} found {found:b}, and {bound:b} were written before"
                    ));
                }
            }
        }
    }
}

/// Whether a message takes very long. All of one conversation to the same nodes do, or none: somebody completes an operation, or a step
/// of a move, and some have not heard of it for a long time.
fn is_slow(message: &Message) -> bool {
    let number = match &message.body {
        Body::Operation { operation: number, .. } | Body::Adopt { number, .. } | Body::Sync { number, .. } => *number,
        Body::Done { .. } | Body::Ask { .. } | Body::Stands { .. } | Body::Synced { .. } => return false,
    };
    let drawn = Random(number).next();
    drawn.is_multiple_of(2) && drawn >> (8 + message.to) & 1 == 1
}

/// A majority of every configuration. A node's place is its position.
fn quorums(view: View, sets: &[OwnerSet]) -> Option<Quorums> {
    let configuration = |set: &OwnerSet| {
        let mut places = Places::NONE;
        set.owners.iter().filter_map(|owner| Place::new(usize::from(owner.0))).for_each(|place| places.insert(place));
        Configuration { places, need: places.len() / 2 + 1 }
    };
    let configurations: Vec<Configuration> = sets.iter().map(configuration).collect();
    Quorums::new(view, &configurations)
}
