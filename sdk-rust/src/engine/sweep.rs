//! What time and connections do to the machine: deadlines, attempts that took too long, links that come and go, and a new
//! layout.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use dynamo::layout::Layout;
use schema::convert::NodeLimits;

use super::{
    Effect, Engine,
    link::{Link, LinkId, LinkState},
    table::Stage,
};
use crate::{retry::Trouble, routing::Health};

/// How often the latency of a node without traffic is halved, so that one slow moment does not banish it for ever.
const FORGET_LATENCY: Duration = Duration::from_secs(1);

impl Engine {
    /// Deals with everything that is due.
    pub(crate) fn sweep(&mut self, now: Instant) {
        if self.next_event.is_none_or(|at| now < at) {
            return;
        }
        self.next_event = None;
        self.sweep_links(now);
        let due: Vec<_> = self
            .table
            .tickets()
            .filter(|(_, entry)| now >= entry.submission.deadline || now >= entry.due)
            .map(|(ticket, entry)| (ticket, entry.stage, now >= entry.submission.deadline, entry.prefer))
            .collect();
        for (ticket, stage, out_of_time, prefer) in due {
            // A link that broke on the way has moved its operations already.
            if self.table.get(ticket).is_none_or(|entry| entry.stage != stage) {
                continue;
            }
            match stage {
                _ if out_of_time => {
                    self.call_is_late(now, stage);
                    self.fail(now, ticket, true);
                }
                Stage::Waiting => {}
                Stage::Paused => match prefer.filter(|link| self.links[link.0].is_up()) {
                    Some(link) => self.gather(now, ticket, link),
                    None => self.route(now, ticket),
                },
                Stage::Gathered { .. } => self.trouble(now, ticket, Trouble::NotSent),
                Stage::Sent { .. } => {
                    self.call_is_late(now, stage);
                    self.trouble(now, ticket, Trouble::Late);
                }
            }
        }
        let earliest = self.table.tickets().map(|(_, entry)| entry.due.min(entry.submission.deadline)).min();
        earliest.into_iter().for_each(|at| self.note(at));
    }

    /// A connection was opened and greeted.
    pub(crate) fn connected(&mut self, now: Instant, link: LinkId, limits: &NodeLimits) {
        self.links[link.0].connected(limits.calls_in_flight_max);
        self.tell_health(link, true);
        self.refresh_health(now, link);
        self.mark_dirty(link);
        self.close_if_unwanted(now, link);
    }

    /// No connection was to be had.
    pub(crate) fn unreachable(&mut self, now: Instant, link: LinkId) {
        self.tell_health(link, false);
        let until = self.links[link.0].disconnected(now, &mut self.random);
        self.note(until);
        self.refresh_health(now, link);
        self.turn_away(now, link);
    }

    /// A connection is gone.
    pub(crate) fn disconnected(&mut self, now: Instant, link: LinkId) {
        if !self.links[link.0].is_up() {
            return;
        }
        self.tell_health(link, false);
        let until = self.links[link.0].disconnected(now, &mut self.random);
        self.note(until);
        self.refresh_health(now, link);
        self.abandon(now, link, &Trouble::Broken);
    }

    /// Follows another layout. Links belong to nodes, not to places or addresses, and live on with them.
    pub(crate) fn set_layout(&mut self, layout: Arc<Layout>, now: Instant) {
        let before: Vec<LinkId> = std::mem::take(&mut self.of_member);
        let health = std::mem::take(&mut self.health);
        let carried: HashMap<LinkId, Health> = before.iter().copied().zip(health).collect();
        before.iter().for_each(|link| self.links[link.0].member = None);
        for (at, member) in (0..).zip(&layout.members) {
            let id = *self.by_node.entry(member.id).or_insert_with(|| {
                self.links.push(Link::new(member.id, now));
                LinkId(self.links.len() - 1)
            });
            let link = &mut self.links[id.0];
            link.member = Some(dynamo::layout::NodeIndex(at));
            link.name.clone_from(&member.name);
            link.moved(&member.addresses, now);
            let near = self.settings.zone.as_ref().is_some_and(|zone| *zone == member.zone);
            let fresh = Health { usable: true, near, in_flight: 0, latency_micros: 0.0, load: 0 };
            self.health.push(Health {
                near,
                usable: link.is_usable(now),
                ..carried.get(&id).copied().unwrap_or(fresh)
            });
            self.of_member.push(id);
        }
        self.layout = layout;
        self.table.forget_tried();
        for link in before {
            if self.links[link.0].member.is_none() {
                self.turn_away(now, link);
            }
            self.close_if_unwanted(now, link);
        }
        // Nodes that have moved are tried where they are now.
        self.note(now);
    }

    pub(super) fn refresh_health(&mut self, now: Instant, link: LinkId) {
        let usable = self.links[link.0].is_usable(now);
        if let Some(health) = self.health_of(link) {
            health.usable = usable;
        }
    }

    /// Counts a call that has taken too long, once, and breaks its link if that was too much.
    fn call_is_late(&mut self, now: Instant, stage: Stage) {
        let Stage::Sent { link, call } = stage else { return };
        let Some(call) = self.calls.get_mut(&call) else { return };
        // Others need not wait for it any longer.
        self.links[link.0].large_bytes =
            self.links[link.0].large_bytes.saturating_sub(std::mem::take(&mut call.large_bytes));
        if std::mem::replace(&mut call.late, true) || !self.links[link.0].call_lost(now) {
            return;
        }
        let until = self.links[link.0].broken(now, &mut self.random);
        self.note(until);
        self.refresh_health(now, link);
        self.effects.push(Effect::Disconnect(link));
        self.tell_health(link, false);
        self.abandon(now, link, &Trouble::Late);
    }

    fn sweep_links(&mut self, now: Instant) {
        let halve = now >= self.latency_halved + FORGET_LATENCY;
        for at in 0..self.links.len() {
            let link = LinkId(at);
            let target = &mut self.links[at];
            match target.state {
                LinkState::Down { until } if now < until => self.note(until),
                LinkState::Down { .. } if target.member.is_some() => {
                    target.connecting(now);
                    self.effects.push(Effect::Connect(link));
                }
                LinkState::Up if target.is_to_be_closed() => self.close_if_unwanted(now, link),
                LinkState::Idle | LinkState::Connecting { .. } | LinkState::Up | LinkState::Down { .. } => {}
            }
            match self.links[at].avoid_until {
                Some(until) if now < until => self.note(until),
                Some(_) => self.links[at].avoid_until = None,
                None => {}
            }
            self.refresh_health(now, link);
            if let Some(health) = self.health_of(link)
                && health.in_flight == 0
                && halve
            {
                health.latency_micros /= 2.0;
            }
        }
        if halve {
            self.latency_halved = now;
        }
        self.note(self.latency_halved + FORGET_LATENCY);
    }

    /// Nodes that have left the ring may come and go as they like.
    fn tell_health(&mut self, link: LinkId, up: bool) {
        if self.links[link.0].member.is_some() {
            self.effects.push(Effect::Health { link, up });
        }
    }

    /// Closes the connection of a node that has left or moved, once nothing is under way on it. One that has moved gets another.
    pub(super) fn close_if_unwanted(&mut self, now: Instant, link: LinkId) {
        let target = &mut self.links[link.0];
        if !target.is_to_be_closed() {
            return;
        }
        target.state = LinkState::Idle;
        self.effects.push(Effect::Disconnect(link));
        if target.member.is_some() {
            target.connecting(now);
            self.effects.push(Effect::Connect(link));
            self.refresh_health(now, link);
        }
    }
}
