//! The driver of the steward: it hands what happens to the machine and does what the machine wants done. The machine
//! decides, the driver reads the clock, the store and the network. No borrow of the state is held across an await.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    mem,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use dynamo::{
    coordinator::CallId,
    layout::NodeIndex,
    peer::MoveAnswer,
    round::{Answer, Ask},
    steward::{Effect, Input, Steward, StewardConfig},
    tick::Tick,
};
use tokio::sync::Notify;

use super::{
    handle::Traffic,
    links::{self, Links, Outgoing},
    local::{self, Answered, Local},
};
use crate::{
    node::{Known, Node},
    store::{Completion, CompletionQueue, Progress, Submission},
    worker::Keepers,
};

/// The steward's driver.
pub(super) struct Driver {
    /// The node it works for.
    pub(super) node: Arc<Node>,
    /// The ring that the machine began with.
    began_with: Arc<Known>,
    /// The share of full speed that background work has, in thousandths.
    pub(super) share: Cell<u32>,
    /// Told when a scrub is wanted at once.
    pub(super) scrub_wanted: Notify,
    writes: Arc<CompletionQueue>,
    hint_writes: Arc<CompletionQueue>,
    state: RefCell<State>,
    /// Told when the machine wants to be woken earlier than it last said.
    earlier: Notify,
}

struct State {
    steward: Steward,
    links: Links,
    local: Local,
    /// When the task that waits for deadlines will wake.
    armed: Option<Tick>,
}

impl Driver {
    /// A driver without connections.
    pub(super) fn new(node: Arc<Node>) -> Rc<Self> {
        let mut seed = [0; 8];
        // Without randomness two nodes may compare in the same order, which is merely less even.
        let _ = getrandom::fill(&mut seed);
        let known = node.known();
        let (me, ring) = (known.me, Arc::clone(&known.ring));
        let mut config = StewardConfig::new(me, ring, node.rows(), u64::from_le_bytes(seed));
        config.is_unclean = node.store.was_unclean();
        config.exchange_every_ms = u64::from(node.config.background.exchange_every_ms);
        let mut steward = Steward::new(config, node.now());
        // Nobody is connected yet; whoever comes is compared with, because one of the two was away.
        let mut none = Vec::new();
        for (peer, _) in known.others() {
            steward.step(node.now(), Input::PeerState { node: peer, reachable: false }, &mut none);
        }
        let shards = usize::from(node.store.identity().shards);
        let mut links = Links::default();
        links.grow(known.layout().members.len());
        let driver = Rc::new(Self {
            began_with: known,
            share: Cell::new(1_000),
            scrub_wanted: Notify::new(),
            writes: CompletionQueue::new(),
            hint_writes: CompletionQueue::new(),
            state: RefCell::new(State { steward, links, local: Local::new(shards), armed: None }),
            earlier: Notify::new(),
            node,
        });
        driver.advance(Vec::new(), none);
        driver
    }

    /// Follows the ring, for ever: a connection is kept to each of its nodes.
    pub(super) async fn follow_ring(self: Rc<Self>) {
        let mut changes = self.node.changes();
        let mut keepers = Keepers::default();
        let mut before = Arc::clone(&self.began_with);
        loop {
            let known = Arc::clone(&changes.borrow_and_update());
            self.change_links(|links| links.grow(known.layout().members.len()));
            if !Arc::ptr_eq(&before, &known) {
                let (me, ring) = (known.me, Arc::clone(&known.ring));
                self.tell([Input::Ring { me, ring, rows: self.node.rows() }]);
                // Who came is not connected yet, and who left is not any more.
                let changed: Vec<NodeIndex> = others(&before).symmetric_difference(&others(&known)).copied().collect();
                self.change_links(|links| changed.iter().for_each(|node| links.down(*node)));
                self.tell(changed.into_iter().map(|node| Input::PeerState { node, reachable: false }));
                before = Arc::clone(&known);
            }
            keepers.follow(&known, |to| links::keep(Rc::clone(&self), to));
            tokio::select! {
                changed = changes.changed() => changed.expect("the node lives as long as its steward"),
                () = keepers.panicked() => panic!("a task that keeps a connection ended"),
            }
        }
    }

    /// Tells the machine what this node's rows know of their partitions, for ever.
    pub(super) async fn follow_views(self: Rc<Self>) {
        let (feed, mut views) = (self.node.store.view_feed(), Vec::new());
        loop {
            feed.arrived().await;
            feed.drain(&mut views);
            self.tell(views.drain(..).map(|view| Input::View { view }));
        }
    }

    /// Tells the machine what happened.
    pub(super) fn tell(self: &Rc<Self>, inputs: impl IntoIterator<Item = Input>) {
        self.advance(inputs.into_iter().collect(), Vec::new());
    }

    /// Tells the machine what became of its effects.
    pub(super) fn answered(self: &Rc<Self>, answers: impl IntoIterator<Item = Answered>) {
        self.tell(answers.into_iter().map(|(call, answer)| Input::Answer { call, answer }));
    }

    /// Changes the links; what they give up by it was not sent.
    pub(super) fn change_links<R>(self: &Rc<Self>, change: impl FnOnce(&mut Links) -> R) -> R {
        let (result, unsent) = {
            let links = &mut self.state.borrow_mut().links;
            (change(links), links.take_unsent())
        };
        self.answered(unsent.into_iter().map(|call| (call, Answer::NotSent)));
        result
    }

    /// Counts what a call carried.
    pub(super) fn count(&self, count: impl FnOnce(&mut Traffic)) {
        self.node.steward.show(|seen| count(&mut seen.traffic));
    }

    /// Waits for the store's answers to local writes, for ever.
    pub(super) async fn complete_writes(self: Rc<Self>) {
        let mut completions = Vec::new();
        loop {
            self.writes.arrived().await;
            self.writes.drain(&mut completions);
            self.answered(completions.drain(..).filter_map(answer));
        }
    }

    /// Waits for answers to changes of the hints, for ever.
    pub(super) async fn complete_hints(self: Rc<Self>) {
        let mut completions = Vec::new();
        loop {
            self.hint_writes.arrived().await;
            self.hint_writes.drain(&mut completions);
            self.answered(completions.drain(..).filter_map(answer));
        }
    }

    /// Takes in what the rest of the node tells, for ever.
    pub(super) async fn listen(self: Rc<Self>) {
        loop {
            self.node.steward.told().await;
            let inbox = self.node.steward.take();
            if inbox.run.scrub {
                self.scrub_wanted.notify_one();
            }
            self.change_links(|links| inbox.heard.iter().for_each(|node| links.heard(*node)));
            let mut inputs: Vec<Input> =
                inbox.corrupt.into_iter().map(|store_key| Input::Corrupt { store_key }).collect();
            if inbox.run.exchange || inbox.run.hints {
                inputs.push(Input::Run { exchange: inbox.run.exchange, hints: inbox.run.hints });
            }
            self.tell(inputs);
        }
    }

    /// Wakes the machine when it wants to be woken, for ever.
    pub(super) async fn watch_deadlines(self: Rc<Self>) {
        loop {
            let next = {
                let mut state = self.state.borrow_mut();
                state.armed = state.steward.next_deadline();
                state.armed
            };
            match next {
                None => self.earlier.notified().await,
                Some(next) => {
                    let sleep = tokio::time::sleep_until((self.node.started + Duration::from_millis(next.0)).into());
                    tokio::select! {
                        () = sleep => self.tell([Input::Deadline]),
                        () = self.earlier.notified() => {}
                    }
                }
            }
        }
    }

    /// Lets something happen and does all that follows from it.
    fn advance(self: &Rc<Self>, inputs: Vec<Input>, mut effects: Vec<Effect>) {
        let now = self.node.now();
        let mut departures = Vec::new();
        {
            let state = &mut *self.state.borrow_mut();
            for input in inputs {
                state.steward.step(now, input, &mut effects);
            }
            let mut answers = Vec::new();
            while !effects.is_empty() {
                for Effect { call, ask } in mem::take(&mut effects) {
                    self.carry_out(state, call, ask, &mut answers);
                }
                state.local.carry_out(&self.node, &self.writes, &self.hint_writes, &mut answers);
                for (call, answer) in answers.drain(..) {
                    state.steward.step(now, Input::Answer { call, answer }, &mut effects);
                }
            }
            state.links.depart(&mut departures);
            let status = state.steward.status();
            self.node.steward.show(|seen| seen.status = status);
            self.node.steward.set_at_work(state.steward.partitions_at_work());
            self.node.steward.set_transfers(state.steward.transfer_totals(), state.steward.transfers());
            let next = state.steward.next_deadline();
            if next.is_some_and(|next| state.armed.is_none_or(|armed| next < armed)) {
                state.armed = next;
                self.earlier.notify_one();
            }
        }
        for departure in departures {
            tokio::task::spawn_local(Outgoing::travel(departure, Rc::clone(self)));
        }
    }

    fn carry_out(&self, state: &mut State, call: CallId, ask: Ask, answers: &mut Vec<Answered>) {
        let (node, local) = (&*self.node, &mut state.local);
        match ask {
            Ask::Tree { to, question } => {
                if !state.links.question(to, call, question) {
                    answers.push((call, Answer::NotSent));
                }
            }
            Ask::Peer { to, operation } => {
                if !state.links.operation(to, call, operation) {
                    answers.push((call, Answer::NotSent));
                }
            }
            Ask::Move { to, question } => {
                if !state.links.movement(to, call, question) {
                    answers.push((call, Answer::NotSent));
                }
            }
            Ask::LocalStanding { bits, prefix } => {
                let standing = node.store.standing(bits, prefix);
                answers.push((call, Answer::Move(standing.map_or(MoveAnswer::Unknown, MoveAnswer::Standing))));
            }
            Ask::WantLayout { epoch } => {
                let node = Arc::clone(&self.node);
                // It waits for the disk.
                drop(tokio::task::spawn_blocking(move || node.want_layout(epoch)));
                answers.push((call, Answer::NotSent));
            }
            Ask::LocalTree { question } => answers.push((call, Answer::Tree(node.store.tree(&question)))),
            Ask::LocalRead { operation } => local.read(call, operation),
            Ask::LocalWrite { operation } => {
                let shard = node.store.shard_of(&operation.store_key());
                local.write(shard, Submission { token: Some(call.0), operation });
            }
            Ask::HintTargets => answers.push((call, local::targets(node))),
            Ask::HintScan { target, after, records_max, bytes_max } => {
                answers.push((call, local::scan(node, target, after, records_max, bytes_max)));
            }
            Ask::LocalHint { operation } => local.hint(call, operation),
        }
    }
}

/// The places of all nodes but this one.
fn others(known: &Known) -> BTreeSet<NodeIndex> {
    known.others().map(|(other, _)| other).collect()
}

/// The answer to a local write.
fn answer(Completion { token, progress }: Completion) -> Option<Answered> {
    match progress {
        Progress::Minted(_) => None,
        Progress::Finished(outcome) => Some((CallId(token), Answer::Written(outcome))),
    }
}
