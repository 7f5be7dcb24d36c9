//! What becomes of an operation when its call ends: delivered, sent again, or given up.

use std::time::{Duration, Instant};

use dynamo::{
    layout::NodeIndex,
    operation::{Action, ErrorCode, Failure, Outcome, Reply, value_hash},
};
use schema::convert::ReplyHeader;

use super::{
    Effect, Engine,
    large::average_answer,
    link::{LinkId, average},
    table::{Entry, Stage, Ticket},
};
use crate::{
    Error,
    retry::{self, Next, Trouble},
    routing::Kind,
};

/// The longest that a node is left alone because it asked for it.
const AVOID_MAX: Duration = Duration::from_secs(1);

/// How long a node that drains is left alone.
const AVOID_DRAINING: Duration = Duration::from_secs(1);

impl Engine {
    /// A call was answered, with one reply for each of its operations.
    pub(crate) fn answered(&mut self, now: Instant, call: u64, header: &ReplyHeader, replies: Vec<Reply>) {
        let Some(call) = self.calls.remove(&call) else { return };
        let latency = now.saturating_duration_since(call.sent_at);
        let failures_only = replies.iter().all(|reply| matches!(reply.outcome, Outcome::Failed(_)));
        let link = &mut self.links[call.link.0];
        link.call_ended(call.large_bytes);
        link.answer_bytes = average_answer(link.answer_bytes, &replies);
        self.heard_from(now, call.link, header, (!failures_only).then_some(latency), latency);
        for (ticket, reply) in call.tickets.into_iter().zip(replies) {
            self.settle(now, ticket, reply);
        }
    }

    /// A call was answered with one failure for all of its operations.
    pub(crate) fn refused(&mut self, now: Instant, call: u64, header: &ReplyHeader, failure: &Failure) {
        let Some(call) = self.calls.remove(&call) else { return };
        let latency = now.saturating_duration_since(call.sent_at);
        self.links[call.link.0].call_ended(call.large_bytes);
        self.heard_from(now, call.link, header, None, latency);
        for ticket in call.tickets {
            self.trouble(now, ticket, Trouble::Refused(failure.clone()));
        }
    }

    /// A call was sent, and its connection broke before the answer.
    pub(crate) fn lost(&mut self, now: Instant, call: u64) {
        self.unanswered(now, call, &Trouble::Broken);
    }

    fn unanswered(&mut self, now: Instant, call: u64, why: &Trouble) {
        let Some(call) = self.calls.remove(&call) else { return };
        self.links[call.link.0].call_ended(call.large_bytes);
        self.mark_dirty(call.link);
        for ticket in call.tickets {
            self.trouble(now, ticket, why.clone());
        }
    }

    /// Takes an operation out without delivering anything.
    pub(super) fn forget(&mut self, now: Instant, ticket: Ticket) {
        if self.remove(ticket).is_some() {
            self.counts.cancelled += 1;
            self.start_waiting(now);
        }
    }

    /// An attempt failed. What arrives for an attempt that was given up only tells whether something may have been stored.
    pub(super) fn trouble(&mut self, now: Instant, ticket: Ticket, trouble: Trouble) {
        let Some(entry) = self.table.get_mut(ticket) else { return };
        entry.maybe_applied |= entry.kind == Kind::Write && trouble.may_have_applied();
        let under_way = matches!(entry.stage, Stage::Gathered { .. } | Stage::Sent { .. });
        if entry.attempt != ticket.attempt || !under_way {
            return;
        }
        let failed_at = entry.last;
        let next = retry::next(entry.kind, &trouble, entry.repeats);
        let may_send_again = entry.sent < self.settings.attempts_max;
        // What a node that shuts down has refused unlooked-at counts as little as what no connection carried.
        if next == (Next::Other { cost: 0 }) && matches!(entry.stage, Stage::Sent { .. }) {
            entry.sent = entry.sent.saturating_sub(1);
        }
        let stale = matches!(&trouble, Trouble::Refused(failure) if failure.code == ErrorCode::StaleView);
        entry.trouble = Some(trouble);
        self.leave_link(ticket);
        if stale {
            let epoch = self.layout.epoch + 1;
            self.effects.extend(failed_at.map(|link| Effect::Refresh { link, epoch }));
        }
        self.leave_alone(now, ticket, failed_at);
        match next {
            Next::Alone if self.table.get(ticket).is_some_and(|entry| !entry.alone) => {
                self.again(now, ticket, failed_at, |entry| entry.alone = true);
            }
            Next::Other { cost: 0 } => self.elsewhere(now, ticket, failed_at),
            Next::Same { cost } if may_send_again && self.pay(cost) => {
                if failed_at.is_some_and(|link| self.links[link.0].is_up()) {
                    if let Some(entry) = self.table.get_mut(ticket) {
                        entry.repeats += 1;
                    }
                    self.pause(now, ticket, failed_at);
                } else {
                    self.elsewhere(now, ticket, failed_at);
                }
            }
            Next::Other { cost } if may_send_again && self.pay(cost) => self.elsewhere(now, ticket, failed_at),
            Next::Alone | Next::GiveUp | Next::Same { .. } | Next::Other { .. } => self.fail(now, ticket, false),
        }
    }

    /// Delivers the error of an operation that will not be tried again.
    pub(super) fn fail(&mut self, now: Instant, ticket: Ticket, out_of_time: bool) {
        let Some(entry) = self.table.get(ticket) else { return };
        let sent_and_open = matches!(entry.stage, Stage::Sent { .. });
        let maybe_applied = entry.maybe_applied || (sent_and_open && entry.kind == Kind::Write);
        let node = entry.last.map(|link| self.links[link.0].name.clone());
        let elapsed = now.saturating_duration_since(entry.submission.started);
        let error = match &entry.trouble {
            Some(Trouble::Refused(failure)) if !sent_and_open => Error::from_failure(failure.clone()),
            Some(Trouble::NotSent) if entry.sent == 0 => {
                let last = node.as_deref().unwrap_or("none");
                Error::connection(format!("no node could be reached (last tried: {last}); nothing was sent"))
            }
            None if entry.sent == 0 => Error::timeout("the time was over before the operation could be sent"),
            Some(Trouble::Broken) if !sent_and_open && out_of_time => Error::timeout(
                "the connection broke before the answer came, and the time was over before the next attempt",
            ),
            Some(Trouble::Broken) if !sent_and_open => Error::connection_lost(
                "every connection that the operation was sent on broke before its answer came; the nodes may have been \
                 stopped, try again when one can be reached",
            ),
            _ if out_of_time => Error::timeout("the time was over before an answer came"),
            _ => Error::timeout("no attempt was answered in time"),
        };
        let error = error.with_story(maybe_applied, node, entry.sent, elapsed);
        self.counts.failed += 1;
        self.complete(now, ticket, Err(error));
    }

    /// Whether a link that is gone or broken leaves anything behind: its calls are lost, what waited for it was not sent.
    pub(super) fn abandon(&mut self, now: Instant, link: LinkId, why: &Trouble) {
        self.counts.disconnects += 1;
        let mut calls: Vec<u64> = self.calls.iter().filter(|(_, call)| call.link == link).map(|(id, _)| *id).collect();
        calls.sort_unstable();
        calls.into_iter().for_each(|call| self.unanswered(now, call, why));
        self.turn_away(now, link);
    }

    /// What waits for a link looks for another.
    pub(super) fn turn_away(&mut self, now: Instant, link: LinkId) {
        self.links[link.0].gathered_bytes = 0;
        for ticket in std::mem::take(&mut self.links[link.0].gathered) {
            self.trouble(now, ticket, Trouble::NotSent);
        }
    }

    fn settle(&mut self, now: Instant, ticket: Ticket, reply: Reply) {
        let Some(entry) = self.table.get(ticket) else { return };
        match reply.outcome {
            Outcome::Failed(failure) => self.trouble(now, ticket, Trouble::Refused(failure)),
            _ if !answers(entry, &reply) => self.trouble(now, ticket, Trouble::Refused(misunderstood())),
            _ if !has_sound_values(entry, &reply) => self.trouble(now, ticket, Trouble::Refused(damaged())),
            _ => {
                self.budget.refund();
                self.counts.succeeded += 1;
                self.complete(now, ticket, Ok(reply));
            }
        }
    }

    fn complete(&mut self, now: Instant, ticket: Ticket, result: Result<Reply, Error>) {
        let Some(entry) = self.remove(ticket) else { return };
        let (completer, token) = (entry.submission.completer, entry.submission.token);
        self.effects.push(Effect::Complete { completer, token, result });
        self.start_waiting(now);
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Entry> {
        self.leave_link(ticket);
        let entry = self.table.remove(ticket)?;
        self.released += 1;
        if entry.stage != Stage::Waiting {
            self.in_flight -= 1;
        }
        Some(entry)
    }

    fn start_waiting(&mut self, now: Instant) {
        while self.in_flight < self.settings.in_flight_max {
            let Some(ticket) = self.backlog.pop_front() else { return };
            if self.table.get(ticket).is_some_and(|entry| entry.stage == Stage::Waiting) {
                self.start(now, ticket);
            }
        }
    }

    /// Takes an operation off its link, if it is on one.
    fn leave_link(&mut self, ticket: Ticket) {
        let Some(entry) = self.table.get_mut(ticket) else { return };
        let link = match entry.stage {
            Stage::Gathered { link } | Stage::Sent { link, .. } => link,
            Stage::Waiting | Stage::Paused => return,
        };
        entry.stage = Stage::Paused;
        if let Some(health) = self.health_of(link) {
            health.in_flight = health.in_flight.saturating_sub(1);
        }
    }

    fn pay(&mut self, cost: u32) -> bool {
        let enough = self.budget.spend(cost);
        self.counts.retries += u64::from(enough);
        enough
    }

    fn elsewhere(&mut self, now: Instant, ticket: Ticket, failed_at: Option<LinkId>) {
        let node: Option<NodeIndex> = failed_at.and_then(|link| self.links[link.0].member);
        if let Some(entry) = self.table.get_mut(ticket) {
            entry.tried.extend(node);
        }
        self.route(now, ticket);
    }

    fn again(&mut self, now: Instant, ticket: Ticket, link: Option<LinkId>, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.table.get_mut(ticket) {
            change(entry);
        }
        match link {
            Some(link) => self.gather(now, ticket, link),
            None => self.route(now, ticket),
        }
    }

    /// A node that says it is overloaded or drains is left alone for a while, by all operations.
    fn leave_alone(&mut self, now: Instant, ticket: Ticket, link: Option<LinkId>) {
        let Some((link, entry)) = link.zip(self.table.get(ticket)) else { return };
        let pause = match &entry.trouble {
            Some(Trouble::Refused(failure)) if failure.code == ErrorCode::ShuttingDown => AVOID_DRAINING,
            Some(Trouble::Refused(failure)) if failure.code == ErrorCode::Overloaded => {
                Duration::from_millis(failure.retry_after_ms.into()).min(AVOID_MAX)
            }
            _ => return,
        };
        let until = now + pause;
        self.links[link.0].avoid_until = Some(until);
        self.refresh_health(now, link);
        self.note(until);
    }

    /// A node answered a call, with success in `latency` or with failures only after `took`.
    fn heard_from(
        &mut self,
        now: Instant,
        link: LinkId,
        header: &ReplyHeader,
        latency: Option<Duration>,
        took: Duration,
    ) {
        let target = &mut self.links[link.0];
        target.call_answered(now);
        self.mark_dirty(link);
        self.close_if_unwanted(now, link);
        if let Some(health) = self.health_of(link) {
            health.load = header.load;
            // A node that fails quickly is not a quick node; one that fails slowly is a slow one.
            let slow_failure = latency.is_none() && took.as_secs_f32() * 1e6 > health.latency_micros;
            if latency.is_some() || slow_failure {
                health.latency_micros = average(health.latency_micros, took);
            }
        }
        if header.epoch > self.layout.epoch {
            self.effects.push(Effect::Refresh { link, epoch: header.epoch });
        }
    }
}

/// Whether a reply is of the kind that was asked for.
fn answers(entry: &Entry, reply: &Reply) -> bool {
    let writes = entry.kind == Kind::Write;
    match &reply.outcome {
        Outcome::Found { .. } | Outcome::NotFound { .. } => !writes,
        Outcome::Stored { .. } => writes,
        Outcome::Failed(_) => true,
    }
}

/// Whether the values are those that were written: their checksums were made by the writers.
fn has_sound_values(entry: &Entry, reply: &Reply) -> bool {
    let Action::Get { without_values: false } = entry.submission.operation.action else { return true };
    match &reply.outcome {
        Outcome::Found { siblings, .. } => siblings.iter().all(|sibling| value_hash(&sibling.value) == sibling.hash),
        Outcome::NotFound { .. } | Outcome::Stored { .. } | Outcome::Failed(_) => true,
    }
}

fn misunderstood() -> Failure {
    let message = "a node answered a read as if it were a write, or a write as if it were a read";
    Failure { maybe_applied: true, ..Failure::new(ErrorCode::Internal, message) }
}

fn damaged() -> Failure {
    Failure::new(ErrorCode::Corrupt, "a value arrived that is not the one that was written: its checksum differs")
}
