//! The client's machine: everything between an operation that was submitted and its answer, without any input or output.
//!
//! Operations come in, are routed to a node's link, gather there while a call is under way, and leave together in one batch.
//! Answers, broken connections and the passing of time come in as well; calls to make, connections to open and results to
//! deliver go out as [`Effect`]s. The driver ([`crate::driver`]) performs them on an I/O thread; tests perform them by hand.
//!
//! Time costs nothing per operation: deadlines stand in the table of operations, and the whole table is swept when the
//! earliest of them has come. In the usual case that is once per timeout, not once per operation.

mod large;
pub(crate) mod link;
mod settle;
mod sweep;
pub(crate) mod table;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use dynamo::{
    ident::NodeId,
    layout::{Layout, Level, NodeIndex},
    operation::{Action, Operation, Reply},
};
use schema::convert::{BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX, operation_bytes};

use crate::{
    Completer, Error,
    random::Random,
    retry::{Budget, Trouble},
    routing::{self, Health, Kind, Route},
};
use large::{has_room, large_bytes, time_to_carry};
use link::{Link, LinkId};
use table::{Entry, Stage, Table, Ticket};

/// While calls are under way, a new batch leaves when it has this many operations: enough to make the call's own cost small
/// beside theirs, few enough that the node always has the next batch while it works on one.
const BATCH_WANTED: usize = 128;

/// The same in bytes.
const BATCH_BYTES_WANTED: usize = 64 * 1024;

/// The longest that operations gather while earlier calls are under way. It keeps a slow batch from holding up others.
const GATHER_MAX: Duration = Duration::from_millis(1);

/// Calls under way on one connection: enough that slow batches do not block quick ones, far below what nodes accept.
const CALLS_MAX: u32 = 64;

/// Operations that one call carries at most: with more, node and client take turns instead of working at the same time, while what a
/// call costs by itself is spread over enough operations already.
const CALL_OPERATIONS_MAX: usize = if BATCH_OPERATIONS_MAX < 256 { BATCH_OPERATIONS_MAX } else { 256 };

/// Nodes that may fail an operation before all are considered again.
const TRIED_MAX: usize = 8;

/// What the machine was told to keep to.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Time for one attempt.
    pub(crate) attempt_timeout: Duration,
    /// How often an operation is sent at most.
    pub(crate) attempts_max: u32,
    /// Operations under way at the same time; more wait their turn.
    pub(crate) in_flight_max: usize,
    /// The client's own zone.
    pub(crate) zone: Option<String>,
}

/// An operation as it was submitted.
pub(crate) struct Submission {
    pub(crate) operation: Operation,
    /// Names it among all operations of the client.
    pub(crate) sequence: u64,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    pub(crate) token: u64,
    pub(crate) completer: Arc<dyn Completer>,
}

impl Submission {
    fn is_wanted(&self) -> bool {
        self.completer.is_wanted(self.token)
    }
}

/// What shall happen.
pub(crate) enum Effect {
    /// Open a connection, then say [`Engine::connected`] or [`Engine::unreachable`].
    Connect(LinkId),
    /// Close the connection; the machine has already drawn its conclusions.
    Disconnect(LinkId),
    /// Make the call, then say [`Engine::answered`], [`Engine::refused`] or [`Engine::lost`].
    Send { call: u64, link: LinkId, budget: Duration },
    /// Deliver a result.
    Complete { completer: Arc<dyn Completer>, token: u64, result: Result<Reply, Error> },
    /// A node knows a layout of this epoch or a newer one.
    Refresh { link: LinkId, epoch: u64 },
    /// A node can be reached, or can't be any more.
    Health { link: LinkId, up: bool },
}

/// Numbers that only grow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) retries: u64,
    pub(crate) calls: u64,
    pub(crate) operations_sent: u64,
    pub(crate) disconnects: u64,
}

/// A call under way.
struct Call {
    link: LinkId,
    tickets: Vec<Ticket>,
    /// What it counts towards [`large::UNDER_WAY_MAX`].
    large_bytes: usize,
    sent_at: Instant,
    /// Whether an operation's time for it is over; it then counts as lost for the breaker, once.
    late: bool,
}

/// The machine.
pub(crate) struct Engine {
    settings: Settings,
    layout: Arc<Layout>,
    /// By [`LinkId`]; never shrinks, so an id stays what it is.
    links: Vec<Link>,
    /// The link of each node that was ever a member.
    by_node: HashMap<NodeId, LinkId>,
    /// The link of each member of the layout.
    of_member: Vec<LinkId>,
    /// What routing knows of each member.
    health: Vec<Health>,
    table: Table,
    /// Operations that wait because enough others are under way.
    backlog: VecDeque<Ticket>,
    in_flight: usize,
    calls: HashMap<u64, Call>,
    calls_made: u64,
    /// Links that may have something to send.
    dirty: Vec<LinkId>,
    budget: Budget,
    random: Random,
    next_event: Option<Instant>,
    /// When the latencies of nodes without traffic were halved last.
    latency_halved: Instant,
    released: usize,
    pub(crate) counts: Counts,
    /// What shall happen; the driver empties it.
    pub(crate) effects: Vec<Effect>,
}

impl Engine {
    /// A machine that follows `layout`.
    pub(crate) fn new(settings: Settings, layout: Arc<Layout>, random: Random, now: Instant) -> Self {
        let budget = Budget::full(settings.in_flight_max);
        let mut engine = Self {
            settings,
            layout: Arc::clone(&layout),
            links: Vec::new(),
            by_node: HashMap::new(),
            of_member: Vec::new(),
            health: Vec::new(),
            table: Table::default(),
            backlog: VecDeque::new(),
            in_flight: 0,
            calls: HashMap::new(),
            calls_made: 0,
            dirty: Vec::new(),
            budget,
            random,
            next_event: None,
            latency_halved: now,
            released: 0,
            counts: Counts::default(),
            effects: Vec::new(),
        };
        engine.set_layout(layout, now);
        engine
    }

    /// Takes an operation in.
    pub(crate) fn submit(&mut self, now: Instant, submission: Submission) {
        let kind = match submission.operation.action {
            Action::Get { .. } => Kind::Read,
            Action::Put { .. } | Action::Delete { .. } => Kind::Write,
        };
        self.note(submission.deadline);
        let ticket = self.table.insert(Entry::new(submission, kind));
        if self.in_flight >= self.settings.in_flight_max {
            self.backlog.push_back(ticket);
        } else {
            self.start(now, ticket);
        }
    }

    /// Ends operations without telling anyone. One look through the table for all of them: they may be many.
    pub(crate) fn cancel(&mut self, now: Instant, sequences: &mut [u64]) {
        if sequences.is_empty() {
            return;
        }
        sequences.sort_unstable();
        self.table.find(sequences).into_iter().for_each(|ticket| self.forget(now, ticket));
    }

    /// Sends what has gathered, where that is possible now. To be called after every other input.
    pub(crate) fn pump(&mut self, now: Instant) {
        for link in std::mem::take(&mut self.dirty) {
            self.links[link.0].dirty = false;
            while self.may_send(link, now) {
                self.send(link, now);
            }
            if self.links[link.0].is_up() && !self.links[link.0].gathered.is_empty() {
                self.mark_dirty(link);
                let at = self.links[link.0].last_sent + GATHER_MAX;
                // Later than that, only the end of a call can help.
                if at > now {
                    self.note(at);
                }
            }
        }
    }

    /// The operations of a call that shall be made, in the order in which their results are expected.
    pub(crate) fn operations(&self, call: u64) -> impl Iterator<Item = &Operation> {
        let tickets = self.calls.get(&call).map_or(&[][..], |call| &call.tickets);
        tickets.iter().filter_map(|ticket| self.table.get(*ticket)).map(|entry| &entry.submission.operation)
    }

    /// Ends every operation with an error, because nobody will drive the machine any more.
    pub(crate) fn fail_all(&mut self, error: &Error) {
        for (completer, token) in self.table.drain() {
            self.released += 1;
            self.effects.push(Effect::Complete { completer, token, result: Err(error.clone()) });
        }
    }

    /// When [`Engine::sweep`] has something to do.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        self.next_event
    }

    /// How many operations have ended since this was asked last.
    pub(crate) fn take_released(&mut self) -> usize {
        std::mem::take(&mut self.released)
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.table.is_empty()
    }

    /// The layout that is followed.
    pub(crate) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The links of the layout's members, with what routing knows of them.
    pub(crate) fn members(&self) -> impl Iterator<Item = (LinkId, &Link, &Health)> {
        self.of_member.iter().zip(&self.health).map(|(id, health)| (*id, &self.links[id.0], health))
    }

    /// A link.
    pub(crate) fn link(&self, link: LinkId) -> &Link {
        &self.links[link.0]
    }

    /// The link of a member.
    pub(crate) fn find(&self, node: NodeId) -> Option<LinkId> {
        self.link_of(node).filter(|link| self.links[link.0].member.is_some())
    }

    /// The link of a node that is or was a member.
    pub(crate) fn link_of(&self, node: NodeId) -> Option<LinkId> {
        self.by_node.get(&node).copied()
    }

    /// Somebody needs a connection. Says whether one must be opened.
    pub(crate) fn want_connection(&mut self, now: Instant, link: LinkId) -> bool {
        let target = &mut self.links[link.0];
        let needed = target.needs_connection();
        if needed {
            target.connecting(now);
        }
        needed
    }

    /// Where an operation would go now.
    pub(crate) fn would_go_to(&mut self, route: Route<'_>) -> Option<NodeIndex> {
        routing::coordinator(&self.layout, &self.health, route, &mut self.random)
    }

    /// What is left for retries.
    pub(crate) fn budget_tokens(&self) -> u32 {
        self.budget.tokens()
    }

    /// Operations under way and operations that wait.
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.in_flight, self.backlog.len())
    }

    /// Lets an operation begin.
    fn start(&mut self, now: Instant, ticket: Ticket) {
        self.in_flight += 1;
        if let Some(entry) = self.table.get_mut(ticket) {
            entry.stage = Stage::Paused;
        }
        self.route(now, ticket);
    }

    /// Chooses a node for an operation that is nowhere, and puts it on that node's link.
    fn route(&mut self, now: Instant, ticket: Ticket) {
        let Some(entry) = self.table.get(ticket) else { return };
        // Before the first attempt, whoever submitted it has just done so; sending asks again.
        if entry.attempt > 0 && !entry.submission.is_wanted() {
            return self.forget(now, ticket);
        }
        let operation = &entry.submission.operation;
        let id = operation.address.store_key.id();
        let owners_used = operation.consistency.n;
        let level = operation.consistency.level.unwrap_or_else(|| level_of(&self.layout, &operation.address.bucket));
        let stand_ins = level == Level::Available;
        let route = Route { id: &id, kind: entry.kind, owners_used, stand_ins, tried: &entry.tried };
        let named = self.named_owner(entry);
        let chosen = match entry.tried.len() < TRIED_MAX {
            true => named.or_else(|| routing::coordinator(&self.layout, &self.health, route, &mut self.random)),
            false => None,
        };
        // A node that asked to be left alone is, unless a connection is all that is missing.
        let paced = entry.trouble.as_ref().is_some_and(Trouble::is_overload);
        match chosen {
            Some(node) if !paced || self.health[usize::from(node.0)].usable => {
                self.gather(now, ticket, self.of_member[usize::from(node.0)]);
            }
            _ => self.pause(now, ticket, None),
        }
    }

    /// The owner to go to that the last node named, which knows more of the ring than we do. Positions mean the same in all its layouts.
    fn named_owner(&self, entry: &Entry) -> Option<NodeIndex> {
        let named = entry.trouble.as_ref().map_or(&[][..], Trouble::owners).iter().copied();
        named
            .filter(|node| !entry.tried.contains(node))
            .find(|node| self.health.get(usize::from(node.0)).is_some_and(|health| health.usable))
    }

    /// Puts an operation on a link.
    fn gather(&mut self, now: Instant, ticket: Ticket, link: LinkId) {
        let due = now + self.settings.attempt_timeout;
        let Some(entry) = self.table.get_mut(ticket) else { return };
        entry.attempt += 1;
        entry.stage = Stage::Gathered { link };
        entry.due = due;
        entry.last = Some(link);
        entry.prefer = None;
        let (ticket, bytes) = (ticket.of_attempt(entry.attempt), operation_bytes(&entry.submission.operation));
        let target = &mut self.links[link.0];
        target.gathered.push_back(ticket);
        target.gathered_bytes += bytes;
        if self.want_connection(now, link) {
            self.effects.push(Effect::Connect(link));
        }
        if let Some(health) = self.health_of(link) {
            health.in_flight += 1;
        }
        self.note(due);
        self.mark_dirty(link);
    }

    fn may_send(&self, link: LinkId, now: Instant) -> bool {
        let link = &self.links[link.0];
        let next = link.gathered.front().and_then(|ticket| self.table.get(*ticket));
        let has_room = next.is_none_or(|entry| has_room(link.large_bytes, large_bytes(entry, link.answer_bytes)));
        let waited_enough = || now >= link.last_sent + GATHER_MAX;
        let worth_a_call = link.gathered.len() >= BATCH_WANTED || link.gathered_bytes >= BATCH_BYTES_WANTED;
        link.is_up()
            && !link.is_outdated
            && !link.gathered.is_empty()
            && has_room
            && link.calls < link.calls_max.min(CALLS_MAX)
            && (link.calls == 0 || worth_a_call || waited_enough())
    }

    /// Makes one call of what has gathered on a link.
    fn send(&mut self, link: LinkId, now: Instant) {
        let call = self.calls_made;
        let mut tickets = Vec::with_capacity(self.links[link.0].gathered.len().min(CALL_OPERATIONS_MAX));
        let (mut bytes, mut large, mut budget) = (0, 0, Duration::ZERO);
        let mut unwanted = Vec::new();
        while let Some(ticket) = self.links[link.0].gathered.front().copied() {
            let here = |entry: &&mut Entry| entry.attempt == ticket.attempt && entry.stage == Stage::Gathered { link };
            let Some(entry) = self.table.get_mut(ticket).filter(here) else {
                self.links[link.0].gathered.pop_front();
                continue;
            };
            let more = operation_bytes(&entry.submission.operation);
            let more_large = large_bytes(entry, self.links[link.0].answer_bytes);
            let waits_its_turn = !has_room(self.links[link.0].large_bytes + large, more_large);
            let full =
                tickets.len() == CALL_OPERATIONS_MAX || bytes + more > BATCH_BYTES_MAX || entry.alone || waits_its_turn;
            if full && !tickets.is_empty() {
                break;
            }
            let target = &mut self.links[link.0];
            target.gathered.pop_front();
            target.gathered_bytes = target.gathered_bytes.saturating_sub(more);
            if !entry.submission.is_wanted() {
                unwanted.push(ticket);
                continue;
            }
            if now >= entry.submission.deadline {
                // Its time is over; the sweep that is due says so.
                continue;
            }
            entry.stage = Stage::Sent { link, call };
            entry.sent += 1;
            (bytes, large) = (bytes + more, large + more_large);
            let time = self.settings.attempt_timeout + time_to_carry(self.links[link.0].large_bytes + large);
            let left = time.min(entry.submission.deadline.saturating_duration_since(now));
            entry.due = now + left;
            budget = budget.max(left);
            tickets.push(ticket);
            if entry.alone {
                break;
            }
        }
        unwanted.into_iter().for_each(|ticket| self.forget(now, ticket));
        if self.links[link.0].gathered.is_empty() {
            self.links[link.0].gathered_bytes = 0;
        }
        if tickets.is_empty() {
            return;
        }
        self.note(now + self.settings.attempt_timeout);
        self.calls_made += 1;
        self.counts.calls += 1;
        self.counts.operations_sent += tickets.len() as u64;
        let target = &mut self.links[link.0];
        target.calls += 1;
        target.large_bytes += large;
        target.last_sent = now;
        self.calls.insert(call, Call { link, tickets, large_bytes: large, sent_at: now, late: false });
        self.effects.push(Effect::Send { call, link, budget });
    }

    /// Lets an operation wait a little before it is routed again, to `prefer` if that is given.
    fn pause(&mut self, now: Instant, ticket: Ticket, prefer: Option<LinkId>) {
        let Some(entry) = self.table.get_mut(ticket) else { return };
        let trouble = entry.trouble.as_ref().unwrap_or(&Trouble::NotSent);
        let due = now + crate::retry::pause(trouble, entry.pauses, &mut self.random);
        entry.pauses += 1;
        entry.stage = Stage::Paused;
        entry.prefer = prefer;
        entry.tried.clear();
        entry.due = due;
        self.note(due);
    }

    /// Remembers that something is due at `at`.
    fn note(&mut self, at: Instant) {
        self.next_event = Some(self.next_event.map_or(at, |earlier| earlier.min(at)));
    }

    fn mark_dirty(&mut self, link: LinkId) {
        if !std::mem::replace(&mut self.links[link.0].dirty, true) {
            self.dirty.push(link);
        }
    }

    fn health_of(&mut self, link: LinkId) -> Option<&mut Health> {
        let node = self.links[link.0].member?;
        self.health.get_mut(usize::from(node.0))
    }
}

/// The level of a bucket's operations that name none.
fn level_of(layout: &Layout, bucket: &[u8]) -> Level {
    let known = std::str::from_utf8(bucket).ok().and_then(|name| layout.buckets.get(name));
    known.map_or_else(Level::default, |properties| properties.level)
}

#[cfg(test)]
mod tests;
