//! The steward: what a node does for its replicas while nobody asks (paper, sections 4.6 and 4.7). It decides when which
//! partition is compared with whom ([`crate::exchange`]), when whose hints are delivered ([`crate::handoff`]), when an unreadable
//! record is rebuilt ([`crate::rebuild`]), and when a partition that moves goes on ([`crate::relocation`]).
//!
//! It is a state machine like the coordinator: [`Steward::step`] takes one input and appends effects,
//! [`Steward::next_deadline`] says when it wants to be woken. It keeps no clock and draws no randomness of its own. At most so
//! many conversations run at once, and all of them together do at most so much work in a second, of which [`Input::Share`]
//! leaves a part: background work gives way to clients, but never stops.
//!
//! Everything here is safe to lose and to repeat: what it moves is merged, and what it deletes (hints alone) was acknowledged.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};
use core::mem;

use crate::{
    coordinator::CallId,
    exchange::Exchange,
    handoff::Handoff,
    holdings::Holdings,
    ident::StoreKey,
    layout::{NodeIndex, View},
    peer::Standing,
    rebuild::Rebuild,
    ring::Ring,
    round::{Answer, Ask, End, Next, ROUND_ASKS_MAX},
    tick::Tick,
};

mod backlog;
mod config;
mod following;
mod moves;
mod moving;
mod neighbours;
mod pace;
mod progress;
mod rate;
mod schedule;
mod transfers;
mod work;

pub use backlog::UNREADABLE_MAX;
pub use config::StewardConfig;
pub use progress::{Progress, State, Status};
pub use transfers::{TRANSFERS_LISTED_MAX, Transfer, TransferState, TransferTotals};

use backlog::Backlog;
use moves::Moves;
use neighbours::Neighbours;
use pace::Pace;
use schedule::Schedule;
use work::{Task, Work};

/// Bits of a call's name that say which ask of its round it answers.
const ASK_BITS: u32 = ROUND_ASKS_MAX.ilog2();

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// What became of an [`Effect`]. Every effect should be answered; one that is not is given up after a while.
    Answer {
        /// Which.
        call: CallId,
        /// What became of it.
        answer: Answer,
    },
    /// Another node came or went. Nodes count as reachable until it is said otherwise.
    PeerState {
        /// Which.
        node: NodeIndex,
        /// Whether calls to it make sense now.
        reachable: bool,
    },
    /// The ring has changed, and the store has followed: rows are there for every partition that this node is to own.
    Ring {
        /// This node's place in it.
        me: Option<NodeIndex>,
        /// The layouts that were agreed upon.
        ring: Arc<Ring>,
        /// Every row of this node.
        rows: Vec<Standing>,
    },
    /// A row of this node has this view now.
    View {
        /// The view.
        view: View,
    },
    /// A record here was found that can't be verified.
    Corrupt {
        /// Which.
        store_key: StoreKey,
    },
    /// Records of a partition here are missing.
    Missing {
        /// Which.
        partition: u32,
    },
    /// An operator wants something done now.
    Run {
        /// Compare every partition with every other owner.
        exchange: bool,
        /// Deliver all hints whose targets can be reached.
        hints: bool,
    },
    /// How much of its full speed background work has from now on, in thousandths.
    Share {
        /// 1 to 1000.
        permille: u32,
    },
    /// The time of [`Steward::next_deadline`] has come.
    Deadline,
}

/// What is to be done: an ask whose answer comes back under its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Comes back with the answer.
    pub call: CallId,
    /// What is asked.
    pub ask: Ask,
}

/// Which round a call belongs to: what was asked in one round is best carried out together, and apart from others.
pub fn round_of(call: CallId) -> u64 {
    call.0 >> ASK_BITS
}

/// The steward of one node.
#[derive(Debug)]
pub struct Steward {
    config: StewardConfig,
    holdings: Holdings,
    neighbours: Neighbours,
    schedule: Schedule,
    backlog: Backlog,
    moves: Moves,
    pace: Pace,
    /// Layouts are not asked for again before this.
    wants_again_at: Tick,
    now: Tick,
    /// Conversations, by a number that is never used again.
    work: BTreeMap<u64, Work>,
    /// Those that can go on as soon as the pace allows.
    ready: VecDeque<u64>,
    /// Whose answers are awaited, by the round's number.
    rounds: BTreeMap<u64, u64>,
    next_number: u64,
    exchange: Progress,
    hints: Progress,
    rebuild: Progress,
}

impl Steward {
    /// A steward that begins now.
    pub fn new(mut config: StewardConfig, now: Tick) -> Self {
        let holdings = Holdings::new(config.me, Arc::clone(&config.ring), mem::take(&mut config.rows));
        let mut exchange = Progress::default();
        let mut neighbours = Neighbours::new(&config, &holdings);
        if config.is_unclean {
            exchange.begin(neighbours.level_with_everyone());
        }
        Self {
            schedule: Schedule::new(&config, &holdings, now),
            backlog: Backlog::new(&config, now),
            moves: Moves::new(&config, &holdings, now),
            pace: Pace::new(config.work_per_second, now),
            wants_again_at: now,
            now,
            neighbours,
            holdings,
            work: BTreeMap::new(),
            ready: VecDeque::new(),
            rounds: BTreeMap::new(),
            next_number: 0,
            exchange,
            hints: Progress::default(),
            rebuild: Progress::default(),
            config,
        }
    }

    /// Takes in what happened and appends what is to be done.
    pub fn step(&mut self, now: Tick, input: Input, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        match input {
            Input::Answer { call, answer } => {
                if !self.answered(call, answer) {
                    return;
                }
            }
            Input::PeerState { node, reachable } => {
                if self.neighbours.set_reachable(now, node, reachable) {
                    self.backlog.retry_now(now);
                    self.moves.hurry(now);
                }
            }
            Input::Ring { me, ring, rows } => self.follow(now, me, ring, rows),
            Input::View { view } => self.note_view(now, view),
            Input::Corrupt { store_key } => {
                if self.owns(&store_key) && self.backlog.add_unreadable(now, store_key) {
                    self.rebuild.begin(1);
                }
            }
            Input::Missing { partition } => self.exchange.begin(self.neighbours.level_partition(partition)),
            Input::Run { exchange, hints } => {
                if exchange {
                    self.exchange.begin(self.neighbours.level_with_everyone());
                }
                if exchange || hints {
                    self.neighbours.forgive();
                    self.backlog.forgive();
                    self.backlog.look_now(now);
                    self.moves.hurry(now);
                }
            }
            Input::Share { permille } => self.pace.set_share(now, permille),
            Input::Deadline => {}
        }
        self.go_on(now, effects);
    }

    /// When [`Input::Deadline`] is wanted at the latest.
    pub fn next_deadline(&self) -> Option<Tick> {
        let work = self.work.values().filter_map(Work::deadline).min();
        let ready = (!self.ready.is_empty()).then(|| self.pace.opens_at());
        let begin_exchange = if self.has_room_for_exchange() { self.schedule.next_due(&self.neighbours) } else { None };
        let begin_rebuild = if self.has_room_for_rebuild() { self.backlog.next_rebuild() } else { None };
        let (look, returns, moves) = (self.backlog.next_look(), self.neighbours.next_return(), self.moves.next_due());
        let times = [work, ready, begin_exchange, begin_rebuild, look, returns, moves];
        times.into_iter().flatten().min()
    }

    /// The partitions of which something may be held here that was read and is not written yet: those that are being compared,
    /// and those of records that are being rebuilt. Deliveries hold only what is kept as a hint until it is written.
    pub fn partitions_at_work(&self) -> BTreeSet<u32> {
        let partition = |task: &Task| match task {
            Task::Exchange(exchange) => Some(exchange.view().prefix),
            Task::Rebuild(rebuild) => Some(self.holdings.layout().partition(&rebuild.store_key().id())),
            Task::Move(step) => Some(step.view().prefix),
            Task::Survey | Task::Handoff(_) | Task::Learn { .. } | Task::Want { .. } => None,
        };
        self.work.values().filter_map(|work| partition(&work.task)).collect()
    }

    /// How everything stands.
    pub fn status(&self) -> Status {
        let runs = |is_it: fn(&Task) -> bool| self.work.values().any(|work| is_it(&work.task));
        let state = |runs: bool, waits: bool| match (runs, waits) {
            (true, _) => State::Running,
            (false, true) => State::Waiting,
            (false, false) => State::Idle,
        };
        let is_exchange = |task: &Task| matches!(task, Task::Exchange(_));
        let is_handoff = |task: &Task| matches!(task, Task::Handoff(_));
        let is_rebuild = |task: &Task| matches!(task, Task::Rebuild(_));
        Status {
            exchange: self.exchange.seen(state(runs(is_exchange), self.neighbours.has_wishes())),
            hints: self.hints.seen(state(runs(is_handoff), self.backlog.has_hints())),
            rebuild: self.rebuild.seen(state(runs(is_rebuild), self.backlog.unreadable() > 0)),
            unreadable: self.backlog.unreadable() as u64,
            unreadable_forgotten: self.backlog.forgotten(),
            share_permille: self.pace.share(),
        }
    }

    /// Books an answer; `true` if it was the last of its round.
    fn answered(&mut self, call: CallId, answer: Answer) -> bool {
        let (round, at) = (round_of(call), call.0 as usize & (ROUND_ASKS_MAX - 1));
        let Some(&number) = self.rounds.get(&round) else { return false };
        let Some(work) = self.work.get_mut(&number) else { return false };
        if !work.put(at, answer) {
            return false;
        }
        self.rounds.remove(&round);
        self.ready.push_back(number);
        true
    }

    /// Does all that can be done now.
    fn go_on(&mut self, now: Tick, effects: &mut Vec<Effect>) {
        self.give_up_late(now);
        for node in self.neighbours.returned(now) {
            self.exchange.begin(self.neighbours.level_with(node));
        }
        self.begin_work(now);
        while self.pace.is_open(now)
            && let Some(number) = self.ready.pop_front()
        {
            self.advance(now, number, effects);
            self.begin_work(now);
        }
    }

    /// Lets rounds that wait for too long go on without what is missing, and wakes what has waited long enough.
    fn give_up_late(&mut self, now: Tick) {
        for (&number, work) in &mut self.work {
            if work.deadline().is_some_and(|deadline| deadline <= now) {
                if let Some(round) = work.give_up() {
                    self.rounds.remove(&round);
                }
                self.ready.push_back(number);
            }
        }
    }

    /// Begins what is due, as far as there is room.
    fn begin_work(&mut self, now: Tick) {
        if self.backlog.take_look(now) {
            self.begin(Task::Survey);
        }
        let hands_over = !self.holdings.is_given_up();
        let can_take = |target| hands_over && self.neighbours.can_take_hints(now, &self.holdings, target);
        for target in self.backlog.take_targets(now, can_take) {
            self.begin(Task::Handoff(Handoff::new(target)));
        }
        while let Some(next) = self.moves.take(now, &self.holdings, &self.neighbours) {
            self.begin(Task::Move(next));
        }
        while self.has_room_for_rebuild()
            && let Some(store_key) = self.backlog.take_rebuild(now)
        {
            self.begin(Task::Rebuild(Rebuild::new(&self.holdings, store_key)));
        }
        while self.has_room_for_exchange()
            && let Some((partition, peer, is_new)) = self.schedule.take(now, &mut self.neighbours)
        {
            self.exchange.begin(usize::from(is_new));
            let view = self.holdings.view(partition);
            self.begin(Task::Exchange(Exchange::new(view, peer, self.config.confirm_after_ms)));
        }
    }

    fn begin(&mut self, task: Task) {
        let number = self.number();
        self.work.insert(number, Work::new(task));
        self.ready.push_back(number);
    }

    /// Takes one conversation further.
    fn advance(&mut self, now: Tick, number: u64, effects: &mut Vec<Effect>) {
        let Some(work) = self.work.get_mut(&number) else { return };
        let (answers, discount) = (work.take_answers(), work.task.discount());
        if let Task::Move(step) = &work.task {
            self.moves.received(now, step.received(&answers));
        }
        self.learn(now, &answers);
        let Some(work) = self.work.get_mut(&number) else { return };
        self.pace.spend(answers.iter().map(Answer::cost).sum::<u64>().div_ceil(discount));
        match work.next(now, answers, &self.holdings, &mut self.backlog) {
            Next::Ask(asks) => {
                debug_assert!((1..=ROUND_ASKS_MAX).contains(&asks.len()));
                self.pace.spend(asks.iter().map(Ask::cost).sum::<u64>().div_ceil(discount));
                let round = self.number();
                self.rounds.insert(round, number);
                if let Some(work) = self.work.get_mut(&number) {
                    work.wait_for(round, asks.len(), now.after(self.config.patience_ms));
                }
                let name = |at: usize| CallId(round << ASK_BITS | at as u64);
                effects.extend(asks.into_iter().enumerate().map(|(at, ask)| Effect { call: name(at), ask }));
            }
            Next::Wait(until) => work.wait_until(until),
            Next::End(end) => {
                if let Some(work) = self.work.remove(&number) {
                    self.ended(now, work.task, end);
                }
            }
        }
    }

    /// Books how a conversation ended.
    fn ended(&mut self, now: Tick, task: Task, end: End) {
        match task {
            Task::Survey | Task::Learn { .. } | Task::Want { .. } => {}
            Task::Move(step) => {
                for store_key in step.corrupt() {
                    if self.backlog.add_unreadable(now, *store_key) {
                        self.rebuild.begin(1);
                    }
                }
                self.moves.ended(now, &self.holdings, &step, end);
            }
            Task::Exchange(exchange) => self.exchange_ended(now, &exchange, end),
            Task::Handoff(handoff) => {
                let report = handoff.report();
                self.hints.advance(now, report.delivered);
                self.hints.failed += report.refused + report.failed;
                self.neighbours.handoff_ended(now, &self.holdings, handoff.target(), end);
                self.backlog.handoff_ended(now, handoff.target(), end, report, &self.config);
            }
            Task::Rebuild(rebuild) => match end {
                End::Complete => {
                    self.backlog.rebuilt(rebuild.store_key());
                    self.rebuild.advance(now, 1);
                }
                // What is not here any more needs no rebuilding.
                End::Failed | End::Unfit if !self.owns(rebuild.store_key()) => {
                    self.backlog.rebuilt(rebuild.store_key());
                    self.rebuild.finish(now, 1);
                }
                End::Failed | End::Unfit => {
                    self.rebuild.failed += 1;
                    self.backlog.rebuild_failed(now, *rebuild.store_key(), &self.config);
                }
            },
        }
    }

    fn exchange_ended(&mut self, now: Tick, exchange: &Exchange, end: End) {
        let (report, partition, peer) = (exchange.report(), exchange.view().prefix, exchange.peer());
        for store_key in &report.corrupt {
            if self.backlog.add_unreadable(now, *store_key) {
                self.rebuild.begin(1);
            }
        }
        self.exchange.repaired += report.pulled + report.pushed;
        self.exchange.failed += report.refused;
        self.neighbours.exchange_ended(now, partition, peer, end);
        match end {
            End::Complete => self.exchange.finish(now, 1),
            // Its turn comes again with the schedule, and it shows as failed.
            End::Unfit => {
                self.exchange.failed += 1;
                self.exchange.finish(now, 1);
            }
            // It is tried again, and counts when it has succeeded.
            End::Failed => {
                self.exchange.failed += 1;
                if !self.neighbours.level(partition, peer) {
                    // Somebody has wished it again meanwhile: that counts for both.
                    self.exchange.finish(now, 1);
                }
            }
        }
    }

    fn has_room_for_exchange(&self) -> bool {
        self.count(|task| matches!(task, Task::Exchange(_))) < self.config.exchanges_max
    }

    fn has_room_for_rebuild(&self) -> bool {
        self.count(|task| matches!(task, Task::Rebuild(_))) < self.config.rebuilds_max
    }

    fn count(&self, is_it: fn(&Task) -> bool) -> usize {
        self.work.values().filter(|work| is_it(&work.task)).count()
    }

    fn owns(&self, store_key: &StoreKey) -> bool {
        self.holdings.holds(self.holdings.layout().partition(&store_key.id()))
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}
